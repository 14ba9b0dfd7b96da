// @ts-check
// What both benches share: a form whose sliders show their numbers, a picture, and a slider over the states of a walk.

/**
 * A slider with its number, which a screen reader need not announce: it reads the slider's own value.
 * @param {string} title
 * @param {string} name
 * @param {string} range the attributes min, max and step
 */
function slider(title, name, range) {
  return `<label data-field="${name}">${title}
    <input type="range" name="${name}" ${range}><output aria-live="off"></output></label>`;
}

const SPACINGS = `<option value="trailing">evenly spaced</option><option value="karras">Karras</option>
  <option value="log_snr">even in log SNR</option>`;

const TRANSPORT = `
  <fieldset class="lab-transport" aria-label="The states of the walk" disabled>
    <button type="button" name="back" aria-label="one state back">◂</button>
    <button type="button" name="play">play</button>
    <button type="button" name="forth" aria-label="one state on">▸</button>
    <button type="button" name="reverse" aria-pressed="false">reversed</button>
    <label>State <input type="range" name="state" min="0" max="0" step="1"></label>
  </fieldset>
  <p class="lab-numbers"></p>
  <p class="lab-heard" role="status"></p>`;

/**
 * What knobs mean, folded: a list of terms and their meaning.
 * @param {Record<string, string>} knobs
 */
function legend(knobs) {
  const items = Object.entries(knobs).map(([name, meaning]) => `<dt>${name}</dt><dd>${meaning}</dd>`);
  return `<details class="lab-legend"><summary>What the knobs mean</summary><dl>${items.join("")}</dl></details>`;
}

/** Whether the page's address holds settings of the garments; they name a network, and the plane's do not. */
const isLinkOfGarments = new URLSearchParams(location.search).has("network");

// A browser does not follow a link to the address where it is, but its settings are wanted back.
document.addEventListener("click", (event) => {
  const link = /** @type {HTMLAnchorElement | null} */ (
    /** @type {Element} */ (event.target).closest(":is(.lab-tries, .lab-asks) a[href^='?']")
  );
  if (!link || link.search !== location.search || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.replaceState(null, "", link.href);
  location.reload();
});

const SECONDS = 4; // that a walk plays
const REST = 400; // milliseconds until what is said is read out
const HEARD = 5000; // and after which it is taken away, else who reads down the page meets it twice

/** A bench in an element of the page. A subclass says how a state looks, `show(index)`, and gives `last`. */
class Bench {
  /**
   * @param {HTMLElement} root
   * @param {string} picture
   * @param {string} form
   */
  constructor(root, picture, form) {
    root.innerHTML = `<div class="lab-picture">${picture}</div>${form}`;
    this.root = root;
    this.form = /** @type {HTMLFormElement} */ (root.querySelector("form"));
    this.form.autocomplete = "off";
    this.canvas = /** @type {HTMLCanvasElement} */ (root.querySelector("canvas"));
    this.transport = /** @type {HTMLFieldSetElement} */ (root.querySelector(".lab-transport"));
    this.states = /** @type {HTMLInputElement} */ (root.querySelector("[name=state]"));
    this.shown = 0; // the number of the state that is shown
    this.forward = true;
    this.playing = 0; // the timer, or 0
    this.resting = 0; // the timer until what is said is read out
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("change", (event) => this.refuse(/** @type {HTMLInputElement} */ (event.target)));
    this.states.addEventListener("input", () => this.goTo(Number(this.states.value)));
    this.on("back", () => this.goTo(this.shown - 1));
    this.on("forth", () => this.goTo(this.shown + 1));
    this.on("play", () => (this.playing ? this.stop() : this.play()));
    this.on("reverse", () => {
      this.forward = !this.forward;
      this.button("reverse").setAttribute("aria-pressed", String(!this.forward));
    });
  }

  /** The number of the last state, -1 before there is any. @returns {number} */
  get last() {
    return -1;
  }

  /** Show a state. @param {number} index */
  show(index) {
    this.shown = index;
  }

  /** A field of the form. @param {string} name @returns {any} */
  field(name) {
    return this.form.elements.namedItem(name);
  }

  /** @param {string} name */
  button(name) {
    return /** @type {HTMLButtonElement} */ (this.root.querySelector(`button[name=${name}]`));
  }

  /** @param {string} name @param {() => void} job */
  on(name, job) {
    this.button(name).addEventListener("click", job);
  }

  /** Write every slider's number beside it, where it has changed. */
  label() {
    for (const range of /** @type {NodeListOf<HTMLInputElement>} */ (this.form.querySelectorAll("[type=range]"))) {
      const output = range.parentElement?.querySelector("output");
      const number = String(rounded(Number(range.value), 3));
      if (output && output.textContent !== number) output.textContent = number;
    }
  }

  /** Show only these of the fields that have a `data-field`. @param {Record<string, boolean>} fields */
  reveal(fields) {
    for (const [name, shown] of Object.entries(fields)) {
      const label = /** @type {HTMLElement} */ (this.form.querySelector(`[data-field=${name}]`));
      label.hidden = !shown;
    }
  }

  /**
   * Say something below the picture; a screen reader hears it when nothing has changed for a moment.
   * @param {string} text
   */
  say(text) {
    this.root.querySelector(".lab-numbers")?.replaceChildren(text);
    clearTimeout(this.resting);
    const heard = this.root.querySelector(".lab-heard");
    this.resting = window.setTimeout(() => {
      heard?.replaceChildren(text);
      this.resting = window.setTimeout(() => heard?.replaceChildren(), HEARD);
    }, REST);
  }

  /**
   * Copy the address of this page with a query, and say so.
   * @param {string} query
   * @param {string} said
   */
  async copyLink(query, said) {
    const link = `${location.href.replace(/[?#].*/, "")}${query}`;
    try {
      await navigator.clipboard.writeText(link);
      this.say(said);
    } catch {
      window.prompt("The link:", link); // where a page may not write to the clipboard
    }
  }

  /** Say so where a number is not legal. @param {HTMLInputElement} field */
  refuse(field) {
    if (field.type !== "number") return;
    const [value, whole] = [Number(field.value), field.step === "1"];
    const inRange = value >= Number(field.min) && value <= Number(field.max);
    if (field.value !== "" && inRange && (!whole || Number.isInteger(value))) return;
    const name = field.parentElement?.firstChild?.textContent?.trim();
    const kind = whole ? "whole numbers " : "";
    this.say(`"${name}" is ${field.value || "empty"}; legal are ${kind}${field.min} to ${field.max}.`);
  }

  /** Bring the slider to a state, and say what it is. @param {number} index @param {string} text */
  place(index, text) {
    this.transport.disabled = this.last < 0;
    this.states.max = String(Math.max(0, this.last));
    this.states.value = String(index);
    this.states.setAttribute("aria-valuetext", text);
  }

  /** Stop playing, and show a state. @param {number} index */
  goTo(index) {
    this.stop();
    if (this.last >= 0) this.show(Math.max(0, Math.min(index, this.last)));
  }

  stop() {
    clearInterval(this.playing);
    this.playing = 0;
    this.button("play").textContent = "play";
  }

  play() {
    const { last } = this;
    if (last < 1) return;
    const end = () => (this.forward ? this.last : 0); // of what is shown by then
    if (this.shown === end()) this.show(this.last - end());
    const stride = Math.max(1, Math.round(last / (SECONDS * 30)));
    const tick = () => {
      this.show(Math.max(0, Math.min(this.shown + (this.forward ? stride : -stride), this.last)));
      if (this.shown === end()) this.stop();
    };
    this.playing = window.setInterval(tick, Math.min(400, (1000 * SECONDS * stride) / last));
    this.button("play").textContent = "pause";
  }
}
