// The Forward tab's widget, last part: film strip, pickers, play, hands and keys, and the messages
// from Python in props.value ({samples, image, curves, model, glimpse, error}). Appended to
// scrubber_draw.js and scrubber_bridge.js, whose state and functions it uses.

// ---- film strip, cards, pickers --------------------------------------------------------------
const frameTime = (i) => Math.min(state.T - 1, Math.round(i * state.T / (FRAMES - 1)));

function drawFilm() {
  const film = $('.fw-film');
  if (!film.children.length) {
    const frame = '<button type="button" class="fw-frame-button"><canvas></canvas><span></span>';
    film.innerHTML = `${frame}</button>`.repeat(FRAMES);
  }
  [...film.children].forEach((button, i) => {
    const t = frameTime(i), ab = at(state.lead, 'alpha_bar', t);
    button.dataset.t = t;
    button.setAttribute('aria-label', `go to t = ${t}`);
    button.querySelector('span').textContent = t;
    paint(button.querySelector('canvas'), Math.sqrt(ab), Math.sqrt(1 - ab));
  });
}

function drawCards() {
  const cards = $('.fw-cards');
  cards.hidden = names().length < 2;
  cards.dataset.count = names().length;
  cards.innerHTML = cards.hidden ? '' : names().map((name) => `
    <button type="button" class="fw-card" data-schedule="${name}"
      aria-pressed="${name === state.lead}" aria-label="look closer at ${label(name)}">
      <canvas data-role="xt-${name}"></canvas>
      <span class="fw-card-text"><b>${label(name)}</b>
        <span><span class="fw-m"><span class="fw-mean">&alpha;</span></span>
          <span class="fw-card-ab"></span></span>
        <span class="fw-card-snr"></span></span></button>`).join('');
}

function drawChecks() {
  $('.fw-checks').innerHTML = Object.keys(state.curves).map((name) =>
    `<label class="fw-check" data-schedule="${name}"><input type="checkbox" value="${name}"
       ${state.ticked.has(name) ? 'checked' : ''}><i></i>${label(name)}${
         name === state.model?.schedule && name !== OWN ? '<small>the model\u2019s</small>' : ''
       }</label>`).join('');
}

function drawPicks(samples) {
  const picks = $('.fw-picks');
  picks.innerHTML = samples.map((image, i) =>
    `<button type="button" class="fw-pick" data-pick="${i}" aria-pressed="${i === 0}"
       aria-label="sample image: ${image.name}" title="${image.name}"><canvas></canvas></button>`
  ).join('') +
    `<button type="button" class="fw-pick fw-pick-own" data-pick="own" hidden
       aria-pressed="false" aria-label="your image"><canvas></canvas></button>
     <button type="button" class="fw-pick fw-upload"
       title="PNG, JPEG, WebP, GIF or BMP; or drop one here"><span
       aria-hidden="true">&#8593;</span>Upload</button>`;
  samples.forEach((image, i) => paint(picks.children[i].firstChild, 1, 0, image, decode(image)));
}

function setImage(image, key) {
  state.image = image;
  state.x0 = decode(image);
  state.power = state.x0.reduce((sum, v) => sum + v * v, 0) / state.x0.length;
  reroll(state.seed);
  for (const pick of $$('.fw-pick[data-pick]')) {
    pick.setAttribute('aria-pressed', String(pick.dataset.pick === String(key)));
  }
}

function reroll(seed) {
  state.seed = seed;
  state.eps = gaussians(state.x0.length, seed);
}

function rebuild() {  // after anything but a change of t
  if (!state.x0 || !state.lead) return;
  root.dataset.lead = state.lead;
  slider.max = state.T - 1;
  lengthSlider.value = state.T;
  $('.fw-T-text').textContent = `T = ${state.T}`;
  lengthSlider.style.setProperty('--fill', `${100 * (state.T - 50) / 950}%`);
  drawCurves();
  drawCards();
  drawFilm();
  draw();
}

function goTo(t, fromPlay = false) {
  if (!fromPlay) stop();
  state.t = Math.min(state.T - 1, Math.max(0, Math.round(t)));
  draw();
}

// ---- play ----------------------------------------------------------------------------------
function stop() {
  state.playing = 0;
  $('.fw-play').setAttribute('aria-pressed', 'false');
  $('.fw-play-icon').textContent = '\u25b6';
  $('.fw-play-text').textContent = 'Play';
  changed();
}

function play(end = state.T - 1, duration = SWEEP_MS) {
  const run = state.playing = Math.random() + 1;
  const start = state.t >= end ? 0 : state.t, begun = performance.now();
  // who asked for less motion sees eleven still frames, not a film
  const hold = still.matches ? 700 : 0, jump = Math.max(1, Math.round(state.T / 10));
  $('.fw-play').setAttribute('aria-pressed', 'true');
  $('.fw-play-icon').textContent = '\u275a\u275a';
  $('.fw-play-text').textContent = 'Pause';
  const tick = (now) => {
    if (state.playing !== run || !element.isConnected) return;
    const elapsed = Math.max(0, now - begun);
    const gone = hold ? jump * Math.floor(elapsed / hold) : state.T * elapsed / duration;
    goTo(Math.min(end, start + gone), true);
    if (start + gone >= end) stop();
    else requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}
const toggle = () => state.playing ? stop() : play();

// ---- hands and keys ------------------------------------------------------------------------
const isMine = (node) => !node.matches('input:not(.fw-t), button, textarea, select');
const KEYS = {
  ArrowLeft: (step) => state.t - step, ArrowRight: (step) => state.t + step,
  ArrowDown: (step) => state.t - step, ArrowUp: (step) => state.t + step,
  Home: () => 0, End: () => state.T - 1,
};
root.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const onPlay = event.target.matches('.fw-play, .fw-frame-button, .fw-card');
  if (event.key === ' ' && isMine(event.target)) toggle();
  else if (KEYS[event.key] && (isMine(event.target) || onPlay)) {
    goTo(KEYS[event.key](event.shiftKey ? 10 : 1));
  }
  else return;
  event.preventDefault();
});
root.addEventListener('input', (event) => {
  if (event.target === slider) goTo(+slider.value);
  if (event.target === lengthSlider) {
    $('.fw-T-text').textContent = `T = ${lengthSlider.value}`;
    lengthSlider.style.setProperty('--fill', `${100 * (lengthSlider.value - 50) / 950}%`);
  }
});
root.addEventListener('change', (event) => {
  if (event.target === lengthSlider) trigger('rebuild', { timesteps: +lengthSlider.value });
  if (event.target.matches('.fw-check input')) tick(event.target);
});
function tick(box) {
  if (!box.checked && state.ticked.size === 1) { box.checked = true; return; }  // one stays
  state.ticked[box.checked ? 'add' : 'delete'](box.value);
  if (!state.ticked.has(state.lead)) state.lead = names()[0];
  rebuild();
}
root.addEventListener('click', (event) => {
  const hit = (selector) => event.target.closest(selector);
  if (hit('.fw-play')) toggle();
  else if (hit('.fw-frame-button')) goTo(+hit('.fw-frame-button').dataset.t);
  else if (hit('.fw-card')) lookCloser(hit('.fw-card').dataset.schedule);
  else if (hit('.fw-see')) turn();
  else if (hit('.fw-denoise')) trigger('denoise', scene());
  else if (hit('.fw-reroll')) { reroll(state.seed + 1); drawFilm(); draw(); }
  else if (hit('.fw-upload')) $('.fw-file').click();
  else if (hit('.fw-pick')) choose(hit('.fw-pick').dataset.pick);
});
function lookCloser(name) {
  state.lead = name;
  rebuild();
  $(`.fw-card[data-schedule="${name}"]`)?.focus();  // its button was made anew
}
function choose(key) {
  complain('');
  setImage(key === 'own' ? state.own : state.samples[+key], key);
  drawFilm();
  draw();
}
const charts = $('.fw-charts');
function drag(event) {
  const box = $('.fw-plot').getBoundingClientRect();
  goTo((event.clientX - box.left) / box.width * (state.T - 1));
}
charts.addEventListener('pointerdown', (event) => {
  if (event.button !== 0) return;
  charts.setPointerCapture(event.pointerId);
  drag(event);
  event.preventDefault();
  slider.focus({ preventScroll: true });
});
charts.addEventListener('pointermove', (event) => {
  if (charts.hasPointerCapture(event.pointerId)) drag(event);
});

// ---- uploads: the hidden gr.UploadButton beside this widget carries the file -----------------
const PHOTO = 1_000_000, ENOUGH = 1024;  // bytes from which a photograph is shrunk; its side then
const carrier = () => document.getElementById('forward-upload')?.parentElement
  .querySelector('input[type=file]:not(.fw-file)');
async function shrunk(file) {  // a phone's photograph is 5 MB; 64 x 64 pixels of it are wanted
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, ENOUGH / Math.min(bitmap.width, bitmap.height));
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext('2d').drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, 'image/jpeg', 0.92));
  return new File([blob], file.name, { type: 'image/jpeg' });
}
async function send(file) {
  if (!file || !carrier()) return;
  complain('');
  const small = file.size > PHOTO ? await shrunk(file).catch(() => file) : file;
  const parcel = new DataTransfer();
  parcel.items.add(small);
  carrier().files = parcel.files;
  carrier().dispatchEvent(new Event('change', { bubbles: true }));
}
$('.fw-file').addEventListener('change', (event) => {
  event.stopPropagation();
  send(event.target.files[0]);
  event.target.value = '';  // the same file may be picked again
});
root.addEventListener('dragover', (event) => event.preventDefault());
root.addEventListener('drop', (event) => {
  event.preventDefault();
  send(event.dataTransfer?.files[0]);
});
function complain(sentence) {
  $('.fw-message').textContent = sentence;
  $('.fw-message').hidden = !sentence;
}

// ---- messages from Python ------------------------------------------------------------------
function followModel(last) {  // its own schedule in front, on a chain of its length
  const { schedule, timesteps } = state.model ?? {};
  if (state.follow && schedule) {
    const there = state.T === timesteps && schedule in state.curves;
    if (there) {
      state.lead = schedule;
      state.ticked.add(schedule);
    } else if (!last) trigger('rebuild', { timesteps });  // once: what is not there stays away
    state.follow = !there && !last;
  }
  drawChecks();
}
function receive(message) {
  if (message.glimpse) return tell(message.glimpse);  // nothing else of it, and nothing to redraw
  complain(message.error || '');
  if (message.curves) {
    const place = state.t / Math.max(1, state.T - 1);
    state.curves = message.curves;
    state.T = Object.values(state.curves)[0].beta.length;
    state.t = Math.round(place * (state.T - 1));
    if (!state.lead) state.ticked = new Set(Object.keys(state.curves));
    if (!names().includes(state.lead)) state.lead = names()[0] ?? Object.keys(state.curves)[0];
    state.ticked.add(state.lead);
  }
  if (message.model) {
    state.model = message.model;
    state.follow = true;
  }
  if (message.curves || message.model) followModel(message.curves && !message.model);
  if (message.samples) {
    state.samples = message.samples;
    drawPicks(message.samples);
    setImage(message.samples[0], 0);
  }
  if (message.image) {
    state.own = message.image;
    const pick = $('.fw-pick-own');
    pick.hidden = false;
    pick.title = message.image.name;
    paint(pick.firstChild, 1, 0, message.image, decode(message.image));
    setImage(message.image, 'own');
  }
  rebuild();
}
watch('value', () => receive(props.value || {}));
receive(props.greeting);
if (props.value) receive(props.value); // it may have come before the tab was opened

// Something moves when the tab is first seen, unless the visitor asked for stillness.
const rest = () => Math.round(0.2 * (state.T - 1));
if (still.matches) goTo(rest());
else new IntersectionObserver((entries, observer) => {
  if (!entries.some((entry) => entry.isIntersecting)) return;
  observer.disconnect();
  if (state.t === 0 && !state.playing) play(rest());
}).observe(root);
