"""What a model makes of images that it was not trained on: its loss by level of noise, bits/dim.

In the room: both as figures that say what they were measured on. Not in the room: the loss itself
(`GaussianDiffusion.p_losses`) and the terms of the bound (likelihood.py). The network computes in
the number format of its weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ddpm_hub.errors import DataError, check_int
from ddpm_hub.evaluate.work import EMA, Progress, Work, finish
from ddpm_hub.inputs import check_images
from ddpm_hub.likelihood import likelihood_stream
from ddpm_hub.model import GaussianDiffusion
from ddpm_hub.randomness import SeededGlobals, generator
from ddpm_hub.runtime import eval_mode
from ddpm_hub.spacings import SPACINGS

BINS = 10
UNLABELLED = {False: "", True: ", without labels"}  # words of a report


@dataclass(frozen=True)
class LossByT:
    """The mean training loss in equal stretches of t, and what it was measured on.

    edges: (bins + 1,); stretch i is edges[i] <= t < edges[i + 1]. errors: standard errors of the
    means, as far as the images go. ema: whether the weights are averaged, None where nobody knows.
    """

    edges: tuple[int, ...]
    losses: tuple[float, ...]
    errors: tuple[float, ...]
    objective: str
    images: int
    data: str
    seed: int
    ema: bool | None
    unlabelled: bool = False  # the network has classes, and was not told the images'

    @property
    def mean(self) -> float:
        """Over all t alike: each stretch counts by its length."""
        widths = [high - low for low, high in pairwise(self.edges)]
        return sum(w * x for w, x in zip(widths, self.losses, strict=True)) / sum(widths)

    def sentence(self) -> str:
        """The curve and what it is of, for people."""
        lines = [
            f"loss by t ({self.objective}, weighted as in training{UNLABELLED[self.unlabelled]}; "
            f"{self.images:,} images of {self.data}, seed {self.seed}, EMA {EMA[self.ema]}): "
            f"{self.mean:.4f} on average"
        ]
        for (low, high), loss, error in zip(
            pairwise(self.edges), self.losses, self.errors, strict=True
        ):
            lines.append(f"  t {low:>4} .. {high - 1:<4}  {loss:.4f} +- {error:.4f}")
        return "\n".join(lines)


@dataclass(frozen=True)
class BitsPerDim:
    """The bound on -log2 p(x0), its parts, and what it was measured on; all in bits/dim.

    total = LT + Lt + L0, where Lt is the sum over the steps; error: the total's standard error, as
    far as the images go.
    """

    total: float
    error: float
    LT: float
    Lt: float
    L0: float
    steps: int  # network calls per image
    variance_type: str
    images: int
    data: str
    seed: int
    ema: bool | None
    unlabelled: bool = False  # as in LossByT

    def sentence(self) -> str:
        """The figure and what it is of, for people."""
        return (
            f"bits/dim: {self.total:.3f} +- {self.error:.3f} at most (LT {self.LT:.4f} + Lt "
            f"{self.Lt:.3f} + L0 {self.L0:.3f}; {self.images:,} images of {self.data}, "
            f"{self.steps} network calls each, variance {self.variance_type}"
            f"{UNLABELLED[self.unlabelled]}, seed {self.seed}, EMA {EMA[self.ema]})"
        )


def loss_stream(
    diffusion: GaussianDiffusion,
    images: Tensor,
    *,
    data: str = "images",
    ema: bool | None = None,
    bins: int = BINS,
    batch_size: int = 50,
    seed: int = 0,
) -> Work[LossByT]:
    """Eq. 14 by stretches of t: each image once in each, t and noise follow from the seed.

    images: uint8 or floats in [0, 1], (N, C, H, W); best such that were not trained on.
    """
    T = diffusion.num_timesteps
    check_int("bins", bins, 1, T)
    check_int("batch_size", batch_size, 1, 100_000)
    edges = [T * i // bins for i in range(bins + 1)]
    floats, losses = _floats(diffusion, images), []
    for i, stretch in enumerate(pairwise(edges)):
        yield Progress("loss by t", i, bins)
        losses.append(_losses(diffusion, floats, stretch, batch_size, seed))
    yield Progress("loss by t", bins, bins)
    return LossByT(
        edges=tuple(edges),
        losses=tuple(part.mean().item() for part in losses),
        errors=tuple(_error(part) for part in losses),
        objective=diffusion.objective,
        images=len(images),
        data=data,
        seed=seed,
        ema=ema,
        unlabelled=_has_classes(diffusion),
    )


def loss_by_t(diffusion: GaussianDiffusion, images: Tensor, **more: Any) -> LossByT:
    """The end of `loss_stream`, which has the arguments."""
    return finish(loss_stream(diffusion, images, **more))


def likelihood_work(
    diffusion: GaussianDiffusion,
    images: Tensor,
    *,
    data: str = "images",
    ema: bool | None = None,
    steps: int | None = None,
    batch_size: int = 64,
    seed: int = 0,
) -> Work[BitsPerDim]:
    """Eq. 5 for images uint8 or in [0, 1], (N, C, H, W), one noise per step.

    steps: all T if None. Fewer are a shorter chain, evenly spaced in log SNR, with a bound of its
    own, which is larger: of the bundled model by 2 % at 100 steps, by 19 % at 25, by 100 % at 10.
    """
    ts, rng = None, generator(torch.device("cpu"), "bits/dim", seed)
    if steps is not None:
        T = diffusion.num_timesteps
        check_int("likelihood_steps", steps, 1, T)
        levels = [diffusion.alpha_bar(t) for t in range(T)]
        ts = SPACINGS["logsnr"](torch.tensor(levels, dtype=torch.float64), steps)
    for progress in likelihood_stream(diffusion, images, rng, batch_size=batch_size, ts=ts):
        yield Progress("bits/dim", progress.done, progress.total)
    found = progress.result
    return BitsPerDim(
        total=found.total.item(),
        error=_error(found.per_image),
        LT=found.LT.item(),
        Lt=found.Lt.sum().item(),
        L0=found.L0.item(),
        steps=len(found.t),
        variance_type=diffusion.variance_type,
        images=len(images),
        data=data,
        seed=seed,
        ema=ema,
        unlabelled=_has_classes(diffusion),
    )


def _has_classes(diffusion: GaussianDiffusion) -> bool:
    return bool(getattr(diffusion.model, "num_classes", None))


def _floats(diffusion: GaussianDiffusion, images: Tensor) -> Tensor:
    levels = images.dtype == torch.uint8
    if levels and not diffusion.auto_normalize:
        raise DataError(
            "images are uint8, and a model with auto_normalize=False scales nothing: pass floats "
            "in the range that it was trained on"
        )
    floats = images.float() / 255 if levels else images
    expected = (diffusion.channels, *diffusion.image_size)
    check_images(floats, expected, True, diffusion.auto_normalize)
    return floats


@torch.no_grad()
def _losses(
    diffusion: GaussianDiffusion, images: Tensor, stretch: tuple[int, int], batch: int, seed: int
) -> Tensor:
    """The loss of each image, (N,) float64, at a random t of the stretch."""
    names = ("loss by t", seed, *stretch)
    rng = generator(torch.device("cpu"), *names)
    t = torch.randint(*stretch, (len(images),), generator=rng)
    found = []
    # the global generators are seeded too: self-conditioning tosses a coin of its own
    with eval_mode(diffusion), SeededGlobals(diffusion.device, *names):
        for part, times in zip(images.split(batch), t.split(batch), strict=True):
            noise = torch.randn(part.shape, generator=rng, dtype=part.dtype)
            x, noise, times = (v.to(diffusion.device) for v in (part, noise, times))
            loss = diffusion.p_losses(diffusion.normalize(x), times, noise, loss_reduction="none")
            found.append(loss.double().cpu())
    return torch.cat(found)


def _error(values: Tensor) -> float:
    """The standard error of a mean."""
    return values.std(correction=0).item() / len(values) ** 0.5
