"use strict";
// The utterances: what page.data says of each, decoded, and the figures that sorting and filtering take.
const store = (() => {
  const data = page.data;
  const size = data.ids.length;
  const systems = data.systems.map((system) => system.letter);
  const split = (text) => (text ? text.split(" ") : []);
  const words = Int32Array.from(data.reference, (text) => split(text).length);
  const EDITS = { "~": 0, "-": 1, "+": 2 };

  // S, D and I of each utterance, of each system: [system][3 * index + kind]; -1 where a system lacks the utterance.
  const edits = data.codes.map((codes) => {
    const counts = new Int32Array(3 * size);
    codes.forEach((code, index) => {
      if (code === null) return counts.fill(-1, 3 * index, 3 * index + 3);
      for (const part of split(code)) {
        const kind = EDITS[part[0]];
        if (kind !== undefined) counts[3 * index + kind] += 1;
      }
    });
    return counts;
  });

  const isMissing = (index, system) => edits[system][3 * index] < 0;
  const counts = (index, system) => edits[system].subarray(3 * index, 3 * index + 3);
  const errors = (index, system) => {
    const [s, d, i] = counts(index, system);
    return s < 0 ? null : s + d + i;
  };
  const wer = (index, system) => {
    const wrong = errors(index, system);
    return wrong === null || !words[index] ? null : (100 * wrong) / words[index];
  };
  const difference = (index, first = 0, second = 1) => {
    if (systems.length < 2) return null;
    const [a, b] = [wer(index, first), wer(index, second)];
    return a === null || b === null ? null : a - b;
  };

  // The alignment as a list of [letter, word of the reference, word of the hypothesis].
  function steps(index, system) {
    const code = data.codes[system][index];
    const reference = split(data.reference[index]);
    const found = [];
    let place = 0;
    for (const part of split(code)) {
      const kind = part[0];
      if (kind === "~") found.push(["S", reference[place++], part.slice(1)]);
      else if (kind === "-") found.push(["D", reference[place++], ""]);
      else if (kind === "+") found.push(["I", "", part.slice(1)]);
      else for (let left = Number(part); left > 0; left -= 1, place += 1) found.push(["C", reference[place], reference[place]]);
    }
    return found;
  }

  const hypothesis = (index, system) =>
    steps(index, system).map((step) => step[2]).filter((word) => word).join(" ");
  const letters = (index, system) => steps(index, system).map((step) => step[0]).join("");
  const indices = Array.from({ length: size }, (_, index) => index);
  const present = (index) => indicesOfSystems.filter((system) => !isMissing(index, system));
  const indicesOfSystems = systems.map((_, system) => system);

  // Calls `use` with letter, word of the reference and word of the hypothesis of every wrong word of an utterance.
  function eachError(index, system, use) {
    const code = data.codes[system][index];
    if (!code || !errors(index, system)) return;
    const reference = split(data.reference[index]);
    let place = 0;
    for (const part of code.split(" ")) {
      const kind = part[0];
      if (kind === "~") use("S", reference[place++], part.slice(1));
      else if (kind === "-") use("D", reference[place++], "");
      else if (kind === "+") use("I", "", part.slice(1));
      else place += Number(part);
    }
  }

  // Counts of a system's confusion pairs ("reference hypothesis"), insertions or deletions over some utterances.
  function countErrors(chosen, system, kind) {
    const letter = { pairs: "S", insertions: "I", deletions: "D" }[kind];
    const table = new Map();
    const add = (key) => table.set(key, (table.get(key) ?? 0) + 1);
    for (const index of chosen) {
      eachError(index, system, (found, ours, theirs) => {
        if (found === letter) add(found === "S" ? ours + " " + theirs : ours || theirs);
      });
    }
    return table;
  }

  // The words of a system over some utterances, as study/errors/summary.py counts them.
  function countWords(chosen, system) {
    const counted = new Map();
    const word = (name) => {
      let entry = counted.get(name);
      if (!entry) counted.set(name, (entry = { right: 0, substituted: 0, deleted: 0, inserted: 0, falsely: 0 }));
      return entry;
    };
    for (const index of chosen) {
      if (isMissing(index, system)) continue;
      for (const ours of split(data.reference[index])) word(ours).right += 1; // less those that were wrong, below
      eachError(index, system, (letter, ours, theirs) => {
        if (letter !== "I") word(ours).right -= 1;
        if (letter === "D") word(ours).deleted += 1;
        if (letter === "I") word(theirs).inserted += 1;
        if (letter !== "S") return;
        word(ours).substituted += 1;
        word(theirs).falsely += 1;
      });
    }
    return counted;
  }

  // S, D, I, N and WER of a system over some utterances.
  function sum(chosen, system) {
    const total = [0, 0, 0];
    let length = 0;
    for (const index of chosen) {
      if (isMissing(index, system)) continue;
      counts(index, system).forEach((count, kind) => (total[kind] += count));
      length += words[index];
    }
    const wrong = total[0] + total[1] + total[2];
    return { S: total[0], D: total[1], I: total[2], N: length, wer: length ? (100 * wrong) / length : null };
  }

  return {
    data, size, systems, words, indices, split, isMissing, present, counts, errors, wer, difference, steps, hypothesis,
    letters, eachError, countErrors, countWords, sum,
  };
})();
