"""Runs without a browser: throttling, stopping, the store's limits, long runs, what is refused."""

import base64
import re

import pytest

from ddpm_hub import GaussianDiffusion, Unet, images
from ddpm_hub.app import engine, exports, limits, models, runs
from ddpm_hub.errors import ConfigError, HubError


@pytest.fixture(autouse=True)
def small_model(monkeypatch):
    """A network of a few thousand weights stands in for the bundled one."""
    diffusion = GaussianDiffusion(
        Unet(dim=8, dim_mults=(1, 2), channels=1), image_size=8, timesteps=400
    )
    monkeypatch.setattr(models, "_models", models.OrderedDict({("bundled", None): diffusion}))
    monkeypatch.setattr(runs, "STORE", runs.Store())
    return diffusion


def asked(steps=10, batch=1, seed=3) -> limits.Request:
    return limits.request("bundled", "ddim", steps, 0.0, batch, seed)


def test_steps_faster_than_the_throttle_travel_together_and_none_is_lost(monkeypatch):
    monkeypatch.setattr(engine, "YIELD_SECONDS", 1e9)
    first, *rest = list(runs.stream(runs.Run(asked())))
    assert (first["state"], first["frames"]) == ("starting", [])
    assert [[f["index"] for f in m["frames"]] for m in rest] == [[0], list(range(1, 10))]
    assert rest[-1]["kept"] == list(range(10))


def test_a_run_that_is_stopped_while_it_waits_draws_nothing():
    run = runs.Run(asked())
    run.stop()
    assert list(runs.stream(run)) == []
    assert (run.state, run.frames) == ("stopped", [])


def test_a_run_that_is_stopped_on_the_way_keeps_its_frames_and_says_so():
    run = runs.Run(asked(steps=50))
    messages = runs.stream(run)
    next(messages), next(messages)
    run.stop()
    assert list(messages)[-1]["state"] == "stopped"
    assert 1 <= len(run.frames) < 50
    assert images.read_metadata(exports.picture(run))["shows"] == "x0"


def test_a_listener_who_leaves_ends_the_run():
    run = runs.Run(asked(steps=50))
    messages = runs.stream(run)
    next(messages), next(messages)
    messages.close()
    assert run.state == "stopped"


def test_the_last_frame_is_exactly_what_sample_draws(small_model):
    *_, last = engine.sample(asked(batch=3))
    drawn = small_model.sample(3, sampler="ddim", steps=10, eta=0.0, seed=3, progress=False)
    shown = images.open_image(base64.b64decode(last["png"].split(",")[1]))
    assert shown.tobytes() == images.grid(drawn).tobytes()


def test_a_long_run_keeps_about_250_frames_with_the_first_and_the_last():
    kept = [frame["index"] for frame in engine.sample(asked(steps=400))]
    assert 100 < len(kept) <= 252
    assert (kept[0], kept[-1]) == (0, 399)


def test_a_browser_gets_the_frames_it_missed_and_nothing_of_unknown_runs():
    run = runs.STORE.add(runs.Run(asked()))
    list(runs.stream(run))
    again = runs.frames({"run": run.id, "missing": [2, 7, 99, "x"]})
    assert [f["index"] for f in again["frames"]] == [2, 7]
    for query in (None, {}, {"run": "0"}, {"run": ["example"]}, "text"):
        assert runs.frames(query) is None
        assert "error" in exports.export(query)


def test_the_store_forgets_the_oldest_finished_runs_but_not_the_example():
    store = runs.Store(max_runs=3)
    example = store.add(runs.Run(asked(), "example"))
    old = [store.add(runs.Run(asked())) for _ in range(5)]
    assert len(store.runs) == 6  # they all wait: none may vanish under its visitor
    for run in (example, *old):
        run.stop()
    newest = store.add(runs.Run(asked()))
    assert list(store.runs) == ["example", old[-1].id, newest.id]


@pytest.mark.parametrize("format", ["png", "webp", "gif"])
def test_files_are_named_after_their_run(format):
    run = runs.STORE.add(runs.Run(asked()))
    list(runs.stream(run))
    file = exports.export({"run": run.id, "format": format})
    assert file["name"] == f"ddpm-ddim-10-seed3.{format}"
    assert images.open_image(base64.b64decode(file["data"])).width >= 256
    assert "formats" in exports.export({"run": run.id, "format": "exe"})["error"]


def test_more_work_than_the_demo_allows_is_refused_with_the_cure(monkeypatch):
    monkeypatch.setattr(limits, "MAX_WORK", 16 * 8 * 8 * 10)
    assert len(list(engine.sample(asked(steps=10, batch=16)))) == 10
    with pytest.raises(ConfigError, match="fewer steps or a smaller batch"):
        next(engine.sample(asked(steps=11, batch=16)))


def test_a_run_without_end_is_ended(monkeypatch):
    monkeypatch.setattr(limits, "MAX_SECONDS", -1)
    run = runs.Run(asked())
    with pytest.raises(ConfigError, match="take fewer steps"):
        list(runs.stream(run))
    assert run.state == "error"


@pytest.mark.parametrize("name", ["/data", "~/x", "../..", "a/b/c", "a/b?x", "tests/app", "a", 3])
def test_a_model_is_never_a_path(name, monkeypatch):
    with pytest.raises(HubError, match="owner/name"):
        limits.model_name(name)
    assert limits.model_name("google/ddpm-cifar10-32") == "google/ddpm-cifar10-32"
    with pytest.raises(HubError):
        limits.model_name("a/" + "b" * 200)


@pytest.mark.parametrize("value", [True, "2", None, float("nan"), float("inf"), 2.5, 0, 1e308])
def test_whole_numbers_are_whole_and_in_range(value):
    with pytest.raises(ConfigError, match=re.escape("in 1 .. 16: use")):
        limits.whole("batch", value, 1, 16)
    assert limits.whole("batch", 4.0, 1, 16) == 4


def test_new_seeds_differ():
    assert len({limits.new_seed() for _ in range(50)}) > 45
