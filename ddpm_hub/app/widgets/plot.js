// The chart with a cursor, second half: messages, pointer, finger and keys.
//
// In the room: what changes the points and the cursor. Moving it never asks the server: pictures
// came with the points. Not in the room: drawing (plot_draw.js, before this file).

// ---- messages from the server -------------------------------------------------------------------
function receive(message) {
  if (!message || !message.run) return;
  if (message.run !== run) {
    run = root.dataset.run = message.run;
    points = [];
    cursor = -1;
    moved = false;
    state = "idle";
  }
  const over = ["done", "stopped", "error"].includes(state);
  if (message.complete) points = [];
  for (const p of message.points || []) {
    points[p.index] = { ...p, pictures: p.pictures || points[p.index]?.pictures };
  }
  if (!over || ["done", "error"].includes(message.state)) describe(message);
  const last = points.length - 1; // which is followed until the end, and then left for `start`
  if (!moved) cursor = state === "done" ? Math.round((setup.start ?? 0.5) * last) : last;
  draw();
}

function describe(message) {
  const changed = state !== message.state;
  state = root.dataset.state = message.state;
  const badge = $(".pl-badge");
  badge.dataset.state = state;
  badge.textContent = BADGES[state] || state;
  $(".pl-status").textContent = message.message || "";
  if (changed) $(".pl-says").textContent = `${badge.textContent}. ${message.message || ""}`;
  const percent = Math.round(100 * (message.progress ?? 0));
  $(".pl-progress i").style.width = `${percent}%`;
  $(".pl-progress").setAttribute("aria-valuenow", percent);
}

// ---- pointer and keys ---------------------------------------------------------------------------
function goTo(index) {
  if (!known().length) return;
  moved = true;
  const wanted = Math.max(0, Math.min(index, points.length - 1));
  const near = known().map((p) => p.index);
  cursor = near.reduce((best, i) => (Math.abs(i - wanted) < Math.abs(best - wanted) ? i : best));
  point();
}

function drag(figure, event) {
  const axis = axes(Number(figure.dataset.chart));
  const x = event.clientX - figure.querySelector("svg").getBoundingClientRect().left;
  const far = (p) => Math.abs(axis.at(p) - x);
  if (known().length) goTo(known().reduce((best, p) => (far(p) < far(best) ? p : best)).index);
}

function onKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const far = Math.max(1, Math.round(points.length / 10));
  const step = event.shiftKey ? far : 1;
  const goals = {
    ArrowLeft: cursor - step, ArrowDown: cursor - step, ArrowRight: cursor + step,
    ArrowUp: cursor + step, PageDown: cursor - far, PageUp: cursor + far, Home: 0,
    End: points.length - 1,
  };
  if (goals[event.key] === undefined) return;
  event.preventDefault();
  goTo(goals[event.key]);
}

for (const figure of figures) {
  const slider = figure.querySelector(".pl-plot");
  slider.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    slider.setPointerCapture(event.pointerId);
    drag(figure, event);
  });
  slider.addEventListener("pointermove", (event) => {
    if (slider.hasPointerCapture(event.pointerId)) drag(figure, event);
  });
  slider.addEventListener("keydown", onKey);
  figure.querySelector(".pl-log")?.addEventListener("click", (event) => {
    const i = Number(figure.dataset.chart);
    logs[i] = !logs[i];
    event.currentTarget.setAttribute("aria-pressed", String(logs[i]));
    draw();
  });
}

new ResizeObserver(draw).observe($(".pl-charts")); // also when the tab is first seen
watch("value", () => receive(props.value));
receive(props.value);
draw();
