// Strips: labelled pictures in rows and columns; with a slider, all columns through time together.
//
// In the room: the grid, stored frames, scrubbing, playing, keys. Frames arrive once and stay here,
// so scrubbing never asks the server. Not in the room: what is in the pictures.
// Given by gr.HTML: element, props (setup, value), watch. The message is documented in strips.py.
const setup = props.setup;
const FRAME_MS = 90; // one frame of playback
const LONGEST = 90; // frames of one playback: a longer run is played in larger strides
const SIGNS = { x0: "<i>x̂</i><sub>0</sub>", xt: "<i>x</i><sub>t</sub>" };
const BADGES = {
  idle: "Ready", waiting: "Waiting", running: "Running", done: "Finished", stopped: "Stopped",
  error: "Problem",
};
const ICON = { play: "M7 4.5v15l12.5-7.5z", pause: "M6 4.5h4.5v15H6zM13.5 4.5H18v15h-4.5z" };

element.innerHTML = `
<section class="ddpm-strips ddpm-widget" tabindex="-1" data-state="idle">
  <div class="st-top wd-top">
    <span class="st-badge wd-badge" data-state="idle">Ready</span>
    <span class="st-status"></span>
    <span class="st-says wd-says" role="status" aria-live="polite"></span>
  </div>
  <div class="st-bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100"
       hidden><i></i></div>
  <div class="st-grid" role="group" hidden></div>
  <div class="st-foot" hidden>
    <button class="st-play wd-play" type="button" aria-label="Play" aria-pressed="false" disabled>
      <svg viewBox="0 0 24 24" aria-hidden="true"><path d="${ICON.play}"></path></svg>
    </button>
    <input class="st-range wd-range" type="range" min="0" max="0" value="0" step="1" disabled
           aria-label="Step of all columns" aria-valuetext="no frames yet">
    <output class="st-where" aria-live="off"></output>
  </div>
</section>`;

const $ = (selector) => element.querySelector(selector);
const root = $(".ddpm-strips");
const grid = $(".st-grid");
const range = $(".st-range");
const playButton = $(".st-play");

let run = null; // id of what is on the screen
let state = "idle";
let rows = [];
let columns = [];
let frames = new Map(); // "row,column" -> pictures by frame index
let shown = 0; // the slider's place, 0 .. last()
let live = true; // the newest frame is followed
let timer = null; // the playback timer, null while not playing

root.setAttribute("aria-label", setup.label);
root.classList.toggle("st-turns", setup.turn);
$(".st-status").textContent = setup.idle;

// ---- the grid -----------------------------------------------------------------------------------
const place = (node, row, column) => {
  node.style.setProperty("--r", row);
  node.style.setProperty("--c", column);
  return node;
};

function part(name, text, kind) {
  const node = document.createElement("div");
  node.className = name;
  if (kind) {
    node.dataset.kind = kind;
    node.innerHTML = `<b>${SIGNS[kind]}</b> `;
  }
  node.append(Object.assign(document.createElement("span"), { textContent: text }));
  return node;
}

function cell(row, column) {
  const node = Object.assign(document.createElement("div"), { className: "st-cell" });
  node.dataset.kind = rows[row].kind || columns[column].kind || "";
  const image = document.createElement("img");
  image.decoding = "sync"; // a frame must not flicker in after its neighbours
  image.alt = "";
  image.dataset.row = row;
  image.dataset.column = column;
  image.hidden = true;
  node.append(image);
  return place(node, row, column);
}

function build() {
  grid.replaceChildren();
  root.style.setProperty("--rows", rows.length);
  root.style.setProperty("--columns", columns.length);
  root.style.setProperty("--cell", rows.length > 2 ? "140px" : "240px");
  const named = rows.some((row) => row.label || row.kind);
  root.dataset.heads = named ? (columns.length > 6 ? "above" : 1) : 0;
  columns.forEach((column, c) => grid.append(place(part("st-head", column.label, column.kind), 0, c)));
  rows.forEach((row, r) => {
    grid.append(place(part("st-side", row.label, row.kind), r, 0));
    columns.forEach((_, c) => grid.append(cell(r, c)));
  });
  columns.forEach((_, c) => grid.append(place(part("st-notes", ""), 0, c)));
  grid.hidden = columns.length === 0;
}

function writeTexts() {
  grid.querySelectorAll(".st-side span").forEach((node, r) => {
    node.textContent = rows[r].label;
  });
  grid.querySelectorAll(".st-notes").forEach((node, c) => {
    const lines = columns[c].notes || [];
    const text = lines.join("\n");
    if (node.dataset.text === text) return;
    node.dataset.text = text;
    node.replaceChildren(...lines.map((line) => part("st-note", line)));
  });
}

// ---- frames -------------------------------------------------------------------------------------
const totalOf = (column) => columns[column]?.total || 1;
const last = () => Math.max(0, ...columns.map((_, c) => totalOf(c) - 1));
const longest = () => columns.findIndex((_, c) => totalOf(c) - 1 === last());
const ownIndex = (column) => // a column of another length moves by the same fraction
  Math.round((last() ? shown / last() : 0) * (totalOf(column) - 1));

function store(picture) {
  const key = `${picture.row},${picture.column}`;
  if (!frames.has(key)) frames.set(key, []);
  frames.get(key)[picture.index] = picture;
}

function nearest(list, index) {
  if (list[index]) return list[index];
  for (let d = 1; d < list.length + index; d++) {
    if (list[index - d]) return list[index - d];
    if (list[index + d]) return list[index + d];
  }
  return null;
}

function newest() {
  let far = 0;
  for (const [key, list] of frames) {
    const total = totalOf(Number(key.split(",")[1]));
    far = Math.max(far, total > 1 ? ((list.length - 1) / (total - 1)) * last() : 0);
  }
  return Math.round(far);
}

function show(index) {
  shown = Math.max(0, Math.min(index, newest()));
  for (const image of grid.querySelectorAll("img")) {
    const { row, column } = image.dataset;
    const picture = nearest(frames.get(`${row},${column}`) || [], ownIndex(column));
    image.hidden = !picture;
    if (!picture) continue;
    if (image.getAttribute("src") !== picture.src) image.src = picture.src;
    image.alt = [rows[row].label, columns[column].label].filter(Boolean).join(", ");
  }
  if (setup.scrubber) describe();
}

function describe() {
  const column = Math.max(0, longest());
  const picture = nearest(frames.get(`0,${column}`) || [], ownIndex(column));
  const total = last() + 1;
  const t = picture && Number.isInteger(picture.t) ? picture.t : null;
  range.max = last();
  range.value = shown;
  range.setAttribute(
    "aria-valuetext", `step ${shown + 1} of ${total}` + (t === null ? "" : `, t ${t}`));
  $(".st-where").textContent = `step ${shown + 1}/${total}` + (t === null ? "" : ` · t ${t}`);
  range.disabled = playButton.disabled = frames.size === 0 || last() === 0;
  root.dataset.index = shown;
}

// ---- playing and scrubbing ----------------------------------------------------------------------
function pause() {
  clearTimeout(timer);
  timer = null;
  playButton.setAttribute("aria-label", "Play");
  playButton.setAttribute("aria-pressed", "false");
  $(".st-play path").setAttribute("d", ICON.play);
}

function play() {
  live = false;
  playButton.setAttribute("aria-label", "Pause");
  playButton.setAttribute("aria-pressed", "true");
  $(".st-play path").setAttribute("d", ICON.pause);
  if (shown >= newest()) show(0);
  timer = setTimeout(tick, FRAME_MS);
}

function tick() {
  if (shown >= newest() && state !== "running") return pause();
  show(shown + Math.ceil((last() + 1) / LONGEST));
  timer = setTimeout(tick, FRAME_MS);
}

function scrub(index) {
  pause();
  live = false;
  show(index);
}

function onKey(event) {
  if (range.disabled || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.target.closest("button") && event.key === " ") return;
  const step = event.shiftKey ? 10 : 1;
  const actions = {
    ArrowLeft: () => scrub(shown - step),
    ArrowRight: () => scrub(shown + step),
    Home: () => scrub(0),
    End: () => {
      scrub(newest());
      live = state === "running";
    },
    " ": () => (timer ? pause() : play()),
  };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
}

// ---- messages from the server -------------------------------------------------------------------
function begin(message) {
  pause();
  run = message.run;
  state = "idle"; // how the one before ended says nothing about this one
  rows = message.rows || [];
  columns = message.columns || [];
  frames = new Map();
  live = true;
  shown = 0;
  root.dataset.run = run;
  delete root.dataset.index;
  build();
}

function receive(message) {
  if (!message) return;
  if (message.run !== run) begin(message);
  if (["stopped", "error"].includes(state) && message.state === "running") {
    message = { ...message, state, message: null, progress: null }; // was under way at Stop
  }
  rows = message.rows || rows;
  columns = message.columns || columns;
  if (message.complete) frames = new Map();
  for (const picture of message.pictures || []) store(picture);
  $(".st-foot").hidden = !setup.scrubber || last() === 0;
  writeTexts();
  show(live ? newest() : shown);
  setState(message);
}

function setState(message) {
  const changed = message.state !== state;
  state = message.state;
  root.dataset.state = $(".st-badge").dataset.state = state;
  $(".st-badge").textContent = BADGES[state];
  if (message.message !== null) $(".st-status").textContent = message.message || "";
  if (changed) $(".st-says").textContent = `${BADGES[state]}. ${message.message || ""}`;
  const going = state === "running" && Number.isFinite(message.progress);
  $(".st-bar").hidden = !going;
  if (!going) return;
  const percent = Math.round(100 * message.progress);
  $(".st-bar").setAttribute("aria-valuenow", percent);
  $(".st-bar i").style.width = `${percent}%`;
}

// ---- wiring -------------------------------------------------------------------------------------
range.addEventListener("pointerdown", () => { pause(); live = false; });
range.addEventListener("input", () => scrub(Number(range.value)));
playButton.addEventListener("click", () => (timer ? pause() : play()));
root.addEventListener("keydown", onKey);
watch("value", () => receive(props.value));
receive(props.value); // it may have come before the tab was opened
