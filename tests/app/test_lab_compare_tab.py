"""The Lab's tools that put runs beside each other, in a real browser: Compare, How few steps."""

import re

import numpy as np
import pytest
from lab_page import Tool, pixels, same

import ddpm_hub
from ddpm_hub import images

COMPARE = ("compare", "Compare samplers")
FEW = ("few", "How few steps")


@pytest.fixture(scope="module")
def bundled():
    return ddpm_hub.GaussianDiffusion.from_pretrained("bundled")


@pytest.fixture
def tool(visit):
    """`tool(*COMPARE, width=...)` opens that tool of the Lab."""
    return lambda name, title, **options: Tool(visit(**options), name, title)


@pytest.fixture(scope="module")
def compared(opener):
    """A page on which ddpm and ddim have drawn four images each, in 10 steps with seed 11."""
    visitor = opener()
    tool = Tool(visitor, *COMPARE)
    tool.choose("steps", 10)
    tool.seed(11)
    tool.run()
    yield tool
    assert visitor.problems == []
    visitor.context.close()


# ---- compare ------------------------------------------------------------------------------------
def test_the_samplers_offered_are_the_library_s(compared):
    offered = compared.page.locator("#compare-samplers label").all_inner_texts()
    assert offered == list(ddpm_hub.SAMPLERS)


def test_each_column_ends_with_what_its_sampler_draws_from_that_seed(compared, bundled):
    compared.page.locator(".st-range").first.focus()
    compared.page.keyboard.press("End")
    assert compared.texts("head") == ["ddpm", "ddim"]
    finals = []
    for column, sampler in enumerate(("ddpm", "ddim")):
        drawn = bundled.sample(4, sampler=sampler, steps=10, seed=11, progress=False)
        assert compared.source(1, column).startswith("data:image/png")
        assert same(compared.pixels(1, column), images.grid(drawn))
        finals.append(compared.pixels(1, column))
    assert np.abs(finals[0] - finals[1]).max() > 50


def test_a_frame_on_the_way_is_the_library_s_at_that_step_with_x0_above_x(compared, bundled):
    stream = bundled.sample_stream(4, sampler="ddim", steps=10, seed=11)
    step = [next(stream) for _ in range(4)][-1]
    slider = compared.page.locator(".st-range").first
    slider.focus()
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowRight"):
        compared.page.keyboard.press(key)
    assert compared.index == 3
    assert slider.get_attribute("aria-valuetext") == f"step 4 of 10, t {step.t}"
    for row, state in enumerate((step.x0, step.x)):
        drawn = np.asarray(images.grid(bundled.unnormalize(state))).astype(int)
        assert np.abs(compared.pixels(row, 1) - drawn).mean() < 4  # JPEG: close, not exact


def test_under_each_column_are_its_network_calls_and_seconds(compared):
    for calls, seconds in compared.notes():
        assert calls == "10 calls"
        assert re.fullmatch(r"\d+\.\d\d s", seconds)


def test_the_status_says_what_was_drawn_with_which_seed(compared):
    assert re.fullmatch(r"2 samplers · seed 11 · \w+", compared.status)


def test_one_slider_moves_all_columns_offline_and_by_keys(compared):
    slider, keyboard = compared.page.locator(".st-range").first, compared.page.keyboard
    slider.focus()
    keyboard.press("End")
    late = [compared.source(0, column) for column in (0, 1)]
    compared.visitor.context.set_offline(True)
    try:
        for key, index in [("Home", 0), ("ArrowRight", 1), ("Shift+ArrowRight", 9)]:
            keyboard.press(key)
            assert compared.index == index
        keyboard.press("ArrowLeft")
        assert compared.index == 8
        keyboard.press("Home")
        early = [compared.source(0, column) for column in (0, 1)]
    finally:
        compared.visitor.context.set_offline(False)
    assert all(a != b for a, b in zip(early, late, strict=True))
    assert (len(set(early)), len(set(late))) == (1, 2)  # from one noise, the same first belief


def test_space_plays_through_all_frames_and_stops_at_the_end(compared):
    play = compared.page.locator(".st-play").first
    compared.page.locator(".st-range").first.focus()
    compared.page.keyboard.press("Home")
    compared.page.keyboard.press("Space")
    assert play.get_attribute("aria-label") == "Pause"
    compared.page.locator("#compare-strips .ddpm-strips[data-index='9']").wait_for()
    compared.page.locator("#compare-strips .st-play[aria-label=Play]").wait_for()


def test_something_moves_while_it_runs_and_stop_keeps_what_came(tool):
    compare = tool(*COMPARE)
    compare.choose("steps", 250)
    compare.press_run()
    compare.page.wait_for_function(
        "+document.querySelector('#compare-strips .ddpm-strips').dataset.index >= 3"
    )
    assert compare.state == "running"
    assert re.fullmatch(r"network call \d+ of 500", compare.status)
    assert compare.strips.locator(".st-bar").get_attribute("aria-valuenow") is not None
    compare.page.locator("#compare-stop").click()
    compare.page.locator("#compare-strips .ddpm-strips[data-state=stopped]").wait_for()
    compare.page.locator("#compare-run:enabled").wait_for()
    compare.page.wait_for_timeout(500)  # what was under way has arrived
    last = compare.index
    compare.page.wait_for_timeout(500)
    assert 3 <= compare.index == last < 249
    compare.page.locator(".st-range").first.focus()
    compare.page.keyboard.press("Home")
    assert compare.index == 0
    assert pixels(compare.source(0, 0)).shape == (56, 56)


def test_the_second_visitor_waits_and_may_change_his_mind(tool):
    first, second = tool(*COMPARE), tool(*FEW)
    first.choose("steps", 250)
    first.press_run()
    first.page.locator("#compare-strips .ddpm-strips[data-index]").wait_for()
    second.press_run()
    second.page.locator("#few-strips .ddpm-strips[data-state=waiting]").wait_for()
    assert second.status == "Waiting for the machine"
    second.page.locator("#few-stop").click()
    second.page.locator("#few-strips .ddpm-strips[data-state=stopped]").wait_for()
    first.page.locator("#compare-stop").click()
    first.page.locator("#compare-strips .ddpm-strips[data-state=stopped]").wait_for()
    second.page.wait_for_timeout(1000)  # its turn has come
    assert second.state == "stopped"
    assert second.strips.locator("img:visible").count() == 0
    assert second.page.locator("#few-run").is_enabled()


@pytest.mark.parametrize("ticked", [1, 5])
def test_a_comparison_of_too_few_or_too_many_is_refused_in_one_sentence(tool, ticked):
    compare = tool(*COMPARE)
    names = list(ddpm_hub.SAMPLERS)
    compare.choose("samplers", *(names[1:2] if ticked == 1 else names[2:5]))
    compare.press_run()
    sentence = f"{ticked} of the samplers are ticked: a comparison takes 2 to 4"
    assert sentence in compare.refusal()
    assert compare.page.locator("#compare-run").is_enabled()


# ---- how few steps ------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def few(opener):
    """A page on which ddim has drawn four images in 5, 10 and 20 steps with seed 3."""
    visitor = opener()
    tool = Tool(visitor, *FEW)
    tool.choose("steps", 50, 100)  # ticked at first
    tool.seed(3)
    tool.run()
    yield tool
    assert visitor.problems == []
    visitor.context.close()


def test_each_column_is_what_that_many_steps_draw(few, bundled):
    assert few.texts("head") == ["5 steps", "10 steps", "20 steps"]
    for column, steps in enumerate((5, 10, 20)):
        drawn = bundled.sample(4, sampler="ddim", steps=steps, seed=3, progress=False)
        for row in range(4):
            assert few.source(row, column).startswith("data:image/png")
            assert same(few.pixels(row, column), images.to_pil(drawn)[row])


def test_under_each_column_are_calls_seconds_and_the_distance_to_the_longest(few, bundled):
    drawn = [
        bundled.sample(4, sampler="ddim", steps=steps, seed=3, progress=False)
        for steps in (5, 10, 20)
    ]
    notes = few.notes()
    assert [lines[0] for lines in notes] == [f"{n} calls" for n in (5, 10, 20)]
    assert all(re.fullmatch(r"\d+\.\d\d s", lines[1]) for lines in notes)
    for lines, pictures in zip(notes[:2], drawn[:2], strict=True):
        distance = (pictures - drawn[2]).abs().mean().item()
        told = re.fullmatch(r"off by (\d\.\d{3})", lines[2])
        assert abs(float(told[1]) - distance) < 0.002
    assert len(notes[2]) == 2


def test_one_number_of_steps_has_nothing_to_be_compared_with(tool):
    few = tool(*FEW)
    few.choose("steps", 5, 10, 20, 50)
    few.press_run()
    assert "1 numbers of steps are ticked: tick 2 to 6" in few.refusal()


# ---- all tools ----------------------------------------------------------------------------------
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_shows_the_lab_without_horizontal_scroll(tool, dark):
    compare = tool(*COMPARE, width=390, height=844, dark=dark)
    compare.choose("samplers", *list(ddpm_hub.SAMPLERS)[2:4])
    compare.choose("steps", 10)
    compare.choose("batch", 1)
    compare.run()
    assert compare.page.evaluate("document.documentElement.scrollWidth") <= 390
    for tab in compare.page.locator("#lab-tabs > .tab-wrapper [role=tab]").all():
        box = tab.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert box["height"] >= 30


def test_every_tool_begins_with_a_sentence_that_names_the_paper_s_section(visit):
    page = visit().page
    page.get_by_role("tab", name="Lab", exact=True).click()
    tabs = page.locator("#lab-tabs > .tab-wrapper [role=tablist] [role=tab]")
    assert tabs.count() == 8
    for tab in tabs.all():
        tab.click()
        text = page.locator(".lab-intro:visible").first.inner_text()
        assert 60 < len(text) < 420
        assert re.search(r"section|Section|Eq\.|Algorithm", text), text


def test_the_lab_computes_nothing_until_it_is_asked_and_nothing_comes_from_elsewhere(visit):
    visitor = visit()
    urls = set()
    visitor.page.on("request", lambda request: urls.add(request.url))
    visitor.page.reload(wait_until="domcontentloaded")
    visitor.page.get_by_role("tab", name="Lab", exact=True).click()
    visitor.page.locator("#compare-strips .ddpm-strips").wait_for()
    assert {url.split("/")[2].split(":")[0] for url in urls if "://" in url} == {"127.0.0.1"}
    assert visitor.page.locator(".ddpm-strips[data-run]").count() == 0
