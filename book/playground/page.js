// What the controls of the page do. The mathematics is in sampler.js and walk.js.
import { fromPixels, toPixels } from "./images.js";
import { isLoaded, network, runtime, RUNTIME_BYTES } from "./models.js";
import { normals } from "./random.js";
import { guided, qSample, sample, SAMPLERS, ddimStep, timesteps } from "./sampler.js";
import { betweenCorners } from "./walk.js";

const $ = (id) => document.getElementById(id);
const number = (id) => {
  // What was typed may lie outside of what the field allows, or be nothing.
  const { value, min, max, step, defaultValue } = $(id);
  const inside = Math.min(Math.max(value === "" || isNaN(value) ? Number(defaultValue) : Number(value), min), max);
  return step === "1" ? Math.round(inside) : inside;
};
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

const answer = await fetch(new URL("models/table.json", import.meta.url));
const table = await (answer.ok ? answer.json() : Promise.reject()).catch(() => {
  throw new Error("models/table.json is missing or damaged"); // start.js says it
});
const { abar, rho, sigma_max: sigmaMax, size } = table.ddpm;
const T = abar.length - 1;

function paint(canvas, x) {
  canvas.getContext("2d").putImageData(new ImageData(toPixels(x), size, size), 0, 0);
}

const bytesOf = (name) => (name === "ort" ? RUNTIME_BYTES : table.networks[name].bytes);
const missing = (names) =>
  ["ort", ...names].filter((name) => !isLoaded(name)).reduce((sum, name) => sum + bytesOf(name), 0);

// Loads networks, and before them what runs them, behind one progress bar.
async function loaded(names, bar, signal) {
  const total = missing(names);
  const show = (done) => ([bar.hidden, bar.max, bar.value] = [false, total, done]);
  const progress = (rest) => {
    const before = total - missing(rest);
    return (done) => show(before + done);
  };
  const ready = [];
  try {
    await runtime(progress(names), signal);
    for (const [i, name] of names.entries())
      ready.push(await network(name, table.networks[name], progress(names.slice(i)), signal));
  } catch (error) {
    throw new Error(`${error.message}. Try again, or load the page anew.`, { cause: error });
  } finally {
    bar.hidden = true;
    describe();
  }
  return ready;
}

// A handler that says what went wrong instead of leaving the reader with a dead button.
const saying = (output, handler) => async (...args) => {
  try {
    await handler(...args);
  } catch (error) {
    output.textContent = `That did not work: ${error.message ?? error}`;
    throw error;
  }
};

// ---- 1. the walk

const latent = table.gan.latent;
let generate = null;
let corners = [];
let place = { r: 0.5, c: 0.5 };
let roomOfGan = null;
let walking = false;
let finished = []; // times of the last images of a walk without a rest

// Draws the newest place until it is drawn: places that came while a room was made are left out.
async function walk() {
  if (!generate || walking) return;
  walking = true;
  if (!(performance.now() - finished.at(-1) < 200)) finished = [performance.now()];
  try {
    for (let shown = null; shown !== place; ) {
      shown = place;
      roomOfGan = await generate(betweenCorners(corners, shown.r, shown.c));
      paint($("walk"), roomOfGan);
      finished = [...finished.slice(-30), performance.now()];
      const rate = (1000 * (finished.length - 1)) / (finished.at(-1) - finished[0]);
      $("gan-says").textContent =
        `r = ${shown.r.toFixed(2)}, c = ${shown.c.toFixed(2)}` +
        (finished.length > 5 ? `, ${rate.toFixed(0)} images a second` : "");
    }
  } finally {
    walking = false;
  }
}

function go(r, c) {
  const inside = (value) => Math.min(Math.max(value, 0), 1);
  place = { r: inside(r), c: inside(c) };
  $("r").value = place.r;
  $("c").value = place.c;
  return walk();
}

async function setCorners() {
  const draw = normals(number("gan-seed"));
  corners = [0, 1, 2, 3].map(() => draw(latent));
  for (const [i, z] of corners.entries()) paint($(`corner-${i}`), await generate(z));
  await go(place.r, place.c);
}

const sayGan = $("gan-says");
async function start() {
  $("gan-start").disabled = true;
  try {
    [generate] = await loaded(["gan"], $("gan-progress"));
    $("gan-controls").disabled = false;
    $("gan-start").hidden = true;
    await setCorners();
  } finally {
    $("gan-start").disabled = false;
  }
}
$("gan-start").onclick = saying(sayGan, async () => {
  await start();
  $("wander").focus(); // what had it is gone
});
$("walk").onpointermove = saying(sayGan, (event) => {
  rest();
  const box = $("walk").getBoundingClientRect();
  return generate && go((event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width);
});
$("walk").onpointerdown = $("walk").onpointermove;
for (const id of ["r", "c"])
  $(id).oninput = saying(sayGan, () => {
    rest();
    return go(Number($("r").value), Number($("c").value));
  });
$("gan-seed").onchange = saying(sayGan, setCorners);
$("gan-next").onclick = saying(sayGan, () => {
  $("gan-seed").value = number("gan-seed") + 1;
  return setCorners();
});

let wandering = 0; // the next frame of the wanderer
function rest() {
  cancelAnimationFrame(wandering);
  wandering = 0;
  $("wander").setAttribute("aria-pressed", false);
}
$("wander").onclick = () => {
  if (wandering) return rest();
  const frame = (ms) => {
    saying(sayGan, go)(0.5 + 0.5 * Math.sin(ms / 1300), 0.5 + 0.5 * Math.sin(ms / 1900));
    wandering = requestAnimationFrame(frame);
  };
  wandering = requestAnimationFrame(frame);
  $("wander").setAttribute("aria-pressed", true);
};

// ---- 2. sampling

const timesOf = () =>
  timesteps(abar, number("steps"), { rho: $("spacing").value === "noise" ? rho : null, sigmaMax });
const withEarly = () => number("gamma") !== 1;

const svg = (name, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};
const [left, right, top, bottom] = [12, 388, 12, 122];
const across = (t) => left + ((right - left) * t) / T;
const up = (share) => bottom - (bottom - top) * share;

function drawSchedule(times, now = null) {
  const line = (share) =>
    abar.map((a, t) => `${t ? "L" : "M"}${across(t).toFixed(1)} ${up(share(a)).toFixed(1)}`).join("");
  const text = (x, content) => {
    const element = svg("text", { x, y: 146, "text-anchor": "middle" });
    element.textContent = content;
    return element;
  };
  const marks = times.slice(0, -1).map((t) =>
    svg("path", { class: t === now ? "now" : "time", d: `M${across(t)} ${t === now ? top : bottom}V${bottom + 8}` })
  );
  $("schedule").replaceChildren(
    svg("path", { class: "axis", d: `M${left} ${bottom}H${right}M${left} ${top}H${right}` }),
    svg("path", { class: "image", d: line(Math.sqrt) }),
    svg("path", { class: "noise", d: line((a) => Math.sqrt(1 - a)) }),
    ...marks,
    text(left, "0"), text(across(T / 2), `t = ${T / 2}`), text(right - 6, T)
  );
}

function describe() {
  for (const part of document.querySelectorAll("[data-sampler]"))
    part.hidden = !part.dataset.sampler.split(" ").includes($("sampler").value);
  for (const part of document.querySelectorAll("[data-spacing]"))
    part.hidden = part.dataset.spacing !== $("spacing").value;
  const names = withEarly() ? ["ddpm", "ddpm_early"] : ["ddpm"];
  const first = missing(names);
  const calls = timesOf().length - 1;
  $("ddpm-size").textContent =
    (first ? `Loads ${megabytes(first)} first. ` : "") +
    `${calls} steps, ${names.length * calls} runs of a network.` +
    (withEarly() ? " γ = 1 leaves the early network out and takes half the time." : "");
  $("gan-size").textContent = `(loads ${megabytes(missing(["gan"]))})`;
  drawSchedule(timesOf());
}

// A button that starts a task and, while it runs, stops it. `end` stops it, too. The task gets a
// signal, which ends its download; at its steps it looks by itself.
function startAndStop(button, output, task) {
  const name = button.textContent;
  let running = null;
  const end = () => {
    running?.abort();
    [running, button.textContent] = [null, name];
  };
  const press = async () => {
    if (running) {
      output.textContent = `stopped: ${output.textContent}`;
      return end();
    }
    const mine = (running = new AbortController());
    button.textContent = "Stop";
    try {
      await task(mine.signal);
    } catch (error) {
      if (!mine.signal.aborted) throw error;
    } finally {
      if (running === mine) end();
    }
  };
  button.onclick = saying(output, press);
  return { end };
}

let roomOfDdpm = null;
const sayDdpm = $("ddpm-says");

async function makeRoom(signal) {
  const times = timesOf();
  const step = SAMPLERS[$("sampler").value];
  const gamma = number("gamma");
  const noise = normals(number("ddpm-seed"));
  sayDdpm.textContent = "Loading the denoiser.";
  const names = gamma === 1 ? ["ddpm"] : ["ddpm", "ddpm_early"];
  const [model, early] = await loaded(names, $("ddpm-progress"), signal);
  const asked = early ? guided(model, early, gamma) : model;
  const denoiser = (x, t) => asked(x, Float32Array.of(t));
  const every = Math.ceil((times.length - 1) / 40); // a strip of a thousand images shows nothing
  $("strip").replaceChildren();
  const began = performance.now();
  let i = 0;
  for await (const { t, x, x0Hat, next } of sample(denoiser, noise(3 * size * size), { abar, times, step, noise })) {
    signal.throwIfAborted();
    i++;
    paint($("x0"), x0Hat);
    paint($("xt"), i === times.length - 1 ? next : x);
    drawSchedule(times, t);
    if (i % every === 0 || i === times.length - 1) {
      const small = Object.assign(document.createElement("canvas"), { width: size, height: size });
      paint(small, x0Hat);
      $("strip").append(small);
    }
    const share = `√ᾱ = ${Math.sqrt(abar[t]).toFixed(3)}`;
    sayDdpm.textContent = `step ${i} of ${times.length - 1}, t = ${t}, ${share}`;
    if (i === times.length - 1) {
      const seconds = (performance.now() - began) / 1000;
      sayDdpm.textContent = `done: ${i} steps in ${seconds.toFixed(1)} seconds`;
      roomOfDdpm = next;
      $("take-ddpm").disabled = false;
    }
  }
  describe();
}

const sampling = startAndStop($("ddpm-run"), sayDdpm, makeRoom);
$("ddpm-next").onclick = () => {
  sampling.end();
  $("ddpm-seed").value = number("ddpm-seed") + 1;
  $("ddpm-run").click();
};
for (const id of ["steps", "spacing", "sampler", "gamma"]) $(id).onchange = describe;

// ---- 3. an image of one's own

let mine = null;
const sayOwn = $("own-says");

// x_t of the seed's noise, shown at once: it takes no network.
function noised() {
  const t = number("t");
  $("t-says").textContent = t;
  if (!mine) return null;
  const xt = qSample(mine, abar[t], normals(number("own-seed"))(mine.length));
  paint($("own-xt"), xt);
  sayOwn.textContent = `t = ${t}: √ᾱ = ${Math.sqrt(abar[t]).toFixed(3)} of the image, √(1 − ᾱ) = ${Math.sqrt(1 - abar[t]).toFixed(3)} of noise`;
  return xt;
}

// What came back belongs to the image, the noise and the steps that it was made of.
function forget() {
  back.end();
  $("own-back").getContext("2d").clearRect(0, 0, size, size);
  noised();
}

function take(x) {
  mine = x.map((value) => Math.min(Math.max(value, -1), 1));
  paint($("own-x0"), mine);
  $("own-controls").disabled = false;
  forget();
}

$("file").onchange = saying(sayOwn, async () => {
  const [file] = $("file").files;
  if (!file) return;
  const image = await createImageBitmap(file).catch(() => {
    throw new Error(`${file.name} is no image that this browser can read.`);
  });
  // First to eight times the side, then the mean of blocks: browsers differ in how they shrink a
  // photograph by a hundred, and some take but a few of its pixels.
  const factor = 8;
  const canvas = Object.assign(document.createElement("canvas"), { width: size * factor, height: size * factor });
  const context = canvas.getContext("2d");
  const side = Math.min(image.width, image.height);
  context.fillStyle = "white"; // behind what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(
    image, (image.width - side) / 2, (image.height - side) / 2, side, side, 0, 0, canvas.width, canvas.height
  );
  take(fromPixels(context.getImageData(0, 0, canvas.width, canvas.height).data, size, factor));
});
$("take-gan").onclick = saying(sayOwn, async () => {
  if (!roomOfGan) {
    sayOwn.textContent = "Loading the generator.";
    await start();
  }
  take(roomOfGan);
});
$("take-ddpm").onclick = saying(sayOwn, () => take(roomOfDdpm));
for (const id of ["t", "own-seed", "own-steps"]) $(id).oninput = forget;

async function bringBack(signal) {
  const [t, x0] = [number("t"), mine];
  const xt = noised();
  const times = timesteps(abar, number("own-steps"), { rho, sigmaMax, from: t });
  if (!isLoaded("ddpm")) sayOwn.textContent = "Loading the denoiser.";
  const [model] = await loaded(["ddpm"], $("own-progress"), signal);
  const denoiser = (x, time) => model(x, Float32Array.of(time));
  let i = 0;
  for await (const { t: now, x0Hat, next } of sample(denoiser, xt, { abar, times, step: ddimStep })) {
    signal.throwIfAborted();
    i++;
    paint($("own-back"), x0Hat);
    sayOwn.textContent = `step ${i} of ${times.length - 1}, t = ${now}`;
    if (i === times.length - 1) {
      const far = Math.sqrt(next.reduce((sum, value, k) => sum + (value - x0[k]) ** 2, 0) / x0.length);
      sayOwn.textContent = `noised to t = ${t} and back in ${i} steps; root mean square of what changed: ${(127.5 * far).toFixed(0)} of 255 levels`;
    }
  }
}

const back = startAndStop($("own-run"), sayOwn, bringBack);

// A field shows what is taken for it.
for (const field of document.querySelectorAll("input[type=number]"))
  field.addEventListener("change", () => (field.value = number(field.id)));

// ---- at the start: what the package's own `sample` would do

$("steps").value = $("steps").defaultValue = table.ddpm.steps;
$("gamma").value = $("gamma").defaultValue = table.ddpm.guidance;
describe();
noised();
$("all").disabled = typeof WebAssembly !== "object"; // start.js says so
document.documentElement.dataset.ready = "yes";
