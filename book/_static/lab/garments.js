// @ts-check
// The garments' bench: trained networks draw in the page, and take a picture to noise and back.

/** The networks that the book brings along. */
const MODELS = {
  "fashion-mnist": "the model that ships",
  "equal-diffusion": "the small model of chapter 1",
};

const GARMENTS_FORM = `
  <form class="lab-form" aria-label="How the garments are drawn">
    <fieldset><legend>Draw</legend>
      <label>Model <select name="model"></select></label>
      <label>or your own <input type="file" name="file" accept=".onnx"></label>
      <label>Sampler <select name="sampler"></select></label>
      <label>Steps <input type="range" name="steps" min="1" max="50" value="4"></label>
      <label data-knob="eta">η, fresh noise
        <input type="range" name="eta" min="0" max="1" step="0.05" value="0"></label>
      <label>Times <select name="spacing">
        <option value="trailing">evenly spaced</option><option value="karras">Karras</option>
        <option value="log_snr">even in log SNR</option></select></label>
      <label>Garments <input type="range" name="count" min="1" max="8" value="4"></label>
      <label>Seed <input type="number" name="seed" min="0" max="9999" value="0"></label>
      <div class="lab-buttons"><button type="button" name="draw">draw</button></div>
    </fieldset>
    <fieldset><legend>To noise and back</legend>
      <label>Picture <input type="file" name="picture" accept="image/*"></label>
      <label>Depth <input type="range" name="depth" min="50" max="1000" step="50" value="500"></label>
      <label>Noise <select name="kind">
        <option value="own">its own, by DDIM upward</option><option value="fresh">fresh</option></select></label>
      <div class="lab-buttons"><button type="button" name="trip">there and back</button></div>
    </fieldset>
  </form>`;

const GARMENTS_PICTURE = `
  <div class="lab-picture">
    <canvas width="128" height="64" role="img" aria-label="nothing is drawn yet"></canvas>
    <div class="lab-transport" role="group" aria-label="The states">
      <button type="button" name="back" aria-label="one state back">◂</button>
      <button type="button" name="forth" aria-label="one state on">▸</button>
      <label>State <input type="range" name="state" min="0" max="0" step="1"></label>
    </div>
    <p>Above is the state. Below is the garment that the network saw in the state before.</p>
    <p class="lab-numbers" role="status">Nothing is loaded yet. The first click brings the network and what runs it,
      about 12 MB, into the page.</p>
  </div>`;

/** @typedef {{x: Float64Array, x0: Float64Array | null, t: number}} Look */

class GarmentsBench {
  /** @param {HTMLElement} root */
  constructor(root) {
    root.innerHTML = GARMENTS_PICTURE + GARMENTS_FORM;
    this.root = root;
    this.form = /** @type {HTMLFormElement} */ (root.querySelector("form"));
    this.canvas = /** @type {HTMLCanvasElement} */ (root.querySelector("canvas"));
    this.slider = /** @type {HTMLInputElement} */ (root.querySelector("[name=state]"));
    /** @type {Look[]} */
    this.states = [];
    /** @type {Record<string, NetworkDenoiser>} the networks that are loaded */
    this.loaded = {};
    this.shape = [1, 32, 32];
    this.round = 0; // the number of the walk that is under way
    for (const [name, title] of Object.entries(MODELS)) this.field("model").add(new Option(title, name));
    for (const name of ["ddim", "ancestral", "heun", "dpm_solver_pp"])
      this.field("sampler").add(new Option(SAMPLERS[/** @type {keyof typeof SAMPLERS} */ (name)].title, name));
    this.listen();
    this.show();
  }

  /** @param {string} name @returns {any} */
  field(name) {
    return this.form.elements.namedItem(name);
  }

  /** @param {string} text */
  say(text) {
    this.root.querySelector(".lab-numbers")?.replaceChildren(text);
  }

  show() {
    for (const range of /** @type {NodeListOf<HTMLInputElement>} */ (this.form.querySelectorAll("[type=range]")))
      range.labels?.forEach((label) => (label.dataset.value = String(Number(range.value))));
    const knob = /** @type {HTMLElement} */ (this.form.querySelector("[data-knob=eta]"));
    knob.hidden = this.field("sampler").value !== "ddim";
  }

  listen() {
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("input", (event) => {
      const { name, value } = /** @type {HTMLInputElement} */ (event.target);
      if (name === "model") this.field("steps").value = value === "fashion-mnist-4-calls" ? 4 : 20;
      this.show();
    });
    this.slider.addEventListener("input", () => this.look(Number(this.slider.value)));
    /** @type {Record<string, () => void>} */
    const jobs = {
      draw: () => this.guarded(() => this.drawGarments()),
      trip: () => this.guarded(() => this.takeTrip()),
      back: () => this.look(Number(this.slider.value) - 1),
      forth: () => this.look(Number(this.slider.value) + 1),
    };
    for (const [name, job] of Object.entries(jobs))
      this.root.querySelector(`button[name=${name}]`)?.addEventListener("click", job);
  }

  /** Do a job, and say what went wrong. @param {() => Promise<void>} job */
  async guarded(job) {
    try {
      await job();
    } catch (error) {
      this.say(`That did not work: ${error instanceof Error ? error.message : error}.`);
    }
  }

  /** The network that is chosen, loaded if need be. */
  async model() {
    const [own] = this.field("file").files;
    const name = own ? own.name : this.field("model").value;
    if (!this.loaded[name]) {
      this.say(`Loading ${name} ...`);
      await new Promise((done) => setTimeout(done, 20)); // so that the line is seen
      const loading = own ? NetworkDenoiser.of(new Uint8Array(await own.arrayBuffer())) : NetworkDenoiser.shipped(name);
      this.loaded[name] = await loading;
    }
    return this.loaded[name];
  }

  async drawGarments() {
    const round = ++this.round;
    const model = await this.model();
    this.shape = model.facts.image_shape;
    const [steps, count, seed] = ["steps", "count", "seed"].map((name) => Number(this.field(name).value));
    const randnLike = perSampleNoise(seed, model.pixels);
    const grid = model.schedule.timesteps(Math.min(steps, model.schedule.T), this.field("spacing").value);
    const x = sum([model.schedule.scale(grid[0]), randnLike(new Float64Array(count * model.pixels))]);
    const walk = {
      ddim: () => ddim(model, x, grid, { eta: Number(this.field("eta").value), randnLike }),
      ancestral: () => ancestral(model, x, grid, { randnLike }),
      heun: () => heun(model, x, grid),
      dpm_solver_pp: () => dpmSolverPp(model, x, grid),
    }[/** @type {"ddim" | "ancestral" | "heun" | "dpm_solver_pp"} */ (this.field("sampler").value)];
    await this.follow(round, [{ x, x0: null, t: grid[0] }], walk());
  }

  async takeTrip() {
    const round = ++this.round;
    const model = await this.model();
    this.shape = model.facts.image_shape;
    const [steps, depth, seed] = ["steps", "depth", "seed"].map((name) => Number(this.field(name).value));
    const x0 = await this.picture(model);
    const randnLike = perSampleNoise(seed, model.pixels);
    const grid = model.schedule.timesteps(Math.min(steps, depth), "trailing", depth);
    /** @type {Look[]} */
    const states = [{ x: x0, x0: null, t: 0 }];
    /** @type {Float64Array} */
    let x = addNoise(model.schedule, { x0, eps: randnLike(x0) }, depth);
    if (this.field("kind").value === "own") {
      x = await this.follow(round, states, invert(model, x0, grid));
      if (round !== this.round) return;
    } else states.push({ x, x0: null, t: depth });
    const end = await this.follow(round, states, ddim(model, x, grid, { randnLike }));
    const error = Math.sqrt(sum([1, end], [-1, x0]).reduce((total, value) => total + value ** 2, 0) / end.length);
    this.say(`The pixels that come back are off by ${error.toFixed(3)} (root mean square; from -1 to 1).`);
  }

  /**
   * Show every state of a walk as it comes; gives the last.
   * @param {number} round
   * @param {Look[]} states those before it, to which its own are added
   * @param {AsyncGenerator<Step>} walk
   */
  async follow(round, states, walk) {
    this.states = states;
    this.look(states.length - 1);
    const start = performance.now();
    for await (const { x, t, prediction } of walk) {
      if (round !== this.round) break; // another walk has begun
      states.push({ x, x0: prediction.x0, t });
      this.look(states.length - 1);
      this.say(`state ${states.length - 1}, t = ${round2(t)}, ${((performance.now() - start) / 1000).toFixed(1)} s`);
      await new Promise((done) => setTimeout(done)); // so that it is seen
    }
    return states[states.length - 1].x;
  }

  /**
   * The reader's picture, grey and as small as the model's, or else the garments that were drawn last.
   * @param {NetworkDenoiser} model
   */
  async picture(model) {
    const [file] = this.field("picture").files;
    if (!file) {
      const last = this.states[this.states.length - 1];
      if (!last) throw new Error("there is no picture yet: choose one, or draw some garments first");
      return last.x;
    }
    const [channels, height, width] = model.facts.image_shape;
    if (channels !== 1) throw new Error("pictures in colour are not read");
    const image = await createImageBitmap(file);
    const small = Object.assign(document.createElement("canvas"), { width, height });
    const pen = /** @type {CanvasRenderingContext2D} */ (small.getContext("2d"));
    const side = Math.min(image.width, image.height);
    pen.drawImage(image, (image.width - side) / 2, (image.height - side) / 2, side, side, 0, 0, width, height);
    const { data } = pen.getImageData(0, 0, width, height);
    const grey = (/** @type {number} */ i) => 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2];
    return Float64Array.from({ length: width * height }, (_, i) => grey(i) / 127.5 - 1);
  }

  /** Show a state: above what is there, below what the network saw in the state before. @param {number} index */
  look(index) {
    if (!this.states.length) return;
    const shown = Math.max(0, Math.min(index, this.states.length - 1));
    this.slider.max = String(this.states.length - 1);
    this.slider.value = String(shown);
    const { x, x0, t } = this.states[shown];
    this.slider.setAttribute("aria-valuetext", `state ${shown} of ${this.states.length - 1}, t = ${round2(t)}`);
    const [channels, height, width] = this.shape;
    const count = x.length / (channels * height * width);
    Object.assign(this.canvas, { width: count * width, height: 2 * height });
    const pen = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    [x, x0].forEach((images, row) => {
      if (!images) return;
      for (let i = 0; i < count; i++) pen.putImageData(imageOf(images, i, this.shape), i * width, row * height);
    });
    const what = `${count} pictures at t = ${round2(t)}, and below them what the network saw a state before`;
    this.canvas.setAttribute("aria-label", what);
  }
}

/** @param {number} value */
function round2(value) {
  return round(value, 2);
}

/**
 * One of several images whose pixels run from -1 to 1.
 * @param {Float64Array} images
 * @param {number} index
 * @param {number[]} shape
 */
function imageOf(images, index, [channels, height, width]) {
  const image = new ImageData(width, height);
  const pixels = height * width;
  for (let i = 0; i < pixels; i++) {
    for (const colour of [0, 1, 2]) {
      const channel = Math.min(colour, channels - 1);
      image.data[4 * i + colour] = (images[(index * channels + channel) * pixels + i] + 1) * 127.5;
    }
    image.data[4 * i + 3] = 255;
  }
  return image;
}

new GarmentsBench(/** @type {HTMLElement} */ (document.querySelector(".lab-garments")));
