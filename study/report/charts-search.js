"use strict";
// The charts of what was searched: placements, single quantities, pairs, importance, all quantities together.

// From good to bad; distinguished with any colour vision (Cividis), and on dark pages nothing as dark as the page.
charts.scale = () => (page.isDark()
  ? [[0, "#6aa0f0"], [0.3, "#7f8fb0"], [0.5, "#8d8c88"], [0.75, "#bcad6b"], [1, "#ffea46"]]
  : [[0, "#00204d"], [0.25, "#31446b"], [0.5, "#7c7b78"], [0.75, "#bcad6b"], [1, "#ffea46"]]);

// Where a colour scale ends: the worst figures would press all others into one colour.
charts.ceiling = (figures) => {
  const sorted = [...figures].sort((a, b) => a - b);
  return Math.max(sorted[Math.floor(0.85 * (sorted.length - 1))], sorted[0] * 1.02);
};

// The value of a trial on an axis: a number, its logarithm, or the place of a category; null where it has none.
charts.place = (quantity, trial, logarithm = false) => {
  const value = trial.values[quantity.name];
  if (value === undefined || value === null) return null;
  if (!quantity.is_number) return quantity.categories.indexOf(String(value));
  return logarithm && quantity.is_log ? Math.log10(value) : value;
};

charts.axis = (quantity, trials) => {
  if (!quantity.is_number) {
    return { tickvals: quantity.categories.map((_, place) => place), ticktext: quantity.categories, range: [-0.5, quantity.categories.length - 0.5], zeroline: false };
  }
  if (!quantity.is_log) return { zeroline: false };
  const values = trials.map((trial) => trial.values[quantity.name]).filter((value) => value !== undefined);
  const [low, high] = [Math.log10(Math.min(...values)), Math.log10(Math.max(...values))];
  const steps = high - low < 0.5 ? [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7] : high - low < 1 ? [1, 2, 5] : high - low < 3 ? [1, 3] : [1];
  const ticks = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power += 1) {
    ticks.push(...steps.map((step) => Number((step * 10 ** power).toPrecision(2))));
  }
  const room = (high - low || 1) * 0.1;
  return { type: "log", tickvals: ticks, ticktext: ticks.map(String), range: [low - room, high + room] };
};

// Mean figures by placement and by the weight of the final classifier.
charts.makers.heat = (study, element) => {
  const part = study.placements;
  const columns = part.edges.slice(0, -1).map((edge, number) => `${charts.short(edge)}–${charts.short(part.edges[number + 1])}`);
  const none = part.totals.find((cell) => cell.placement === "none");
  const names = [...part.placements].reverse();
  const grid = names.map((placement) => columns.map((_, column) => part.cells.find((cell) => cell.placement === placement && cell.column === column)));
  if (none) {
    columns.unshift("none");
    names.forEach((placement, row) => grid[row].unshift(placement === "none" ? none : undefined));
  }
  const text = (cell) => (cell ? `${page.number(cell.mean)}${charts.isNarrow(element) && columns.length > 4 ? "<br>" : " "}(${cell.count})` : "");
  const more = (cell, row) => {
    if (!cell) return "";
    const interval = cell.low === null ? "one trial" : `95 % of the mean [${page.number(cell.low)}, ${page.number(cell.high)}]`;
    return `placement ${names[row]}: mean ${page.number(cell.mean)} of ${cell.count}<br>${interval}<br>best ${page.number(cell.best)}, trial ${cell.best_trial}`;
  };
  return {
    traces: [{
      type: "heatmap", x: columns, y: names, z: grid.map((row) => row.map((cell) => (cell ? cell.mean : null))),
      text: grid.map((row) => row.map(text)), texttemplate: "%{text}", hovertext: grid.map((row, number) => row.map((cell) => more(cell, number))),
      hovertemplate: "%{hovertext}<extra></extra>", colorscale: charts.scale(), xgap: 2, ygap: 2, hoverongaps: false, zmin: Math.min(...part.totals.map((cell) => cell.mean)), zmax: charts.ceiling(part.totals.map((cell) => cell.mean)),
      colorbar: { title: { text: "WER" }, thickness: 12 }, showscale: !charts.isNarrow(element),
    }],
    layout: {
      xaxis: { type: "category", title: { text: "weight of the final classifier" }, showgrid: false },
      yaxis: { type: "category", title: { text: "classifiers on layers" }, showgrid: false },
      height: Math.max(260, 110 + 36 * names.length),
    },
  };
};

// A small chart for each quantity: the figure of each trial by its value.
charts.makers.slices = (study, element) => {
  const trials = charts.ranked(study);
  const across = charts.isNarrow(element) ? 1 : Math.min(study.quantities.length, element.clientWidth > 900 ? 3 : 2);
  const rows = Math.ceil(study.quantities.length / across);
  const layout = { grid: { rows, columns: across, pattern: "independent", xgap: 0.12, ygap: 0.28 }, height: 70 + 280 * rows };
  const traces = [];
  study.quantities.forEach((quantity, number) => {
    const suffix = number ? String(number + 1) : "";
    const axis = { gridcolor: page.colour("line"), automargin: true, ...charts.axis(quantity, trials), title: { text: quantity.label, standoff: 4 } };
    layout[`xaxis${suffix}`] = axis;
    layout[`yaxis${suffix}`] = { gridcolor: page.colour("line"), automargin: true, zeroline: false, range: charts.range(trials.map((trial) => trial.figure)), title: { text: number % across ? "" : "WER" } };
    for (const name of charts.classes(trials)) {
      const shown = trials.filter((trial) => trial.recipe_class === name && charts.place(quantity, trial) !== null);
      traces.push({
        type: "scatter", mode: "markers", name: name || "trial", legendgroup: name, showlegend: number === 0,
        x: shown.map((trial) => charts.place(quantity, trial)), y: shown.map((trial) => trial.figure), marker: charts.marker(name, 8),
        text: shown.map(charts.describe), hovertemplate: "%{text}<extra></extra>", xaxis: `x${suffix}`, yaxis: `y${suffix}`,
      });
    }
  });
  element.style.height = `${layout.height}px`;
  return { traces, layout };
};

// Two quantities at a time, the figure as colour and size.
charts.makers.pair = (study, element, choices) => {
  const find = (name) => study.quantities.find((quantity) => quantity.name === name);
  const [x, y] = [find(choices.x), find(choices.y)];
  const placed = study.trials.filter((trial) => trial.is_search && charts.place(x, trial) !== null && charts.place(y, trial) !== null);
  const shown = placed.filter((trial) => trial.figure !== null);
  const rest = placed.filter((trial) => trial.figure === null);
  const order = [...shown].sort((a, b) => a.figure - b.figure);
  const size = (trial) => 8 + 12 * (1 - order.indexOf(trial) / Math.max(1, order.length - 1));
  // Categories share a place: marks of one place are moved apart by their number.
  const apart = (quantity, trial) => charts.place(quantity, trial) + (quantity.is_number ? 0 : 0.25 * (((trial.number * 0.618) % 1) - 0.5));
  return {
    traces: [
      {
        type: "scatter", mode: shown.length <= 40 ? "markers+text" : "markers", name: "complete", x: shown.map((trial) => apart(x, trial)), y: shown.map((trial) => apart(y, trial)),
        marker: { size: shown.map(size), color: shown.map((trial) => trial.figure), colorscale: charts.scale(), cmin: Math.min(...shown.map((trial) => trial.figure)), cmax: charts.ceiling(shown.map((trial) => trial.figure)), showscale: !charts.isNarrow(element), colorbar: { title: { text: "WER" }, thickness: 12 }, line: { width: 1, color: page.colour("text") } },
        text: shown.map((trial) => page.number(trial.figure, 1)), textposition: "top center", textfont: { size: 10 },
        customdata: shown.map(charts.describe), hovertemplate: "%{customdata}<extra></extra>", showlegend: false,
      },
      {
        type: "scatter", mode: "markers", name: "without a figure", x: rest.map((trial) => apart(x, trial)), y: rest.map((trial) => apart(y, trial)),
        marker: { symbol: "x-thin", size: 7, line: { width: 1.5, color: page.colour("quiet") } },
        text: rest.map((trial) => `${charts.describe(trial)}<br>${trial.state}`), hovertemplate: "%{text}<extra></extra>", showlegend: rest.length > 0,
      },
    ],
    layout: { xaxis: { ...charts.axis(x, placed), title: { text: x.label } }, yaxis: { ...charts.axis(y, placed), title: { text: y.label, standoff: 10 } } },
  };
};

// Importance with its band; what chance gives as a line.
charts.makers.importance = (study) => {
  const rows = [...study.importance.rows].reverse();
  const names = rows.map((row) => row.quantity.replace("auxiliary.", "").replace("optimiser.", "").replaceAll("_", " "));
  return {
    traces: [{
      type: "bar", orientation: "h", y: names, x: rows.map((row) => row.importance), name: "importance",
      marker: { color: rows.map((row) => (row.has_signal ? page.colour("link") : page.colour("line"))) },
      error_x: { type: "data", symmetric: false, color: page.colour("text"), array: rows.map((row) => Math.max(0, row.high - row.importance)), arrayminus: rows.map((row) => Math.max(0, row.importance - row.low)) },
      text: rows.map((row) => (row.has_signal ? "" : "no signal")), textposition: "outside", hovertemplate: "%{y}: %{x:.3f}<extra></extra>",
    }],
    layout: {
      xaxis: { title: { text: "importance (PED-ANOVA)" }, rangemode: "tozero" }, yaxis: { type: "category" },
      shapes: [{ type: "line", yref: "paper", y0: 0, y1: 1, x0: rows[0].chance, x1: rows[0].chance, line: { dash: "dot", color: page.colour("text") } }],
      annotations: [{ x: rows[0].chance, y: 1, yref: "paper", yanchor: "bottom", text: "chance", showarrow: false }],
      height: 130 + 42 * rows.length,
    },
  };
};

// Every complete trial as a line over all quantities; one that a trial has none of is placed below the others.
charts.makers.parallel = (study, element, choices) => {
  const top = Number(choices.top);
  const trials = charts.ranked(study).sort((a, b) => a.figure - b.figure).slice(0, top || undefined);
  const figures = trials.map((trial) => trial.figure);
  const dimensions = study.quantities.map((quantity) => {
    const values = trials.map((trial) => charts.place(quantity, trial, true));
    const known = values.filter((value) => value !== null);
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const below = low - ((high - low) || 1) * 0.15;
    const isMissing = known.length < values.length;
    let ticks = [];
    if (!quantity.is_number) ticks = quantity.categories.map((category, place) => [place, category]);
    else for (let step = 0; step <= 4; step += 1) {
      const place = low + ((high - low) * step) / 4;
      ticks.push([place, String(Number((quantity.is_log ? 10 ** place : place).toPrecision(2)))]);
    }
    if (isMissing) ticks.unshift([below, "none"]);
    return {
      label: quantity.label, values: values.map((value) => value ?? below),
      range: [isMissing ? below : low, high > low ? high : low + 1],
      tickvals: ticks.map(([place]) => place), ticktext: ticks.map(([, text]) => text),
    };
  });
  const [least, most] = [Math.min(...figures), Math.max(...figures)];
  const steps = [0, 1, 2, 3, 4].map((step) => least + ((most - least) * step) / 4);
  const figure = { label: "WER", values: figures, range: [least, most > least ? most : least + 1], tickvals: steps, ticktext: steps.map((one) => page.number(one, 1)) };
  return {
    traces: [{
      type: "parcoords", dimensions: [...dimensions, figure], labelangle: 0, labelfont: { size: 12 },
      line: { color: figures, colorscale: charts.scale(), cmin: Math.min(...figures), cmax: charts.ceiling(figures) },
    }],
    layout: { margin: { l: 70, r: 60, t: 60, b: 30 } },
  };
};
