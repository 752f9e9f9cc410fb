"""`config.json`, ours or another project's: reading it as the work of a stranger.

Size, syntax, version and shape of the file are checked here; what the values mean is checked by the
constructors that get them, and what another project's keys mean by `interop/`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ddpm_hub.errors import ConfigError, shown
from ddpm_hub.version import __version__

CONFIG = "config.json"
FORMAT_VERSION = 1
MAX_BYTES = 64 * 1024


def read_config(path: Path) -> dict[str, Any]:
    """Our `config.json` as a dict, after the checks that need no knowledge of any model."""
    config = read_object(path)
    _check_version(config)
    return config


def read_object(path: Path, infinite: bool = False) -> dict[str, Any]:
    """The JSON object in a small file: strict syntax, no key twice.

    infinite: whether NaN and Infinity may stand in it, which are no JSON, but Python writes them.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ConfigError(
            f"{path.name} has {size:,} bytes, over the limit of {MAX_BYTES:,}: "
            "is this really a model's config?"
        )
    try:
        found = json.loads(
            path.read_bytes().decode("utf-8"),
            parse_constant=float if infinite else _no_constant,
            object_pairs_hook=_unique_keys,
        )
    except (ValueError, RecursionError) as error:  # JSONDecodeError and bad UTF-8 are ValueErrors
        raise ConfigError(
            f"{path.name} is not valid JSON ({error}): save the model again"
        ) from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path.name} holds a {type(found).__name__}, not an object: save again")
    return found


def config_section(
    config: dict[str, Any], name: str, allowed: set[str] | None = None
) -> dict[str, Any]:
    """The object `config[name]`, with no key outside `allowed` if that is given."""
    section = config.get(name)
    if not isinstance(section, dict):
        raise ConfigError(
            f"{CONFIG} has no section {name!r} (it has {shown(sorted(config))}): "
            "it is not a config of ddpm_hub"
        )
    unknown = [] if allowed is None else sorted(section.keys() - allowed)
    if unknown:
        raise ConfigError(
            f"{CONFIG} section {name!r} has unknown keys {shown(unknown)}: remove them, or "
            "install the newer ddpm_hub that wrote them"
        )
    return section


def plain(value: Any) -> Any:
    """`value` as JSON gives it back: tuples become lists, numpy's numbers Python's."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def _check_version(config: dict[str, Any]) -> None:
    version = config.get("format_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ConfigError(
            f"{CONFIG} has format_version {shown(version)}: it is not a config of ddpm_hub"
        )
    if version > FORMAT_VERSION:
        raise ConfigError(
            f"{CONFIG} has format_version {version}, this ddpm_hub {__version__} reads up to "
            f"{FORMAT_VERSION}: upgrade ddpm_hub"
        )


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return keys
