// The timeline: one or two panes (three if asked) over one time axis, for a run and its branch.
//
// In the room: which frame is shown, scrubbing, playing, keys, messages, downloads. Scrubbing never
// asks the server. Not in the room: the page (timeline_page.js), a run's frames and how they are
// painted (timeline_row.js; both stand before this in the same script), sampling, limits, files.
// Given by gr.HTML: element, props (setup: the words), watch, trigger, server (frames, export, if
// there are). Message, setup and the event are documented in timeline.py. Style: timeline.css. Over
// 300 lines: one state, and all that changes it.
const FRAME_MS = setup.frame_ms; // one frame of playback at 1x
const NO_BREAK = "\u00a0";

const $ = (selector) => element.querySelector(selector);
const root = $(".ddpm-tl");
const range = $(".tl-range");
const playButton = $(".tl-play");
const liveChip = $(".tl-live");
const forkButton = $(".tl-fork");
const noiseButton = $(".tl-noise");
const saveButtons = [...element.querySelectorAll(".tl-save button")];
const ICON = { play: "M7 4.5v15l12.5-7.5z", pause: "M6 4.5h4.5v15H6zM13.5 4.5H18v15h-4.5z" };
const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;

let first = makeRow(null, $(".ddpm-tl > .tl-panes")); // the run on the screen
let second = null; // its branch, if there is one
let shown = -1; // index on the screen
let live = true; // the newest frame is followed
let timer = null; // the playback timer, null while not playing
let focus = -1; // the one image of the batch that fills the panes, -1 for all

// ---- frames -------------------------------------------------------------------------------------
const rows = () => (second ? [first, second] : [first]);
const active = () => second || first; // whose state the badge says, and whose files are saved
const has = (index) => rows().some((row) => row.frames[index]);
const newest = () => Math.max(...rows().map((row) => row.frames.length)) - 1;
const latest = () => active().frames.length - 1; // what is followed
const frameOf = (index) => rows().map((row) => row.frames[index]).find(Boolean);
const words = (text, index) => text
  .replaceAll("{n}", index + 1)
  .replaceAll("{total}", first.meta.total)
  .replaceAll("{t}", frameOf(index)?.t);

function nearest(index) {
  if (has(index)) return index;
  for (let d = 1; d < Math.max(newest() + 1, index) + 1; d++) {
    if (has(index - d)) return index - d;
    if (has(index + d)) return index + d;
  }
  return -1;
}

function neighbour(index, direction) {
  for (let i = index + direction; i >= 0 && i <= newest(); i += direction) {
    if (has(i)) return i;
  }
  return index;
}

// ---- drawing ------------------------------------------------------------------------------------
function show(index) {
  const frame = frameOf(index);
  if (!frame) return;
  shown = index;
  const text = words(setup.says, index);
  for (const row of rows()) {
    const mine = frameAt(row, index) || frameAt(first, index);
    showFrame(row, mine, first.meta, focus, text);
  }
  range.value = index;
  range.setAttribute("aria-valuetext", text);
  const label = focus >= 0 && frame.labels ? ` · class ${frame.labels[focus]}` : "";
  $(".tl-where").textContent = words(setup.where, index) + label;
  root.style.setProperty("--tl-at", first.meta.total > 1 ? index / (first.meta.total - 1) : 1);
  root.dataset.index = index;
  refreshFork();
}

function drawSpark() {
  const changes = rows().flatMap((row) => row.frames.map((frame) => frame.change || 0));
  const top = Math.max(...changes, 1e-6);
  const [line, area] = sparkPaths(first, first.meta.total || 1, top);
  $(".tl-line").setAttribute("d", line);
  $(".tl-area").setAttribute("d", area);
  $(".tl-other").setAttribute("d", second ? sparkPaths(second, first.meta.total || 1, top)[0] : "");
}

// ---- words --------------------------------------------------------------------------------------
const BADGES = {
  waiting: "Waiting", starting: "Starting", running: "Running", paused: "Paused", done: "Finished",
  stopped: "Stopped", error: "Problem", idle: "Ready",
};

function describe() {
  const { state, meta, run, frames } = active();
  const frame = frames.at(-1);
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
  } else if (frame && ["done", "stopped", "paused"].includes(state)) {
    parts.push(state === "done" ? `${meta.total} steps` : `at step ${frame.index + 1}/${meta.total}`);
    parts.push(meta.start ? `from t ${meta.start.t}` : "", meta.sampler, `seed ${frame.seed}`);
    parts.push(typeof meta.classes === "number" ? `class ${meta.classes}` : "", speed, meta.device);
  }
  return join(parts);
}

// A line may break between the parts, not inside one.
const join = (parts) => parts.filter(Boolean).map((p) => p.replaceAll(" ", NO_BREAK)).join(" · ");

function branchWords({ turns, noise_by: by, sampler }) {
  const [at, seed] = turns.at(-1);
  const how = by ? `, and by ${by}, since ${sampler} adds no noise that another seed could change` : "";
  return `Branch: after frame ${at} with the noise of seed ${seed}${how}.`;
}

function setState(row, next, message) {
  const changed = next !== row.state;
  row.state = next;
  if (row !== active()) return;
  const example = row.run === "example" && (next === "done" || next === "running");
  const badge = $(".tl-badge");
  badge.dataset.state = example ? "example" : next;
  badge.textContent = example ? "Example run" : BADGES[next];
  $(".tl-status").textContent = message || describe();
  if (changed) $(".tl-says").textContent = `${badge.textContent}. ${message || ""}`;
  refreshControls();
}

const busy = () => ["running", "starting", "waiting"].includes(active().state);

function refreshControls() {
  const empty = newest() < 0;
  range.disabled = playButton.disabled = empty;
  liveChip.hidden = !(active().state === "running" && !live);
  for (const button of saveButtons) button.disabled = active().frames.length === 0 || busy();
  refreshFork();
}

function refreshFork() {
  const last = (first.meta.total || 0) - 1;
  forkButton.disabled = busy() || !first.frames[shown] || shown >= last;
  const note = shown >= last ? "Go back to an earlier frame first: after the last, nothing is left"
    : "Draw on from this frame with other noise";
  if (forkButton.title !== note) forkButton.title = note;
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
  if (newest() < 0) return;
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
  if (next === shown && active().state !== "running") return pause();
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
  show(latest());
  refreshControls();
}

function onKey(event) {
  if (newest() < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.target.closest("button, select") && event.key === " ") return;
  if (event.target.closest("select")) return;
  const step = event.shiftKey ? 10 : 1;
  const actions = {
    ArrowLeft: () => scrub(step > 1 ? Math.max(0, shown - step) : neighbour(shown, -1)),
    ArrowRight: () => scrub(step > 1 ? shown + step : neighbour(shown, 1)),
    Home: () => scrub(nearest(0)),
    End: () => (active().state === "running" ? goLive() : scrub(newest())),
    " ": () => (timer ? pause() : play()),
    Escape: () => focusOn(-1),
    i: focusNext,
  };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
}

function focusOn(index) {
  focus = index;
  show(shown);
}

function onPanes(event) {
  if (event.target.tagName !== "CANVAS" || shown < 0 || (first.meta.batch || 1) < 2) return;
  if (focus >= 0) return focusOn(-1);
  const index = imageUnder(event.target, event, first.meta);
  if (index >= 0) focusOn(index);
}

// The images of the batch one by one, then all again.
function focusNext() {
  const next = focus + 1;
  focusOn(next < (first.meta.batch || 1) ? next : -1);
}

function toggleNoise() {
  const on = root.dataset.third !== "on";
  root.dataset.third = on ? "on" : "off";
  noiseButton.setAttribute("aria-pressed", String(on));
}

// ---- messages from the server -------------------------------------------------------------------
function receive(message) {
  if (!message || isLate(message)) return;
  const row = rowOf(message);
  const over = ["done", "stopped", "error"].includes(row.state);
  let { state } = message;
  // an update that was under way while Stop was pressed
  if (over && !setup.resumes && !["done", "error"].includes(state)) ({ state } = row);
  Object.assign(row.meta, message.meta || {});
  for (const frame of message.frames || []) {
    storeFrame(row, frame, (index) => { if (shown === index) show(index); });
    if (row === first) root.dataset.panes = frame.x ? 2 : 1;
  }
  root.dataset.have = firstHole();
  if ((message.frames || []).length) {
    range.max = first.meta.total - 1;
    drawSpark();
    if (live) show(latest());
  }
  setState(row, state, message.message);
  if (state === "done" && message.kept) fillHoles(row, message.kept);
  if (state === "done" || state === "stopped") tell(row);
}

// While a run is under way only a new one, which waits at first, takes its place: anything else of
// another run was under way while that was stopped. A training's page may look at any of them, and
// the example, drawn while the first visitors land, makes room for whatever they bring back.
function isLate({ run, state }) {
  const known = rows().some((row) => row.run === run);
  const mine = !setup.resumes && first.run !== "example";
  return mine && busy() && !known && run && state !== "waiting";
}

// The row of the message's run: one on the screen, a new branch of the first, or a new first.
function rowOf(message) {
  const known = rows().find((row) => row.run === message.run);
  if (known) return known;
  return message.of && message.of === first.run ? beginBranch(message) : begin(message);
}

function firstHole() {
  let count = 0;
  while (first.frames[count]) count += 1;
  return count;
}

function begin(message) {
  pause();
  endBranch();
  first = { ...first, run: message.run, frames: [], meta: {}, state: "idle", told: false };
  focus = -1;
  live = true;
  root.dataset.index = -1;
  root.dataset.run = first.run;
  shown = -1;
  if (setup.resumes || !message.run) empty(); // another training's pictures would lie about this one
  drawSpark(); // the last picture stays until the first new frame replaces it
  return first;
}

function empty() {
  blank(first);
  $(".tl-where").textContent = "";
  root.style.setProperty("--tl-at", 0);
}

function beginBranch(message) {
  pause();
  endBranch();
  second = makeRow(message.run, $(".tl-second .tl-panes"), "Branch: ");
  root.dataset.branch = message.run;
  $(".tl-caption").textContent = branchWords(message.meta);
  $(".tl-second").hidden = false;
  live = true;
  show(shown);
  return second;
}

function endBranch() {
  if (!second) return;
  second = null;
  delete root.dataset.branch;
  $(".tl-second").hidden = true;
}

async function fillHoles(row, kept) {
  const missing = kept.filter((index) => !row.frames[index]); // a browser may merge two updates
  if (missing.length === 0) return;
  const message = await server.frames({ run: row.run, missing });
  if (message && rows().includes(row)) receive({ ...message, kept: null });
}

// Once for a run that is over: the page's history listens.
async function tell(row) {
  const { run, state, meta, frames } = row;
  if (row.told || setup.resumes || !run || run === "example" || frames.length === 0) return;
  row.told = true;
  await Promise.allSettled([frames.at(-1).pictures.x0.decode()]);
  const source = { canvases: [document.createElement("canvas")] };
  paint(source.canvases[0], frames.at(-1).pictures.x0, meta, -1);
  const detail = { run, state, meta: { ...meta }, thumbnail: thumbnail(source) };
  document.dispatchEvent(new CustomEvent("ddpm:run", { detail }));
}

async function example() {
  for (let failures = 0; failures < 20 && (first.run === null || first.run === "example"); ) {
    const message = await server.frames({ run: "example", missing: null, have: first.frames.length });
    if (first.run !== null && first.run !== "example") return; // a visitor was faster
    if (message) receive(message);
    else failures += 1;
    if (message && (message.state === "done" || message.state === "error")) break;
    await new Promise((resolve) => setTimeout(resolve, 120));
  }
  if (first.run === "example" && first.state === "done" && !calm) {
    show(nearest(0));
    play();
  }
}

async function download(button) {
  button.dataset.busy = "true";
  const { format } = button.dataset;
  const file = await server.export({ run: active().run, format, image: focus });
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
forkButton.addEventListener("click", () => trigger("branch", { run: first.run, index: shown }));
noiseButton.addEventListener("click", toggleNoise);
root.addEventListener("keydown", onKey);
root.addEventListener("click", onPanes);
for (const button of saveButtons) button.addEventListener("click", () => download(button));
watch("value", () => receive(props.value));
root.dataset.panes = setup.panes.length > 1 && !setup.resumes ? 2 : 1;
if (setup.example) example();
else receive(props.value); // it may have come before the tab was opened
