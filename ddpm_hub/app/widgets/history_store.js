// What the history remembers: past runs in this browser's own storage, newest first.
//
// In the room: reading, checking, bounding and writing the list. An entry is {run, link, why, state,
// at, star, thumbnail, facts}: settings and a small picture, no key of a model. Not in the room: how
// it looks (history.js, which Python puts behind this file). Where storage is denied, the list lives
// as long as the page.
const PLACE = "ddpm_hub.history";
const MOST = 40; // entries
const MOST_CHARACTERS = 300_000; // of all of them, as JSON
const MOST_THUMBNAIL = 20_000; // of one picture: 64 pixels of noise take about 13,000
const PICTURE = /^data:image\/(png|jpeg|webp);base64,[A-Za-z0-9+/=]+$/;

let memory = []; // the list, where the browser keeps none
let keeps = true; // whether the browser keeps it

function remembered() {
  try {
    const found = JSON.parse(window.localStorage.getItem(PLACE) || "[]");
    return keeps ? found.filter(isEntry) : memory;
  } catch (error) {
    keeps = !(error instanceof DOMException); // unreadable text is thrown away, denied storage not
    return keeps ? [] : memory;
  }
}

function remember(entries) {
  memory = bounded(entries);
  try {
    window.localStorage.setItem(PLACE, JSON.stringify(memory));
    keeps = true;
  } catch {
    keeps = false;
  }
  return memory;
}

// The oldest go first, those with a star last.
function bounded(entries) {
  const kept = entries.filter(isEntry);
  while (kept.length > MOST || JSON.stringify(kept).length > MOST_CHARACTERS) {
    const oldest = kept.findLastIndex((entry) => !entry.star);
    kept.splice(oldest < 0 ? kept.length - 1 : oldest, 1);
  }
  return kept;
}

// The same settings drawn again take the place of the first time.
function withRun(entries, entry) {
  const same = (other) => other.run === entry.run
    || (entry.link && other.link === entry.link && other.state === entry.state);
  const star = entries.some((other) => same(other) && other.star);
  return [{ ...entry, star }, ...entries.filter((other) => !same(other))];
}

// Storage is not always as we left it.
function isEntry(entry) {
  const text = (value, most) => typeof value === "string" && value.length <= most;
  return Boolean(entry) && text(entry.run, 64) && text(entry.link, 1000) && text(entry.why, 400)
    && text(entry.state, 10) && Number.isFinite(entry.at) && typeof entry.star === "boolean"
    && text(entry.thumbnail, MOST_THUMBNAIL)
    && (entry.thumbnail === "" || PICTURE.test(entry.thumbnail))
    && Object(entry.facts) === entry.facts && Object.keys(entry.facts).length <= 20
    && Object.entries(entry.facts).every(([name, value]) => text(name, 30) && text(value, 80));
}
