// The Forward tab's widget, middle part: what is on the screen goes to the network, and what the
// network makes of it comes back. In the room: when it is asked (once the hand lets go, never
// while it drags), the scene that is sent, the pictures and words of the answer. Not in the room:
// the answer itself (glimpse.py). Between scrubber_draw.js and scrubber.js, with both their names.
const LET_GO_MS = 250;  // keys come in rows, too: the last one counts
const bridge = { on: false, ticket: 0, asked: 0, timer: 0, held: false };

function base64(floats) {  // float32, little-endian on every machine that runs a browser
  const bytes = new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength);
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

function scene() {  // x0 and eps as they are drawn, and how much of each
  const { name, width, height, channels, data } = state.image;
  return {
    name, width, height, channels, data, eps: base64(state.eps), seed: state.seed,
    alpha_bar: at(state.lead, 'alpha_bar'), ticket: bridge.ticket,
  };
}

function changed() {  // anything on the screen: the last answer is not about it any more
  bridge.ticket++;
  if (!bridge.on) return;
  $('.fw-seen').dataset.state = 'old';
  clearTimeout(bridge.timer);
  if (!bridge.held && !state.playing) bridge.timer = setTimeout(ask, LET_GO_MS);
}

function ask() {
  if (!bridge.on || bridge.held || state.playing || !root.offsetParent) return;
  if (bridge.asked === bridge.ticket) return;
  bridge.asked = bridge.ticket;
  $('.fw-seen').dataset.state = 'asked';
  trigger('glimpse', scene());
}

function turn() {
  bridge.on = !bridge.on;
  bridge.asked = 0;
  $('.fw-see').setAttribute('aria-pressed', String(bridge.on));
  $('.fw-seen').hidden = !bridge.on;
  say('.fw-seen-numbers', 'The network is looking \u2026');
  say('.fw-seen-text', '');
  for (const image of $$('[data-seen] img')) image.removeAttribute('src');
  ask();
}

function tell(glimpse) {
  if (glimpse.error) {
    if (!bridge.on) return complain(glimpse.error);  // of "Denoise from here"
    $('.fw-seen').dataset.state = 'error';
    say('.fw-seen-numbers', glimpse.error);
    return say('.fw-seen-text', '');
  }
  if (!bridge.on) return;
  $('.fw-seen').dataset.state = glimpse.ticket === bridge.ticket ? 'fresh' : 'old';
  show(glimpse);
}

function show(glimpse) {
  const exact = glimpse.same && sameLevel(glimpse.alpha_bar);
  const means = {
    x: `x_t at t = ${glimpse.t}, as the network gets it`,
    x0_hat: 'x0-hat, what the network believes the picture is',
    x0: 'x0, the picture itself', eps_hat: 'eps-hat, the noise that the network finds',
  };
  for (const figure of $$('[data-seen]')) {
    const name = figure.dataset.seen;
    figure.querySelector('img').src = glimpse.pictures[name];
    figure.querySelector('img').alt = means[name];
    figure.hidden = name === 'x' && exact;  // it is on the screen already
  }
  say('.fw-seen-t', glimpse.t);
  say('.fw-seen-numbers', `t = ${glimpse.t} \u00b7 mean squared error ${digits(glimpse.mse)} ` +
    `in x0, ${digits(glimpse.eps_mse)} in the noise`);
  say('.fw-seen-text', explained(glimpse, exact));
}

const digits = (v) => v === null ? 'unknown' : v < 1e-4 ? v.toExponential(1) : v.toPrecision(3);

function sameLevel(alphaBar) {  // to the ten digits that the curves have
  const own = at(state.lead, 'alpha_bar');
  return Math.abs(own - alphaBar) < 1e-9 + 1e-9 * own;
}

function explained(glimpse, exact) {
  const [channels, height, width] = glimpse.shape;
  const size = `${height} x ${width} ${channels === 1 ? 'grey' : 'colour'}`;
  const place = `t = ${glimpse.t} of its ${glimpse.T}`;
  const gets = exact ? `exactly this noised picture at ${place}`
    : glimpse.same ? `this picture with this noise at ${place}, where its noise level is nearest`
      : `this picture as ${size} with noise of its own at ${place}, where its noise level is nearest`;
  return `One call of ${glimpse.model}: it gets ${gets}. It believes in the mean of all pictures ` +
    'that fit, so what the noise hides is blurred. Pixels run from \u22121 to 1.';
}

// the hand: while it holds anything, nothing is asked
root.addEventListener('pointerdown', () => { bridge.held = true; });
for (const end of ['pointerup', 'pointercancel']) {
  window.addEventListener(end, () => {
    if (!bridge.held || !element.isConnected) return;
    bridge.held = false;
    clearTimeout(bridge.timer);
    bridge.timer = setTimeout(ask, LET_GO_MS);
  });
}
new IntersectionObserver(ask).observe(root);  // what changed while the tab was not seen
