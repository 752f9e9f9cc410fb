"""The Lab without a browser: what may be asked for, boards and their messages, stopping."""

import base64
import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import ddpm_hub
from ddpm_hub import data
from ddpm_hub.app import models
from ddpm_hub.app.experiments import compare, desk, garments, latents, limits
from ddpm_hub.app.experiments.board import Board
from ddpm_hub.app.experiments.desk import Desk, Experiment, Progress
from ddpm_hub.errors import ConfigError, DDPMHubError

HOSTILE = [None, "", "7", True, [], {}, [[]], -1, 2.5, 1e308, math.nan, math.inf, 10**30, [10**6]]
NAMES = list(ddpm_hub.SAMPLERS)


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def counting(board: Board, calls: int):
    """Work that does nothing but count, and puts one picture a call."""
    for done in range(1, calls + 1):
        board.put(0, 0, torch.full((1, 1, 2, 2), done / calls), index=done - 1)
        yield Progress(done, calls, f"call {done}")


def experiment(calls: int) -> Experiment:
    board = Board(["row"], ["column"])
    board.frames(0, calls)
    return Experiment(board, counting(board, calls))


# ---- limits -------------------------------------------------------------------------------------
ASKS = {
    "compare": (limits.compare_request, ["bundled", NAMES[:2], 10, 4, 7]),
    "few_steps": (limits.few_steps_request, ["bundled", "ddim", [5, 10], 4, 7]),
    "continuations": (limits.continuations_request, ["bundled", 20, 7]),
    "interpolation": (limits.interpolation_request, ["bundled", [3, 5], 500, 10, 7, 1000]),
}


@pytest.mark.parametrize("tool", ASKS)
@pytest.mark.parametrize("hostile", HOSTILE, ids=repr)
def test_hostile_values_in_any_place_are_taken_or_refused_in_one_sentence(tool, hostile):
    check, good = ASKS[tool]
    check(*good)
    for place in range(len(good) - (tool == "interpolation")):
        arguments = [*good[:place], hostile, *good[place + 1 :]]
        try:
            request = check(*arguments)
        except DDPMHubError as error:
            assert 10 < len(str(error)) < 250
            assert "\n" not in str(error)
        else:
            assert hostile in (None, "", "bundled")  # the default model, or a new seed
            assert request.model == "bundled"
            assert 0 <= request.seed < 2**53


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["bundled", NAMES[:1], 10, 4, 7], "1 of the samplers are ticked: a comparison takes 2"),
        (["bundled", NAMES[:5], 10, 4, 7], "5 of the samplers are ticked"),
        (["bundled", ["ddpm", "ddpm"], 10, 4, 7], "1 of the samplers are ticked"),
        (["bundled", ["ddpm", "euler"], 10, 4, 7], "unknown sampler 'euler': choose one of ddpm"),
        (["bundled", "ddpm", 10, 4, 7], "samplers 'ddpm' is not a list"),
        (["bundled", ["ddpm"] * 17, 10, 4, 7], "samplers has 17 values"),
        (["bundled", NAMES[:2], 251, 4, 7], r"steps 251 is not a whole number in 1 \.\. 250"),
        (["bundled", NAMES[:2], 10, 5, 7], r"batch 5 is not a whole number in 1 \.\. 4"),
        (["bundled", NAMES[:2], 10, 4, 2**53], "seed 9007199254740992"),
        (["../etc", NAMES[:2], 10, 4, 7], 'neither "bundled" nor a repository'),
    ],
    ids=str,
)
def test_a_comparison_that_cannot_be_is_refused_with_the_value_and_the_limit(arguments, sentence):
    with pytest.raises(DDPMHubError, match=sentence):
        limits.compare_request(*arguments)


def test_samplers_and_steps_come_in_a_fixed_order_whatever_was_ticked_first():
    asked = limits.compare_request("bundled", ["ddim", "ddpm"], 10, 1, 0)
    assert asked.samplers == ("ddpm", "ddim")
    assert limits.few_steps_request("bundled", "ddim", [20, 5, 10.0], 1, 0).steps == (5, 10, 20)


def test_a_level_beyond_the_model_s_chain_is_refused_before_anything_is_drawn():
    request = limits.interpolation_request("bundled", [3, 5], 1000, 10, 7, 1000)
    with pytest.raises(ConfigError, match="t 1000"):
        list(latents.interpolation(request).messages())


def test_what_the_forms_offer_is_within_the_limits():
    offered = {*limits.COMPARE_STEPS, *limits.FEW_STEPS, *limits.CHAIN_STEPS, *limits.MIX_STEPS}
    assert max(offered) <= limits.MAX_STEPS
    assert max(limits.BATCHES) <= limits.MAX_BATCH


# ---- boards -------------------------------------------------------------------------------------
def test_results_are_exact_and_frames_on_the_way_are_small():
    picture = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    board = Board(["row"], ["left", "right"])
    board.put(0, 0, picture)
    board.put(0, 1, picture, exact=False)
    exact, rough = (entry["src"] for entry in board.message("done")["pictures"])
    assert exact.startswith("data:image/png")
    assert (pixels(exact) == (picture[0, 0] * 255).round().numpy()).all()
    assert rough.startswith("data:image/jpeg")


def test_a_message_has_what_is_new_and_the_last_has_everything():
    board = Board([("x", "xt")], ["column"])
    for index in range(3):
        board.put(0, 0, torch.zeros(1, 1, 2, 2), index=index, t=9 - index)
    assert [p["index"] for p in board.message("running")["pictures"]] == [0, 1, 2]
    board.put(0, 0, torch.ones(1, 1, 2, 2), index=2)
    assert [p["index"] for p in board.message("running")["pictures"]] == [2]
    assert board.message("running")["pictures"] == []
    last = board.message("done", complete=True)
    assert [p["index"] for p in last["pictures"]] == [0, 1, 2]
    assert pixels(last["pictures"][2]["src"]).max() == 255
    assert last["rows"] == [{"label": "x", "kind": "xt"}]
    json.dumps(last, allow_nan=False)


def test_a_message_that_was_sent_is_not_changed_by_later_notes():
    board = Board(["row"], ["column"])
    sent = board.message("running")
    board.note(0, "10 network calls")
    assert sent["columns"][0]["notes"] == []


# ---- the desk -----------------------------------------------------------------------------------
def test_an_experiment_says_at_once_that_it_runs_and_ends_with_all_pictures():
    messages = list(experiment(5).messages())
    assert messages[0]["state"] == "running"
    assert messages[0]["pictures"] == []
    assert [m["state"] for m in messages[1:]] == ["running"] * (len(messages) - 2) + ["done"]
    assert len(messages[-1]["pictures"]) == 5
    assert messages[-1]["message"] == "call 5"


def test_stop_ends_the_work_after_the_call_under_way_and_keeps_what_came():
    closed = []

    def work(board):
        try:
            yield from counting(board, 100)
        finally:
            closed.append(True)

    board = Board(["row"], ["column"])
    one = Experiment(board, work(board))
    messages = one.messages()
    next(messages), next(messages)
    assert one.stop()["state"] == "stopped"
    *_, last = messages
    assert (last["state"], last["complete"], closed) == ("stopped", True, [True])
    assert 1 <= len(last["pictures"]) <= 2


def test_an_experiment_stopped_while_it_waits_computes_nothing():
    one = experiment(5)
    one.stop()
    (only,) = one.messages()
    assert (only["state"], only["pictures"]) == ("stopped", [])


def test_who_goes_away_ends_the_work():
    one = experiment(100)
    messages = one.messages()
    next(messages), next(messages)
    messages.close()
    assert one.over
    assert next(one.work, None) is None


def test_an_endless_experiment_is_ended_with_a_sentence(monkeypatch):
    monkeypatch.setattr(desk.limits, "MAX_SECONDS", -1)
    one = experiment(5)
    with pytest.raises(ConfigError, match=r"1 of 5 network calls took .* take fewer steps"):
        list(one.messages())
    assert one.over


def test_the_desk_forgets_what_is_over_and_stops_the_oldest_when_there_are_too_many():
    desk = Desk(most=2)
    first, second, third = experiment(1), experiment(1), experiment(1)
    desk.add(first)
    list(first.messages())
    desk.add(second)
    assert desk.get(first.ticket) is None
    desk.add(third)
    desk.add(experiment(1))
    assert second.halted
    assert desk.get(second.ticket) is None
    assert desk.get(third.ticket) is third
    for odd in (None, 7, [], {}, "unknown"):
        assert desk.get(odd) is None


# ---- what is drawn ------------------------------------------------------------------------------
def test_columns_of_a_comparison_advance_together():
    one = compare.compare(limits.compare_request("bundled", NAMES[:2], 4, 1, 0))
    calls = []
    for _ in one.work:
        calls.append([len({p[2] for p in one.board.pictures if p[1] == c}) for c in (0, 1)])
    assert all(left - right in (0, 1) for left, right in calls)
    assert calls[-1] == [4, 4]


def test_a_run_of_fewer_steps_than_levels_is_refused():
    with pytest.raises(ConfigError, match="a run of 2 steps has no four levels"):
        latents._levels((999, 499, -1), 1000)


@pytest.mark.parametrize("steps", limits.CHAIN_STEPS)
def test_the_levels_are_the_paper_s_for_every_number_of_steps_on_offer(steps):
    diffusion = ddpm_hub.GaussianDiffusion.from_pretrained("bundled")
    ts = diffusion.sample_stream(1, sampler="ddpm", steps=steps, seed=0).state().ts
    levels = latents._levels(ts, 1000)
    assert list(levels) == [999, 749, 499, 249]
    assert list(levels.values()) == [steps, steps * 3 // 4, steps // 2, steps // 4]


def test_a_garment_fits_a_model_of_another_size_and_colour():
    class Model:
        channels, image_size, device = 3, (32, 40), torch.device("cpu")

    assert garments.picture_for(Model, 7).shape == (1, 3, 32, 40)
    Model.channels, Model.image_size = 1, (28, 28)
    same = garments.picture_for(Model, 7)
    assert torch.equal((same * 255).round()[0].byte(), data.bundled("test")[7])


def test_two_by_chance_are_different_pictures_with_names():
    drawn = garments.by_chance()
    assert len(set(drawn["pair"])) == 2
    assert [item["index"] for item in drawn["extra"]] == drawn["pair"]
    assert all(item["name"] and item["src"].startswith("data:") for item in drawn["extra"])


@pytest.fixture
def coloured():
    """The name of an untrained model of 16 x 16 coloured pixels and 40 timesteps."""
    network = ddpm_hub.Unet(dim=8, dim_mults=(1, 2), channels=3)
    diffusion = ddpm_hub.GaussianDiffusion(network, image_size=16, timesteps=40)
    models.adopt("somebody/coloured", diffusion)
    yield "somebody/coloured"
    models._models.pop(("somebody/coloured", None))


@pytest.mark.parametrize(
    "started",
    [
        lambda name: compare.compare(limits.compare_request(name, NAMES[:4], 4, 2, 0)),
        lambda name: compare.few_steps(limits.few_steps_request(name, "ddpm", [2, 4], 2, 0)),
        lambda name: latents.continuations(limits.continuations_request(name, 20, 0)),
        lambda name: latents.interpolation(
            limits.interpolation_request(name, [3, 5], 39, 4, 0, 1000)
        ),
    ],
    ids=ASKS,
)
def test_every_tool_works_with_a_model_of_another_size_colour_and_length(coloured, started):
    *_, last = started(coloured).messages()
    assert last["state"] == "done"
    shown = {pixels(picture["src"]).shape for picture in last["pictures"]}
    assert shown <= {(16, 16, 3), (16, 32, 3)}
