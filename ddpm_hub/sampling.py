"""Drawing images: what to sample, how, and how many is asked for here.

Arguments are checked, the first noise is drawn, a progress bar and PIL images are added around the
generators of `samplers.py`. There is no mathematics here.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ddpm_hub import fast
from ddpm_hub.errors import ConfigError, check_bool, check_choice, check_float, check_int
from ddpm_hub.images import to_pil
from ddpm_hub.inputs import as_labels, check_images, check_times
from ddpm_hub.loss import DenoisingLoss
from ddpm_hub.randomness import noise_like
from ddpm_hub.samplers import SAMPLERS, Update, default_eta
from ddpm_hub.spacings import SPACINGS
from ddpm_hub.streams import Known, SampleState, SampleStream, resumed, timesteps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from PIL.Image import Image
    from typing_extensions import Self

PROGRESS = "sampling loop time step"  # the words that users of the reference know


class SamplingProcess(DenoisingLoss):
    """A process that draws images. `GaussianDiffusion` documents the constructor."""

    runtime = fast.Choice("eager", "as it was built")

    def accelerated(self, runtime: str = "auto", batch_size: int = 16) -> Self:
        """This process around the fastest copy of its network, for drawing.

        The copy answers in bfloat16: pictures are as good, but not the same to the last bit, so
        that drawing exactly what somebody else drew is for the process itself. Its `runtime` says
        what was chosen, and why. Weights are as of now; it can be neither trained nor saved.

        runtime: "auto" measures what is faster on this machine, once (about a second) for each
            kind of network and batch size; "packed" is bfloat16 with weights packed for the CPU;
            "half" is bfloat16 and no more; "graphed" is that, replayed from CUDA graphs;
            "compiled" is that through torch.compile, which takes a minute or more when it is first
            called, so that "auto" never tries it; "eager" gives the process itself.

        Raises ConfigError for another runtime, or one that this machine does not offer.
        """
        check_int("batch_size", batch_size, 1, 1_000_000)
        if self.runtime.runtime != "eager":
            raise ConfigError(
                f"this is a {self.runtime.runtime!r} copy already: ask the process it was made of"
            )
        shape = (batch_size, self.model.channels, *self.image_size)
        choice = fast.choose(self.model, shape, runtime)
        if choice.runtime == "eager" and runtime == "eager":
            return self
        twin = copy.copy(self)
        twin._modules = self._modules | {"model": fast.prepared(self.model, choice)}
        twin._buffers = dict(self._buffers)  # the copy may be moved elsewhere
        twin.runtime = choice
        return twin

    @torch.no_grad()
    def sample(
        self,
        batch_size: int = 16,
        return_all_timesteps: bool = False,
        *,
        output_type: str = "pt",
        progress: bool = True,
        **options: Any,
    ) -> Tensor | list[Image]:
        """Draw images, (B, C, H, W) in [0, 1], on the model's device.

        options: those of `sample_stream`.
        return_all_timesteps: (B, steps + 1, C, H, W), from the first noise on.
        output_type: "pt" for a tensor, "pil" for a list of PIL images.
        """
        check_choice("output_type", output_type, ("pt", "pil"))
        if output_type == "pil" and return_all_timesteps:
            raise ConfigError("output_type 'pil' with return_all_timesteps: use 'pt' for those")
        stream = self.sample_stream(batch_size, **options)
        x = self._drain(stream, return_all_timesteps, progress)
        return to_pil(x) if output_type == "pil" else x

    @torch.no_grad()
    def sample_stream(  # noqa: PLR0913  each is one thing a person may want to choose
        self,
        batch_size: int = 16,
        *,
        sampler: str | None = None,
        steps: int | None = None,
        eta: float | None = None,
        spacing: str | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        t_start: int | None = None,
        classes: int | Iterable[int] | Tensor | None = None,
        guidance: float | None = None,
        clip_x_start: bool | None = None,
        dynamic_threshold: float | None = None,
        variance_type: str | None = None,
    ) -> SampleStream:
        """An iterator of `Step`, one after each network call; `sample()` is its last x.

        sampler: a row of SAMPLERS; None is "ddpm" over all T steps without an eta, else "ddim".
        steps: network calls, 1 .. T; `sampling_timesteps` if None.
        eta: share of ancestral noise, 0 .. 1, in "ddim" (`ddim_sampling_eta` if None) and
            "dpmpp_2m_sde" (1 if None); the others have no such choice.
        spacing: a row of SPACINGS, which timesteps are visited; "linspace" if None.
        seed, generator: where random numbers come from; with neither, torch's global generator
            in the reference's order. With a seed, the result depends on weights, arguments and
            type of device alone.
        noise: the first x, (B, C, H, W), instead of drawn noise; it sets the batch size.
        t_start: the level, 0 .. T-1, that this x is at; T-1 if None. `steps` are then those from
            there on: of None, the same share of the chain.
        classes: a label, or one per image, for a network with `num_classes`.
        guidance: classifier-free guidance scale; 1 (or None) is the label alone, 0 no label.
        clip_x_start: hold the predicted x0 in [-1, 1]; as the model was built if None.
        dynamic_threshold: the quantile, 0.5 .. 1, of Imagen's dynamic thresholding instead.
        variance_type: of "ddpm": "fixed_small", "fixed_large" or "learned_range".

        Raises ConfigError for what cannot be; nothing is computed before the first `next()`.
        """
        if t_start is not None and noise is None:
            raise ConfigError(f"t_start {t_start} needs the state at that level: pass it as noise=")
        rng = self._generator(seed, generator)
        return self._open(
            self._first_state(batch_size, noise, rng),
            self.num_timesteps - 1 if t_start is None else t_start,
            rng,
            sampler=sampler,
            steps=steps,
            eta=eta,
            spacing=spacing,
            classes=classes,
            guidance=guidance,
            clip_x_start=clip_x_start,
            dynamic_threshold=dynamic_threshold,
            variance_type=variance_type,
        )

    def resume_stream(self, state: SampleState) -> SampleStream:
        """Go on from `stream.state()`, bit for bit as if the run had not been interrupted."""
        return resumed(self, state)

    @torch.no_grad()
    def p_sample(
        self, x: Tensor, t: int, x_self_cond: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Algorithm 2, one step: x_{t-1} and the predicted x0, both (B, C, H, W)."""
        check_int("t", t, 0, self.num_timesteps - 1)
        last = None if x_self_cond is None else Update(t + 1, x, x_self_cond, x)
        state = SampleState("ddpm", (t, t - 1), x, last=last)
        step = next(SampleStream(self, state))
        return step.x, step.x0

    def p_sample_loop(self, shape: tuple[int, ...], return_all_timesteps: bool = False) -> Tensor:
        """Algorithm 2, all T steps, for images of any `shape` (B, C, H, W); in [0, 1]."""
        noise = torch.randn(shape, device=self.device, dtype=self.betas.dtype)
        return self.sample(
            return_all_timesteps=return_all_timesteps,
            noise=noise,
            sampler="ddpm",
            steps=self.num_timesteps,
        )

    def ddim_sample(self, shape: tuple[int, ...], return_all_timesteps: bool = False) -> Tensor:
        """DDIM over `sampling_timesteps`, for images of any `shape` (B, C, H, W); in [0, 1]."""
        noise = torch.randn(shape, device=self.device, dtype=self.betas.dtype)
        return self.sample(return_all_timesteps=return_all_timesteps, noise=noise, sampler="ddim")

    def forward_noise(self, images: Tensor, t: int | Tensor, noise: Tensor | None = None) -> Tensor:
        """Eq. 4 for display: images in [0, 1] noised to level t; values may leave [0, 1]."""
        check_images(images, tuple(images.shape[1:]), True, self.auto_normalize)
        if isinstance(t, int):
            t = torch.full((len(images),), t, device=images.device)
        check_times(t, len(images), self.num_timesteps)
        return self.unnormalize(self.q_sample(self.normalize(images), t, noise))

    def _open(  # noqa: PLR0913  the options of sample_stream
        self,
        x: Tensor,
        t_start: int,
        rng: torch.Generator | None,
        *,
        sampler: str | None = None,
        steps: int | None = None,
        eta: float | None = None,
        spacing: str | None = None,
        classes: Any = None,
        guidance: float | None = None,
        known: Known | None = None,
        path: Callable[[tuple[int, ...]], tuple[int, ...]] = tuple,
        **asked: Any,
    ) -> SampleStream:
        """The run from x, (B, C, H, W), at level t_start, its options checked.

        known: what inpainting keeps. path: what is walked instead of the plain timesteps.
        """
        check_int("t_start", t_start, 0, self.num_timesteps - 1)
        steps = self._steps(steps, t_start + 1)
        if sampler is None:
            sampler = "ddpm" if steps == t_start + 1 and eta is None else "ddim"
        check_choice("sampler", sampler, SAMPLERS)
        if eta is not None:
            check_float("eta", eta, 0, 1)
        if default_eta(sampler) is None:
            eta = None  # it has no such choice: no report may say that it had
        elif eta is None:
            eta = self.ddim_sampling_eta if sampler == "ddim" else default_eta(sampler)
        spacing = check_choice("spacing", "linspace" if spacing is None else spacing, SPACINGS)
        ts = timesteps(self._exact["alphas_cumprod"][: t_start + 1], sampler, spacing, steps)
        asked = self._asked(len(x), classes, guidance, **asked)
        return SampleStream(self, SampleState(sampler, path(ts), x, eta, asked, known), rng)

    def _steps(self, steps: int | None, chain: int) -> int:
        """Network calls for a chain of that length; None: the model's own share of it."""
        if steps is None:
            return math.ceil(self.sampling_timesteps * chain / self.num_timesteps)
        return check_int("steps", steps, 1, chain)

    def _asked(
        self,
        batch: int,
        classes: Any,
        guidance: float | None,
        clip_x_start: bool | None = None,
        dynamic_threshold: float | None = None,
        variance_type: str | None = None,
    ) -> dict[str, Any]:
        """What `predict` is asked at every step, without what is left to it."""
        if guidance is not None:
            check_float("guidance", guidance, 0, 100)
            if classes is None:
                raise ConfigError(f"guidance {guidance} has nothing to guide to: give classes")
        if classes is not None:
            classes = as_labels(classes, batch, self.model, self.device)
        if clip_x_start is not None:
            check_bool("clip_x_start", clip_x_start)
        if dynamic_threshold is not None:
            check_float("dynamic_threshold", dynamic_threshold, 0.5, 1)
        if variance_type is not None:
            self._variance_type(variance_type)
        asked = {
            "classes": classes,
            "guidance": guidance,
            "clip_x_start": clip_x_start,
            "dynamic_threshold": dynamic_threshold,
            "variance_type": variance_type,
        }
        return {name: value for name, value in asked.items() if value is not None}

    def _generator(
        self, seed: int | None, generator: torch.Generator | None
    ) -> torch.Generator | None:
        if seed is None:
            return generator
        if generator is not None:
            raise ConfigError(f"seed {seed} and a generator were given: give one of them")
        check_int("seed", seed, 0, 2**63 - 1)
        return torch.Generator(self.device).manual_seed(int(seed))

    def _first_state(
        self,
        batch_size: int,
        noise: Tensor | None,
        rng: torch.Generator | None,
        size: tuple[int, ...] | None = None,
    ) -> Tensor:
        if noise is not None:
            if noise.ndim != 4 or noise.shape[1] != self.channels:
                raise ConfigError(
                    f"noise of shape {tuple(noise.shape)} does not fit: pass (batch, "
                    f"{self.channels}, {self.image_size[0]}, {self.image_size[1]})"
                )
            if noise.device.type == "cpu" and not noise.isfinite().all():
                raise ConfigError("noise holds NaN or infinity: draw it with torch.randn")
            return noise.to(device=self.device, dtype=self.betas.dtype)
        check_int("batch_size", batch_size, 1, 1_000_000)
        shape = (batch_size, *(size or (self.channels, *self.image_size)))
        return noise_like(torch.empty(shape, device=self.device, dtype=self.betas.dtype), rng)

    def _drain(self, stream: SampleStream, every_step: bool, progress: bool) -> Tensor:
        states = [stream.state().x]
        for step in tqdm(stream, desc=PROGRESS, total=len(stream), disable=not progress):
            if not every_step:
                states.clear()
            states.append(step.x)
        return self.unnormalize(torch.stack(states, dim=1) if every_step else states[-1])
