"""Noise schedules: how much of the image each step destroys.

A schedule is a function `(timesteps, dtype=..., **options) -> betas`, shape (T,), each in (0, 1).
Everything else a diffusion needs follows from betas by `schedule_constants`. All of it is
float64: alpha_bar is a product of up to thousands of terms, and float32 loses its tail. Only where
weights were trained with float32 betas, as those of diffusers, is that rounding repeated.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ddpm_hub.errors import ConfigError, check_choice, check_float, check_int, shown

MAX_BETA = 0.999  # Improved DDPM: a beta of 1 would make x_t independent of x_{t-1}
MAX_TIMESTEPS = 100_000
DTYPES = {"float64": torch.float64, "float32": torch.float32}


def linear(
    timesteps: int,
    beta_start: float | None = None,
    beta_end: float | None = None,
    power: float = 1,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Ho et al. 2020, section 4: beta from 1e-4 to 0.02 at T = 1000, scaled by 1000 / T.

    Unscaled, a short chain would end far from noise (T = 100: alpha_bar = 0.364). The scaling
    pushes beta past 1 below T = 20, which is refused.

    beta_start, beta_end: the first and the last beta, taken as they are.
    power: the roots of that order run evenly: 2 is Stable Diffusion's "scaled_linear".
    """
    scale = 1000 / timesteps
    first = scale * 1e-4 if beta_start is None else beta_start
    last = scale * 0.02 if beta_end is None else beta_end
    if last > 1:
        raise ConfigError(
            f"timesteps {timesteps} is too short for the linear schedule (its last beta would be "
            f"{last:.3g}, over 1): use at least 20, or beta_schedule='cosine'"
        )
    if min(first, last) <= 0 or power <= 0:
        raise ConfigError(
            f"linear schedule needs beta_start {first:g}, beta_end {last:g} and power {power:g} "
            "above 0: leave them out for those of the paper"
        )
    ends = first ** (1 / power), last ** (1 / power)
    roots = torch.linspace(*ends, timesteps, dtype=dtype)
    # T = 20 gives exactly 1.0: clipped as the other schedules are
    return roots.pow(power).clamp(max=MAX_BETA)


def cosine(timesteps: int, s: float = 0.008, dtype: torch.dtype = torch.float64) -> Tensor:
    """Nichol & Dhariwal 2021, Eq. 17: alpha_bar = cos^2((t/T + s) / (1 + s) pi/2)."""
    t = _unit_interval(timesteps)
    return _betas(torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2).to(dtype)


def sigmoid(
    timesteps: int,
    start: float = -3,
    end: float = 3,
    tau: float = 1,
    beta_start: float | None = None,
    beta_end: float | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Jabri et al. 2022 (arXiv:2212.11972), Figure 8: alpha_bar falls along a sigmoid.

    beta_start, beta_end: if given, it is the betas that rise along it, between these (Xu et al.
    2022, GeoDiff; what diffusers calls "sigmoid" runs from start=-6 to end=6).
    """
    if not (tau > 0 and start < end):
        raise ConfigError(f"sigmoid schedule needs start {start} < end {end} and tau {tau} > 0")
    if beta_start is not None and beta_end is not None:
        steps = torch.linspace(start, end, timesteps, dtype=dtype) / tau
        return beta_start + (beta_end - beta_start) * steps.sigmoid()
    if beta_start is not beta_end:
        raise ConfigError("sigmoid schedule has one of beta_start and beta_end: give both, or none")
    t = _unit_interval(timesteps)
    # the two ends in float32, as in the reference implementation: its checkpoints expect it
    v_start, v_end = torch.tensor([start / tau, end / tau], dtype=torch.float32).sigmoid()
    curve = (v_end - ((t * (end - start) + start) / tau).sigmoid()) / (v_end - v_start)
    return _betas(curve).to(dtype)


SCHEDULES: dict[str, Callable[..., Tensor]] = {
    "linear": linear,
    "cosine": cosine,
    "sigmoid": sigmoid,
}


def make_betas(name: str, timesteps: int, dtype: str = "float64", /, **options: float) -> Tensor:
    """The named schedule's betas, (T,), checked; computed in "float64", or in "float32".

    Raises ConfigError for an unknown name or option, or `timesteps` that it cannot have.
    """
    check_choice("beta_schedule", name, SCHEDULES)
    check_choice("schedule_dtype", dtype, DTYPES)
    check_int("timesteps", timesteps, 1, MAX_TIMESTEPS, "use 1000 as the paper does")
    for key, value in options.items():
        check_float(f"schedule_fn_kwargs[{shown(key)}]", value, -1e3, 1e3)
    try:
        betas = SCHEDULES[name](timesteps, dtype=DTYPES[dtype], **options)
    except TypeError as error:
        raise ConfigError(f"schedule_fn_kwargs {options} do not fit {name!r}: {error}") from error
    if not ((betas > 0) & (betas < 1)).all():
        raise ConfigError(
            f"beta_schedule {name!r} with timesteps {timesteps} and {options} gives betas "
            "outside (0, 1): use its default options"
        )
    return betas


def alpha_bar(name: str, timesteps: int, **options) -> Tensor:
    """alpha_bar_t = prod_{s <= t} (1 - beta_s) of the named schedule, float64 (T,)."""
    return (1 - make_betas(name, timesteps, **options)).cumprod(0)


def zero_terminal_snr(betas: Tensor) -> Tensor:
    """Lin et al. 2023 (arXiv:2305.08891), Algorithm 1: the betas, (T,), with alpha_bar_{T-1} = 0.

    sqrt(alpha_bar) is shifted so that it ends at 0 and scaled so that it begins where it did:
    the chain then ends in noise alone, which is what sampling starts from.
    """
    signal = (1 - betas).cumprod(0).sqrt()
    if len(signal) < 2:
        raise ConfigError("zero_terminal_snr needs timesteps of at least 2: use 1000")
    signal = (signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1]))
    alpha_bar = signal**2
    previous = torch.cat((torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]))
    return 1 - alpha_bar / previous


def exact(betas: Tensor) -> Tensor:
    """float64 betas, (T,), with the alpha_bar that these have in their own dtype, exactly."""
    if betas.dtype == torch.float64:
        return betas
    alpha_bar = (1 - betas).cumprod(0).double()
    return 1 - alpha_bar / torch.cat((torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]))


def schedule_constants(
    betas: Tensor, objective: str, max_snr: float | None = None
) -> dict[str, Tensor]:
    """Everything that follows from betas, float64 (T,), under the reference's names.

    loss_weight is Hang et al. 2023 (min-SNR): clip(SNR, max_snr), over SNR for eps and over
    SNR + 1 for v. Where the SNR is 0 that would never train the step, so it is 1 there, as for
    all steps of Lin et al. 2023.
    """
    alphas = 1 - betas
    alpha_bar = alphas.cumprod(0)
    previous = torch.cat((torch.ones(1, dtype=betas.dtype, device=betas.device), alpha_bar[:-1]))
    variance = betas * (1 - previous) / (1 - alpha_bar)  # beta tilde, Eq. 7
    snr = alpha_bar / (1 - alpha_bar)
    clipped = snr if max_snr is None else snr.clamp(max=max_snr)
    weight = clipped / {"pred_noise": snr, "pred_x0": 1, "pred_v": snr + 1}[objective]
    return {
        "betas": betas,
        "alphas_cumprod": alpha_bar,
        "alphas_cumprod_prev": previous,
        "sqrt_alphas_cumprod": alpha_bar.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - alpha_bar).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - alpha_bar).log(),
        "sqrt_recip_alphas_cumprod": (1 / alpha_bar).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / alpha_bar - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp_min(1e-20).log(),  # 0 at t = 0
        "posterior_mean_coef1": betas * previous.sqrt() / (1 - alpha_bar),
        "posterior_mean_coef2": (1 - previous) * alphas.sqrt() / (1 - alpha_bar),
        "loss_weight": weight.masked_fill(snr == 0, 1),
    }


def _unit_interval(timesteps: int) -> Tensor:
    return torch.linspace(0, timesteps, timesteps + 1, dtype=torch.float64) / timesteps


def _betas(alpha_bar: Tensor) -> Tensor:
    """The betas, (T,), whose running product is `alpha_bar`, (T + 1,) starting at clean data."""
    alpha_bar = alpha_bar / alpha_bar[0]
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(0, MAX_BETA)
