"""Hardware: which device, which number format, which memory layout. The one place that knows."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from ddpm_hub.errors import ConfigError, check_choice

PRECISIONS = ("auto", "no", "bf16")


def pick_device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    if torch.accelerator.is_available():
        return torch.accelerator.current_accelerator()
    return torch.device("cpu")


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is in the hardware, so that it is faster and not slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def autocast(device: torch.device, precision: str = "auto") -> AbstractContextManager:
    """The context in which the network runs: bfloat16 by "bf16" or where "auto" finds it."""
    check_choice("mixed_precision", precision, PRECISIONS)
    if precision == "bf16" and device.type not in ("cpu", "cuda"):
        raise ConfigError(f"mixed_precision 'bf16' is not for {device.type}: use 'no'")
    if precision == "bf16" or (precision == "auto" and has_bf16(device)):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def channels_last(module: nn.Module) -> nn.Module:
    """`module` with its convolutions' weights laid out (H, W, C), as fast kernels want them."""
    return module.to(memory_format=torch.channels_last)


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
