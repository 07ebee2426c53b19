// The diffusion process and its samplers, as in bedgen_utils/diffusion.py, where every function has
// its twin of the same name. Numbers are those of the chapters: (1.6) is the sixth of chapter 1.
//
// An image is a Float32Array, `abar` the table of ᾱ_0 = 1 … ᾱ_T, a network an async function
// (x_t, t) -> v. Nothing here knows of a page or of ONNX, so that Node can test it.

// a x + b y, the only thing that is ever done to whole images.
const mix = (a, x, b, y) => x.map((value, i) => a * value + b * y[i]);

// x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε                                                            (1.6)
export const qSample = (x0, abarT, noise) => mix(Math.sqrt(abarT), x0, Math.sqrt(1 - abarT), noise);

// x̂_0 = √ᾱ_t x_t − √(1 − ᾱ_t) v                                                          (2.17)
export const predictXstartFromV = (xt, abarT, v) => mix(Math.sqrt(abarT), xt, -Math.sqrt(1 - abarT), v);

// early + γ (model − early). x̂_0 is affine in v, so that moving v moves x̂_0 likewise.      (3.14)
export function guided(model, early, gamma) {
  return async (x, t) => mix(gamma, await model(x, t), 1 - gamma, await early(x, t));
}

// Times of a sampler from `from` down to 0; the network is called at all but the last. rho = null
// spreads them evenly; a number spreads σ^(1/rho) evenly from sigmaMax to 0.05             (3.10)
// A `from` below T is for an image that is noised to `from` only: the process up to there is a
// process of its own.
export function timesteps(abar, steps, { rho = null, sigmaMax = 20, from = abar.length - 1 } = {}) {
  const at = [...Array(Math.min(steps, from)).keys()];
  if (rho === null) return [...at.map((i) => Math.ceil((from * (at.length - i)) / at.length)), 0];
  const sigma = [];
  for (let t = 1; t <= from; t++) sigma[t] = Math.sqrt((1 - abar[t]) / abar[t]);
  const root = (value) => Math.min(Math.max(value, 0.05), sigmaMax) ** (1 / rho);
  const [first, last] = [root(sigma[from]), root(sigma[1])];
  const nearest = (wanted) => {
    let best = 1;
    for (let t = 2; t <= from; t++) if (Math.abs(sigma[t] - wanted) < Math.abs(sigma[best] - wanted)) best = t;
    return best;
  };
  const chosen = at.slice(1).map((i) => nearest((first + (i / (at.length - 1)) * (last - first)) ** rho));
  return [...new Set([from, ...chosen])].sort((a, b) => b - a).concat(0);
}

// ---- one step of a sampler, from x_t to x_s with s < t

// x_s ~ N(μ̃, β̃) for the step from t to s, which has α = ᾱ_t/ᾱ_s and β = 1 − α               (3.9)
export function ddpmStep({ abar, t, s, x, x0Hat, noise }) {
  const alpha = abar[t] / abar[s];
  const beta = 1 - alpha;
  const fromX0 = (Math.sqrt(abar[s]) * beta) / (1 - abar[t]);
  const fromXt = (Math.sqrt(alpha) * (1 - abar[s])) / (1 - abar[t]);
  const mean = mix(fromX0, x0Hat, fromXt, x);
  if (s === 0) return mean;
  const small = ((1 - abar[s]) / (1 - abar[t])) * beta;
  return mix(1, mean, Math.sqrt(small), noise(x.length));
}

// x_s = √ᾱ_s x̂_0 + √(1 − ᾱ_s) ε̂, ε̂ belonging to x̂_0                          (2.29 with σ = 0)
export function ddimStep({ abar, t, s, x, x0Hat }) {
  const scale = 1 / Math.sqrt(1 - abar[t]);
  const epsHat = mix(scale, x, -scale * Math.sqrt(abar[t]), x0Hat);
  return mix(Math.sqrt(abar[s]), x0Hat, Math.sqrt(1 - abar[s]), epsHat);
}

// DPM-Solver++(2M), Lu et al. 2022: DDIM's step with x̂_0 extrapolated to its middle, linear in
// λ = ½ log(ᾱ/(1 − ᾱ)). The first step has nothing to extrapolate from, and at s = 0 λ is infinite.
export function dpmpp2mStep(step) {
  const { abar, t, s, x0Hat, before } = step;
  if (!before || s === 0) return ddimStep(step);
  const lambda = (time) => 0.5 * Math.log(abar[time] / (1 - abar[time]));
  const ratio = (lambda(s) - lambda(t)) / (2 * (lambda(t) - lambda(before.t)));
  return ddimStep({ ...step, x0Hat: mix(1 + ratio, x0Hat, -ratio, before.x0Hat) });
}

export const SAMPLERS = { dpmpp_2m: dpmpp2mStep, ddim: ddimStep, ddpm: ddpmStep };

// From x_T down `times`, yielding every step {t, s, x: x_t, x0Hat, next: x_s}. A generator, so that
// who draws the steps can also stop: `break` is all it takes. noise(n) gives n normal numbers.
export async function* sample(model, x, { abar, times, step, noise }) {
  let before = null;
  for (let i = 0; i + 1 < times.length; i++) {
    const [t, s] = [times[i], times[i + 1]];
    const x0Hat = predictXstartFromV(x, abar[t], await model(x, t)).map((v) => Math.min(Math.max(v, -1), 1));
    const now = { abar, t, s, x, x0Hat, noise, before };
    const next = step(now);
    yield { t, s, x, x0Hat, next };
    [x, before] = [next, { t, x0Hat }];
  }
}
