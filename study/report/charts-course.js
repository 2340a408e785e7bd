"use strict";
// The charts of how a study went: history, timeline, distributions, rungs, curves, decodings, hours.

charts.step = (study, last) => {
  const best = study.progress.best_so_far;
  const x = best.map(([number]) => number);
  const y = best.map(([, figure]) => figure);
  if (best.length) {
    x.push(last);
    y.push(y.at(-1));
  }
  return { x, y };
};

// The figure of each trial by its number, and the best so far.
charts.makers.history = (study) => {
  const searched = study.trials.filter((trial) => trial.is_search);
  const value = (trial) => trial.figure ?? (trial.state === "pruned" || trial.state === "running" || trial.state === "waiting" || trial.state === "interrupted" ? trial.last : null);
  const known = study.trials.map(value).filter((one) => one !== null);
  const complete = study.trials.map((trial) => trial.figure).filter((one) => one !== null);
  const sorted = (complete.length ? complete : known).sort((a, b) => a - b);
  // Figures of trials that learnt nothing would press all others together: they stand at the upper edge.
  const ceiling = sorted.length ? Math.max(sorted[Math.floor(0.9 * (sorted.length - 1))] * 1.25, sorted[0] * 1.2) : 1;
  const [low, high] = known.length ? charts.range(known.map((one) => Math.min(one, ceiling))) : [0, 1];
  const traces = [{
    type: "scatter", mode: "lines", name: "best so far", ...charts.step(study, study.trials.at(-1).number),
    line: { shape: "hv", color: page.colour("text"), width: 2 }, hovertemplate: "best so far %{y:.2f}<extra></extra>",
  }];
  const add = (trials, name, marker) => trials.length && traces.push({
    type: "scatter", mode: "markers", name, marker, x: trials.map((trial) => trial.number),
    y: trials.map((trial) => { const one = value(trial); return one === null ? low : Math.min(one, ceiling); }),
    text: trials.map((trial) => `${charts.describe(trial)}<br>${trial.state}${trial.figure === null && trial.last !== null ? `, last ${page.number(trial.last)} at epoch ${trial.epochs}` : ""}${trial.reason ? `<br>${trial.reason.slice(0, 90)}` : ""}`),
    hovertemplate: "%{text}<extra></extra>",
  });
  for (const name of charts.classes(searched)) {
    add(searched.filter((trial) => trial.state === "complete" && trial.recipe_class === name), `${name || "trial"}, complete`, charts.marker(name, 9));
  }
  for (const state of new Set(study.trials.map((trial) => trial.state))) {
    if (state === "complete") continue;
    const look = charts.look("states", state);
    add(study.trials.filter((trial) => trial.state === state), state === "pruned" ? "stopped early" : state, { color: page.tint(look), symbol: look.symbol, size: 10, line: { width: 2, color: page.tint(look) } });
  }
  const confirming = study.trials.filter((trial) => !trial.is_search && trial.state === "complete");
  for (const name of charts.classes(confirming)) {
    const marker = charts.marker(name, 9);
    add(confirming.filter((trial) => trial.recipe_class === name), `${name || "trial"}, new seed`, { ...marker, symbol: `${marker.symbol}-open`, line: { width: 2, color: marker.color } });
  }
  return { traces, layout: { xaxis: { title: { text: "trial" }, zeroline: false }, yaxis: { title: { text: study.ranked_label }, range: [low - (high - low) * 0.03, high], zeroline: false } } };
};

// When each trial ran, by state.
charts.makers.timeline = (study) => {
  const timed = study.trials.filter((trial) => trial.started !== null);
  const now = Math.max(0, study.hours.wall ?? 0, ...timed.map((trial) => trial.ended ?? 0));
  const unit = now < 2 ? 60 : 1;
  const traces = [...new Set(timed.map((trial) => trial.state))].map((state) => {
    const shown = timed.filter((trial) => trial.state === state);
    const look = charts.look("states", state);
    const pattern = { complete: "", pruned: "/", failed: "x", infeasible: "x" }[state] ?? ".";
    return {
      type: "bar", orientation: "h", name: state === "pruned" ? "stopped early" : state, y: shown.map((trial) => trial.number), base: shown.map((trial) => trial.started * unit),
      x: shown.map((trial) => ((trial.ended ?? now) - trial.started) * unit), marker: { color: page.tint(look), pattern: { shape: pattern, fillmode: "overlay", fgcolor: page.colour("background"), fgopacity: 0.7, size: 6 } },
      text: shown.map((trial) => `${charts.describe(trial)}<br>${trial.state}, ${trial.epochs} epochs`), textposition: "none", hovertemplate: "%{text}<extra></extra>",
    };
  });
  return {
    traces,
    layout: { barmode: "overlay", bargap: study.trials.length > 200 ? 0 : 0.15, xaxis: { title: { text: unit === 1 ? "hours" : "minutes" }, rangemode: "tozero" }, yaxis: { title: { text: "trial" }, autorange: "reversed", zeroline: false } },
  };
};

// The share of trials up to each figure, by class.
charts.makers.distribution = (study) => ({
  traces: Object.entries(study.progress.distributions).map(([name, steps]) => {
    const look = charts.look("classes", name);
    return {
      type: "scatter", mode: steps.length > 60 ? "lines" : "lines+markers", name, x: [steps[0][0], ...steps.map(([figure]) => figure)], y: [0, ...steps.map(([, share]) => share)],
      line: { shape: "hv", dash: look.dash, color: page.tint(look), width: 2 }, marker: charts.marker(name, 7), hovertemplate: `${name}: %{y:.0%} up to %{x:.2f}<extra></extra>`,
    };
  }),
  layout: { xaxis: { title: { text: study.ranked_label } }, yaxis: { title: { text: "share of trials" }, range: [0, 1.03], tickformat: ".0%" } },
});

// Rank correlation of each epoch's figures with the end.
charts.makers.rungs = (study) => {
  const kinds = { objective: ["the objective", "circle", "text", -0.06], best: ["best of all metrics", "diamond", "link", 0.06] };
  const traces = Object.entries(kinds).map(([kind, [name, symbol, colour, shift]]) => {
    const rungs = study.progress.rungs.filter((rung) => rung.kind === kind);
    return {
      type: "scatter", mode: "lines+markers", name, x: rungs.map((rung) => rung.epoch + shift), y: rungs.map((rung) => rung.rho),
      marker: { symbol, size: 9, color: page.colour(colour) }, line: { color: page.colour(colour), dash: kind === "best" ? "dash" : "solid" },
      error_y: { type: "data", symmetric: false, thickness: 1, color: page.colour(colour), array: rungs.map((rung) => (rung.high ?? rung.rho) - rung.rho), arrayminus: rungs.map((rung) => rung.rho - (rung.low ?? rung.rho)) },
      text: rungs.map((rung) => `${charts.label(rung.metric)} at epoch ${rung.epoch}, ${rung.trials} trials`), hovertemplate: "%{text}<br>rho %{y:.2f}<extra></extra>",
    };
  }).filter((trace) => trace.x.length);
  return { traces, layout: { xaxis: { title: { text: "epoch" }, dtick: study.progress.rungs.length < 40 ? 1 : undefined }, yaxis: { title: { text: "rank correlation" }, range: [-1.05, 1.05], zeroline: true, zerolinecolor: page.colour("text") } } };
};

// Learning curves, the trials of a class as one line with gaps; ends marked by the state.
charts.makers.curves = (study, element, choices) => {
  const { metric } = choices;
  const top = Number(choices.top);
  const order = study.trials.filter((trial) => trial.curves[metric]);
  if (top) order.sort((a, b) => (a.figure ?? a.last ?? Infinity) - (b.figure ?? b.last ?? Infinity));
  const shown = order.slice(0, top || undefined);
  const traces = [];
  for (const name of charts.classes(shown)) {
    const of = shown.filter((trial) => trial.recipe_class === name);
    const look = charts.look("classes", name);
    const gaps = (make) => of.flatMap((trial) => [...make(trial), null]);
    traces.push({
      type: "scatter", mode: "lines", name: name || "trial", connectgaps: false, x: gaps((trial) => trial.at), y: gaps((trial) => trial.curves[metric]),
      text: gaps((trial) => trial.at.map(() => charts.describe(trial))), line: { color: page.tint(look), width: shown.length > 100 ? 0.7 : 1.4, dash: shown.length > 100 ? "solid" : look.dash }, opacity: 0.85,
      hovertemplate: "epoch %{x}: %{y:.3f}<br>%{text}<extra></extra>",
    });
  }
  for (const state of new Set(shown.map((trial) => trial.state))) {
    const of = shown.filter((trial) => trial.state === state && trial.at.length);
    const look = charts.look("states", state);
    traces.push({
      type: "scatter", mode: "markers", name: state === "pruned" ? "stopped early" : state, x: of.map((trial) => trial.at.at(-1)), y: of.map((trial) => trial.curves[metric].at(-1)),
      marker: { color: page.tint(look), symbol: look.symbol, size: 8, line: { width: 1.5, color: page.tint(look) } }, text: of.map(charts.describe), hovertemplate: "%{text}<extra></extra>",
    });
  }
  const title = `epoch (${shown.length} of ${study.trials.length} trials)`;
  return { traces, layout: { xaxis: { title: { text: title } }, yaxis: { title: { text: charts.label(metric) }, type: choices.axis } } };
};

// Dev WER by the CTC weight of the decoding, a line a beam.
charts.makers.decoding = (study, element) => {
  const surface = study.decodings[Number(element.dataset.key)];
  const plain = (one) => one.mixing === "none" && one.language_models === "none" && one.length_penalty === surface.tried[0].length_penalty;
  const symbols = ["circle", "square", "diamond", "triangle-up", "cross"];
  const beams = [...new Set(surface.tried.map((one) => one.beam))].sort((a, b) => a - b);
  const hover = (one) => `${one.stage}: CTC weight ${one.ctc_weight}, beam ${one.beam}, length penalty ${one.length_penalty}, mixing ${one.mixing}, language models ${one.language_models}<br>dev WER ${page.number(one.wer)}, ${page.number(one.seconds, 1)} s`;
  const trace = (name, tried, mode, marker) => ({
    type: "scatter", name, mode, x: tried.map((one) => one.ctc_weight), y: tried.map((one) => one.wer), marker, text: tried.map(hover), hovertemplate: "%{text}<extra></extra>",
  });
  const looks = ["#0072B2", "#D55E00", "#009E73", "#B0006D", "#8A6D00"];
  const dark = ["#56B4E9", "#E69F00", "#3FD0A4", "#E58BC3", "#F0E442"];
  const colour = (number) => (page.isDark() ? dark : looks)[number % looks.length];
  const traces = beams.map((beam, number) => {
    const tried = surface.tried.filter((one) => one.beam === beam && plain(one)).sort((a, b) => a.ctc_weight - b.ctc_weight);
    return trace(`beam ${beam}`, tried, "lines+markers", { symbol: symbols[number % symbols.length], size: 9, color: colour(number) });
  });
  const others = surface.tried.filter((one) => !plain(one));
  if (others.length) traces.push(trace("other length penalty, mixing or language models", others, "markers", { symbol: "x", size: 8, color: page.colour("quiet") }));
  traces.push(trace("best", surface.tried.filter((one) => one.is_best), "markers", { symbol: "star-open", size: 18, color: page.colour("text"), line: { width: 2 } }));
  return { traces, layout: { xaxis: { title: { text: "CTC weight of the decoding" }, zeroline: false }, yaxis: { title: { text: "dev WER, %" } } } };
};

// Hours by group and kind.
charts.makers.hours = (study) => {
  const groups = Object.keys(study.hours.groups).filter((name) => name !== "all").reverse();
  const colours = ["#0072B2", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#999999"];
  const patterns = ["", "/", "", "\\", "x", "."];
  const total = study.hours.sums.all;
  const unit = total < 2 ? 60 : 1;
  const traces = study.hours.kinds.map((kind, number) => ({
    type: "bar", orientation: "h", name: kind, y: groups, x: groups.map((name) => study.hours.groups[name][kind] * unit),
    marker: { color: colours[number], pattern: { shape: patterns[number], fillmode: "overlay", fgcolor: page.colour("background"), fgopacity: 0.7, size: 6 } }, hovertemplate: `${kind}: %{x:.2f}<extra>%{y}</extra>`,
  }));
  return { traces, layout: { barmode: "stack", xaxis: { title: { text: unit === 1 ? "hours" : "minutes" } }, yaxis: { type: "category" }, height: 170 + 48 * groups.length } };
};

// The best so far of two studies.
charts.makers.both = () => ({
  traces: page.data.studies.map((study, number) => ({
    type: "scatter", mode: "lines", name: study.name, ...charts.step(study, study.trials.at(-1)?.number ?? 0),
    line: { shape: "hv", width: 2.5, dash: number ? "dash" : "solid", color: page.tint(charts.look("classes", number ? "decred" : "ed")) }, hovertemplate: "%{y:.2f}<extra>" + study.name + "</extra>",
  })),
  layout: { xaxis: { title: { text: "trial" } }, yaxis: { title: { text: page.data.studies[0].ranked_label } } },
});

charts.start();
