"use strict";
// Which page is shown, sorting, filtering and downloads. The report says everything without this.

const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));

// ---- pages -----------------------------------------------------------------------------------------------------

const TITLE = document.title;
const sections = all(".page");
const packed = (page) => page.querySelector(":scope > noscript");

// Most pages come as the text of a <noscript>, which a browser that runs scripts does not parse: a page of a large sweep
// costs nothing before somebody looks at it.
function unpack(page) {
  const text = packed(page);
  if (!text) return;
  text.outerHTML = text.textContent;
  prepare(page);
}

// What the address asks for: an element inside a page, or what a page itself looks up, as in #sample=… .
function asked() {
  let hash = location.hash.slice(1);
  try {
    hash = decodeURIComponent(hash);
  } catch {} // a lone % stands for itself
  const holder = hash && !document.getElementById(hash) && sections.find((page) => packed(page)?.textContent.includes(` id="${hash}"`));
  if (holder) unpack(holder);
  return document.getElementById(hash) ?? (hash.includes("=") ? document.querySelector(`[data-route="${CSS.escape(hash.split("=")[0])}"]`) : null);
}

function show(page) {
  unpack(page);
  for (const section of sections) section.classList.toggle("current", section === page);
  document.documentElement.classList.toggle("inner", page !== sections[0]);
  document.documentElement.classList.remove("routing");
  document.querySelector(".skip").setAttribute("href", `#${page.id}`);
  for (const link of all("nav a")) {
    if (link.hash === `#${page.id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = page === sections[0] ? TITLE : `${page.querySelector("h2").textContent} – ${TITLE}`;
}

function route(moved, top) {
  const target = asked();
  const page = target?.closest(".page") ?? sections[0];
  show(page);
  const inside = target && target !== page && !("route" in target.dataset);
  for (let fold = target?.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  if (moved) {
    const focused = inside ? target : page.querySelector("h2");
    if (inside && target.tabIndex < 0) target.tabIndex = -1;
    focused.focus({ preventScroll: true });
  }
  if (top !== undefined) scrollTo(0, top); // back to where the reader was
  else if (inside) target.scrollIntoView();
  else if (moved) scrollTo(0, 0);
}

history.scrollRestoration = "manual";
document.addEventListener("click", (event) => {
  if (event.target.closest?.('a[href^="#"]')) history.replaceState({ top: scrollY }, "");
});
addEventListener("hashchange", () => route(true, history.state?.top));
addEventListener("beforeprint", () => sections.forEach(unpack));

// ---- colours ---------------------------------------------------------------------------------------------------

const themes = ["system", "light", "dark"];
const theme = document.getElementById("theme");
const chosen = () => document.documentElement.dataset.theme ?? "system";

function name_theme() {
  theme.querySelector("span").textContent = chosen();
}

theme.addEventListener("click", () => {
  const next = themes[(themes.indexOf(chosen()) + 1) % themes.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("lofi-theme", next);
  } catch {} // where storage is forbidden the choice lasts as long as the page
  name_theme();
});
name_theme();

// ---- tables ----------------------------------------------------------------------------------------------------

const plain = (text) => (text === "–" ? "" : text);
const read_back = (text) => plain(text).replaceAll("\u2212", "-").replaceAll("\u00a0", "");

// A cell's value, and its bounds where its column has them: from `data-v`, else from what is read.
function values(cell, th) {
  const stated = cell.dataset.v;
  if ("bounds" in th.dataset) return (stated ?? ",,").split(",");
  const text = cell.textContent.trim();
  return [stated ?? (th.classList.contains("num") ? read_back(text) : plain(text))];
}

const value = (cell) => values(cell, cell.closest("table").tHead.rows[0].cells[cell.cellIndex])[0];

function sortBy(table, column, direction) {
  const [body, th] = [table.tBodies[0], table.tHead.rows[0].cells[column]];
  const numeric = th.classList.contains("num");
  const words = new Intl.Collator("en", { numeric: true });
  const keyed = Array.from(body.rows, (row) => {
    const text = values(row.cells[column], th)[0];
    return { row, empty: text === "", key: numeric ? Number(text) : text };
  });
  keyed.sort((a, b) => {
    if (a.empty || b.empty) return a.empty - b.empty; // what is undefined stays at the end
    return direction * (numeric ? a.key - b.key : words.compare(a.key, b.key));
  });
  body.append(...keyed.map((entry) => entry.row));
  all("th", table.tHead).forEach((other) => {
    if (other === th) other.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    else other.removeAttribute("aria-sort");
  });
}

// What a reader can do on a page, once it is there.
function prepare(page) {
  for (const table of all("table.data", page)) {
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

  for (const input of all("[data-filter]", page)) {
    let texts = null; // of all rows: read once, when the first letter is typed
    input.addEventListener("input", () => {
      const rows = document.getElementById(input.dataset.filter).tBodies[0].rows;
      texts ??= new Map(Array.from(rows, (row) => [row, Array.from(row.cells, (cell) => cell.textContent.trim()).join(" ").toLowerCase()]));
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const [row, text] of texts) row.hidden = !words.every((word) => text.includes(word));
    });
  }
  prepare_downloads(page);
}

// ---- downloads -------------------------------------------------------------------------------------------------

function download(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Rows of texts and numbers; a text that a spreadsheet would run as a formula gets an apostrophe.
function csv(rows) {
  const quote = (entry) => {
    const text = String(entry ?? "");
    const safe = /^[=+\-@\t\r]/.test(text) && !(text.trim() && Number.isFinite(Number(text))) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return rows.map((row) => row.map(quote).join(",") + "\r\n").join("");
}

function rows_of(table) {
  const heads = all("th", table.tHead);
  const names = heads.flatMap((th) => {
    const name = th.querySelector(".label").textContent;
    return "bounds" in th.dataset ? [name, `${name} low`, `${name} high`] : [name];
  });
  return [names, ...Array.from(table.tBodies[0].rows, (row) => Array.from(row.cells).flatMap((cell, i) => values(cell, heads[i])))];
}

function prepare_downloads(page) {
  for (const button of all("[data-csv]", page)) {
    const table = document.getElementById(button.dataset.csv);
    button.addEventListener("click", () => download(`lofi-${table.id}.csv`, "text/csv", csv(rows_of(table))));
  }

  for (const button of all("[data-rows]", page)) {
    button.addEventListener("click", () => {
      const { columns, rows } = JSON.parse(document.getElementById(`data-${button.dataset.rows}`).textContent);
      download(`lofi-${button.dataset.rows}.csv`, "text/csv", csv([columns, ...rows]));
    });
  }

  for (const button of all("[data-svg]", page)) {
    const drawing = document.querySelector(`#${CSS.escape(button.dataset.svg)} svg`);
    const text = () => new XMLSerializer().serializeToString(drawing);
    button.addEventListener("click", () => download(`lofi-${button.dataset.svg}.svg`, "image/svg+xml", text()));
  }

  for (const button of all("[data-copy]", page)) {
    button.addEventListener("click", async () => {
      const code = button.closest(".how").querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(code); // the clipboard may be forbidden: the line is selected instead
      }
    });
  }
}

// ---- the start -------------------------------------------------------------------------------------------------

for (const page of sections) if (!packed(page)) prepare(page);
route(false, history.state?.top);
