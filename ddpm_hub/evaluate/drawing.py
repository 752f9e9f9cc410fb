"""Drawing the samples that are judged: in chunks, by any number of processes, and resumable.

A chunk's pixels are a function of the model, the `Drawing` and the chunk's number alone, so it
does not matter which process draws it, or when. Not in the room: the samplers, and what is made
of the pictures.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ddpm_hub import runtime
from ddpm_hub.config_file import plain
from ddpm_hub.distributed import Team
from ddpm_hub.errors import ConfigError, check_choice, check_int
from ddpm_hub.evaluate.work import Pieces, Progress, Work, finish, folder_of, weights_of
from ddpm_hub.fast import WAYS
from ddpm_hub.images import to_uint8
from ddpm_hub.model import GaussianDiffusion
from ddpm_hub.randomness import mixed_seed

OURS = {"self", "batch_size", "sampler", "steps", "seed", "generator", "noise", "t_start"}
OPTIONS = [
    name
    for name in inspect.signature(GaussianDiffusion.sample_stream).parameters
    if name not in OURS
]
COPY = "bf16, {}"  # the precision of any runtime but "eager", in words


@dataclass(frozen=True)
class Drawing:
    """Which samples: the same Drawing of the same model gives the same pictures.

    n: how many. The first ones of more are the same.
    sampler, steps: as `sample_stream` takes them; None is what the model does by default.
    batch_size: pictures drawn at once. Another one gives other pictures.
    mixed_precision: the number format of the network: "no", "bf16", "fp16" or "auto".
    runtime: "eager", or a fast copy of the network as `accelerated` makes it: "packed" for CPUs,
        "graphed" for GPUs, ... These are bfloat16 by themselves.
    options: more arguments of `sample_stream`: eta, spacing, classes, guidance, ...

    Raises ConfigError for what cannot be; drawing itself where this machine cannot do it.
    """

    n: int = 1000  # papers take 50,000; so many a laptop draws while one waits
    sampler: str | None = None
    steps: int | None = None
    seed: int = 0
    batch_size: int = 50
    mixed_precision: str = "no"
    runtime: str = "eager"  # not "auto": what is drawn must not depend on a stopwatch
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        check_int("samples", self.n, 2, 1_000_000)
        check_int("seed", self.seed, 0, 2**63 - 1)
        check_int("batch_size", self.batch_size, 1, 100_000)
        check_choice("mixed_precision", self.mixed_precision, runtime.PRECISIONS)
        check_choice("runtime", self.runtime, tuple(WAYS))
        if self.runtime != "eager" and self.mixed_precision != "no":
            raise ConfigError(
                f"runtime {self.runtime!r} is bfloat16 by itself: leave mixed_precision 'no'"
            )
        for name in self.options:
            check_choice("sampling option", name, OPTIONS)


class Samples(NamedTuple):
    """images uint8 (n, C, H, W), and all that they depend on, plain values."""

    images: Tensor
    about: dict[str, Any]


def about(diffusion: GaussianDiffusion, drawing: Drawing) -> dict[str, Any]:
    """All that the pixels depend on, defaults filled in: what the cache is keyed by."""
    stream = _stream(diffusion, drawing, 0)
    state = stream.state()
    net = getattr(diffusion.model, "_orig_mod", diffusion.model)
    return {
        "weights": weights_of(diffusion),
        "diffusion": plain(diffusion.config),
        "network": [type(net).__name__, plain(getattr(net, "config", None) or {})],
        "sampler": state.sampler,
        "steps": len(stream),
        "spacing": drawing.options.get("spacing") or "linspace",
        "times": list(state.ts),
        "eta": state.eta,
        "options": _plain_options(drawing.options),
        "seed": drawing.seed,
        "batch_size": drawing.batch_size,
        "precision": _autocast(diffusion, drawing)
        if drawing.runtime == "eager"
        else COPY.format(drawing.runtime),
        "device": diffusion.device.type,
    }


def folder(diffusion: GaussianDiffusion, drawing: Drawing, cache: str | Path) -> Path:
    """Where in `cache` the chunks of this drawing lie, chunk-00000.npy and so on."""
    return folder_of(cache, "samples", about(diffusion, drawing))


def draw_stream(
    diffusion: GaussianDiffusion,
    drawing: Drawing,
    *,
    cache: str | Path | None = None,
    team: Team | None = None,
) -> Work[Samples]:
    """Draw what the cache does not hold yet; a Progress after each network call.

    With a `team` of several processes the missing chunks are dealt out; `cache` must then be a
    folder that all of them see, and each of them gets all samples.
    """
    team = team or Team()
    if team.size > 1 and cache is None:
        raise ConfigError(f"{team.size} processes share samples through a cache: name a folder")
    facts = about(diffusion, drawing)
    fast = diffusion.accelerated(drawing.runtime, drawing.batch_size)
    count = -(-drawing.n // drawing.batch_size)
    pieces = Pieces(folder_of(cache, "samples", facts), count, facts)
    missing = pieces.missing()
    if team.leads:
        pieces.open()
    _wait(team, diffusion.device)  # nobody draws before all have seen what is missing
    with _layout(fast, _autocast(diffusion, drawing)):
        yield from _draw(fast, drawing, pieces, missing[team.rank :: team.size])
    _wait(team, diffusion.device)
    return Samples(torch.from_numpy(pieces.joined())[: drawing.n], facts)


def _draw(
    diffusion: GaussianDiffusion, drawing: Drawing, pieces: Pieces, numbers: list[int]
) -> Work[None]:
    steps, precision = pieces.about["steps"], _autocast(diffusion, drawing)
    for done, k in enumerate(numbers):
        if pieces.has(k):  # another run that shares the cache was faster
            continue
        stream = _stream(diffusion, drawing, k)
        for step in range(steps):
            # only around the step: what the caller computes between two is his own business
            with runtime.autocast(diffusion.device, precision):
                x = next(stream).x
            yield Progress("samples", done * steps + step + 1, len(numbers) * steps)
        pixels = to_uint8(diffusion.unnormalize(x)).transpose(0, 3, 1, 2)
        pieces.put(k, np.ascontiguousarray(pixels))


def draw_samples(
    diffusion: GaussianDiffusion, drawing: Drawing, *, cache: str | Path | None = None
) -> Samples:
    """The end of `draw_stream`, in this process alone."""
    return finish(draw_stream(diffusion, drawing, cache=cache))


def _stream(diffusion: GaussianDiffusion, drawing: Drawing, chunk: int):
    return diffusion.sample_stream(
        drawing.batch_size,
        sampler=drawing.sampler,
        steps=drawing.steps,
        seed=mixed_seed("evaluation", drawing.seed, chunk),
        **drawing.options,
    )


def _autocast(diffusion: GaussianDiffusion, drawing: Drawing) -> str:
    """The number format that autocast puts the network in: "no", "bf16" or "fp16"."""
    return runtime.precision(diffusion.device, drawing.mixed_precision)


def _plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as JSON takes them, without what is None or already said by times and eta."""
    said = ("spacing", "eta")
    given = {k: v for k, v in options.items() if v is not None and k not in said}
    return {k: plain(v.tolist() if isinstance(v, Tensor) else v) for k, v in given.items()}


def _wait(team: Team, device: torch.device) -> None:
    team.sum(torch.zeros(1, device=device))


@contextmanager
def _layout(module: nn.Module, precision: str) -> Iterator[None]:
    """Half precision is fastest with the channels last; afterwards all lies as it lay."""
    if precision == "no":
        yield
        return
    others = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.weight.is_contiguous()]
    runtime.channels_last(module)
    try:
        yield
    finally:
        for part in others:
            part.to(memory_format=torch.contiguous_format)
