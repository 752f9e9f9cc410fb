"""What a visitor may ask for: types, ranges and products, refused in one sentence each.

In the room: plain checks on plain values, no torch and no gradio. Gradio enforces its components'
limits, but the endpoints take any JSON, so everything is checked again here. Out-of-range values
are refused, not clamped: a picture must be the one that was asked for.
"""

from __future__ import annotations

import os
import re
import secrets
from typing import NamedTuple

from ddpm_hub.errors import ConfigError, HubError, check_float, check_int, shown

STEPS = (5, 10, 25, 50, 100, 250, 1000)  # what the form offers, where the model has so many
BATCHES = (1, 4, 16)
MAX_BATCH = 16
MAX_SEED = 2**53 - 1  # the largest whole number that survives a JSON round trip through a browser
# Pixels drawn in all steps together: 16 images of 32 x 32 in 1000 steps fit, 64 x 64 in 250.
# It bounds the frames in the browser (about two bytes a pixel) as well as the time.
MAX_WORK = 2**24
MAX_SECONDS = 600  # of one run: a bigger model on a slow machine must not hold the lane for ever

REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
REVISION = re.compile(r"[\w][\w./-]*", re.ASCII)


class Request(NamedTuple):
    """One sampling run, checked. It and the weights determine the picture."""

    model: str
    sampler: str | None
    steps: int | None
    eta: float | None
    batch: int
    seed: int


def request(model, sampler, steps, eta, batch, seed) -> Request:
    """Check what an endpoint was sent. None means: the model's own default, or a new seed.

    Sampler names, and steps against the model's T, are the library's to check.
    """
    return Request(
        model=model_name(model),
        sampler=None if sampler is None else str(sampler),
        steps=None if steps is None else whole("steps", steps, 1, 100_000),
        eta=None if eta is None else float(check_float("eta", eta, 0, 1)),
        batch=whole("batch", batch, 1, MAX_BATCH),
        seed=new_seed() if seed is None else whole("seed", seed, 0, MAX_SEED),
    )


def new_seed() -> int:
    """A fresh seed, short enough to be read aloud and typed again."""
    return secrets.randbelow(1_000_000)


def whole(name: str, value: object, low: int, high: int) -> int:
    """`value` as an int in [low, high]. JSON may say 25.0 for 25; 25.5 and "25" are refused."""
    whole_float = isinstance(value, float) and value.is_integer()
    return check_int(name, int(value) if whole_float else value, low, high)


def model_name(name: object) -> str:
    """ "bundled" or the id of a Hub repository, owner/name. Never a path of this machine."""
    if name is None or name == "bundled":
        return "bundled"
    good = isinstance(name, str) and len(name) <= 96 and REPO_ID.fullmatch(name)
    if not good or ".." in name or os.path.exists(name):
        raise HubError(f'model {shown(name)} is neither "bundled" nor a repository: owner/name')
    return name


def revision_name(revision: object) -> str | None:
    """A branch, tag or commit; None (or "") for the default branch."""
    if revision is None or revision == "":
        return None
    good = isinstance(revision, str) and len(revision) <= 96 and REVISION.fullmatch(revision)
    if not good or ".." in revision:
        raise HubError(f"revision {shown(revision)} is not a branch, tag or commit")
    return revision


def check_work(batch: int, steps: int, image_size: tuple[int, int]) -> None:
    """Refuse a run that would draw more than MAX_WORK pixels in all its steps together."""
    height, width = image_size
    work = batch * steps * height * width
    if work > MAX_WORK:
        raise ConfigError(
            f"{batch} images x {steps} steps x {height}x{width} is {work:,} pixels to draw, "
            f"more than {MAX_WORK:,}: take fewer steps or a smaller batch"
        )
