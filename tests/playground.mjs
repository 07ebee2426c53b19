// Runs the playground's modules in Node: jobs come as JSON on the standard input, answers go to the
// standard output. A network is a formula here, which tests/test_playground.py has, too.
import { readFileSync } from "node:fs";
import * as images from "../book/playground/images.js";
import * as random from "../book/playground/random.js";
import * as sampler from "../book/playground/sampler.js";
import * as walk from "../book/playground/walk.js";

const model = async (x, t) => x.map((value) => Math.sin(3 * value + t / 500));
const early = async (x, t) => x.map((value) => Math.cos(2 * value - t / 300));

const jobs = {
  timesteps: ({ abar, wanted }) => wanted.map(({ steps, ...how }) => sampler.timesteps(abar, steps, how)),
  async sample({ abar, x, times, step, gamma, noises }) {
    const noise = () => Float32Array.from(noises.shift());
    const asked = gamma === 1 ? model : sampler.guided(model, early, gamma);
    let end;
    const how = { abar, times, step: sampler.SAMPLERS[step], noise };
    for await (const { next } of sampler.sample(asked, Float32Array.from(x), how)) end = next;
    return [...end];
  },
  qSample: ({ x, abar, noise }) => [...sampler.qSample(Float32Array.from(x), abar, noise)],
  square: ({ corners, places }) =>
    places.map(([r, c]) => [...walk.betweenCorners(corners.map((z) => Float32Array.from(z)), r, c)]),
  normals: ({ seeds, n }) => seeds.map((seed) => [...random.normals(seed)(n)]),
  pixels: ({ x }) => [...images.toPixels(Float32Array.from(x))],
  shrink: ({ pixels, size, factor }) => [...images.fromPixels(pixels, size, factor)],
};

const { job, ...given } = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(await jobs[job](given)));
