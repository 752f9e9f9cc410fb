"""What is known of how a model came to be: training.json and evaluation.json, read as facts.

In the room: numbers and words out of files that anybody may have edited, each only where it is of
the right kind; what is not known is left out. Not in the room: how a card or a screen shows them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ddpm_hub.card.markdown import plain

REPORT, EVALUATION = "training.json", "evaluation.json"
LONGEST = 4 * 2**20  # bytes of such a file
HUB = "hub:"
BUNDLED = "zalando-datasets/fashion_mnist"  # what the bundled images were drawn from
VALUES = ("metric", "value", "total", "error", "LT", "Lt", "L0")  # of a figure; the rest is how


class Figure(NamedTuple):
    """A measured number: its kind for machines, its name for people, and what it depends on."""

    kind: str
    name: str
    value: float
    data: str
    protocol: dict[str, Any]


def read_facts(folder: Path) -> dict[str, Any]:
    """`training.json` of a folder, with `evaluation.json` as "evaluation"; {} if there is none."""
    report = read_report(folder / REPORT)
    if evaluation := read_report(folder / EVALUATION):
        report["evaluation"] = evaluation
    return report


def read_report(path: Path) -> dict[str, Any]:
    """The JSON object in a file; {} where there is none that can be read."""
    try:
        return record(json.loads(path.read_bytes())) if path.stat().st_size <= LONGEST else {}
    except (OSError, ValueError, RecursionError):
        return {}


def record(value: object) -> dict[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def is_number(value: object) -> bool:
    """Whether it is a number, finite and of a size that means something."""
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and abs(value) < 1e15


def is_repo_id(text: object) -> bool:
    """Whether it is user/name, or a bare name, of the characters the Hub takes."""
    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return text.isascii()


def data_of(report: dict[str, Any]) -> tuple[str, int | None]:
    """The name of the images, "" if nobody said, and how many they are."""
    data = record(report.get("data"))
    name, images = data.get("name"), data.get("images")
    return plain(name) if isinstance(name, str) else "", images if is_number(images) else None


def dataset_id(name: str) -> str | None:
    """The data set's name on the Hub, if it is there: bundled is Fashion-MNIST."""
    if name == "bundled":
        return BUNDLED
    repo = name.removeprefix(HUB)
    return repo if name.startswith(HUB) and "/" in repo and is_repo_id(repo) else None


def figures(report: dict[str, Any]) -> list[Figure]:
    """What `ddpm-hub eval --json` measured: sample quality and bits/dim, if it did."""
    evaluation = record(report.get("evaluation"))
    quality, bits = (record(evaluation.get(key)) for key in ("quality", "bits_per_dim"))
    name = plain(quality.get("metric", "distance"))
    kind = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "distance"
    found = [
        _figure(kind, name, quality.get("value"), quality),
        _figure("bits_per_dim", "bits/dim, at most", bits.get("total"), bits),
    ]
    return [figure for figure in found if is_number(figure.value)]


def _figure(kind: str, name: str, value: Any, told: dict[str, Any]) -> Figure:
    known = {k: v for k, v in told.items() if k not in VALUES and v not in (None, {})}
    how = {plain(k): v if is_number(v) else plain(v) for k, v in known.items()}
    data = how.get("reference") or how.get("data") or "images"
    return Figure(kind, name, value, str(data), how)


def training_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, value) of a training, in the order in which people ask; values are plain words."""
    config = record(report.get("config"))
    rows = [
        ("Steps", _count(report.get("step"))),
        ("Batch", _batch(config)),
        ("Images seen", _count(report.get("images_seen"))),
        ("Learning rate", _rate(config)),
        ("EMA", _average(config)),
        ("Gradient norm, at most", _value(config.get("max_grad_norm"))),
        ("Number format", _value(config.get("mixed_precision"))),
        ("Mirrored at random", _value(config.get("augment_horizontal_flip"))),
        ("Hardware", _value(report.get("device"))),
        ("Time", _duration(report.get("seconds"))),
        ("Loss at the end", _loss(report)),
        ("Seed", _value(config.get("seed"))),
        ("Made with", _versions(report)),
    ]
    return [(name, value) for name, value in rows if value]


def _batch(config: dict) -> str:
    batch, calls = config.get("train_batch_size"), config.get("gradient_accumulate_every")
    if not is_number(batch):
        return ""
    return f"{batch:,}" + (f" x {calls:,} network calls" if is_number(calls) and calls > 1 else "")


def _rate(config: dict) -> str:
    rate, warmup = config.get("train_lr"), config.get("lr_warmup_steps")
    if not is_number(rate):
        return ""
    words = [f"{rate:g}", "Adam", _value(config.get("lr_schedule"))]
    words += [f"{warmup:,} steps of warm-up"] if is_number(warmup) and warmup else []
    return ", ".join(word for word in words if word)


def _average(config: dict) -> str:
    decay, every = config.get("ema_decay"), config.get("ema_update_every")
    if not is_number(decay):
        return ""
    often = f", every {every:,} steps" if is_number(every) and every > 1 else ""
    return f"decay {decay:g}{often}; these weights are the average"


def _loss(report: dict) -> str:
    """The mean over the last twentieth of the curve: a single step's loss says little."""
    curve = record(report.get("curve")).get("loss")
    losses = [loss for loss in curve if is_number(loss)] if isinstance(curve, list) else []
    losses = losses[-max(1, len(losses) // 20) :]
    if losses:
        return f"{sum(losses) / len(losses):.4g}"
    return f"{report['loss']:.4g}" if is_number(report.get("loss")) else ""


def _versions(report: dict) -> str:
    told = (("ddpm_hub", "ddpm_hub_version"), ("torch", "torch_version"))
    return ", ".join(f"{name} {plain(report[key])}" for name, key in told if report.get(key))


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else plain(value)


def _count(value: object) -> str:
    return f"{value:,}" if is_number(value) else ""


def _duration(seconds: object) -> str:
    """3 h 20 min, 12 min, 40 s."""
    if not is_number(seconds):
        return ""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60:,} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
