"""Section 4.3: a picture as a code, bits spent against the error of what they give.

In the room: the chain, which of its states are shown, and the words. Not in the room: the bound
itself (`ddpm_hub.likelihood`), what may be asked for, messages and stopping (desk.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ddpm_hub import images
from ddpm_hub.app import models
from ddpm_hub.app.experiments.chart import Chart
from ddpm_hub.app.experiments.desk import Experiment, Progress, played
from ddpm_hub.app.experiments.edit_limits import CodingRequest
from ddpm_hub.likelihood import Likelihood, likelihood_stream

MAX_PICTURES = 50  # states that are shown, of however many the chain has


def coding(request: CodingRequest) -> Experiment:
    """The terms of Eq. 5 for one picture, from noise to image, as points of a chart."""
    chart = Chart()
    return Experiment(chart, played(_coding, chart, request))


def chain(T: int, steps: int) -> list[int]:
    """The timesteps visited, with the end -1: quadratic, as in Song et al. 2021 (appendix D.2).

    Most bits are spent in the last few of a thousand steps, so that is where a short chain looks
    closely. Near 0 there are fewer whole numbers than steps: a chain may be a little shorter.
    """
    if steps == T:
        return list(range(T - 1, -2, -1))
    visited = {round((T - 1) * (i / (steps - 1)) ** 2) for i in range(steps)}
    return [*sorted(visited, reverse=True), -1]


def _coding(chart: Chart, request: CodingRequest) -> Iterator[Progress]:
    diffusion = models.load()
    ts = chain(diffusion.num_timesteps, request.steps)
    picture = request.painted.picture.to(diffusion.device)
    shown = diffusion.unnormalize
    every = math.ceil((len(ts) - 1) / MAX_PICTURES)
    rng = torch.Generator(diffusion.device).manual_seed(request.seed)
    for step in likelihood_stream(diffusion, picture, rng, batch_size=1, ts=ts):
        k = step.done - 1
        drawn = k % every == 0 or step.done == step.total
        states = {"xt": shown(step.x), "x0_hat": shown(step.x0), "x0": picture}
        _put(chart, step.result, k, states if drawn else None)
        yield Progress(step.done, step.total, f"network call {step.done} of {step.total}")
    result = step.result
    for k in range(step.total):
        _put(chart, result, k)
    _put(chart, result, step.total, {"xt": picture, "x0_hat": picture, "x0": picture})
    yield Progress(step.total, step.total, _summary(result, picture, request))


def _put(chart: Chart, result: Likelihood, k: int, states: dict[str, Tensor] | None = None) -> None:
    """The k-th state of the chain, 0 the noise: what it cost, what is spent, what is left over."""
    curve = result.rate_distortion()
    t, rate, rmse = (column[k].item() for column in curve)
    before = curve.rate[k - 1].item() if k else 0.0
    total = result.total.item()
    values = {"t": t, "bits": rate - before, "rate": rate, "rmse": rmse}
    chart.put(k, _sentence(int(t), rate, total, rmse), values, states)


def _sentence(t: int, rate: float, total: float, rmse: float) -> str:
    spent = f"{rate:.2f} bits/dim" if math.isnan(total) else f"{rate:.2f} of {total:.2f} bits/dim"
    if t < 0:
        return f"after all {total:.2f} bits/dim the picture is there, exactly"
    return f"t = {t}: after {spent} the error is {rmse:.0f} of 255"


def _summary(result: Likelihood, picture: Tensor, request: CodingRequest) -> str:
    """The bound, and for comparison what a PNG file of the same picture takes."""
    png = 8 * len(images.encode(images.to_pil(picture)[0], "png")) / picture.numel()
    return (
        f"bound {result.total.item():.2f} bits/dim, as a PNG file {png:.2f} · {len(result.t)} "
        f"steps · seed {request.seed} · {models.describe_device()}"
    )
