// @ts-check
// Starts a chapter's deck once its formulas are typeset. With ?short it is a talk of twenty minutes.

if (/[?&]short\b/.test(location.search)) {
  for (const slide of document.querySelectorAll("section.extra")) slide.remove();
}

/** @type {any} MathJax, reveal.js and its notes, each by a script of its own */
const loaded = window;

const [WIDTH, HEIGHT] = [1280, 720]; // of a slide, in pixels
const FILLED = 655; // of its height, by text: the arrows are below
const SIZES = [30, 27, 24, 21, 18]; // of the text, in pixels

/** Give a slide the largest text with which all of it is seen, and its picture what is left. @param {HTMLElement} slide */
function fit(slide) {
  slide.style.display = "block"; // reveal.js shows only one
  const isCut = (/** @type {Element} */ part) => part.scrollWidth > part.clientWidth;
  for (const size of SIZES) {
    slide.style.fontSize = `${size}px`;
    const cut = [...slide.querySelectorAll(":is(pre, div.math, table):not(.notes *)")].some(isCut);
    if (slide.scrollHeight <= FILLED && !cut) break;
  }
  const picture = slide.querySelector("img");
  if (picture) slide.style.setProperty("--room", `${picture.offsetHeight + HEIGHT - 20 - slide.scrollHeight}px`);
  slide.style.display = "";
}

const typeset = Promise.resolve(loaded.MathJax?.startup?.promise).catch(() => {}); // a deck is better than none
typeset.then(() => {
  const slides = /** @type {HTMLElement} */ (document.querySelector(".slides"));
  slides.style.width = `${WIDTH}px`;
  for (const slide of slides.querySelectorAll("section")) fit(slide);
  loaded.Reveal.initialize({
    width: WIDTH,
    height: HEIGHT,
    margin: 0.03,
    center: false,
    hash: true,
    controlsTutorial: false,
    slideNumber: "c/t",
    transition: "none",
    plugins: [loaded.RevealNotes],
  });
});
