"""Sampling runs of the demo: one run as a stream of JSON frames.

In the room: which steps of a run are shown, and how. Not in the room: components (tabs/), models
(models.py), what a visitor may ask for (limits.py), recent runs (runs.py), trainings (job.py), how
a step is made (the library: everything shown is `sample_stream`'s).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from ddpm_hub import images
from ddpm_hub.app import limits, models
from ddpm_hub.errors import ConfigError

YIELD_SECONDS = 0.04  # un-paced, a browser shows almost none of the frames it is sent
MAX_FRAMES = 250  # of one run that are kept: all of a run up to that length


def sample(request: limits.Request) -> Iterator[dict]:
    """One run as frames, one dict for each network call that is kept (all, up to 250 steps).

    {index, total, t, done, seed, steps_per_second, change, x0, x}; `x0` and `x` are data URIs of
    the batch grid, JPEG on the way and PNG (exact) on the last, which also has `png`. `change` is
    the mean |x0 - previous x0|. The last `x` is `diffusion.sample(seed=...)` for these arguments.
    """
    import torch

    diffusion = models.load(request.model)
    stream = _open_stream(diffusion, request)
    previous, clock, keep = None, _Clock(), _Keeper(diffusion, len(stream))
    try:
        for step in stream:
            change = 0.0 if previous is None else (step.x0 - previous).abs().mean().item()
            previous, rate = step.x0, clock.rate_at(step)
            if keep(step):
                yield _frame(diffusion, step, change, rate) | {"seed": request.seed}
    finally:
        stream.close()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _open_stream(diffusion, request: limits.Request):
    steps = min(request.steps or diffusion.sampling_timesteps, diffusion.num_timesteps)
    limits.check_work(request.batch, steps, diffusion.image_size)
    return diffusion.sample_stream(
        request.batch,
        sampler=request.sampler,
        steps=request.steps,
        eta=request.eta,
        seed=request.seed,
        spacing=request.spacing,
        variance_type=request.variance,
        **limits.BOUNDS.get(request.bounds, {}),
    )


class _Clock:
    """Steps per second, without the first step: it pays for warming up. Ends endless runs."""

    def __init__(self) -> None:
        self.started = self.first = time.monotonic()

    def rate_at(self, step) -> float:
        now = time.monotonic()
        if now - self.started > limits.MAX_SECONDS:
            raise ConfigError(
                f"step {step.index + 1} of {step.total} came after {now - self.started:.0f} s, "
                f"more than {limits.MAX_SECONDS}: take fewer steps or a smaller batch"
            )
        if step.index == 0:
            self.first = now
            return 1 / max(now - self.started, 1e-6)
        return step.index / max(now - self.first, 1e-6)


class _Keeper:
    """Which steps of a long run become frames: about 250, evenly in log SNR, first and last."""

    def __init__(self, diffusion, total: int) -> None:
        self.all = total <= MAX_FRAMES
        bars = diffusion.alphas_cumprod.double().cpu().clamp(1e-12, 1 - 1e-12)
        self.log_snr = (bars / (1 - bars)).log().tolist()
        self.spacing = (self.log_snr[0] - self.log_snr[-1]) / MAX_FRAMES
        self.next = float("-inf")

    def __call__(self, step) -> bool:
        if self.all or step.index == step.total - 1:
            return True
        if self.log_snr[step.t] < self.next:
            return False
        self.next = self.log_snr[step.t] + self.spacing
        return True


def _frame(diffusion, step, change: float, rate: float) -> dict:
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
    }
    return frame | {"png": frame["x"]} if done else frame
