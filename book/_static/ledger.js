// The ledger's filter: by words, verdict and chapter. Without scripts the whole tables stand there.
document.addEventListener("DOMContentLoaded", () => {
  const tables = [...document.querySelectorAll("table.ledger")];
  if (!tables.length) return;
  const rows = tables.flatMap((table) => [...table.tBodies[0].rows]);
  const headings = [...tables[0].tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  for (const row of rows) {
    row.dataset.verdict = row.cells[1].textContent.trim();
    row.dataset.chapter = row.cells[0].textContent.match(/\(chapter (\d+)\)/)[1];
    [...row.cells].forEach((cell, i) => (cell.dataset.heading = headings[i]));
  }

  const chapters = [...new Set(rows.map((row) => row.dataset.chapter))];

  const form = document.createElement("form");
  form.className = "ledger-filter";
  form.setAttribute("role", "search");
  form.innerHTML = `
    <label>Words <input type="search" name="words" placeholder="DDIM, bound, noise ..." autocomplete="off"></label>
    <label>Verdict <select name="verdict">
      <option value="">all</option><option>holds</option><option>holds when</option><option>corrected</option>
    </select></label>
    <label>Chapter <select name="chapter">
      <option value="">all</option>${chapters.map((number) => `<option>${number}</option>`).join("")}
    </select></label>
    <output aria-live="polite"></output>`;
  tables[0].closest("section").before(form);

  const asked = new URLSearchParams(location.search);
  for (const name of ["words", "verdict", "chapter"]) form.elements[name].value = asked.get(name) ?? "";

  function filter() {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const { verdict, chapter } = form.elements;
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(
        words.every((word) => text.includes(word)) &&
        (!verdict.value || row.dataset.verdict === verdict.value) &&
        (!chapter.value || row.dataset.chapter === chapter.value)
      );
      shown += !row.hidden;
    }
    form.querySelector("output").textContent = `${shown} of ${rows.length} claims`;
  }

  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
});
