// @ts-check
// Explorers: a strip of pictures, one block a setting, becomes one block and a slider. Without scripts the strip stands.

const BLOCK = 128, GAP = 4, ROW = 32; // pixels of a strip, as ddpm/companion/explorers.py draws it

/** @param {HTMLImageElement} strip */
function makeExplorer(strip) {
  /** @type {{knob: string, settings: string[], rows: string[]}} */
  const { knob, settings, rows } = JSON.parse(strip.dataset.explorer ?? "");
  const explorer = document.createElement("div");
  explorer.className = "explorer";
  explorer.style.setProperty("--explorer-rows", String(rows.length));
  explorer.innerHTML = `<div class="explorer-block"><div class="explorer-rows"></div><div class="explorer-window"></div></div>
    <label><span></span> <input type="range" min="0" max="${settings.length - 1}" value="0"> <output></output></label>`;
  const [block, label] = explorer.children;
  const [names, view] = /** @type {HTMLCollectionOf<HTMLElement>} */ (block.children);
  for (const row of rows) names.append(Object.assign(document.createElement("span"), { textContent: row }));
  strip.replaceWith(explorer);
  view.append(strip);
  view.style.aspectRatio = `${BLOCK} / ${rows.length * ROW}`;
  strip.style.width = `${(100 * (settings.length * (BLOCK + GAP) - GAP)) / BLOCK}%`;
  const [name, slider, now] = /** @type {[HTMLElement, HTMLInputElement, HTMLOutputElement]} */ ([...label.children]);
  name.textContent = knob;
  const show = () => {
    now.value = settings[slider.valueAsNumber];
    slider.setAttribute("aria-valuetext", now.value);
    strip.style.left = `${(-100 * slider.valueAsNumber * (BLOCK + GAP)) / BLOCK}%`;
  };
  slider.addEventListener("input", show);
  show();
}

for (const strip of document.querySelectorAll("img[data-explorer]")) makeExplorer(/** @type {HTMLImageElement} */ (strip));
