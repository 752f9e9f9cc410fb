"""The Gaussian process of Ho et al. 2020 around a network: one method per equation.

Time runs t = 0 .. T-1 where the paper counts 1 .. T, and t = -1 is clean data (alpha_bar = 1).
Inside, images are in [-1, 1]. Here are the forward process, what a prediction implies, and the
loss; how steps follow each other is in `samplers.py`, and `model.py` makes of both the
`GaussianDiffusion` that people construct. Somewhat over 300 lines: it is one class, and a method
moved out would be an equation that nobody finds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_hub.assignment import linear_sum_assignment
from ddpm_hub.errors import check_bool, check_choice, check_float, check_int
from ddpm_hub.inputs import (
    as_labels,
    check_image_size,
    check_images,
    check_model,
    check_options,
    check_times,
)
from ddpm_hub.schedules import make_betas, schedule_constants

OBJECTIVES = ("pred_noise", "pred_x0", "pred_v")


class ModelPrediction(NamedTuple):
    """What the network's output says of the state it saw, both (B, C, H, W)."""

    pred_noise: Tensor
    pred_x_start: Tensor


class GaussianProcess(nn.Module):
    """Schedule, closed-form Gaussians and loss around a network `model(x, t, x_self_cond)`.

    `GaussianDiffusion` documents the arguments. The schedule's tensors keep the reference's names
    as float32 buffers (float64 after `.double()`, never less) computed in float64; they are not
    persistent: the config, not a weights file, says which schedule this is.
    """

    def __init__(  # noqa: PLR0913  the reference's arguments
        self,
        model: nn.Module,
        *,
        image_size: int | tuple[int, int],
        timesteps: int = 1000,
        sampling_timesteps: int | None = None,
        objective: str = "pred_v",
        beta_schedule: str = "sigmoid",
        schedule_fn_kwargs: dict[str, float] | None = None,
        ddim_sampling_eta: float = 0.0,
        auto_normalize: bool = True,
        offset_noise_strength: float = 0.0,
        min_snr_loss_weight: bool = False,
        min_snr_gamma: float = 5,
        immiscible: bool = False,
        clip_x_start: bool | None = None,
    ):
        arguments = {k: v for k, v in locals().items() if k not in ("self", "model", "__class__")}
        super().__init__()
        self.config = arguments
        check_model(model)
        options = check_options(schedule_fn_kwargs)
        self.model, self.channels = model, model.channels
        self.self_condition = model.self_condition
        self.image_size = check_image_size(image_size, model)
        with torch.device("cpu"):  # numbers, even where a caller builds on the meta device
            betas = make_betas(beta_schedule, timesteps, **options)
        self.num_timesteps = timesteps
        self.objective = check_choice("objective", objective, OBJECTIVES)
        steps = timesteps if sampling_timesteps is None else sampling_timesteps
        self.sampling_timesteps = check_int("sampling_timesteps", steps, 1, timesteps)
        self.ddim_sampling_eta = check_float("ddim_sampling_eta", ddim_sampling_eta, 0, 1)
        self.auto_normalize = check_bool("auto_normalize", auto_normalize)
        self.offset_noise_strength = check_float(
            "offset_noise_strength", offset_noise_strength, 0, 10
        )
        self.immiscible = check_bool("immiscible", immiscible)
        # only pixels are known to end in [-1, 1]: data that came unscaled is left alone
        self.clip_x_start = auto_normalize if clip_x_start is None else clip_x_start
        check_bool("clip_x_start", self.clip_x_start)
        check_bool("min_snr_loss_weight", min_snr_loss_weight)
        gamma = check_float("min_snr_gamma", min_snr_gamma, 0, 1e9)
        self._images_checked = False
        self._exact = schedule_constants(betas, objective, gamma if min_snr_loss_weight else None)
        for name, values in self._exact.items():
            buffer = values.to(device=torch.get_default_device(), dtype=torch.float32)
            self.register_buffer(name, buffer, persistent=False)

    def _apply(self, fn: Any, recurse: bool = True) -> GaussianProcess:
        """Move as any module, but take the schedule anew from float64: no cast may round it."""
        super()._apply(fn, recurse)
        dtype = torch.float64 if self.betas.dtype == torch.float64 else torch.float32
        for name, values in self._exact.items():
            setattr(self, name, values.to(device=self.betas.device, dtype=dtype))
        return self

    @property
    def device(self) -> torch.device:
        """Where the schedule lives, and so where sampling happens."""
        return self.betas.device

    @property
    def is_ddim_sampling(self) -> bool:
        """Whether `sample()` skips timesteps by default."""
        return self.sampling_timesteps < self.num_timesteps

    def alpha_bar(self, t: int) -> float:
        """alpha_bar_t in float64, 1 at t = -1."""
        return self._exact["alphas_cumprod"][t].item() if t >= 0 else 1.0

    def normalize(self, images: Tensor) -> Tensor:
        """[0, 1] to the [-1, 1] of the process (as they are if not auto_normalize)."""
        return images * 2 - 1 if self.auto_normalize else images

    def unnormalize(self, x: Tensor) -> Tensor:
        """[-1, 1] of the process to [0, 1] (as they are if not auto_normalize)."""
        return (x + 1) * 0.5 if self.auto_normalize else x

    def q_sample(self, x_start: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Eq. 4: xt = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps; t (B,), the rest (B, ...)."""
        noise = torch.randn_like(x_start) if noise is None else noise
        signal = _at(self.sqrt_alphas_cumprod, t, x_start) * x_start
        return (signal + _at(self.sqrt_one_minus_alphas_cumprod, t, x_start) * noise).to(
            x_start.dtype
        )

    def predict_start_from_noise(self, x_t: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Eq. 15: x0 = (xt - sqrt(1 - alpha_bar) eps) / sqrt(alpha_bar)."""
        return (
            _at(self.sqrt_recip_alphas_cumprod, t, x_t) * x_t
            - _at(self.sqrt_recipm1_alphas_cumprod, t, x_t) * noise
        ).to(x_t.dtype)

    def predict_noise_from_start(self, x_t: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        """Eq. 15 for eps: (xt / sqrt(alpha_bar) - x0) / sqrt(1 / alpha_bar - 1)."""
        scaled = _at(self.sqrt_recip_alphas_cumprod, t, x_t) * x_t
        return ((scaled - x0) / _at(self.sqrt_recipm1_alphas_cumprod, t, x_t)).to(x_t.dtype)

    def predict_v(self, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Salimans & Ho 2022, appendix D: v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0."""
        return (
            _at(self.sqrt_alphas_cumprod, t, x_start) * noise
            - _at(self.sqrt_one_minus_alphas_cumprod, t, x_start) * x_start
        ).to(x_start.dtype)

    def predict_start_from_v(self, x_t: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """Salimans & Ho 2022, appendix D: x0 = sqrt(alpha_bar) xt - sqrt(1 - alpha_bar) v."""
        return (
            _at(self.sqrt_alphas_cumprod, t, x_t) * x_t
            - _at(self.sqrt_one_minus_alphas_cumprod, t, x_t) * v
        ).to(x_t.dtype)

    def q_posterior(self, x_start: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Eqs. 6-7: q(x_{t-1} | xt, x0), mean (B, ...), variance and clipped log (B, 1, ...)."""
        mean = (
            _at(self.posterior_mean_coef1, t, x_t) * x_start
            + _at(self.posterior_mean_coef2, t, x_t) * x_t
        ).to(x_t.dtype)
        log_variance = _at(self.posterior_log_variance_clipped, t, x_t)
        return mean, _at(self.posterior_variance, t, x_t), log_variance

    def model_output(
        self,
        x: Tensor,
        t: Tensor,
        x_self_cond: Tensor | None = None,
        classes: Tensor | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """The network's answer in x's dtype, with classifier-free guidance if asked.

        Ho & Salimans 2022 in today's scale: any + guidance (label - any), so 1 is the label alone
        and 0 none. Both answers come from one call on a batch of twice the size.
        """
        weights = next(self.model.parameters(), x)
        seen = x.to(weights.dtype)
        cond = None if x_self_cond is None else x_self_cond.to(weights.dtype)
        if classes is None or guidance == 0:
            return self.model(seen, t, cond).to(x.dtype)
        if guidance is None or guidance == 1:
            return self.model(seen, t, cond, classes=classes).to(x.dtype)
        labels = torch.cat((classes, torch.full_like(classes, self.model.num_classes)))
        cond = None if cond is None else torch.cat((cond, cond))
        both = self.model(torch.cat((seen, seen)), torch.cat((t, t)), cond, classes=labels)
        label, any_label = both.to(x.dtype).chunk(2)
        return any_label + guidance * (label - any_label)

    def model_predictions(
        self,
        x: Tensor,
        t: Tensor,
        x_self_cond: Tensor | None = None,
        clip_x_start: bool = False,
        rederive_pred_noise: bool = False,
        classes: Tensor | None = None,
        guidance: float | None = None,
    ) -> ModelPrediction:
        """The eps and x0 that the network sees in x, (B, C, H, W), at t, (B,).

        clip_x_start holds x0 in [-1, 1]; rederive_pred_noise makes eps agree with the clipped x0.
        """
        out = self.model_output(x, t, x_self_cond, classes, guidance)
        if self.objective == "pred_noise":
            x_start = self.predict_start_from_noise(x, t, out)
        elif self.objective == "pred_v":
            x_start = self.predict_start_from_v(x, t, out)
        else:
            x_start = out
        if clip_x_start:
            x_start = x_start.clamp(-1, 1)
        if self.objective == "pred_noise" and not (clip_x_start and rederive_pred_noise):
            return ModelPrediction(out, x_start)
        return ModelPrediction(self.predict_noise_from_start(x, t, x_start), x_start)

    def p_mean_variance(
        self,
        x: Tensor,
        t: Tensor,
        x_self_cond: Tensor | None = None,
        clip_denoised: bool | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Eq. 11: mean, variance, log variance of p(x_{t-1} | xt), and the x0 they come from.

        clip_denoised: hold x0 in [-1, 1]; `self.clip_x_start` if None.
        """
        clip = self.clip_x_start if clip_denoised is None else clip_denoised
        x_start = self.model_predictions(x, t, x_self_cond, clip_x_start=clip).pred_x_start
        return *self.q_posterior(x_start, x, t), x_start

    def noise_assignment(self, x_start: Tensor, noise: Tensor) -> Tensor:
        """Li et al. 2024 (immiscible diffusion): indices, (B,), of the noise nearest each image."""
        distances = torch.cdist(x_start.flatten(1).float(), noise.flatten(1).float())
        nearest = linear_sum_assignment(distances.cpu().numpy())
        return torch.from_numpy(nearest).to(noise.device)

    def p_losses(
        self,
        x_start: Tensor,
        t: Tensor,
        noise: Tensor | None = None,
        offset_noise_strength: float | None = None,
        loss_reduction: str = "mean",
        classes: Tensor | None = None,
    ) -> Tensor:
        """Eq. 14: |target - net(xt, t)|^2, weighted by t; x_start (B, C, H, W) in [-1, 1].

        The target is eps, x0 or v by `objective`. Returns a scalar, or (B,) with
        loss_reduction="none".
        """
        check_choice("loss_reduction", loss_reduction, ("mean", "none"))
        noise = self._training_noise(x_start, noise, offset_noise_strength)
        x = self.q_sample(x_start, t, noise)
        x_self_cond = None
        # torch's generator, not Python's: a seed reproduces it (Chen et al. 2022: half the time)
        if self.self_condition and torch.rand(()) < 0.5:
            with torch.no_grad():
                x_self_cond = self.model_predictions(x, t, classes=classes).pred_x_start
        out = self.model_output(x, t, x_self_cond, classes)
        target = {
            "pred_noise": lambda: noise,
            "pred_x0": lambda: x_start,
            "pred_v": lambda: self.predict_v(x_start, t, noise),
        }[self.objective]()
        wide = torch.promote_types(out.dtype, torch.float32)  # a mean of halves rounds
        loss = F.mse_loss(out.to(wide), target.to(wide), reduction="none").flatten(1).mean(1)
        loss = loss * self.loss_weight[t]
        return loss if loss_reduction == "none" else loss.mean()

    def random_times(self, batch_size: int) -> Tensor:
        """t ~ Uniform{0 .. T-1}, (B,) int64."""
        return torch.randint(0, self.num_timesteps, (batch_size,), device=self.device)

    def forward(
        self,
        img: Tensor,
        *args: Any,
        times: Tensor | None = None,
        loss_reduction: str = "mean",
        **kwargs: Any,
    ) -> Tensor:
        """Algorithm 1, one step: the loss of images in [0, 1], (B, C, H, W), at random t.

        Further arguments go to `p_losses`. Raises DataError for images of another shape, type or
        range (the range is looked at in every call on the CPU, in the first elsewhere).
        """
        if not torch.compiler.is_compiling():
            expected = (self.channels, *self.image_size)
            check_images(img, expected, not self._images_checked, self.auto_normalize)
            self._images_checked = True
        if times is None:
            times = self.random_times(len(img))
        elif not torch.compiler.is_compiling():
            check_times(times, len(img), self.num_timesteps)
        if kwargs.get("classes") is not None:
            kwargs["classes"] = as_labels(kwargs["classes"], len(img), self.model, self.device)
        return self.p_losses(
            self.normalize(img), times, *args, loss_reduction=loss_reduction, **kwargs
        )

    def _training_noise(
        self, x_start: Tensor, noise: Tensor | None, offset_strength: float | None
    ) -> Tensor:
        """The noise that is both added and predicted; the caller's tensor is never changed."""
        noise = torch.randn_like(x_start) if noise is None else noise
        strength = self.offset_noise_strength if offset_strength is None else offset_strength
        check_float("offset_noise_strength", strength, 0, 10)
        if strength > 0:  # Guttenberg 2023: each channel as a whole is shifted, too
            offset = torch.randn(x_start.shape[:2], device=x_start.device, dtype=x_start.dtype)
            noise = noise + strength * offset[:, :, None, None]
        return noise[self.noise_assignment(x_start, noise)] if self.immiscible else noise


def _at(values: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """values[t], (B,), as (B, 1, ..., 1) to broadcast against `like`, (B, ...)."""
    return values[t].view(-1, *[1] * (like.ndim - 1))
