"""Runs without a browser: throttling, pausing, branching, starts, fast copies, classes, refusals.

Over 300 lines: each is a few, and all need the small network that stands in for the bundled one.
"""

import base64
import gc
import pickle
import re
import weakref

import numpy as np
import pytest
import torch

from ddpm_hub import GaussianDiffusion, Unet, fast, images
from ddpm_hub.app import engine, exports, handoff, limits, models, runs, states
from ddpm_hub.app.tabs import sample, sample_form
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


def asked(steps=10, batch=1, seed=3, sampler="ddim", eta=0.0, **more) -> limits.Request:
    return limits.request("bundled", sampler, steps, eta, batch, seed, **more)


def drawn(run) -> list[dict]:
    """All frames that the run sends now."""
    return [frame for message in runs.stream(run) for frame in message["frames"]]


def pictures(frames) -> list[tuple[str, str]]:
    return [(frame["x0"], frame["x"]) for frame in frames]


def shown(drawing) -> bytes:
    """The pixels of the tensor of images as they are sent at the end."""
    return images.grid(drawing).tobytes()


def pixels(uri: str) -> bytes:
    return images.open_image(base64.b64decode(uri.split(",")[1])).tobytes()


def test_steps_faster_than_the_throttle_travel_together_and_none_is_lost(monkeypatch):
    monkeypatch.setattr(engine, "YIELD_SECONDS", 1e9)
    first, *rest = list(runs.stream(runs.Run(asked())))
    assert (first["state"], first["frames"]) == ("starting", [])
    assert [[f["index"] for f in m["frames"]] for m in rest] == [[0], list(range(1, 10))]
    assert rest[-1]["kept"] == list(range(10))


def test_the_first_frame_is_sent_after_one_network_call(small_model):
    calls = []
    small_model.model.register_forward_hook(lambda *_: calls.append(1))
    messages = runs.stream(runs.Run(asked()))
    next(messages)  # a status, before anything is computed
    assert calls == []
    assert [frame["index"] for frame in next(messages)["frames"]] == [0] and calls == [1]


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


# ---- pausing ------------------------------------------------------------------------------------
@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp_2m_sde", "heun", "unipc"])
def test_a_paused_run_goes_on_to_the_same_pixels(sampler):
    eta = 0.7 if sampler in ("ddim", "dpmpp_2m_sde") else None
    request = asked(batch=2, sampler=sampler, eta=eta)
    whole = drawn(runs.Run(request))
    run = runs.Run(request)
    run.go_on(4)
    begun = drawn(run)
    assert (run.state, len(begun)) == ("paused", 4)
    run.states.newest = pickle.loads(pickle.dumps(run.states.newest))  # as from another process
    run.go_on()
    rest = drawn(run)
    assert run.state == "done"
    assert pictures(begun + rest) == pictures(whole)
    assert rest[-1]["change"] == whole[-1]["change"]


def test_single_steps_draw_one_frame_each_and_the_same_as_all_at_once():
    run = runs.Run(asked(sampler="unipc", eta=None))
    for index in range(10):
        run.go_on(1)
        assert [frame["index"] for frame in drawn(run)] == [index]
        assert run.state == ("paused" if index < 9 else "done")
    assert pictures(run.frames) == pictures(drawn(runs.Run(run.request)))


def test_a_pause_on_the_way_ends_the_stream_with_the_state_kept():
    run = runs.Run(asked(steps=50))
    messages = runs.stream(run)
    next(messages), next(messages)
    run.pause()
    last = list(messages)[-1]
    assert (last["state"], run.idle, run.over) == ("paused", True, False)
    assert run.states.newest.index == len(run.frames) < 50
    assert run.size > run.states.size > 0
    run.stop()
    assert run.state == "stopped"


def test_a_run_that_is_paused_before_its_turn_draws_nothing_until_it_goes_on():
    run = runs.Run(asked())
    run.pause()
    assert drawn(run) == [] and run.state == "paused"
    run.go_on()
    assert len(drawn(run)) == 10


def test_nobody_draws_a_run_that_is_being_drawn():
    run = runs.Run(asked())
    messages = runs.stream(run)
    next(messages)
    assert list(runs.stream(run)) == []
    assert len(list(messages)) > 0 and run.state == "done"


def test_states_stay_within_their_bytes_and_the_newest_always_stays():
    run = runs.Run(asked(steps=40))
    one = 1200  # three pictures of 8 x 8 floats, and somewhat more
    run.states = states.Kept(max_bytes=6 * one)
    drawn(run)
    kept = run.states
    assert kept.newest.index == 40
    assert kept.size == sum(map(states.nbytes, kept.states.values())) <= 6 * one
    assert kept.before(40) is kept.newest
    assert 20 <= kept.before(39).index <= 39
    tiny = states.Kept(max_bytes=1)
    tiny.add(kept.before(0) or kept.newest)
    assert list(tiny.states) == [tiny.newest.index]


# ---- branches -----------------------------------------------------------------------------------
@pytest.mark.parametrize("sampler", ["ddpm", "unipc", "heun"])
def test_a_branch_is_the_run_until_its_frame_and_then_another(sampler):
    run = runs.Run(asked(sampler=sampler, eta=None))
    drawn(run)
    branch = runs.branch(run, 5, seed=99)
    frames = drawn(branch)
    assert [frame["index"] for frame in frames] == [6, 7, 8, 9]
    # the x0 of the next frame is believed of the x that both have
    assert frames[0]["x0"] == run.frames[6]["x0"]
    assert frames[-1]["x"] != run.frames[-1]["x"]
    assert frames[-1]["seed"] == 99
    again = drawn(runs.branch(run, 5, seed=99))
    assert pictures(again) == pictures(frames)
    assert pictures(drawn(runs.branch(run, 5, seed=98))) != pictures(frames)


def test_a_branch_whose_states_are_gone_is_replayed_to_the_same_pixels():
    run = runs.Run(asked(sampler="ddpm", eta=None))
    drawn(run)
    near = drawn(runs.branch(run, 5, seed=99))
    run.states = states.Kept()
    assert pictures(drawn(runs.branch(run, 5, seed=99))) == pictures(near)


def test_a_branch_may_be_paused_and_branched_again():
    run = runs.Run(asked(sampler="ddpm", eta=None))
    drawn(run)
    branch = runs.branch(run, 3, seed=99)
    branch.go_on(2)
    halves = drawn(branch)
    branch.go_on()
    halves += drawn(branch)
    assert pictures(halves) == pictures(drawn(runs.branch(run, 3, seed=99)))
    twig = runs.branch(branch, 6, seed=5)
    assert [f["index"] for f in drawn(twig)] == [7, 8, 9]
    twig.plan = twig.plan._replace(state=None)  # all of its way again: noise, two turns
    twig.frames, twig.states, twig.phase, twig.halted = [], states.Kept(), "waiting", False
    assert pictures(drawn(twig)) == pictures(drawn(runs.branch(branch, 6, seed=5)))
    assert twig.meta()["turns"] == [[4, 99], [7, 5]]


def test_a_branch_says_whose_noise_it_has_and_not_the_key_of_its_run():
    run = runs.Run(asked(sampler="unipc", eta=None))
    drawn(run)
    branch = runs.branch(run, 2, seed=99)
    assert branch.message_with([])["of"] == run.id
    assert (branch.meta()["turns"], branch.meta()["noise_by"]) == ([[3, 99]], "ddim with eta 1")
    assert run.id not in str(branch.meta())
    noisy = runs.Run(asked(sampler="dpmpp_2m_sde", eta=None))
    drawn(noisy)
    assert runs.branch(noisy, 2, seed=99).meta()["noise_by"] is None


@pytest.mark.parametrize("index", [9, -1, 10, 2.0, True, "3", None, [1]])
def test_a_branch_leaves_from_a_frame_that_has_one_after_it(index):
    run = runs.Run(asked())
    drawn(run)
    with pytest.raises(ConfigError, match=r"choose one in 0 \.\. 8"):
        runs.branch(run, index, seed=1)


def test_a_run_is_not_branched_while_it_is_drawn():
    run = runs.Run(asked())
    messages = runs.stream(run)
    next(messages), next(messages)
    with pytest.raises(ConfigError, match="pause or stop it"):
        runs.branch(run, 0, seed=1)


# ---- starts and classes -------------------------------------------------------------------------
def test_a_run_may_begin_in_a_state_that_another_tab_prepared(small_model):
    x = np.random.default_rng(0).standard_normal((1, 8, 8), dtype=np.float32)
    start = handoff.Start("bundled", x, 120, "a boot")
    run = runs.Run(asked(steps=5, batch=2, sampler="ddpm", eta=None), start=start)
    last = drawn(run)[-1]
    begin = torch.from_numpy(x)[None].repeat(2, 1, 1, 1)
    wanted = small_model.sample(
        sampler="ddpm", steps=5, seed=3, noise=begin, t_start=120, progress=False
    )
    assert pixels(last["x"]) == shown(wanted)
    assert run.frames[0]["t"] == 120
    assert run.meta()["start"] == {"t": 120, "words": "a boot"}
    branched = drawn(runs.branch(run, 1, seed=8))
    assert [frame["index"] for frame in branched] == [2, 3, 4]


@pytest.mark.parametrize(("model", "side"), [("a/b", 8), ("bundled", 9)])
def test_a_start_of_another_model_is_refused(model, side):
    start = handoff.Start(model, np.zeros((1, side, side), np.float32), 12, "a boot")
    with pytest.raises(ConfigError, match=r"a boot.* was made for another model"):
        drawn(runs.Run(asked(steps=5), start=start))


FORM = dict(zip(sample.SETTINGS, ("bundled", "unipc", 25, 0.3, 4, 7, False), strict=False)) | {
    **{"spacing": "linspace", "bounds": "clip", "variance": "fixed_small"},
    **{"classes": "random", "guidance": 1, "runtime": "eager", "start": None},
}


def test_the_form_tells_a_sampler_only_what_it_knows():
    plan = sample._asked(FORM).plan
    usual = {"spacing": "linspace", "bounds": "clip", "runtime": "eager"}
    assert plan.request == asked(25, 4, 7, "unipc", None, **usual)
    plan = sample._asked(FORM | {"sampler": "ddim"}).plan
    assert (plan.request.eta, plan.request.variance) == (0.3, None)
    assert sample._asked(FORM | {"sampler": "ddpm"}).plan.request.variance == "fixed_small"


def test_the_form_begins_where_another_tab_said_in_no_more_steps_than_are_left():
    start = handoff.Start("bundled", np.zeros((1, 8, 8), np.float32), 12, "a <boot>")
    key = handoff.keep(start)
    plan = sample._asked(FORM | {"start": key}).plan
    assert plan.start is start and plan.request.steps == 13
    words, clear = sample_form._start_of(key)
    assert "t = 12" in words["value"] and "a &lt;boot&gt;" in words["value"]
    assert words["visible"] and clear["visible"]
    with pytest.raises(ConfigError, match="no longer kept"):
        sample._asked(FORM | {"start": "0" * 32})
    assert [part["visible"] for part in sample_form._start_of(None)] == [False, False]


# ---- the fast copy ------------------------------------------------------------------------------
@pytest.fixture
def quick(small_model, monkeypatch, tmp_path):
    """The small model's fast copy: here one that differs, whatever this machine has."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fast, "RACED", {"cpu": ("half",)})
    monkeypatch.setattr(fast, "_lack", lambda net, wanted: None)
    monkeypatch.setattr(fast, "_race", lambda net, shape: {"eager": 2.0, "half": 1.0})
    return models.quick(small_model, 2)


def test_a_fast_run_is_the_accelerated_ones_pixel_for_pixel(small_model, quick):
    *_, last = engine.sample(asked(batch=2, runtime="auto"))
    options = {"sampler": "ddim", "steps": 10, "eta": 0.0, "seed": 3, "progress": False}
    assert pixels(last["x"]) == shown(quick.sample(2, **options))
    assert pixels(last["x"]) != shown(small_model.sample(2, **options))
    *_, exact = engine.sample(asked(batch=2))
    assert pixels(exact["x"]) == shown(small_model.sample(2, **options))


def test_a_fast_run_of_too_much_work_is_refused_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(models, "quick", lambda *_: pytest.fail("it was measured"))
    monkeypatch.setattr(limits, "MAX_WORK", 8 * 8 * 9)
    with pytest.raises(ConfigError, match="pixels"):
        list(engine.sample(asked(runtime="auto")))


def test_a_fast_run_that_was_paused_goes_on_exactly(quick):
    whole = list(engine.sample(asked(runtime="auto")))
    run = runs.Run(asked(runtime="auto"))
    run.go_on(4)
    first = drawn(run)
    assert run.state == "paused"
    run.go_on()
    assert pictures(first + drawn(run)) == pictures(whole)


def test_a_fast_copy_is_made_once_and_goes_with_its_model(small_model, quick, monkeypatch):
    assert quick.runtime.runtime == "half"
    assert models.quick(small_model, 4) is quick
    other = GaussianDiffusion(Unet(dim=8, dim_mults=(1, 2), channels=1), image_size=8)
    own = models._bytes(other)
    assert models.quick(other, 1) is not quick
    assert models._bytes(other) > 2 * own  # and counts when there has to be room
    gone = weakref.ref(other)
    del other
    gc.collect()
    assert gone() is None


@pytest.fixture
def classed(monkeypatch):
    """A model of three classes in the place of the bundled one."""
    net = Unet(dim=8, dim_mults=(1, 2), channels=1, num_classes=3)
    with torch.no_grad():  # untrained, it would treat them all alike
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    diffusion = GaussianDiffusion(net, image_size=8, timesteps=400)
    monkeypatch.setattr(models, "_models", models.OrderedDict({("bundled", None): diffusion}))
    return diffusion


def test_a_class_and_guidance_reach_the_model(classed):
    *_, last = engine.sample(asked(batch=2, classes=2, guidance=3))
    options = {"sampler": "ddim", "steps": 10, "eta": 0.0, "seed": 3, "progress": False}
    assert pixels(last["x"]) == shown(classed.sample(2, classes=2, guidance=3, **options))
    assert pixels(last["x"]) != shown(classed.sample(2, classes=1, guidance=3, **options))
    assert last["labels"] == [2, 2]


def test_random_classes_are_the_seeds_choice_one_for_each_image(classed):
    *_, last = engine.sample(asked(batch=8, classes="random"))
    *_, again = engine.sample(asked(batch=8, classes="random"))
    assert last["labels"] == again["labels"] and set(last["labels"]) <= {0, 1, 2}
    assert (
        len(
            {
                tuple(list(engine.sample(asked(1, 8, s, classes="random")))[-1]["labels"])
                for s in range(5)
            }
        )
        > 1
    )
    options = {"sampler": "ddim", "steps": 10, "eta": 0.0, "seed": 3, "progress": False}
    assert pixels(last["x"]) == shown(classed.sample(8, classes=last["labels"], **options))


def test_a_class_is_refused_by_a_model_without_and_beyond_the_last(request):
    for classes in (0, "random"):
        with pytest.raises(ConfigError, match=r"no classes|has none"):
            list(engine.sample(asked(classes=classes)))
    request.getfixturevalue("classed")
    with pytest.raises(ConfigError, match=r"label in 0 \.\. 2"):
        list(engine.sample(asked(classes=3)))
    with pytest.raises(ConfigError, match="nothing to guide to"):
        list(engine.sample(asked(guidance=2)))
    for classes in ("two", 1.5, -1, [1], True):
        with pytest.raises(ConfigError, match="classes"):
            asked(classes=classes)


def test_the_form_offers_classes_where_the_model_has_them(request):
    assert [part["visible"] for part in sample_form.offer_classes("bundled")] == [False, False]
    request.getfixturevalue("classed")
    choice, guidance = sample_form.offer_classes("bundled")
    assert choice["choices"] == ["random", "none", "0", "1", "2"]
    assert choice["visible"] and guidance["visible"]
    assert [sample_form.label_of(c) for c in ("random", "none", "2")] == ["random", None, 2]


# ---- frames -------------------------------------------------------------------------------------
def test_the_last_frame_is_exactly_what_sample_draws(small_model):
    *_, last = engine.sample(asked(batch=3))
    wanted = small_model.sample(3, sampler="ddim", steps=10, eta=0.0, seed=3, progress=False)
    assert pixels(last["png"]) == shown(wanted)


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


def test_the_store_forgets_paused_runs_and_of_those_that_never_came_the_oldest():
    store = runs.Store(max_runs=3)
    paused = store.add(runs.Run(asked()))
    paused.go_on(1)
    drawn(paused)
    waiting = [store.add(runs.Run(asked())) for _ in range(10)]
    assert store.get(paused.id) is None
    assert len(store.runs) == 6  # twice as many: a queue is shorter
    assert waiting[0].over and store.get(waiting[-1].id) is waiting[-1]


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


@pytest.mark.parametrize(
    ("drawn_by", "over", "model", "start", "said"),
    [
        (None, True, "bundled", None, None),  # the example is the bundled model's
        (None, True, "alice/small@abc", None, sample.ANOTHER),
        ("bundled", True, "job:1", None, sample.ANOTHER),
        ("bundled", True, "bundled", None, None),
        ("alice/small", True, "alice/small@abc", None, None),  # a run brought back by its link
        ("bundled", True, "bundled", "key", sample.BEGINS),
        ("bundled", False, "job:1", None, None),  # what is being drawn goes on
    ],
)
def test_pictures_of_another_model_or_start_do_not_stay(
    monkeypatch, drawn_by, over, model, start, said
):
    store, ticket = runs.Store(), ""
    monkeypatch.setattr(runs, "STORE", store)
    if drawn_by is not None:
        run = store.add(runs.Run(limits.request(drawn_by, "ddim", 2, 0.0, 1, 3)))
        ticket = run.id
        if over:
            run.stop()
    told = sample._emptied(ticket, model, start)
    assert told.get("message") == said
    assert said is None or (told["run"], told["frames"]) == ("", [])
