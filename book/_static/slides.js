// @ts-check
// Starts a chapter's deck once its formulas are typeset. With ?short it is a talk of twenty minutes.

if (/[?&]short\b/.test(location.search)) {
  for (const slide of document.querySelectorAll("section.extra")) slide.remove();
}

/** @type {any} MathJax, reveal.js and its notes, each by a script of its own */
const loaded = window;

const typeset = Promise.resolve(loaded.MathJax?.startup?.promise).catch(() => {}); // a deck is better than none
typeset.then(() =>
  loaded.Reveal.initialize({
    width: 1280,
    height: 720,
    margin: 0.03,
    hash: true,
    controlsTutorial: false,
    slideNumber: "c/t",
    transition: "none",
    plugins: [loaded.RevealNotes],
  }),
);
