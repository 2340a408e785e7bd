"use strict";
// How an utterance is drawn: a head with its figures, and its alignments, in step or in a line each.
const alignment = (() => {
  const RTL = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/;
  const NAMES = { S: "substitution", I: "insertion", D: "deletion", C: "right" };

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  // A word; marked where the search asks for it.
  function makeWord(className, text, wanted) {
    const element = make("bdi", className);
    if (wanted && wanted.has(text)) element.append(make("mark", "", text));
    else element.textContent = text;
    return element;
  }

  const isRtl = (index) => RTL.test(store.data.reference[index] || store.data.codes.map((codes) => codes[index]).join(" "));

  // (ref→hyp) for a wrong word, with a star for the one that lacks; the word alone where it is right.
  function drawLine(index, system, wanted) {
    const line = make("p", "line");
    line.append(make("span", "letter", store.systems[system]), " ");
    if (store.isMissing(index, system)) {
      line.append(make("i", "quiet", "lacks this utterance"));
      return line;
    }
    const steps = store.steps(index, system);
    if (!steps.some((step) => step[2])) line.append(make("i", "quiet", "(nothing recognised) "));
    for (const [letter, ours, theirs] of steps) {
      if (letter === "C") line.append(makeWord("", ours, wanted), " ");
      else {
        const place = make("span", letter);
        place.title = NAMES[letter];
        place.append("(", ours ? makeWord("ref", ours, wanted) : "*", isRtl(index) ? "←" : "→");
        place.append(theirs ? makeWord("hyp", theirs, wanted) : "*", ")");
        line.append(place, " ");
      }
    }
    return line;
  }

  // Places of the reference, each with what every system has there; insertions stand in places of their own.
  function alignSystems(index) {
    const length = store.words[index];
    const gaps = store.systems.map(() => Array.from({ length: length + 1 }, () => []));
    const places = store.systems.map(() => new Array(length).fill(null));
    for (const system of store.present(index)) {
      let place = 0;
      for (const step of store.steps(index, system)) {
        if (step[0] === "I") gaps[system][place].push(step);
        else places[system][place++] = step;
      }
    }
    const columns = [];
    store.split(store.data.reference[index]).concat([null]).forEach((word, place) => {
      const inserted = Math.max(...gaps.map((gap) => gap[place].length));
      for (let number = 0; number < inserted; number += 1) columns.push(["", gaps.map((gap) => gap[place][number] ?? null)]);
      if (word !== null) columns.push([word, places.map((own) => own[place])]);
    });
    return columns;
  }

  function drawStep(step, wanted) {
    const cell = make("span", step ? step[0] : "");
    if (!step) return cell;
    const [letter, ours, theirs] = step;
    cell.title = NAMES[letter];
    if (letter === "C") cell.append(makeWord("", theirs, wanted));
    else if (letter === "D") cell.append(makeWord("", ours, wanted));
    else cell.append(letter === "I" ? "+" : "→", makeWord("hyp", theirs, wanted));
    return cell;
  }

  function drawSteps(index, wanted) {
    const grid = make("div", "steps");
    const present = store.present(index);
    const names = make("span", "place");
    for (const name of ["ref", ...present.map((system) => store.systems[system])]) names.append(make("span", "head", name));
    grid.append(names);
    for (const [word, steps] of alignSystems(index)) {
      const place = make("span", "place");
      const cell = make("span");
      if (word) cell.append(makeWord("", word, wanted));
      place.append(cell, ...present.map((system) => drawStep(steps[system], wanted)));
      grid.append(place);
    }
    const missing = store.systems.filter((_, system) => store.isMissing(index, system));
    if (missing.length) grid.append(make("i", "quiet", missing.join(", ") + " lacks this utterance"));
    return grid;
  }

  function describeRate(index, system) {
    const letter = store.systems[system];
    if (store.isMissing(index, system)) return `${letter} –`;
    const [s, d, i] = store.counts(index, system);
    const rate = store.wer(index, system);
    const edits = s + d + i ? [[s, "S"], [d, "D"], [i, "I"]].filter(([n]) => n).map(([n, kind]) => `${n} ${kind}`) : ["right"];
    return `${letter} ${rate === null ? "no WER" : rate.toFixed(1) + " %"} (${edits.join(" ")})`;
  }

  function drawHead(index) {
    const data = store.data;
    const head = make("header");
    head.append(make("b", "", data.ids[index]), make("span", "", data.sets[data.set[index]]));
    const speaker = data.speakers[data.speaker[index]];
    if (speaker) head.append(make("bdi", "", speaker));
    const seconds = data.seconds[index];
    const count = store.words[index];
    head.append(make("span", "", (seconds === null ? "" : seconds.toFixed(1) + " s, ") + `${count} word${count === 1 ? "" : "s"}`));
    store.systems.forEach((_, system) => {
      head.append(make("span", store.errors(index, system) ? "rate" : "rate right", describeRate(index, system)));
    });
    const difference = store.difference(index);
    if (difference) {
      const [first, second] = store.systems;
      const sign = difference > 0 ? "+" : "−";
      head.append(make("span", "rate", `${first} − ${second} ${sign}${Math.abs(difference).toFixed(1)}`));
    }
    const button = player.makeButton(index);
    if (button) head.append(button);
    return head;
  }

  // The whole utterance as an element; `form` is "step" or "line", `wanted` the words that the search asks for.
  function draw(index, form, wanted) {
    const row = make("div", "row");
    row.setAttribute("role", "listitem");
    row.append(drawHead(index));
    const body = make("div");
    body.dir = isRtl(index) ? "rtl" : "ltr";
    if (form === "step") body.append(drawSteps(index, wanted));
    else store.systems.forEach((_, system) => body.append(drawLine(index, system, wanted)));
    row.append(body);
    return row;
  }

  function drawLegend(element) {
    element.replaceChildren("Wrong words: ");
    const add = (letter, ours, theirs, text) => {
      const place = make("span", letter);
      place.append("(", ours ? make("span", "ref", ours) : "*", "→", theirs ? make("span", "hyp", theirs) : "*", ")");
      element.append(place, " " + text + "; ");
    };
    add("S", "seat", "sheet", "substitution");
    add("D", "the", "", "deletion");
    add("I", "", "please", "insertion");
    element.append("in step they are ");
    const short = [["S", "→", "sheet", "hyp"], ["D", "", "the", "ref"], ["I", "+", "please", "hyp"]];
    short.forEach(([letter, sign, word, kind], number) => {
      const place = make("span", letter);
      place.append(sign, make("span", kind, word));
      element.append(place, number < 2 ? ", " : ".");
    });
  }

  return { draw, drawLegend, make };
})();
