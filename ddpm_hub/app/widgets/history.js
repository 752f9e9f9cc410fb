// The history: a visitor's own runs as small pictures; each brings its settings back.
//
// In the room: the strip, choosing, stars, comparing two, links, files dropped here. Not in the
// room: what is kept and how (history_store.js, before this file), what a link or a picture means
// (recall.py), drawing.
// Given by gr.HTML: element, props (setup, value), watch, trigger, server (describe, read, export).
// Event, message and setup are documented in history.py. Style: history.css.
const setup = props.setup;
const MOST_BYTES = setup.most_bytes;

element.innerHTML = `
<section class="ddpm-history ddpm-widget" aria-label="Your runs">
  <div class="hs-top wd-top">
    <b>Your runs</b>
    <span class="hs-where"></span>
  </div>
  <p class="hs-empty">Every run you finish or stop comes here. Press one, and its settings are back
    in the form. A picture that was downloaded here can be dropped here: it knows its run.</p>
  <ul class="hs-list" hidden></ul>
  <p class="hs-said" role="status" aria-live="polite" hidden></p>
  <label class="hs-link" hidden>Link <input type="text" readonly spellcheck="false"></label>
  <div class="hs-pair" role="region" aria-label="Two runs compared" hidden></div>
  <div class="hs-foot">
    <button class="hs-copy" type="button" disabled>Copy link</button>
    <button class="hs-two" type="button" aria-pressed="false" disabled>Compare two</button>
    <button class="hs-open" type="button">Open a picture</button>
    <input class="hs-file" type="file" accept="image/png,image/webp,image/gif" tabindex="-1"
           aria-label="A picture that was downloaded here" hidden>
    <button class="hs-forget" type="button" disabled>Forget all</button>
  </div>
</section>`;

const $ = (selector) => element.querySelector(selector);
const root = $(".ddpm-history");
const list = $(".hs-list");
const file = $(".hs-file");

let current = ""; // id of the run that the panes show
let pair = null; // ids chosen for a comparison, oldest first; null: none is made
let sure = null; // the timer while "Forget all" waits for its second press

// ---- the strip ----------------------------------------------------------------------------------
function draw() {
  const entries = remembered();
  const had = document.activeElement?.dataset?.key;
  list.replaceChildren(...entries.map(tile));
  list.hidden = entries.length === 0;
  $(".hs-empty").hidden = entries.length > 0;
  $(".hs-where").textContent = keeps ? "kept in this browser, nowhere else"
    : "this browser keeps nothing for the page: the list ends with your visit";
  $(".hs-copy").disabled = !entries.some((entry) => entry.run === current);
  $(".hs-two").disabled = entries.length < 2;
  $(".hs-forget").disabled = entries.length === 0;
  if (had) element.querySelector(`[data-key="${CSS.escape(had)}"]`)?.focus();
}

function make(tag, name, properties) {
  return Object.assign(document.createElement(tag), { className: name, ...properties });
}

function tile(entry) {
  const { sampler = "", steps = "", seed = "" } = entry.facts;
  const item = make("li", "hs-item");
  const button = make("button", "hs-run", { type: "button", title: words(entry) });
  button.setAttribute("aria-label", words(entry));
  button.dataset.key = `run ${entry.run}`;
  if (pair) button.setAttribute("aria-pressed", pair.includes(entry.run));
  else if (entry.run === current) button.setAttribute("aria-current", "true");
  button.append(
    small(entry),
    make("span", "hs-name", { textContent: sampler }),
    make("span", "hs-seed", { textContent: entry.state === "stopped" ? "stopped" : `${steps} steps` }),
    make("span", "hs-seed", { textContent: `seed ${seed}` }),
  );
  button.addEventListener("click", () => (pair ? choose(entry) : bringBack(entry)));
  const star = make("button", "hs-star", { type: "button", textContent: entry.star ? "★" : "☆" });
  star.setAttribute("aria-label", `Keep longest: ${sampler} ${steps}, seed ${seed}`);
  star.setAttribute("aria-pressed", entry.star);
  star.dataset.key = `star ${entry.run}`;
  star.addEventListener("click", () => toggleStar(entry.run));
  item.append(button, star);
  return item;
}

function small(entry) {
  return entry.thumbnail ? make("img", "hs-small", { src: entry.thumbnail, alt: "" })
    : make("span", "hs-small");
}

function words(entry) {
  const facts = Object.entries(entry.facts).map(([name, value]) => `${name} ${value}`).join(", ");
  const time = new Date(entry.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return `${entry.state === "stopped" ? "Stopped run" : "Run"} of ${time}: ${facts}`;
}

function toggleStar(run) {
  remember(remembered().map((e) => (e.run === run ? { ...e, star: !e.star } : e)));
  draw();
}

function say(text, bad = false) {
  const said = $(".hs-said");
  said.textContent = text;
  said.hidden = !text;
  said.dataset.kind = bad ? "bad" : "good";
}

// ---- bringing a run back ------------------------------------------------------------------------
function recall(asked, waiting) {
  const run = document.querySelector("#run");
  if (run?.disabled) return say("A run is under way: stop it, or wait for its end.", true);
  root.dataset.busy = "true";
  say(waiting);
  trigger("recall", asked);
}

function bringBack(entry) {
  recall({ run: entry.run, link: entry.link, why: entry.why }, "Looking for this run.");
}

function receive(said) {
  if (!said) return;
  delete root.dataset.busy;
  if (said.shown) current = said.shown;
  say(said.error || said.say, Boolean(said.error));
  draw();
  const looked = said.error ? $(".hs-said") : document.querySelector("#timeline");
  looked?.scrollIntoView({ block: "nearest" }); // on a phone they are a screen or two apart
}

async function keep({ run, state, thumbnail }) {
  const known = await server.describe({ run });
  if (!known) return;
  const picture = PICTURE.test(thumbnail) && thumbnail.length <= MOST_THUMBNAIL ? thumbnail : "";
  current = run;
  $(".hs-link").hidden = true; // it was another run's
  remember(withRun(remembered(), { run, state, at: Date.now(), thumbnail: picture, ...known }));
  draw();
}

async function openPicture(picture) {
  if (!picture) return;
  if (picture.size > MOST_BYTES) {
    return say(`This file has ${(picture.size / 1e6).toFixed(1)} MB, more than the `
      + `${MOST_BYTES / 1e6} MB of a picture that was downloaded here.`, true);
  }
  say("Reading the picture.");
  const address = await new Promise((resolve) => {
    const reader = Object.assign(new FileReader(), { onloadend: () => resolve(reader.result) });
    reader.readAsDataURL(picture);
  });
  const answer = await server.read({ picture: String(address).split(",")[1] || "" });
  if (answer.error) return say(answer.error, true);
  recall({ link: answer.link }, "Bringing the picture's run back.");
}

// A link is followed when the form is there: what the page sets as it loads must not undo it.
async function followLink() {
  const asked = new URLSearchParams(window.location.search);
  if (!setup.keys.some((key) => asked.has(key))) return;
  for (let wait = 0; wait < 600 && !document.querySelector("#model-chip .ddpm-chip"); wait++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  recall({ link: window.location.search }, "Following the link.");
}

// ---- links --------------------------------------------------------------------------------------
// On the Hub's page of a Space the app is a frame: there people share that page's address.
const framed = setup.space && window.self !== window.top;
const here = framed ? `https://huggingface.co/spaces/${setup.space}`
  : window.location.origin + window.location.pathname;

async function copyLink() {
  const entry = remembered().find(({ run }) => run === current);
  $(".hs-link").hidden = !entry?.link;
  if (!entry?.link) return say(entry?.why || "This run is no longer in the list.", true);
  const input = $(".hs-link input");
  input.value = here + entry.link;
  try {
    await navigator.clipboard.writeText(input.value);
    say("Copied: whoever opens the link sees this run drawn.");
  } catch {
    input.select(); // the browser does not let us, the visitor can
    say("Your browser keeps pages from the clipboard: copy the link below.");
  }
}

// ---- two runs side by side ----------------------------------------------------------------------
function compare(on) {
  pair = on ? [] : null;
  $(".hs-two").setAttribute("aria-pressed", on);
  $(".hs-pair").hidden = true;
  say(on ? "Choose two runs." : "");
  draw();
}

function choose(entry) {
  pair = pair.includes(entry.run) ? pair.filter((run) => run !== entry.run)
    : [...pair, entry.run].slice(-2);
  draw();
  $(".hs-pair").hidden = pair.length < 2;
  say(pair.length < 2 ? "Choose two runs." : "");
  if (pair.length === 2) showPair(remembered().filter(({ run }) => pair.includes(run)));
}

function showPair(two) {
  const differ = [...new Set(two.flatMap(({ facts }) => Object.keys(facts)))]
    .filter((name) => two[0].facts[name] !== two[1].facts[name]);
  $(".hs-pair").replaceChildren(...two.map((entry) => figure(entry, differ)));
  say(differ.length ? `They differ in ${differ.join(", ")}.` : "Their settings are the same.");
}

function figure(entry, differ) {
  const made = make("figure", "hs-figure");
  const image = make("img", "", { alt: words(entry), src: entry.thumbnail });
  const caption = make("figcaption");
  for (const name of differ) {
    const value = make("b", "", { textContent: entry.facts[name] ?? "none" });
    const line = make("span");
    line.append(`${name} `, value);
    caption.append(line);
  }
  made.append(image, caption);
  server.export({ run: entry.run, format: "png" }).then((answer) => {
    if (answer?.data) image.src = `data:image/png;base64,${answer.data}`;
    else caption.append("The server no longer has this run: this is the small picture.");
  }, () => {});
  return made;
}

// ---- forgetting ---------------------------------------------------------------------------------
function forget() {
  const button = $(".hs-forget");
  clearTimeout(sure);
  if (sure === null) {
    button.textContent = `Forget all ${remembered().length}?`;
    sure = setTimeout(() => { sure = null; button.textContent = "Forget all"; }, 4000);
    return;
  }
  sure = null;
  button.textContent = "Forget all";
  remember([]);
  compare(false);
  $(".hs-link").hidden = true;
  say("Forgotten.");
}

// ---- wiring -------------------------------------------------------------------------------------
$(".hs-copy").addEventListener("click", copyLink);
$(".hs-two").addEventListener("click", () => compare(!pair));
$(".hs-open").addEventListener("click", () => file.click());
$(".hs-forget").addEventListener("click", forget);
file.addEventListener("change", () => {
  openPicture(file.files[0]);
  file.value = ""; // the same file again is a change, too
});
root.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && pair) compare(false);
});
root.addEventListener("dragover", (event) => {
  event.preventDefault();
  root.dataset.over = "true";
});
root.addEventListener("dragleave", () => delete root.dataset.over);
root.addEventListener("drop", (event) => {
  event.preventDefault();
  delete root.dataset.over;
  openPicture(event.dataTransfer.files[0]);
});
document.addEventListener("ddpm:run", (event) => keep(event.detail).catch(() => {}));
window.addEventListener("storage", (event) => event.key === PLACE && draw()); // another tab's runs
watch("value", () => receive(props.value));
draw();
followLink();
