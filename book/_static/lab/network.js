// @ts-check
// A network in the page: onnxruntime, put there on a click, and ddpm.denoiser.NetworkDenoiser around a file of
// `ddpm export --to onnx`. A page that is opened as a file may not read other files but by scripts, so every file comes
// as a script that adds its content to `labFiles`, in base64.

/** @type {any} */
var ort; // onnxruntime-web, once its script is there

/** @type {Record<string, string>} the content of files by their names, base64 */
var labFiles = {};

/**
 * The networks that the page brings along, by the package's names, from `files/networks.js`.
 * @type {Record<string, {title: string, megabytes: number, steps: number, classes: string[]}>}
 */
var labNetworks;

/**
 * What a file of `ddpm export --to onnx` knows of its network.
 * @typedef {{
 *   target: string, alpha_bar: number[], image_shape: number[], classes: string[], distilled_for: number | null
 * }} Facts
 */

const LAB = new URL(".", /** @type {HTMLScriptElement} */ (document.currentScript).src).href;

/** What is being brought into the page or is there. @type {Map<string, Promise<any>>} */
const brought = new Map();

/**
 * Do a thing once; what failed can be tried again.
 * @template T
 * @param {string} name
 * @param {() => Promise<T>} thing
 * @returns {Promise<T>}
 */
function once(name, thing) {
  const promise = brought.get(name) ?? thing();
  brought.set(name, promise);
  promise.catch(() => brought.delete(name));
  return promise;
}

/** Add a script of the lab to the page. @param {string} name */
function addScript(name) {
  return new Promise((done, failed) => {
    const script = Object.assign(document.createElement("script"), { src: `${LAB}files/${name}.js` });
    script.onload = () => done(undefined);
    script.onerror = () => {
      script.remove();
      failed(new Error(`files/${name}.js is not beside the page's scripts`));
    };
    document.head.append(script);
  });
}

/** The bytes of a file that its script brings. @param {string} name */
async function bytesOf(name) {
  await addScript(name);
  const bytes = Uint8Array.from(atob(labFiles[name]), (letter) => letter.charCodeAt(0));
  delete labFiles[name]; // megabytes of text
  if (!name.endsWith(".gz")) return bytes;
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer());
}

/** Start onnxruntime. */
async function startRuntime() {
  await addScript("ort.wasm.min");
  const wasm = await bytesOf("ort-wasm-simd-threaded.wasm.gz");
  const module = await bytesOf("ort-wasm-simd-threaded.mjs");
  ort.env.wasm.wasmBinary = wasm.buffer;
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([module], { type: "text/javascript" })) };
  ort.env.wasm.numThreads = 1; // more need a server that isolates the page
}

/**
 * The metadata of an ONNX file: field 14 of its message, pairs of a key and a value (onnx.proto).
 * @param {Uint8Array} bytes
 * @returns {Facts}
 */
function factsOf(bytes) {
  const names = ["target", "alpha_bar", "image_shape", "classes", "distilled_for"];
  /** @type {Record<string, any>} */
  const facts = {};
  for (const [field, content] of fieldsOf(bytes)) {
    if (field !== 14) continue;
    const [key, value] = fieldsOf(content).map(([, text]) => new TextDecoder().decode(text));
    if (names.includes(key)) facts[key] = JSON.parse(value);
  }
  if (names.some((name) => !(name in facts)) || !["eps", "x0", "v"].includes(facts.target))
    throw new Error("this is no file of ddpm export --to onnx");
  return /** @type {Facts} */ (facts);
}

/**
 * The fields of a message of protocol buffers that are bytes, each with its number.
 * @param {Uint8Array} bytes
 * @returns {[field: number, content: Uint8Array][]}
 */
function fieldsOf(bytes) {
  /** @type {[number, Uint8Array][]} */
  const fields = [];
  let at = 0;
  const varint = () => {
    let [value, scale] = [0, 1];
    for (; bytes[at] & 0x80; scale *= 128) value += (bytes[at++] & 0x7f) * scale;
    return value + bytes[at++] * scale;
  };
  while (at < bytes.length) {
    const tag = varint();
    if (tag % 8 === 0) varint();
    else if (tag % 8 === 2) {
      const length = varint();
      fields.push([tag >> 3, bytes.subarray(at, at + length)]);
      at += length;
    } else throw new Error("this is no ONNX file");
  }
  return fields;
}

/** A trained network that says what x0 and eps it sees in x_t. */
class NetworkDenoiser {
  /**
   * @param {any} session of onnxruntime
   * @param {Facts} facts
   */
  constructor(session, facts) {
    this.session = session;
    this.facts = facts;
    this.schedule = new Table(facts.alpha_bar);
    this.pixels = facts.image_shape.reduce((product, size) => product * size, 1);
    /** @type {number[]} the classes that it is told, in turn: image i has the label i modulo their number */
    this.labels = [];
  }

  /** A network that the page brings along. @param {string} name @returns {Promise<NetworkDenoiser>} */
  static brought(name) {
    return once(name, async () => NetworkDenoiser.of(await bytesOf(`${name}.onnx`)));
  }

  /** The network of a file of `ddpm export --to onnx`. @param {Uint8Array} bytes */
  static async of(bytes) {
    const facts = factsOf(bytes);
    await once("onnxruntime", startRuntime);
    return new NetworkDenoiser(await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] }), facts);
  }

  /** The denoiser of these classes; without any it is told none. @param {number[]} labels */
  given(labels) {
    return Object.assign(new NetworkDenoiser(this.session, this.facts), { labels });
  }

  /**
   * @param {Float64Array} x images one behind the other
   * @param {number} t from 1 up
   * @returns {Promise<Prediction>}
   */
  async predict(x, t) {
    const { image_shape: shape, target, classes } = this.facts;
    const n = x.length / this.pixels;
    /** @type {Record<string, any>} */
    const inputs = {
      x: new ort.Tensor("float32", Float32Array.from(x), [n, ...shape]),
      index: new ort.Tensor("float32", new Float32Array(n).fill(t - 1), [n]),
    };
    if (classes.length) {
      const labels = this.labels.length ? this.labels : [classes.length]; // the label after the last is none
      const ofImages = BigInt64Array.from({ length: n }, (_, i) => BigInt(labels[i % labels.length]));
      inputs.labels = new ort.Tensor("int64", ofImages, [n]);
    }
    const { answer } = await this.session.run(inputs);
    const said = Float64Array.from(answer.data);
    const [signal, noise] = this.schedule.signalAndNoise(t);
    if (target === "eps") return { x0: combine([1 / signal, x], [-noise / signal, said]), eps: said };
    if (target === "x0") return { x0: said, eps: combine([1 / noise, x], [-signal / noise, said]) };
    return { x0: combine([signal, x], [-noise, said]), eps: combine([noise, x], [signal, said]) };
  }
}
