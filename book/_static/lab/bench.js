// @ts-check
// The plane's bench in the page: its form, its picture, and what the mouse, a finger and the keyboard do.

const REACH = 3.2; // half the width of the picture
const CELLS = 80; // of the density behind the points, on a side
const SECONDS = 4; // that a walk plays

/** @typedef {{clientX: number, clientY: number}} Place in the window */

const FORM = `
  <form class="lab-form" aria-label="How the points go down">
    <fieldset><legend>The walk</legend>
      <label>Sampler <select name="sampler"></select></label>
      <label>Steps <input type="range" name="steps" min="1" max="200"></label>
      <label data-knob="eta">η, fresh noise <input type="range" name="eta" step="0.05"></label>
      <label data-knob="lambda">λ, Langevin <input type="range" name="lambda" step="0.05"></label>
      <label data-knob="stepSize">Step size <input type="range" name="stepSize" step="0.05"></label>
      <label>Schedule <select name="schedule"><option>linear</option><option>straight</option></select></label>
      <label>Times <select name="spacing">
        <option value="trailing">evenly spaced</option><option value="karras">Karras</option>
        <option value="log_snr">even in log SNR</option></select></label>
      <label>Told <select name="told"></select></label>
      <label data-knob="weight">w, guidance <input type="range" name="weight" step="0.25"></label>
      <label>Points <input type="range" name="points" step="50"></label>
      <label>Seed <input type="number" name="seed"></label>
      <label class="lab-tick"><input type="checkbox" name="trails"> trails</label>
    </fieldset>
    <fieldset><legend>The density</legend>
      <label>Shape <select name="shape"><option value="">as it is</option></select></label>
      <label>Bump <select name="chosen"></select></label>
      <label>Its weight <input type="range" name="bumpWeight" min="0.05" max="1" step="0.05"></label>
      <label>Its width <input type="range" name="bumpStd" min="0.05" max="1" step="0.05"></label>
      <div class="lab-buttons"><button type="button" name="add">add a bump</button>
        <button type="button" name="remove">remove it</button></div>
    </fieldset>
  </form>`;

const PICTURE = `
  <div class="lab-picture">
    <canvas width="640" height="640" tabindex="0" role="img"></canvas>
    <div class="lab-transport" role="group" aria-label="Play the walk">
      <button type="button" name="back" aria-label="one state back">◂</button>
      <button type="button" name="play">play</button>
      <button type="button" name="forth" aria-label="one state on">▸</button>
      <button type="button" name="reverse" aria-pressed="false">reversed</button>
      <label>State <input type="range" name="state" min="0" step="1"></label>
    </div>
    <p class="lab-numbers" role="status"></p>
    <div class="lab-buttons"><button type="button" name="link">copy a link to this</button>
      <button type="button" name="first">start afresh</button></div>
    <details><summary>The same with the package</summary><pre></pre></details>
  </div>`;

/** One bench in an element of the page. */
class PlaneBench {
  /** @param {HTMLElement} root */
  constructor(root) {
    root.innerHTML = PICTURE + FORM;
    this.root = root;
    this.form = /** @type {HTMLFormElement} */ (root.querySelector("form"));
    this.canvas = /** @type {HTMLCanvasElement} */ (root.querySelector("canvas"));
    this.setup = setupOf(location.search);
    /** @type {Walk} */
    this.walk = [];
    this.calls = 0;
    this.far = { distance: 0, floor: 0 };
    this.shown = 0; // the number of the state that is shown
    this.chosen = 0; // the number of the bump that is chosen
    this.forward = true;
    this.playing = 0; // the timer, or 0
    this.fill();
    this.listen();
    this.run();
  }

  /** @param {string} name @returns {any} */
  field(name) {
    return this.form.elements.namedItem(name);
  }

  /** @param {string} name */
  button(name) {
    return /** @type {HTMLButtonElement} */ (this.root.querySelector(`button[name=${name}]`));
  }

  get slider() {
    return /** @type {HTMLInputElement} */ (this.root.querySelector("[name=state]"));
  }

  /** The choices of the form that do not change. */
  fill() {
    for (const [name, { title }] of Object.entries(SHAPES)) this.field("shape").add(new Option(title, name));
    for (const [name, { title }] of Object.entries(SAMPLERS)) this.field("sampler").add(new Option(title, name));
    for (const [name, [low, high]] of Object.entries(LIMITS)) Object.assign(this.field(name), { min: low, max: high });
  }

  /** Bring the form to the setup. */
  show() {
    const { setup } = this;
    const names = setup.bumps.map((_, i) => `bump ${i + 1}`);
    this.field("chosen").replaceChildren(...names.map((name, i) => new Option(name, String(i))));
    const classes = names.map((name, i) => new Option(name, String(i)));
    this.field("told").replaceChildren(new Option("nothing", ""), ...classes);
    for (const [name, value] of Object.entries(setup)) if (this.field(name)) this.field(name).value = value;
    this.field("trails").checked = setup.trails;
    this.field("chosen").value = String(this.chosen);
    this.field("bumpWeight").value = setup.bumps[this.chosen].weight;
    this.field("bumpStd").value = setup.bumps[this.chosen].std;
    this.button("add").disabled = setup.bumps.length === MOST_BUMPS;
    this.button("remove").disabled = setup.bumps.length === 1;
    const chain = setup.sampler === "langevin";
    for (const name of ["schedule", "spacing"]) this.field(name).disabled = chain;
    const knobs = [...SAMPLERS[setup.sampler].knobs, ...(setup.told === "" || chain ? [] : ["weight"])];
    for (const label of /** @type {NodeListOf<HTMLElement>} */ (this.form.querySelectorAll("[data-knob]")))
      label.hidden = !knobs.includes(label.dataset.knob ?? "");
    for (const range of /** @type {NodeListOf<HTMLInputElement>} */ (this.form.querySelectorAll("[type=range]")))
      range.labels?.forEach((label) => (label.dataset.value = String(round(Number(range.value), 2))));
    this.root.querySelector("pre")?.replaceChildren(pythonOf(setup));
  }

  /** Walk anew, and show the end. */
  async run() {
    this.stop();
    this.show();
    history.replaceState(null, "", `${linkOf(this.setup)}#plane`);
    const asked = { ...this.setup };
    const { walk, calls } = await walked(asked);
    if (linkOf(asked) !== linkOf(this.setup)) return; // changed meanwhile: another run follows
    [this.walk, this.calls] = [walk, calls];
    this.far = distanceTo(this.setup, walk[walk.length - 1].x);
    this.slider.max = String(walk.length - 1);
    this.look(walk.length - 1);
  }

  /** Show a state of the walk. @param {number} index */
  look(index) {
    if (!this.walk.length) return;
    this.shown = Math.max(0, Math.min(index, this.walk.length - 1));
    const { t } = this.walk[this.shown];
    const last = this.walk.length - 1;
    const schedule = scheduleOf(this.setup);
    const sigma = t === schedule.T ? "noise alone" : `σ = ${Number(schedule.sigma(t).toPrecision(2))}`;
    const place = this.setup.sampler === "langevin" ? "no noise" : `t = ${round(t, 1)}, ${sigma}`;
    this.slider.value = String(this.shown);
    this.slider.setAttribute("aria-valuetext", `state ${this.shown} of ${last}, ${place}`);
    const { distance, floor } = this.far;
    const numbers = `state ${this.shown} of ${last} (${place}) · ${this.calls} calls · `;
    const far = Number.isFinite(distance)
      ? `the end is ${distance.toFixed(3)} from the density (true points: ${floor.toFixed(3)})`
      : "the points have run away: the step size is too large for so narrow a bump";
    this.root.querySelector(".lab-numbers")?.replaceChildren(numbers + far);
    this.canvas.setAttribute("aria-label", `${this.setup.points} points over the exact density: ${numbers}${far}`);
    this.draw();
  }

  /** The exact density at the state's time, the ways that points have gone, and the points. */
  draw() {
    const pen = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    const style = getComputedStyle(this.root);
    const size = this.canvas.width;
    const place = (/** @type {number} */ value) => (value / REACH + 1) * (size / 2);
    const { x, t } = this.walk[this.shown];
    pen.clearRect(0, 0, size, size);
    this.drawDensity(pen, t, style.getPropertyValue("--lab-density"));
    if (this.setup.trails) {
      pen.strokeStyle = style.getPropertyValue("--lab-trail");
      pen.lineWidth = 1;
      pen.beginPath();
      const most = Math.min(x.length, 200); // the ways of a hundred points
      for (let i = 0; i < most; i += 2) {
        this.walk.slice(0, this.shown + 1).forEach((step, k) => {
          pen[k ? "lineTo" : "moveTo"](place(step.x[i]), place(-step.x[i + 1]));
        });
      }
      pen.stroke();
    }
    pen.fillStyle = style.getPropertyValue("--lab-point");
    for (let i = 0; i < x.length; i += 2) pen.fillRect(place(x[i]) - 1.5, place(-x[i + 1]) - 1.5, 3, 3);
    pen.strokeStyle = style.getPropertyValue("--lab-bump");
    const [signal, noise] = scheduleOf(this.setup).signalAndNoise(t);
    this.setup.bumps.forEach(({ mean, std }, i) => {
      pen.lineWidth = i === this.chosen ? 3 : 1.2;
      pen.beginPath();
      const radius = (Math.hypot(signal * std, noise) / REACH) * (size / 2);
      pen.arc(place(signal * mean[0]), place(-signal * mean[1]), radius, 0, 2 * Math.PI);
      pen.stroke();
    });
  }

  /**
   * The exact density at a time, as a wash of a colour; its root, so that low parts show.
   * @param {CanvasRenderingContext2D} pen
   * @param {number} t
   * @param {string} color
   */
  drawDensity(pen, t, color) {
    const { target } = modelOf(this.setup);
    const middle = (/** @type {number} */ i) => ((i + 0.5) / CELLS) * 2 * REACH - REACH;
    const logs = Array.from({ length: CELLS ** 2 }, (_, i) =>
      target.at(middle(i % CELLS), -middle(Math.floor(i / CELLS)), t).logDensity,
    );
    const highest = logs.reduce((most, log) => Math.max(most, log), -Infinity);
    const wash = new ImageData(CELLS, CELLS);
    logs.forEach((log, i) => (wash.data[4 * i + 3] = 255 * Math.exp((log - highest) / 2)));
    const small = Object.assign(document.createElement("canvas"), { width: CELLS, height: CELLS });
    const brush = /** @type {CanvasRenderingContext2D} */ (small.getContext("2d"));
    brush.putImageData(wash, 0, 0);
    brush.globalCompositeOperation = "source-in";
    brush.fillStyle = color;
    brush.fillRect(0, 0, CELLS, CELLS);
    pen.drawImage(small, 0, 0, this.canvas.width, this.canvas.height);
  }

  stop() {
    clearInterval(this.playing);
    this.playing = 0;
    this.button("play").textContent = "play";
  }

  play() {
    if (!this.walk.length) return;
    const last = this.walk.length - 1;
    const [from, to] = this.forward ? [0, last] : [last, 0];
    if (this.shown === to) this.look(from);
    const stride = Math.max(1, Math.round(last / (SECONDS * 30)));
    const tick = () => {
      this.look(this.shown + (this.forward ? stride : -stride));
      if (this.shown === to) this.stop();
    };
    this.playing = window.setInterval(tick, Math.min(400, (1000 * SECONDS * stride) / last));
    this.button("play").textContent = "pause";
  }

  listen() {
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("input", (event) => this.changed(/** @type {any} */ (event.target)));
    this.slider.addEventListener("input", () => {
      this.stop();
      this.look(Number(this.slider.value));
    });
    /** @type {Record<string, () => void>} */
    const jobs = {
      back: () => this.step(-1),
      forth: () => this.step(1),
      play: () => (this.playing ? this.stop() : this.play()),
      reverse: () => {
        this.forward = !this.forward;
        this.button("reverse").setAttribute("aria-pressed", String(!this.forward));
      },
      add: () => this.add(),
      remove: () => this.remove(),
      link: () => this.copyLink(),
      first: () => this.begin(FIRST),
    };
    for (const [name, job] of Object.entries(jobs)) this.button(name).addEventListener("click", job);
    this.canvas.addEventListener("keydown", (event) => this.pressed(event));
    this.canvas.addEventListener("pointerdown", (event) => this.grab(event));
    // a finger on a bump drags it, and elsewhere it scrolls the page
    const hold = (/** @type {TouchEvent} */ event) => {
      if (this.bumpUnder(event.touches[0]) >= 0) event.preventDefault();
    };
    this.canvas.addEventListener("touchstart", hold, { passive: false });
    this.canvas.addEventListener("pointermove", (event) => this.drag(event));
    new MutationObserver(() => this.walk.length && this.draw()).observe(document.documentElement, {
      attributeFilter: ["data-theme"],
    });
  }

  /** @param {Setup} setup */
  begin(setup) {
    this.setup = { ...setup };
    this.chosen = 0;
    this.run();
  }

  /** @param {number} by */
  step(by) {
    this.stop();
    this.look(this.shown + by);
  }

  /** A field of the form has changed. @param {HTMLInputElement} field */
  changed({ name, value, checked, type }) {
    const { setup } = this;
    if (name === "shape") {
      if (value) this.begin({ ...setup, bumps: SHAPES[value].bumps, told: "" });
      return;
    }
    if (name === "chosen") {
      this.chosen = Number(value);
      this.show();
      this.draw();
      return;
    }
    if (name === "bumpWeight") this.change({ weight: Number(value) });
    else if (name === "bumpStd") this.change({ std: Number(value) });
    else {
      const read = type === "checkbox" ? checked : name in LIMITS ? Number(value) : value;
      if (name in LIMITS && (value === "" || !isLegal(name, Number(value)))) return; // a number that is being typed
      this.setup = { ...setup, [name]: read };
      this.run();
    }
  }

  /** Change the chosen bump. @param {Partial<Bump>} change */
  change(change) {
    const bumps = this.setup.bumps.map((bump, i) => (i === this.chosen ? { ...bump, ...change } : bump));
    this.setup = { ...this.setup, bumps };
    this.field("shape").value = "";
    this.run();
  }

  add() {
    this.chosen = this.setup.bumps.length;
    this.setup = { ...this.setup, bumps: [...this.setup.bumps, bump(0.3, 0, 0, 0.25)] };
    this.run();
  }

  remove() {
    const bumps = this.setup.bumps.filter((_, i) => i !== this.chosen);
    this.chosen = 0;
    this.setup = { ...this.setup, bumps, told: "" };
    this.run();
  }

  async copyLink() {
    const button = this.button("link");
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = "copied";
    } catch {
      button.textContent = "the address of this page is the link";
    }
  }

  /** The arrow keys move the chosen bump; space plays. @param {KeyboardEvent} event */
  pressed(event) {
    /** @type {Record<string, [number, number]>} */
    const moves = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
    if (event.key === " ") this.button("play").click();
    else if (event.key in moves) {
      const [x, y] = this.setup.bumps[this.chosen].mean;
      this.move(x + moves[event.key][0], y + moves[event.key][1]);
    } else return;
    event.preventDefault();
  }

  /** @param {number} x @param {number} y */
  move(x, y) {
    const within = (/** @type {number} */ value) => round(Math.max(-3, Math.min(3, value)), 2);
    this.change({ mean: [within(x), within(y)] });
  }

  /** Where in the plane the pointer is. @param {Place} place */
  under({ clientX, clientY }) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [((clientX - left) / width) * 2 * REACH - REACH, REACH - ((clientY - top) / height) * 2 * REACH];
  }

  /** The number of the bump under the pointer, or a little beside it; -1 where there is none. @param {Place} place */
  bumpUnder(place) {
    const [x, y] = this.under(place);
    const far = this.setup.bumps.map(({ mean, std }) => Math.hypot(x - mean[0], y - mean[1]) - std);
    const nearest = far.indexOf(Math.min(...far));
    return far[nearest] < 0.3 ? nearest : -1;
  }

  /** @param {PointerEvent} event */
  grab(event) {
    const nearest = this.bumpUnder(event);
    if (nearest < 0) return;
    this.chosen = nearest;
    this.canvas.setPointerCapture(event.pointerId);
    this.show();
    this.draw();
  }

  /** @param {PointerEvent} event */
  drag(event) {
    if (!this.canvas.hasPointerCapture(event.pointerId)) return;
    const [x, y] = this.under(event);
    this.move(x, y);
  }
}

new PlaneBench(/** @type {HTMLElement} */ (document.querySelector(".lab-plane")));
