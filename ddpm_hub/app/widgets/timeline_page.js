// The timeline's page: its words, its panes to be filled, its buttons.
//
// In the room: HTML, made of the setup's words. First of the three parts of one script, see
// timeline.py; what it does is timeline.js's.
const setup = props.setup;

element.innerHTML = `
<section class="ddpm-tl ddpm-widget" tabindex="0" aria-label="${setup.label}">
  <div class="tl-top wd-top">
    <span class="tl-badge wd-badge" data-state="idle" ${setup.title ? "hidden" : ""}>Ready</span>
    <b class="tl-title" ${setup.title ? "" : "hidden"}>${setup.title}</b>
    <span class="tl-status">${setup.idle}</span>
    <span class="tl-says wd-says" role="status" aria-live="polite"></span>
  </div>
  <div class="tl-panes"></div>
  <div class="tl-second" hidden>
    <p class="tl-caption"></p>
    <div class="tl-panes"></div>
  </div>
  <div class="tl-axis">
    <span class="tl-hint">${setup.hint}</span>
    <svg class="tl-spark" viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">
      <path class="tl-area"></path><path class="tl-line"></path><path class="tl-line tl-other"></path>
    </svg>
    <span class="tl-cursor" aria-hidden="true"></span>
    <input class="tl-range wd-range" type="range" min="0" max="0" value="0" step="1" disabled
           aria-label="Frame" aria-valuetext="no frames yet">
  </div>
  <div class="tl-foot">
    <button class="tl-play wd-play" type="button" aria-label="Play" aria-pressed="false" disabled>
      <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7 4.5v15l12.5-7.5z"></path></svg>
    </button>
    <select class="tl-speed" aria-label="Playback speed">
      <option value="0.5">0.5×</option><option value="1" selected>1×</option>
      <option value="2">2×</option><option value="4">4×</option>
    </select>
    <output class="tl-where" aria-live="off"></output>
    <button class="tl-live" type="button" hidden>Live</button>
    <span class="tl-tools" ${setup.panes.length > 2 ? "" : "hidden"}>
      <button class="tl-fork" type="button" disabled
              title="Draw on from this frame with other noise">Branch here</button>
      <button class="tl-noise" type="button" aria-pressed="false"
              title="A third pane: the noise that the network finds">Noise</button>
    </span>
    <span class="tl-save" role="group" aria-label="Download" ${setup.download ? "" : "hidden"}>
      <span class="tl-saylabel">Download</span>
      <button type="button" data-format="png" title="The last picture, its settings inside" disabled>PNG</button>
      <button type="button" data-format="webp" title="The run as a film" disabled>WebP</button>
      <button type="button" data-format="gif" title="The run as a film, for old programs" disabled>GIF</button>
      <button type="button" data-format="strip" title="Eight moments of the run in one picture" disabled>Strip</button>
    </span>
  </div>
</section>`;
