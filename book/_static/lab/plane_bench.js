// @ts-check
// The plane's bench in the page: its form, its picture, and bumps that are dragged about.

const REACH = 3.2; // half the width of the picture
const CELLS = 80; // of the density behind the points, on a side
const TRAILS = 100; // points whose ways are drawn

const PLANE_PICTURE = `<canvas width="640" height="640" role="img"></canvas>${TRANSPORT}
  <div class="lab-buttons"><button type="button" name="link">copy a link to this</button>
    <button type="button" name="afresh">start afresh</button></div>
  <details><summary>The same with the package</summary><pre tabindex="0"></pre></details>`;

const PLANE_KNOBS = legend({
  Steps: "moves of the sampler. Each calls the model once; Heun calls it twice and annealed Langevin five times in every "
    + "move, and guidance calls a second model as often.",
  η: "the noise that DDIM adds on the way: none at 0, as much as ancestral sampling at 1.",
  λ: "how much of a Langevin step goes with each move of the flow.",
  "Step size": "of Langevin dynamics; δ is the same without noise levels.",
  Schedule: "how the noise grows with time: that of DDPM, or the straight path of flow matching.",
  Times: "how the times of the moves are spread: evenly, so that little noise gets more of them (Karras), or evenly in the "
    + "logarithm of signal over noise.",
  Told: "the bump that the model is told to draw, as the class of a picture is told to a network.",
  w: "how far guidance pushes away from what the model would draw untold; at 1 it does not.",
  σ: "how much noise there is in a state, over its signal.",
});

const PLANE_FORM = `
  <form class="lab-form" aria-label="How the points are drawn">
    <fieldset><legend>The walk</legend>
      <label>Sampler <select name="sampler"></select></label>
      ${slider("Steps", "steps", 'step="1"')}
      ${slider("η, noise", "eta", 'step="0.01"')}
      ${slider("λ, Langevin", "lambda", 'step="0.01"')}
      ${slider("Step size", "stepSize", 'step="0.01"')}
      ${slider("δ, step size", "delta", 'step="0.001"')}
      <label>Schedule <select name="schedule"><option>linear</option><option>straight</option></select></label>
      <label>Times <select name="spacing">${SPACINGS}</select></label>
      <label>Told <select name="told"></select></label>
      ${slider("w, guidance", "weight", 'step="0.01"')}
      ${slider("Points", "points", 'step="1"')}
      <label>Seed <input type="number" name="seed" step="1"></label>
      <label class="lab-tick"><input type="checkbox" name="trails"> trails</label>
    </fieldset>
    <fieldset><legend>The density</legend>
      <label>Shape <select name="shape"><option value="">your own</option></select></label>
      <label>Bump <select name="chosen"></select></label>
      <label>Across <input type="number" name="bumpX" min="-3" max="3" step="0.1"></label>
      <label>Up <input type="number" name="bumpY" min="-3" max="3" step="0.1"></label>
      ${slider("Its weight", "bumpWeight", 'min="0.01" max="1" step="0.01"')}
      ${slider("Its width", "bumpStd", 'min="0.05" max="1" step="0.01"')}
      <div class="lab-buttons"><button type="button" name="add">add a bump</button>
        <button type="button" name="remove">remove it</button></div>
    </fieldset>
    ${PLANE_KNOBS}
  </form>`;

/** @typedef {{clientX: number, clientY: number}} Place in the window */

class PlaneBench extends Bench {
  /** @param {HTMLElement} root */
  constructor(root) {
    super(root, PLANE_PICTURE, PLANE_FORM);
    const query = isLinkOfGarments ? "" : location.search;
    this.setup = setupOf(query);
    this.ignored = ignoredIn(query);
    /** @type {Walk} */
    this.walk = [];
    this.calls = 0;
    this.chosen = 0; // the number of the bump that is chosen
    /** @type {[number, number] | null} how far beside the dragged bump's middle the pointer is */
    this.held = null;
    this.asked = 0; // the number of the walk that was asked for last
    this.frame = 0; // the animation frame for which a walk is asked
    this.moved = false; // whether the reader has gone to a state, or plays, since that walk was asked for
    this.end = ""; // what is to be said of the end
    this.state = ""; // and of the state that is shown
    for (const [name, { title }] of Object.entries(SHAPES)) this.field("shape").add(new Option(title, name));
    for (const [name, { title }] of Object.entries(SAMPLERS)) this.field("sampler").add(new Option(title, name));
    this.field("sampler").add(new Option("Langevin, no noise levels", "langevin"));
    for (const [name, [low, high]] of Object.entries(LIMITS)) Object.assign(this.field(name), { min: low, max: high });
    this.listen();
    this.run();
  }

  get last() {
    return this.walk.length - 1;
  }

  /** Set a field; a number that is being typed stays as it is typed. @param {string} name @param {unknown} value */
  set(name, value) {
    const field = this.field(name);
    if (field.type !== "number" || field.value === "" || Number(field.value) !== value) field.value = value;
  }

  /** Bring the form to the setup. */
  fill() {
    const { setup, chosen } = this;
    const numbers = setup.bumps.map((_, i) => new Option(`bump ${i + 1}`, String(i)));
    this.field("chosen").replaceChildren(...numbers);
    this.field("told").replaceChildren(new Option("nothing", ""), ...numbers.map((option) => option.cloneNode(true)));
    for (const [name, value] of Object.entries(setup)) if (this.field(name)) this.set(name, value);
    this.field("trails").checked = setup.trails;
    const { mean, weight, std } = setup.bumps[chosen];
    const bump = { chosen, bumpX: mean[0], bumpY: mean[1], bumpWeight: weight, bumpStd: std };
    for (const [name, value] of Object.entries(bump)) this.set(name, value);
    const shape = Object.entries(SHAPES).find(([, { bumps }]) => JSON.stringify(bumps) === JSON.stringify(setup.bumps));
    this.field("shape").value = shape?.[0] ?? "";
    this.button("add").disabled = setup.bumps.length === MOST_BUMPS;
    this.button("remove").disabled = setup.bumps.length === 1;
    const chain = setup.sampler === "langevin";
    for (const name of ["schedule", "spacing"]) this.field(name).disabled = chain;
    const has = (/** @type {string} */ knob) => !chain && SAMPLERS[setup.sampler].knobs.includes(knob);
    const knobs = { eta: has("eta"), lambda: has("lambda"), stepSize: has("stepSize") };
    this.reveal({ ...knobs, delta: chain, weight: !chain && setup.told !== "" });
    this.label();
    this.root.querySelector("pre")?.replaceChildren(pythonOf(setup));
  }

  /** @param {number} index */
  goTo(index) {
    this.moved = true;
    super.goTo(index);
  }

  play() {
    this.moved = true;
    super.play();
  }

  /** Walk as the setup says, once a frame at most; what is shown then is the end, or the state that was shown. */
  run() {
    this.stop();
    this.moved = false;
    this.fill();
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.walkNow());
  }

  async walkNow() {
    const asked = ++this.asked;
    const { setup } = this;
    try {
      const { walk, calls } = await walked(setup, () => asked !== this.asked);
      if (asked !== this.asked) return; // the setup has changed meanwhile
      const stays = (this.held || this.moved) && this.shown < this.last; // at a state on the way, which the reader looks at
      [this.walk, this.calls] = [walk, calls];
      this.measure();
      this.show(stays ? Math.min(this.shown, this.last) : this.last);
    } catch (error) {
      if (asked !== this.asked) return;
      this.stop();
      [this.walk, this.shown] = [[], 0];
      this.state = `No walk: ${error instanceof Error ? error.message : error}.${this.rest()}`;
      this.place(0, this.state);
      this.say(this.state);
      this.canvas.setAttribute("aria-label", this.state);
      this.draw();
    }
  }

  /** What of a link was not understood, if anything. */
  rest() {
    return this.ignored.length ? ` · not understood in the link: ${this.ignored.join(", ")}` : "";
  }

  /** How far the end is from the density; not while a bump is dragged, as that takes a moment. */
  measure() {
    this.end = "";
    if (this.held || !this.walk.length) return;
    const { setup } = this;
    const { x } = this.walk[this.last];
    const { distance, floor } = distanceTo(setup, x);
    const [near, far] = floor.map((value) => value.toFixed(2));
    const density = setup.told === "" ? "the density" : `bump ${Number(setup.told) + 1}`;
    this.end = ` · the end is ${distance.toFixed(3)} from ${density} (true points: ${near} to ${far})`;
    if (setup.told !== "" || setup.bumps.length === 1) return;
    const total = setup.bumps.reduce((sum, { weight }) => sum + weight, 0);
    const percent = (/** @type {number[]} */ shares) => shares.map((share) => Math.round(100 * share)).join(", ");
    const weights = percent(setup.bumps.map(({ weight }) => weight / total));
    const shares = percent(sharesOf(setup.bumps, x));
    this.end += ` · nearest to the bumps are ${shares}\u00a0% of the points (weights: ${weights}\u00a0%)`;
  }

  /** @param {number} index */
  show(index) {
    super.show(index);
    const { t } = this.walk[index];
    const { sampler, schedule } = this.setup;
    const { T } = SCHEDULES[schedule];
    const sigma = t === T ? "noise alone" : `σ = ${Number(SCHEDULES[schedule].sigma(t).toPrecision(2))}`;
    const place = sampler === "langevin" ? "no noise" : `t = ${rounded(t, 1)}, ${sigma}`;
    const state = `state ${index} of ${this.last} (${place})`;
    this.place(index, state);
    this.state = `${state} · ${this.calls} call${this.calls === 1 ? "" : "s"}${this.end}${this.rest()}`;
    this.say(this.state);
    const what = `${this.setup.points} points over the density that they should have: ${state}`;
    this.canvas.setAttribute("aria-label", what);
    this.draw();
  }

  /** A bump's circle at a time. @param {Bump} bump @param {number} t */
  circle({ mean, std }, t) {
    const [signal, noise] = SCHEDULES[this.setup.schedule].signalAndNoise(t);
    return { x: signal * mean[0], y: signal * mean[1], radius: Math.hypot(signal * std, noise) };
  }

  /** The density at the state's time, the ways that points have gone, and the points; the density alone without a walk. */
  draw() {
    const pen = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    const style = getComputedStyle(this.root);
    const half = this.canvas.width / 2;
    const place = (/** @type {number} */ value) => (value / REACH + 1) * half;
    const { x, t } = this.walk[this.shown] ?? { x: new Float64Array(0), t: 0 };
    pen.clearRect(0, 0, 2 * half, 2 * half);
    this.drawDensity(pen, t, style.getPropertyValue("--lab-density"));
    if (this.setup.trails) {
      pen.strokeStyle = style.getPropertyValue("--lab-trail");
      pen.lineWidth = 1;
      pen.globalAlpha = Math.min(1, 60 / this.shown); // the trails of long walks lie one on another
      pen.beginPath();
      for (let i = 0; i < Math.min(x.length, 2 * TRAILS); i += 2) {
        this.walk.slice(0, this.shown + 1).forEach((step, k) => {
          pen[k ? "lineTo" : "moveTo"](place(step.x[i]), place(-step.x[i + 1]));
        });
      }
      pen.stroke();
      pen.globalAlpha = 1;
    }
    pen.fillStyle = style.getPropertyValue("--lab-point");
    for (let i = 0; i < x.length; i += 2) pen.fillRect(place(x[i]) - 1.5, place(-x[i + 1]) - 1.5, 3, 3);
    pen.strokeStyle = style.getPropertyValue("--lab-bump");
    this.setup.bumps.forEach((bump, i) => {
      pen.lineWidth = i === this.chosen ? 4 : 2;
      for (const time of t ? [t, 0] : [0]) {
        const { x, y, radius } = this.circle(bump, time);
        pen.setLineDash(t && !time ? [4, 6] : []); // where the bump will be, and can be dragged
        pen.beginPath();
        pen.arc(place(x), place(-y), (radius / REACH) * half, 0, 2 * Math.PI);
        pen.stroke();
      }
    });
    pen.setLineDash([]);
  }

  /**
   * The density at a time as a wash of a colour; its root, so that low parts show.
   * @param {CanvasRenderingContext2D} pen
   * @param {number} t
   * @param {string} colour
   */
  drawDensity(pen, t, colour) {
    const bumps = modelOf(this.setup).target.at(t);
    const middle = (/** @type {number} */ i) => ((i + 0.5) / CELLS) * 2 * REACH - REACH;
    const logs = Array.from({ length: CELLS ** 2 }, (_, i) => {
      return GaussianMixture.shares(bumps, middle(i % CELLS), -middle(Math.floor(i / CELLS))).logDensity;
    });
    const highest = logs.reduce((most, log) => Math.max(most, log), -Infinity);
    const wash = new ImageData(CELLS, CELLS);
    logs.forEach((log, i) => (wash.data[4 * i + 3] = 255 * Math.exp((log - highest) / 2)));
    const small = Object.assign(document.createElement("canvas"), { width: CELLS, height: CELLS });
    const brush = /** @type {CanvasRenderingContext2D} */ (small.getContext("2d"));
    brush.putImageData(wash, 0, 0);
    brush.globalCompositeOperation = "source-in";
    brush.fillStyle = colour;
    brush.fillRect(0, 0, CELLS, CELLS);
    pen.drawImage(small, 0, 0, this.canvas.width, this.canvas.height);
  }

  listen() {
    this.form.addEventListener("input", (event) => this.changed(/** @type {HTMLInputElement} */ (event.target)));
    this.form.addEventListener("change", () => this.fill()); // once `refuse` has spoken, a number is as it was
    this.on("add", () => {
      this.chosen = this.setup.bumps.length;
      this.change({ bumps: [...this.setup.bumps, newBump(this.setup.bumps)] });
    });
    this.on("remove", () => {
      const bumps = this.setup.bumps.filter((_, i) => i !== this.chosen);
      this.chosen = 0;
      this.change({ bumps, told: "" });
    });
    this.on("link", () => this.copyLink(`${linkOf(this.setup)}#plane`, `${this.state} · the link is copied`));
    this.on("afresh", () => {
      this.chosen = 0;
      this.ignored = [];
      this.change(FIRST);
      if (location.search && !isLinkOfGarments) history.replaceState(null, "", location.pathname); // a link that was followed is left
    });
    this.canvas.addEventListener("pointerdown", (event) => this.grab(event));
    this.canvas.addEventListener("pointermove", (event) => this.drag(event));
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) this.canvas.addEventListener(end, () => this.drop());
    // a finger on a bump drags it, and elsewhere it scrolls the page
    const hold = (/** @type {TouchEvent} */ event) => {
      if (this.bumpUnder(event.touches[0]) >= 0) event.preventDefault();
    };
    this.canvas.addEventListener("touchstart", hold, { passive: false });
    new MutationObserver(() => this.draw()).observe(document.documentElement, {
      attributeFilter: ["data-theme"],
    });
  }

  /** Change the setup, and walk anew. @param {Partial<Setup>} change */
  change(change) {
    this.setup = { ...this.setup, ...change };
    this.run();
  }

  /** Change the chosen bump; what is no bump is not taken. @param {Partial<Bump>} change */
  changeBump(change) {
    const changed = { ...this.setup.bumps[this.chosen], ...change };
    if (isBump(changed)) this.change({ bumps: this.setup.bumps.map((old, i) => (i === this.chosen ? changed : old)) });
  }

  /** A field of the form has changed. @param {HTMLInputElement} field */
  changed({ name, value, checked }) {
    if (value === "" && ["seed", "bumpX", "bumpY"].includes(name)) return; // a number that is being typed
    const number = Number(value);
    const [x, y] = this.setup.bumps[this.chosen].mean;
    /** @type {Record<string, () => void>} */
    const jobs = {
      shape: () => {
        this.chosen = 0;
        if (value) this.change({ bumps: SHAPES[value].bumps, told: "" });
      },
      chosen: () => {
        this.chosen = number;
        this.fill();
        this.draw();
      },
      bumpX: () => this.changeBump({ mean: [rounded(number, 3), y] }),
      bumpY: () => this.changeBump({ mean: [x, rounded(number, 3)] }),
      bumpWeight: () => this.changeBump({ weight: number }),
      bumpStd: () => this.changeBump({ std: number }),
      trails: () => this.change({ trails: checked }),
    };
    if (name in jobs) jobs[name]();
    else if (name in CHOICES) this.change({ [name]: value });
    else if (isLegal(name, number)) this.change({ [name]: number });
  }

  /** Where in the plane the pointer is. @param {Place} place */
  under({ clientX, clientY }) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [((clientX - left) / width) * 2 * REACH - REACH, REACH - ((clientY - top) / height) * 2 * REACH];
  }

  /** The number of the bump under the pointer, or a little beside it; -1 where there is none. @param {Place} place */
  bumpUnder(place) {
    const [x, y] = this.under(place);
    const far = this.setup.bumps.map((bump) => {
      const circle = this.circle(bump, 0);
      return Math.hypot(x - circle.x, y - circle.y) - circle.radius;
    });
    const nearest = far.indexOf(Math.min(...far));
    return far[nearest] < 0.3 ? nearest : -1;
  }

  /** @param {PointerEvent} event */
  grab(event) {
    if (event.button !== 0 || !event.isPrimary) return; // a right click, or a second finger
    const nearest = this.bumpUnder(event);
    if (nearest < 0) return;
    this.chosen = nearest;
    const [x, y] = this.under(event);
    const circle = this.circle(this.setup.bumps[nearest], 0);
    this.held = [x - circle.x, y - circle.y];
    this.canvas.setPointerCapture(event.pointerId);
    this.fill();
    this.draw();
  }

  /** @param {PointerEvent} event */
  drag(event) {
    if (!this.held || !event.isPrimary) return;
    if (!event.buttons) return this.drop(); // it was let go where nothing told of it
    const [x, y] = this.under(event);
    const within = (/** @type {number} */ value) => rounded(Math.max(-3, Math.min(3, value)), 2);
    this.changeBump({ mean: [within(x - this.held[0]), within(y - this.held[1])] });
  }

  drop() {
    if (!this.held) return;
    this.held = null;
    this.run();
  }
}

new PlaneBench(/** @type {HTMLElement} */ (document.querySelector(".lab-plane")));
