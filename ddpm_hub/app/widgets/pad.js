// The pad, second half: what to start from, hands and keys, files, messages.
//
// In the room: everything that changes the board, and handing a file to the hidden upload button.
// Not in the room: the board itself (pad_board.js, before this file). Messages: pad.py.
const PHOTO = 1_000_000, ENOUGH = 1024; // bytes from which a photograph is shrunk; its side then
const OVERDUE = 30_000; // ms after which a file that was sent counts as lost
const tile = $(".pd-upload");
let overdue = null; // the timer of a file under way
let own = null; // the visitor's own picture
let last = null; // where the pointer was, in pixels

// ---- what to start from -------------------------------------------------------------------------
function choose(key) {
  const image = key === "own" ? own : setup.garments[Number(key)];
  complain("");
  past = [];
  picture = key === "blank" ? new Uint8ClampedArray(width * height * channels) : bytes(image.data);
  hold(".pd-pick", "pick", key);
  $(".pd-invert").hidden = key !== "own";
  root.dataset.pick = key;
  refresh();
}

// Of the buttons that match, the one with that value looks pressed.
function hold(selector, name, value) {
  for (const button of $$(selector)) {
    button.setAttribute("aria-pressed", String(button.dataset[name] === value));
  }
}

function invert() {
  own = { ...own, data: text(bytes(own.data).map((value) => 255 - value)) };
  paint($(".pd-own canvas"), bytes(own.data));
  choose("own");
}

function complain(sentence) {
  tile.textContent = "Upload";
  $(".pd-message").textContent = sentence;
  $(".pd-message").hidden = !sentence;
}

// ---- files: the hidden gr.UploadButton carries them ---------------------------------------------
async function shrunk(file) { // a phone's photograph is 5 MB; a thousandth of its pixels are wanted
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, ENOUGH / Math.min(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
  return new File([blob], file.name, { type: "image/jpeg" });
}

async function carrier() { // Gradio loads its parts one by one: the button may come after the pad
  for (let tries = 0; tries < 50; tries++) {
    const input = document.getElementById(setup.upload)?.parentElement
      .querySelector("input[type=file]:not(.pd-file)");
    if (input) return input;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return null;
}

async function send(file) {
  if (!file) return;
  complain("");
  tile.textContent = "Uploading";
  clearTimeout(overdue);
  overdue = setTimeout(() => complain("Nothing came back from the server: try again."), OVERDUE);
  const input = await carrier();
  if (!input) return complain("The page is still loading: try again in a moment.");
  const parcel = new DataTransfer();
  parcel.items.add(file.size > PHOTO ? await shrunk(file).catch(() => file) : file);
  input.files = parcel.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

function receive() {
  const message = props.value || {};
  clearTimeout(overdue);
  if (message.error) complain(message.error);
  if (message.image) {
    own = message.image;
    $(".pd-own").hidden = false;
    paint($(".pd-own canvas"), bytes(own.data));
    choose("own");
  } else publish(); // a message takes the place of the value that Python is to get
}

// ---- hands and keys -----------------------------------------------------------------------------
function place(event) {
  const box = board.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) / box.width) * width,
    y: ((event.clientY - box.top) / box.height) * height,
  };
}

board.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  board.setPointerCapture(event.pointerId);
  spot = null;
  remember();
  last = place(event);
  dab(last.x, last.y);
  draw();
});
board.addEventListener("pointermove", (event) => {
  if (!last || !board.hasPointerCapture(event.pointerId)) return;
  const here = place(event);
  stroke(last, here);
  last = here;
  draw();
});
for (const end of ["pointerup", "pointercancel"]) {
  board.addEventListener(end, () => { if (last) publish(); last = null; });
}
board.addEventListener("blur", () => { spot = null; draw(); });
board.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const step = event.shiftKey ? 5 : 1;
  const moves = {
    ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step],
  };
  const paints = event.key === " " || event.key === "Delete";
  if (!moves[event.key] && !paints) return;
  event.preventDefault();
  spot ||= { x: Math.floor(width / 2), y: Math.floor(height / 2) };
  if (paints) {
    remember();
    dab(spot.x + 0.5, spot.y + 0.5, brush.erase || event.key === "Delete");
    publish();
  } else {
    const [dx, dy] = moves[event.key];
    spot.x = Math.max(0, Math.min(width - 1, spot.x + dx));
    spot.y = Math.max(0, Math.min(height - 1, spot.y + dy));
  }
  const place = `column ${spot.x + 1}, row ${spot.y + 1}`;
  $(".pd-says").textContent = paints ? `${place}, painted` : place;
  draw();
});

function press(name, value) {
  hold(`.pd-${name}`, name, value);
  brush[name] = name === "erase" ? value === "1" : Number(value);
}

root.addEventListener("click", (event) => {
  const hit = (selector) => event.target.closest(selector);
  for (const name of ["grey", "erase", "size"]) {
    if (hit(`.pd-${name}`)) press(name, hit(`.pd-${name}`).dataset[name]);
  }
  if (hit(".pd-pick")) choose(hit(".pd-pick").dataset.pick);
  else if (hit(".pd-upload")) $(".pd-file").click();
  else if (hit(".pd-invert")) invert();
  else if (hit(".pd-area")) {
    remember();
    const inside = AREAS[hit(".pd-area").dataset.area];
    mask = mask.map((_, i) => (inside(i % width, Math.floor(i / width)) ? 255 : 0));
    refresh();
  } else if (hit(".pd-clear")) {
    remember();
    if (mode === "mask") mask.fill(0);
    else picture.fill(0);
    refresh();
  } else if (hit(".pd-undo") && past.length) {
    ({ picture, mask } = past.pop());
    refresh();
  }
});
$(".pd-file").addEventListener("change", (event) => {
  event.stopPropagation();
  send(event.target.files[0]);
  event.target.value = ""; // the same file may be picked again
});
root.addEventListener("dragover", (event) => event.preventDefault());
root.addEventListener("drop", (event) => {
  event.preventDefault();
  send(event.dataTransfer?.files[0]);
});

for (const canvas of $$(".pd-pick canvas")) paint(canvas, picture); // black, not nothing
setup.garments.forEach((garment, i) => paint($(`[data-pick="${i}"] canvas`), bytes(garment.data)));
watch("value", receive);
choose(mode === "sketch" ? "blank" : "0");
