"""The Lab's tools with a chart, in a real browser: Rate and distortion, Loss by t."""

import re

import numpy as np
import pytest
import torch
from lab_board import ChartTool, as_floats
from lab_page import same

import ddpm_hub
from ddpm_hub import images
from ddpm_hub.app.experiments import canvas, edit_limits, losses
from ddpm_hub.app.experiments.coding import chain
from ddpm_hub.likelihood import bits_per_dim

CODING = ("coding", "Rate and distortion")
LOSSES = ("losses", "Loss by t")
SPENT = re.compile(r"t = (\d+): after (\S+) of (\S+) bits/dim the error is (\d+) of 255")
ERRORS = re.compile(
    r"t = (\d+): noise error (\S+) \(this picture (\S+)\), x0 error (\S+), training loss (\S+)"
)
DRESS = 2  # its number on the pad


@pytest.fixture(scope="module")
def bundled():
    return ddpm_hub.GaussianDiffusion.from_pretrained("bundled")


@pytest.fixture(scope="module")
def dress():
    return as_floats(canvas.garments()[DRESS])


@pytest.fixture
def tool(visit):
    """`tool(*CODING, width=...)` opens that tool of the Lab."""
    return lambda name, title, **options: ChartTool(visit(**options), name, title)


def shown(picture: torch.Tensor) -> np.ndarray:
    """(1, C, H, W) in [0, 1] as the page shows it."""
    return images.to_uint8(picture)[0, ..., 0].astype(int)


# ---- rate and distortion ------------------------------------------------------------------------
@pytest.fixture(scope="module")
def coded(opener):
    """A page on which the dress was coded in a chain of 25, with seed 11."""
    visitor = opener()
    tool = ChartTool(visitor, *CODING)
    tool.pick(DRESS)
    tool.choose("steps", 25)
    tool.seed(11)
    tool.run()
    yield tool
    assert visitor.problems == []
    visitor.context.close()


@pytest.fixture(scope="module")
def bound(bundled, dress):
    """What the library says of the same picture, chain and noise."""
    rng = torch.Generator().manual_seed(11)
    return bits_per_dim(bundled, dress, rng, ts=chain(1000, 25))


def test_every_sentence_is_the_library_s_rate_and_distortion(coded, bound):
    curve = bound.rate_distortion()
    coded.go_to(0)
    for k in range(len(curve.t) - 1):
        t, spent, total, error = (float(x) for x in SPENT.fullmatch(coded.text).groups())
        assert t == curve.t[k]
        assert spent == pytest.approx(curve.rate[k].item(), abs=0.006)
        assert total == pytest.approx(bound.total.item(), abs=0.006)
        assert error == pytest.approx(curve.distortion[k].item(), abs=0.51)
        coded.page.keyboard.press("ArrowRight")
    assert coded.text == f"after all {bound.total:.2f} bits/dim the picture is there, exactly"


def test_the_pictures_are_those_whose_error_is_told(coded, bound, dress):
    ts = chain(1000, 25)
    for k in (5, 12, 20):
        coded.go_to(k)
        error = coded.pane("x0_hat") - coded.pane("x0")
        distortion = bound.rate_distortion().distortion[k].item()
        assert np.sqrt((error**2).mean()) == pytest.approx(distortion, abs=0.6)
        assert f"t = {ts[k]}:" in coded.text
        assert np.array_equal(coded.pane("x0"), shown(dress))


def test_what_was_received_is_x_t_with_the_noise_of_the_bound(coded, bundled, dress):
    rng, ts = torch.Generator().manual_seed(11), chain(1000, 25)
    noises = [torch.randn(dress.shape, generator=rng) for _ in ts[:-1]]
    for k in (0, 12, 20):
        coded.go_to(k)
        xt = bundled.q_sample(bundled.normalize(dress), torch.tensor([ts[k]]), noises[k])
        assert same(coded.pane("xt"), shown(bundled.unnormalize(xt)))


def test_all_bits_spent_are_the_picture_itself(coded, dress):
    coded.cursor.focus()
    coded.page.keyboard.press("End")
    for key in ("xt", "x0_hat", "x0"):
        assert np.array_equal(coded.pane(key), shown(dress))


def test_the_cursor_moves_by_keys_and_hand_with_the_network_gone(coded):
    coded.go_to(3)
    requests = []
    coded.page.on("request", lambda request: requests.append(request.url))
    coded.visitor.context.set_offline(True)
    try:
        pictures = {coded.pane("xt").tobytes()}
        for key, index in [("ArrowRight", 4), ("ArrowLeft", 3), ("End", 25), ("Home", 0)]:
            coded.page.keyboard.press(key)
            assert coded.index == index
            pictures.add(coded.pane("xt").tobytes())
        assert len(pictures) == 4
        curve = coded.strips.locator(".pl-plot").nth(1)
        curve.scroll_into_view_if_needed()
        box = curve.bounding_box()
        y = box["y"] + box["height"] / 2
        coded.page.mouse.move(box["x"] + 70, y)
        coded.page.mouse.down()
        begun = coded.index
        coded.page.mouse.move(box["x"] + box["width"] - 12, y, steps=4)
        coded.page.mouse.up()
        assert begun < 20 < coded.index == 25
        coded.page.mouse.move(box["x"] + 70, y)
        assert coded.index == 25  # the hand has let go
    finally:
        coded.visitor.context.set_offline(False)
    assert not [url for url in requests if "queue" in url]
    coded.visitor.problems.clear()  # Gradio's heartbeat noticed that the network was gone


def test_bars_beyond_the_cursor_are_pale_and_there_is_one_for_each_term(coded, bound):
    coded.go_to(10)
    bars = coded.strips.locator("[data-chart='0'] rect")
    assert bars.count() == len(bound.rate_distortion().rate)
    assert coded.strips.locator("[data-chart='0'] rect.pl-ahead").count() == bars.count() - 11


def test_the_status_tells_the_bound_beside_the_size_of_a_png(coded, bound, dress):
    png = 8 * len(images.encode(images.to_pil(dress)[0], "png")) / dress.numel()
    said = f"bound {bound.total:.2f} bits/dim, as a PNG file {png:.2f} · 25 steps · seed 11 · cpu"
    assert coded.status == said


def test_points_come_while_it_runs_and_stop_keeps_them(tool):
    coding = tool(*CODING)
    coding.choose("steps", 1000)
    coding.press_run()
    coding.page.wait_for_function(
        "+document.querySelector('#coding-plot .ddpm-plot').dataset.count >= 5"
    )
    assert coding.state == "running"
    assert re.fullmatch(r"network call \d+ of 1000", coding.status)
    coding.page.locator("#coding-stop").click()
    coding.page.locator(f"{coding.root}[data-state=stopped]").wait_for()
    coding.page.locator("#coding-run:enabled").wait_for()
    coding.go_to(2)
    assert " of " not in coding.text.split("bits")[0]  # nobody knows yet of how many
    assert coding.pane("xt").shape == (28, 28)


# ---- loss by t ----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def measured(opener):
    """A page on which the losses at ten t were measured, with the dress to look at, seed 11."""
    visitor = opener()
    tool = ChartTool(visitor, *LOSSES)
    tool.pick(DRESS)
    tool.choose("times", 10)
    tool.seed(11)
    tool.run()
    yield tool
    assert visitor.problems == []
    visitor.context.close()


@pytest.fixture(scope="module")
def request_made():
    value = {"picture": canvas.garments()[DRESS]["data"], "mask": None}
    return edit_limits.loss_request(value, 10, 11)


def test_every_loss_told_is_the_library_s(measured, bundled, request_made):
    pictures, eps = losses.batch(request_made)
    x0 = bundled.normalize(pictures)
    measured.go_to(0)
    for t in losses.times(1000, 10):
        told = [float(x) for x in ERRORS.fullmatch(measured.text).groups()]
        at = torch.full((len(x0),), t)
        with torch.no_grad():
            seen = bundled.model_predictions(bundled.q_sample(x0, at, eps), at)
            trained = bundled.p_losses(x0[1:], at[1:], eps[1:])
        noise = (seen.pred_noise - eps).square().flatten(1).mean(1)
        clean = (seen.pred_x_start - x0).square().flatten(1).mean(1)
        expected = [t, noise[1:].mean(), noise[0], clean[1:].mean(), trained]
        assert told == pytest.approx([float(x) for x in expected], rel=0.01, abs=2e-6)
        measured.page.keyboard.press("ArrowRight")


def test_the_five_pictures_are_the_library_s_at_that_t(measured, bundled, request_made):
    pictures, eps = losses.batch(request_made)
    measured.go_to(4)
    t = losses.times(1000, 10)[4]
    x0, at = bundled.normalize(pictures[:1]), torch.tensor([t])
    xt = bundled.q_sample(x0, at, eps[:1])
    with torch.no_grad():
        seen = bundled.model_predictions(xt, at)
    span = 2 * losses.EPS_SPAN
    expected = {
        "xt": bundled.unnormalize(xt),
        "eps": eps[:1] / span + 0.5,
        "eps_hat": seen.pred_noise / span + 0.5,
        "x0_hat": bundled.unnormalize(seen.pred_x_start),
        "x0": pictures[:1],
    }
    for key, picture in expected.items():
        assert same(measured.pane(key), shown(picture)), key


def test_a_click_on_the_curve_goes_to_the_nearest_t(measured):
    measured.go_to(0)
    measured.cursor.scroll_into_view_if_needed()
    svg = measured.strips.locator("svg").first.bounding_box()
    left, right = 50, svg["width"] - 10  # the chart's own margins
    x = svg["x"] + left + 0.68 * (right - left)
    measured.page.mouse.click(x, svg["y"] + 60)
    assert measured.index == 6  # of t = 0, 111, ..., 999
    assert measured.text.startswith("t = 666:")


def test_the_axis_is_logarithmic_until_it_is_asked_to_be_linear(measured):
    path = measured.strips.locator(".pl-marks path").first
    button = measured.strips.locator(".pl-log")
    before = path.get_attribute("d")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert path.get_attribute("d") != before
    button.click()
    assert path.get_attribute("d") == before


# ---- looks --------------------------------------------------------------------------------------
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("which", [CODING, LOSSES], ids=["coding", "losses"])
def test_a_phone_shows_chart_and_pictures_without_horizontal_scroll(tool, which, dark):
    opened = tool(*which, width=390, height=844, dark=dark, has_touch=True)
    opened.choose(*(("steps", 25) if which == CODING else ("times", 10)))
    opened.run()
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    panes, chart = (
        page.locator(f"{opened.root} {part}").first.bounding_box()
        for part in (".pl-panes", ".pl-plot")
    )
    assert chart["y"] + chart["height"] - panes["y"] < 844  # both on one screen
    for selector in (".pl-plot", ".pl-frame", ".pl-log"):
        box = page.locator(f"{opened.root} {selector}").first.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390, selector
    before = opened.index
    opened.cursor.scroll_into_view_if_needed()
    box = opened.cursor.bounding_box()
    page.touchscreen.tap(box["x"] + 60, box["y"] + 60)
    assert opened.index < before
    y = box["y"] + 60
    opened.swipe((box["x"] + 60, y), (box["x"] + box["width"] - 12, y))
    assert opened.index == int(opened.strips.get_attribute("data-count")) - 1
