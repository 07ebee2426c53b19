// Between the images of networks, (3, S, S) in [−1, 1], and those of canvases, (S, S, 4) in 0 … 255.

// As bedgen_utils.data.to_uint8 rounds, with an opaque fourth channel.
export function toPixels(x) {
  const n = x.length / 3;
  const pixels = new Uint8ClampedArray(4 * n).fill(255);
  for (let i = 0; i < n; i++)
    for (let c = 0; c < 3; c++) pixels[4 * i + c] = (x[c * n + i] + 1) * 127.5; // clamped and rounded
  return pixels;
}

// Pixels of a square `factor` times as large as the image: each place is the mean of its block.
export function fromPixels(pixels, size, factor) {
  const x = new Float32Array(3 * size * size);
  const share = 1 / (127.5 * factor * factor);
  for (let row = 0; row < size * factor; row++)
    for (let column = 0; column < size * factor; column++)
      for (let c = 0; c < 3; c++) {
        const place = Math.floor(row / factor) * size + Math.floor(column / factor);
        x[c * size * size + place] += pixels[4 * (row * size * factor + column) + c] * share;
      }
  return x.map((value) => value - 1);
}
