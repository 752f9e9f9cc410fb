"""GaussianDiffusion: the model that people construct, train, sample from, save and share.

It joins the equations of `diffusion.py`, the generators of `samplers.py`, the recipes of
`editing.py` and the files of `hub_model.py`, and adds what they need at the border: arguments
checked, noise drawn, a progress bar, PIL images. There is no mathematics here.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ddpm_hub import editing
from ddpm_hub.config_file import config_section, plain
from ddpm_hub.diffusion import GaussianProcess
from ddpm_hub.errors import ConfigError, check_choice, check_float, check_int, shown
from ddpm_hub.hub_model import HubModel
from ddpm_hub.images import to_pil
from ddpm_hub.inputs import as_labels, check_images, check_times
from ddpm_hub.nets import NETS
from ddpm_hub.samplers import (
    SAMPLERS,
    SPACINGS,
    SampleState,
    SampleStream,
    Update,
    noise_like,
    resumed,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from PIL.Image import Image
    from typing_extensions import Self

PROGRESS = "sampling loop time step"  # the words that users of the reference know


class GaussianDiffusion(GaussianProcess, HubModel):
    """A denoising diffusion probabilistic model (Ho et al. 2020) around a network.

    Args:
        model: a network with `channels`, `out_dim` and `self_condition`, called as
            model(x, t, x_self_cond); a `Unet`, or your own.
        image_size: side of the images, or (height, width), in pixels.
        timesteps: T, the length of the chain.
        sampling_timesteps: network calls of `sample()`; T if None. Fewer than T means DDIM.
        objective: what the network predicts: "pred_noise" (the paper), "pred_x0" or "pred_v".
        beta_schedule: a row of SCHEDULES: "linear" (the paper), "cosine" or "sigmoid".
        schedule_fn_kwargs: options of that schedule.
        ddim_sampling_eta: share of ancestral noise in DDIM, in [0, 1].
        auto_normalize: images come in [0, 1] and are mapped to [-1, 1]; False leaves them.
        offset_noise_strength: noise shared by all pixels of a channel (0.1 is usual).
        min_snr_loss_weight, min_snr_gamma: min-SNR weighting (Hang et al. 2023).
        immiscible: pair noise and images by distance within a batch (Li et al. 2024).
        clip_x_start: hold the predicted x0 in [-1, 1] while sampling; None: as auto_normalize.

    Raises:
        ConfigError: an argument that cannot be, named with its limit and the cure.

    Calling it with images in [0, 1], (B, C, H, W), gives the training loss, a scalar.
    """

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
        classes: int | Iterable[int] | Tensor | None = None,
        guidance: float | None = None,
    ) -> SampleStream:
        """An iterator of `Step`, one after each network call; `sample()` is its last x.

        sampler: a row of SAMPLERS; None is "ddpm" over all T steps and "ddim" over fewer.
        steps: network calls, 1 .. T; `sampling_timesteps` if None.
        eta: share of ancestral noise in "ddim", 0 .. 1; `ddim_sampling_eta` if None.
        spacing: a row of SPACINGS, which timesteps are visited.
        seed, generator: where random numbers come from; with neither, torch's global generator
            in the reference's order. With a seed, the result depends on weights, arguments and
            type of device alone.
        noise: the first x, (B, C, H, W), instead of drawn noise; it sets the batch size.
        classes: a label, or one per image, for a network with `num_classes`.
        guidance: classifier-free guidance scale; 1 (or None) is the label alone, 0 no label.

        Raises ConfigError for what cannot be; nothing is computed before the first `next()`.
        """
        T = self.num_timesteps
        steps = self.sampling_timesteps if steps is None else check_int("steps", steps, 1, T)
        if sampler is None:
            sampler = "ddpm" if steps == T and eta is None else "ddim"
        check_choice("sampler", sampler, SAMPLERS)
        eta = self.ddim_sampling_eta if eta is None else check_float("eta", eta, 0, 1)
        spacing = check_choice("spacing", spacing or "linspace", SPACINGS)
        if guidance is not None:
            check_float("guidance", guidance, 0, 100)
            if classes is None:
                raise ConfigError(f"guidance {guidance} has nothing to guide to: give classes")
        rng = self._generator(seed, generator)
        x = self._first_state(batch_size, noise, rng)
        labels = None if classes is None else as_labels(classes, len(x), self.model, self.device)
        ts = tuple(SPACINGS[spacing](T, steps))
        state = SampleState(sampler, ts, eta, labels, guidance, x)
        return SampleStream(self, state, rng)

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
        state = SampleState("ddpm", (t, t - 1), 1.0, None, None, x, last=last)
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
    ) -> Tensor:
        """Section 4.4: an image between two, all in [0, 1], (B, C, H, W).

        t: level at which they are mixed, 0 .. T-1: small blends pixels, T-1 (None) invents.
        lam: 0 is x1 and 1 is x2, exactly; between, the mix is noised to t and denoised.
        """
        stream = editing.interpolate(self, x1, x2, t, lam, self._generator(seed, generator))
        if lam in (0, 1):
            return (x1, x2)[int(lam)].clone()
        return self._drain(stream, False, progress)

    def forward_noise(self, images: Tensor, t: int | Tensor, noise: Tensor | None = None) -> Tensor:
        """Eq. 4 for display: images in [0, 1] noised to level t; values may leave [0, 1]."""
        check_images(images, tuple(images.shape[1:]), True, self.auto_normalize)
        if isinstance(t, int):
            t = torch.full((len(images),), t, device=images.device)
        check_times(t, len(images), self.num_timesteps)
        return self.unnormalize(self.q_sample(self.normalize(images), t, noise))

    def to_config(self) -> dict[str, Any]:
        """{"diffusion": arguments of this class, "unet": those of the network}."""
        net = getattr(self.model, "_orig_mod", self.model)  # torch.compile's wrapper
        if type(net).__name__ not in NETS:
            raise ConfigError(
                f"a {type(net).__name__} cannot be described in config.json (known: "
                f"{', '.join(NETS)}): save its state_dict() yourself"
            )
        return {"diffusion": plain(self.config), **net.to_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any], **overrides: Any) -> Self:
        """From `to_config`; `overrides` replace arguments of the diffusion."""
        section = config_section(config, "diffusion", ARGUMENTS)
        unknown = sorted(overrides.keys() - ARGUMENTS)
        if unknown:
            raise ConfigError(
                f"GaussianDiffusion has no argument {shown(unknown)}: it has {sorted(ARGUMENTS)}"
            )
        if "image_size" not in section | overrides:
            raise ConfigError("config.json section 'diffusion' has no 'image_size': save again")
        name = config_section(config, "unet").get("_class_name", "Unet")
        net = NETS[check_choice("network", name, NETS)].from_config(config)
        return cls(net, **(section | overrides))

    def _generator(
        self, seed: int | None, generator: torch.Generator | None
    ) -> torch.Generator | None:
        if seed is None:
            return generator
        if generator is not None:
            raise ConfigError(f"seed {seed} and a generator were given: give one of them")
        check_int("seed", seed, 0, 2**63 - 1)
        return torch.Generator(self.device).manual_seed(seed)

    def _first_state(
        self, batch_size: int, noise: Tensor | None, rng: torch.Generator | None
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
        shape = (batch_size, self.channels, *self.image_size)
        return noise_like(torch.empty(shape, device=self.device, dtype=self.betas.dtype), rng)

    def _drain(self, stream: SampleStream, every_step: bool, progress: bool) -> Tensor:
        states = [stream.state().x]
        for step in tqdm(stream, desc=PROGRESS, total=len(stream), disable=not progress):
            if not every_step:
                states.clear()
            states.append(step.x)
        return self.unnormalize(torch.stack(states, dim=1) if every_step else states[-1])


ARGUMENTS = set(inspect.signature(GaussianProcess.__init__).parameters) - {"self", "model"}
