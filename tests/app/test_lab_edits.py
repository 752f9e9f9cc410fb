"""What the Lab's second half accepts and computes, without a browser."""

import base64

import numpy as np
import pytest
import torch

import ddpm_hub
from ddpm_hub.app.experiments import canvas, coding, edit_limits, edits, losses
from ddpm_hub.app.experiments.chart import Chart
from ddpm_hub.errors import DDPMHubError

PICTURE = canvas.garments()[0]["data"]


def text(values: bytes) -> str:
    return base64.b64encode(values).decode()


def board(**changes) -> dict:
    return {"picture": PICTURE, "mask": text(bytes([0, 255]) * 392)} | changes


# ---- what comes in ------------------------------------------------------------------------------
def test_what_the_pad_sends_is_read_back_bit_for_bit():
    rng = np.random.default_rng(0)
    picture, mask = rng.integers(0, 256, (28, 28), np.uint8), rng.random((28, 28)) < 0.5
    got = canvas.painted(
        {"picture": text(picture.tobytes()), "mask": text((255 * mask.astype(np.uint8)).tobytes())}
    )
    assert torch.equal((got.picture * 255).round().to(torch.uint8)[0, 0], torch.from_numpy(picture))
    assert torch.equal(got.marked[0, 0], torch.from_numpy(mask))


@pytest.mark.parametrize(
    "value",
    [
        None,
        "a path",
        [],
        {},
        {"picture": None},
        {"picture": "/etc/passwd"},
        {"picture": {"path": "/etc/passwd"}},
        {"picture": text(bytes(783))},
        {"picture": text(bytes(785))},
        {"picture": "A" * 10_000_000},
        {"picture": "\u0394" * 1046},
        board(mask=text(bytes(783))),
        board(mask=7),
        board(mask="****"),
    ],
    ids=str,
)
def test_anything_but_the_board_s_own_bytes_is_one_sentence(value):
    with pytest.raises(DDPMHubError) as caught:
        canvas.painted(value)
    assert len(str(caught.value)) < 120 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: edit_limits.coding_request(board(), 1001, 7),
        lambda: edit_limits.coding_request(board(), "25", 7),
        lambda: edit_limits.coding_request(board(), 25, -1),
        lambda: edit_limits.loss_request(board(), 101, 7),
        lambda: edit_limits.sketch_request(board(), "euler", 50, 7),
        lambda: edit_limits.sketch_request(board(), "ddpm", 1000, 7),
        lambda: edit_limits.sketch_request(board(picture=text(bytes(784))), "ddpm", 50, 7),
        lambda: edit_limits.inpaint_request(board(mask=None), 50, 10, 3, 7),
        lambda: edit_limits.inpaint_request(board(), 50, 0, 3, 7),
        lambda: edit_limits.inpaint_request(board(), 50, 10, 21, 7),
        lambda: edit_limits.inpaint_request(board(), 100, 10, 7, 7),
    ],
)
def test_what_is_out_of_range_is_refused_not_clamped(make):
    with pytest.raises(DDPMHubError):
        make()


# ---- what goes out ------------------------------------------------------------------------------
EXPERIMENTS = {
    "coding": lambda: coding.coding(edit_limits.coding_request(board(), 5, 3)),
    "losses": lambda: losses.losses(edit_limits.loss_request(board(), 3, 3)),
    "sketch": lambda: edits.sketch(edit_limits.sketch_request(board(), "ddim", 5, 3)),
    "inpaint": lambda: edits.inpaint(edit_limits.inpaint_request(board(), 5, 2, 2, 3)),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_tool_says_something_at_once_then_moves_and_ends_with_all_there_is(name):
    messages = list(EXPERIMENTS[name]().messages())
    assert messages[0]["state"] == "running" and not messages[0].get("points")
    progress = [m["progress"] for m in messages[:-1]]
    assert progress == sorted(progress) and len(set(progress)) > 2
    assert messages[-1]["state"] == "done" and messages[-1]["complete"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_same_request_gives_the_same_pictures(name):
    first, second = (list(EXPERIMENTS[name]().messages())[-1] for _ in range(2))
    key = "points" if "points" in first else "pictures"
    assert first[key] == second[key]


def test_a_chain_is_complete_or_quadratic_and_always_ends_at_the_picture():
    assert coding.chain(1000, 1000) == list(range(999, -2, -1))
    ts = coding.chain(1000, 50)
    assert ts[0] == 999 and ts[-2:] == [0, -1]
    steps = -np.diff(ts)
    assert (steps > 0).all() and (np.diff(steps) <= 1).all()  # shorter towards the picture


@pytest.mark.parametrize("objective", ["pred_noise", "pred_x0", "pred_v"])
def test_the_training_loss_is_p_losses_for_every_objective(objective):
    torch.manual_seed(0)
    network = ddpm_hub.Unet(dim=8, dim_mults=(1, 2), channels=1)
    diffusion = ddpm_hub.GaussianDiffusion(
        network, image_size=8, timesteps=20, objective=objective, min_snr_loss_weight=True
    )
    x0, eps = torch.rand(3, 1, 8, 8) * 2 - 1, torch.randn(3, 1, 8, 8)
    for t in (0, 7, 19):
        at = torch.full((3,), t)
        with torch.no_grad():
            expected = diffusion.eval().p_losses(x0, at, eps, loss_reduction="none")
        got = losses.errors_at(diffusion, x0, t, eps)["loss"]
        # by way of x0 and eps where the network says v: at the ends that costs digits
        torch.testing.assert_close(got, expected, rtol=2e-3, atol=1e-6)


def test_a_chart_sends_a_point_once_and_at_the_end_all_with_their_pictures():
    chart, picture = Chart(), torch.rand(1, 1, 2, 2)
    chart.put(1, "one", {"t": 1.0}, {"x0": picture})
    chart.put(0, "nought", {"t": 0.0})
    first = chart.message("running", progress=0.5)
    assert [p["index"] for p in first["points"]] == [0, 1]
    assert chart.message("running")["points"] == []
    chart.put(1, "one, corrected", {"t": 1.0})
    last = chart.message("done", complete=True)["points"]
    assert last[1]["text"] == "one, corrected"
    assert last[1]["pictures"] == first["points"][1]["pictures"]
