"""The Gaussian process of Ho et al. 2020 around a network: one method per equation.

Time runs t = 0 .. T-1 where the paper counts 1 .. T, and t = -1 is clean data (alpha_bar = 1).
Inside, images are in [-1, 1]. Here are the forward process and what the network's answer implies;
the loss is in `loss.py`, how steps follow each other in `samplers.py`, and `model.py` makes of all
of them the `GaussianDiffusion` that people construct. Somewhat over 300 lines: it is one class, and
a method moved out would be an equation that nobody finds.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ddpm_hub.errors import ConfigError, check_bool, check_choice, check_float, check_int
from ddpm_hub.inputs import check_image_size, check_model, check_options
from ddpm_hub.schedules import exact, make_betas, schedule_constants
from ddpm_hub.schedules import zero_terminal_snr as to_zero_snr

OBJECTIVES = ("pred_noise", "pred_x0", "pred_v")
VARIANCES = ("fixed_small", "fixed_large", "learned_range")


class ModelPrediction(NamedTuple):
    """What the network's output says of the state it saw, both (B, C, H, W)."""

    pred_noise: Tensor
    pred_x_start: Tensor


class Prediction(NamedTuple):
    """All that one network call says of a state: x0 and eps, (B, C, H, W), in agreement.

    share: where log sigma^2 lies between log beta tilde (0) and log beta (1): a number if the
    variance is fixed, (B, C, H, W) if it is learned.
    """

    x0: Tensor
    eps: Tensor
    share: float | Tensor = 0.0


class GaussianProcess(nn.Module):
    """Schedule, closed-form Gaussians and predictions of a network `model(x, t, x_self_cond)`.

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
        variance_type: str | None = None,
        vlb_weight: float = 0.001,
        zero_terminal_snr: bool = False,
        schedule_dtype: str = "float64",
        rederive_pred_noise: bool = True,
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
            betas = make_betas(beta_schedule, timesteps, schedule_dtype, **options)
            if check_bool("zero_terminal_snr", zero_terminal_snr):
                betas = to_zero_snr(betas)
            betas = exact(betas)
        self.schedule_dtype = schedule_dtype
        self.num_timesteps = timesteps
        self.objective = check_choice("objective", objective, OBJECTIVES)
        if zero_terminal_snr and objective == "pred_noise":
            raise ConfigError(
                "zero_terminal_snr leaves nothing of the image at the last step, where "
                "'pred_noise' would have to find it: use objective='pred_v' or 'pred_x0'"
            )
        self.learned_variance = model.out_dim == 2 * model.channels
        self.variance_type = self._variance_type(variance_type)
        self.vlb_weight = check_float("vlb_weight", vlb_weight, 0, 1e6)
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
        self.rederive_pred_noise = check_bool("rederive_pred_noise", rederive_pred_noise)
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

    def alpha(self, t: int, s: int) -> float:
        """alpha_t of a step from level t down to s: alpha_bar_t / alpha_bar_s.

        A schedule in float32 rounds it too: in 1 - alpha of a short step that is the fourth digit,
        and what was made with such a schedule only comes again with the same rounding.
        """
        alpha = self.alpha_bar(t) / self.alpha_bar(s)
        return alpha if self.schedule_dtype == "float64" else _rounded(alpha)

    def log_snr(self, t: int) -> float:
        """lambda_t = log(sqrt(alpha_bar) / sqrt(1 - alpha_bar)) in float64: infinite at t = -1."""
        signal = self.alpha_bar(t)
        if signal in (0, 1):
            return math.inf if signal else -math.inf
        return 0.5 * math.log(signal / (1 - signal))

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
        """Eq. 4 for eps: (xt - sqrt(alpha_bar) x0) / sqrt(1 - alpha_bar); also where no x0 is."""
        rest = x_t - _at(self.sqrt_alphas_cumprod, t, x_t) * x0
        return (rest / _at(self.sqrt_one_minus_alphas_cumprod, t, x_t)).to(x_t.dtype)

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
        guided = any_label + guidance * (label - any_label)
        # a scale beyond 1 would push a learned variance out of its range: the label's own is kept
        return torch.cat((guided[:, : self.channels], label[:, self.channels :]), dim=1)

    def predict(  # noqa: PLR0913  what a run may choose, all by keyword
        self,
        x: Tensor,
        t: Tensor,
        x_self_cond: Tensor | None = None,
        *,
        clip_x_start: bool | None = None,
        dynamic_threshold: float | None = None,
        variance_type: str | None = None,
        classes: Tensor | None = None,
        guidance: float | None = None,
    ) -> Prediction:
        """One network call at x, (B, C, H, W), and t, (B,): x0, the eps that agrees, the variance.

        clip_x_start: hold x0 in [-1, 1]; `self.clip_x_start` if None.
        dynamic_threshold: see `bounded`. variance_type: `self.variance_type` if None.
        """
        out = self.model_output(x, t, x_self_cond, classes, guidance)
        mean, variance = out[:, : self.channels], out[:, self.channels :]
        clip = self.clip_x_start if clip_x_start is None else clip_x_start
        told = self._x_start(x, t, mean)
        x0 = bounded(told, clip, dynamic_threshold)
        source = x0 if self.rederive_pred_noise else told
        if self.objective == "pred_noise" and source is told:
            eps = mean
        else:
            eps = self.predict_noise_from_start(x, t, source)
        kind = self.variance_type if variance_type is None else self._variance_type(variance_type)
        share = {"fixed_small": 0.0, "fixed_large": 1.0}.get(kind)
        return Prediction(x0, eps, (variance + 1) / 2 if share is None else share)

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

        As the reference has it: eps agrees with a clipped x0 only if rederive_pred_noise. The
        library itself asks `predict`.
        """
        out = self.model_output(x, t, x_self_cond, classes, guidance)[:, : self.channels]
        x_start = bounded(self._x_start(x, t, out), clip_x_start, None)
        if self.objective == "pred_noise" and not (clip_x_start and rederive_pred_noise):
            return ModelPrediction(out, x_start)
        return ModelPrediction(self.predict_noise_from_start(x, t, x_start), x_start)

    def p_log_variance(self, t: Tensor, share: float | Tensor, like: Tensor) -> Tensor:
        """Nichol & Dhariwal 2021, Eq. 15: share log beta + (1 - share) log beta tilde, at t, (B,).

        beta tilde is 0 at t = 0, which no likelihood bears: there it is that of t = 1, and so is
        a fixed beta, as in the code of Ho et al. 2020; a learned variance reaches up to beta.
        """
        small, large = self.posterior_variance.clone(), self.betas.clone()
        small[0] = small[1] if len(small) > 1 else large[0]
        if not isinstance(share, Tensor):
            large[0] = small[0]
        small, large = (_at(values.log(), t, like) for values in (small, large))
        return share * large + (1 - share) * small

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
        x_start, _, share = self.predict(x, t, x_self_cond, clip_x_start=clip_denoised)
        mean, variance, log_variance = self.q_posterior(x_start, x, t)
        if self.variance_type != "fixed_small":
            log_variance = self.p_log_variance(t, share, x)
            variance = log_variance.exp()
        return mean, variance, log_variance, x_start

    def _x_start(self, x: Tensor, t: Tensor, out: Tensor) -> Tensor:
        """The x0 that the network's answer means, in whichever objective it was trained."""
        if self.objective == "pred_noise":
            return self.predict_start_from_noise(x, t, out)
        return self.predict_start_from_v(x, t, out) if self.objective == "pred_v" else out

    def _variance_type(self, name: str | None) -> str:
        if name is None:
            return "learned_range" if self.learned_variance else "fixed_small"
        check_choice("variance_type", name, VARIANCES)
        if name == "learned_range" and not self.learned_variance:
            raise ConfigError(
                "variance_type 'learned_range' needs a network that predicts a variance: build it "
                "with Unet(learned_variance=True), or use 'fixed_small' or 'fixed_large'"
            )
        return name


def bounded(x0: Tensor, clip: bool, dynamic_threshold: float | None) -> Tensor:
    """Saharia et al. 2022 section 2.3: x0 held in [-1, 1], by a clamp or by its own scale.

    dynamic_threshold: a quantile, in (0, 1]. Each image whose |x0| exceeds 1 there is clamped to
    that value and divided by it, which keeps contrasts that a plain clamp would flatten.
    """
    if dynamic_threshold is None:
        return x0.clamp(-1, 1) if clip else x0
    limit = x0.flatten(1).abs().double().quantile(dynamic_threshold, dim=1).clamp(min=1)
    limit = limit.to(x0.dtype).view(-1, *[1] * (x0.ndim - 1))
    return x0.clamp(-limit, limit) / limit


def _rounded(value: float) -> float:
    return torch.tensor(value, dtype=torch.float32, device="cpu").item()


def _at(values: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """values[t], (B,), as (B, 1, ..., 1) to broadcast against `like`, (B, ...)."""
    return values[t].view(-1, *[1] * (like.ndim - 1))
