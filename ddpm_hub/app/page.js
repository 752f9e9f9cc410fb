// What keys and screen readers miss in Gradio's own page: arrow keys in a row of tabs, which is one
// stop of Tab and not one for each; and a focus that goes on when its button goes away.
//
// In the room: listeners on the document, the same for all tabs. Not in the room: what a tab or a
// widget does with keys. theme.py puts this into the page's head.
(() => {
  const ROWS = ".ddpm-buttons, .hub-actions, .tr-controls";

  // ---- tabs -------------------------------------------------------------------------------------
  const tabsOf = (list) => [...list.querySelectorAll("[role=tab]:not(:disabled)")];

  function stopAt(list, chosen) {
    for (const tab of tabsOf(list)) tab.tabIndex = tab === chosen ? 0 : -1;
  }

  function stopAtSelected(list) {
    const tabs = tabsOf(list);
    stopAt(list, tabs.find((tab) => tab.getAttribute("aria-selected") === "true") ?? tabs[0]);
  }

  document.addEventListener("focusin", ({ target }) => {
    if (target.matches("[role=tab]")) stopAt(target.closest("[role=tablist]"), target);
  });
  document.addEventListener("focusout", ({ target, relatedTarget }) => {
    const list = target.closest("[role=tablist]");
    if (list && !list.contains(relatedTarget)) stopAtSelected(list);
  });
  document.addEventListener("keydown", (event) => {
    const list = event.target.matches("[role=tab]") && event.target.closest("[role=tablist]");
    if (!list || event.altKey || event.ctrlKey || event.metaKey) return;
    const tabs = tabsOf(list);
    const at = tabs.indexOf(event.target);
    const goals = { ArrowLeft: at - 1, ArrowRight: (at + 1) % tabs.length, Home: 0, End: -1 };
    if (!(event.key in goals)) return;
    event.preventDefault();
    tabs.at(goals[event.key]).focus();
  });

  // ---- the focus --------------------------------------------------------------------------------
  let pressed = null; // the button that was pressed last by a key, until a pointer takes over
  let row = null; // its neighbours and itself
  let panel = null; // of its tab
  let asked = false;

  const seen = (node) => !node.disabled && node.checkVisibility();

  // To a neighbour, once one can be pressed; to the tab that is open, if that is another one now.
  function goOn() {
    asked = false;
    const here = document.activeElement;
    if (!pressed || (here && here !== document.body && seen(here))) return;
    const next = panel && !panel.checkVisibility()
      ? document.querySelector("[role=tab][aria-selected=true]")
      : [...(row?.querySelectorAll("button") ?? [])].find(seen);
    next?.focus({ preventScroll: true });
  }

  function goOnSoon() { // once all of an answer is on the page
    if (pressed && !asked) requestAnimationFrame(goOn);
    asked = Boolean(pressed);
  }

  const neighbours = new MutationObserver(goOnSoon);
  document.addEventListener("click", (event) => {
    neighbours.disconnect();
    pressed = event.detail === 0 ? event.target.closest("button") : null;
    row = pressed?.closest(ROWS);
    panel = pressed?.closest("[role=tabpanel]");
    if (row) neighbours.observe(row, { subtree: true, childList: true, attributes: true });
  });

  // ---- toasts: Gradio makes a button of their head, around the button that closes them ------------
  function openToasts() {
    for (const head of document.querySelectorAll(".toast-header[role]")) {
      head.removeAttribute("role");
      head.removeAttribute("tabindex");
    }
  }

  // ---- rows of tabs that come and change: Gradio makes one when its own tab is first opened -------
  const ofTabs = (record) => record.type === "attributes"
    || [...record.addedNodes].some((node) => node.matches?.("[role=tab]"));
  new MutationObserver((records) => {
    const lists = records.filter(ofTabs).map(({ target }) => target.closest("[role=tablist]"));
    for (const list of new Set(lists)) {
      if (list && !list.contains(document.activeElement)) stopAtSelected(list);
    }
    openToasts();
    if (lists.length) goOnSoon(); // a button that opens another tab leaves its own
  }).observe(document, {
    subtree: true, childList: true, attributes: true, attributeFilter: ["aria-selected"],
  });
})();
