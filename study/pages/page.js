"use strict";
// What the scripts of all pages use. The page's numbers are in one element, as JSON.
const page = {
  data: JSON.parse(document.getElementById("data").textContent),

  isDark() {
    return window.matchMedia("(prefers-color-scheme: dark)").matches;
  },

  colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  },

  // The colour of a look of the palette (study/pages/palette.py) on this page.
  tint(look) {
    return page.isDark() ? look.dark : look.light;
  },

  number(value, digits = 2) {
    return value === null || value === undefined ? "–" : value.toFixed(digits);
  },

  layout(changes = {}) {
    const axis = { gridcolor: page.colour("line"), zerolinecolor: page.colour("line"), automargin: true };
    const { xaxis = {}, yaxis = {}, ...rest } = changes;
    return {
      paper_bgcolor: page.colour("background"),
      plot_bgcolor: page.colour("background"),
      font: { color: page.colour("text"), size: 13 },
      margin: { l: 56, r: 16, t: 16, b: 48 },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
      hoverlabel: { align: "left" },
      xaxis: { ...axis, ...xaxis },
      yaxis: { ...axis, ...yaxis },
      ...rest,
    };
  },

  charts: [],

  // Draws into the element of this id when it comes into view, and again when light changes to dark. `make` returns
  // {traces, layout}; what it draws comes from page.data.
  chart(id, make) {
    const element = document.getElementById(id);
    if (!element) return;
    const draw = () => {
      const { traces, layout = {} } = make();
      Plotly.react(element, traces, page.layout(layout), { responsive: true, displaylogo: false });
      element.dataset.drawn = "yes";
    };
    page.charts.push(draw);
    const observer = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      draw();
    }, { rootMargin: "400px" });
    observer.observe(element);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      if (element.dataset.drawn) draw();
    });
    window.addEventListener("beforeprint", draw);
  },
};

// Tables whose headers have data-sort ("text" or "number") are sorted by a click, or by Enter on the header.
for (const header of document.querySelectorAll("th[data-sort]")) {
  header.tabIndex = 0;
  header.setAttribute("aria-sort", "none");
  const sort = () => {
    const rows = [...header.closest("table").tBodies[0].rows];
    const column = header.cellIndex;
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const sign = ascending ? 1 : -1;
    rows.sort((a, b) => {
      if (header.dataset.sort === "text") return sign * value(a).localeCompare(value(b));
      const [x, y] = [parseFloat(value(a)), parseFloat(value(b))];
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y); // what has no figure comes last
      return sign * (x - y);
    });
    for (const other of header.parentElement.cells) {
      if (other.dataset.sort) other.setAttribute("aria-sort", "none");
    }
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    header.closest("table").tBodies[0].append(...rows);
  };
  header.addEventListener("click", sort);
  header.addEventListener("keydown", (event) => event.key === "Enter" && sort());
}
