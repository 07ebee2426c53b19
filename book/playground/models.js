// The released networks, loaded when they are first asked for, and run by onnxruntime-web.

const here = (path) => new URL(path, import.meta.url).href;

let runtime;
let failures = 0;
function ort() {
  if (runtime) return runtime;
  // A browser may remember that an address gave no module, so that another try needs another one.
  runtime = import(here(`ort/ort.wasm.min.mjs${failures ? `?${failures}` : ""}`)).then((module) => {
    module.env.wasm.wasmPaths = here("ort/");
    // In a worker, so that the page answers while a network computes.
    module.env.wasm.proxy = true;
    return module;
  });
  runtime.catch(() => ([runtime, failures] = [undefined, failures + 1]));
  return runtime;
}

// The file, telling progress(bytes so far) until `signal` aborts it. The size is the table's and not
// the server's, which would be that of a compressed file.
async function download(file, bytes, progress, signal) {
  const response = await fetch(here(`models/${file}`), { signal });
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

const loaded = new Map();

// The network `name` of the table of models, an async function of one Float32Array for each input.
export function network(name, { file, bytes, inputs }, progress = () => {}, signal = undefined) {
  if (!loaded.has(name)) {
    const session = (async () => {
      const [{ InferenceSession, Tensor }, data] = await Promise.all([ort(), download(file, bytes, progress, signal)]);
      const session = await inTurn(() => InferenceSession.create(data, { executionProviders: ["wasm"] }));
      return (...values) =>
        inTurn(async () => {
          // Copies, because the worker takes the memory of its inputs away from the page.
          const tensors = inputs.map(({ name, shape }, i) => [name, new Tensor("float32", values[i].slice(), shape)]);
          return (await session.run(Object.fromEntries(tensors)))[session.outputNames[0]].data;
        });
    })();
    loaded.set(name, session);
    // A failed one is forgotten, so that a second press of the button tries again.
    session.catch(() => loaded.delete(name));
  }
  return loaded.get(name);
}

export const isLoaded = (name) => loaded.has(name);
