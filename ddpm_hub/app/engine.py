"""Sampling runs of the demo: one run as a stream of JSON frames, from its start or from a state.

In the room: what determines a run, which of its steps are shown, and how. Not in the room:
components (tabs/), models (models.py), what a visitor may ask for (limits.py), recent runs
(runs.py), states (states.py), trainings (job.py), how a step is made (the library: everything
shown is `sample_stream`'s).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import torch

from ddpm_hub import images
from ddpm_hub.app import handoff, lane, limits, models, states
from ddpm_hub.errors import ConfigError
from ddpm_hub.streams import SampleState, SampleStream, Step, call_ends

YIELD_SECONDS = 0.04  # un-paced, a browser shows almost none of the frames it is sent
MAX_FRAMES = 250  # of one run that are kept: all of a run up to that length
NOISE_RANGE = 3  # black and white of a pane that shows eps, in standard deviations


class Turn(NamedTuple):
    """After `at` network calls the run goes on with the noise of this seed."""

    at: int
    seed: int


class Plan(NamedTuple):
    """All that determines a run. `state`, if there is one, only saves the way to it. Picklable."""

    request: limits.Request
    start: handoff.Start | None = None  # instead of noise
    turns: tuple[Turn, ...] = ()
    state: SampleState | None = None  # of a run by this plan, tensors on the CPU

    @property
    def first(self) -> int:
        """The first frame that this run does not share with the one it branches from."""
        return self.turns[-1].at if self.turns else 0

    @property
    def seed(self) -> int:
        """The seed of its own noise."""
        return self.turns[-1].seed if self.turns else self.request.seed


def sample(request: limits.Request) -> Iterator[dict]:
    """A whole run as frames, see `draw`. The last `x` is `diffusion.sample(seed=...)`'s.

    With runtime "auto" it is that of `diffusion.accelerated()`.
    """
    with closing(draw(Plan(request))) as drawn:
        for frame, _ in drawn:
            yield frame


def _work(plan: Plan) -> lane.Work:
    images = plan.request.batch * (1 if plan.request.guidance is None else 2)
    return lane.Work(plan.request.model, plan.request.steps or MAX_FRAMES, images)


@lane.gpu(_work)
def draw(plan: Plan) -> Iterator[tuple[dict, SampleState]]:
    """The frames of a run, one for each network call that is kept (all, up to 250 steps).

    A frame is {index, total, t, done, seed, steps_per_second, change, x0, x, eps}; `x0`, `x` and
    `eps` are data URIs of the batch as a grid, JPEG on the way. On the last, x0 and x are PNG
    (exact), and `png` is x; with classes, `labels` has one for each image. `change` is the mean
    |x0 - previous x0|. Beside it is the state after the step, on the CPU: `Plan(state=...)` goes
    on from it bit for bit.
    """
    diffusion = models.load(plan.request.model)
    _check_work(diffusion, plan)
    if plan.request.runtime == "auto":
        diffusion = models.quick(diffusion, plan.request.batch)
    stream = _open_stream(diffusion, plan)
    begun = stream.state()
    shown, clock = _shown(diffusion, begun.ts), _Clock()
    previous = begun.last.x0 if begun.last else None
    labels = _labels(diffusion, plan.request)
    said = {"seed": plan.seed} | ({"labels": labels} if labels else {})
    try:
        for step, state in _turning(diffusion, stream, plan.turns):
            change = 0.0 if previous is None else (step.x0 - previous).abs().mean().item()
            previous, rate = step.x0, clock.rate_at(step)
            if step.index in shown and step.index >= plan.first:
                yield _frame(diffusion, step, change, rate) | said, states.moved(state, "cpu")
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _check_work(diffusion, plan: Plan) -> None:
    """Before anything is computed, even to find out how fast that is."""
    if plan.state is None:
        steps = min(plan.request.steps or diffusion.sampling_timesteps, diffusion.num_timesteps)
        limits.check_work(plan.request.batch, steps, diffusion.image_size)


def _open_stream(diffusion, plan: Plan) -> SampleStream:
    if plan.state is not None:
        return diffusion.resume_stream(states.moved(plan.state, diffusion.device))
    request, start = plan.request, plan.start
    begin = {} if start is None else {"noise": _started(diffusion, plan), "t_start": start.t}
    return diffusion.sample_stream(
        request.batch,
        sampler=request.sampler,
        steps=request.steps,
        eta=request.eta,
        seed=request.seed,
        spacing=request.spacing,
        variance_type=request.variance,
        classes=_labels(diffusion, request),
        guidance=request.guidance,
        **limits.BOUNDS.get(request.bounds, {}),
        **begin,
    )


def _started(diffusion, plan: Plan) -> torch.Tensor:
    """The state a run begins in, once for each image, (B, C, H, W)."""
    x, shape = plan.start.x, (diffusion.channels, *diffusion.image_size)
    if plan.start.model != plan.request.model or x.shape != shape:
        raise ConfigError(
            f"the state to begin from ({plan.start.words}) was made for another model than the one "
            "in use: begin in noise, or make it again in Forward"
        )
    return torch.from_numpy(x).expand(plan.request.batch, *shape).contiguous()


def _labels(diffusion, request: limits.Request) -> list[int] | None:
    """The class of each image: the one that was asked for, or the seed's own choice."""
    if request.classes is None:
        return None
    if request.classes != "random":
        return [request.classes] * request.batch
    count = classes_of(diffusion)
    if count is None:
        raise ConfigError("classes 'random' were asked for, but this model has none: leave it out")
    return random.Random(request.seed).choices(range(count), k=request.batch)


def classes_of(diffusion) -> int | None:
    """How many classes the model knows; None if it was trained without."""
    return getattr(diffusion.model, "num_classes", None)


def _turning(
    diffusion, stream: SampleStream, turns: tuple[Turn, ...]
) -> Iterator[tuple[Step, SampleState]]:
    """The steps of a stream and the states after them, with other noise from each turn on."""
    seeds, state = dict(turns), stream.state()
    while True:
        if state.index in seeds:
            stream = diffusion.resume_stream(states.turned(state, seeds.pop(state.index)))
        step = next(stream, None)
        if step is None:
            return
        state = stream.state()
        yield step, state


class _Clock:
    """Steps per second, without the first step: it pays for warming up. Ends endless runs."""

    def __init__(self) -> None:
        self.started = self.first = time.monotonic()
        self.steps = 0

    def rate_at(self, step: Step) -> float:
        now = time.monotonic()
        if now - self.started > limits.MAX_SECONDS:
            raise ConfigError(
                f"step {step.index + 1} of {step.total} came after {now - self.started:.0f} s, "
                f"more than {limits.MAX_SECONDS}: take fewer steps or a smaller batch"
            )
        self.steps += 1
        if self.steps == 1:
            self.first = now
            return 1 / max(now - self.started, 1e-6)
        return (self.steps - 1) / max(now - self.first, 1e-6)


def _shown(diffusion, ts: tuple[int, ...]) -> set[int]:
    """Which steps of a run become frames: about 250, evenly in log SNR, first and last."""
    times = [ts[end - 1] for end in call_ends(ts)]
    if len(times) <= MAX_FRAMES:
        return set(range(len(times)))
    bars = diffusion.alphas_cumprod.double().cpu().clamp(1e-12, 1 - 1e-12)
    log_snr = (bars / (1 - bars)).log().tolist()
    spacing = (log_snr[0] - log_snr[-1]) / MAX_FRAMES
    chosen, wanted = {len(times) - 1}, -math.inf
    for index, t in enumerate(times):
        if log_snr[t] >= wanted:
            chosen.add(index)
            wanted = log_snr[t] + spacing
    return chosen


def _frame(diffusion, step: Step, change: float, rate: float) -> dict:
    done = step.index == step.total - 1
    x0, x = (images.grid(diffusion.unnormalize(v)) for v in (step.x0, step.x))
    form = "png" if done else "jpeg"
    frame = {
        "index": step.index,
        "total": step.total,
        "t": step.t,
        "done": done,
        "steps_per_second": round(rate, 2),
        "change": round(change, 6),
        "x0": images.data_uri(x0, form),
        "x": images.data_uri(x, form),
        "eps": images.data_uri(images.grid(step.eps / (2 * NOISE_RANGE) + 0.5)),
    }
    return frame | {"png": frame["x"]} if done else frame
