// The Learn tab's walk: one lesson at a time, and buttons that set up another tab.
// Given by gr.HTML: element, props (setup), trigger. The value is HTML, made by walk.py.
const STORE = "ddpm_hub_lesson"; // a page that is loaded again goes on where it was
const PATIENCE = 8000; // ms until a control of another tab is there
const POLL = 50; // ms

const root = element.querySelector(".ddpm-walk");
const steps = [...root.querySelectorAll(".wk-steps button")];
const lessons = [...root.querySelectorAll(".wk-lesson")];

// ---- which lesson ------------------------------------------------------------------------------
function show(index) {
  lessons.forEach((lesson, i) => { lesson.hidden = i !== index; });
  steps.forEach((step, i) => {
    if (i === index) step.setAttribute("aria-current", "step");
    else step.removeAttribute("aria-current");
  });
  root.dataset.lesson = index;
  remember(index);
}

function remember(index) {
  try { sessionStorage.setItem(STORE, index); } catch { /* no storage: begin with the first */ }
}

function remembered() {
  try { return lessons[sessionStorage.getItem(STORE)] ? +sessionStorage.getItem(STORE) : 0; }
  catch { return 0; }
}

function go(button) {
  const index = +button.dataset.go;
  show(index);
  if (steps.includes(button)) return; // who is choosing goes on choosing
  lessons[index].querySelector("h2").focus({ preventScroll: true });
  root.scrollIntoView({ block: "nearest" });
}

root.addEventListener("keydown", (event) => {
  const at = steps.indexOf(event.target);
  const goal = { ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1 };
  if (at < 0 || event.ctrlKey || event.metaKey || event.altKey || !steps[goal[event.key]]) return;
  event.preventDefault();
  steps[goal[event.key]].focus();
  show(goal[event.key]);
});

// ---- another tab, set up -----------------------------------------------------------------------
const tabButton = (id) => document.querySelector(`[role=tab][data-tab-id="${id}"]`);
const seen = (selector) => {
  const found = document.querySelector(selector);
  return found?.checkVisibility() ? found : null;
};

async function until(ready, tab) { // what `ready` gives, once it gives something
  for (const end = performance.now() + PATIENCE; performance.now() < end;) {
    const chosen = tabButton(tab)?.getAttribute("aria-selected");
    if (chosen === "true" && ready()) return ready();
    await new Promise((done) => setTimeout(done, POLL));
  }
  return null; // it does not come, or the visitor went elsewhere
}

async function empty(selector, tab) { // a run of before ends: its steps are not those of the lesson
  const clear = await until(() => seen(selector), tab);
  if (!clear || clear.disabled) return;
  clear.click();
  await until(() => clear.disabled, tab);
}

async function press([selector, value], tab) {
  const ready = () => (seen(selector)?.disabled === false ? seen(selector) : null);
  const found = await until(ready, tab);
  if (value === undefined) found?.click();
  else if (found) {
    found.value = value;
    for (const type of ["input", "change"]) found.dispatchEvent(new Event(type, { bubbles: true }));
  }
  return found;
}

function apply(key) {
  const { tab, clear, press: actions } = props.setup[key];
  document.addEventListener("ddpm:lesson", async () => {
    tabButton(tab)?.focus(); // the button that was pressed is gone, and the tab is where to go on
    if (clear) await empty(clear, tab);
    for (const action of actions) if (!await press(action, tab)) break;
  }, { once: true });
  trigger("apply", { lesson: key });
}

root.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.go) go(button);
  else if (button?.dataset.apply) apply(button.dataset.apply);
});
show(remembered());
