"""Sample quality as one figure that says what it is of: metric, samples, reference, weights.

In the room: samples and real images through a feature network to a distance. Not in the room: how
samples are drawn (drawing.py) and features made (features.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ddpm_hub.distributed import Team
from ddpm_hub.errors import DataError, DDPMHubError
from ddpm_hub.evaluate.distance import frechet_distance, moments
from ddpm_hub.evaluate.drawing import Drawing, draw_stream
from ddpm_hub.evaluate.features import FeatureNetwork, computed, feature_stream
from ddpm_hub.evaluate.work import EMA, Work, finish
from ddpm_hub.hub.sources import open_source
from ddpm_hub.model import GaussianDiffusion


@dataclass(frozen=True)
class Quality:
    """A figure of sample quality and all that it depends on. Lower is better, 0 is the same.

    ema: whether the weights are an average over training; None where nobody knows.
    eta: None where the sampler does not ask for it.
    """

    metric: str
    value: float
    features: str
    sampler: str
    steps: int  # network calls per batch
    spacing: str
    eta: float | None
    options: dict[str, Any]
    samples: int
    batch_size: int
    seed: int
    precision: str
    device: str
    weights: str
    ema: bool | None
    reference: str
    reference_images: int

    def sentence(self) -> str:
        """The figure and what it is of, for people."""
        eta = "" if self.eta is None else f", eta {self.eta:g}"
        more = "".join(f", {name} {value}" for name, value in self.options.items())
        network = "" if self.features in self.metric else f"; features {self.features}"
        return (
            f"{self.metric}: {self.value:.3f} ({self.samples:,} samples of {self.sampler}, "
            f"{self.steps} network calls, spacing {self.spacing}{eta}{more}, seed {self.seed}, "
            f"batches of {self.batch_size}, precision {self.precision} on {self.device}, "
            f"EMA {EMA[self.ema]}, against {self.reference_images:,} images of "
            f"{self.reference}{network})"
        )


def is_averaged(model: str | Path, revision: str | None = None) -> bool | None:
    """Whether the weights that `from_pretrained(model)` opens are an average over training.

    Training writes the average, and beside it training.json, which says how it was made. Without
    that file nobody knows: None.
    """
    try:
        path = open_source(model, revision=revision).fetch("training.json")
        report = json.loads(path.read_text(encoding="utf-8"))
        return report["config"]["ema_decay"] > 0
    except (DDPMHubError, OSError, ValueError, LookupError, TypeError):
        return None


def quality_work(
    samples: Tensor,
    reference: Tensor,
    network: FeatureNetwork,
    *,
    cache: str | Path | None = None,
) -> Work[float]:
    """The distance between two sets of images uint8 (N, C, H, W), with progress."""
    _check_shapes(tuple(samples.shape[1:]), reference)
    theirs = moments((yield from feature_stream(reference, network, cache=cache)))
    ours = moments((yield from feature_stream(samples, network, cache=cache)))
    return frechet_distance(ours, theirs)


def quality_of(
    samples: Tensor,
    reference: Tensor,
    network: FeatureNetwork,
    *,
    cache: str | Path | None = None,
) -> float:
    """The distance that `network.metric` names between two sets of images, uint8 (N, C, H, W)."""
    return finish(quality_work(samples, reference, network, cache=cache))


def quality_stream(  # noqa: PLR0913  what a figure depends on, each by its name
    diffusion: GaussianDiffusion,
    drawing: Drawing,
    reference: Tensor,
    network: FeatureNetwork,
    *,
    reference_name: str = "images",
    ema: bool | None = None,
    cache: str | Path | None = None,
    team: Team | None = None,
) -> Work[Quality | None]:
    """Draw samples and compare them with `reference`; None in processes that do not lead.

    reference: uint8 (N, C, H, W). ema: whether these weights are averaged, if you know.
    """
    # what cannot be compared says so now, and not after hours of drawing
    _check_shapes((diffusion.channels, *diffusion.image_size), reference)
    computed(reference[:1], network)
    samples = yield from draw_stream(diffusion, drawing, cache=cache, team=team)
    if team is not None and not team.leads:
        return None
    value = yield from quality_work(samples.images, reference, network, cache=cache)
    facts = samples.about
    return Quality(
        metric=network.metric,
        value=value,
        features=network.name,
        sampler=facts["sampler"],
        steps=facts["steps"],
        spacing=facts["spacing"],
        eta=facts["eta"],
        options=facts["options"],
        samples=drawing.n,
        batch_size=drawing.batch_size,
        seed=drawing.seed,
        precision=facts["precision"],
        device=facts["device"],
        weights=facts["weights"][:16],
        ema=ema,
        reference=reference_name,
        reference_images=len(reference),
    )


def sample_quality(
    diffusion: GaussianDiffusion,
    drawing: Drawing,
    reference: Tensor,
    network: FeatureNetwork,
    **more: Any,
) -> Quality:
    """The end of `quality_stream`, which has the arguments."""
    return finish(quality_stream(diffusion, drawing, reference, network, **more))


def _check_shapes(ours: tuple[int, ...], reference: Tensor) -> None:
    if ours != tuple(reference.shape[1:]):
        raise DataError(
            f"samples of {ours} and reference images of {tuple(reference.shape[1:])} cannot be "
            "compared: bring them to one size"
        )
