"use strict";
// Sorting by a click on a column's head; what cells sort by stands in data-sort, else it is their text.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
      const rows = [...body.rows];
      rows.sort((a, b) => (up ? 1 : -1) * key(a).localeCompare(key(b), undefined, { numeric: true }));
      body.append(...rows);
    });
  });
}
// Filtering: a row stays when it has every word that was typed, and the chosen value.
for (const tools of document.querySelectorAll(".tools")) {
  const table = document.getElementById(tools.dataset.table);
  const text = tools.querySelector("input"), choice = tools.querySelector("select"), told = tools.querySelector("output");
  const filter = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const content = row.textContent.toLowerCase();
      const fits = words.every((word) => content.includes(word)) && (!choice || !choice.value || row.dataset.choice === choice.value);
      row.hidden = !fits;
      shown += fits;
    }
    told.textContent = `${shown} of ${table.tBodies[0].rows.length} shown`;
  };
  text.addEventListener("input", filter);
  if (choice) choice.addEventListener("change", filter);
  tools.hidden = false;
  filter();
}
// Paper cannot be unfolded.
window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => (one.open = true)));
