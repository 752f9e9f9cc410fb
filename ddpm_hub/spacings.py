"""Spacings: which of the T timesteps a shorter run visits.

A spacing is `f(alpha_bar, steps) -> timesteps`: `alpha_bar`, (T,) float64, of the chain as far as
it is run, and 1 <= steps <= T. The result falls strictly from noise to data, `steps` numbers in
0 .. T-1, and ends with -1, clean data.
"""

from collections.abc import Callable

import torch
from torch import Tensor

LAMBDA_MIN = -5.1


def linspace(alpha_bar: Tensor, steps: int) -> list[int]:
    """From T - 1 evenly to -1: [999, 960, 922, ..., -1] at 26 of 1000.

    The reference's own expression, float32 and truncated, so that its pictures come again.
    """
    T = len(alpha_bar)
    if steps == T:
        return list(range(T - 1, -2, -1))
    even = torch.linspace(-1, T - 1, steps + 1, dtype=torch.float32, device="cpu")
    return even.int().flip(0).tolist()


def trailing(alpha_bar: Tensor, steps: int) -> list[int]:
    """Lin et al. 2023, section 3.3: from T - 1 evenly, rounded: [999, 899, ..., 99, -1] at 10."""
    T = len(alpha_bar)
    return [round(T - i * T / steps) - 1 for i in range(steps)] + [-1]


def leading(alpha_bar: Tensor, steps: int) -> list[int]:
    """As many old pipelines do: [900, 800, ..., 0, -1] at 10. It never starts at T - 1.

    Sampling then begins at a level that the noise it begins with is not at: for parity only.
    """
    stride = len(alpha_bar) // steps
    return [i * stride for i in reversed(range(steps))] + [-1]


def logsnr(alpha_bar: Tensor, steps: int) -> list[int]:
    """Lu et al. 2022 (DPM-Solver), section 3.4: evenly in lambda = log(alpha / sigma), to t = 0.

    Where lambda is below -5.1, the end of the linear schedule, there is nothing to see, and other
    schedules spend much of their lambda there: they begin at T - 1, but are even from -5.1 on.
    """
    T = len(alpha_bar)
    if steps == 1:
        return [T - 1, -1]
    falling = 0.5 * (alpha_bar / (1 - alpha_bar)).log().clamp(min=2 * LAMBDA_MIN)
    wanted = torch.linspace(falling[-1].item(), falling[0].item(), steps, dtype=falling.dtype)
    # where lambda changes slowly, neighbours round to one timestep: each gives way to the next,
    # as far as there are timesteps left for those to come
    right = torch.searchsorted(-falling, -wanted).clamp(1, T - 1)
    low, high = falling[right - 1], falling[right]
    nearest = (right - (wanted - high) / (low - high)).round().int().tolist()
    ts = [T - 1]
    for left, t in zip(reversed(range(steps - 1)), nearest[1:], strict=True):
        ts.append(max(min(t, ts[-1] - 1), left))
    return [*ts, -1]


SPACINGS: dict[str, Callable[[Tensor, int], list[int]]] = {
    "linspace": linspace,
    "trailing": trailing,
    "leading": leading,
    "logsnr": logsnr,
}
