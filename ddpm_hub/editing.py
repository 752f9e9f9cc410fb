"""Editing by sampling: prepare a state x at some t, then run a sampler from there.

Here: interpolation (section 4.4 of the paper). No sampling loop of its own.
"""

import torch
from torch import Tensor

from ddpm_hub.diffusion import GaussianProcess
from ddpm_hub.errors import ConfigError, check_float, check_int
from ddpm_hub.inputs import check_images
from ddpm_hub.samplers import SampleState, SampleStream, noise_like


def interpolate(
    process: GaussianProcess,
    x1: Tensor,
    x2: Tensor,
    t: int | None = None,
    lam: float = 0.5,
    generator: torch.Generator | None = None,
) -> SampleStream:
    """Section 4.4: mix two images at level t, x_t ~ q(x_t | (1 - lam) x1 + lam x2), and denoise.

    x1, x2: images in [0, 1], (B, C, H, W); t in 0 .. T-1, T-1 if None; lam in [0, 1].
    Each image brings its own noise, and their mix is scaled back to unit variance, so that the
    state really is at level t, which is the level the network is first asked about.
    """
    T = process.num_timesteps
    t = check_int("t", T - 1 if t is None else t, 0, T - 1)
    check_float("lam", lam, 0, 1)
    if x1.shape != x2.shape:
        raise ConfigError(f"x1 {tuple(x1.shape)} and x2 {tuple(x2.shape)} differ: resize one")
    for x in (x1, x2):
        check_images(x, tuple(x.shape[1:]), True, process.auto_normalize)
    noise = [noise_like(x, generator) for x in (x1, x2)]
    eps = (1 - lam) * noise[0] + lam * noise[1]
    eps = eps / ((1 - lam) ** 2 + lam**2) ** 0.5
    mixed = process.normalize((1 - lam) * x1 + lam * x2)
    x = process.q_sample(mixed, torch.full((len(x1),), t, device=x1.device), eps)
    ts = tuple(range(t, -2, -1))
    return SampleStream(process, SampleState("ddpm", ts, 1.0, None, None, x), generator)
