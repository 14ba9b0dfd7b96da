// @ts-check
// What every page does on paper, and for those who read it by keyboard or by ear.

// In the dark theme a printed page would be light grey on white; and a closed box cannot be opened on paper.
const page = document.documentElement;
let theme = page.dataset.theme;
/** @type {HTMLDetailsElement[]} */
let openedToPrint = [];
addEventListener("beforeprint", () => {
  theme = page.dataset.theme;
  page.dataset.theme = "light";
  openedToPrint = [...document.querySelectorAll("details")].filter((fold) => fold.matches(".box:not([open])"));
  for (const box of openedToPrint) box.open = true;
});
addEventListener("afterprint", () => {
  page.dataset.theme = theme;
  for (const box of openedToPrint) box.open = false;
});

// What is scrolled sideways takes the keyboard's focus, as tables do by the theme, if nothing in it does.
const scrolled = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.setAttribute("tabindex", "0");
    else target.removeAttribute("tabindex");
  }
});

// So does a formula in a line of text that is wider than the line. The hidden MathML in it makes many others "scroll".
const inline = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const formula = target.querySelector("mjx-math");
    const isWide = !!formula && formula.getBoundingClientRect().width > target.getBoundingClientRect().width + 1;
    target.classList.toggle("wide", isWide);
    if (isWide) target.setAttribute("tabindex", "0");
    else target.removeAttribute("tabindex");
  }
});

addEventListener("load", async () => {
  for (const part of document.querySelectorAll("main div.math, main figure:not(:has(a))")) scrolled.observe(part);
  await /** @type {any} */ (window).MathJax?.startup?.promise;
  for (const formula of document.querySelectorAll("main span.math")) inline.observe(formula);
});
