// The chart with a cursor, first half: points in an array by index, and drawing them.
//
// In the room: axes, marks, cursor and pictures as HTML and SVG. Not in the room: messages, pointer
// and keys (plot.js, appended to this file), numbers (Python). gr.HTML calls the two as one
// function of (element, props, watch). Setup and message: plot.py. Style: plot.css.
const setup = props.setup;
const PAD = { left: 50, right: 10, top: 8, bottom: 36 }; // of a chart, in pixels
const HEIGHT = 210;
const DECADES = 5; // of a logarithmic axis: what is smaller lies on its ground
const NOTHING = "nothing computed yet";
const BADGES = {
  idle: "Ready", waiting: "Waiting", running: "Running", done: "Finished", stopped: "Stopped",
  error: "Problem",
};

const keyHtml = (series) => `
  <span class="pl-key">
    <i style="background: var(--ddpm-${series.colour})"></i>${series.name}</span>`;
const chartHtml = (chart, i) => `
  <figure class="pl-chart" data-chart="${i}">
    <figcaption><b>${chart.title}</b><span class="pl-unit">${chart.y.label}</span>
      ${chart.series.length < 2 ? "" : chart.series.map(keyHtml).join("")}
      ${chart.y.log === undefined ? "" : `<button class="pl-log" type="button" data-chart="${i}"
        aria-pressed="${chart.y.log}" title="A logarithmic axis, or a linear one">log</button>`}
    </figcaption>
    <div class="pl-plot" role="slider" tabindex="0" aria-label="Cursor: ${chart.x.label}"
         aria-valuemin="0" aria-valuemax="0" aria-valuenow="0" aria-valuetext="${NOTHING}">
      <svg aria-hidden="true" height="${HEIGHT}"><g class="pl-grid"></g><g class="pl-marks"></g>
        <line class="pl-cursor" y1="${PAD.top}" y2="${HEIGHT - PAD.bottom}"></line>
        <g class="pl-dots"></g></svg>
    </div>
  </figure>`;
const paneHtml = (pane) => `
  <figure class="pl-pane" data-pane="${pane.key}" style="--pl-colour: var(--ddpm-${pane.colour})">
    <div class="pl-frame"><img alt="" hidden></div>
    <figcaption>${pane.caption}</figcaption>
  </figure>`;

element.innerHTML = `
<section class="ddpm-plot ddpm-widget" aria-label="${setup.label}" data-count="0" data-index="-1">
  <div class="pl-top wd-top">
    <span class="pl-badge wd-badge" data-state="idle">Ready</span>
    <span class="pl-status">${setup.idle}</span>
    <span class="pl-says wd-says" role="status" aria-live="polite"></span>
  </div>
  <div class="pl-progress" role="progressbar" aria-label="Network calls done" aria-valuemin="0"
       aria-valuemax="100" aria-valuenow="0"><i></i></div>
  <div class="pl-panes" style="--pl-panes: ${setup.panes.length}">
    ${setup.panes.map(paneHtml).join("")}
  </div>
  <output class="pl-text" aria-live="off"></output>
  <div class="pl-charts">${setup.charts.map(chartHtml).join("")}</div>
</section>`;

const $ = (selector) => element.querySelector(selector);
const root = $(".ddpm-plot");
const figures = [...element.querySelectorAll(".pl-chart")];
const logs = setup.charts.map((chart) => Boolean(chart.y.log));

let run = null; // id of the run on the screen
let state = "idle";
let points = []; // by index; holes while a run is under way
let cursor = -1; // the index on the screen
let moved = false; // somebody moved it: it stays where it was put

// ---- axes ---------------------------------------------------------------------------------------
const known = () => points.filter(Boolean);
const finite = (value) => typeof value === "number" && Number.isFinite(value);

function brief(value) {
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) {
    return value.toExponential(0).replace("e-", "e\u2212").replace("e+", "e");
  }
  return String(Number(value.toPrecision(3)));
}

function evenTicks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const ticks = [];
  const first = Math.ceil(low / step - 1e-9);
  for (let i = first; i * step <= high * (1 + 1e-9); i++) ticks.push(i * step);
  return ticks;
}

function logTicks(low, high) {
  const powers = [];
  const [first, last] = [Math.ceil(Math.log10(low)), Math.floor(Math.log10(high))];
  const stride = Math.max(1, Math.ceil((last - first + 1) / 6));
  for (let p = first; p <= last; p += stride) powers.push(10 ** p);
  return powers.length > 1 ? powers : evenTicks(low, high, 4).filter((value) => value > 0);
}

function axes(i) {
  const chart = setup.charts[i];
  const log = logs[i];
  const width = Math.max(figures[i].clientWidth, 160);
  const place = (point) => (chart.x.even ? point.index : point.values[chart.x.key]);
  const xs = known().map(place).filter(finite);
  const ys = known().flatMap((point) => chart.series.map((s) => point.values[s.key]))
    .filter((value) => finite(value) && (!log || value > 0));
  const [left, right] = xs.length ? [Math.min(...xs), Math.max(...xs)] : [0, 1];
  let [low, high] = ys.length ? [Math.min(...ys), Math.max(...ys)] : [log ? 0.01 : 0, 1];
  low = log ? Math.max(low, high / 10 ** DECADES) : Math.min(low, 0);
  if (low === high) high = low ? low * 2 : 1;
  const scale = log ? Math.log : (value) => value;
  const [bottom, top] = [scale(low), scale(high) + (scale(high) - scale(low)) * 0.05];
  const inner = { w: width - PAD.left - PAD.right, h: HEIGHT - PAD.top - PAD.bottom };
  const share = (value) => (value - left) / (right - left || 1);
  return {
    chart, log, width, left, right, low, high, inner,
    x: (value) => PAD.left + inner.w * share(value),
    at: (point) => PAD.left + inner.w * share(place(point)),
    y: (value) => PAD.top + (inner.h * (top - scale(Math.max(value, low)))) / (top - bottom),
  };
}

// ---- drawing ------------------------------------------------------------------------------------
function grid(axis) {
  const right = axis.width - PAD.right, bottom = HEIGHT - PAD.bottom;
  const rows = (axis.log ? logTicks : (low, high) => evenTicks(low, high, 4))(axis.low, axis.high);
  const wanted = axis.width < 380 ? 3 : 5;
  const { key, label, even } = axis.chart.x;
  const columns = even ? evenPoints(wanted).map((p) => [axis.at(p), p.values[key]])
    : evenTicks(axis.left, axis.right, wanted).map((value) => [axis.x(value), value]);
  return [
    ...rows.map((value) => {
      const y = axis.y(value).toFixed(1);
      return `<line x1="${PAD.left}" x2="${right}" y1="${y}" y2="${y}"></line>` +
        `<text x="${PAD.left - 6}" y="${y}" dy="0.34em" text-anchor="end">${brief(value)}</text>`;
    }),
    ...columns.map(([x, value]) => {
      const anchor = x > right - 12 ? "end" : x < PAD.left + 12 ? "start" : "middle";
      const place = `x="${x.toFixed(1)}" y="${bottom + 14}" text-anchor="${anchor}"`;
      return `<text ${place}>${brief(value)}</text>`;
    }),
    `<line class="pl-base" x1="${PAD.left}" x2="${right}" y1="${bottom}" y2="${bottom}"></line>`,
    `<text class="pl-axis" x="${right}" y="${bottom + 30}" text-anchor="end">${label}</text>`,
  ].join("");
}

function evenPoints(wanted) {
  const all = known();
  const last = all.length - 1;
  if (last < 1) return all;
  return Array.from({ length: wanted + 1 }, (_, i) => all[Math.round((last * i) / wanted)]);
}

function line(axis, series) {
  const inside = known().filter((point) => finite(point.values[series.key]));
  const places = inside.map((point) =>
    `${axis.at(point).toFixed(1)},${axis.y(point.values[series.key]).toFixed(1)}`);
  const path = places.length ? `M${places.join("L")}` : "";
  return `<path d="${path}" style="stroke: var(--ddpm-${series.colour})"></path>`;
}

function bars(axis, series) {
  const inside = known();
  const half = axis.inner.w / Math.max(inside.length, 2) / 2;
  const bottom = HEIGHT - PAD.bottom;
  return inside.map((point) => {
    const value = point.values[series.key];
    if (!finite(value) || (axis.log && value <= 0)) return "";
    const middle = axis.at(point);
    const x = Math.max(PAD.left, middle - half * 0.86);
    const width = Math.min(middle + half * 0.86, PAD.left + axis.inner.w) - x;
    const height = Math.max(bottom - axis.y(value), 0.5);
    return `<rect data-index="${point.index}" x="${x.toFixed(1)}" width="${width.toFixed(1)}"
      y="${(bottom - height).toFixed(1)}" height="${height.toFixed(1)}"
      style="fill: var(--ddpm-${series.colour})"></rect>`;
  }).join("");
}

function draw() {
  figures.forEach((figure, i) => {
    const axis = axes(i);
    const svg = figure.querySelector("svg");
    const mark = axis.chart.kind === "bars" ? bars : line;
    svg.setAttribute("width", axis.width);
    svg.setAttribute("viewBox", `0 0 ${axis.width} ${HEIGHT}`);
    figure.querySelector(".pl-grid").innerHTML = grid(axis);
    const marks = axis.chart.series.map((series) => mark(axis, series));
    figure.querySelector(".pl-marks").innerHTML = marks.join("");
  });
  root.dataset.count = known().length;
  point();
}

function point() {
  const here = points[cursor];
  root.dataset.index = here ? cursor : -1;
  figures.forEach((figure, i) => {
    const axis = axes(i);
    const x = here ? axis.at(here).toFixed(1) : 0;
    for (const end of ["x1", "x2"]) figure.querySelector(".pl-cursor").setAttribute(end, x);
    figure.querySelector(".pl-dots").innerHTML = !here || axis.chart.kind === "bars" ? "" :
      axis.chart.series.filter((s) => finite(here.values[s.key])).map((s) =>
        `<circle r="4.5" cx="${x}" cy="${axis.y(here.values[s.key]).toFixed(1)}"
           style="fill: var(--ddpm-${s.colour})"></circle>`).join("");
    for (const bar of figure.querySelectorAll("rect")) {
      bar.classList.toggle("pl-ahead", Number(bar.dataset.index) > cursor);
    }
  });
  $(".pl-text").textContent = here ? here.text : "";
  for (const slider of element.querySelectorAll(".pl-plot")) {
    slider.setAttribute("aria-valuemax", Math.max(points.length - 1, 0));
    slider.setAttribute("aria-valuenow", Math.max(cursor, 0));
    slider.setAttribute("aria-valuetext", here ? here.text : NOTHING);
  }
  showPictures();
}

function withPictures() {
  for (let d = 0; d < points.length; d++) {
    for (const index of [cursor - d, cursor + d]) if (points[index]?.pictures) return points[index];
  }
  return null;
}

function showPictures() {
  const from = cursor < 0 ? null : withPictures();
  for (const pane of setup.panes) {
    const image = $(`[data-pane="${pane.key}"] img`);
    const source = from?.pictures[pane.key];
    image.hidden = !source;
    if (!source) image.removeAttribute("src");
    else if (image.getAttribute("src") !== source) image.src = source;
    image.alt = source ? `${pane.label}; ${from.text}` : "";
  }
}
