"""The Forward tab in a real browser: what a learner meets. Its endpoints: test_forward_api.py.

Over 300 lines, since all of it shares one page: loading it anew would take most of the time.
"""

import base64
import math
from functools import partial

import numpy as np
import pytest
import torch
from forward_page import SET, open_tab, pixels, set_t, shown, wait_until
from PIL import Image

from ddpm_hub.app import process
from ddpm_hub.schedules import alpha_bar


@pytest.fixture
def forward(visit):
    """`forward(...)` opens the tab in a fresh context."""
    return partial(open_tab, visit)


@pytest.fixture(scope="module")
def shared_visitor(opener):
    """One visitor for the tests that change nothing but the widget's own state."""
    visitor = open_tab(opener)
    yield visitor
    visitor.context.close()
    assert visitor.problems == []


@pytest.fixture
def page(shared_visitor):
    """The shared visitor's page: first sample, all three schedules, linear in front, t = 0."""
    page = shared_visitor.page
    page.click(".fw-pick >> nth=0")
    for box in page.locator(".fw-check").all():
        if not box.locator("input").is_checked():
            box.click()
    page.click(".fw-card[data-schedule=linear]")
    set_t(page, 0)
    return page


def sample_x0(index: int = 0) -> np.ndarray:
    sample = process.samples()[index]
    values = np.frombuffer(base64.b64decode(sample["data"]), np.uint8).astype(np.float64)
    return values.reshape(sample["height"], sample["width"], -1) / 127.5 - 1


# ---- drawing ---------------------------------------------------------------------------------
def test_dragging_t_redraws_x_t_with_the_network_gone_in_under_ten_milliseconds(forward):
    visitor = forward()
    page = visitor.page
    visitor.context.set_offline(True)
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    pictures = []
    for t in (0, 150, 400, 999):
        set_t(page, t)
        assert shown(page)[0] == t
        pictures.append(pixels(page, ".fw-xt").tobytes())
    assert len(set(pictures)) == 4
    milliseconds = page.evaluate("""() => {
      const slider = document.querySelector('.fw-t'), begun = performance.now();
      for (let i = 0; i < 200; i++) {
        slider.value = i * 37 % 1000;
        slider.dispatchEvent(new Event('input', {bubbles: true}));
      }
      return (performance.now() - begun) / 200;
    }""")
    assert milliseconds < 10
    assert not [url for url in requests if "queue/join" in url]
    page.goto("about:blank")  # whatever else asks for the network stops asking
    visitor.problems.clear()


def test_the_three_canvases_are_the_three_terms_of_eq_4(page):
    t = 40
    set_t(page, t)
    ab = alpha_bar("linear", 1000)[t].item()
    x0 = sample_x0()
    signal, noise, xt = (pixels(page, f".fw-{name}")[..., :1] for name in ("signal", "noise", "xt"))
    assert np.abs(signal - (127.5 * math.sqrt(ab) * x0 + 127.5)).max() <= 0.51
    eps = (noise - 127.5) / 127.5 / math.sqrt(1 - ab)  # at this t eps is not clipped below 4.8
    assert abs(eps.mean()) < 0.12 and abs(eps.std() - 1) < 0.08
    total = 127.5 * math.sqrt(ab) * x0 + 127.5 * math.sqrt(1 - ab) * eps + 127.5
    assert np.abs(xt - total.clip(0, 255)).max() <= 1.01


def test_the_same_t_is_the_same_picture_until_the_noise_is_rerolled(page):
    set_t(page, 300)
    first = pixels(page, ".fw-xt").tobytes()
    set_t(page, 800)
    set_t(page, 300)
    assert pixels(page, ".fw-xt").tobytes() == first
    page.click(".fw-reroll")
    assert pixels(page, ".fw-xt").tobytes() != first
    assert shown(page)[0] == 300


def test_every_number_shown_is_the_library_s(page):
    for t in (0, 412, 999):
        set_t(page, t)
        ab = alpha_bar("linear", 1000)[t].item()
        got_t, length, got_ab, got_snr = shown(page)
        assert (got_t, length) == (t, 1000)
        assert got_ab == pytest.approx(ab, rel=0.02, abs=5e-5 if ab > 0.9 else 0)
        assert got_snr == pytest.approx(10 * math.log10(ab / (1 - ab)), abs=0.051)
        assert page.get_attribute(".fw-t", "aria-valuetext") == page.inner_text(".fw-text")
        a, b = (float(page.locator(s).first.inner_text()) for s in (".fw-a", ".fw-b"))
        assert (a, b) == pytest.approx((math.sqrt(ab), math.sqrt(1 - ab)), abs=5.1e-4)


def test_the_histogram_s_numbers_fall_to_the_standard_normal_s(page):
    x0 = torch.from_numpy(sample_x0())
    for t in (100, 999):
        set_t(page, t)
        ab = alpha_bar("linear", 1000)[t]
        mean, std = (
            float(page.inner_text(f".fw-{name}-value").replace("\u2212", "-"))
            for name in ("mean", "std")
        )
        spread = (ab * x0.var(correction=0) + 1 - ab).sqrt().item()
        assert mean == pytest.approx((ab.sqrt() * x0.mean()).item(), abs=0.12)
        assert std == pytest.approx(spread, abs=0.08)
        got = torch.distributions.Normal(ab.sqrt() * x0, (1 - ab).sqrt().expand_as(x0))
        kl = torch.distributions.kl_divergence(got, torch.distributions.Normal(0.0, 1.0))
        text = page.inner_text(".fw-kl-value")
        assert text.endswith(" bits/dim")
        expected = kl.mean().item() / math.log(2)
        assert float(text.split()[0]) == pytest.approx(expected, rel=0.05, abs=6e-5)
    assert page.get_attribute(".fw-bins", "d").count("M") > 20
    assert 0 <= kl_of_bins(page) < 0.05
    set_t(page, 0)
    assert kl_of_bins(page) > 1  # a real picture is far from noise
    assert expected < 1e-3


def kl_of_bins(page) -> float:
    return float(page.inner_text(".fw-kl-bins").removesuffix(" bits"))


# ---- hands and keys --------------------------------------------------------------------------
def test_arrows_shift_home_end_and_space_move_time(page):
    set_t(page, 500)
    page.focus(".fw-t")
    for key, t in (
        ("ArrowRight", 501),
        ("ArrowLeft", 500),
        ("Shift+ArrowRight", 510),
        ("Shift+ArrowLeft", 500),
        ("End", 999),
        ("Home", 0),
    ):
        page.keyboard.press(key)
        assert shown(page)[0] == t, key
    page.keyboard.press("Space")
    assert page.get_attribute(".fw-play", "aria-pressed") == "true"
    wait_until(lambda: shown(page)[0] > 0)
    page.keyboard.press("Space")
    assert page.get_attribute(".fw-play", "aria-pressed") == "false"


def test_play_runs_through_many_pictures_and_any_touch_stops_it(forward):
    page = forward(reduced_motion="no-preference").page
    wait_until(lambda: page.get_attribute(".fw-play", "aria-pressed") == "false")  # the greeting
    set_t(page, 0)
    page.click(".fw-play")
    seen = set()
    wait_until(lambda: seen.add(shown(page)[0]) or len(seen) > 8)
    set_t(page, 700)
    page.wait_for_timeout(200)
    assert shown(page)[0] == 700


def test_who_wants_less_motion_gets_still_frames(forward):
    page = forward(reduced_motion="reduce").page
    resting = shown(page)[0]
    page.wait_for_timeout(400)
    assert shown(page)[0] == resting > 0  # nothing moves by itself
    set_t(page, 0)
    page.click(".fw-play")
    wait_until(lambda: shown(page)[0] > 0)
    assert shown(page)[0] == 100  # a tenth of the chain at once
    page.click(".fw-play")


def test_dragging_on_a_curve_is_dragging_the_slider(page):
    plot = page.locator(".fw-chart[data-chart=snr_db] .fw-plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.2 * box["width"], y)
    page.mouse.down()
    assert shown(page)[0] == pytest.approx(0.2 * 999, abs=4)
    page.mouse.move(box["x"] + 0.75 * box["width"], y, steps=5)
    page.mouse.up()
    assert shown(page)[0] == pytest.approx(0.75 * 999, abs=4)
    assert page.input_value(".fw-t") == str(shown(page)[0])
    page.mouse.move(box["x"] + 0.1 * box["width"], y)
    assert shown(page)[0] == pytest.approx(0.75 * 999, abs=4)  # the hand has let go


def test_a_frame_of_the_film_strip_is_a_door_to_its_t(page):
    frames = page.locator(".fw-film button")
    assert frames.count() == 11
    times = [int(frames.nth(i).get_attribute("data-t")) for i in range(11)]
    assert times == [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 999]
    frames.nth(6).click()
    assert shown(page)[0] == 600
    assert frames.nth(6).get_attribute("aria-current") == "true"
    strip = pixels(page, ".fw-film button:nth-child(7) canvas")
    assert np.array_equal(strip, pixels(page, ".fw-xt"))


def test_ticked_schedules_are_overlaid_with_one_canvas_and_one_curve_each(page):
    set_t(page, 300)
    assert page.locator(".fw-card canvas").count() == 3
    pictures = {
        n: pixels(page, f".fw-card[data-schedule={n}] canvas") for n in ("linear", "cosine")
    }
    assert not np.array_equal(pictures["linear"], pictures["cosine"])
    assert np.array_equal(pictures["linear"], pixels(page, ".fw-xt"))
    colours = page.evaluate(
        """() => ['.fw-curve', '.fw-card b'].map((s) => getComputedStyle(
      document.querySelector(s + '[data-schedule=cosine], [data-schedule=cosine] ' + s))
      [s === '.fw-curve' ? 'stroke' : 'color'])""".replace(".fw-card b", ".fw-card-text b")
    )
    assert colours[0] == colours[1]  # a canvas has its curve's colour
    page.locator(".fw-check", has_text="sigmoid").click()
    assert page.locator(".fw-card canvas").count() == 2
    assert page.locator(".fw-curve").count() == 6
    page.locator(".fw-card[data-schedule=cosine]").click()
    assert shown(page)[2] == pytest.approx(alpha_bar("cosine", 1000)[300].item(), rel=0.01)
    page.locator(".fw-check", has_text="linear").click()
    page.locator(".fw-check", has_text="cosine").click()
    assert page.locator(".fw-curve").count() == 3  # the last one stays
    assert page.locator(".fw-check input[value=cosine]").is_checked()


# ---- what needs the server -------------------------------------------------------------------
def test_another_chain_length_is_one_call_and_keeps_the_place(forward):
    page = forward().page
    set_t(page, 999)
    calls = []
    page.on("request", lambda r: calls.append(r.url) if "queue/join" in r.url else None)
    page.evaluate(SET, [".fw-T", 500])
    page.evaluate(
        "document.querySelector('.fw-T').dispatchEvent(new Event('change', {bubbles: true}))"
    )
    wait_until(lambda: shown(page)[1] == 500)
    assert len(calls) == 1
    t, _, ab, _ = shown(page)
    assert t == 499
    assert ab == pytest.approx(alpha_bar("cosine", 500)[499].item(), rel=0.05)  # the model's own
    frames = page.locator(".fw-film button")
    assert [frames.nth(i).get_attribute("data-t") for i in (1, 10)] == ["50", "499"]


def test_a_photograph_is_cropped_to_64_and_keeps_its_colours(forward, tmp_path):
    page = forward().page
    y, x = np.mgrid[0:300, 0:500]
    photo = np.stack([x / 500 * 255, y / 300 * 255, 60 + 0 * x], axis=-1).astype(np.uint8)
    path = tmp_path / "garden <b>.png"
    Image.fromarray(photo).save(path)
    page.set_input_files(".fw-file", path)
    page.locator(".fw-pick-own").wait_for(state="visible")
    set_t(page, 0)
    xt = pixels(page, ".fw-xt")
    assert xt.shape == (64, 64, 4)
    expected = (process.small_picture(path.read_bytes()).permute(1, 2, 0) * 255).numpy()
    assert np.abs(xt[..., :3] - expected).mean() < 3  # one step of noise: 1.3 levels
    page.click(".fw-pick[data-pick='1']")
    assert pixels(page, ".fw-xt").shape[0] < 64
    page.click(".fw-pick-own")
    assert pixels(page, ".fw-xt").shape == (64, 64, 4)


def test_a_photograph_over_the_upload_limit_is_shrunk_before_it_is_sent(forward, tmp_path):
    page = forward().page
    noise = np.random.default_rng(0).integers(0, 256, (1300, 1600, 3), dtype=np.uint8)
    path = tmp_path / "holiday.png"
    Image.fromarray(noise).save(path, compress_level=1)
    assert path.stat().st_size > 5_000_000
    page.set_input_files(".fw-file", path)
    page.locator(".fw-pick-own").wait_for(state="visible")
    assert pixels(page, ".fw-xt").shape == (64, 64, 4)


def test_a_broken_upload_is_one_sentence_and_the_picture_stays(forward, tmp_path):
    page = forward().page
    before = pixels(page, ".fw-xt").tobytes()
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    page.set_input_files(".fw-file", path)
    message = page.locator(".fw-message")
    message.wait_for(state="visible")
    assert message.inner_text().endswith(".") and "\n" not in message.inner_text()
    assert pixels(page, ".fw-xt").tobytes() == before


# ---- looks -----------------------------------------------------------------------------------
def test_on_a_desk_the_equation_stands_in_a_row_beside_the_curves(page):
    xt, signal, noise, plot = (
        page.locator(selector).first.bounding_box()
        for selector in (".fw-xt", ".fw-signal", ".fw-noise", ".fw-plot")
    )
    assert xt["x"] + xt["width"] < signal["x"] and signal["x"] + signal["width"] < noise["x"]
    assert noise["x"] + noise["width"] < plot["x"]
    assert 2 * 28 <= xt["width"] <= 320 and xt["width"] == pytest.approx(xt["height"], abs=1)
    assert page.evaluate("getComputedStyle(document.querySelector('.fw-curve')).fill") == "none"
    height = page.evaluate("document.querySelector('.fw').offsetHeight")
    assert height < 950  # picture, slider and curves are seen together


def test_a_phone_scrolls_only_down_and_reaches_every_control(forward):
    page = forward(width=390, height=844, has_touch=True).page
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for selector in (".fw-pick", ".fw-upload", ".fw-check", ".fw-T", ".fw-reroll", ".fw-play"):
        box = page.locator(selector).first.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390, selector
        assert min(box["width"], box["height"]) >= 24, selector
    top, slider = (page.locator(s).bounding_box() for s in (".fw-xt", ".fw-t"))
    assert slider["y"] + slider["height"] - top["y"] < 844  # picture and slider on one screen


CONTRAST = """selector => {
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (colour) => colour.match(/[\\d.]+/g).slice(0, 3)
    .reduce((sum, v, i) => sum + linear(v / 255) * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => getComputedStyle(node).backgroundColor;
  let node = document.querySelector(selector);
  const ink = light(getComputedStyle(node).color);
  while (ground(node) === 'rgba(0, 0, 0, 0)') node = node.parentElement;
  const paper = light(ground(node));
  return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
}"""  # WCAG 2: 4.5 is the least for words


@pytest.mark.parametrize("dark", [False, True])
def test_words_can_be_read_in_light_and_dark(forward, dark):
    page = forward(dark=dark).page
    assert page.evaluate("document.body.classList.contains('dark')") is dark
    for selector in (
        ".fw-text",
        ".fw-tag",
        ".fw-now span:nth-child(2)",
        ".fw-play-text",
        ".fw-lead",
    ):
        assert page.evaluate(CONTRAST, selector) >= 4.5, selector
