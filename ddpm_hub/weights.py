"""Weights into a module, after all that can be told before a number is read.

Names, shapes and kinds of number must be those of the module: a file's header says them. Which
name belongs to which is for the caller to say; how a pickle is read is for `pickles.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ddpm_hub.errors import WeightsError, shown
from ddpm_hub.pickles import read_pickle

Rename = Callable[[list[str]], dict[str, str]]  # {name in the file: name in the model}
FLOATS = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}  # safetensors' names, and bytes
STRETCH = 2**26  # bytes of a file that are mapped at once: they count as memory until let go


def fill(model: nn.Module, path: Path, rename: Rename, *, strict: bool = True) -> None:
    """`load_weights`, or `load_state` of a pickle, which came this far because it was asked for."""
    if path.suffix == ".safetensors":
        load_weights(model, path, rename, strict=strict)
    else:
        load_state(model, read_pickle(path), rename, strict=strict)


def load_weights(model: nn.Module, path: Path, rename: Rename, *, strict: bool = True) -> None:
    """Copy the tensors of a safetensors file into `model`, after checking all their headers.

    Needs the memory of the model and little more. Raises WeightsError if the file is damaged, or
    belongs to another network (`strict=False` lets missing and surplus names pass).
    """
    own = clean_state(model)
    try:
        wanted = _wanted(path, rename, own, strict)
        for stretch in _stretches(wanted, own):
            with safe_open(path, framework="pt", device="cpu") as file, torch.no_grad():
                for name in stretch:
                    own[wanted[name]].copy_(file.get_tensor(name))
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path.name} cannot be read ({error}): download or save it again"
        ) from error


def load_state(
    model: nn.Module, state: Mapping[str, Any], rename: Rename, *, strict: bool = True
) -> None:
    """The same, from tensors by name that are in memory already."""
    own = clean_state(model)
    names = rename(list(state))
    _check_names(names, own, strict)
    wanted = {name: own_name for name, own_name in names.items() if own_name in own}
    for name, own_name in wanted.items():
        tensor = state[name]
        if not isinstance(tensor, Tensor):
            raise WeightsError(f"{shown(name)} is a {type(tensor).__name__}, not a tensor")
        kind = str(tensor.dtype).removeprefix("torch.")
        _check(own_name, tuple(tensor.shape), kind, tensor.is_floating_point(), own[own_name])
    with torch.no_grad():
        for name, own_name in wanted.items():
            own[own_name].copy_(state[name])


def clean_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict under the names it has without torch.compile's wrapper."""
    return {k.replace("_orig_mod.", ""): v.detach() for k, v in module.state_dict().items()}


def apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each in memory of its own, in the usual layout: safetensors refuses weights that are tied."""
    found: dict[str, Tensor] = {}
    known = set()
    for name, tensor in state.items():
        place = tensor.untyped_storage().data_ptr()
        usual = torch.contiguous_format
        found[name] = tensor.clone(memory_format=usual) if place in known else tensor.contiguous()
        known.add(place)
    return found


def _wanted(path: Path, rename: Rename, own: dict[str, Tensor], strict: bool) -> dict[str, str]:
    """{name in the file: own name} of all that will be read, in the file's order; checked."""
    with safe_open(path, framework="pt", device="cpu") as file:
        names = rename(list(file.offset_keys()))
        _check_names(names, own, strict)
        wanted = {name: own_name for name, own_name in names.items() if own_name in own}
        for name, own_name in wanted.items():
            header = file.get_slice(name)
            kind = str(header.get_dtype())
            _check(own_name, tuple(header.get_shape()), kind, kind in FLOATS, own[own_name])
    return wanted


def _stretches(wanted: dict[str, str], own: dict[str, Tensor]) -> Iterator[list[str]]:
    """The names, in lists of tensors that together are no larger than STRETCH (or one alone)."""
    stretch, size = [], 0
    for name, own_name in wanted.items():
        if stretch and size + own[own_name].nbytes > STRETCH:
            yield stretch
            stretch, size = [], 0
        stretch.append(name)
        size += own[own_name].nbytes
    yield stretch


def _check_names(names: dict[str, str], own: dict[str, Tensor], strict: bool) -> None:
    found = set(names.values())
    if len(found) < len(names):
        raise WeightsError("two weights of the file have one name here: it is damaged")
    missing, surplus = sorted(own.keys() - found), sorted(found - own.keys())
    if strict and (missing or surplus):
        raise WeightsError(
            f"the weights do not belong to this config: {len(missing)} are missing "
            f"{shown(missing[:3])}, {len(surplus)} are not known {shown(surplus[:3])}"
        )


def _check(name: str, shape: tuple[int, ...], kind: str, is_float: bool, own: Tensor) -> None:
    if shape != tuple(own.shape) or not is_float:
        raise WeightsError(
            f"{name} is {shown(kind)} {shown(shape)}, the config asks for floats "
            f"{tuple(own.shape)}: weights and config do not belong together"
        )
