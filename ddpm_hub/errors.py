"""The exceptions of ddpm_hub, and the checks that raise them for arguments.

One family, so that one `except DDPMHubError` catches them all. Every message is a sentence that
names the value, the limit and the cure. Programming mistakes inside the library are not here:
they stay Python's own exceptions.
"""

import math
from collections.abc import Iterable
from numbers import Integral, Real


class DDPMHubError(Exception):
    """Base of every error that ddpm_hub raises on purpose."""


class ConfigError(DDPMHubError, ValueError):
    """An argument, or a `config.json`, asks for something that cannot be."""


class WeightsError(DDPMHubError, ValueError):
    """A weights file is missing, damaged, or belongs to another network."""


class CheckpointError(DDPMHubError):
    """A training checkpoint cannot be written or continued from."""


class DataError(DDPMHubError, ValueError):
    """Images are missing, unreadable, or of the wrong kind."""


class HubError(DDPMHubError, OSError):
    """A repository is missing, private, unreachable, or of another kind."""


def check_choice(name: str, value: object, known: Iterable[str]) -> str:
    """`value`, or a ConfigError that lists what is `known`."""
    known = list(known)
    if not isinstance(value, str) or value not in known:
        raise ConfigError(f"unknown {name} {shown(value)}: choose one of {', '.join(known)}")
    return value


def check_int(name: str, value: object, low: int, high: int, hint: str = "") -> int:
    """`value` as an int, or a ConfigError unless it is whole (no bool, no 2.0) in low .. high."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= value <= high:
        cure = hint or f"use a whole number from {low} to {high}"
        raise ConfigError(f"{name} {shown(value)} is not a whole number in {low} .. {high}: {cure}")
    return int(value)


def check_float(name: str, value: object, low: float, high: float, hint: str = "") -> float:
    """`value`, or a ConfigError unless it is a finite number in [low, high]."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        cure = hint or f"use a number from {low:g} to {high:g}"
        raise ConfigError(f"{name} {shown(value)} is outside [{low:g}, {high:g}]: {cure}")
    return value


def check_bool(name: str, value: object) -> bool:
    """`value`, or a ConfigError unless it is True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} {shown(value)} is not a switch: use True or False")
    return value


def shown(value: object, limit: int = 60) -> str:
    """repr(value), cut: a hostile value must not fill the screen it is reported on."""
    try:
        text = repr(value)
    except ValueError:  # ints of over 4,300 digits refuse to be printed
        text = f"a {type(value).__name__} too long to print"
    return text if len(text) <= limit else text[: limit - 3] + "..."
