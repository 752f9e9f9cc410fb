"""Two facts about normal distributions that the variational bound is made of, in nats.

In the room: functions of tensors, elementwise, differentiable; used by the loss of a learned
variance and by the likelihood. Not in the room: schedules, networks, bits and means.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 256
HALF_BIN = 1 / (LEVELS - 1)  # the levels lie from -1 to 1, and a bin reaches half way to the next


def widest(device: torch.device) -> torch.dtype:
    """float64, or float32 on Apple's GPUs, which have nothing wider."""
    return torch.float32 if device.type == "mps" else torch.float64


def normal_kl(mean1: Tensor, logvar1: Tensor, mean2: Tensor, logvar2: Tensor) -> Tensor:
    """Eq. 5's KL(N(m1, v1) || N(m2, v2)) = (v1/v2 - 1 - log v1/v2 + (m1 - m2)^2 / v2) / 2.

    Elementwise, broadcast, in nats.
    """
    log_ratio = logvar1 - logvar2
    # expm1: of two nearly equal variances nothing is left but rounding in exp(log_ratio) - 1
    spread = torch.expm1(log_ratio) - log_ratio
    return 0.5 * (spread + (mean1 - mean2).square() * torch.exp(-logvar2))


def discretized_gaussian_log_likelihood(x: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    """Eq. 13: log of the integral of N(means, exp(log_scales)^2) over the bin that x lies in.

    The bins are those of 8-bit images in [-1, 1]: 256 of them, 2/255 wide, and the first and the
    last have no outer end, so that their probabilities sum to 1. Elementwise, in nats, in the
    widest of the arguments' types; no gradient goes to x. The normal distribution is exact (the
    paper's own code has an approximation by tanh, and cuts at 1e-12).
    """
    dtype = torch.promote_types(torch.promote_types(x.dtype, means.dtype), log_scales.dtype)
    wide = widest(means.device)  # a bin is thin: float32 would leave 5 digits of it
    x, means, log_scales = (v.to(wide) for v in (x, means, log_scales))
    level = ((x + 1) / (2 * HALF_BIN)).round().clamp(0, LEVELS - 1)
    per_scale = torch.exp(-log_scales)
    centre, half = (2 * HALF_BIN * level - 1 - means) * per_scale, HALF_BIN * per_scale
    open_end = _log_phi(torch.where(level == 0, half + centre, half - centre))
    inner = _log_probability(centre, half)
    return torch.where((level == 0) | (level == LEVELS - 1), open_end, inner).to(dtype)


def _log_probability(centre: Tensor, half: Tensor) -> Tensor:
    """log(Phi(centre + half) - Phi(centre - half)), mirrored to the left tail, where Phi is exact.

    Out there both are too small to subtract, so it is done as Phi(high) (1 - Phi(low) / Phi(high)).
    """
    low, high = _log_phi(-centre.abs() - half), _log_phi(-centre.abs() + half)
    # a bin thinner than the arithmetic: its probability is tiny, not 0
    ratio = (low - high).clamp(max=-torch.finfo(half.dtype).tiny)
    return high + torch.log(-torch.expm1(ratio))


def _log_phi(z: Tensor) -> Tensor:
    """log Phi(z), z any number. torch.special.log_ndtr has NaN for a gradient beyond -1e9."""
    left, right = z.clamp(max=0) * 0.5**0.5, z.clamp(min=0) * 0.5**0.5
    tail = torch.log(torch.special.erfcx(-left) / 2) - left.square()
    return torch.where(z < 0, tail, torch.log1p(-torch.erfc(right) / 2))
