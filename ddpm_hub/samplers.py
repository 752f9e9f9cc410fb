"""Reverse processes as generators: one `Update` for each call of the network.

A sampler is `f(process, predict, x, ts, rng, eta, last) -> Iterator[Update]`, a row of SAMPLERS:

    process   the GaussianProcess: `alpha_bar(t)` and the equations
    predict   (x, t, x0 of the step before) -> ModelPrediction, x0 clipped and eps in agreement
    x         the state at ts[0], (B, C, H, W)
    ts        timesteps from noise to data with the end included: [999, ..., 0, -1]
    rng       torch.Generator, or None for torch's global one
    eta       share of the ancestral noise, in [0, 1]
    last      the Update before, when a run is continued

It prints nothing, owns no randomness and keeps no secrets: pause is to stop iterating, resume is
to call again with the rest of `ts`. `SampleStream` counts the steps and remembers where it is;
what to sample, and how many, is asked for in `model.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from ddpm_hub.errors import ConfigError, check_int

if TYPE_CHECKING:
    from ddpm_hub.diffusion import GaussianProcess, ModelPrediction

Predict = Callable[[Tensor, int, "Tensor | None"], "ModelPrediction"]


class Update(NamedTuple):
    """What one network call did: x after it, and the x0 and eps predicted before it."""

    t: int
    x: Tensor
    x0: Tensor
    eps: Tensor


class Step(NamedTuple):
    """An `Update` that knows its place: index 0 .. total - 1. Tensors are in [-1, 1]."""

    index: int
    total: int
    t: int
    x: Tensor
    x0: Tensor
    eps: Tensor


def ddpm(
    process: GaussianProcess,
    predict: Predict,
    x: Tensor,
    ts: Sequence[int],
    rng: torch.Generator | None,
    eta: float = 1.0,
    last: Update | None = None,
) -> Iterator[Update]:
    """Algorithm 2 of Ho et al. 2020: x ~ q(x_s | x_t, x0) with the predicted x0 (Eqs. 6-7).

    `ts` may skip steps: alpha_t is then alpha_bar_t / alpha_bar_s (Nichol & Dhariwal 2021). The
    noise is the whole of beta tilde: eta is not asked.
    """
    x0 = last.x0 if last else None
    for t, s in pairwise(ts):
        x0, eps = _x0_eps(predict(x, t, x0))
        a_t, a_s = process.alpha_bar(t), process.alpha_bar(s)
        alpha = a_t / a_s
        towards_x0 = a_s**0.5 * (1 - alpha) / (1 - a_t)
        mean = towards_x0 * x0 + alpha**0.5 * (1 - a_s) / (1 - a_t) * x
        variance = (1 - alpha) * (1 - a_s) / (1 - a_t)
        x = mean + variance**0.5 * noise_like(x, rng) if s >= 0 else mean
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
        x0, eps = _x0_eps(predict(x, t, x0))
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


SAMPLERS: dict[str, Callable[..., Iterator[Update]]] = {"ddpm": ddpm, "ddim": ddim}


def linspace(T: int, steps: int) -> list[int]:
    """`steps` timesteps from T - 1 down, evenly spaced to end at -1, and that end.

    The reference's own expression, float32 and truncated: [999, 960, 922, ...] at 26 of 1000.
    """
    if steps == T:
        return list(range(T - 1, -2, -1))
    return torch.linspace(-1, T - 1, steps + 1).int().flip(0).tolist()


SPACINGS: dict[str, Callable[[int, int], list[int]]] = {"linspace": linspace}


@dataclass(frozen=True)
class SampleState:
    """Where a run stands, complete: `resume_stream` goes on from it bit for bit. Picklable."""

    sampler: str
    ts: tuple[int, ...]  # all of the run, with the end
    eta: float
    classes: Tensor | None
    guidance: float | None
    x: Tensor  # the state at ts[index]
    index: int = 0  # network calls done
    last: Update | None = None
    rng: Tensor | None = None  # the generator's state; None until asked for
    rng_device: str = "cpu"


class SampleStream(Iterator[Step]):
    """The steps of one run, computed as they are asked for.

    Stop whenever you like; `state()` then continues by `GaussianDiffusion.resume_stream`. The
    network runs in eval mode and without gradients during each step and is itself again between.
    """

    def __init__(
        self, process: GaussianProcess, state: SampleState, rng: torch.Generator | None = None
    ):
        self.process, self.rng = process, rng
        self._state = state
        self._updates = SAMPLERS[state.sampler](
            process,
            self._predict,
            state.x,
            state.ts[state.index :],
            rng,
            state.eta,
            state.last,
        )

    def __len__(self) -> int:
        """Network calls of the whole run, those before a pause included."""
        return len(self._state.ts) - 1

    @torch.no_grad()
    def __next__(self) -> Step:
        with eval_mode(self.process):
            update = next(self._updates)
        index = self._state.index
        self._state = replace(self._state, x=update.x, index=index + 1, last=update)
        return Step(index, len(self), *update)

    def close(self) -> None:
        """End the run here; what was yielded stays valid."""
        self._updates.close()

    def state(self) -> SampleState:
        """All that a later run needs to go on as if this one had not been interrupted."""
        device = self.rng.device if self.rng is not None else self.process.device
        state = self.rng.get_state() if self.rng is not None else global_rng_state(device)
        return replace(self._state, rng=state, rng_device=device.type)

    def _predict(self, x: Tensor, t: int, x0: Tensor | None) -> ModelPrediction:
        process, run = self.process, self._state
        return process.model_predictions(
            x,
            torch.full((len(x),), t, device=x.device),
            x0 if process.self_condition else None,
            clip_x_start=process.clip_x_start,
            rederive_pred_noise=True,
            classes=run.classes,
            guidance=run.guidance,
        )


def resumed(process: GaussianProcess, state: SampleState) -> SampleStream:
    """The stream that goes on from `state`, with the random numbers that would have come."""
    check_int("state.index", state.index, 0, len(state.ts) - 1)
    if state.rng is None:
        raise ConfigError("this state has no random generator: take it from stream.state()")
    rng = torch.Generator(state.rng_device)
    rng.set_state(state.rng)
    return SampleStream(process, state, rng)


def noise_like(x: Tensor, rng: torch.Generator | None) -> Tensor:
    """eps ~ N(0, I) shaped like x, drawn on the generator's device: a CPU seed works everywhere."""
    device = x.device if rng is None else rng.device
    return torch.randn(x.shape, generator=rng, device=device, dtype=x.dtype).to(x.device)


def global_rng_state(device: torch.device) -> Tensor:
    """The state of torch's global generator for `device`."""
    if device.type == "cpu":
        return torch.get_rng_state()
    return torch.get_device_module(device).get_rng_state(device)


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode inside, and afterwards for each submodule the mode that it had."""
    training = [m for m in module.modules() if m.training]
    for m in training:
        m.training = False
    try:
        yield
    finally:
        for m in training:
            m.training = True


def _x0_eps(prediction: ModelPrediction) -> tuple[Tensor, Tensor]:
    return prediction.pred_x_start, prediction.pred_noise
