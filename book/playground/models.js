// The released networks, loaded when they are first asked for, and run by onnxruntime-web.

const here = (path) => new URL(path, import.meta.url).href;

// The file, telling progress(bytes so far) until `signal` aborts it. The size is the table's and not
// the server's, which would be that of a compressed file.
async function download(file, bytes, progress, signal) {
  const response = await fetch(here(file), { signal });
  if (!response.ok) throw new Error(`${file} was not found (${response.status})`);
  const data = new Uint8Array(bytes);
  let done = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { value } = await reader.read();
    if (!value) break;
    if (done + value.length > bytes) throw new Error(`${file} is not the file of this page`);
    data.set(value, done);
    progress((done += value.length));
  }
  if (done !== bytes) throw new Error(`${file} ended early`);
  return data;
}

// Two runs at a time would mix their numbers: the runtime has one stack and puts inputs on it before
// it waits.
let last = Promise.resolve();
function inTurn(work) {
  const result = last.then(work);
  last = result.catch(() => {});
  return result;
}

// What is loaded, or on its way, by name.
const loads = new Map();

function begin(name, make) {
  const stop = new AbortController();
  const one = { waiting: new Set(), done: 0, ready: false };
  const progress = (done) => {
    one.done = done;
    one.waiting.forEach((tell) => tell(done));
  };
  // Forgotten when it failed, so that a second press of the button tries again.
  const forget = () => loads.get(name) === one && loads.delete(name);
  one.end = () => (forget(), stop.abort());
  one.made = make(progress, stop.signal);
  one.made.then(() => (one.ready = true), forget);
  loads.set(name, one);
  return one;
}

// What `make` makes, made once. Several may wait for it: `signal` sends but its own away, and the
// last to go ends the download.
function shared(name, make, progress, signal) {
  const one = loads.get(name) ?? begin(name, make);
  if (one.ready) return one.made;
  one.waiting.add(progress);
  progress(one.done);
  const gone = new Promise((_, fail) =>
    signal?.addEventListener("abort", () => {
      one.waiting.delete(progress);
      if (!one.ready && !one.waiting.size) one.end();
      fail(signal.reason);
    })
  );
  return Promise.race([one.made, gone]);
}

let tries = 0;
async function start(progress, signal) {
  // Before anything starts: what failed to start does not start again.
  const binary = await download("ort/ort-wasm-simd-threaded.wasm", RUNTIME_BYTES, progress, signal);
  // A browser may remember that an address gave no module, so that another try needs another one.
  const address = here(`ort/ort.wasm.min.mjs${tries++ ? `?${tries}` : ""}`);
  const module = await import(address).catch((cause) => {
    throw new Error("ort/ort.wasm.min.mjs was not found", { cause });
  });
  // In a worker, so that the page answers while a network computes.
  Object.assign(module.env.wasm, { wasmPaths: here("ort/"), wasmBinary: binary, proxy: true });
  return module;
}

// onnxruntime-web, which the networks wait for.
export const runtime = (progress = () => {}, signal = undefined) => shared("ort", start, progress, signal);
export const RUNTIME_BYTES = 14_239_897;

async function session({ file, bytes, inputs }, progress, signal) {
  const [{ InferenceSession, Tensor }, data] = await Promise.all([
    runtime(), download(`models/${file}`, bytes, progress, signal),
  ]);
  const session = await inTurn(() => InferenceSession.create(data, { executionProviders: ["wasm"] })).catch((cause) => {
    throw new Error(`ort/, which runs the networks, did not start: ${cause.message}`, { cause });
  });
  return (...values) =>
    inTurn(async () => {
      // Copies, because the worker takes the memory of its inputs away from the page.
      const tensors = inputs.map(({ name, shape }, i) => [name, new Tensor("float32", values[i].slice(), shape)]);
      return (await session.run(Object.fromEntries(tensors)))[session.outputNames[0]].data;
    });
}

// The network `name` of the table of models, an async function of one Float32Array for each input.
export const network = (name, described, progress = () => {}, signal = undefined) =>
  shared(name, (...how) => session(described, ...how), progress, signal);

export const isLoaded = (name) => Boolean(loads.get(name)?.ready);
