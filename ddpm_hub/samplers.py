"""Reverse processes as generators: one `Update` for each call of the network.

A sampler is `f(process, predict, x, ts, rng, eta, last) -> Iterator[Update]`, a row of SAMPLERS:

    process   the GaussianProcess: `alpha_bar(t)`, `log_snr(t)` and the equations
    predict   (x, t, x0 of the step before) -> Prediction: x0, and the eps that agrees with it
    x         the state at ts[0], (B, C, H, W)
    ts        timesteps from noise to data with the end included: [999, ..., 0, -1]
    rng       torch.Generator, or None for torch's global one
    eta       share of the ancestral noise, in [0, 1]; None where the sampler has no such choice
    last      the Update before, when a run is continued

It prints nothing, owns no randomness and keeps no secrets: pause is to stop iterating, resume is
to call again with the rest of `ts`. In the room: only them. Which timesteps are visited is
`spacings.py`'s, counting and remembering `streams.py`'s.

In formulas alpha = sqrt(alpha_bar), sigma = sqrt(1 - alpha_bar), lambda = log(alpha / sigma), and
h is a step in lambda. A step goes from level t down to level s.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ddpm_hub.errors import check_choice
from ddpm_hub.randomness import noise_like

if TYPE_CHECKING:
    from ddpm_hub.diffusion import GaussianProcess, Prediction

Predict = Callable[[Tensor, int, "Tensor | None"], "Prediction"]


class Seen(NamedTuple):
    """A state x at level t, and the x0 that the network saw in it."""

    t: int
    x: Tensor
    x0: Tensor


class Update(NamedTuple):
    """What one network call did: x after it, and the x0 and eps predicted before it.

    memory: what else a sampler of several steps must know to go on.
    """

    t: int
    x: Tensor
    x0: Tensor
    eps: Tensor
    memory: tuple[Seen, ...] = ()


def ddpm(
    process: GaussianProcess,
    predict: Predict,
    x: Tensor,
    ts: Sequence[int],
    rng: torch.Generator | None,
    eta: None = None,
    last: Update | None = None,
) -> Iterator[Update]:
    """Algorithm 2 of Ho et al. 2020: x ~ q(x_s | x_t, x0) with the predicted x0 (Eqs. 6-7).

    `ts` may skip steps: alpha_t is then alpha_bar_t / alpha_bar_s (Nichol & Dhariwal 2021). The
    variance lies between beta tilde and beta as the prediction's `share` says (their Eq. 15).
    """
    x0 = last.x0 if last else None
    for t, s in pairwise(ts):
        x0, eps, share = predict(x, t, x0)
        a_t, a_s = process.alpha_bar(t), process.alpha_bar(s)
        alpha = process.alpha(t, s)
        towards_x0 = a_s**0.5 * (1 - alpha) / (1 - a_t)
        x = towards_x0 * x0 + alpha**0.5 * (1 - a_s) / (1 - a_t) * x
        if s >= 0:
            small = (1 - alpha) * (1 - a_s) / (1 - a_t)
            variance = (1 - alpha) ** share * small ** (1 - share)
            x = x + variance**0.5 * noise_like(x, rng)
        yield Update(t, x, x0, eps)


def ddim(
    process: GaussianProcess,
    predict: Predict,
    x: Tensor,
    ts: Sequence[int],
    rng: torch.Generator | None,
    eta: float = 0.0,
    last: Update | None = None,
) -> Iterator[Update]:
    """Eq. 12 of Song et al. 2021. eta=0 is deterministic; eta=1 over all T steps is `ddpm`."""
    x0 = last.x0 if last else None
    for t, s in pairwise(ts):
        x0, eps, _ = predict(x, t, x0)
        a_t, a_s = process.alpha_bar(t), process.alpha_bar(s)
        sigma = eta * ((1 - a_t / a_s) * (1 - a_s) / (1 - a_t)) ** 0.5
        towards_eps = max(1 - a_s - sigma**2, 0) ** 0.5
        if s >= 0:
            # drawn even where sigma is 0, as the reference does: the same seed, the same pictures
            z = noise_like(x, rng)
            x = a_s**0.5 * x0 + towards_eps * eps + sigma * z
        else:
            x = x0
        yield Update(t, x, x0, eps)


def dpmpp_2m(
    process: GaussianProcess,
    predict: Predict,
    x: Tensor,
    ts: Sequence[int],
    rng: torch.Generator | None,
    eta: None = None,
    last: Update | None = None,
) -> Iterator[Update]:
    """DPM-Solver++(2M), Algorithm 2 of Lu et al. 2022 (arXiv:2211.01095): second order, no noise.

    x_s = sigma_s / sigma_t x - alpha_s (e^-h - 1) D, where D continues the line through this x0
    and the one before. First order at the start, and in the step to clean data, which has no h.
    """
    yield from dpmpp_2m_sde(process, predict, x, ts, rng, 0.0, last)


def dpmpp_2m_sde(
    process: GaussianProcess,
    predict: Predict,
    x: Tensor,
    ts: Sequence[int],
    rng: torch.Generator | None,
    eta: float = 1.0,
    last: Update | None = None,
) -> Iterator[Update]:
    """SDE-DPM-Solver++(2M), section 5 of Lu et al. 2022 (arXiv:2211.01095), with a share of noise.

    x_s = sigma_s / sigma_t e^(-eta h) x + alpha_s (1 - e^(-(1 + eta) h)) D
        + sigma_s sqrt(1 - e^(-2 eta h)) z; eta=0 is `dpmpp_2m`, eta=1 the paper's SDE.
    """
    before = Seen(last.t, last.x, last.x0) if last else None
    for t, s in pairwise(ts):
        x0, eps, _ = predict(x, t, before.x0 if before else None)
        D = extrapolated(process, t, s, x0, before)
        a_t, a_s = process.alpha_bar(t), process.alpha_bar(s)
        shrink = decay(process, t, s)  # e^-h
        keep = (1 - a_s) ** 0.5 / (1 - a_t) ** 0.5 * shrink**eta
        x = keep * x + a_s**0.5 * (1 - shrink ** (1 + eta)) * D
        if eta and s >= 0:
            x = x + ((1 - a_s) * (1 - shrink ** (2 * eta))) ** 0.5 * noise_like(x, rng)
        before = Seen(t, x, x0)
        yield Update(t, x, x0, eps)


def heun(
    process: GaussianProcess,
    predict: Predict,
    x: Tensor,
    ts: Sequence[int],
    rng: torch.Generator | None,
    eta: None = None,
    last: Update | None = None,
) -> Iterator[Update]:
    """Algorithm 1 of Karras et al. 2022 (EDM): dx / dsigma = eps by the trapezoidal rule.

    Here x and sigma are EDM's, the schedule's divided by alpha. A timestep that stands twice in
    `ts` is looked at twice: first to correct the step that led there, then to step on from it.
    Not a step from beyond MAX_SIGMA: its length would magnify what the two looks differ in.
    """
    for t, s in pairwise(ts):
        x0, eps, _ = predict(x, t, last.x0 if last else None)
        a_t, a_s = process.alpha_bar(t), process.alpha_bar(s)
        if s < t:  # Euler's step, which is DDIM's
            x = a_s**0.5 * x0 + (1 - a_s) ** 0.5 * eps
        elif last and last.t > t and edm_sigma(a_r := process.alpha_bar(last.t)) <= MAX_SIGMA:
            began = last.x0 + edm_sigma(a_r) * last.eps  # EDM's x at the level above
            slope = (last.eps + eps) / 2
            x = a_t**0.5 * (began + (edm_sigma(a_t) - edm_sigma(a_r)) * slope)
        last = Update(t, x, x0, eps)
        yield last


def unipc(
    process: GaussianProcess,
    predict: Predict,
    x: Tensor,
    ts: Sequence[int],
    rng: torch.Generator | None,
    eta: None = None,
    last: Update | None = None,
) -> Iterator[Update]:
    """UniPC-2, B_2(h), of Zhao et al. 2023 (arXiv:2302.04867): `dpmpp_2m` with a free corrector.

    What the network sees at t first corrects the step that led there (UniC), then makes the
    next (UniP), so that third order costs no call more.
    """
    past = last.memory if last else ()
    for t, s in pairwise(ts):
        x0, eps, _ = predict(x, t, past[-1].x0 if past else None)
        x = corrected(process, past, Seen(t, x, x0))
        D = extrapolated(process, t, s, x0, past[-1] if past else None)
        past = (*past[-1:], Seen(t, x, x0))
        x = exponential_step(process, t, s, x, D)
        yield Update(t, x, x0, eps, past)


SAMPLERS: dict[str, Callable[..., Iterator[Update]]] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_2m_sde": dpmpp_2m_sde,
    "heun": heun,
    "unipc": unipc,
}
MAX_SIGMA = 200  # EDM begins at 80, the linear schedule at 157, the cosine one at 20,000
LOOKS_TWICE = frozenset({"heun"})  # at each level it steps to: half as many levels per call


def default_eta(sampler: str) -> float | None:
    """The share of noise that the sampler takes by itself; None if it has no such choice."""
    check_choice("sampler", sampler, SAMPLERS)
    return inspect.signature(SAMPLERS[sampler]).parameters["eta"].default


def decay(process: GaussianProcess, t: int, s: int) -> float:
    """e^-h = alpha_t sigma_s / (sigma_t alpha_s): 1 for no step, 0 for one to clean data."""
    a_t, a_s = process.alpha_bar(t), process.alpha_bar(s)
    return (a_t * (1 - a_s) / ((1 - a_t) * a_s)) ** 0.5


def edm_sigma(alpha_bar: float) -> float:
    """Karras et al. 2022: sigma / alpha, the noise on an image that is not scaled down."""
    return ((1 - alpha_bar) / alpha_bar) ** 0.5 if alpha_bar else math.inf


def exponential_step(process: GaussianProcess, t: int, s: int, x: Tensor, D: Tensor) -> Tensor:
    """Lu et al. 2022: x_s = sigma_s / sigma_t x - alpha_s (e^-h - 1) D, exact if x0 stays D."""
    a_t, a_s = process.alpha_bar(t), process.alpha_bar(s)
    keep = (1 - a_s) ** 0.5 / (1 - a_t) ** 0.5
    return keep * x + a_s**0.5 * (1 - decay(process, t, s)) * D


def extrapolated(
    process: GaussianProcess, t: int, s: int, x0: Tensor, before: Seen | None
) -> Tensor:
    """D = x0 + h / (2 h_before) (x0 - x0_before): what x0 is about to be half-way from t to s."""
    h, h_before = process.log_snr(s) - process.log_snr(t), math.inf
    if before is not None:
        h_before = process.log_snr(t) - process.log_snr(before.t)
    if before is None or s < 0 or math.isinf(h_before):
        return x0
    return x0 + h / (2 * h_before) * (x0 - before.x0)


def corrected(process: GaussianProcess, past: Sequence[Seen], now: Seen) -> Tensor:
    """UniC of Zhao et al. 2023, Eq. 9: x at now.t again, from the state before and now's x0.

    With two states in `past` of second order, with one of first; without any, x as it is.
    """
    if not past or process.alpha_bar(past[-1].t) == 0:
        return now.x
    at = past[-1]
    h = process.log_snr(now.t) - process.log_snr(at.t)
    e = math.expm1(-h)
    b1 = (e / -h - 1) / e
    change = 0.5 * (now.x0 - at.x0)
    if len(past) == 2 and process.alpha_bar(past[0].t) > 0:
        r = (process.log_snr(past[0].t) - process.log_snr(at.t)) / h
        b2 = ((e / -h - 1) / -h - 0.5) * 2 / e
        share = (b1 - b2) / (1 - r)
        change = share * (past[0].x0 - at.x0) / r + (b1 - share) * (now.x0 - at.x0)
    return exponential_step(process, at.t, now.t, at.x, at.x0 + change)
