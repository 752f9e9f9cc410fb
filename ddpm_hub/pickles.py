"""Weights in a pickle, read because somebody asked for it: numbers only, never code.

Nothing on a path from a repo id to a model comes here unless its caller says `allow_pickle`, and
the demo never does: `weights_only` has been got round before (CVE-2025-32434, CVE-2026-24747).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ddpm_hub.errors import WeightsError


def read_pickle(path: str | Path) -> dict[str, Any]:
    """The dict that `torch.save` wrote, tensors on the CPU and mapped from the file.

    Raises WeightsError for anything that is not such a file, or holds more than plain values.
    """
    path = Path(path)
    try:
        found = _load(path)
    except FileNotFoundError as error:
        raise WeightsError(f"there is no file {str(path)!r}: check the path") from error
    except Exception as error:  # of the unpickler, which meets a stranger's bytes
        raise WeightsError(
            f"{path.name} cannot be read as plain weights ({type(error).__name__}): it is damaged, "
            "or holds code, which is never run; ask for a safetensors file"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise WeightsError(
            f"{path.name} holds a {type(found).__name__}, not weights by their names: "
            "save a state_dict()"
        )
    return found


def _load(path: Path) -> Any:
    options = {"map_location": "cpu", "weights_only": True}
    try:
        return torch.load(path, mmap=True, **options)
    except RuntimeError:  # written before torch 1.6, or with its old format: no map of that
        return torch.load(path, **options)
