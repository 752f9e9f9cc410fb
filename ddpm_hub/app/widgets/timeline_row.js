// A row of the timeline: the panes of one run, its frames by step index, and its line.
//
// In the room: frames in an array (holes where a long run kept none), pictures on canvases, the
// points of the sparkline. Not in the room: which frame is shown, buttons, messages (timeline.js).
// Frames arrive once and stay here.
const GAP = 1; // picture pixels between the images of a batch
const PANES = [["x0", "x0"], ["x", "xt"], ["eps", "eps"]].slice(0, setup.panes.length);

function paneHTML([, name], i) {
  const { caption, label } = setup.panes[i];
  return `<figure class="tl-pane tl-${name}">
    <figcaption>${caption}</figcaption>
    <canvas role="img" aria-label="${label}" width="28" height="28"
            title="Click, or press i, for one image of the batch in all panes"></canvas>
  </figure>`;
}

function makeRow(run, place, prefix = "") {
  place.innerHTML = PANES.map(paneHTML).join("");
  const canvases = PANES.map(([, name]) => place.querySelector(`.tl-${name} canvas`));
  return { run, place, prefix, canvases, frames: [], meta: {}, state: "idle", told: false };
}

// The frame that a row shows at `index`: its own, or the last before it.
function frameAt(row, index) {
  for (let i = Math.min(index, row.frames.length - 1); i >= 0; i--) {
    if (row.frames[i]) return row.frames[i];
  }
  return null;
}

function storeFrame(row, frame, onPicture) {
  if (row.frames[frame.index]) return;
  const pictures = {};
  for (const [key] of PANES) {
    if (!frame[key]) continue;
    const image = pictures[key] = new Image();
    image.onload = () => onPicture(frame.index);
    image.src = frame[key];
  }
  row.frames[frame.index] = { ...frame, pictures };
}

// Draw `frame` (it may be another row's, before the two parted) into the row's panes.
function showFrame(row, frame, meta, focus, text) {
  PANES.forEach(([key], i) => {
    const image = frame?.pictures[key];
    row.canvases[i].setAttribute("aria-label", `${row.prefix}${setup.panes[i].label}, ${text}`);
    if (image?.complete) paint(row.canvases[i], image, meta, focus);
  });
}

function paint(canvas, image, meta, focus) {
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

function blank(row) {
  for (const canvas of row.canvases) {
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  }
}

// Which image of the batch lies under a click; -1 for none.
function imageUnder(canvas, event, meta) {
  const box = canvas.getBoundingClientRect();
  const rows = Math.ceil(meta.batch / meta.columns);
  const column = Math.floor(((event.clientX - box.left) / box.width) * meta.columns);
  const index = Math.floor(((event.clientY - box.top) / box.height) * rows) * meta.columns + column;
  return index < meta.batch ? index : -1;
}

// [line, area] of the sparkline as SVG paths; `top` is the height of the plot in units of change.
// The first frame of all has nothing before it, so it has no change.
function sparkPaths(row, total, top) {
  const points = row.frames.flatMap((frame, i) => {
    if (i === 0) return [];
    const x = total > 1 ? (1000 * i) / (total - 1) : 0;
    return [`${x.toFixed(1)},${(96 - 88 * Math.sqrt((frame.change || 0) / top)).toFixed(1)}`];
  });
  if (points.length < 2) return ["", ""];
  const line = points.join("L");
  const [first, last] = [points[0], points.at(-1)].map((point) => point.split(",")[0]);
  return [`M${line}`, `M${first},100L${line}L${last},100Z`];
}

// At most 64 px of what the first pane shows, as a data URL.
function thumbnail(row) {
  const source = row.canvases[0];
  const small = document.createElement("canvas");
  const scale = Math.min(1, 64 / Math.max(source.width, source.height));
  small.width = Math.max(1, Math.round(source.width * scale));
  small.height = Math.max(1, Math.round(source.height * scale));
  small.getContext("2d").drawImage(source, 0, 0, small.width, small.height);
  return small.toDataURL("image/png");
}
