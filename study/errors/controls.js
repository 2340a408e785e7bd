"use strict";
// Filters, order, what is found, and CSV of it.
const controls = (() => {
  const data = page.data;
  const { make } = alignment;
  const element = (id) => document.getElementById(id);
  const value = (id) => element(id).value;
  const two = store.systems.length > 1;
  const [first, second] = store.systems;
  let descending = true;
  let picked = null; // a row of the tables: {kind, name}

  const anyErrors = (index) => store.present(index).some((system) => store.errors(index, system));
  const SHOW = {
    all: ["all utterances", () => true],
    wrong: [two ? "with errors in some system" : "with errors", anyErrors],
    ...(two && {
      differ: ["where systems differ", (index) => new Set(data.codes.map((codes) => codes[index])).size > 1],
      second: [`${second} better than ${first}`, (index) => (store.difference(index) ?? 0) > 0],
      first: [`${first} better than ${second}`, (index) => (store.difference(index) ?? 0) < 0],
      missing: ["some system lacks", (index) => store.present(index).length < store.systems.length],
    }),
  };
  const text = (names, places) => (index) => names[places[index]];
  const sumOfErrors = (index) => store.present(index).reduce((sum, system) => sum + store.errors(index, system), 0);
  const SORT = {
    order: ["order of the files", (index) => index],
    ...Object.fromEntries(store.systems.map((letter, system) => [`wer${system}`, [`WER ${letter}`, (index) => store.wer(index, system)]])),
    ...(two && {
      difference: [`WER ${first} − ${second}`, (index) => store.difference(index)],
      size: ["size of the difference", (index) => { const d = store.difference(index); return d === null ? null : Math.abs(d); }],
    }),
    errors: ["errors", sumOfErrors],
    words: ["words", (index) => store.words[index]],
    seconds: ["seconds", (index) => data.seconds[index]],
    speaker: ["speaker", text(data.speakers, data.speaker)],
    set: ["set", text(data.sets, data.set)],
    id: ["id", (index) => data.ids[index]],
  };

  function fill(id, options) {
    for (const [key, name] of options) element(id).add(new Option(name, key));
  }

  // Whether the words stand in a text, one after the other.
  const holds = (words, query) => ` ${words} `.includes(` ${query} `);
  const clean = (query) => query.trim().replace(/\s+/g, " ");

  function makeSearch() {
    const query = clean(value("query"));
    const where = value("where");
    if (!query) return () => true;
    const small = query.toLowerCase();
    if (where === "id") return (index) => data.ids[index].toLowerCase().includes(small);
    const inReference = (index) => holds(data.reference[index].toLowerCase(), small);
    const inHypothesis = (index) =>
      store.present(index).some((system) => holds(store.hypothesis(index, system).toLowerCase(), small));
    if (where === "reference") return inReference;
    if (where === "hypothesis") return inHypothesis;
    if (where === "any") return (index) => inReference(index) || inHypothesis(index);
    return hasError((letter, ours, theirs) => ours.toLowerCase() === small || theirs.toLowerCase() === small);
  }

  // A test of utterances: whether a wrong word of some system passes this test.
  function hasError(test) {
    return (index) => {
      let found = false;
      for (const system of store.present(index)) {
        store.eachError(index, system, (letter, ours, theirs) => { found ||= test(letter, ours, theirs); });
      }
      return found;
    };
  }

  function makePicked() {
    if (!picked) return () => true;
    const { kind, name } = picked;
    return hasError({
      pairs: (letter, ours, theirs) => letter === "S" && `${ours} ${theirs}` === name,
      insertions: (letter, ours, theirs) => letter === "I" && theirs === name,
      deletions: (letter, ours) => letter === "D" && ours === name,
      words: (letter, ours, theirs) => ours === name || theirs === name,
    }[kind]);
  }

  function select() {
    const [set, speaker, isShown] = [value("set"), value("speaker"), SHOW[value("show")][1]];
    const [isFound, isPicked] = [makeSearch(), makePicked()];
    return store.indices.filter((index) =>
      (set === "" || data.set[index] === Number(set)) && (speaker === "" || data.speaker[index] === Number(speaker))
      && isShown(index) && isFound(index) && isPicked(index));
  }

  function sort(indices) {
    const key = SORT[value("sort")][1];
    const keys = new Map(indices.map((index) => [index, key(index)]));
    const sign = descending ? -1 : 1;
    return indices.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if (x === null || y === null) return (x === null) - (y === null) || a - b; // what has no figure comes last
      if (x === y) return a - b;
      return sign * (typeof x === "string" ? (x < y ? -1 : 1) : x - y);
    });
  }

  function describe(indices) {
    const parts = store.systems.map((letter, system) => {
      const sum = store.sum(indices, system);
      const [S, D, I, N] = ["S", "D", "I", "N"].map((name) => sum[name].toLocaleString("en"));
      const rate = sum.wer === null ? "no WER" : `${sum.wer.toFixed(2)} %`;
      return `${letter} ${rate} (${S} S, ${D} D, ${I} I of ${N} words)`;
    });
    const of = indices.length === store.size ? "" : ` of ${store.size.toLocaleString("en")}`;
    const found = element("found");
    found.replaceChildren(make("b", "", `${indices.length.toLocaleString("en")}${of} utterances: `), parts.join("; "), " ");
    if (picked) found.append(makeChip());
  }

  function makeChip() {
    const names = { pairs: "confusion", insertions: "insertion", deletions: "deletion", words: "wrong word" };
    const chip = make("button", "chip", `${names[picked.kind]}: ${picked.name.replace(" ", " → ")} ×`);
    chip.title = "drop this filter";
    chip.addEventListener("click", () => { picked = null; apply(); });
    return chip;
  }

  function apply() {
    const isText = ["speaker", "set", "id", "order"].includes(value("sort"));
    element("direction").textContent = descending ? (isText ? "↓ last first" : "↓ highest first") : isText ? "↑ first first" : "↑ lowest first";
    const indices = sort(select());
    const query = value("where") === "id" ? "" : clean(value("query"));
    const words = [...(query ? [query, ...query.split(" ")] : []), ...(picked ? picked.name.split(" ") : [])];
    list.show(indices, { form: value("form"), wanted: words.length ? new Set(words) : null });
    tables.show(indices);
    describe(indices);
    element("list").dataset.ready = "yes";
  }

  function choose(filter) {
    if (filter.kind === "speakers") element("speaker").value = String(filter.name);
    else picked = filter;
    apply();
  }

  function makeCsv(indices) {
    const quote = (cell) => (/[",\n]/.test(cell) ? `"${String(cell).replaceAll('"', '""')}"` : String(cell));
    const fixed = (number) => (number === null ? "" : number.toFixed(2));
    const lines = indices.map((index) => {
      const cells = [data.ids[index], data.sets[data.set[index]], data.speakers[data.speaker[index]],
        fixed(data.seconds[index]), store.words[index], data.reference[index]];
      store.systems.forEach((_, system) => {
        if (store.isMissing(index, system)) return cells.push("", "", "", "", "", "");
        cells.push(store.hypothesis(index, system), store.letters(index, system), ...store.counts(index, system),
          fixed(store.wer(index, system)));
      });
      return two ? [...cells, fixed(store.difference(index))] : cells;
    });
    return [data.columns, ...lines].map((cells) => cells.map(quote).join(",") + "\n").join("");
  }

  function saveCsv() {
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([makeCsv(list.rows())], { type: "text/csv" }));
    link.download = "errors.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function clear() {
    element("query").value = "";
    for (const id of ["where", "set", "speaker", "show"]) element(id).selectedIndex = 0;
    picked = null;
    apply();
  }

  let timer = 0;
  fill("set", [["", "all"], ...data.sets.entries()]);
  fill("speaker", [["", "all"], ...[...data.speakers.entries()].map(([key, name]) => [key, name || "unknown"])]);
  fill("show", Object.entries(SHOW).map(([key, [name]]) => [key, name]));
  fill("sort", Object.entries(SORT).map(([key, [name]]) => [key, name]));
  element("sort").value = two ? "size" : "wer0";
  element("form").value = two ? "step" : "line";
  for (const id of ["where", "set", "speaker", "show", "sort", "form"]) element(id).addEventListener("change", apply);
  element("query").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(apply, 150); });
  element("direction").addEventListener("click", () => { descending = !descending; apply(); });
  element("csv").addEventListener("click", saveCsv);
  element("clear").addEventListener("click", clear);
  alignment.drawLegend(element("legend"));
  tables.setup(choose);
  apply();
  return { apply, makeCsv };
})();
