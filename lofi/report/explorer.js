"use strict";
// The sample explorer. Its rows come from files beside the page, each loaded when it is first needed; what comes from
// data only ever becomes text, never markup.
for (const root of document.querySelectorAll("#explorer")) {
  const SIZE = 25; // rows of one page
  const { folder, stamp } = root.dataset;
  const find = (selector) => root.querySelector(selector);
  const [form, list, count] = [find("form"), find(".samples"), find("output")];
  const link = () => location.hash.match(/^#sample=([0-9a-f]{12})$/)?.[1] ?? null;
  let [linked, page, turns] = [null, 0, 0]; // the row that a link asks for, the page of rows, calls of `show`

  // ---- files ---------------------------------------------------------------------------------------------------

  const parts = new Map(); // name -> promise of what it holds
  const waiting = new Map(); // name -> what takes it

  window.lofiPart = (name, of, data) => waiting.get(name)?.(of, data);

  function load(name) {
    if (!parts.has(name)) parts.set(name, new Promise((done, failed) => {
      const script = document.createElement("script");
      const lost = () => failed(new Error(`${name}.js of the folder ${folder} is not beside this page. Put the folder there`));
      waiting.set(name, (of, data) => {
        if (of === stamp) done(data);
        else failed(new Error(`The folder ${folder} belongs to another report. Put the one of this report there`));
      });
      script.addEventListener("error", lost);
      script.addEventListener("load", lost); // says nothing where the file has handed its part over
      script.src = `${encodeURIComponent(folder)}/${name}.js`;
      document.head.append(script);
    }));
    return parts.get(name);
  }

  // The fields of one row or question, out of the chunk that holds it.
  async function record(kind, number, chunk) {
    const part = await load(`${kind}-${Math.floor(number / chunk)}`);
    return Object.fromEntries(Object.entries(part).map(([field, column]) => [field, column[number % chunk]]));
  }

  let ready = null; // promise of the index, with filters in place
  const opened = () => (ready ??= load("samples-index").then((index) => {
    for (const [name, names] of index.names) {
      const select = form.elements[name];
      select.append(...names.map((text, code) => new Option(text || "(none)", code)));
      select.closest("label").hidden = names.length < 2;
    }
    return index;
  }));

  // ---- which rows ----------------------------------------------------------------------------------------------

  async function chosen(index) {
    const n = index.question.length;
    if (linked !== null) {
      for (let i = 0; i < n; i++) if (index.ids.startsWith(linked, 12 * i)) return [i];
      return [];
    }
    const wanted = index.names.map(([name], i) => [form.elements[name].value, index.codes[i]]).filter(([code]) => code !== "");
    const [least, most] = ["least", "most"].map((name) => form.elements[name].valueAsNumber);
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const texts = words.length ? await load("samples-search") : null;
    const passes = (i) =>
      wanted.every(([code, codes]) => codes[i] === Number(code)) &&
      (Number.isNaN(least) || (index.margin[i] !== null && index.margin[i] >= least)) &&
      (Number.isNaN(most) || (index.margin[i] !== null && index.margin[i] <= most)) &&
      words.every((word) => texts.rows[i].includes(word) || texts.questions[index.question[i]].includes(word));
    return sorted(index, Array.from({ length: n }, (_, i) => i).filter(passes));
  }

  function sorted(index, rows) {
    const [column, direction] = form.elements.order.value.split(" ");
    if (!column) return rows; // as they were drawn
    const keys = index[column];
    return rows.sort((a, b) => {
      if (keys[a] === null || keys[b] === null) return (keys[a] === null) - (keys[b] === null) || a - b;
      return Number(direction) * (keys[a] - keys[b]) || a - b;
    });
  }

  // ---- how a row looks -----------------------------------------------------------------------------------------

  const digits = (value) => value.toLocaleString("en").replaceAll(",", "\u00a0");
  const decimal = (value, places) => {
    if (value === null) return "–";
    if (value > 0 && value < 10 ** -places) return `<\u00a0${(10 ** -places).toFixed(places)}`;
    return value.toFixed(places).replace("-", "\u2212");
  };
  const percent = (p) => (p < 10 ? "<\u00a00.1\u00a0%" : p > 9990 ? ">\u00a099.9\u00a0%" : `${(p / 100).toFixed(1)}\u00a0%`);

  function make(tag, settings, ...inside) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(settings)) element.setAttribute(name, value);
    element.append(...inside.filter((part) => part !== null));
    return element;
  }

  function answer(name, text, said) {
    const shown = [make("dt", {}, name), make("dd", {}, text ?? "unparsed")];
    return make("div", {}, ...shown, said ? make("dd", { class: "said" }, `said: “${said}”`) : null);
  }

  function probabilities(row, question, options) {
    const bar = (p) => make("td", { style: `--v:${p / 100}` }, percent(p));
    const lines = options.map((option, i) => {
      const right = option === question.right ? make("strong", {}, " (right)") : null;
      return make("tr", {}, make("th", { scope: "row" }, option, right), bar(row.p_full[i]), bar(row.p_reduced[i]));
    });
    const head = ["option", "full", "reduced"].map((name) => make("th", { scope: "col" }, name));
    const held = `Probability over the options, which hold ${percent(row.mass_full)} of all in full, ${percent(row.mass_reduced)} in reduced.`;
    return make("table", { class: "probs" }, make("caption", {}, held), make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...lines));
  }

  const kept = (row) => (row.kept === null ? "merged tokens: none is kept as it was" : `${row.kept} of ${row.tokens} visual tokens kept`);

  // An SVG path over every dropped token, one rectangle for each run within a line of the grid.
  function dropped({ runs, tokens, grid }) {
    const [path, lengths] = [[], [...runs]];
    if (lengths.length % 2 === 0) lengths.push(tokens); // what comes after the last kept token
    for (let i = 0, at = 0; i < lengths.length && at < tokens; at += lengths[i++]) {
      if (i % 2) continue;
      for (let x = at; x < Math.min(at + lengths[i], tokens); ) {
        const end = Math.min(at + lengths[i], tokens, grid * (Math.floor(x / grid) + 1));
        path.push(`M${x % grid} ${Math.floor(x / grid)}h${end - x}v1h${x - end}z`);
        x = end;
      }
    }
    return path.join("");
  }

  function picture(row, question) {
    if (question.image < 0) return null;
    const [width, height] = row.grid ? [row.grid, row.grid] : question.size;
    const draw = (tag, settings) => {
      const shape = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(settings)) shape.setAttribute(name, value);
      return shape;
    };
    const label = `Image of sample ${question.id}; ${kept(row)}`;
    const svg = draw("svg", { class: "thumb", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    const href = `${encodeURIComponent(folder)}/image-${question.image}.jpg`;
    svg.append(draw("image", { href, width, height, preserveAspectRatio: "none" }));
    if (row.runs !== null) svg.append(draw("path", { class: "dropped", d: dropped(row) }));
    return svg;
  }

  function copier(id) {
    const button = make("button", { type: "button", class: "link" }, "copy link");
    button.addEventListener("click", async () => {
      const address = `${location.href.split("#")[0]}#sample=${id}`;
      try {
        await navigator.clipboard.writeText(address);
        button.textContent = "copied";
      } catch {
        location.hash = `sample=${id}`; // the clipboard may be forbidden: the address bar has the link instead
      }
    });
    return button;
  }

  function meta(index, i, row, question, id) {
    const of = Object.fromEntries(index.names.map(([name, names], k) => [name, names[index.codes[k][i]]]));
    const kind = make("span", { class: `kind kind-${of.class.split(/\W/)[0]}` }, of.class);
    const rest = [of.method, `keep ${of.keep}`, `seed ${of.seed}`, of.dataset, of.model, of.category, kept(row)];
    const term = (name, anchor) => make("a", { href: `#def-${anchor}` }, name);
    return make("p", { class: "meta" }, kind, ` ${rest.filter(Boolean).join("; ")}; `,
      term("margin", "margin"), ` ${decimal(index.margin[i], 2)} in full, ${decimal(row.margin, 2)} in reduced; `,
      term("KL", "kl"), ` ${decimal(index.kl[i], 3)}; sample `, make("code", {}, question.id), "; ",
      make("a", { href: `#sample=${id}` }, `row ${id}`), " ", copier(id));
  }

  async function card(index, i) {
    const number = index.question[i];
    const [row, question] = await Promise.all([record("samples", i, index.chunk), record("questions", number, index.chunk)]);
    const id = index.ids.slice(12 * i, 12 * i + 12);
    const options = question.labels.map((label, k) => (label === question.texts[k] ? label : `${label}. ${question.texts[k]}`));
    const asked = question.prompt ? make("details", { class: "prompt" }, make("summary", {}, "prompt"), make("pre", { tabindex: "0" }, question.prompt)) : null;
    const listed = options.length && !row.p_full ? make("p", { class: "options" }, ...options.map((text) => make("span", {}, text))) : null;
    const answers = make("dl", { class: "answers" }, answer("full", row.full, row.full_said),
      answer("reduced", row.reduced, row.reduced_said), answer("right", question.right || "not known", ""));
    const body = make("div", {}, make("h3", { id: `row-${id}` }, question.question), asked, listed, answers,
      row.p_full && row.p_reduced ? probabilities(row, question, options) : null, meta(index, i, row, question, id));
    return make("article", { class: "sample", "aria-labelledby": `row-${id}` }, picture(row, question), body);
  }

  // ---- the page of rows ----------------------------------------------------------------------------------------

  const notice = (text, ...more) => make("p", { class: "fine" }, text, ...more);

  async function show() {
    const turn = ++turns; // a later call overtakes this one while files load
    try {
      const index = await opened();
      const rows = await chosen(index);
      const pages = Math.max(1, Math.ceil(rows.length / SIZE));
      page = Math.min(Math.max(page, 0), pages - 1);
      const cards = await Promise.all(rows.slice(page * SIZE, (page + 1) * SIZE).map((i) => card(index, i)));
      if (turn === turns) place(cards, rows.length, pages, index.question.length);
    } catch (error) {
      if (turn === turns) {
        list.replaceChildren(notice(`${error.message}, or make both again with lofi report.`));
        count.textContent = "no rows";
      }
    }
  }

  function place(cards, rows, pages, all) {
    const back = make("a", { href: "#samples" }, "Show all rows.");
    if (linked !== null) cards.unshift(rows ? notice("The row of this link. ", back) : notice("This report does not hold the row of this link. ", back));
    else if (!rows) cards.push(notice("No row passes these filters."));
    list.replaceChildren(...cards);
    const from = page * SIZE;
    const span = `${digits(from + 1)} to ${digits(Math.min(from + SIZE, rows))} of ${digits(rows)} rows`;
    count.textContent = !rows ? "no rows" : linked !== null ? "1 row, by its link" : rows < all ? `${span} that pass, of ${digits(all)}` : span;
    for (const pager of root.querySelectorAll(".pager")) {
      pager.hidden = pages < 2;
      pager.querySelector("span").textContent = `page ${digits(page + 1)} of ${digits(pages)}`;
      for (const button of pager.querySelectorAll("button")) button.disabled = Number(button.dataset.turn) < 0 ? page === 0 : page === pages - 1;
      if (pager.contains(document.activeElement) && document.activeElement.disabled) list.focus({ preventScroll: true });
    }
  }

  root.addEventListener("click", async (event) => {
    const turn = event.target.closest?.("[data-turn]")?.dataset.turn;
    if (turn === undefined) return;
    page += Number(turn); // the first and last are far away; `show` stays within the pages there are
    await show();
    form.scrollIntoView();
  });
  const filtered = () => {
    if (linked !== null) history.replaceState(null, "", "#samples");
    [linked, page] = [null, 0];
    show();
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filtered)); // the fields are emptied after the event
  form.addEventListener("input", (event) => {
    if (event.target.name === "overlay") list.classList.toggle("no-overlay", !event.target.checked);
    else filtered();
  });
  // Nothing is loaded before the explorer is first seen. A page is shown before its script hears of the new address.
  function follow() {
    const [before, first] = [linked, ready === null && root.offsetParent !== null];
    if (link() !== null || location.hash === "#samples") linked = link(); // another address is of another page
    if (first || linked !== before) {
      page = 0;
      show();
    }
  }
  addEventListener("hashchange", follow);
  follow();
}
