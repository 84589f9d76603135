"use strict";
// Sorting, filtering and downloads. The page says everything without this.
document.documentElement.classList.add("scripted");

const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
const value = (cell) => cell.dataset.v ?? cell.textContent.trim();

function sortBy(table, column, direction) {
  const body = table.tBodies[0];
  const numeric = table.tHead.rows[0].cells[column].classList.contains("num");
  const compare = (a, b) => {
    const [x, y] = [value(a.cells[column]), value(b.cells[column])];
    if (x === "" || y === "") return (x === "") - (y === ""); // what is undefined stays at the end
    const order = numeric ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true });
    return direction * order;
  };
  body.append(...Array.from(body.rows).sort(compare));
  all("th", table.tHead).forEach((th, i) => {
    if (i === column) th.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    else th.removeAttribute("aria-sort");
  });
}

function download(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function csv(table) {
  // A text that a spreadsheet would run as a formula gets an apostrophe.
  const quote = (text, number) => {
    const safe = !number && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const bounded = all("th", table.tHead).map((th) => "bounds" in th.dataset);
  const head = all("th .label", table.tHead).flatMap((label, i) => {
    const name = label.textContent;
    return (bounded[i] ? [name, `${name} low`, `${name} high`] : [name]).map((text) => quote(text, false));
  });
  const rows = Array.from(table.tBodies[0].rows).map((row) =>
    Array.from(row.cells).flatMap((cell, i) => {
      const first = quote(value(cell), cell.classList.contains("num"));
      return bounded[i] ? [first, cell.dataset.low, cell.dataset.high] : [first];
    }).join(",")
  );
  return [head.join(","), ...rows, ""].join("\r\n");
}

for (const table of all("table.data")) {
  all("th", table.tHead).forEach((th, column) => {
    const label = th.querySelector(".label");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "label";
    button.textContent = label.textContent;
    button.title = "Sort by this column";
    label.replaceWith(button);
    button.addEventListener("click", () => {
      const first = th.classList.contains("num") ? -1 : 1; // largest numbers first
      const now = th.getAttribute("aria-sort");
      const flipped = now === (first > 0 ? "ascending" : "descending");
      sortBy(table, column, flipped ? -first : first);
    });
  });
}

for (const input of all("[data-filter]")) {
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of document.getElementById(input.dataset.filter).tBodies[0].rows) {
      const text = Array.from(row.cells, (cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}

for (const button of all("[data-csv]")) {
  const table = document.getElementById(button.dataset.csv);
  button.addEventListener("click", () => download(`lofi-${table.id}.csv`, "text/csv", csv(table)));
}

for (const button of all("[data-svg]")) {
  const drawing = document.querySelector(`#${button.dataset.svg} svg`);
  const text = () => new XMLSerializer().serializeToString(drawing);
  button.addEventListener("click", () => download(`lofi-${button.dataset.svg}.svg`, "image/svg+xml", text()));
}

const filters = document.getElementById("sample-filters");
filters?.addEventListener("submit", (event) => event.preventDefault());
filters?.addEventListener("input", () => {
  const wanted = all("select", filters).filter((select) => select.value);
  let shown = 0;
  for (const sample of all(".sample")) {
    sample.hidden = !wanted.every((select) => sample.dataset[select.name] === select.value);
    shown += !sample.hidden;
  }
  const samples = document.querySelector(".samples");
  samples.classList.toggle("no-overlay", filters.elements.overlay?.checked === false);
  filters.querySelector("output").textContent = `${shown} shown`;
});
