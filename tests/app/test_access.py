"""The demo for who sees, hears or points differently: axe-core's rules on every tab, keys alone.

In the room: rules that hold on all tabs, in light and dark, wide and on a phone. What a tab's own
keys do is tested with the tab.
"""

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import TimeoutError

PATIENCE = 25_000  # ms: the machine may be busy with other tests
LONGEST = 120  # stops of Tab on one tab
SERIOUS = ["serious", "critical"]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844, "dark": True}
STOP = """() => {
  const here = document.activeElement;
  if (here === document.body) return null;
  const ringed = (node) => {
    const { outlineStyle, outlineWidth, opacity } = node ? getComputedStyle(node) : {};
    return outlineStyle === "solid" && parseFloat(outlineWidth) >= 2 && opacity !== "0";
  };
  here.dataset.stop ??= String(Math.random());
  return { stop: here.dataset.stop, html: here.outerHTML.slice(0, 160),
    ringed: [here, here.closest("label"), here.parentElement].some(ringed) };
}"""
FAULTS = """async ([impacts, only]) => {
  await new Promise(requestAnimationFrame); // colours that change slowly are on their way then
  await Promise.allSettled(document.getAnimations().map((animation) => animation.finished));
  const { violations } = await axe.run(
    { resultTypes: ["violations"], ...(only && { runOnly: only }) });
  return violations.filter(({ impact }) => impacts.includes(impact)).flatMap(({ id, nodes }) =>
    nodes.map((node) => `${id}: ${node.target} ${node.html.slice(0, 120)}`));
}"""

NAMELESS = """() => [...document.querySelectorAll(
    "canvas, img, input[type=range], [role=slider], [role=img]")].filter((node) => {
  const within = node.closest("button, label, figure, [role=application], [aria-label]");
  const name = node.alt || node.ariaLabel || node.labels?.length || node.ariaLabelledByElements
    || (within && (within.ariaLabel || within.control?.ariaLabel || within.innerText));
  return node.checkVisibility() && !node.closest("[aria-hidden=true]") && !name;
}).map((node) => `nameless: ${node.outerHTML.slice(0, 120)}`)"""


class Page:
    """The app as somebody with other senses meets it."""

    def __init__(self, visitor) -> None:
        self.page = visitor.page
        self.page.set_default_timeout(PATIENCE)
        self.page.locator("#model-chip b").wait_for()

    def tabs(self, where: str = "") -> list[str]:
        return self.row(where).locator("[role=tab]").all_inner_texts()

    def row(self, where: str = ""):
        """The row of tabs there; without a place that of the page."""
        return self.page.locator(f"{where} [role=tablist]").first

    def open(self, tab: str, where: str = "") -> None:
        self.row(where).get_by_role("tab", name=tab, exact=True).click()
        self.page.wait_for_function("document.querySelector('.pending, .generating') === null")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def has_focus(self, selector: str) -> bool:
        return self.page.evaluate(
            "(selector) => document.activeElement.closest(selector) !== null", selector
        )

    def tab_to(self, selector: str, key: str = "Tab") -> None:
        """Press Tab until what is inside `selector` has the focus."""
        for _ in range(LONGEST):
            self.press(key)
            if self.has_focus(selector):
                return
        pytest.fail(f"{LONGEST} times {key} do not lead to {selector}")

    def go(self, tab: str, row: str = "") -> None:
        """To that tab by keys alone, from anywhere above it."""
        self.tab_to(f"{row} [role=tablist]")  # or `row` is empty, and this the first on the page
        names = self.tabs(row)
        self.press("Home", *["ArrowRight"] * names.index(tab), "Enter")
        self.wait(f"document.activeElement.innerText === '{tab}'")
        self.wait("document.activeElement.ariaSelected === 'true'")

    def wait(self, condition: str) -> None:
        try:
            self.page.wait_for_function(condition)
        except TimeoutError:
            focus = self.page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
            pytest.fail(f"in vain waited for {condition}; the focus is on {focus}")

    def stops(self) -> list[dict]:
        """Where Tab leads from here, until it leaves the page or comes back."""
        found = []
        for _ in range(LONGEST):
            self.press("Tab")
            stop = self.page.evaluate(STOP)
            if stop is None or stop["stop"] in {seen["stop"] for seen in found}:
                return found
            found.append(stop)
        pytest.fail(f"{LONGEST} times Tab do not leave the page")

    def faults(self) -> list[str]:
        """What axe-core finds, contrasts in light and dark; pictures and sliders without words."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE_SCRIPT)
        found = self.page.evaluate(FAULTS, [SERIOUS, None])
        self.page.evaluate("document.body.classList.toggle('dark')")
        found += self.page.evaluate(FAULTS, [SERIOUS, "color-contrast"])
        self.page.evaluate("document.body.classList.toggle('dark')")
        return found + self.page.evaluate(NAMELESS)


@pytest.fixture
def visitor(visit):
    return lambda **options: Page(visit(**{"reduced_motion": "reduce"} | options))


@pytest.mark.parametrize("screen", [WIDE, PHONE], ids=["wide and light", "phone and dark"])
def test_no_tab_has_a_serious_fault(visitor, screen):
    page = visitor(**screen)
    faults = {}
    for tab in page.tabs():
        page.open(tab)
        inner = f"#{tab.lower()}-tabs" if tab in ("Lab", "Hub") else ""
        for half in page.tabs(inner) if inner else [""]:
            if half:
                page.open(half, inner)
            faults[f"{tab} {half}"] = page.faults()
    assert {where: found for where, found in faults.items() if found} == {}
    assert len(faults) >= 13, f"only {list(faults)} were looked at"


def test_what_appears_later_has_no_serious_fault_either(visitor):
    """A run under way, a refusal, a repo that cannot be had."""
    page = visitor(**WIDE)
    faults = []
    page.page.locator("#run").click()
    page.page.locator("#timeline .tl-badge[data-state=done]").first.wait_for()
    faults += page.faults()
    page.open("Train")
    page.page.locator("#train-data").get_by_text("Your images").click()
    page.page.locator("#train-start").click()
    page.page.locator(".toast-body").wait_for()
    faults += page.faults()
    page.open("Hub")
    page.page.locator("#hub-repo input, #hub-repo textarea").first.fill("alice/nothing")
    page.page.locator("#hub-open-button").click()
    page.page.locator("#hub-status [data-kind=bad]").wait_for()
    faults += page.faults()
    assert faults == []


def test_keys_lead_through_every_tab_and_out_of_it_and_show_where_they_are(visitor):
    page = visitor(**WIDE)
    unseen = {}
    for tab in page.tabs():
        page.go(tab)
        stops = page.stops()
        unseen[tab] = [stop["html"] for stop in stops if not stop["ringed"]]
        assert len(stops) >= 5, f"{tab}: Tab stops at {stops} alone"
    assert {tab: found for tab, found in unseen.items() if found} == {}


def test_a_row_of_tabs_is_one_stop_and_arrow_keys_go_around_in_it(visitor):
    page = visitor(**WIDE)
    names = page.tabs()
    page.tab_to("[role=tablist]")
    page.press("ArrowLeft")
    assert page.page.evaluate("document.activeElement.innerText") == names[-1]
    page.press("ArrowRight", "End", "Home")
    assert page.page.evaluate("document.activeElement.innerText") == names[0]
    page.press("ArrowRight", "Tab")
    assert not page.has_focus("[role=tablist]")
    page.press("Shift+Tab")
    chosen = "document.activeElement.ariaSelected"
    assert page.page.evaluate(chosen) == "true", "one comes back to the tab that is open"


def test_a_picture_is_drawn_by_keys_alone(visitor):
    page = visitor(**WIDE)
    page.go("Sample")
    page.tab_to("#run")
    page.press("Enter")
    page.page.locator("#timeline .tl-badge[data-state=done]").first.wait_for()
    page.wait("document.activeElement.matches('.ddpm-buttons button:enabled')")
    page.tab_to("#timeline input[type=range]")
    before = page.page.evaluate("document.activeElement.ariaValueText")
    page.press("Home")
    assert page.page.evaluate("document.activeElement.ariaValueText") != before


def test_noise_is_added_by_keys_alone(visitor):
    page = visitor(**WIDE)
    page.go("Forward")
    page.tab_to(".fw-t")
    before = page.page.evaluate("document.activeElement.ariaValueText")
    page.press("ArrowRight")
    assert page.page.evaluate("document.activeElement.ariaValueText") != before


def test_a_model_is_trained_by_keys_alone_and_the_focus_is_not_lost(visitor):
    page = visitor(**WIDE)
    page.go("Train")
    page.tab_to("#train-steps input")
    page.press("Control+a", *"20")
    page.tab_to("#train-start")
    page.press("Enter")
    page.wait("document.querySelector('#train-curve .ddpm-curve').dataset.state === 'running'")
    page.tab_to("#train-stop")
    page.press("Enter")
    page.wait("['done', 'stopped'].includes(document.querySelector('.ddpm-curve').dataset.state)")
    page.wait("document.activeElement.matches('.tr-controls button:enabled')")


def test_a_tool_of_the_lab_runs_by_keys_alone(visitor):
    page = visitor(**WIDE)
    page.go("Lab")
    page.go("Loss by t", "#lab-tabs")
    page.tab_to("#losses-pad .pd-pick")
    page.tab_to("#losses-run")
    page.press("Space")
    page.wait("document.querySelector('#losses-plot .ddpm-plot').dataset.state === 'done'")
    page.tab_to("#losses-plot .pl-plot")
    before = page.page.evaluate("document.activeElement.ariaValueText")
    page.press("ArrowRight")
    assert page.page.evaluate("document.activeElement.ariaValueText") != before


def test_a_repo_is_opened_and_drawn_from_by_keys_alone(hub_server, visit_server):
    page = Page(visit_server(hub_server, reduced_motion="reduce"))
    page.go("Hub")
    page.tab_to("#hub-repo")
    page.page.keyboard.type("alice/small")
    page.tab_to("#hub-open-button")
    page.press("Enter")
    page.page.locator("#hub-load").wait_for()
    page.tab_to("#hub-load")
    page.press("Enter")
    page.wait("document.activeElement.id === 'hub-draw'")  # the one takes the other's place
    page.press("Enter")
    page.wait("document.activeElement.matches('[role=tab][aria-selected=true]')")
    assert page.page.evaluate("document.activeElement.innerText") == "Sample"
