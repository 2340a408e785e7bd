"use strict";
// A list that draws only the utterances in view. Heights are estimated until an utterance was drawn, then measured.
const list = (() => {
  const view = document.getElementById("list");
  const space = document.getElementById("space");
  const ESTIMATE = 90; // pixels
  const MARGIN = 600; // pixels that are drawn above and below the view
  let rows = []; // indices of utterances, in order
  let form = "line";
  let wanted = null;
  let tops = new Float64Array(1); // where each row begins; the last is the height of all
  const heights = new Map(); // by utterance, of the present width and form
  let drawn = new Map(); // by utterance: its element

  function place() {
    tops = new Float64Array(rows.length + 1);
    for (let number = 0; number < rows.length; number += 1) {
      tops[number + 1] = tops[number] + (heights.get(rows[number]) ?? ESTIMATE);
    }
    space.style.height = tops[rows.length] + "px";
  }

  // The number of the row that is at this height.
  function find(top) {
    let [low, high] = [0, rows.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (tops[middle] <= top) low = middle;
      else high = middle - 1;
    }
    return Math.max(low, 0);
  }

  function drawRange(first, last) {
    const kept = new Map();
    for (let number = first; number <= last; number += 1) {
      const index = rows[number];
      let row = drawn.get(index);
      if (!row) {
        row = alignment.draw(index, form, wanted);
        space.append(row);
      }
      row.setAttribute("aria-posinset", number + 1);
      row.setAttribute("aria-setsize", rows.length);
      row.style.top = tops[number] + "px";
      kept.set(index, row);
    }
    for (const [index, row] of drawn) if (!kept.has(index)) row.remove();
    drawn = kept;
  }

  // Draw what is in view; where drawn rows are higher or lower than was thought, the row at the top stays where it is.
  function update() {
    if (!rows.length) {
      drawRange(0, -1);
      return;
    }
    for (let pass = 0; pass < 5; pass += 1) {
      const top = view.scrollTop;
      const anchor = find(top);
      const isAtEnd = top + view.clientHeight >= tops[rows.length] - 2;
      drawRange(find(Math.max(top - MARGIN, 0)), find(top + view.clientHeight + MARGIN));
      let changed = false;
      for (const [index, row] of drawn) {
        const height = row.offsetHeight;
        if (heights.get(index) !== height) {
          heights.set(index, height);
          changed = true;
        }
      }
      if (!changed) return;
      const offset = top - tops[anchor];
      place();
      const target = isAtEnd && top > 0 ? tops[rows.length] : tops[anchor] + offset;
      if (Math.abs(view.scrollTop - target) > 0.5) view.scrollTop = target;
    }
  }

  function redraw() {
    heights.clear();
    for (const row of drawn.values()) row.remove();
    drawn = new Map();
    place();
    update();
  }

  function show(indices, options) {
    rows = indices;
    form = options.form;
    wanted = options.wanted;
    redraw();
    view.scrollTop = 0;
    update();
  }

  let waiting = false;
  view.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      update();
    });
  });
  let width = view.clientWidth;
  new ResizeObserver(() => {
    if (view.clientWidth !== width) redraw();
    else update();
    width = view.clientWidth;
  }).observe(view);

  return { show, rows: () => rows };
})();
