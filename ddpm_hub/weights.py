"""Weights on disk: a safetensors file into a module, after all that its header can tell.

A header is checked before any number is read: names, shapes and kinds of number must be those of
the module. Pickles are not read here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ddpm_hub.errors import WeightsError, shown

FLOATS = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}  # safetensors' names


def load_weights(
    model: nn.Module,
    path: Path,
    rename: Callable[[list[str]], dict[str, str]],
    *,
    strict: bool = True,
) -> None:
    """Copy the tensors of a safetensors file into `model`, after checking all their headers.

    `rename` tells {name in the file: name in the model} for all names in the file.
    """
    own = clean_state(model)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = rename(list(file.keys()))
            _check_names(set(names.values()), own, strict)
            for name, own_name in names.items():
                if own_name in own:
                    _check_header(file.get_slice(name), own_name, own[own_name])
            state = {o: file.get_tensor(n) for n, o in names.items() if o in own}
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path.name} cannot be read ({error}): download or save it again"
        ) from error
    with torch.no_grad():
        for name, tensor in state.items():
            own[name].copy_(tensor)


def clean_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict under the names it has without torch.compile's wrapper."""
    return {k.replace("_orig_mod.", ""): v.detach() for k, v in module.state_dict().items()}


def _check_names(found: set[str], own: dict[str, Tensor], strict: bool) -> None:
    missing, surplus = sorted(own.keys() - found), sorted(found - own.keys())
    if strict and (missing or surplus):
        raise WeightsError(
            f"the weights do not belong to this config: {len(missing)} are missing "
            f"{shown(missing[:3])}, {len(surplus)} are not known {shown(surplus[:3])}"
        )


def _check_header(header: Any, name: str, own: Tensor) -> None:
    shape, dtype = tuple(header.get_shape()), str(header.get_dtype())
    if shape != tuple(own.shape) or dtype not in FLOATS:
        raise WeightsError(
            f"{name} is {dtype} {shape}, the config asks for floats "
            f"{tuple(own.shape)}: weights and config do not belong together"
        )
