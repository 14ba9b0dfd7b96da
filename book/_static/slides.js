// @ts-check
// Starts a chapter's deck once its formulas are typeset.

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
