// Standard normal numbers that a seed determines, alike in every browser. They are not PyTorch's:
// the same seed gives other rooms there.

// A bijection of 32-bit numbers in which every bit of h moves every bit of the answer (the
// constants are those of Wellons' "lowbias32").
function scrambled(h) {
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
}

// Number k of a seed is a function of the two alone: there is no state that could go wrong. Between
// the two rounds a second key is added, else two seeds would share the set of their numbers.
const uniform = (seed, k) =>
  (scrambled(scrambled(k ^ scrambled(seed)) + scrambled(~seed)) + 0.5) / 2 ** 32;

// A function that gives the next n normal numbers of this seed, by Box and Muller.
export function normals(seed) {
  let k = 0;
  return (n) =>
    Float32Array.from({ length: n }, () => {
      const [u, v] = [uniform(seed, k++), uniform(seed, k++)];
      return Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v);
    });
}
