"""The Learn tab in a real browser: walked by keys alone, and what each lesson's button sets up."""

import re

import pytest

from ddpm_hub.app import limits
from ddpm_hub.app.lessons import LESSONS

PATIENCE = 60_000  # ms: the machine may be busy with other tests
CHOSEN = "[role=tab][aria-selected=true]"
MATHS = """() => [...document.querySelectorAll('.wk-lesson:not([hidden]) math')].map((node) => {
  const { width, height } = node.getBoundingClientRect();
  return [node.getAttribute('aria-label'), width > 4 && height > 4, node.namespaceURI];
})"""
CODE = """() => [...document.querySelectorAll('.wk-lesson:not([hidden]) .wk-line')]
  .map((line) => [+line.dataset.n, line.textContent.trim()])"""
OUTSIDE = """() => [document.documentElement.scrollWidth > innerWidth,
  [...document.querySelectorAll('.wk-lesson:not([hidden]) *:not(pre *)')]
    .filter((node) => node.getBoundingClientRect().right > innerWidth + 1)
    .map((node) => node.className || node.tagName)]"""


class Learn:
    """The tab on a visitor's page, in a visitor's words."""

    def __init__(self, visitor) -> None:
        self.visitor, self.page = visitor, visitor.page
        self.page.set_default_timeout(PATIENCE)
        self.page.locator("#model-chip .ddpm-chip").wait_for()
        self.open()

    def open(self) -> None:
        self.page.locator("[role=tab][data-tab-id=learn]").click()
        self.page.locator(".ddpm-walk[data-lesson]").wait_for()

    def go(self, index: int) -> None:
        self.open()
        self.page.locator(".wk-steps button").nth(index).click()

    def apply(self, key: str) -> None:
        """Press that lesson's button, and wait for the tab that it opens."""
        (index,) = (i for i, lesson in enumerate(LESSONS) if lesson.key == key)
        self.go(index)
        self.page.locator(f".wk-apply[data-apply={key}]").click()
        self.page.locator(f"{CHOSEN}[data-tab-id={LESSONS[index].tab}]").wait_for()

    def heading(self) -> str:
        return self.page.locator(".wk-lesson:not([hidden]) h2").inner_text()

    def checked(self, group: str) -> str:
        return self.page.locator(f"#{group} input:checked").get_attribute("value")

    def form(self) -> list[str]:
        """What the Sample tab is set to."""
        seed = self.page.locator("#seed input").input_value()
        return [*map(self.checked, ("sampler", "steps", "batch")), seed]

    def status(self, pattern: str) -> None:
        """Wait until Sample's line says that."""
        self.page.locator(".tl-status").filter(has_text=re.compile(pattern)).wait_for()

    def stop(self, name: str) -> None:
        """End what a lesson began, unless it is done: its frames are not the matter here."""
        self.page.locator(f"#{name}").evaluate("button => button.click()")
        self.page.locator(f"#{name}:disabled").wait_for()


@pytest.fixture(scope="module")
def visitor(opener):
    visitor = opener(reduced_motion="reduce")
    yield visitor
    visitor.context.close()
    assert visitor.problems == []


@pytest.fixture
def learn(visitor):
    """The tab of one visitor for all tests: loading the page anew takes most of the time."""
    return Learn(visitor)


# ---- the walk --------------------------------------------------------------------------------
def test_the_walk_can_be_walked_by_keys_alone(learn):
    page, keys = learn.page, learn.page.keyboard
    learn.go(0)
    page.locator("[role=tab][data-tab-id=learn]").focus()
    for _ in range(3):  # at most: the link of the introduction lies between
        keys.press("Tab")
        if page.evaluate("document.activeElement.closest('.wk-steps')"):
            break
    for lesson in LESSONS[1:]:
        keys.press("ArrowRight")
        assert learn.heading().endswith(lesson.title)
        assert page.locator(".wk-steps [aria-current=step]").inner_text().endswith(lesson.title)
    learn.go(0)
    for lesson in LESSONS[1:]:
        following = page.get_by_role("button", name=f"Next: {lesson.title}", exact=True)
        following.focus()
        keys.press("Enter")
        assert page.evaluate("document.activeElement.innerText").endswith(lesson.title)


@pytest.mark.parametrize("index", range(len(LESSONS)), ids=[lesson.key for lesson in LESSONS])
def test_a_lesson_shows_its_equations_with_words_for_the_ear_and_the_lines_of_the_source(
    learn, index
):
    learn.go(index)
    lesson = LESSONS[index]
    shown = learn.page.evaluate(MATHS)
    assert len(shown) == len(lesson.equations) + len(lesson.signs)
    assert all(visible and "MathML" in namespace for _, visible, namespace in shown)
    first = learn.page.get_by_role("math", name=shown[0][0], exact=True)
    assert first.count() == 1
    lines = [(n, text.strip()) for part in lesson.code for n, text in part.lines]
    assert [tuple(line) for line in learn.page.evaluate(CODE)] == lines


def test_nothing_is_wider_than_a_phone_and_all_tabs_are_in_one_row(visit):
    learn = Learn(visit(width=390, height=844, reduced_motion="reduce"))
    for index in range(len(LESSONS)):
        learn.go(index)
        assert learn.page.evaluate(OUTSIDE) == [False, []]
    tabs = learn.page.locator("[role=tablist]").first.get_by_role("tab")
    assert tabs.all_inner_texts() == ["Sample", "Learn", "Train", "Forward", "Lab", "Hub"]


def test_the_head_of_the_page_leads_here_and_a_loaded_page_goes_on_where_it_was(visit):
    learn = Learn(visit(reduced_motion="reduce"))
    learn.go(3)
    learn.page.reload()
    learn.page.locator("#model-chip .ddpm-chip").wait_for()
    learn.page.get_by_role("button", name="Learn how, in seven lessons").click()
    assert learn.page.evaluate("document.activeElement.innerText") == "Learn"
    learn.page.locator(".ddpm-walk[data-lesson='3']").wait_for()
    assert learn.heading().endswith(LESSONS[3].title)


# ---- what the buttons set up -----------------------------------------------------------------
def test_lesson_1_opens_forward_with_the_boot_at_t_300(learn):
    learn.page.locator("[role=tab][data-tab-id=forward]").click()
    learn.page.locator(".fw-pick[data-pick='2']").click()
    learn.apply("noise")
    learn.page.locator(".fw-text").get_by_text("t = 300 of 1000").wait_for()
    assert learn.page.locator(".fw-pick[data-pick='0']").get_attribute("aria-pressed") == "true"
    assert learn.page.evaluate("document.activeElement.innerText") == "Forward"


def test_lesson_3_takes_the_first_of_ten_steps_whatever_was_under_way(learn):
    learn.page.locator("[role=tab][data-tab-id=sample]").click()
    learn.page.locator("#step").click()
    learn.status(r"step\s1/25")
    learn.apply("back")
    learn.status(r"step\s1/10")
    assert learn.form() == ["ddpm", "10", "1", "7"]
    learn.page.locator("#step").click()
    learn.status(r"step\s2/10")
    learn.stop("stop")


def test_lesson_4_begins_the_whole_way_with_ddpm(learn):
    learn.apply("way")
    learn.status(r"step\s\d+/100")
    assert learn.form() == ["ddpm", "100", "4", "7"]
    assert not learn.page.locator("#fresh input").is_checked()
    learn.stop("stop")


@pytest.mark.parametrize(
    ("key", "tool", "name"),
    [
        ("network", "losses", "Loss by t"),
        ("fewer", "few", "How few steps"),
        ("bits", "coding", "Rate and distortion"),
    ],
)
def test_lessons_2_5_and_6_open_a_tool_of_the_lab_and_run_it(learn, key, tool, name):
    learn.apply(key)
    learn.page.locator(f".ddpm-subtabs {CHOSEN}").get_by_text(name, exact=True).wait_for()
    widget = "strips" if tool == "few" else "plot"
    begun = f"#{tool}-{widget} :is([data-state=running], [data-state=done])"
    learn.page.locator(begun).first.wait_for()
    learn.stop(f"{tool}-stop")


def test_lesson_7_sets_up_the_tiny_training_on_garments(learn):
    learn.page.locator("[role=tab][data-tab-id=train]").click()
    learn.page.locator("#train-preset label").get_by_text("fashion", exact=True).click()
    learn.page.locator("#train-data label").get_by_text("Your images", exact=True).click()
    learn.apply("own")
    learn.page.locator("#train-preset input[value=tiny]:checked").wait_for()
    assert learn.checked("train-data") == "Garments"
    steps = str(limits.train_row("tiny").train_num_steps)
    learn.page.wait_for_function(
        "steps => document.querySelector('#train-steps input').value === steps", arg=steps
    )
