// @ts-check
// Explorers: a strip of pictures, one block a setting, becomes one block and a slider. Without scripts the strip stands.

/** @param {HTMLImageElement} strip */
function makeExplorer(strip) {
  /** @type {{knob: string, settings: string[], rows: string[], line: number, gap: number, block: number[]}} */
  const { knob, settings, rows, line, gap, block } = JSON.parse(strip.dataset.explorer ?? "");
  const [width, height] = block;
  const lines = Math.ceil(settings.length / line);
  const explorer = document.createElement("div");
  explorer.className = "explorer";
  explorer.setAttribute("role", "group");
  explorer.setAttribute("aria-label", `${knob}: pictures at every setting`);
  explorer.innerHTML = `
    <div class="explorer-block"><div class="explorer-rows"></div><div class="explorer-window"></div></div>
    <div class="explorer-knob"><label></label><span class="explorer-setting" aria-hidden="true"></span></div>`;
  /** @param {string} name */
  const part = (name) => /** @type {HTMLElement} */ (explorer.querySelector(name));
  const [names, view, label, setting] = [".explorer-rows", ".explorer-window", "label", ".explorer-setting"].map(part);
  for (const row of rows) names.append(Object.assign(document.createElement("span"), { textContent: row }));
  names.style.gridTemplateRows = `repeat(${rows.length}, 1fr)`;
  const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: settings.length - 1, value: 0 });
  label.append(`${knob} `, slider);
  strip.replaceWith(explorer);
  view.append(strip);
  view.style.aspectRatio = `${width} / ${height}`;
  strip.style.width = `${(100 * (line * (width + gap) - gap)) / width}%`;
  strip.style.height = `${(100 * (lines * (height + gap) - gap)) / height}%`;
  const show = () => {
    const i = slider.valueAsNumber;
    strip.style.left = `${(-100 * (i % line) * (width + gap)) / width}%`;
    strip.style.top = `${(-100 * Math.floor(i / line) * (height + gap)) / height}%`;
    setting.textContent = settings[i];
    slider.setAttribute("aria-valuetext", settings[i]);
  };
  slider.addEventListener("input", show);
  show();
}

for (const strip of document.querySelectorAll("img[data-explorer]")) makeExplorer(/** @type {HTMLImageElement} */ (strip));
