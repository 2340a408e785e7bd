"use strict";
// The charts of a report: what they share, and those of the verdict. Every number comes from the page's JSON.
const charts = {
  makers: {}, // kind -> (study, element, choices) -> {traces, layout}

  start() {
    for (const element of document.querySelectorAll(".chart[data-kind]")) {
      const study = page.data.studies[Number(element.dataset.study)];
      const controls = document.querySelector(`.controls[data-for="${element.id}"]`);
      const make = () => charts.makers[element.dataset.kind](study, element, charts.choices(controls));
      page.chart(element.id, make);
      if (controls) {
        controls.addEventListener("change", () => {
          const { traces, layout = {} } = make();
          Plotly.react(element, traces, page.layout(layout), { responsive: true, displaylogo: false });
          element.dataset.drawn = "yes";
        });
      }
    }
  },

  choices(controls) {
    if (!controls) return {};
    return Object.fromEntries([...controls.querySelectorAll("select")].map((select) => [select.name, select.value]));
  },

  look(group, name) {
    const looks = page.data.palette[group];
    return looks[name] ?? { light: "#59616b", dark: "#a9b1bb", symbol: "circle", dash: "solid" };
  },

  isNarrow(element) {
    return element.clientWidth < 560;
  },

  label(metric) {
    return page.data.labels.metrics[metric] ?? metric;
  },

  name(trial) {
    return String(trial.number).padStart(4, "0") + (trial.name ? " " + trial.name : "");
  },

  describe(trial) {
    const values = Object.entries(trial.values).map(([name, value]) => `${name} ${charts.short(value)}`);
    const figure = trial.figure === null ? trial.state : page.number(trial.figure);
    return [`<b>${charts.name(trial)}</b> ${trial.recipe_class} ${figure}`, ...values].join("<br>");
  },

  short(value) {
    return typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(3)) : value;
  },

  byNumber(study) {
    return new Map(study.trials.map((trial) => [trial.number, trial]));
  },

  // The searched trials with a figure.
  ranked(study) {
    return study.trials.filter((trial) => trial.is_search && trial.figure !== null);
  },

  classes(trials) {
    return [...new Set(trials.map((trial) => trial.recipe_class))].sort();
  },

  // Marks of a class: its symbol and colour.
  marker(name, size = 9) {
    const look = charts.look("classes", name);
    return { color: page.tint(look), symbol: look.symbol, size, line: { width: 1, color: page.colour("background") } };
  },

  // The range that figures take, with a little room.
  range(values, share = 0.06) {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = (high - low || Math.abs(high) || 1) * share;
    return [low - room, high + room];
  },
};

// The difference of the two classes on each set, with its interval and the differences of single seeds.
charts.makers.differences = (study) => {
  const effects = study.verdict.effects.filter((effect) => effect.figure === "wer").reverse();
  const names = effects.map((effect) => effect.name);
  const centre = effects.map((effect) => effect.difference);
  const known = (effect, end) => (effect[end] === null ? 0 : Math.abs(effect[end] - effect.difference));
  const looks = effects.map((effect) => (effect.is_shown ? page.colour("link") : page.colour("quiet")));
  const seeds = effects.flatMap((effect) => effect.first_seeds.map((first, seed) => ({
    x: first - effect.second_seeds[seed], y: effect.name, seed: study.verdict.seeds[seed],
  })));
  return {
    traces: [
      {
        type: "scatter", mode: "markers", x: seeds.map((one) => one.x), y: seeds.map((one) => one.y), name: "a seed",
        marker: { symbol: "line-ns-open", size: 14, color: page.colour("quiet") },
        text: seeds.map((one) => `seed ${one.seed}`), hovertemplate: "%{y}: %{x:+.2f}<br>%{text}<extra></extra>",
      },
      {
        type: "scatter", mode: "markers", x: centre, y: names, name: "mean and interval",
        marker: { symbol: effects.map((effect) => (effect.is_shown ? "square" : "square-open")), size: 10, color: looks },
        error_x: {
          type: "data", symmetric: false, thickness: 2, color: page.colour("text"),
          array: effects.map((effect) => known(effect, "high")), arrayminus: effects.map((effect) => known(effect, "low")),
        },
        hovertemplate: "%{y}: %{x:+.2f}<extra></extra>",
      },
    ],
    layout: {
      xaxis: { title: { text: `WER of ${study.verdict.classes[0]} less ${study.verdict.classes[1]}, points` }, rangemode: "tozero", zeroline: true, zerolinewidth: 2, zerolinecolor: page.colour("text") },
      yaxis: { type: "category", categoryarray: names },
    },
  };
};

// Each new training's WER, a small chart for each set; published figures as lines across.
charts.makers.seeds = (study, element) => {
  const effects = study.verdict.effects.filter((effect) => effect.figure === "wer");
  const across = Math.min(effects.length, charts.isNarrow(element) ? 2 : 5);
  const rows = Math.ceil(effects.length / across);
  const layout = { grid: { rows, columns: across, pattern: "independent", xgap: 0.25, ygap: 0.35 }, height: 90 + 260 * rows };
  const traces = [];
  const known = new Set();
  effects.forEach((effect, number) => {
    const suffix = number ? String(number + 1) : "";
    const axes = { xaxis: `x${suffix}`, yaxis: `y${suffix}` };
    const line = { gridcolor: page.colour("line"), zeroline: false, automargin: true };
    layout[`xaxis${suffix}`] = { ...line, type: "category", range: [-0.6, 1.6], title: { text: effect.name, standoff: 4 } };
    layout[`yaxis${suffix}`] = { ...line, title: { text: number % across ? "" : "WER, %" } };
    study.verdict.classes.forEach((name, side) => {
      const seeds = side ? effect.second_seeds : effect.first_seeds;
      traces.push({
        type: "scatter", mode: "markers", name, legendgroup: name, showlegend: number === 0, marker: charts.marker(name, 11), ...axes, x: seeds.map(() => name), y: seeds,
        text: seeds.map((_, seed) => `${effect.name}, seed ${study.verdict.seeds[seed]}`), hovertemplate: `${name} %{y:.2f}<br>%{text}<extra></extra>`,
      });
      traces.push({
        type: "scatter", mode: "markers", name: "mean", legendgroup: "mean", showlegend: number === 0 && side === 0, ...axes, x: [name], y: [side ? effect.second : effect.first],
        marker: { symbol: "line-ew-open", size: 30, line: { width: 2.5 }, color: page.colour("text") }, hovertemplate: "mean %{y:.2f}<extra></extra>",
      });
    });
    study.tests.published.forEach((row, place) => {
      const value = row.figures[effect.name]?.wer;
      if (value === undefined) return;
      traces.push({
        type: "scatter", mode: "lines", name: `published: ${row.name}`, legendgroup: row.name, showlegend: !known.has(row.name), ...axes, x: study.verdict.classes, y: [value, value],
        line: { dash: ["dot", "dash", "longdash", "dashdot"][place % 4], width: 1.5, color: page.colour("quiet") }, hovertemplate: `${row.name} %{y:.2f}<extra></extra>`,
      });
      known.add(row.name);
    });
  });
  element.style.height = `${layout.height}px`;
  return { traces, layout };
};

// A figure against another one, such as WER against the perplexity of the internal language model, with the Pareto front.
charts.makers.plane = (study, element) => {
  const plane = study.planes[Number(element.dataset.key)];
  const trials = charts.byNumber(study);
  const traces = [];
  const digits = (metric) => (metric === "parameters" ? ",.0f" : /rtf/.test(metric) ? ".4f" : ".2f");
  const front = plane.points.filter((point) => point.on_front).sort((a, b) => a.x - b.x);
  traces.push({
    type: "scatter", mode: "lines", name: "Pareto front", x: front.map((point) => point.x), y: front.map((point) => point.y),
    line: { color: page.colour("quiet"), dash: "dash", shape: "hv" }, hoverinfo: "skip",
  });
  for (const confirms of [false, true]) {
    for (const name of charts.classes(study.trials)) {
      const points = plane.points.filter((point) => trials.get(point.number).recipe_class === name && trials.get(point.number).is_search !== confirms);
      if (!points.length) continue;
      const marker = charts.marker(name, confirms ? 9 : 10);
      if (confirms) marker.symbol += "-open";
      const few = !confirms;
      const label = (point) => { const trial = trials.get(point.number); return few && (trial.name || (point.on_front && front.length <= 5)) ? trial.name || String(trial.number) : ""; };
      traces.push({
        type: "scatter", mode: few ? "markers+text" : "markers", name: (name || "trial") + (confirms ? ", new seed" : ""),
        x: points.map((point) => point.x), y: points.map((point) => point.y), marker,
        text: points.map(label), textposition: "top center",
        textfont: { size: 11 }, customdata: points.map((point) => charts.describe(trials.get(point.number))),
        hovertemplate: `%{customdata}<br>${charts.label(plane.y_metric)} %{y:${digits(plane.y_metric)}}, ${charts.label(plane.x_metric)} %{x:${digits(plane.x_metric)}}<extra></extra>`,
      });
    }
  }
  return {
    traces,
    layout: {
      xaxis: { title: { text: charts.label(plane.x_metric) }, range: charts.range(plane.points.map((point) => point.x), 0.14) },
      yaxis: { title: { text: charts.label(plane.y_metric) }, range: charts.range(plane.points.map((point) => point.y), 0.12) },
    },
  };
};
