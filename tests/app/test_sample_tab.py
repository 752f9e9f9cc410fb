"""The Sample tab in a real browser and over its endpoints: what a visitor and a script meet.

Over 300 lines, since all of it shares one server and one browser, which take seconds to start.
"""

import base64
import io
import json
import re
import time

import numpy as np
import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

import ddpm_hub
from ddpm_hub import images

PATIENCE = 60_000  # ms: the machine may be busy with other tests
FRAME_KEYS = {"index", "total", "t", "done", "seed", "steps_per_second", "x0", "x"}
WATCH = """() => {
  window.seen = new Set();
  const canvas = document.querySelector('.tl-x0 canvas');
  const look = () => window.seen.add(canvas.toDataURL());
  new MutationObserver(look).observe(document.querySelector('.ddpm-tl'), {attributes: true});
}"""
STOP_AND_RUN = """() => new Promise((done) => {
  const [stop, run] = ['stop', 'run'].map((id) => document.getElementById(id));
  const look = () => (run.disabled ? setTimeout(look, 5) : done(run.click()));
  stop.click();
  look();
})"""
RATIO = """([a, b]) => {
  const style = getComputedStyle(document.body);
  const probe = document.body.appendChild(document.createElement('i'));
  const light = (name) => {
    probe.style.color = `var(--ddpm-${name})`;
    const rgb = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255);
    const [r, g, b] = rgb.map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [x, y] = [light(a), light(b)].sort();
  return (y + 0.05) / (x + 0.05);
}"""


class Tab:
    """The Sample tab of a visitor's page, in a visitor's words."""

    def __init__(self, visitor) -> None:
        self.visitor, self.page = visitor, visitor.page
        self.page.set_default_timeout(PATIENCE)
        self.page.locator(".ddpm-tl").wait_for()
        self.page.locator("#model-chip .ddpm-chip").wait_for()

    def choose(self, group: str, value: object) -> None:
        self.page.locator(f"#{group} label").get_by_text(str(value), exact=True).click()

    def seed(self, value: int) -> None:
        self.page.locator("#fresh input").uncheck()
        self.page.locator("#seed input").fill(str(value))

    def run(self) -> None:
        """Press Run, and wait until the frames on the page are this run's, not the example's."""
        before = self.page.locator(".ddpm-tl").get_attribute("data-run")
        self.page.locator("#run").click()
        self.page.wait_for_function(
            "r => document.querySelector('.ddpm-tl').dataset.run !== r", arg=before
        )

    def wait_for_state(self, state: str) -> None:
        self.page.locator(f".tl-badge[data-state={state}]").wait_for()

    def wait_for_frame(self, index: int) -> None:
        at_least = f"+document.querySelector('.ddpm-tl').dataset.index >= {index}"
        self.page.wait_for_function(at_least)

    @property
    def index(self) -> int:
        return int(self.page.locator(".ddpm-tl").get_attribute("data-index"))

    def picture(self, pane: str) -> str:
        return self.page.evaluate(
            "p => document.querySelector(`.tl-${p} canvas`).toDataURL()", pane
        )

    def scrub(self, index: int) -> None:
        self.page.evaluate(
            """i => { const r = document.querySelector('.tl-range'); r.value = i;
                      r.dispatchEvent(new Event('input', {bubbles: true})); }""",
            index,
        )

    def download(self, format: str) -> bytes:
        with self.page.expect_download() as promise:
            self.page.locator(f".tl-save [data-format={format}]").click()
        return promise.value.path().read_bytes()


@pytest.fixture
def sample(visit):
    """`sample(...)` opens the Sample tab; without motion, unless told."""
    return lambda **options: Tab(visit(**{"reduced_motion": "reduce"} | options))


@pytest.fixture(scope="module")
def finished(opener):
    """A page on which 25 steps of unipc with seed 11 have drawn four images, watched throughout."""
    visitor = opener(reduced_motion="reduce")
    tab = Tab(visitor)
    tab.wait_for_frame(24)  # the example, which the server draws as it starts, is out of the way
    tab.choose("steps", 25)
    tab.seed(11)
    tab.page.evaluate(WATCH)  # before the run: it is over within a second or two
    tab.run()
    tab.wait_for_frame(0)
    tab.wait_for_state("done")
    yield tab
    assert visitor.problems == []
    visitor.context.close()


@pytest.fixture(scope="module")
def client(server):
    return Client(server.url, verbose=False)


def pixels(data_uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data_uri.split(",")[1]))))


def assert_drawn_by_sample(png: bytes, **options) -> None:
    """The picture of four images is what the library draws with these options."""
    diffusion = ddpm_hub.GaussianDiffusion.from_pretrained("bundled")
    drawn = diffusion.sample(4, progress=False, **options)
    native = images.open_image(png).resize((2 * 28, 2 * 28), Image.Resampling.NEAREST)
    difference = np.asarray(native, int) - np.asarray(images.grid(drawn), int)
    # the server may run with another number of threads: sums in another order, so one grey more
    assert np.abs(difference).max() <= 1


# ---- landing ------------------------------------------------------------------------------------
def test_a_visitor_sees_a_labelled_example_move_within_a_second_of_landing(sample):
    drawn = sample().page.locator(".tl-status").filter(has_text="drawn by the bundled model")
    drawn.wait_for()  # the first visitor of all watches it being drawn
    tab = sample(reduced_motion="no-preference")
    landed = time.monotonic()
    tab.wait_for_frame(1)
    first = tab.picture("x0")
    tab.page.wait_for_function(
        "p => document.querySelector('.tl-x0 canvas').toDataURL() !== p", arg=first
    )
    assert time.monotonic() - landed < 3  # one on a machine with nothing else to do
    assert tab.page.inner_text(".tl-badge") == "Example run"
    assert "drawn by the bundled model" in tab.page.inner_text(".tl-status")


def test_who_asked_for_less_motion_gets_the_last_frame_and_no_play(sample):
    tab = sample()
    tab.wait_for_frame(24)
    tab.page.wait_for_timeout(400)
    assert tab.index == 24
    assert tab.page.locator(".tl-play").get_attribute("aria-label") == "Play"


def test_the_model_chip_says_what_draws(sample):
    text = sample().page.inner_text("#model-chip")
    diffusion = ddpm_hub.GaussianDiffusion.from_pretrained("bundled")
    height, width = diffusion.image_size
    for fact in (f"{width} x {height}", str(diffusion.num_timesteps), diffusion.objective):
        assert fact in text


# ---- running ------------------------------------------------------------------------------------
def test_a_run_of_25_steps_shows_at_least_ten_frames_and_keeps_all(finished):
    assert finished.page.evaluate("window.seen.size") >= 10
    shown = set()
    for index in range(25):
        finished.scrub(index)
        assert finished.index == index
        shown.add(finished.picture("x0"))
    assert len(shown) == 25
    finished.scrub(24)


def test_the_picture_at_the_end_is_the_one_that_sample_draws(finished):
    png = finished.download("png")
    metadata = images.read_metadata(png)
    wanted = {"model": "bundled", "sampler": "unipc", "steps": 25, "eta": None, "seed": 11}
    wanted["batch"] = 4
    assert {key: metadata[key] for key in wanted} == wanted
    assert_drawn_by_sample(png, sampler="unipc", steps=25, seed=11)


def test_the_status_line_tells_seed_sampler_and_speed_at_the_end(finished):
    status = finished.page.inner_text(".tl-status").replace("\u00a0", " ")
    assert re.fullmatch(r"25 steps · unipc · seed 11 · [\d.]+ steps/s · \w+", status)


def test_the_status_line_counts_while_it_runs_and_the_seed_box_shows_the_seed(sample):
    tab = sample()
    tab.choose("steps", 100)
    tab.run()
    tab.wait_for_frame(3)
    status = tab.page.inner_text(".tl-status").replace("\u00a0", " ")
    assert re.fullmatch(r"step \d+/100 · t \d+ · [\d.]+ steps/s · [\d.]+ s left · \w+", status)
    assert tab.page.locator("#run").is_disabled()
    seed = tab.page.locator("#seed input").input_value()
    tab.page.locator("#stop").click()
    tab.wait_for_state("stopped")
    assert f"seed {seed} " in tab.page.inner_text(".tl-status").replace("\u00a0", " ")


def test_stop_ends_the_run_and_keeps_what_was_shown(sample):
    tab = sample()
    tab.choose("steps", 1000)
    tab.run()
    tab.wait_for_frame(5)
    tab.page.locator("#stop").click()
    tab.wait_for_state("stopped")
    tab.page.wait_for_timeout(600)  # the step under way may still arrive
    last, picture = tab.index, tab.picture("x0")
    tab.page.wait_for_timeout(600)
    assert (tab.index, tab.picture("x0")) == (last, picture)
    tab.scrub(2)
    assert tab.picture("x0") != picture
    assert tab.page.locator("#run").is_enabled()
    assert tab.page.locator("#stop").is_disabled()
    assert images.read_metadata(tab.download("png"))["shows"] == "x0"


def test_a_second_run_follows_a_stopped_one_however_soon(sample):
    tab = sample()
    tab.choose("batch", 16)  # a step of which takes longer than to press Run
    tab.choose("steps", 250)
    tab.run()
    tab.wait_for_frame(2)
    tab.choose("steps", 5)
    tab.page.evaluate(STOP_AND_RUN)
    tab.wait_for_state("done")
    assert tab.index == 4
    assert tab.page.locator("#run").is_enabled()


def test_pause_step_and_resume_by_keyboard_draw_the_picture_of_an_unbroken_run(sample):
    tab = sample()
    tab.choose("steps", 25)
    tab.seed(11)
    tab.run()
    pause = tab.page.locator("#pause")
    pause.focus()
    tab.wait_for_frame(2)
    tab.page.keyboard.press("Enter")
    tab.wait_for_state("paused")
    tab.page.wait_for_timeout(400)
    paused_at = tab.index
    assert paused_at < 24
    pause.filter(has_text="Resume").wait_for()
    tab.page.locator("#step").focus()
    tab.page.keyboard.press("Enter")
    tab.wait_for_frame(paused_at + 1)
    tab.wait_for_state("paused")
    assert tab.index == paused_at + 1
    pause.and_(tab.page.locator(":enabled")).focus()
    tab.page.keyboard.press("Enter")
    tab.wait_for_state("done")
    pause.filter(has_text="Pause").wait_for()
    focused = tab.page.evaluate("document.activeElement.id")
    assert focused in ("pause", "run")  # the keyboard is not lost
    assert_drawn_by_sample(tab.download("png"), sampler="unipc", steps=25, seed=11)


def test_steps_begin_a_run_and_reset_empties_the_panes_for_another(sample):
    tab = sample()
    step, reset = tab.page.locator("#step"), tab.page.locator("#reset")
    tab.wait_for_frame(24)  # the example
    tab.seed(3)
    for index in (0, 1):
        step.and_(tab.page.locator(":enabled")).click()
        tab.page.locator(f".ddpm-tl[data-index='{index}']").wait_for()
        tab.wait_for_state("paused")
    first = tab.picture("x0")
    reset.click()
    tab.wait_for_state("idle")
    assert tab.page.locator(".tl-range").is_disabled()
    for index in (0, 1):
        step.and_(tab.page.locator(":enabled")).click()
        tab.page.locator(f".ddpm-tl[data-index='{index}']").wait_for()
        tab.wait_for_state("paused")
    assert tab.picture("x0") == first


def test_a_branch_is_drawn_beside_its_run_and_parts_from_it_after_the_frame(sample):
    tab = sample()
    tab.choose("steps", 5)
    tab.run()
    tab.wait_for_state("done")
    tab.scrub(2)
    tab.page.get_by_role("button", name="Branch here").click()
    tab.page.locator(".ddpm-tl[data-branch]").wait_for()
    tab.wait_for_state("done")
    assert "after frame 3 with the noise of seed" in tab.page.inner_text(".tl-caption")
    assert tab.index == 4
    assert tab.picture("second .tl-x0") != tab.picture("x0")
    tab.scrub(2)
    assert tab.picture("second .tl-x0") == tab.picture("x0")
    assert images.read_metadata(tab.download("png"))["midway"] is True


def test_a_start_from_forward_is_told_drawn_from_and_cleared(sample):
    tab = sample()
    tab.page.get_by_role("tab", name="Forward", exact=True).click()
    tab.page.get_by_role("button", name="Denoise from here").click()
    note = tab.page.locator("#sample-start")
    t = re.match(r"Begins at t = (\d+), from ", note.inner_text())[1]
    tab.choose("steps", 5)
    tab.run()
    tab.wait_for_state("done")
    assert f"5 steps · from t {t} · unipc" in tab.page.inner_text(".tl-status").replace(
        "\u00a0", " "
    )
    tab.page.locator("#sample-start-clear").click()
    note.wait_for(state="hidden")
    tab.run()
    tab.wait_for_state("done")
    assert "from t" not in tab.page.inner_text(".tl-status").replace("\u00a0", " ")


def test_touching_the_slider_stops_following_and_the_live_chip_brings_it_back(sample):
    tab = sample()
    tab.choose("steps", 250)
    tab.run()
    tab.wait_for_frame(4)
    live = tab.page.locator(".tl-live")
    assert live.is_hidden()
    tab.scrub(1)
    assert live.is_visible()
    tab.page.wait_for_timeout(400)
    assert tab.index == 1
    live.click()
    tab.wait_for_frame(6)
    assert live.is_hidden()
    tab.page.locator("#stop").click()
    tab.wait_for_state("stopped")


def test_a_refused_run_is_one_sentence_and_run_stays_ready(sample):
    tab = sample()
    tab.choose("steps", 5)
    tab.seed(10**17)
    tab.page.locator("#run").click()
    toast = tab.page.locator(".toast-body")
    toast.first.wait_for()
    assert "is not a whole number in 0 .." in toast.first.inner_text()
    assert tab.page.locator("#run").is_enabled()


def test_eta_and_variance_are_offered_for_the_samplers_that_have_them(sample):
    tab = sample()
    tab.page.get_by_role("button", name="More").click()
    eta, variance = tab.page.locator("#eta"), tab.page.locator("#variance")
    assert eta.is_hidden() and variance.is_hidden()  # unipc has neither
    tab.choose("sampler", "ddpm")
    variance.wait_for(state="visible")
    assert eta.is_hidden()
    tab.choose("sampler", "dpmpp_2m_sde")
    eta.wait_for(state="visible")
    assert eta.locator("input[type=number]").input_value() == "1"  # the sampler's own
    tab.choose("sampler", "unipc")
    eta.wait_for(state="hidden")
    variance.wait_for(state="hidden")


def test_the_picture_of_any_sampler_and_option_is_the_librarys(sample):
    tab = sample()
    tab.visitor.unfold("#sample-more")
    for name, choice in (("sampler", "heun"), ("spacing", "logsnr"), ("bounds", "dynamic")):
        tab.choose(name, choice)
    tab.choose("steps", 5)
    tab.seed(11)
    tab.run()
    tab.wait_for_state("done")
    options = {"sampler": "heun", "spacing": "logsnr", "dynamic_threshold": 0.995}
    assert_drawn_by_sample(tab.download("png"), steps=5, seed=11, **options)


def test_a_fast_run_is_what_the_endpoint_draws_with_runtime_auto_and_says_so(sample, client):
    tab = sample()
    tab.visitor.unfold("#sample-more")
    tab.choose("runtime", "fast")
    tab.choose("steps", 5)
    tab.seed(12)
    tab.run()
    tab.wait_for_state("done")
    picture = tab.download("png")
    assert images.read_metadata(picture)["runtime"] == "auto"
    asked = {"sampler": "unipc", "steps": 5, "batch": 4, "seed": 12, "runtime": "auto"}
    png = client.submit(**asked, api_name="/sample").result(timeout=60)["png"]
    drawn = images.open_image(base64.b64decode(png.split(",")[1]))
    shown = images.open_image(picture).resize(drawn.size, Image.Resampling.NEAREST)
    assert shown.tobytes() == drawn.tobytes()


# ---- looking at it afterwards -------------------------------------------------------------------
def test_scrubbing_changes_the_picture_with_the_network_gone(finished):
    finished.visitor.context.set_offline(True)
    try:
        finished.scrub(3)
        early = finished.picture("x0"), finished.picture("xt")
        finished.scrub(20)
        late = finished.picture("x0"), finished.picture("xt")
    finally:
        finished.visitor.context.set_offline(False)
    assert early[0] != late[0]
    assert early[1] != late[1]


def test_arrows_home_end_and_space_drive_the_timeline(finished):
    keyboard, slider = finished.page.keyboard, finished.page.locator(".tl-range")
    slider.focus()
    for key, index in [("Home", 0), ("ArrowRight", 1), ("Shift+ArrowRight", 11), ("End", 24)]:
        keyboard.press(key)
        assert finished.index == index
    keyboard.press("ArrowLeft")
    assert finished.index == 23
    assert slider.get_attribute("aria-valuetext").startswith("frame 24 of 25, t ")
    play = finished.page.locator(".tl-play")
    keyboard.press("Home")
    keyboard.press("Space")
    assert play.get_attribute("aria-label") == "Pause"
    finished.wait_for_frame(3)
    keyboard.press("Space")
    assert play.get_attribute("aria-label") == "Play"
    stopped_at = finished.index
    finished.page.wait_for_timeout(300)
    assert finished.index == stopped_at < 24


def test_a_click_shows_one_image_of_the_batch_and_escape_all_of_them(finished):
    canvas = finished.page.locator(".tl-x0 canvas")
    assert finished.page.evaluate("document.querySelector('.tl-x0 canvas').width") == 57
    canvas.click(position={"x": 20, "y": 20})
    assert finished.page.evaluate("document.querySelector('.tl-xt canvas').width") == 28
    finished.page.locator(".tl-range").focus()
    finished.page.keyboard.press("Escape")
    assert finished.page.evaluate("document.querySelector('.tl-xt canvas').width") == 57


@pytest.mark.parametrize("format", ["webp", "gif"])
def test_the_run_can_be_taken_home_as_a_film(finished, format):
    film = Image.open(io.BytesIO(finished.download(format)))
    assert film.format.lower() == format
    assert film.n_frames == 25
    assert film.width > 2 * film.height * 0.95


# ---- how it looks -------------------------------------------------------------------------------
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_shows_no_horizontal_scroll_and_the_pictures_first(sample, dark):
    tab = sample(width=390, height=844, dark=dark)
    tab.wait_for_frame(0)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.page.locator(".tl-x0 canvas").bounding_box()["y"] < 500
    run = tab.page.locator("#run").bounding_box()
    assert run["y"] < tab.page.locator("#sampler").bounding_box()["y"]
    for button in tab.page.locator(".ddpm-tl button:visible").all():
        assert button.bounding_box()["height"] >= 32


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_has_enough_contrast_in_both_modes(sample, dark):
    page = sample(dark=dark).page
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 200) == dark
    pairs = [("ink", "panel"), ("muted", "panel"), ("accent", "panel"), ("on-accent", "accent")]
    pairs += [("ink", "sunken"), ("muted", "page"), ("x0", "panel"), ("xt", "panel")]
    ratios = {pair: page.evaluate(RATIO, list(pair)) for pair in pairs}
    assert {pair: r for pair, r in ratios.items() if r < 4.5} == {}


# ---- endpoints ----------------------------------------------------------------------------------
def test_sample_streams_every_step_and_ends_with_the_exact_picture(client):
    arguments = dict(model="bundled", sampler="ddim", steps=10, eta=0.0, batch=2, seed=5)
    job = client.submit(**arguments, api_name="/sample")
    job.result(timeout=60)
    frames = job.outputs()
    assert [f["index"] for f in frames] == list(range(10))
    assert all(f.keys() == FRAME_KEYS for f in frames[:-1])
    assert all(f["total"] == 10 and f["seed"] == 5 for f in frames)
    assert [f["done"] for f in frames] == [False] * 9 + [True]
    diffusion = ddpm_hub.GaussianDiffusion.from_pretrained("bundled")
    drawn = images.grid(
        diffusion.sample(2, sampler="ddim", steps=10, eta=0.0, seed=5, progress=False)
    )
    for shown in (frames[-1]["png"], frames[-1]["x"]):
        assert np.abs(pixels(shown).astype(int) - np.asarray(drawn, int)).max() <= 1


def test_sixty_of_sixty_frames_arrive_in_order_and_none_twice(client):
    job = client.submit(steps=60, batch=1, seed=5, api_name="/sample")
    job.result(timeout=120)
    frames = job.outputs()
    assert [f["index"] for f in frames] == list(range(60))
    assert len({f["x"] for f in frames}) == 60


def test_sample_invents_a_seed_and_says_which(client):
    job = client.submit(steps=2, batch=1, api_name="/sample")
    seed = job.result(timeout=60)["seed"]
    again = client.submit(steps=2, batch=1, seed=seed, api_name="/sample")
    assert again.result(timeout=60)["png"] == job.result()["png"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"sampler": "euler"}, "ddpm, ddim"),
        ({"steps": 0}, r"steps 0 is not a whole number in 1 \.\. 100000: use"),
        ({"steps": 100_000}, "steps"),
        ({"steps": 2.5}, "steps 2.5"),
        ({"eta": 1.5}, r"eta 1.5 is outside \[0, 1\]: use"),
        ({"spacing": "wide"}, "unknown spacing 'wide': choose one of linspace"),
        ({"bounds": ["clip"]}, "unknown bounds"),
        ({"variance": "learned_range"}, "learned_variance=True"),
        ({"classes": 3}, "this network has no classes"),
        ({"guidance": 2.0}, "nothing to guide to: give classes"),
        ({"runtime": "compiled"}, "unknown runtime 'compiled': choose one of eager, auto"),
        ({"batch": 17}, r"batch 17 is not a whole number in 1 \.\. 16: use"),
        ({"batch": 1e308}, "batch"),
        ({"seed": -5}, "seed -5"),
        ({"seed": "2"}, "seed '2'"),
        ({"model": "/etc"}, 'neither "bundled" nor a repository'),
        ({"model": "ddpm_hub/app"}, 'neither "bundled" nor a repository'),
        ({"model": "../../etc/passwd"}, 'neither "bundled" nor a repository'),
    ],
    ids=str,
)
def test_a_bad_argument_is_refused_in_one_sentence(client, arguments, sentence):
    with pytest.raises(AppError, match=sentence) as caught:
        client.submit(**{"steps": 2, "batch": 1} | arguments, api_name="/sample").result(timeout=60)
    assert "Traceback" not in str(caught.value)


def test_load_model_describes_the_bundled_model(client):
    card = client.predict(model="bundled", revision=None, api_name="/load_model")
    diffusion = ddpm_hub.GaussianDiffusion.from_pretrained("bundled")
    assert card["name"] == card["source"] == "bundled"
    assert card["parameters"] == sum(p.numel() for p in diffusion.parameters())
    assert card["image_size"] == list(diffusion.image_size)
    assert card["timesteps"] == diffusion.num_timesteps
    assert card["objective"] == diffusion.objective
    assert torch.is_tensor(ddpm_hub.SCHEDULES[card["schedule"]](10))
    assert json.dumps(card)


def test_load_model_refuses_paths_and_odd_revisions(client):
    with pytest.raises(AppError, match="owner/name"):
        client.predict(model="~/model", api_name="/load_model")
    with pytest.raises(AppError, match="revision"):
        client.predict(model="a/b", revision="../x", api_name="/load_model")
