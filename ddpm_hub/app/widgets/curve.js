// The chart of a training: raw and smoothed losses, loss by time step, figures.
//
// In the room: the losses of one run in an array, drawing them as SVG, reading them with pointer and
// keys. They arrive as increments, each with its place, so that a lost or doubled message does no
// harm. Not in the room: training, and the buttons that steer it.
// Given by gr.HTML: element, props, watch. The message is documented in curve.py. Style: curve.css.
// Over 300 lines, since gr.HTML takes one script for a component.
const PAD = { left: 46, right: 12, top: 10, bottom: 24 }; // of the plot, in pixels
const HEIGHT = 230;
const NO_BREAK = "\u00a0";

element.innerHTML = `
<section class="ddpm-curve ddpm-widget" aria-label="Training run: loss and figures" data-count="0">
  <div class="cv-top wd-top">
    <span class="cv-badge wd-badge" data-state="idle">Ready</span>
    <span class="cv-status">Nothing trains yet: choose the pictures and a preset, then press Start.</span>
    <span class="cv-says wd-says" role="status" aria-live="polite"></span>
  </div>
  <div class="cv-progress" role="progressbar" aria-label="Steps done" aria-valuemin="0"
       aria-valuemax="100" aria-valuenow="0"><i></i></div>
  <dl class="cv-figures">
    <div><dt>Step</dt><dd data-figure="step">–</dd></div>
    <div><dt>Time left</dt><dd data-figure="left">–</dd></div>
    <div><dt>Images/s</dt><dd data-figure="rate">–</dd></div>
    <div><dt>Gradient norm</dt><dd data-figure="norm">–</dd></div>
    <div><dt>Learning rate</dt><dd data-figure="lr">–</dd></div>
    <div><dt>Skipped steps</dt><dd data-figure="skipped">–</dd></div>
    <div><dt>Device</dt><dd data-figure="device">–</dd></div>
  </dl>
  <div class="cv-charts">
    <figure class="cv-loss">
      <figcaption>
        <b>Loss</b>
        <span class="cv-key"><i class="cv-key-raw"></i>each step</span>
        <span class="cv-key"><i class="cv-key-smooth"></i>smoothed</span>
        <button class="cv-log" type="button" aria-pressed="true"
                title="A logarithmic axis, or a linear one">log</button>
      </figcaption>
      <div class="cv-plot" role="slider" tabindex="0" aria-label="Loss by step" aria-valuemin="0"
           aria-valuemax="0" aria-valuenow="0" aria-valuetext="no losses yet">
        <svg aria-hidden="true" height="${HEIGHT}">
          <g class="cv-grid"></g>
          <path class="cv-raw"></path><path class="cv-smooth"></path>
          <line class="cv-cursor" y1="${PAD.top}" y2="${HEIGHT - PAD.bottom}"></line>
          <circle class="cv-dot" r="4"></circle>
        </svg>
      </div>
      <output class="cv-readout" aria-live="off">no losses yet</output>
    </figure>
    <figure class="cv-times">
      <figcaption><b>Loss by time</b></figcaption>
      <div class="cv-bars" role="img" aria-label="Loss by time step: none yet">
        ${"<i><b></b></i>".repeat(10)}
      </div>
      <div class="cv-ends"><span>t = 0, clean</span><span>noise, t = T</span></div>
    </figure>
  </div>
</section>`;

const $ = (selector) => element.querySelector(selector);
const root = $(".ddpm-curve");
const plot = $(".cv-plot");
const svg = $(".cv-plot svg");
const logButton = $(".cv-log");
const bars = [...element.querySelectorAll(".cv-bars i")];

let run = null; // id of the training on the screen
let state = "idle";
let total = 0; // optimiser steps asked for
let losses = []; // of step 1, 2, ...; null where one was not finite
let smooth = []; // their running mean, null until there is one
let weights = 0; // of that mean's numbers so far, to correct its start
let mean = 0;
let log = true; // the axis
let cursor = -1; // the index read out, -1: the newest
let width = 600; // of the drawing, in pixels

// ---- numbers ------------------------------------------------------------------------------------
function cut(count) {
  if (count >= losses.length) return;
  const kept = losses.slice(0, count);
  losses = [];
  smooth = [];
  weights = mean = 0;
  for (const loss of kept) append(loss);
}

function append(loss) {
  const keep = 1 - 1 / Math.min(Math.max(total / 50, 4), 150); // about a fiftieth of the run
  if (loss !== null) {
    mean = keep * mean + (1 - keep) * loss;
    weights = keep * weights + (1 - keep);
  }
  losses.push(loss);
  smooth.push(weights > 0 ? mean / weights : null);
}

function brief(value) {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

// ---- axes ---------------------------------------------------------------------------------------
function niceTicks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high * (1 + 1e-9); i++) ticks.push(i * step);
  return ticks;
}

function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const factor of [1, 2, 5]) {
      const value = factor * 10 ** power;
      if (value >= low && value <= high) ticks.push(value);
    }
  }
  return ticks.length > 2 ? ticks.filter((_, i) => ticks.length < 8 || i % 2 === 0)
    : niceTicks(low, high, 4).filter((value) => value > 0);
}

function axes() {
  const known = losses.filter((loss) => loss !== null && (!log || loss > 0));
  let low = Infinity, high = -Infinity;
  for (const loss of known) { low = Math.min(low, loss); high = Math.max(high, loss); }
  if (!known.length) [low, high] = [0.01, 1];
  if (low === high) [low, high] = [low * 0.9, high * 1.1 + 1e-9];
  const scale = log ? Math.log : (value) => value;
  if (!log) low = Math.min(low, 0);
  const [bottom, top] = [scale(low), scale(high)];
  const room = (top - bottom) * 0.06;
  const inner = { w: width - PAD.left - PAD.right, h: HEIGHT - PAD.top - PAD.bottom };
  const last = Math.max(losses.length, 2);
  return {
    low, high, last,
    x: (index) => PAD.left + (inner.w * index) / (last - 1),
    y: (value) => PAD.top + (inner.h * (top + room - scale(value))) / (top - bottom + 2 * room),
    index: (x) => Math.round(((x - PAD.left) / inner.w) * (last - 1)),
  };
}

// ---- drawing ------------------------------------------------------------------------------------
function path(values, axis) {
  // at most one low and one high point for each pixel column: 20,000 losses draw like 1,000
  const stride = Math.max(1, Math.floor(values.length / Math.max(width, 200)));
  let line = "";
  let pen = "M";
  for (let begin = 0; begin < values.length; begin += stride) {
    let least = -1, most = -1;
    for (let i = begin; i < Math.min(begin + stride, values.length); i++) {
      if (values[i] === null || (log && values[i] <= 0)) continue;
      if (least < 0 || values[i] < values[least]) least = i;
      if (most < 0 || values[i] > values[most]) most = i;
    }
    if (least < 0) { pen = "M"; continue; }
    for (const i of least === most ? [least] : [Math.min(least, most), Math.max(least, most)]) {
      line += `${pen}${axis.x(i).toFixed(1)},${axis.y(values[i]).toFixed(1)}`;
      pen = "L";
    }
  }
  return line;
}

function grid(axis) {
  const right = width - PAD.right, bottom = HEIGHT - PAD.bottom;
  const rows = (log ? logTicks(axis.low, axis.high) : niceTicks(axis.low, axis.high, 5)).map((value) => {
    const y = axis.y(value).toFixed(1);
    return `<line x1="${PAD.left}" x2="${right}" y1="${y}" y2="${y}"></line>` +
      `<text x="${PAD.left - 7}" y="${y}" dy="0.34em" text-anchor="end">${brief(value)}</text>`;
  });
  const steps = niceTicks(1, axis.last, width < 420 ? 3 : 6).filter((v) => v >= 1 && Number.isInteger(v));
  const columns = steps.map((step) => {
    const x = axis.x(step - 1).toFixed(1);
    const anchor = axis.x(step - 1) > right - 16 ? "end" : "middle";
    return `<text x="${x}" y="${bottom + 16}" text-anchor="${anchor}">${step.toLocaleString("en")}</text>`;
  });
  const base = `<line class="cv-base" x1="${PAD.left}" x2="${right}" y1="${bottom}" y2="${bottom}"></line>`;
  return rows.join("") + base + columns.join("");
}

function draw() {
  svg.setAttribute("width", width);
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  root.dataset.empty = losses.length === 0;
  say(plot, losses.length ? null : "Every step's loss will be drawn here.");
  const axis = axes();
  $(".cv-grid").innerHTML = losses.length ? grid(axis) : "";
  $(".cv-raw").setAttribute("d", path(losses, axis));
  $(".cv-smooth").setAttribute("d", path(smooth, axis));
  point(axis);
}

function point(axis = axes()) {
  const index = cursor < 0 ? losses.length - 1 : Math.min(cursor, losses.length - 1);
  root.dataset.cursor = cursor >= 0;
  if (index < 0) {
    $(".cv-readout").textContent = "no losses yet";
    plot.setAttribute("aria-valuetext", "no losses yet");
    return;
  }
  const x = axis.x(index).toFixed(1);
  $(".cv-cursor").setAttribute("x1", x);
  $(".cv-cursor").setAttribute("x2", x);
  $(".cv-dot").setAttribute("cx", x);
  if (smooth[index] !== null) $(".cv-dot").setAttribute("cy", axis.y(smooth[index]).toFixed(1));
  const text = [
    `step ${(index + 1).toLocaleString("en")}`,
    `loss ${brief(losses[index])}`,
    `smoothed ${brief(smooth[index])}`,
  ];
  $(".cv-readout").textContent = text.map((part) => part.replaceAll(" ", NO_BREAK)).join(" · ");
  plot.setAttribute("aria-valuemin", 1);
  plot.setAttribute("aria-valuemax", losses.length);
  plot.setAttribute("aria-valuenow", index + 1);
  plot.setAttribute("aria-valuetext", text.join(", "));
}

function drawBars(byTime) {
  const known = byTime.filter((loss) => loss !== null);
  say($(".cv-bars"), known.length ? null : "No losses by time yet.");
  const top = Math.max(...known, 1e-12);
  bars.forEach((bar, i) => {
    const loss = byTime[i] ?? null;
    bar.firstChild.style.height = loss === null ? "0" : `${Math.max((100 * loss) / top, 1)}%`;
    bar.title = `t in tenth ${i + 1} of T: ${loss === null ? "not seen yet" : `loss ${brief(loss)}`}`;
  });
  $(".cv-bars").setAttribute("aria-label", known.length
    ? `Loss by time step, ten tenths from clean to noise: ${byTime.map(brief).join(", ")}`
    : "Loss by time step: none yet");
}

// ---- words --------------------------------------------------------------------------------------
// In a chart that is empty, for the eye only: the ear gets the status line.
function say(chart, text) {
  if (text) chart.dataset.says = text;
  else delete chart.dataset.says;
}

const BADGES = {
  idle: "Ready", queued: "Waiting", preparing: "Preparing", running: "Training", paused: "Paused",
  stopped: "Stopped", done: "Finished", error: "Problem", interrupted: "Interrupted",
};

function describe(message) {
  const changed = state !== message.state;
  state = message.state;
  const badge = $(".cv-badge");
  badge.dataset.state = root.dataset.state = state;
  badge.textContent = BADGES[state] || state;
  $(".cv-status").textContent = [message.name, message.message].filter(Boolean).join(" · ");
  if (changed) $(".cv-says").textContent = `${badge.textContent}. ${message.message || ""}`;
}

function fillFigures(figures) {
  const live = state === "running";
  const texts = {
    step: `${losses.length.toLocaleString("en")} of ${total.toLocaleString("en")}`,
    left: live ? duration(figures.eta_seconds) : "–",
    rate: brief(figures.images_per_second),
    norm: brief(figures.grad_norm),
    lr: brief(figures.lr),
    skipped: brief(figures.skipped),
    device: figures.device || "–",
  };
  for (const [name, text] of Object.entries(texts)) {
    $(`[data-figure="${name}"]`).textContent = text.replaceAll(" ", NO_BREAK);
  }
  const percent = total ? (100 * losses.length) / total : 0;
  $(".cv-progress i").style.width = `${percent}%`;
  $(".cv-progress").setAttribute("aria-valuenow", Math.round(percent));
  drawBars(figures.loss_by_t || []);
}

// ---- messages from the server -------------------------------------------------------------------
function receive(message) {
  if (!message || !message.run) return;
  if (message.run !== run) {
    run = root.dataset.run = message.run;
    total = message.total;
    cursor = -1;
    state = "idle";
    cut(0);
  }
  total = message.total;
  cut(Math.min(message.count, message.from)); // what is ours beyond, the server says anew
  if (message.from === losses.length) for (const loss of message.losses) append(loss);
  root.dataset.count = losses.length;
  describe(message);
  fillFigures(message.figures || {});
  draw();
}

// ---- pointer and keys ---------------------------------------------------------------------------
function read(index) {
  cursor = index < 0 ? -1 : Math.max(0, Math.min(index, losses.length - 1));
  point();
}

function onKey(event) {
  if (!losses.length || event.altKey || event.ctrlKey || event.metaKey) return;
  const far = Math.max(1, Math.round(losses.length / 20));
  const step = event.shiftKey ? far : 1;
  const at = cursor < 0 ? losses.length - 1 : cursor;
  const goals = {
    ArrowLeft: Math.max(0, at - step), ArrowDown: Math.max(0, at - step),
    ArrowRight: at + step, ArrowUp: at + step,
    PageDown: Math.max(0, at - far), PageUp: at + far,
    Home: 0, End: losses.length - 1, Escape: -1,
  };
  if (!(event.key in goals)) return;
  event.preventDefault();
  read(goals[event.key]);
}

plot.addEventListener("pointermove", (event) => {
  read(Math.max(0, axes().index(event.clientX - plot.getBoundingClientRect().left)));
});
plot.addEventListener("pointerleave", () => read(-1));
plot.addEventListener("blur", () => read(-1));
plot.addEventListener("keydown", onKey);
logButton.addEventListener("click", () => {
  log = !log;
  logButton.setAttribute("aria-pressed", log);
  draw();
});
new ResizeObserver(() => {
  if (plot.clientWidth && plot.clientWidth !== width) {
    width = plot.clientWidth;
    draw();
  }
}).observe(plot);
watch("value", () => receive(props.value));
draw();
drawBars([]);
receive(props.value); // it may have come before the tab was opened
