"use strict";
// Confusion pairs, insertions, deletions, words and speakers of the utterances that are shown; a click filters by a row.
const tables = (() => {
  const MOST = 200; // rows at first
  const KINDS = {
    pairs: "confusions", insertions: "insertions", deletions: "deletions", words: "words", speakers: "speakers",
  };
  const make = alignment.make;
  const holder = document.getElementById("table");
  let kind = "pairs";
  let system = 0;
  let chosen = [];
  let most = MOST;
  let choose = () => {};

  const byCount = (a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1);
  const rate = (value) => (value === null ? "–" : value.toFixed(1));

  // A row: its cells, and the filter that it stands for.
  function listRows() {
    if (kind === "speakers") return listSpeakers();
    if (kind === "words") return listWords();
    const counted = store.systems.map((_, number) => store.countErrors(chosen, number, kind));
    const names = new Set(counted.flatMap((table) => [...table.keys()]));
    const total = (name) => counted.reduce((sum, table) => sum + (table.get(name) ?? 0), 0);
    return [...names].map((name) => [name, total(name)]).sort(byCount).map(([name]) => ({
      cells: [...(kind === "pairs" ? name.split(" ") : [name]), ...counted.map((table) => table.get(name) ?? 0)],
      filter: { kind, name },
    }));
  }

  function listWords() {
    const words = store.countWords(chosen, system);
    const wrong = (entry) => entry.substituted + entry.deleted + entry.inserted + entry.falsely;
    return [...words].map(([word, entry]) => [word, wrong(entry), entry]).sort(byCount).map(([word, errors, entry]) => ({
      cells: [word, errors, entry.right, entry.right + entry.substituted + entry.deleted,
        entry.right + entry.inserted + entry.falsely],
      filter: { kind: "words", name: word },
    }));
  }

  function listSpeakers() {
    const speakers = new Map();
    for (const index of chosen) {
      const speaker = store.data.speaker[index];
      if (!speakers.has(speaker)) speakers.set(speaker, []);
      speakers.get(speaker).push(index);
    }
    const rows = [...speakers].map(([speaker, indices]) => {
      const sums = store.systems.map((_, number) => store.sum(indices, number));
      return { speaker, indices, sums };
    });
    rows.sort((a, b) => (b.sums[0].wer ?? -1) - (a.sums[0].wer ?? -1));
    return rows.map(({ speaker, indices, sums }) => ({
      cells: [store.data.speakers[speaker] || "unknown", indices.length, ...sums.map((sum) => sum.N).slice(0, 1),
        ...sums.map((sum) => rate(sum.wer))],
      filter: { kind: "speakers", name: speaker },
    }));
  }

  function listHeads() {
    const { systems } = store;
    if (kind === "pairs") return ["reference", "hypothesis", ...systems];
    if (kind === "words") return ["word", "errors", "right", "in ref", "in hyp"];
    if (kind === "speakers") return ["speaker", "utts", "N", ...systems.map((letter) => `WER ${letter}`)];
    return ["word", ...systems];
  }

  function draw() {
    const rows = listRows();
    const table = make("table");
    const texts = kind === "pairs" ? 2 : 1;
    const head = table.createTHead().insertRow();
    listHeads().forEach((name, column) => head.append(make("th", column < texts ? "" : "number", name)));
    const body = table.createTBody();
    for (const { cells, filter } of rows.slice(0, most)) {
      const row = body.insertRow();
      row.tabIndex = 0;
      row.title = "show these utterances alone";
      cells.forEach((cell, column) => {
        const place = row.insertCell();
        if (column < texts) place.append(make("bdi", "", cell));
        else Object.assign(place, { className: "number", textContent: cell });
      });
      row.addEventListener("click", () => choose(filter));
      row.addEventListener("keydown", (event) => event.key === "Enter" && choose(filter));
    }
    holder.replaceChildren(table);
    if (!rows.length) holder.append(make("p", "quiet", "none in what is shown"));
    if (rows.length > most) {
      const more = make("button", "", `show more (${(rows.length - most).toLocaleString("en")} are left)`);
      more.addEventListener("click", () => { most += 5 * MOST; draw(); });
      holder.append(more);
    }
    drawChoice();
  }

  // Of which system the words are counted; the other tables have all systems side by side.
  function drawChoice() {
    const place = document.getElementById("system-choice");
    place.replaceChildren();
    if (kind !== "words" || store.systems.length < 2) return;
    const select = make("select");
    store.systems.forEach((letter, number) => select.add(new Option(letter, number, false, number === system)));
    select.addEventListener("change", () => { system = Number(select.value); draw(); });
    const label = make("label", "", "words of ");
    label.append(select);
    place.append(label);
  }

  function setup(onChoose) {
    choose = onChoose;
    const tabs = document.getElementById("tabs");
    for (const [name, text] of Object.entries(KINDS)) {
      const tab = make("button", "", text);
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-selected", name === kind);
      tab.addEventListener("click", () => {
        for (const other of tabs.children) other.setAttribute("aria-selected", other === tab);
        [kind, most] = [name, MOST];
        draw();
      });
      tabs.append(tab);
    }
  }

  let timer = 0;
  function show(indices) {
    chosen = indices;
    most = MOST;
    clearTimeout(timer);
    if (indices.length < 5000) draw();
    else timer = setTimeout(draw, 50); // after the list, which is looked at first
  }

  return { setup, show };
})();
