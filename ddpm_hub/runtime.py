"""Hardware: which device, which number format, which memory layout. The one place that knows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from ddpm_hub.errors import ConfigError, check_choice

PRECISIONS = ("auto", "no", "bf16", "fp16")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device() -> torch.device:
    """The accelerator if there is one, of several that of this process, else the CPU."""
    if torch.accelerator.is_available():
        name = torch.accelerator.current_accelerator().type
        return torch.device(name, int(os.getenv("LOCAL_RANK", "0")))
    return torch.device("cpu")


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is in the hardware, so that it is faster and not slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def precision(device: torch.device, wanted: str = "auto") -> str:
    """ "no", "bf16" or "fp16": what `wanted` means on this device.

    "auto" is bf16 where the hardware has it, fp16 on GPUs that are too old for that, else "no".
    Raises ConfigError for what the device does not offer.
    """
    check_choice("mixed_precision", wanted, PRECISIONS)
    if wanted == "auto":
        if has_bf16(device):
            return "bf16"
        return "fp16" if device.type == "cuda" else "no"
    if wanted != "no" and device.type not in ("cpu", "cuda"):
        raise ConfigError(f"mixed_precision {wanted!r} is not for {device.type}: use 'no'")
    return wanted


def autocast(device: torch.device, wanted: str = "auto") -> AbstractContextManager:
    """The context in which the network runs, in the number format that `precision` finds."""
    dtype = DTYPES.get(precision(device, wanted))
    return torch.autocast(device.type, dtype) if dtype else nullcontext()


def has_room(size: int, device: torch.device) -> bool:
    """Whether `size` bytes may stay on the device for good: a quarter of what is free there."""
    if device.type != "cuda":
        return device.type == "cpu"  # they are there already
    return size < torch.cuda.mem_get_info(device)[0] // 4


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode inside, and afterwards for each submodule the mode that it had."""
    training = [m for m in module.modules() if m.training]
    for m in training:
        m.training = False
    try:
        yield
    finally:
        for m in training:
            m.training = True


def channels_last(module: nn.Module) -> nn.Module:
    """`module` with its convolutions' weights laid out (H, W, C), as fast kernels want them.

    Of no other weight, though some have four axes: an attention's memory gains nothing by it.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.to(memory_format=torch.channels_last)
    return module


def compile(module: nn.Module) -> nn.Module:
    """torch.compile in place: the state dict keeps its names, unlike behind a wrapper."""
    module.compile()
    return module


def leave_a_core() -> None:
    """Compute on one CPU thread less than there is, at least one: a server must also get a turn.

    With every core computing, a page on two cores got its frames all at once when the run was over.
    """
    torch.set_num_threads(max(1, torch.get_num_threads() - 1))


def describe(device: torch.device) -> str:
    """The device in words: "cpu, 2 threads" or "cuda, NVIDIA H100"."""
    if device.type == "cpu":
        return f"cpu, {torch.get_num_threads()} threads"
    if device.type == "cuda":
        return f"cuda, {torch.cuda.get_device_name(device)}"
    return device.type
