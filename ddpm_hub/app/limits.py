"""What a visitor may ask for: types, ranges and products, refused in one sentence each.

In the room: plain checks on plain values, no torch and no gradio. Gradio enforces its components'
limits, but the endpoints take any JSON, so everything is checked again here. Out-of-range values
are refused, not clamped: a picture must be the one that was asked for.

Over 300 lines: each bound of the demo stands here, and nowhere else.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, NamedTuple

from ddpm_hub.config import PRESETS, TrainConfig
from ddpm_hub.errors import (
    ConfigError,
    DataError,
    HubError,
    check_bool,
    check_choice,
    check_float,
    check_int,
    shown,
)

STEPS = (5, 10, 25, 50, 100, 250, 1000)  # what the form offers, where the model has so many
BATCHES = (1, 4, 16)
MAX_BATCH = 16
MAX_CLASS = 999_999  # of any network; the model's own number is the library's to check
MAX_SEED = 2**53 - 1  # the largest whole number that survives a JSON round trip through a browser
# Pixels drawn in all steps together: 16 images of 32 x 32 in 1000 steps fit, 64 x 64 in 250.
# It bounds the frames in the browser (about three bytes a pixel) as well as the time.
MAX_WORK = 2**24
MAX_SECONDS = 600  # of one run: a bigger model on a slow machine must not hold the lane for ever

# Training. Presets for photographs need a GPU for hours; these two show something on a CPU.
TRAIN_PRESETS = ("tiny", "fashion")
MAX_TRAIN_STEPS = 20_000
MINUTES = 30.0  # unless somebody says otherwise: a forgotten run must end
MAX_MINUTES = 240.0
COPY_SECONDS = 120.0  # at least, between two pushes of one training to its visitor's repo
# Fields of TrainConfig that a visitor may set, in the order of the form: numbers with their least
# and greatest value, words with what they may be, switches with nothing.
OPTIONS: dict[str, tuple] = {
    "train_batch_size": (1, 128),
    "train_lr": (1e-6, 0.1),
    "lr_schedule": ("constant", "cosine"),
    "lr_warmup_steps": (0, 2000),
    "ema_decay": (0.0, 0.9999),
    "max_grad_norm": (0.01, 100.0),
    "augment_horizontal_flip": (),
    "num_samples": (1, 36),
    "sample_raw": (),
}

# Models of the Hub: what a small machine can hold beside its own work, and not wait for ever for.
MAX_PARAMETERS = 250_000_000
MAX_WEIGHT_BYTES = 1_500_000_000
MAX_README_BYTES = 1_000_000
MAX_SAMPLES_BYTES, MAX_SAMPLES_PIXELS = 2_000_000, 2_000_000
LONGEST_NAME = 96

JOB_ID = re.compile(r"[0-9a-f]{16}")
UPLOAD = re.compile(r"upload:[0-9a-f]{16}")
REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
REVISION = re.compile(r"[\w][\w./-]*", re.ASCII)
OPENED = re.compile(r"opened:[0-9a-f]{32}")


class Request(NamedTuple):
    """One sampling run, checked. It and the weights determine the picture."""

    model: str
    sampler: str | None
    steps: int | None
    eta: float | None
    batch: int
    seed: int
    spacing: str | None = None
    bounds: str | None = None  # a row of BOUNDS: what happens to an x0 outside [-1, 1]
    variance: str | None = None
    classes: int | str | None = None  # one label for all, "random" (by the seed), or none
    guidance: float | None = None
    runtime: str | None = None  # a row of RUNTIMES


# options of `sample_stream` by the names that a visitor chooses from
BOUNDS: dict[str, dict[str, Any]] = {
    "clip": {"clip_x_start": True},
    "dynamic": {"dynamic_threshold": 0.995},  # the quantile of Imagen
    "none": {"clip_x_start": False},
}


# How the network is called: as it is, or by the copy of it that is fastest on this machine. The
# library knows more, but some of those take minutes to be made. {its name: the form's word}
RUNTIMES = {"eager": "exact", "auto": "fast"}


def request(  # noqa: PLR0913  what a visitor may choose
    model,
    sampler,
    steps,
    eta,
    batch,
    seed,
    spacing=None,
    bounds=None,
    variance=None,
    classes=None,
    guidance=None,
    runtime=None,
) -> Request:
    """Check what an endpoint was sent. None means: the model's own default, or a new seed.

    Names of samplers, spacings and variances, steps against the model's T and a class against its
    classes are the library's to check.
    """
    if bounds is not None:
        check_choice("bounds", bounds, BOUNDS)
    if runtime is not None:
        check_choice("runtime", runtime, RUNTIMES)
    return Request(
        model=model_name(model),
        sampler=None if sampler is None else str(sampler),
        steps=None if steps is None else whole("steps", steps, 1, 100_000),
        eta=None if eta is None else float(check_float("eta", eta, 0, 1)),
        batch=whole("batch", batch, 1, MAX_BATCH),
        seed=new_seed() if seed is None else whole("seed", seed, 0, MAX_SEED),
        spacing=None if spacing is None else str(spacing),
        bounds=bounds,
        variance=None if variance is None else str(variance),
        classes=classes if classes in (None, "random") else whole("classes", classes, 0, MAX_CLASS),
        guidance=None if guidance is None else float(check_float("guidance", guidance, 0, 100)),
        runtime=runtime,
    )


def new_seed() -> int:
    """A fresh seed, short enough to be read aloud and typed again."""
    return secrets.randbelow(1_000_000)


def whole(name: str, value: object, low: int, high: int) -> int:
    """`value` as an int in [low, high]. JSON may say 25.0 for 25; 25.5 and "25" are refused."""
    whole_float = isinstance(value, float) and value.is_integer()
    return check_int(name, int(value) if whole_float else value, low, high)


def model_name(name: object) -> str:
    """ "bundled", "job:ID" of a training here, or a repository, owner/name@revision. Never a path.

    Also "opened:KEY", of a model that a visitor's own token opened: whoever has the key may use it.
    """
    if name is None or name == "bundled":
        return "bundled"
    if isinstance(name, str) and name.startswith("job:"):
        return f"job:{job_id(name.removeprefix('job:'))}"
    if isinstance(name, str) and OPENED.fullmatch(name):
        return name
    repo, at, revision = name.partition("@") if isinstance(name, str) else (name, "", "")
    if not is_repo_id(repo):
        raise HubError(f'model {shown(name)} is neither "bundled" nor a repository: owner/name')
    return f"{repo}@{revision_name(revision)}" if at and revision else repo


def is_repo_id(name: object) -> bool:
    """Whether it is owner/name in the Hub's letters, and nothing on this machine."""
    good = isinstance(name, str) and len(name) <= LONGEST_NAME and REPO_ID.fullmatch(name)
    return bool(good) and ".." not in name and not os.path.exists(name)


def repo_name(name: object) -> str:
    """A repository's name as somebody typed or pasted it, its page's address included."""
    text = name.strip() if isinstance(name, str) else name
    if isinstance(text, str):
        page = re.match(r"(https://)?(www\.)?(huggingface\.co|hf\.co)/(?!datasets/|spaces/)", text)
        if page:  # the address may go on: /tree/main, ?library=diffusers
            text = re.sub(r"^([^/?#]+/[^/?#]+)[/?#].*", r"\1", text[page.end() :])
        text = text.rstrip("/")
    if not is_repo_id(text):
        raise HubError(f"{shown(name)} is no repository of the Hub: use owner/name")
    return text


def revision_name(revision: object) -> str | None:
    """A branch, tag or commit; None (or "") for the default branch."""
    if revision is None or revision == "":
        return None
    good = (
        isinstance(revision, str) and len(revision) <= LONGEST_NAME and REVISION.fullmatch(revision)
    )
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


# ---- training -----------------------------------------------------------------------------------
class TrainRequest(NamedTuple):
    """One training, checked. It determines every loss and every picture, on one machine."""

    data: str  # "bundled" or "upload:ID"
    preset: str
    steps: int
    minutes: float
    seed: int
    options: dict[str, Any]  # fields of TrainConfig that differ from the preset's
    start: str | None = None  # the name of the model whose weights it goes on from


def train_request(
    data, preset, steps, seed, minutes=None, options: Mapping | None = None, start=None
) -> TrainRequest:
    """Check what a form or an endpoint asks for. None means: the preset's own, or the default."""
    preset = check_choice("preset", "tiny" if preset is None else preset, TRAIN_PRESETS)
    row = train_row(preset)
    return TrainRequest(
        data=data_name(data),
        preset=preset,
        steps=whole("steps", row.train_num_steps if steps is None else steps, 1, MAX_TRAIN_STEPS),
        minutes=float(
            check_float("minutes", MINUTES if minutes is None else minutes, 0.1, MAX_MINUTES)
        ),
        seed=whole("seed", row.seed if seed is None else seed, 0, MAX_SEED),
        options=train_options(row, options or {}),
        start=None if start is None else str(start)[:LONGEST_NAME],
    )


def train_row(preset: str) -> TrainConfig:
    """A preset's training as the demo runs it: smaller grids, since somebody is waiting for them.

    Also two checkpoints instead of three, each every quarter of a minute: what a crash can cost.
    """
    return replace(
        PRESETS[preset].train,
        num_samples=16,
        sample_steps=25,
        max_minutes=MINUTES,
        save_every_minutes=0.25,
        checkpoints_total_limit=2,
    )


def shape_of(preset: str) -> tuple[int, int, int]:
    """(C, H, W) of the images that a preset's network takes."""
    row = PRESETS[preset]
    side = row.diffusion["image_size"]
    return row.unet.get("channels", 3), *((side, side) if isinstance(side, int) else side)


def train_options(row: TrainConfig, options: Mapping) -> dict[str, Any]:
    """The fields of OPTIONS in which `options` differs from the preset's row, each checked."""
    if not isinstance(options, Mapping):
        raise ConfigError(f"options {shown(options)} is not a table: give names and values")
    checked = {
        check_choice("option", name, OPTIONS): _option(name, value)
        for name, value in options.items()
        if value is not None
    }
    return {name: value for name, value in checked.items() if value != getattr(row, name)}


def _option(name: str, value: object) -> Any:
    kind, bounds = option_type(name), OPTIONS[name]
    if kind is bool:
        return check_bool(name, value)
    if kind is str:
        return check_choice(name, value, bounds)
    if kind is int:
        return whole(name, value, *bounds)
    return float(check_float(name, value, *bounds))


def option_type(name: str) -> type:
    """bool, int, float or str: what that field of TrainConfig takes."""
    default = next(f.default for f in fields(TrainConfig) if f.name == name)
    return type(default)


def data_name(data: object) -> str:
    """ "bundled", or "upload:ID": pictures that this visitor brought. Never a path or a URL."""
    if data is None or data == "bundled":
        return "bundled"
    if not isinstance(data, str) or not UPLOAD.fullmatch(data):
        raise DataError(
            f'data {shown(data)} is neither "bundled" nor pictures uploaded here: choose one of '
            "the two"
        )
    return data


def job_id(job: object) -> str:
    """The id of a training, sixteen hexadecimal digits: whoever has it may control it."""
    if not isinstance(job, str) or not JOB_ID.fullmatch(job):
        raise ConfigError(f"job {shown(job)} is no training here: use the id that its start gave")
    return job
