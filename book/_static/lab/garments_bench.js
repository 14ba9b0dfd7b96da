// @ts-check
// The garments' bench in the page: trained networks draw, and take a picture to noise and back.

const MOST = 10; // garments that are drawn at once
const FRESH = 1000000; // `ddpm sample` and this bench draw garment i from the noise numbered i; `ddpm round-trip` begins here
const OWN = "own"; // the reader's file, in place of one that the page brings along
const LINKED = [
  "network", "class", "weight", "sampler", "steps", "eta", "spacing", "count", "seed", "depth", "kind",
]; // what a link holds; prettier-ignore
const [NO_CLASS, EACH] = ["", "each"]; // what may be chosen besides a class

const GARMENTS_PICTURE = `<canvas width="256" height="128" role="img" aria-label="nothing is drawn yet" style="width: min(100%, 36rem)"></canvas>
  <p>Above is the state. Below it is the garment that the network guesses from the state before.</p>${TRANSPORT}`;

const GARMENTS_KNOBS = legend({
  Class: "what the network is told to draw. The way back from noise is told it, too; the way there is told none.",
  "w, guidance": "how much the class counts: 1 is what the network learnt of it, and more calls the network twice as often.",
  Steps: "moves of the sampler. Each calls the network once, and Heun calls it twice.",
  η: "the noise that DDIM adds on the way: none at 0, as much as ancestral sampling at 1.",
  Times: "how the times of the moves are spread: evenly, so that little noise gets more of them (Karras), or evenly in the "
    + "logarithm of signal over noise.",
  Seed: "of the noise that garments begin as. The same seed and network draw the same garments.",
  Depth: "how far a picture is taken into noise; 1,000 is noise alone.",
  Noise: "its own is what DDIM finds by walking up from the picture; fresh is drawn, and has nothing to do with it.",
});

const GARMENTS_FORM = `
  <form class="lab-form" aria-label="How the garments are drawn">
    <fieldset><legend>Draw</legend>
      <label>Network <select name="network"></select></label>
      <label data-field="file">Its file <input type="file" name="file" accept=".onnx"></label>
      <label data-field="class">Class <select name="class"></select></label>
      ${slider("w, guidance", "weight", 'min="1" max="8" step="0.5" value="1"')}
      <label>Sampler <select name="sampler"></select></label>
      ${slider("Steps", "steps", 'min="1" max="50" step="1"')}
      ${slider("η, noise", "eta", 'min="0" max="1" step="0.01" value="0"')}
      <label>Times <select name="spacing">${SPACINGS}</select></label>
      ${slider("Garments", "count", `min="1" max="${MOST}" step="1" value="4"`)}
      <label>Seed <input type="number" name="seed" min="0" max="9999" step="1" value="0"></label>
      <div class="lab-buttons"><button type="button" name="draw">draw</button>
        <button type="button" name="link">copy a link to this</button></div>
    </fieldset>
    <fieldset><legend>To noise and back</legend>
      <label>Picture <select name="source"><option value="drawn">what was drawn last</option>
        <option value="${OWN}">a file of yours</option></select></label>
      <label data-field="picture">Its file <input type="file" name="picture" accept="image/*"></label>
      ${slider("Depth", "depth", 'min="50" max="1000" step="50" value="500"')}
      <label>Noise <select name="kind"><option value="own">its own (DDIM)</option>
        <option value="fresh">fresh</option></select></label>
      <div class="lab-buttons"><button type="button" name="trip">there and back</button></div>
    </fieldset>
    ${GARMENTS_KNOBS}
  </form>`;

/**
 * A state of a walk, what the network saw in the state before, the images' shape, and the part of the walk in words.
 * @typedef {{x: Float64Array, x0: Float64Array | null, t: number, shape: number[], part: string}} Look
 */

class GarmentsBench extends Bench {
  /** @param {HTMLElement} root */
  constructor(root) {
    super(root, GARMENTS_PICTURE, GARMENTS_FORM);
    /** @type {Look[]} */
    this.looks = [];
    /** @type {Look | null} the garments that were drawn last */
    this.drawn = null;
    /** @type {{file: File, model: NetworkDenoiser} | null} the reader's own network */
    this.own = null;
    /** @type {string[]} the classes of the network that is chosen */
    this.classes = [];
    this.expected = 0; // the number of the last state once the walk is done
    this.result = ""; // what is said at the last state
    this.job = 0; // the number of the job that was begun last
    this.busy = false;
    this.stale = false; // whether the settings have changed since the job began
    this.offers = 0; // the number of times that classes were asked for
    for (const [name, { title, megabytes }] of Object.entries(labNetworks))
      this.field("network").add(new Option(`${title} (${megabytes} MB)`, name));
    this.field("network").add(new Option("a file of yours", OWN));
    for (const name of ["ddim", "ancestral", "heun", "dpm_solver_pp"])
      this.field("sampler").add(new Option(SAMPLERS[name].title, name));
    this.field("steps").value = labNetworks[this.field("network").value].steps;
    this.form.addEventListener("input", (event) => this.changed(/** @type {HTMLInputElement} */ (event.target).name));
    this.field("seed").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Enter" && !this.busy) this.button("draw").click();
    });
    this.on("draw", () => this.begin((job) => this.draw(job)));
    this.on("trip", () => this.begin((job) => this.takeTrip(job)));
    this.on("link", () => this.copyLink(`?${this.settings()}#garments`, "The link is copied."));
    this.changed("");
    this.say("Nothing is loaded yet. A click brings the network, and once 5 MB of what runs it, into the page.");
    if (isLinkOfGarments) this.takeLink(location.search);
  }

  /** What a link holds: the settings that are in sight, as a query. */
  settings() {
    const inSight = LINKED.filter((name) => !this.field(name).closest("label").hidden);
    return new URLSearchParams(inSight.map((name) => [name, this.field(name).value]));
  }

  /** Take the settings of a link, and say which of them are not legal. @param {string} query */
  async takeLink(query) {
    const ignored = [];
    const asked = [...new URLSearchParams(query)];
    const order = (/** @type {string[]} */ [name]) => LINKED.indexOf(name); // the network first, which has the classes
    for (const [name, value] of asked.sort((one, other) => order(one) - order(other))) {
      if (!(LINKED.includes(name) && (await this.take(name, value)))) ignored.push(`${name}=${value}`);
    }
    const rest = ignored.length ? ` · not understood in the link: ${ignored.join(", ")}` : "";
    this.say(`The settings are those of the link: click on draw.${rest}`);
  }

  /** Set a field, and say whether its new value is legal; if not it stays. @param {string} name @param {string} value */
  async take(name, value) {
    const field = this.field(name);
    const before = field.value;
    field.value = value;
    const isLegal = field.value === value && field.checkValidity();
    if (!isLegal) field.value = before;
    await this.changed(name);
    return isLegal;
  }

  get last() {
    return this.looks.length - 1;
  }

  /** A field of the form has changed. @param {string} name */
  async changed(name) {
    const draws = !["source", "picture", "depth", "kind"].includes(name);
    if (name && draws) this.stale = true;
    const steps = ["", "network", "file"].includes(name) ? await this.offerClasses() : null;
    const network = this.field("network").value; // now: it may have changed while a file was read
    let said = this.looks.length && !this.busy && draws ? "The settings have changed: draw again." : "";
    if (name && steps) {
      this.field("steps").value = steps;
      said = `Steps are now ${steps}, which suit this network. ${said}`;
    }
    if (name && said) this.say(said);
    this.reveal({
      file: network === OWN,
      class: this.classes.length > 0,
      weight: this.classes.length > 0 && this.field("class").value !== NO_CLASS,
      eta: this.field("sampler").value === "ddim",
      picture: this.field("source").value === OWN,
    });
    this.label();
  }

  /**
   * Let the classes of the network that is chosen be chosen; the steps that suit it, null if it says none or another was
   * chosen meanwhile.
   */
  async offerClasses() {
    const offer = ++this.offers;
    const network = this.field("network").value;
    const { classes, steps } = network === OWN ? await this.saidOfFile() : labNetworks[network];
    if (offer !== this.offers) return null;
    if (String(classes) !== String(this.classes)) {
      this.classes = classes;
      const options = classes.map((name, label) => new Option(name, String(label)));
      this.field("class").replaceChildren(new Option("any", NO_CLASS), new Option("each in turn", EACH), ...options);
    }
    return steps;
  }

  /**
   * The classes of the reader's network, and the steps it was distilled for; none if the file is none, which a click on
   * draw says.
   * @returns {Promise<{classes: string[], steps: number | null}>}
   */
  async saidOfFile() {
    const [file] = this.field("file").files;
    try {
      if (!file) return { classes: [], steps: null };
      const facts = factsOf(new Uint8Array(await file.arrayBuffer()));
      return { classes: facts.classes, steps: facts.distilled_for };
    } catch {
      return { classes: [], steps: null };
    }
  }

  /**
   * Begin a job, or stop the one that is under way.
   * @param {(job: number) => Promise<void>} work
   */
  async begin(work) {
    const job = ++this.job;
    if (this.busy) return this.end("Stopped.");
    [this.busy, this.stale] = [true, false];
    for (const name of ["draw", "trip"]) this.button(name).textContent = "stop";
    this.stop();
    this.say("Loading ...");
    try {
      await work(job);
      const said = this.root.querySelector(".lab-numbers")?.textContent;
      if (job === this.job) this.end(this.stale ? `${said} · the settings have changed meanwhile: draw again` : "");
    } catch (error) {
      if (job === this.job) this.end(`That did not work: ${String(error instanceof Error ? error.message : error).replace(/[.]$/, "")}.`);
    }
  }

  /** @param {string} text what is said, if anything */
  end(text) {
    this.busy = false;
    this.button("draw").textContent = "draw";
    this.button("trip").textContent = "there and back";
    if (text) this.say(text);
  }

  /** The network that is chosen, loaded if need be. @returns {Promise<NetworkDenoiser>} */
  async model() {
    const name = this.field("network").value;
    await new Promise((done) => setTimeout(done, 30)); // so that "Loading ..." is seen
    if (name !== OWN) return NetworkDenoiser.brought(name);
    const [file] = this.field("file").files;
    if (!file) throw new Error("there is no file yet: choose one of ddpm export --to onnx");
    if (this.own && this.own.file === file) return this.own.model;
    const model = await NetworkDenoiser.of(new Uint8Array(await file.arrayBuffer()));
    await this.own?.model.session.release();
    this.own = { file, model };
    return model;
  }

  /** What the form asks for, as numbers. */
  asked() {
    const number = (/** @type {string} */ name) => Number(this.field(name).value);
    const [steps, count, depth, eta, weight] = ["steps", "count", "depth", "eta", "weight"].map(number);
    const seed = this.field("seed");
    if (!seed.value || !seed.checkValidity()) throw new Error(`the seed is "${seed.value}"; legal are 0 to 9999`);
    return {
      steps, count, depth, eta, weight,
      chosen: this.field("class").value,
      seed: Number(seed.value),
      spacing: this.field("spacing").value,
      sampler: this.field("sampler").value,
      fresh: this.field("kind").value === "fresh",
    }; // prettier-ignore
  }

  /**
   * A network that is told the class that was chosen, and guided; and what it is told, in words.
   * @param {NetworkDenoiser} model
   * @param {{chosen: string, weight: number}} asked
   * @returns {[denoise: Denoiser, told: string]}
   */
  told(model, { chosen, weight }) {
    const { classes } = model.facts;
    if (chosen === NO_CLASS || !classes.length) return [model, ""];
    const given = model.given(chosen === EACH ? [...classes.keys()] : [Number(chosen)]);
    const what = ` · ${chosen === EACH ? "each class in turn" : classes[Number(chosen)]}`;
    return weight > 1 ? [new Guided(given, model, weight), `${what}, w = ${weight}`] : [given, what];
  }

  /** @param {number} job */
  async draw(job) {
    const asked = this.asked();
    const { steps, count, eta, seed, spacing, sampler } = asked;
    const model = await this.model();
    if (job !== this.job) return;
    const { schedule } = model;
    const randnLike = perSampleNoise(seed, model.pixels);
    const grid = schedule.timesteps(Math.min(steps, schedule.T), spacing);
    const x = combine([schedule.scale(grid[0]), randnLike(new Float64Array(count * model.pixels))]);
    const shape = model.facts.image_shape;
    const [denoise, told] = this.told(model, asked);
    this.stop();
    this.looks = [{ x, x0: null, t: grid[0], shape, part: told }];
    [this.expected, this.result] = [grid.length - 1, ""];
    const walk = SAMPLERS[sampler].walk(denoise, x, grid, { eta, weight: 0, stepSize: 0, randnLike });
    if (await this.follow(job, walk, shape, told)) this.drawn = this.looks[this.last];
  }

  /** @param {number} job */
  async takeTrip(job) {
    const asked = this.asked();
    const { steps, depth: share, seed, fresh } = asked;
    const source = this.field("source").value === OWN ? await this.file() : this.drawn;
    if (!source) throw new Error("there is no picture yet: draw some garments first, or choose a file of yours");
    const model = await this.model();
    if (job !== this.job) return;
    const { schedule, pixels } = model;
    const shape = model.facts.image_shape;
    const fits = source instanceof ImageBitmap || String(source.shape) === String(shape);
    if (!fits) throw new Error(`the picture does not fit this network's images, ${shape.join(" x ")}`);
    const x0 = source instanceof ImageBitmap ? pixelsOf(source, shape) : source.x;
    const depth = Math.max(1, Math.round((share / 1000) * schedule.T));
    const grid = schedule.timesteps(Math.min(steps, depth), "trailing", depth);
    const randnLike = perSampleNoise(seed, pixels, FRESH);
    const [denoise, told] = this.told(model, asked);
    const [up, back] = [" · the way to noise", ` · the way back${told}`];
    if (source instanceof ImageBitmap) source.close();
    this.stop();
    this.looks = [{ x: x0, x0: null, t: 0, shape, part: up }];
    [this.expected, this.result] = [(fresh ? 1 : grid.length - 1) + grid.length - 1, ""];
    if (fresh) {
      const x = addNoise(schedule, { x0, eps: randnLike(x0) }, depth);
      this.looks.push({ x, x0: null, t: depth, shape, part: up });
    } else if (!(await this.follow(job, invert(model, x0, grid), shape, up))) return;
    const top = this.looks[this.last].x;
    if (!(await this.follow(job, ddim(denoise, top, grid, { randnLike }), shape, back))) return;
    const squares = combine([1, this.looks[this.last].x], [-1, x0]).map((value) => value ** 2);
    const error = Math.sqrt(squares.reduce((sum, value) => sum + value, 0) / squares.length);
    this.result = ` · the pixels that come back are off by ${error.toFixed(3)} (root mean square; they run from -1 to 1)`;
    this.show(this.last);
  }

  /**
   * Show every state of a walk as it comes; says whether it came to its end.
   * @param {number} job
   * @param {AsyncGenerator<Step>} walk
   * @param {number[]} shape
   * @param {string} part
   */
  async follow(job, walk, shape, part) {
    this.show(this.last);
    for await (const { x, t, prediction } of walk) {
      if (job !== this.job) return false;
      this.looks.push({ x, x0: prediction.x0, t, shape, part });
      this.show(this.last);
      await new Promise((done) => setTimeout(done)); // so that it is seen
    }
    return job === this.job;
  }

  /** The reader's picture, or nothing. @returns {Promise<ImageBitmap | null>} */
  async file() {
    const [file] = this.field("picture").files;
    if (!file) return null;
    try {
      return await createImageBitmap(file);
    } catch {
      throw new Error(`${file.name} is no picture that this browser reads, such as a PNG, a JPEG or a WebP`);
    }
  }

  /** @param {number} index */
  show(index) {
    super.show(index);
    const { x, x0, t, shape, part } = this.looks[index];
    const [channels, height, width] = shape;
    const count = x.length / (channels * height * width);
    const state = `state ${index} of ${this.expected}, t = ${rounded(t, 1)}${part}`;
    this.place(index, state);
    this.say(index === this.expected ? `${state}${this.result}` : state);
    Object.assign(this.canvas, { width: count * width, height: 2 * height });
    this.canvas.style.width = `min(100%, ${9 * count}rem)`;
    const pen = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    [x, x0].forEach((images, row) => {
      if (!images) return;
      for (let i = 0; i < count; i++) pen.putImageData(imageOf(images, i, shape), i * width, row * height);
    });
    const below = x0 ? ", and below them what the network saw in the state before" : "";
    this.canvas.setAttribute("aria-label", `${count} pictures: ${state}${below}`);
  }
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

/**
 * The middle square of a picture, grey where the network's images are, and as small. It is halved until the last step is
 * a small one: in a large step some browsers pass over most pixels.
 * @param {ImageBitmap} picture
 * @param {number[]} shape
 */
function pixelsOf(picture, [channels, height, width]) {
  let side = Math.min(picture.width, picture.height);
  let [left, top] = [(picture.width - side) / 2, (picture.height - side) / 2];
  /** @type {ImageBitmap | HTMLCanvasElement} */
  let square = picture;
  const shrink = (/** @type {number} */ width, /** @type {number} */ height) => {
    const smaller = Object.assign(document.createElement("canvas"), { width, height });
    const pen = /** @type {CanvasRenderingContext2D} */ (smaller.getContext("2d"));
    pen.imageSmoothingQuality = "high";
    pen.drawImage(square, left, top, side, side, 0, 0, width, height);
    [square, left, top, side] = [smaller, 0, 0, width];
    return pen;
  };
  while (side >= 4 * Math.max(width, height)) shrink(Math.round(side / 2), Math.round(side / 2));
  const { data } = shrink(width, height).getImageData(0, 0, width, height);
  const grey = (/** @type {number} */ i) => 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2];
  const pixels = width * height;
  const level = (/** @type {number} */ i) => (channels === 1 ? grey(i) : data[4 * (i % pixels) + Math.floor(i / pixels)]);
  return Float64Array.from({ length: channels * pixels }, (_, i) => level(i) / 127.5 - 1);
}

new GarmentsBench(/** @type {HTMLElement} */ (document.querySelector(".lab-garments")));
