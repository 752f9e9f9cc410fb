// The timeline: one or two panes over one time axis, for a sampling run and for a training.
//
// In the room: frames in an array by step index, drawing, scrubbing, playing, keys. Frames arrive
// once and stay here, so scrubbing never asks the server. Not in the room: sampling, limits, files.
// Given by gr.HTML: element, props (setup: the words), watch, server (frames, export, if there are).
// Message and setup are documented in timeline.py. Style: timeline.css. Over 300 lines, since gr.HTML
// takes one script for a component.
const setup = props.setup;
const FRAME_MS = setup.frame_ms; // one frame of playback at 1x
const GAP = 1; // picture pixels between the images of a batch
const NO_BREAK = "\u00a0";

element.innerHTML = `
<section class="ddpm-tl ddpm-widget" tabindex="0" aria-label="${setup.label}">
  <div class="tl-top wd-top">
    <span class="tl-badge wd-badge" data-state="idle" ${setup.title ? "hidden" : ""}>Ready</span>
    <b class="tl-title" ${setup.title ? "" : "hidden"}>${setup.title}</b>
    <span class="tl-status">${setup.idle}</span>
    <span class="tl-says wd-says" role="status" aria-live="polite"></span>
  </div>
  <div class="tl-panes">
    <figure class="tl-pane tl-x0">
      <figcaption>${setup.panes[0].caption}</figcaption>
      <canvas role="img" aria-label="${setup.panes[0].label}" width="28" height="28"></canvas>
    </figure>
    <figure class="tl-pane tl-xt">
      <figcaption>${setup.panes[1].caption}</figcaption>
      <canvas role="img" aria-label="${setup.panes[1].label}" width="28" height="28"></canvas>
    </figure>
  </div>
  <div class="tl-axis">
    <span class="tl-hint">${setup.hint}</span>
    <svg class="tl-spark" viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">
      <path class="tl-area"></path><path class="tl-line"></path>
    </svg>
    <span class="tl-cursor" aria-hidden="true"></span>
    <input class="tl-range wd-range" type="range" min="0" max="0" value="0" step="1" disabled
           aria-label="Frame" aria-valuetext="no frames yet">
  </div>
  <div class="tl-foot">
    <button class="tl-play wd-play" type="button" aria-label="Play" aria-pressed="false" disabled>
      <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7 4.5v15l12.5-7.5z"></path></svg>
    </button>
    <select class="tl-speed" aria-label="Playback speed">
      <option value="0.5">0.5×</option><option value="1" selected>1×</option>
      <option value="2">2×</option><option value="4">4×</option>
    </select>
    <output class="tl-where" aria-live="off"></output>
    <button class="tl-live" type="button" hidden>Live</button>
    <span class="tl-save" role="group" aria-label="Download" ${setup.download ? "" : "hidden"}>
      <span class="tl-saylabel">Download</span>
      <button type="button" data-format="png" title="The last picture, its settings inside" disabled>PNG</button>
      <button type="button" data-format="webp" title="The run as a film" disabled>WebP</button>
      <button type="button" data-format="gif" title="The run as a film, for old programs" disabled>GIF</button>
    </span>
  </div>
</section>`;

const $ = (selector) => element.querySelector(selector);
const root = $(".ddpm-tl");
const range = $(".tl-range");
const playButton = $(".tl-play");
const liveChip = $(".tl-live");
const saveButtons = [...element.querySelectorAll(".tl-save button")];
const canvases = { x0: $(".tl-x0 canvas"), x: $(".tl-xt canvas") };
const ICON = { play: "M7 4.5v15l12.5-7.5z", pause: "M6 4.5h4.5v15H6zM13.5 4.5H18v15h-4.5z" };
const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;

let run = null; // id of the run on the screen
let state = "idle"; // idle | waiting | starting | running | done | stopped | error
let meta = {}; // what is the same for all frames of the run
let frames = []; // by step index; holes where a long run kept no frame
let shown = -1; // index on the screen
let live = true; // the newest frame is followed
let timer = null; // the playback timer, null while not playing
let focus = -1; // the one image of the batch that fills the panes, -1 for all

// ---- frames -------------------------------------------------------------------------------------
const indexes = () => Object.keys(frames).map(Number); // ascending: array keys are
const newest = () => frames.length - 1;
const words = (text, index) => text
  .replaceAll("{n}", index + 1)
  .replaceAll("{total}", meta.total)
  .replaceAll("{t}", frames[index]?.t);

function nearest(index) {
  if (frames[index]) return index;
  for (let d = 1; d < Math.max(frames.length, index) + 1; d++) {
    if (frames[index - d]) return index - d;
    if (frames[index + d]) return index + d;
  }
  return -1;
}

function neighbour(index, direction) {
  for (let i = index + direction; i >= 0 && i < frames.length; i += direction) {
    if (frames[i]) return i;
  }
  return index;
}

function store(frame) {
  if (frames[frame.index]) return;
  const pictures = { x0: picture(frame, "x0") };
  if (frame.x) pictures.x = picture(frame, "x");
  root.dataset.panes = frame.x ? 2 : 1;
  frames[frame.index] = { ...frame, pictures };
}

function picture(frame, name) {
  const image = new Image();
  image.onload = () => { if (shown === frame.index) paint(name, image); };
  image.src = frame[name];
  return image;
}

// ---- drawing ------------------------------------------------------------------------------------
function show(index) {
  const frame = frames[index];
  if (!frame) return;
  shown = index;
  for (const name of ["x0", "x"]) {
    if (frame.pictures[name]?.complete) paint(name, frame.pictures[name]);
  }
  const text = words(setup.says, index);
  range.value = index;
  range.setAttribute("aria-valuetext", text);
  canvases.x0.setAttribute("aria-label", `${setup.panes[0].label}, ${text}`);
  canvases.x.setAttribute("aria-label", `${setup.panes[1].label}, ${text}`);
  $(".tl-where").textContent = words(setup.where, index);
  root.style.setProperty("--tl-at", meta.total > 1 ? index / (meta.total - 1) : 1);
  root.dataset.index = index;
}

function paint(name, image) {
  const canvas = canvases[name];
  const columns = meta.columns || 1;
  const count = meta.batch || 1;
  const width = image.naturalWidth / columns;
  const height = image.naturalHeight / Math.ceil(count / columns);
  const across = focus < 0 ? columns : 1;
  const down = focus < 0 ? Math.ceil(count / columns) : 1;
  resize(canvas, across * (width + GAP) - GAP, down * (height + GAP) - GAP);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < count; i++) {
    if (focus >= 0 && i !== focus) continue;
    const at = focus < 0 ? i : 0;
    context.drawImage(
      image, (i % columns) * width, Math.floor(i / columns) * height, width, height,
      (at % across) * (width + GAP), Math.floor(at / across) * (height + GAP), width, height);
  }
}

function resize(canvas, width, height) {
  if (canvas.width === width && canvas.height === height) return;
  canvas.width = width; // setting a size clears the canvas, so only when it differs
  canvas.height = height;
}

function drawSpark() {
  const all = indexes();
  const total = meta.total || 1;
  const changes = all.map((i) => frames[i].change || 0);
  const top = Math.max(...changes, 1e-6);
  const points = all.slice(1).map((i, k) => {
    const x = total > 1 ? (1000 * i) / (total - 1) : 0;
    return [x.toFixed(1), (96 - 88 * Math.sqrt(changes[k + 1] / top)).toFixed(1)];
  });
  const line = points.map((p) => p.join(",")).join("L");
  $(".tl-line").setAttribute("d", points.length > 1 ? `M${line}` : "");
  $(".tl-area").setAttribute(
    "d", points.length > 1 ? `M${points[0][0]},100L${line}L${points.at(-1)[0]},100Z` : "");
}

// ---- words --------------------------------------------------------------------------------------
const BADGES = {
  waiting: "Waiting", starting: "Starting", running: "Running", done: "Finished",
  stopped: "Stopped", error: "Problem", idle: "Ready",
};

function describe() {
  const frame = frames[newest()];
  if (setup.status) return frame ? words(setup.status, newest()) : setup.idle;
  const speed = frame ? `${frame.steps_per_second.toFixed(1)} steps/s` : "";
  const parts = [];
  if (run === "example" && state === "done") {
    parts.push(`${meta.total} steps`, `seed ${meta.seed}`);
    return `drawn by the bundled model when this server started · ${join(parts)}`;
  } else if (state === "running" && frame) {
    const left = (meta.total - frame.index - 1) / Math.max(frame.steps_per_second, 1e-6);
    parts.push(`step ${frame.index + 1}/${meta.total}`, `t ${frame.t}`, speed);
    parts.push(`${left.toFixed(1)} s left`, meta.device);
  } else if (frame && (state === "done" || state === "stopped")) {
    parts.push(state === "done" ? `${meta.total} steps` : `at step ${frame.index + 1}/${meta.total}`);
    parts.push(meta.sampler, `seed ${meta.seed}`, speed, meta.device);
  }
  return join(parts);
}

// A line may break between the parts, not inside one.
const join = (parts) => parts.filter(Boolean).map((p) => p.replaceAll(" ", NO_BREAK)).join(" · ");

function setState(next, message) {
  const changed = next !== state;
  state = next;
  const example = run === "example" && (state === "done" || state === "running");
  const badge = $(".tl-badge");
  badge.dataset.state = example ? "example" : state;
  badge.textContent = example ? "Example run" : BADGES[state];
  $(".tl-status").textContent = message || describe();
  if (changed) $(".tl-says").textContent = `${badge.textContent}. ${message || ""}`;
  refreshControls();
}

function refreshControls() {
  const empty = frames.length === 0;
  const busy = state === "running" || state === "starting" || state === "waiting";
  range.disabled = playButton.disabled = empty;
  liveChip.hidden = !(state === "running" && !live);
  for (const button of saveButtons) button.disabled = empty || busy;
}

// ---- playing and scrubbing ----------------------------------------------------------------------
function pause() {
  clearTimeout(timer);
  timer = null;
  playButton.setAttribute("aria-label", "Play");
  playButton.setAttribute("aria-pressed", "false");
  $(".tl-play path").setAttribute("d", ICON.play);
}

function play() {
  if (frames.length === 0) return;
  live = false;
  playButton.setAttribute("aria-label", "Pause");
  playButton.setAttribute("aria-pressed", "true");
  $(".tl-play path").setAttribute("d", ICON.pause);
  if (shown >= newest()) show(nearest(0));
  timer = setTimeout(tick, FRAME_MS / Number($(".tl-speed").value));
  refreshControls();
}

function tick() {
  const next = neighbour(shown, 1);
  if (next === shown && state !== "running") return pause();
  show(next);
  timer = setTimeout(tick, FRAME_MS / Number($(".tl-speed").value));
}

function scrub(index) {
  pause();
  live = false;
  show(nearest(Math.min(index, newest())));
  refreshControls();
}

function goLive() {
  pause();
  live = true;
  show(newest());
  refreshControls();
}

function onKey(event) {
  if (frames.length === 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.target.closest("button, select") && event.key === " ") return;
  if (event.target.closest("select")) return;
  const step = event.shiftKey ? 10 : 1;
  const actions = {
    ArrowLeft: () => scrub(step > 1 ? Math.max(0, shown - step) : neighbour(shown, -1)),
    ArrowRight: () => scrub(step > 1 ? shown + step : neighbour(shown, 1)),
    Home: () => scrub(nearest(0)),
    End: () => (state === "running" ? goLive() : scrub(newest())),
    " ": () => (timer ? pause() : play()),
    Escape: () => focusOn(-1),
  };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
}

function focusOn(index) {
  focus = index;
  show(shown);
}

function onCanvas(event) {
  if (!frames[shown] || (meta.batch || 1) < 2) return;
  if (focus >= 0) return focusOn(-1);
  const box = event.currentTarget.getBoundingClientRect();
  const rows = Math.ceil(meta.batch / meta.columns);
  const column = Math.floor(((event.clientX - box.left) / box.width) * meta.columns);
  const index = Math.floor(((event.clientY - box.top) / box.height) * rows) * meta.columns + column;
  if (index < meta.batch) focusOn(index);
}

// ---- messages from the server -------------------------------------------------------------------
function receive(message) {
  if (!message) return;
  if (message.run !== run) begin(message);
  const over = ["done", "stopped", "error"].includes(state);
  if (over && !setup.resumes && message.run === run && !["done", "error"].includes(message.state)) {
    message = { ...message, state }; // an update that was under way while Stop was pressed
  }
  Object.assign(meta, message.meta || {});
  const added = (message.frames || []).length;
  for (const frame of message.frames || []) store(frame);
  root.dataset.have = firstHole();
  if (added) {
    range.max = meta.total - 1;
    drawSpark();
    if (live) show(newest());
  }
  setState(message.state, message.message);
  if (message.state === "done" && message.kept) fillHoles(message.kept);
}

function firstHole() {
  let count = 0;
  while (frames[count]) count += 1;
  return count;
}

function begin(message) {
  pause();
  run = message.run;
  state = "idle"; // how the run before ended says nothing about this one
  meta = {};
  frames = [];
  focus = -1;
  live = true;
  root.dataset.index = -1;
  root.dataset.run = run;
  if (setup.resumes) blank(); // another training's pictures would lie about this one
  drawSpark(); // the last picture stays until the first new frame replaces it
}

function blank() {
  for (const canvas of Object.values(canvases)) {
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  }
  $(".tl-where").textContent = "";
  root.style.setProperty("--tl-at", 0);
}

async function fillHoles(kept) {
  const missing = kept.filter((index) => !frames[index]); // a browser may merge two updates
  if (missing.length === 0) return;
  const message = await server.frames({ run, missing });
  if (message && message.run === run) receive({ ...message, kept: null });
}

async function example() {
  for (let failures = 0; failures < 20 && (run === null || run === "example"); ) {
    const message = await server.frames({ run: "example", missing: null, have: frames.length });
    if (run !== null && run !== "example") return; // a visitor was faster
    if (message) receive(message);
    else failures += 1;
    if (message && (message.state === "done" || message.state === "error")) break;
    await new Promise((resolve) => setTimeout(resolve, 120));
  }
  if (run === "example" && state === "done" && !calm) {
    show(nearest(0));
    play();
  }
}

async function download(button) {
  button.dataset.busy = "true";
  const file = await server.export({ run, format: button.dataset.format });
  delete button.dataset.busy;
  if (!file || file.error) {
    $(".tl-status").textContent = file ? file.error : "The server did not answer: try again.";
    return;
  }
  const bytes = Uint8Array.from(atob(file.data), (c) => c.charCodeAt(0));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type: file.mime }));
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// ---- wiring -------------------------------------------------------------------------------------
range.addEventListener("pointerdown", () => { pause(); live = false; refreshControls(); });
range.addEventListener("input", () => scrub(Number(range.value)));
playButton.addEventListener("click", () => (timer ? pause() : play()));
liveChip.addEventListener("click", goLive);
root.addEventListener("keydown", onKey);
for (const canvas of Object.values(canvases)) canvas.addEventListener("click", onCanvas);
for (const button of saveButtons) button.addEventListener("click", () => download(button));
watch("value", () => receive(props.value));
root.dataset.panes = setup.panes.length > 1 && !setup.resumes ? 2 : 1;
if (setup.example) example();
else receive(props.value); // it may have come before the tab was opened
