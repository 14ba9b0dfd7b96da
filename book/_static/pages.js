// @ts-check
// What every page does on paper, and for those who read it by keyboard or by ear.

// In the dark theme a printed page would be light grey on white.
const page = document.documentElement;
let theme = page.dataset.theme;
addEventListener("beforeprint", () => {
  theme = page.dataset.theme;
  page.dataset.theme = "light";
});
addEventListener("afterprint", () => {
  page.dataset.theme = theme;
});

// What is scrolled sideways takes the keyboard's focus, as tables do by the theme, if nothing in it does.
const scrolled = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.setAttribute("tabindex", "0");
    else target.removeAttribute("tabindex");
  }
});

addEventListener("load", () => {
  for (const part of document.querySelectorAll("main div.math, main figure:not(:has(a))")) scrolled.observe(part);
  // The button of a box is called like the box, since all of them would be "Toggle hidden content".
  for (const button of document.querySelectorAll(".admonition-title > .toggle-button")) {
    button.setAttribute("aria-label", button.parentElement?.textContent?.trim() ?? "");
  }
});
