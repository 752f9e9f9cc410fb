// The Forward tab's widget, first part: x_t = sqrt(ab) x0 + sqrt(1 - ab) eps, drawn for every t.
// In the room: noise, pixels, curves, histogram, numbers. Not in the room: what is asked of the
// network (scrubber_bridge.js), hands, keys and messages (scrubber.js; both are appended to this
// file), schedules and uploads (Python).
// gr.HTML calls the three as one function of (element, trigger, props, server, upload, watch).
const $ = (selector) => element.querySelector(selector);
const $$ = (selector) => [...element.querySelectorAll(selector)];
const root = $('.fw');
const slider = $('.fw-t');
const lengthSlider = $('.fw-T');
const still = window.matchMedia('(prefers-reduced-motion: reduce)');
const FRAMES = 11, BINS = 64, SWEEP_MS = 6000;
const SCALES = {  // value -> height in [0, 1] of its plot
  alpha_bar: (v) => v,
  snr_db: (v) => (v + 50) / 90,
  beta: (v) => (Math.log10(v) + 5) / 5,
};
const OWN = 'own';  // the row of a model's schedule that has no name
const label = (name) => name === OWN ? 'the model\u2019s' : name;
const state = { t: 0, T: 1000, curves: {}, ticked: new Set(), lead: '', seed: 1, playing: 0 };

// ---- noise and pixels ----------------------------------------------------------------------
function gaussians(count, seed) {  // mulberry32 and Box-Muller: the same seed, the same eps
  let s = Math.imul(seed, 0x9E3779B1) | 0;
  const uniform = () => {
    s = s + 0x6D2B79F5 | 0;
    let v = Math.imul(s ^ s >>> 15, 1 | s);
    v = v + Math.imul(v ^ v >>> 7, 61 | v) ^ v;
    return ((v ^ v >>> 14) >>> 0) / 4294967296;
  };
  const out = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const r = Math.sqrt(-2 * Math.log(1 - uniform())), a = 2 * Math.PI * uniform();
    out[i] = r * Math.cos(a);
    if (i + 1 < count) out[i + 1] = r * Math.sin(a);
  }
  return out;
}

function decode(image) {  // base64 bytes (height, width, channels) -> floats in [-1, 1]
  const bytes = atob(image.data), x = new Float32Array(bytes.length);
  for (let i = 0; i < bytes.length; i++) x[i] = bytes.charCodeAt(i) / 127.5 - 1;
  return x;
}

function paint(canvas, a, b, image = state.image, x0 = state.x0, eps = state.eps) {
  const { width, height, channels } = image;
  if (canvas.width !== width || canvas.height !== height || !canvas.buffer) {
    canvas.width = width;
    canvas.height = height;
    canvas.buffer = canvas.getContext('2d').createImageData(width, height);
    canvas.buffer.data.fill(255);
  }
  const out = canvas.buffer.data;
  for (let i = 0, j = 0; i < out.length; i += 4) {
    for (let c = 0; c < 3; c++) {  // Uint8ClampedArray rounds, and clips to [0, 255]
      const k = channels === 3 ? j + c : j;
      out[i + c] = 127.5 * ((a ? a * x0[k] : 0) + (b ? b * eps[k] : 0)) + 127.5;
    }
    j += channels;
  }
  canvas.getContext('2d').putImageData(canvas.buffer, 0, 0);
}

// ---- words and numbers ---------------------------------------------------------------------
const share = (v) => v > 0.995 ? v.toFixed(4) : v < 1e-4 ? v.toExponential(1) : v.toPrecision(3);
const coefficient = (v) => v.toFixed(3);
const signed = (v, digits) => (v < 0 ? '\u2212' : '') + Math.abs(v).toFixed(digits);
const at = (name, chart, t = state.t) => state.curves[name][chart][t];
const say = (selector, text) => { for (const node of $$(selector)) node.textContent = text; };

function describe() {
  const ab = share(at(state.lead, 'alpha_bar')), snr = at(state.lead, 'snr_db').toFixed(1);
  return `t = ${state.t} of ${state.T} \u00b7 alpha_bar ${ab} \u00b7 SNR ${snr} dB`;
}

function writeNumbers(ab) {
  const a = Math.sqrt(ab), b = Math.sqrt(1 - ab), text = describe();
  $('.fw-text').textContent = text;
  slider.setAttribute('aria-valuetext', text);
  say('.fw-sub-t', state.t);
  say('.fw-a', coefficient(a));
  say('.fw-b', coefficient(b));
  say('.fw-ab-live', share(ab));
  say('.fw-nb-live', share(1 - ab));
  say('.fw-lead', label(state.lead));
  $('.fw-split-a').style.width = `${100 * ab}%`;
  $('.fw-share-a').textContent = `variance: signal ${(100 * ab).toFixed(1)} %`;
  $('.fw-share-b').textContent = `noise ${(100 * (1 - ab)).toFixed(1)} %`;
}

// ---- histogram -----------------------------------------------------------------------------
function drawHistogram(ab) {
  const a = Math.sqrt(ab), b = Math.sqrt(1 - ab), n = state.x0.length;
  const counts = new Uint32Array(BINS);
  let sum = 0, squares = 0;
  for (let i = 0; i < n; i++) {
    const v = a * state.x0[i] + b * state.eps[i];
    sum += v;
    squares += v * v;
    const bin = Math.floor((v + 4) / 8 * BINS);
    if (bin >= 0 && bin < BINS) counts[bin]++;
  }
  const mean = sum / n, width = 8 / BINS, peak = Math.max(...counts) / n / width;
  const top = Math.min(2, Math.max(0.5, 1.08 * peak));  // density at the upper edge
  let path = '';
  counts.forEach((count, i) => {
    const tall = Math.min(1, count / n / width / top);
    if (count) path += `M${-4 + i * width} 0v${tall}h${width * 0.86}V0z`;
  });
  $('.fw-bins').setAttribute('d', path);
  $('.fw-normal').setAttribute('transform', `scale(1 ${1 / top})`);
  $('.fw-kl-bins').textContent = `${histogramKl(counts, width).toFixed(3)} bits`;
  // KL of q(x_t | x_0) = N(a x0, (1 - ab) I) to N(0, I), a mean over pixels, in bits
  const kl = (ab * (state.power - 1) - Math.log1p(-ab)) / 2 / Math.LN2;
  $('.fw-mean-value').textContent = signed(mean, 3);
  $('.fw-std-value').textContent = Math.sqrt(Math.max(0, squares / n - mean * mean)).toFixed(3);
  const digits = kl < 1e-4 ? kl.toExponential(1) : kl.toFixed(kl < 0.1 ? 4 : 3);
  $('.fw-kl-value').textContent = `${digits} bits/dim`;
}

function histogramKl(counts, width) {  // in bits, less the bias of n samples (Miller and Madow)
  const inside = counts.reduce((sum, count) => sum + count, 0);
  let kl = 0, filled = 0;
  counts.forEach((count, i) => {
    if (!count) return;
    const x = -4 + (i + 0.5) * width, p = count / inside;
    kl += p * Math.log(p / (width * Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI)));
    filled++;
  });
  return Math.max(0, (kl - (filled - 1) / 2 / inside) / Math.LN2);
}

function normalCurve() {
  let d = '';
  for (let i = 0; i <= 80; i++) {
    const x = -4 + i / 10;
    d += `${i ? 'L' : 'M'}${x} ${Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI)}`;
  }
  $('.fw-normal').setAttribute('d', d);
}

// ---- curves --------------------------------------------------------------------------------
const names = () => Object.keys(state.curves).filter((name) => state.ticked.has(name));
const height = (chart, v) => Math.min(1, Math.max(0, SCALES[chart](v)));
const across = (t) => state.T > 1 ? t / (state.T - 1) : 0;

function curvePath(chart, values) {
  const stride = Math.max(1, Math.floor(values.length / 250));
  const points = [];
  for (let t = 0; t < values.length; t += stride) points.push(t);
  if (points[points.length - 1] !== values.length - 1) points.push(values.length - 1);
  return points.map((t, i) => {
    const y = 100 * (1 - height(chart, values[t]));
    return `${i ? 'L' : 'M'}${(1000 * across(t)).toFixed(1)} ${y.toFixed(2)}`;
  }).join('');
}

function drawCurves() {  // after a change of T, or of the ticked schedules
  for (const chart of $$('.fw-chart')) {
    const kind = chart.dataset.chart, plot = chart.querySelector('.fw-plot');
    for (const old of plot.querySelectorAll('svg, .fw-cursor, .fw-dot')) old.remove();
    const paths = names().map((name) =>
      `<path class="fw-curve" data-schedule="${name}" data-lead="${name === state.lead}"
         d="${curvePath(kind, state.curves[name][kind])}"/>`);
    const dots = names().map((name) => `<i class="fw-dot" data-schedule="${name}"></i>`);
    plot.insertAdjacentHTML('beforeend',
      `<svg viewBox="0 0 1000 100" preserveAspectRatio="none"
         aria-hidden="true">${paths.join('')}</svg>
       <i class="fw-cursor"></i>${dots.join('')}`);
    chart.querySelector('.fw-now').innerHTML = names().map((name) =>
      `<span data-schedule="${name}"></span>`).join('');
  }
  $('.fw-last').textContent = `t = ${state.T - 1}`;
  normalCurve();
}

function moveCursors() {
  const left = `${100 * across(state.t)}%`;
  for (const chart of $$('.fw-chart')) {
    const kind = chart.dataset.chart;
    chart.querySelector('.fw-cursor').style.left = left;
    for (const dot of chart.querySelectorAll('.fw-dot')) {
      dot.style.left = left;
      dot.style.top = `${100 * (1 - height(kind, at(dot.dataset.schedule, kind)))}%`;
    }
    for (const now of chart.querySelectorAll('.fw-now span')) {
      const value = at(now.dataset.schedule, kind);
      now.textContent = kind === 'snr_db' ? signed(value, 1) : share(value);
    }
  }
}

// ---- drawing it all ------------------------------------------------------------------------
function draw() {
  if (!state.x0 || !state.lead) return;
  const ab = at(state.lead, 'alpha_bar'), a = Math.sqrt(ab), b = Math.sqrt(1 - ab);
  paint($('.fw-xt'), a, b);
  paint($('.fw-signal'), a, 0);
  paint($('.fw-noise'), 0, b);
  for (const card of $$('.fw-card')) {
    const own = at(card.dataset.schedule, 'alpha_bar');
    paint(card.querySelector('canvas'), Math.sqrt(own), Math.sqrt(1 - own));
    card.querySelector('.fw-card-ab').textContent = share(own);
    const snr = signed(at(card.dataset.schedule, 'snr_db'), 1);
    card.querySelector('.fw-card-snr').textContent = `${snr} dB`;
  }
  slider.value = state.t;
  slider.style.setProperty('--fill', `${100 * across(state.t)}%`);
  const nearest = Math.round(10 * state.t / state.T);
  [...$('.fw-film').children].forEach((frame, i) =>
    frame.setAttribute('aria-current', String(i === nearest)));
  writeNumbers(ab);
  drawHistogram(ab);
  moveCursors();
  changed();
}

