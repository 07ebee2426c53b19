// Paths between latents, as in bedgen_utils/interpolate.py and notebook 07.

const length = (x) => Math.hypot(...x);

// The great circle from a to b at fraction s, and its length runs evenly from |a| to |b|.
export function slerp(a, b, s) {
  const [la, lb] = [length(a), length(b)];
  const u = a.map((value) => value / la);
  const w = b.map((value) => value / lb);
  // Kahan's angle: arccos(u·w) would lose half its digits where the two are nearly parallel.
  const omega = 2 * Math.atan2(length(u.map((v, i) => v - w[i])), length(u.map((v, i) => v + w[i]))); // (7.4)
  // A corner met with itself has Ω = 0: there the great circle is the straight line.
  const sine = (part) => (omega < 1e-6 ? part : Math.sin(part * omega) / Math.sin(omega));
  const [toU, toW] = [sine(1 - s), sine(s)]; // (7.6)
  const size = (1 - s) * la + s * lb; // (7.8)
  return u.map((value, i) => size * (toU * value + toW * w[i]));
}

// The latent at row r and column c, both in [0, 1], of the square between four corners    (7.10)
export function betweenCorners([z00, z01, z10, z11], r, c) {
  return slerp(slerp(z00, z01, c), slerp(z10, z11, c), r);
}
