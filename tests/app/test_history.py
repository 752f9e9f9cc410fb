"""The history's JavaScript without the app: what it remembers, bounds, shows and asks for."""

import json

import pytest
from widget_page import WidgetPage

from ddpm_hub import images
from ddpm_hub.app.widgets.history import history

SERVERS = ("describe", "read", "export")
PIXEL = images.data_uri(images.Image.new("L", (1, 1)), "png")
HOSTILE = "<img src=x onerror=\"throw new Error('ran')\">"
TELL = """([run, state, thumbnail]) => document.dispatchEvent(
  new CustomEvent("ddpm:run", { detail: { run, state, meta: {}, thumbnail } }))"""
DENY = """Object.defineProperty(window, "localStorage", {
  get() { throw new DOMException("denied", "SecurityError"); } })"""
RUN_BUTTON = "document.body.insertAdjacentHTML('beforeend', '<button id=run disabled>Run</button>')"


def describe(query):
    """What recall.describe says of a run that is called by its seed, such as 7 or 8-ddpm."""
    seed, _, sampler = query["run"].partition("-")
    facts = {"model": "bundled", "sampler": sampler or "ddim", "steps": "25", "seed": seed}
    return {"link": f"?seed={seed}&sampler={sampler or 'ddim'}", "why": "", "facts": facts}


def component():
    """The history with its server functions in words: WidgetPage has others in their place."""
    named = {name: describe for name in SERVERS}
    return history(**named, keys=("seed", "repo"), most_bytes=100_000)


@pytest.fixture
def strip(widget):
    """`strip(...)` is the history with a server that knows every run."""
    answers = {"describe": describe, "read": lambda _: {}, "export": lambda _: {"error": "gone"}}
    return lambda **options: widget(component(), **answers | options)


def tell(page, run: str, state: str = "done", thumbnail: str = PIXEL) -> None:
    """A run is over, and the history has heard of it."""
    page.page.evaluate(TELL, [run, state, thumbnail])
    page.find(f"[data-key='run {run}']").wait_for()


def stored(page) -> list[dict]:
    return json.loads(page.page.evaluate("localStorage.getItem('ddpm_hub.history')") or "[]")


def runs(page) -> list[str]:
    tiles = page.find(".hs-run")
    return [
        key.removeprefix("run ") for key in tiles.evaluate_all("all => all.map(n => n.dataset.key)")
    ]


# ---- what is remembered -------------------------------------------------------------------------
def test_an_empty_history_says_what_it_is_for(strip):
    page = strip()
    assert "Every run you finish or stop comes here" in page.find(".hs-empty").inner_text()
    assert page.find(".hs-list").is_hidden()
    for name in ("copy", "two", "forget"):
        assert page.find(f".hs-{name}").is_disabled()


def test_runs_are_remembered_newest_first_and_the_same_settings_once(strip):
    page = strip()
    for run in ("1", "2", "3-ddpm"):
        tell(page, run)
    page.find("[data-key='star 1']").click()
    page.page.evaluate(TELL, ["1", "done", PIXEL])
    page.page.wait_for_function("document.querySelector('.hs-run').dataset.key === 'run 1'")
    assert runs(page) == ["1", "3-ddpm", "2"]
    assert [entry["star"] for entry in stored(page)] == [True, False, False]
    assert "model" in stored(page)[0]["facts"] and "meta" not in stored(page)[0]
    label = page.find(".hs-run").first.get_attribute("aria-label")
    assert label.startswith("Run of ") and "sampler ddim, steps 25, seed 1" in label


def test_forty_runs_are_kept_and_a_star_outlives_older_age(strip):
    page = strip()
    tell(page, "0")
    page.find("[data-key='star 0']").click()
    for run in range(1, 44):
        tell(page, str(run))
    assert runs(page) == [*(str(run) for run in range(43, 4, -1)), "0"]
    fat = PIXEL[:22] + "A" * 15_000
    for run in range(100, 125):
        tell(page, str(run), thumbnail=fat)
    assert len(json.dumps(stored(page))) < 320_000
    assert len(runs(page)) < 40 and runs(page)[-1] == "0"


def test_a_picture_that_is_none_of_ours_is_left_out(strip):
    page = strip()
    for run, thumbnail in (("1", "https://evil.example/x.png"), ("2", PIXEL[:22] + "A" * 30_000)):
        tell(page, run, thumbnail=thumbnail)
    assert [entry["thumbnail"] for entry in stored(page)] == ["", ""]


def test_storage_that_somebody_edited_shows_what_is_sound_and_runs_nothing(strip):
    page = strip()
    tell(page, "1")
    good = stored(page)[0]
    bad = [None, 3, [], {}, good | {"thumbnail": "javascript:1"}, good | {"facts": [HOSTILE] * 30}]
    bad += [good | {"star": "yes"}, good | {"link": "x" * 5000}, good | {"at": None}]
    words = good | {"run": "2", "facts": {HOSTILE[:30]: HOSTILE, "sampler": HOSTILE}}
    for text in (json.dumps([*bad, words]), "[" * 5000, "{}", "null", '"text"'):
        page.page.evaluate(
            """text => { localStorage.setItem('ddpm_hub.history', text);
                 window.dispatchEvent(new StorageEvent('storage', {key: 'ddpm_hub.history'})); }""",
            text,
        )
        assert runs(page) == (["2"] if "onerror" in text else [])
        assert page.find("img[src=x]").count() == 0
    tell(page, "3")
    assert runs(page) == ["3"]


def test_where_storage_is_denied_the_list_lives_as_long_as_the_page(chromium):
    page = chromium.new_context().new_page()
    page.add_init_script(DENY)
    alone = WidgetPage(page, component(), describe=describe)
    tell(alone, "1")
    tell(alone, "2")
    assert runs(alone) == ["2", "1"]
    assert "keeps nothing" in alone.find(".hs-where").inner_text()
    assert alone.problems == []
    page.context.close()


def test_forgetting_all_is_asked_twice(strip):
    page = strip()
    tell(page, "1")
    forget = page.find(".hs-forget")
    forget.click()
    assert forget.inner_text() == "Forget all 1?" and len(stored(page)) == 1
    forget.click()
    assert stored(page) == [] and page.find(".hs-empty").is_visible()


# ---- what is asked for --------------------------------------------------------------------------
def test_a_press_asks_for_the_run_and_not_while_another_is_drawn(strip):
    page = strip()
    tell(page, "7")
    page.find(".hs-run").click()
    assert page.triggered("recall") == [{"run": "7", "link": "?seed=7&sampler=ddim", "why": ""}]
    page.send({"error": "No.", "nonce": "a"})
    assert page.find(".hs-said").inner_text() == "No."
    page.page.evaluate(RUN_BUTTON)
    page.find(".hs-run").click()
    assert "A run is under way" in page.find(".hs-said").inner_text()
    assert len(page.triggered("recall")) == 1


def test_a_picture_is_read_and_its_run_asked_for_but_not_a_huge_one(strip):
    page = strip(
        read=lambda query: {"link": "?seed=5"} if query["picture"] == "YWJj" else {"error": "No."}
    )
    file = page.find(".hs-file")
    picture = {"name": "a.png", "mimeType": "image/png"}
    file.set_input_files(picture | {"buffer": b"abc"})
    page.page.wait_for_function("widget.triggered.length === 1")
    assert page.triggered("recall") == [{"link": "?seed=5"}]
    file.set_input_files(picture | {"buffer": b"other"})
    page.find(".hs-said").filter(has_text="No.").wait_for()
    file.set_input_files(picture | {"buffer": b"x" * 200_000})
    page.find(".hs-said").filter(has_text="0.2 MB, more than the 0.1 MB").wait_for()
    assert len(page.calls) == 2 and len(page.triggered("recall")) == 1


def test_a_link_that_cannot_be_copied_can_be_taken_by_hand(strip):
    page = strip()
    tell(page, "7")
    page.page.evaluate(
        "() => { navigator.clipboard.writeText = async () => { throw new Error('no'); }; }"
    )
    page.find(".hs-copy").click()
    page.find(".hs-said").filter(has_text="copy the link below").wait_for()
    link = page.find(".hs-link input")
    assert link.input_value() == "http://localhost/widget?seed=7&sampler=ddim"
    assert page.page.evaluate("document.getSelection().toString()") == link.input_value()


def test_a_run_without_a_link_says_why(strip):
    page = strip(describe=lambda query: describe(query) | {"link": "", "why": "It was private."})
    tell(page, "7")
    page.find(".hs-copy").click()
    assert page.find(".hs-said").inner_text() == "It was private."
    assert page.find(".hs-link").is_hidden()


# ---- two beside each other ----------------------------------------------------------------------
def test_two_runs_are_compared_with_the_keyboard_alone(strip):
    data = PIXEL.split(",")[1]
    page = strip(
        export=lambda query: {"data": data} if query["run"] == "8-ddpm" else {"error": "x"}
    )
    for run in ("7", "8-ddpm", "9"):
        tell(page, run)
    page.find(".hs-two").focus()
    page.press("Enter")
    page.find("[data-key='run 8-ddpm']").focus()
    page.press("Space")
    assert page.find("[data-key='run 8-ddpm']").get_attribute("aria-pressed") == "true"
    assert page.focused() == "hs-run"  # drawn anew, and still there
    page.press("Tab", "Tab", "Enter")  # its star, the next run
    assert page.find(".hs-said").inner_text() == "They differ in sampler, seed."
    captions = page.find(".hs-pair figcaption")
    captions.filter(has_text="no longer has this run").wait_for()
    assert page.texts(".hs-pair figcaption")[0].split() == ["sampler", "ddpm", "seed", "8"]
    assert page.find(".hs-pair img").last.get_attribute("src") == PIXEL
    assert "seed 7" in page.find(".hs-pair img").last.get_attribute("alt")
    assert page.triggered("recall") == []
    page.press("Escape")
    assert page.find(".hs-pair").is_hidden()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_shows_the_strip_without_scrolling_the_page(strip, dark):
    page = strip(width=390, height=800, dark=dark)
    for run in range(8):
        tell(page, str(run))
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
    for button in page.find(".hs-foot button, .hs-star").all():
        assert button.bounding_box()["height"] >= 32
