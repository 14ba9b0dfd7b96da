// @ts-check
// Starts a chapter's deck once its formulas are typeset. With ?short it is a talk of twenty minutes.

if (/[?&]short\b/.test(location.search)) {
  for (const slide of document.querySelectorAll("section.extra")) slide.remove();
}

Promise.resolve(window["MathJax"]?.startup?.promise).then(() =>
  window["Reveal"].initialize({
    width: 1280,
    height: 720,
    margin: 0.03,
    hash: true,
    controlsTutorial: false,
    slideNumber: "c/t",
    transition: "none",
    plugins: [window["RevealNotes"]],
  }),
);
