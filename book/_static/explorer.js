// @ts-check
// Explorers: a strip of pictures, one block a setting, becomes one block and a slider. Without scripts the strip stands.

const PACE = 700; // milliseconds a setting is shown when all are played

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
    <div class="explorer-knob"><button type="button">play</button><label></label><span class="explorer-setting" aria-hidden="true"></span></div>`;
  /** @param {string} name */
  const part = (name) => /** @type {HTMLElement} */ (explorer.querySelector(name));
  const [names, view, label, setting] = [".explorer-rows", ".explorer-window", "label", ".explorer-setting"].map(part);
  const button = part("button");
  for (const row of rows) names.append(Object.assign(document.createElement("span"), { textContent: row }));
  names.style.gridTemplateRows = `repeat(${rows.length}, 1fr)`;
  const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: settings.length - 1, value: 0 });
  label.append(`${knob} `, slider);
  view.style.aspectRatio = `${width} / ${height}`;
  const show = () => {
    const i = slider.valueAsNumber;
    strip.style.left = `${(-100 * (i % line) * (width + gap)) / width}%`;
    strip.style.top = `${(-100 * Math.floor(i / line) * (height + gap)) / height}%`;
    setting.textContent = settings[i];
    slider.setAttribute("aria-valuetext", settings[i]);
  };
  const ownStyle = strip.style.cssText;
  const begin = () => {
    strip.replaceWith(explorer);
    view.append(strip);
    strip.style.width = `${(100 * (line * (width + gap) - gap)) / width}%`;
    strip.style.height = `${(100 * (lines * (height + gap) - gap)) / height}%`;
    show();
  };
  let playing = 0; // the timer, or 0
  const stop = () => {
    clearInterval(playing);
    playing = 0;
    button.textContent = "play";
  };
  const play = () => {
    if (slider.valueAsNumber === settings.length - 1) slider.valueAsNumber = 0;
    else slider.stepUp();
    show();
    if (slider.valueAsNumber === settings.length - 1) stop();
  };
  button.addEventListener("click", () => {
    if (playing) return stop();
    button.textContent = "pause";
    playing = window.setInterval(play, PACE);
    play();
  });
  slider.addEventListener("input", () => {
    stop();
    show();
  });
  begin();
  addEventListener("beforeprint", () => {
    explorer.replaceWith(strip); // on paper all settings are seen
    strip.style.cssText = ownStyle;
  });
  addEventListener("afterprint", begin);
}

for (const strip of document.querySelectorAll("img[data-explorer]")) makeExplorer(/** @type {HTMLImageElement} */ (strip));
