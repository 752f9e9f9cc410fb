"""Editing by sampling: prepare a state x and the timesteps to walk, then run any sampler.

Here: what to begin with. No sampling loop: that is `streams.py`'s, as for every other sample.
Images come and go in [0, 1]; states are in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ddpm_hub.diffusion import GaussianProcess
from ddpm_hub.errors import ConfigError, check_float, check_int
from ddpm_hub.inputs import check_images
from ddpm_hub.randomness import noise_like
from ddpm_hub.sampling import SamplingProcess
from ddpm_hub.streams import Known, SampleState, SampleStream


class EditingProcess(SamplingProcess):
    """A process that changes images. `options` are always those of `sample_stream`."""

    @torch.no_grad()
    def interpolate(
        self,
        x1: Tensor,
        x2: Tensor,
        t: int | None = None,
        lam: float = 0.5,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        progress: bool = True,
        **options: Any,
    ) -> Tensor:
        """Section 4.4: an image between two, all in [0, 1], (B, C, H, W).

        t: level at which they are mixed, 0 .. T-1: small blends pixels, T-1 (None) invents.
        lam: 0 is x1 and 1 is x2, exactly; between, the mix is noised to t and denoised: by "ddpm"
            in all steps, if `options` say nothing else.
        """
        t = self._level(t)
        rng = self._generator(seed, generator)
        x = mixed(self, x1, x2, t, lam, rng)
        if lam in (0, 1):
            return (x1, x2)[int(lam)].clone()
        options = {"sampler": "ddpm", "steps": t + 1} | options
        return self._drain(self._open(x, t, rng, **options), False, progress)

    @torch.no_grad()
    def interpolation(
        self,
        x1: Tensor,
        x2: Tensor,
        frames: int = 9,
        t: int | None = None,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        progress: bool = True,
        **options: Any,
    ) -> Tensor:
        """Section 4.4 as a path: (B, frames, C, H, W) from x1 to x2, exactly these at its ends.

        All frames share one noise, and by "ddim" (if `options` say nothing else) no more comes.
        """
        t = self._level(t)
        check_int("frames", frames, 2, 1000)
        rng = self._generator(seed, generator)
        path = mixed_path(self, x1, x2, t, frames, rng)
        if frames > 2:
            stream = self._open(path, t, rng, **{"sampler": "ddim"} | options)
            path = self._drain(stream, False, progress)
        between = path.unflatten(0, (len(x1), frames - 2))
        return torch.cat((x1[:, None], between.to(x1), x2[:, None]), dim=1)

    @torch.no_grad()
    def img2img(
        self, images: Tensor, strength: float = 0.5, *, progress: bool = True, **options: Any
    ) -> Tensor:
        """Meng et al. 2022 (SDEdit): images in [0, 1], (B, C, H, W), noised and drawn again.

        strength: the share of the chain that is walked: 0 gives the images back, exactly; 1 keeps
            nothing of them. Other arguments: `img2img_stream`.
        """
        stream = self.img2img_stream(images, strength, **options)
        return self._drain(stream, False, progress) if len(stream) else images.clone()

    @torch.no_grad()
    def img2img_stream(
        self,
        images: Tensor,
        strength: float = 0.5,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> SampleStream:
        """`img2img` as an iterator of `Step`; of strength 0 it is empty."""
        rng = self._generator(seed, generator)
        x, t = sketched(self, images, strength, rng)
        if t < 0:
            return SampleStream(self, SampleState("ddim", (-1,), x), rng)
        return self._open(x, t, rng, **options)

    @torch.no_grad()
    def inpaint(
        self, images: Tensor, mask: Tensor, *, progress: bool = True, **options: Any
    ) -> Tensor:
        """Lugmayr et al. 2022 (RePaint): images in [0, 1], (B, C, H, W), new where mask is 0.

        mask: 1 keeps (exactly), 0 draws anew; (H, W), or one for each image or channel. Other
        arguments: `inpaint_stream`.
        """
        stream = self.inpaint_stream(images, mask, **options)
        known = stream.state().known
        drawn = self._drain(stream, False, progress).to(images)
        return torch.where(known.mask.to(images.device) > 0, images, drawn)

    @torch.no_grad()
    def inpaint_stream(
        self,
        images: Tensor,
        mask: Tensor,
        *,
        jump_length: int = 10,
        jump_n_sample: int = 3,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> SampleStream:
        """`inpaint` as an iterator of `Step`; by "ddpm", if `options` say nothing else.

        jump_length, jump_n_sample: every stretch of so many network calls is walked so many
            times, so that both parts come to agree (10 and 10 in the paper); `steps` are those of
            one descent.
        """
        known = known_region(self, images, mask)
        rng = self._generator(seed, generator)
        path = partial(repainted, jump_length=jump_length, jump_n_sample=jump_n_sample)
        options = {"sampler": "ddpm", "known": known, "path": path} | options
        x = self._first_state(len(images), None, rng, tuple(images.shape[1:]))
        return self._open(x, self.num_timesteps - 1, rng, **options)

    @torch.no_grad()
    def continuations(
        self,
        x: Tensor,
        t: int,
        count: int = 4,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> SampleStream:
        """Section 4.3, Figure 7: what one latent may become, as a stream of B * count images.

        x: the state that is shared, (B, C, H, W) at level t; the continuations of x[0] come first.
        By "ddpm", if `options` say nothing else: each continuation has noise of its own.
        """
        check_int("count", count, 1, 1000)
        rng = self._generator(seed, generator)
        x = self._first_state(len(x), x, rng).repeat_interleave(count, dim=0)
        return self._open(x, t, rng, **{"sampler": "ddpm"} | options)

    def _level(self, t: int | None) -> int:
        return check_int("t", self.num_timesteps - 1 if t is None else t, 0, self.num_timesteps - 1)


def mixed(
    process: GaussianProcess,
    x1: Tensor,
    x2: Tensor,
    t: int,
    lam: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Section 4.4: x_t ~ q(x_t | (1 - lam) x1 + lam x2), (B, C, H, W), for lam in [0, 1].

    Each image brings its own noise, and their mix is scaled back to unit variance, so that the
    state really is at level t, which is the level the network is first asked about.
    """
    check_float("lam", lam, 0, 1)
    check_pair(process, x1, x2)
    noise = [noise_like(x, generator) for x in (x1, x2)]
    eps = (1 - lam) * noise[0] + lam * noise[1]
    eps = eps / ((1 - lam) ** 2 + lam**2) ** 0.5
    return at_level(process, (1 - lam) * x1 + lam * x2, t, eps)


def mixed_path(
    process: GaussianProcess,
    x1: Tensor,
    x2: Tensor,
    t: int,
    frames: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Section 4.4 along a path: mixes of x1 and x2 at level t, (B * (frames - 2), C, H, W).

    All of an image's frames have the same noise, so that what changes from one to the next is
    the mix alone. The ends are not among them: they are x1 and x2 themselves.
    """
    check_pair(process, x1, x2)
    eps = noise_like(x1, generator)
    lams = torch.linspace(0, 1, frames, dtype=x1.dtype, device=x1.device)[1:-1]
    lams = lams.view(1, -1, *[1] * (x1.ndim - 1))
    path = (1 - lams) * x1[:, None] + lams * x2[:, None]  # (B, frames - 2, C, H, W)
    return at_level(process, path.flatten(0, 1), t, eps.repeat_interleave(frames - 2, dim=0))


def sketched(
    process: GaussianProcess,
    images: Tensor,
    strength: float,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, int]:
    """Meng et al. 2022 (SDEdit): the images noised to level t = strength T - 1, and that t.

    strength: 0 .. 1, how much may change; at 0 they are clean, and t is -1.
    """
    check_float("strength", strength, 0, 1)
    check_images(images, tuple(images.shape[1:]), True, process.auto_normalize)
    t = round(strength * process.num_timesteps) - 1
    images = images.to(process.device, process.betas.dtype)
    if t < 0:
        return process.normalize(images), t
    return at_level(process, images, t, noise_like(images, generator)), t


def known_region(process: GaussianProcess, images: Tensor, mask: Tensor) -> Known:
    """What inpainting keeps: images, (B, C, H, W), where mask is 1; where it is 0 is drawn anew.

    mask: 0 and 1 (or False and True), (H, W), (1, H, W) or (B or 1, C or 1, H, W).
    """
    check_images(images, tuple(images.shape[1:]), True, process.auto_normalize)
    if not isinstance(mask, Tensor) or mask.ndim not in (2, 3, 4):
        raise ConfigError("mask is no (height, width) tensor: pass 1 to keep, 0 to draw anew")
    mask = mask.to(process.device)
    mask = mask.view(*[1] * (4 - mask.ndim), *mask.shape)
    if any(m not in (1, n) for m, n in zip(mask.shape[:2], images.shape[:2], strict=True)) or (
        mask.shape[2:] != images.shape[2:]
    ):
        raise ConfigError(
            f"mask {tuple(mask.shape)} does not fit images {tuple(images.shape)}: pass one of "
            f"{images.shape[2]} x {images.shape[3]} for all, or one for each"
        )
    if not ((mask == 0) | (mask == 1)).all():
        raise ConfigError("mask holds more than 0 and 1: pass 1 to keep, 0 to draw anew")
    return Known(process.normalize(images.to(process.device, process.betas.dtype)), mask)


def repainted(ts: Sequence[int], jump_length: int, jump_n_sample: int) -> tuple[int, ...]:
    """Lugmayr et al. 2022, Figure 9: the path `ts`, each stretch of it walked several times.

    jump_length: network calls of a stretch. jump_n_sample: how often each is walked; 1 is `ts`.
    """
    check_int("jump_length", jump_length, 1, 100_000)
    check_int("jump_n_sample", jump_n_sample, 1, 1000)
    *body, end = ts
    path = body[:1]
    for i in range(0, len(body) - 1, jump_length):
        stretch = body[i : i + jump_length + 1]
        path += stretch[1:] + (jump_n_sample - 1) * stretch
    return (*path, end)


def at_level(process: GaussianProcess, images: Tensor, t: int, eps: Tensor) -> Tensor:
    """Eq. 4 for images in [0, 1], all at the same t."""
    times = torch.full((len(images),), t, device=images.device)
    return process.q_sample(process.normalize(images), times, eps)


def check_pair(process: GaussianProcess, x1: Tensor, x2: Tensor) -> None:
    """Raise an error unless both are images of one shape."""
    if x1.shape != x2.shape:
        raise ConfigError(f"x1 {tuple(x1.shape)} and x2 {tuple(x2.shape)} differ: resize one")
    for x in (x1, x2):
        check_images(x, tuple(x.shape[1:]), True, process.auto_normalize)
