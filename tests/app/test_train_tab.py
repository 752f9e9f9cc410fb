"""The Train tab in a real browser and over its endpoints: start, watch, leave, find, stop, try.

Over 300 lines, since all of it shares one server and one browser, which take seconds to start. The
trainings are real ones of the preset "tiny", with batches of two so that a step costs little.
"""

import base64
import io
import re
import signal
import time

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from ddpm_hub import PRESETS
from ddpm_hub.app import build, limits
from ddpm_hub.app.tabs import train as tabs_train
from ddpm_hub.app.tabs.train_form import HELP

PATIENCE = 90_000  # ms: the machine may be busy with other tests
STATUS = {"state", "step", "total", "loss", "eta_seconds", "samples", "checkpoint"}
OVER = ("done", "stopped", "paused", "error", "interrupted")


class Tab:
    """The Train tab of a visitor's page, in a visitor's words."""

    def __init__(self, visitor) -> None:
        self.visitor, self.page = visitor, visitor.page
        self.page.set_default_timeout(PATIENCE)
        self.page.locator("#timeline .ddpm-tl").wait_for()
        self.page.get_by_role("tab", name="Train").click()
        self.page.locator("#train-card img").wait_for()
        self.page.locator(".ddpm-curve").wait_for()

    def fill(self, **values) -> None:
        """Numbers into the form, by the names of its fields; opens Advanced for it."""
        if self.page.locator("#train-train_batch_size").is_hidden():
            self.visitor.unfold("#train-advanced")
        for name, value in values.items():
            self.page.locator(f"#train-{name} input").fill(str(value))

    def start(self, steps, seed=0, **values) -> str:
        """Press Start for a cheap training; its id, once the page shows it."""
        self.fill(
            **{"steps": steps, "seed": seed, "train_batch_size": 2, "num_samples": 1} | values
        )
        before = self.run
        self.page.locator("#train-start").click()
        self.page.wait_for_function(
            "r => document.querySelector('.ddpm-curve').dataset.run !== (r || undefined)",
            arg=before,
        )
        return self.run

    def press(self, button: str) -> None:
        self.page.locator(f"#train-{button}").click()

    def wait_for_state(self, state: str) -> None:
        self.page.locator(f".cv-badge[data-state={state}]").wait_for()

    def wait_for_losses(self, count: int) -> None:
        self.page.wait_for_function(
            f"+document.querySelector('.ddpm-curve').dataset.count >= {count}"
        )

    def wait_for_pictures(self, count: int) -> None:
        self.page.wait_for_function(
            f"+document.querySelector('#train-timeline .ddpm-tl').dataset.have >= {count}"
        )

    @property
    def run(self) -> str:
        return self.page.locator(".ddpm-curve").get_attribute("data-run") or ""

    @property
    def count(self) -> int:
        return int(self.page.locator(".ddpm-curve").get_attribute("data-count"))

    @property
    def status(self) -> str:
        return self.page.inner_text(".cv-status").replace("\u00a0", " ")

    def figure(self, name: str) -> str:
        return self.page.inner_text(f"[data-figure={name}]").replace("\u00a0", " ")

    def picture(self) -> str:
        return self.page.evaluate(
            "document.querySelector('#train-timeline .tl-x0 canvas').toDataURL()"
        )


@pytest.fixture
def train(visit):
    """`train(...)` opens the Train tab in a fresh context; without motion, unless told."""
    return lambda **options: Tab(visit(**{"reduced_motion": "reduce"} | options))


@pytest.fixture(scope="module")
def client(server):
    return Client(server.url, verbose=False)


@pytest.fixture(autouse=True)
def idle(server, client):
    """Whatever a test left training is stopped after it."""
    yield
    for record in server.runs.glob("*/job.json"):
        client.predict(job=record.parent.name, api_name="/train_stop")
    for record in server.runs.glob("*/job.json"):
        wait_for_end(client, record.parent.name)


def status(client, job: str) -> dict:
    return client.predict(job=job, api_name="/train_status")


def wait_for_end(client, job: str, seconds: float = 120) -> dict:
    deadline = time.monotonic() + seconds
    while (told := status(client, job))["state"] not in OVER:
        assert time.monotonic() < deadline, told
        time.sleep(0.2)
    return told


# ---- the story ----------------------------------------------------------------------------------
def test_start_watch_close_find_again_try_and_stop(train, client):
    tab = train()
    job = tab.start(steps=400)
    tab.wait_for_losses(3)
    tab.wait_for_state("running")
    tab.wait_for_pictures(1)
    first, seen = tab.picture(), tab.count
    tab.wait_for_pictures(2)
    tab.page.wait_for_function(
        "p => document.querySelector('#train-timeline .tl-x0 canvas').toDataURL() !== p", arg=first
    )
    assert tab.count > seen
    assert re.fullmatch(r"[\d,]+ of 400", tab.figure("step"))
    tab.visitor.context.close()  # nobody looks

    at = status(client, job)["step"]
    again = train()
    again.wait_for_losses(at)
    assert again.run == job
    again.wait_for_state("running")

    again.press("try")  # while it trains
    chip = again.page.locator("#model-chip").filter(has_text="tiny on garments, step")
    chip.wait_for()
    again.page.locator("#steps label").get_by_text("5", exact=True).click()
    before = again.page.locator("#timeline .ddpm-tl").get_attribute("data-run")
    again.page.locator("#run").click()
    again.page.wait_for_function(
        "r => document.querySelector('#timeline .ddpm-tl').dataset.run !== r", arg=before
    )
    again.page.locator("#timeline .tl-badge[data-state=done]").wait_for()
    assert status(client, job)["state"] == "running"

    again.page.get_by_role("tab", name="Train").click()
    again.press("stop")
    again.wait_for_state("stopped")
    assert "the model is kept" in again.status
    assert again.page.locator("#train-pause").is_hidden()

    again.press("try")  # and when it is over
    again.page.locator("#model-chip").filter(
        has_text=f"step {status(client, job)['step']}"
    ).wait_for()
    drawn = client.submit(
        model=f"job:{job}", sampler="ddim", steps=2, batch=1, seed=1, api_name="/sample"
    )
    assert drawn.result(timeout=60)["done"] is True
    again.page.locator("#model-back").click()
    again.page.locator("#model-chip").filter(has_text="Bundled model").wait_for()


def test_an_app_killed_while_it_trains_offers_the_run_and_its_curve_continues_exactly(
    serve, visit_server
):
    killed = serve()
    tab = Tab(visit_server(killed))
    job = tab.start(steps=25, seed=4)
    tab.wait_for_losses(6)
    tab.wait_for_pictures(2)
    before = status(Client(killed.url, verbose=False), job)["loss"]
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait(10)

    after = serve()
    client = Client(after.url, verbose=False)
    tab = Tab(visit_server(after))
    tab.wait_for_state("interrupted")
    assert tab.run == job
    assert "Resume goes on from step" in tab.status
    left = status(client, job)
    assert left["state"] == "interrupted"
    assert 0 < len(left["loss"]) == tab.count
    both = min(len(left["loss"]), len(before))  # either may know of one more step
    assert left["loss"][:both] == before[:both]
    tab.wait_for_pictures(1)
    tab.press("resume")
    tab.wait_for_losses(len(left["loss"]) + 1)
    resumed = wait_for_end(client, job)
    assert (resumed["state"], resumed["step"]) == ("done", 25)
    assert resumed["loss"][: len(before)] == before
    tab.wait_for_state("done")
    tab.wait_for_losses(25)

    other = tab.start(steps=25, seed=4)
    assert other != job
    assert wait_for_end(client, other)["loss"] == resumed["loss"]


def test_a_pause_frees_the_machine_and_resume_goes_on_where_it_was(train, client):
    tab = train()
    job = tab.start(steps=400)
    tab.wait_for_losses(3)
    tab.press("pause")
    tab.wait_for_state("paused")
    at = tab.count
    assert f"step {at}" in tab.status
    tab.page.wait_for_timeout(1500)
    assert status(client, job)["step"] == at
    tab.press("resume")
    tab.wait_for_state("running")
    tab.page.locator("#train-timeline .tl-badge[data-state=running]").wait_for(state="attached")
    tab.wait_for_losses(at + 2)
    tab.press("stop")
    tab.wait_for_state("stopped")


def test_who_comes_second_waits_and_is_told(train):
    first, second = train(), train()
    first.start(steps=400)
    first.wait_for_state("running")
    second.start(steps=2, seed=9)
    second.wait_for_state("queued")
    assert re.search(r"Busy: about \d+ min left, you are next\.", second.status)
    first.press("stop")
    first.wait_for_state("stopped")
    second.wait_for_state("done")
    assert second.page.locator("#train-runs").is_visible()


# ---- looking at it ------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def finished(opener, server):
    """A page with a finished training of 12 steps, each with a grid of one picture."""
    tab = Tab(opener(reduced_motion="reduce"))
    tab.start(steps=12, seed=1)
    tab.wait_for_state("done")
    tab.wait_for_pictures(12)
    yield tab
    assert tab.visitor.problems == []
    tab.visitor.context.close()


def test_figures_and_chart_tell_how_it_went(finished):
    assert finished.figure("step") == "12 of 12"
    assert float(finished.figure("rate")) > 0
    assert float(finished.figure("norm")) > 0
    assert finished.figure("skipped") == "0"
    assert finished.page.locator(".cv-raw").get_attribute("d").count("L") == 11
    bars = finished.page.locator(".cv-bars").get_attribute("aria-label")
    assert len(bars.split(":")[1].split(",")) == 10 and re.search(r"\d", bars.split(":")[1])


def test_the_loss_can_be_read_with_pointer_and_keys(finished):
    plot, readout = finished.page.locator(".cv-plot"), finished.page.locator(".cv-readout")
    said = lambda: readout.inner_text().replace("\u00a0", " ")  # noqa: E731
    assert re.fullmatch(r"step 12 · loss [\d.]+ · smoothed [\d.]+", said())
    plot.focus()
    finished.page.keyboard.press("Home")
    assert said().startswith("step 1 ·")
    finished.page.keyboard.press("ArrowRight")
    assert plot.get_attribute("aria-valuetext").startswith("step 2, loss ")
    assert plot.get_attribute("aria-valuemax") == "12"
    box = plot.bounding_box()
    plot.hover(position={"x": box["width"] / 2, "y": 40})
    assert 4 <= int(re.match(r"step (\d+)", said())[1]) <= 9
    finished.page.mouse.move(5, 5)
    assert said().startswith("step 12 ·")


def test_the_axis_is_logarithmic_until_somebody_wants_it_otherwise(finished):
    button = finished.page.locator(".cv-log")
    logarithmic = finished.page.locator(".cv-raw").get_attribute("d")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert finished.page.locator(".cv-raw").get_attribute("d") != logarithmic
    assert finished.page.locator(".cv-grid text").first.text_content() == "0"
    button.click()
    assert finished.page.locator(".cv-raw").get_attribute("d") == logarithmic


def test_one_scrubs_through_the_training_with_the_network_gone(finished):
    slider = finished.page.locator("#train-timeline .tl-range")
    finished.visitor.context.set_offline(True)
    try:
        slider.focus()
        seen = set()
        finished.page.keyboard.press("Home")
        for _ in range(12):
            seen.add(finished.picture())
            finished.page.keyboard.press("ArrowRight")
    finally:
        finished.visitor.context.set_offline(False)
        finished.visitor.problems.clear()
    assert len(seen) >= 6  # a step's change may be too small to be seen
    assert "step 12, grid 12 of 12" in slider.get_attribute("aria-valuetext")
    assert finished.page.locator("#train-timeline .tl-save").is_hidden()


def test_an_old_message_that_comes_again_does_no_harm(train):
    tab = train()
    tab.start(steps=120)
    tab.wait_for_losses(2)
    old, again = [], []

    def answer(route):
        response = old[0] if again else route.fetch()
        old.append(response)
        route.fulfill(response=response)

    tab.page.route("**/gradio_api/run/**", answer)
    tab.wait_for_losses(80)
    again.append(True)
    tab.page.wait_for_timeout(2500)
    count = int(re.search(r'"count":\s*(\d+)', old[0].text())[1])
    assert tab.count == count < 80  # the newest word of the server counts, even if it is old
    tab.page.unroute("**/gradio_api/run/**")
    tab.wait_for_losses(120)
    tab.wait_for_pictures(20)
    assert (tab.count, tab.figure("step")) == (120, "120 of 120")
    assert tab.page.locator(".cv-raw").get_attribute("d").count("L") == 119


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_shows_it_without_horizontal_scroll(train, finished, dark):
    tab = train(width=390, height=844, dark=dark)
    tab.wait_for_pictures(1)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
    for button in tab.page.locator("#train-timeline button:visible, .tr-controls button").all():
        if button.is_visible():
            assert button.bounding_box()["height"] >= 32
    chart = tab.page.locator(".cv-plot svg").bounding_box()
    assert 250 < chart["width"] <= 390


# ---- the form -----------------------------------------------------------------------------------
def test_the_form_is_made_from_the_config_and_follows_the_preset(train):
    tab = train()
    tab.fill()
    for name in limits.OPTIONS:
        assert HELP[name] in tab.page.inner_text(f"#train-{name}")
    assert PRESETS["tiny"].cost in tab.page.inner_text("#train-estimate")
    tab.page.locator("#train-preset label").get_by_text("fashion", exact=True).click()
    row = PRESETS["fashion"].train
    steps = tab.page.locator("#train-steps input")
    tab.page.wait_for_function(
        "n => document.querySelector('#train-steps input').value === n",
        arg=str(row.train_num_steps),
    )
    assert tab.page.locator("#train-train_batch_size input").input_value() == str(
        row.train_batch_size
    )
    assert not tab.page.locator("#train-augment_horizontal_flip input").is_checked()
    tab.page.locator("#train-estimate").filter(has_text=PRESETS["fashion"].cost).wait_for()
    assert steps.is_enabled()


def test_measure_says_how_long_it_will_take(train):
    tab = train()
    tab.fill(steps=100, train_batch_size=3)
    assert "not measured" in tab.page.inner_text("#train-estimate")
    tab.press("measure")
    tab.page.locator("#train-estimate").filter(has_text="100 steps take about").wait_for()
    tab.page.locator("#train-measure").filter(has_text="Measure").wait_for()


def picture_file(name: str, size=(40, 30)) -> dict:
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).save(buffer, "png")
    return {"name": name, "mimeType": "image/png", "buffer": buffer.getvalue()}


def test_a_visitor_s_own_pictures_are_shown_as_the_network_sees_them_and_trained_on(train):
    tab = train()
    tab.page.locator("#train-data label").get_by_text("Your images").click()
    tab.page.locator("#train-card").filter(has_text="Choose images").wait_for()
    tab.fill(steps=2, train_batch_size=2, num_samples=1)
    tab.press("start")
    tab.page.locator(".toast-body").filter(has_text="choose some files").wait_for()
    junk = {"name": "junk.png", "mimeType": "image/png", "buffer": b"<script>"}
    files = [picture_file(f"{i}.png") for i in range(3)]
    tab.page.locator("#train-files input[type=file]").set_input_files([*files, junk])
    card = tab.page.locator("#train-card")
    card.filter(has_text="3 images, 28 x 28 grey").wait_for()
    assert "junk.png" in card.inner_text() and "by heart" in card.inner_text()
    uri = card.locator("img").get_attribute("src")
    shown = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert shown.size == (3 * 28, 28)
    tab.press("start")
    # first that it is this training: the page may still show an earlier one, which is done, too
    tab.page.locator(".cv-status").filter(has_text="3 of your images").wait_for()
    tab.wait_for_state("done")
    assert "3 of your images" in tab.status


def test_what_a_page_is_first_told_may_come_late_and_undo_no_choice():
    """On a cold app it comes seconds after the page, when photographs may be chosen already."""
    written = {}
    for function in build(example=False).fns.values():
        named = written.setdefault(function.fn.__name__ if function.fn else "", set())
        named.update(output._id for output in function.outputs)
    assert written["_form_now"] and not written["_form_now"] & written["_take_files"]


def test_photographs_are_made_small_before_they_are_sent(train):
    """500 of a phone are gigabytes, and one request takes 64 MB."""
    noise = Image.effect_noise((1600, 1200), 90).convert("RGB")
    buffer = io.BytesIO()
    noise.save(buffer, "jpeg", quality=95)
    photo = buffer.getvalue()
    tab = train()
    tab.page.locator("#train-data label").get_by_text("Your images").click()
    files = [{"name": f"IMG_{i}.jpeg", "mimeType": "image/jpeg", "buffer": photo} for i in range(3)]
    with tab.page.expect_request(lambda request: "/gradio_api/upload" in request.url) as promise:
        tab.page.locator("#train-files input[type=file]").set_input_files(files)
    tab.page.locator("#train-card").filter(has_text="3 images").wait_for()
    sent = int(promise.value.all_headers()["content-length"])
    assert sent < len(photo), (sent, len(photo))  # all three together


def test_a_look_at_an_earlier_training_that_comes_late_changes_nothing():
    """Asked for before Start was pressed, answered after: it once took the page back for good."""
    late = tabs_train._tick("the one before", {}, [], "the one that was started")
    assert late == [gr.skip()] * 8


def test_files_that_hold_no_picture_are_one_sentence(train):
    tab = train()
    tab.page.locator("#train-data label").get_by_text("Your images").click()
    junk = {"name": "<b>.png", "mimeType": "image/png", "buffer": b"no picture"}
    tab.page.locator("#train-files input[type=file]").set_input_files([junk])
    card = tab.page.locator("#train-card").filter(has_text="no image that can be read")
    card.wait_for()
    assert "/tmp" not in card.inner_text()
    assert card.locator("p b").count() == 0


# ---- endpoints ----------------------------------------------------------------------------------
def test_the_endpoints_start_tell_and_stop(client):
    job = client.predict(data="bundled", preset="tiny", steps=500, seed=2, api_name="/train_start")
    assert job.keys() == {"job"} and re.fullmatch("[0-9a-f]{16}", job["job"])
    deadline = time.monotonic() + 90
    while (told := status(client, job["job"]))["step"] < 1:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert told.keys() >= STATUS
    assert (told["state"], told["total"]) == ("running", 500)
    assert told["eta_seconds"] > 0
    stopped = client.predict(job=job["job"], api_name="/train_stop")
    assert stopped["state"] in ("running", "stopped")
    told = wait_for_end(client, job["job"])
    assert told["state"] == "stopped"
    assert len(told["loss"]) == told["step"] and told["checkpoint"].startswith("step-")


def test_a_training_is_never_asked_about_behind_a_picture(client):
    job = client.predict(data="bundled", preset="tiny", steps=400, seed=0, api_name="/train_start")
    drawing = client.submit(steps=1000, batch=1, api_name="/sample")
    while not drawing.outputs():
        time.sleep(0.05)
    begun = time.monotonic()
    status(client, job["job"])
    client.predict(job=job["job"], api_name="/train_stop")
    took = time.monotonic() - begun
    assert not drawing.done()
    assert took < 5
    drawing.cancel()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"data": "/etc"}, "data '/etc' is neither"),
        ({"data": "../runs"}, "neither"),
        ({"data": "hub:mnist"}, "neither"),
        ({"data": "upload:" + "0" * 16}, "no longer kept"),
        ({"preset": "huge"}, "choose one of tiny, fashion"),
        ({"steps": 0}, "steps 0"),
        ({"steps": 20_001}, "20000"),
        ({"steps": 2.5}, "steps 2.5"),
        ({"seed": -5}, "seed -5"),
        ({"seed": "2"}, "seed '2'"),
    ],
    ids=str,
)
def test_a_bad_start_is_refused_in_one_sentence(client, arguments, sentence):
    known = {"data": "bundled", "preset": "tiny", "steps": 2, "seed": 0}
    with pytest.raises(AppError, match=re.escape(sentence)) as caught:
        client.predict(**known | arguments, api_name="/train_start")
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["/train_status", "/train_stop"])
@pytest.mark.parametrize("key", ["0" * 16, "../../etc", ""])
def test_an_unknown_training_is_one_sentence(client, endpoint, key):
    with pytest.raises(AppError, match="job"):
        client.predict(job=key, api_name=endpoint)
    with pytest.raises(AppError, match="job"):
        client.submit(model=f"job:{key}", steps=1, api_name="/sample").result(timeout=30)
