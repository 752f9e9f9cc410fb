"""The Lab's tools about latents, in a real browser: Shared latents, and Interpolate."""

import re

import numpy as np
import pytest
from lab_page import Tool, pixels, same

import ddpm_hub
from ddpm_hub import data, images
from ddpm_hub.app.experiments import garments, latents

SHARED = ("continuations", "Shared latents")
MIX = ("mix", "Interpolate")


@pytest.fixture(scope="module")
def bundled():
    return ddpm_hub.GaussianDiffusion.from_pretrained("bundled")


@pytest.fixture
def tool(visit):
    """`tool(*MIX, width=...)` opens that tool of the Lab."""
    return lambda name, title, **options: Tool(visit(**options), name, title)


# ---- shared latents -----------------------------------------------------------------------------
@pytest.fixture(scope="module")
def shared(opener):
    """A page on which a chain of 20 steps with seed 4 was held, and continued, at four levels."""
    visitor = opener()
    tool = Tool(visitor, *SHARED)
    tool.choose("steps", 20)
    tool.seed(4)
    tool.run()
    yield tool
    assert visitor.problems == []
    visitor.context.close()


@pytest.fixture(scope="module")
def held(bundled):
    """(t, x at t, x0 believed there) of the same chain at the four levels, by the library."""
    stream = bundled.sample_stream(1, sampler="ddpm", steps=20, seed=4)
    x, levels = stream.state().x, []
    for step in stream:
        if step.t in (999, 749, 499, 249):
            levels.append((step.t, x, step.x0))
        x = step.x
    return levels


def test_the_chain_is_held_at_a_thousand_and_three_quarters_a_half_and_a_quarter(shared):
    assert shared.texts("side") == [f"held at t {t}" for t in (999, 749, 499, 249)]
    heads = [re.sub(r"\s+", " ", text) for text in shared.texts("head")]
    assert heads[2:] == ["1", "2", "3", "4"]
    assert heads[0].endswith("state")
    assert heads[1].endswith("belief")


def test_each_row_begins_with_the_library_s_state_and_belief_at_that_level(shared, held, bundled):
    for row, (_, x, x0) in enumerate(held):
        for column, state in enumerate((x, x0)):
            assert shared.source(row, column).startswith("data:image/png")
            drawn = images.to_pil(bundled.unnormalize(state))[0]
            assert same(shared.pixels(row, column), drawn)


def test_each_row_ends_with_the_library_s_continuations_of_that_state(shared, held, bundled):
    for row, (t, x, _) in enumerate(held):
        seed, steps = latents.continuation_seed(4, row), 20 * (t + 1) // 1000
        *_, last = bundled.continuations(x, t, 4, seed=seed, steps=steps)
        for column, picture in enumerate(images.to_pil(bundled.unnormalize(last.x)), start=2):
            assert shared.source(row, column).startswith("data:image/png")
            assert same(shared.pixels(row, column), picture)


def test_continuations_of_a_later_state_differ_less(shared):
    spreads = []
    for row in range(4):
        pictures = np.stack([shared.pixels(row, column) for column in range(2, 6)])
        spreads.append(pictures.std(axis=0).mean())
    assert spreads[0] > spreads[2] > spreads[3]
    assert spreads[0] > 4 * spreads[3]


def test_the_status_counts_while_it_runs_and_stop_keeps_what_came(tool):
    shared = tool(*SHARED)
    shared.choose("steps", 200)
    shared.press_run()
    shared.page.wait_for_function(
        "document.querySelector('#continuations-strips .st-status').textContent.includes('at t')"
    )
    assert re.fullmatch(r"the shared chain, at t \d+", shared.status)
    shared.page.locator("#continuations-stop").click()
    shared.page.locator("#continuations-strips .ddpm-strips[data-state=stopped]").wait_for()
    shared.page.locator("#continuations-run:enabled").wait_for()
    assert pixels(shared.source(0, 0)).shape == (28, 28)


# ---- interpolation ------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def mixed(opener):
    """A page on which a bag has become a dress at t = 400, in 10 steps with seed 8."""
    visitor = opener()
    tool = Tool(visitor, *MIX)
    tool.choose("steps", 10)
    choose(tool, "bag", "dress")
    tool.page.locator("#mix-t input[type=number]").fill("400")
    tool.seed(8)
    tool.run()
    yield tool
    assert visitor.problems == []
    visitor.context.close()


def choose(tool, first, second):
    for side, name in enumerate((first, second)):
        tool.page.locator(f"#mix-pair [data-side='{side}'] input[aria-label='{name}']").check()


def test_the_strip_is_the_library_s_interpolation_with_both_pictures_at_its_ends(mixed, bundled):
    bag, dress = (garments.picture(garments.GARMENTS[name]) for name in ("bag", "dress"))
    drawn = bundled.interpolation(bag, dress, 9, 400, seed=8, steps=10, progress=False)[0]
    for column, picture in enumerate(images.to_pil(drawn)):
        assert mixed.source(latents.DENOISED, column).startswith("data:image/png")
        assert same(mixed.pixels(latents.DENOISED, column), picture)
    test = data.bundled("test")
    for column, name in ((0, "bag"), (8, "dress")):
        original = test[garments.GARMENTS[name]][0].numpy()
        assert (mixed.pixels(latents.DENOISED, column) == original).all()


def test_above_it_are_the_blended_pixels_and_the_noised_ones(mixed):
    bag, dress = (garments.picture(garments.GARMENTS[name]) for name in ("bag", "dress"))
    half = images.to_pil((bag + dress) / 2)[0]
    assert same(mixed.pixels(latents.BLEND, 4), half)
    assert mixed.pixels(latents.NOISED, 4).std() > mixed.pixels(latents.BLEND, 4).std()
    assert mixed.source(latents.NOISED, 0) == ""  # the ends are not noised


def test_the_thumbnails_are_chosen_by_keys_too(tool):
    mix = tool(*MIX)
    first = mix.page.locator("#mix-pair [data-side='0'] input:checked")
    first.focus()
    before = first.input_value()
    mix.page.keyboard.press("ArrowRight")
    assert mix.page.locator("#mix-pair [data-side='0'] input:checked").input_value() != before


def test_any_two_of_the_test_set_can_be_mixed(tool):
    mix = tool(*MIX)
    mix.page.locator("#mix-chance").click()
    mix.page.locator("#mix-pair [data-side='0'] label:nth-child(9)").wait_for()
    chosen = [
        int(mix.page.locator(f"#mix-pair [data-side='{side}'] input:checked").input_value())
        for side in (0, 1)
    ]
    mix.choose("steps", 10)
    mix.page.locator("#mix-t input[type=number]").fill("5")  # six steps: fewer than were asked
    mix.run()
    assert "denoised in 6 steps" in mix.status
    test = data.bundled("test")
    for column, index in zip((0, 8), chosen, strict=True):
        assert (mix.pixels(latents.DENOISED, column) == test[index][0].numpy()).all()


def test_the_same_picture_on_both_sides_is_refused_in_one_sentence(tool):
    mix = tool(*MIX)
    choose(mix, "bag", "bag")
    mix.press_run()
    assert "is chosen on both sides: choose two different ones" in mix.refusal()
    assert mix.page.locator("#mix-run").is_enabled()


# ---- both ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("name", "title"), [SHARED, MIX], ids=["shared", "mix"])
def test_a_phone_shows_the_result_without_horizontal_scroll(tool, name, title, dark):
    opened = tool(name, title, width=390, height=844, dark=dark)
    opened.choose("steps", {"continuations": 20, "mix": 10}[name])
    opened.run()
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
    for image in opened.strips.locator("img:visible").all():
        assert image.bounding_box()["width"] >= 40
