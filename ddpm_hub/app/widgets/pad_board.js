// The pad, first half: its parts, and the pixels of the board.
//
// In the room: thumbnails and buttons as HTML, brushes, undo, the mask, drawing, and the value that
// Python gets. Not in the room: hands, keys, files and messages (pad.js, appended to this file),
// and what the picture is for. gr.HTML calls the two as one function of (element, props, watch).
const setup = props.setup;
const { mode, width, height, channels } = setup;
const GREYS = { white: 255, "light grey": 190, grey: 128, "dark grey": 64, black: 0 };
const SIZES = mode === "mask" ? [2, 4, 7] : [1, 2, 4];
const near = (value, size) => Math.abs(value + 0.5 - size / 2) < size / 4;
const AREAS = {
  "Lower half": (x, y) => y >= height / 2,
  "Right half": (x) => x >= width / 2,
  Middle: (x, y) => near(x, width) && near(y, height),
};
const UNDO = 40; // steps

// ---- its parts ----------------------------------------------------------------------------------
const pick = (key, name) => `
  <button type="button" class="pd-pick" data-pick="${key}" aria-pressed="false"
    aria-label="${name}" title="${name}"><canvas width="${width}" height="${height}"></canvas>
  </button>`;
const choice = (group, value, label, body, on) => `
  <button type="button" class="pd-${group}" data-${group}="${value}" aria-pressed="${on}"
    aria-label="${label}" title="${label}">${body}</button>`;
const group = (label, buttons) => `
  <div class="pd-group" role="group" aria-label="${label}">${buttons.join("")}</div>`;
const dot = (i) => `<i style="--pd-size: ${4 + 5 * i}px"></i>`;
const tools = {
  pick: () => [],
  sketch: () => [
    group("Brush colour", Object.entries(GREYS).map(([name, grey], i) =>
      choice("grey", grey, name, `<i style="background: rgb(${grey} ${grey} ${grey})"></i>`, !i))),
  ],
  mask: () => [
    group("Brush", [
      choice("erase", 0, "mark what shall be redrawn", "Mark", true),
      choice("erase", 1, "keep it after all", "Keep", false),
    ]),
    group("Mark an area", Object.keys(AREAS).map((name) =>
      `<button type="button" class="pd-area" data-area="${name}">${name}</button>`)),
  ],
}[mode]();

element.innerHTML = `
<section class="ddpm-pad" data-mode="${mode}" aria-label="${setup.label}">
  <div class="pd-picks" role="group" aria-label="Start from">
    ${mode === "sketch" ? pick("blank", "blank") : ""}
    ${setup.garments.map((garment, i) => pick(i, garment.name)).join("")}
    <span class="pd-own" hidden>${pick("own", "your picture")}</span>
    <button type="button" class="pd-upload">Upload</button>
    <button type="button" class="pd-invert" hidden
      title="The model knows light garments on black">Invert</button>
    <input class="pd-file" type="file" accept="image/*" aria-label="upload a picture" hidden>
  </div>
  <p class="pd-message" role="alert" hidden></p>
  <div class="pd-desk" ${mode === "pick" ? "hidden" : ""}>
    <div class="pd-board" tabindex="0" role="application"
      aria-label="${setup.label}, ${width} by ${height} pixels: arrow keys move the brush, Space
        paints, Delete erases" style="aspect-ratio: ${width} / ${height}">
      <canvas class="pd-picture" width="${width}" height="${height}"></canvas>
      <canvas class="pd-over" width="${width}" height="${height}"></canvas>
    </div>
    <div class="pd-tools">
      ${tools[0] ?? ""}
      ${group("Brush size", SIZES.map((size, i) =>
        choice("size", size, `brush of ${size} pixels`, dot(i), i === 1)))}
      ${tools[1] ?? ""}
      <div class="pd-group"><button type="button" class="pd-undo" disabled>Undo</button>
        <button type="button" class="pd-clear">Clear</button></div>
    </div>
    <span class="pd-says" role="status" aria-live="polite"></span>
  </div>
</section>`;

const $ = (selector) => element.querySelector(selector);
const $$ = (selector) => [...element.querySelectorAll(selector)];
const root = $(".ddpm-pad");
const board = $(".pd-board");

let picture = new Uint8ClampedArray(width * height * channels);
let mask = new Uint8Array(width * height); // 255 where it was marked
let past = []; // what Undo gives back
let brush = { grey: 255, erase: false, size: SIZES[1] };
let spot = null; // where the keys' brush is, in pixels

// ---- pixels -------------------------------------------------------------------------------------
const bytes = (text) => Uint8ClampedArray.from(atob(text), (c) => c.charCodeAt(0));
const text = (array) => btoa(String.fromCharCode(...array));

function paint(canvas, pixels) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) {
      image.data[4 * i + c] = pixels[channels === 1 ? i : channels * i + c];
    }
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

function draw() {
  paint($(".pd-picture"), picture);
  const over = $(".pd-over").getContext("2d");
  over.clearRect(0, 0, width, height);
  over.fillStyle = getComputedStyle(root).getPropertyValue("--ddpm-x0");
  over.globalAlpha = 0.72;
  mask.forEach((marked, i) => {
    if (marked) over.fillRect(i % width, Math.floor(i / width), 1, 1);
  });
  over.globalAlpha = 1;
  if (!spot) return;
  const [left, top] = [spot.x, spot.y].map((value) => value + 0.5 - brush.size / 2);
  over.strokeRect(left, top, brush.size, brush.size);
}

function publish() {
  props.value = { picture: text(picture), mask: mode === "mask" ? text(mask) : null };
  root.dataset.marked = mask.reduce((sum, marked) => sum + (marked > 0), 0);
  $(".pd-undo").disabled = past.length === 0;
}

function remember() {
  past = [...past.slice(1 - UNDO), { picture: picture.slice(), mask: mask.slice() }];
}

function refresh() {
  draw();
  publish();
}

// All pixels whose centre lies under the brush, and at least one.
function dab(x, y, erase = brush.erase) {
  const reach = brush.size / 2;
  const touched = [[Math.floor(x), Math.floor(y)]];
  for (let row = Math.floor(y - reach); row <= y + reach; row++) {
    for (let column = Math.floor(x - reach); column <= x + reach; column++) {
      if (Math.hypot(column + 0.5 - x, row + 0.5 - y) <= reach) touched.push([column, row]);
    }
  }
  for (const [column, row] of touched) {
    if (column < 0 || row < 0 || column >= width || row >= height) continue;
    const i = row * width + column;
    if (mode === "mask") mask[i] = erase ? 0 : 255;
    else picture.fill(erase ? 0 : brush.grey, i * channels, (i + 1) * channels);
  }
}

function stroke(from, to) {
  const steps = Math.max(1, Math.ceil(2 * Math.hypot(to.x - from.x, to.y - from.y)));
  for (let i = 1; i <= steps; i++) {
    dab(from.x + ((to.x - from.x) * i) / steps, from.y + ((to.y - from.y) * i) / steps);
  }
}
