"""The variational bound in bits/dim, term by term, and the code that it promises.

In the room: Eq. 5 of Ho et al. 2020 for any chain of timesteps, with a fixed or a learned
variance, and section 4.3's rate and distortion. Not in the room: the densities themselves
(`gaussians.py`), training on one of the terms (`loss.py`), and pictures of the curves.

Time is that of `diffusion.py`: a chain visits t = T-1 .. 0 and ends at s = -1, the image. L_t is
spent on x_s once x_t is known, LT on x_{T-1}, and L0 on the image's 256 levels once x_0 is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm_hub.diffusion import VARIANCES, GaussianProcess, Prediction
from ddpm_hub.errors import ConfigError, DataError, check_choice, check_int, shown
from ddpm_hub.gaussians import discretized_gaussian_log_likelihood, normal_kl, widest
from ddpm_hub.inputs import as_labels, check_images
from ddpm_hub.randomness import noise_like
from ddpm_hub.runtime import eval_mode


class RateDistortion(NamedTuple):
    """Section 4.3: how good the image is, (S + 1,) each, when that much has been received.

    t: the state x_t that has arrived, from the noise T-1 to -1, the image itself.
    rate: bits/dim so far. distortion: RMSE of the x0 predicted from x_t, on the scale 0 .. 255.
    """

    t: Tensor
    rate: Tensor
    distortion: Tensor


class Likelihood(NamedTuple):
    """Eq. 5 in bits/dim, means over the images: total = LT + Lt.sum() + L0.

    float64 tensors on the CPU. In the result of a full chain the index of those of shape (S,)
    is t; `t` says which timesteps a shorter one visits, ascending. NaN is what is not known yet.
    """

    total: Tensor  # no less than -log2 p(x0), the bits of the best code that the model allows
    LT: Tensor  # KL(q(x_{T-1} | x0) || N(0, I)), which nobody can learn
    Lt: Tensor  # (S,) KL(q(x_s | xt, x0) || p(x_s | xt)), 0 at the last step, whose term is L0
    L0: Tensor  # -log2 p(x0 | x_0) by the decoder of 256 bins
    mse_x0: Tensor  # (S,) of the x0 predicted from xt, in [-1, 1], clipped if the process clips
    mse_eps: Tensor  # (S,) of the eps that agrees with it: the loss of the paper's network
    per_image: Tensor  # (N,) totals
    t: Tensor  # (S,) int64

    def rate_distortion(self) -> RateDistortion:
        """Section 4.3 for this bound, without asking the network again."""
        rate = torch.cat((self.LT[None], self.Lt.flip(0)[:-1], self.L0[None])).cumsum(0)
        error = torch.cat((self.mse_x0.flip(0).sqrt(), self.mse_x0.new_zeros(1)))
        t = torch.cat((self.t.flip(0), -self.t.new_ones(1)))
        return RateDistortion(t, rate, 127.5 * error)  # a distance of 1 is 127.5 levels


class Progress(NamedTuple):
    """One network call of many: done of total are made, the last at t, with this result so far.

    x, x0: the state that the network saw and the image that it saw in it, (B, C, H, W) in [-1, 1].
    """

    done: int
    total: int
    t: int
    result: Likelihood
    x: Tensor
    x0: Tensor


def bits_per_dim(
    diffusion: GaussianProcess,
    images: Tensor,
    generator: torch.Generator | None = None,
    **options,
) -> Likelihood:
    """Eq. 5: -log2 p(x0) <= LT + sum_t Lt + L0, in bits/dim, estimated with one noise per t.

    diffusion, images, generator, options: those of `likelihood_stream`, which this drains.
    """
    *_, last = likelihood_stream(diffusion, images, generator, **options)
    return last.result


def rate_distortion(
    diffusion: GaussianProcess,
    images: Tensor,
    generator: torch.Generator | None = None,
    **options,
) -> RateDistortion:
    """Section 4.3: bits/dim received, and the error of the picture they give; see bits_per_dim."""
    return bits_per_dim(diffusion, images, generator, **options).rate_distortion()


def likelihood_stream(
    diffusion: GaussianProcess,
    images: Tensor,
    generator: torch.Generator | None = None,
    *,
    batch_size: int = 64,
    variance_type: str | None = None,
    ts: Sequence[int] | None = None,
    classes: int | Sequence[int] | Tensor | None = None,
) -> Iterator[Progress]:
    """The terms of Eq. 5 as they come, one `Progress` after each network call.

    images: (N, C, H, W), floats in [0, 1] or uint8, on any device; in [-1, 1] for a process
        without auto_normalize. The decoder codes each value's nearest of 256 levels.
    generator: the source of noise, drawn for one batch and t after the other; torch's global one
        if None.
    variance_type: one of VARIANCES; that of the process if None.
    ts: the timesteps visited, decreasing, with the end -1, as a row of SPACINGS gives them; all T
        if None. Fewer are a shorter chain with a bound of its own (Nichol & Dhariwal 2021), best
        by far with "logsnr": most bits are spent in the last few of a thousand steps.
    classes: a label, or one for each image, for a network with `num_classes`.

    x0 is clipped as `diffusion.clip_x_start` says, and no x0 of before is told to a network with
    self-conditioning. It runs in eval mode, and is itself again between two calls.
    Raises DataError for images, ConfigError for other arguments that do not fit.
    """
    check_int("batch_size", batch_size, 1, 1_000_000)
    if variance_type is not None:
        check_choice("variance_type", variance_type, VARIANCES)
    chain = Chain.of(diffusion, ts)
    _check(diffusion, images)
    if classes is not None:
        classes = as_labels(classes, len(images), diffusion.model, diffusion.device)
    return _stream(diffusion, images, generator, batch_size, variance_type, chain, classes)


def fixed_variance_terms(
    diffusion: GaussianProcess,
    mse_x0: Tensor,
    variance_type: str,
    ts: Sequence[int] | None = None,
) -> Tensor:
    """Eq. 8: Lt = |mean - predicted mean|^2 / (2 sigma_t^2) + const, (S,) in bits/dim.

    With a fixed variance the error of the predicted x0, `Likelihood.mse_x0`, says all: one pass
    over the images serves "fixed_small" and "fixed_large". LT and L0 are the same for both.
    """
    check_choice("variance_type", variance_type, ("fixed_small", "fixed_large"))
    chain = Chain.of(diffusion, ts)
    log_variance = chain.log_large if variance_type == "fixed_large" else chain.log_small
    off = chain.towards_x0 * mse_x0.sqrt()
    nats = normal_kl(off, chain.log_small, torch.zeros_like(off), log_variance)
    nats[0] = 0  # that step's term is L0
    return nats / math.log(2)


@dataclass(frozen=True)
class Chain:
    """The steps t -> s of a chain, ascending in t: float64 vectors (S,) of their constants."""

    t: Tensor
    alpha_bar: Tensor
    towards_x0: Tensor  # the share of x0 in the mean of q(x_s | xt, x0), Eq. 7
    log_small: Tensor  # log beta tilde, Eq. 7
    log_large: Tensor  # log beta

    @classmethod
    def of(cls, process: GaussianProcess, ts: Sequence[int] | None = None) -> Chain:
        """Eqs. 6-7 between any two timesteps: alpha = alpha_bar_t / alpha_bar_s.

        beta tilde is 0 at the last step: there it is that of the step before, as in Ho's code.
        """
        pairs = list(pairwise(_checked_ts(ts, process.num_timesteps)))[::-1]
        t = torch.tensor([t for t, _ in pairs])
        a_t, a_s = (
            torch.tensor([process.alpha_bar(v) for v in side], dtype=torch.float64)
            for side in zip(*pairs, strict=True)
        )
        beta = 1 - a_t / a_s
        small = beta * (1 - a_s) / (1 - a_t)
        small[0] = small[1] if len(small) > 1 else beta[0]
        return cls(t, a_t, a_s.sqrt() * beta / (1 - a_t), small.log(), beta.log())

    def prior_bits(self, x0: Tensor) -> Tensor:
        """Eq. 5's LT = KL(q(x_{T-1} | x0) || N(0, I)), (B,) in bits/dim; x0 in [-1, 1]."""
        a_T, zero = self.alpha_bar[-1].to(x0), x0.new_zeros(())
        return _per_dim(normal_kl(a_T.sqrt() * x0, torch.log1p(-a_T), zero, zero))

    def step_bits(self, i: int, x0: Tensor, prediction: Prediction) -> Tensor:
        """Eq. 5's Lt of the i-th step, or for i = 0 the decoder's L0, (B,) in bits/dim.

        x_t has the same share in both means of Lt and none in the decoder's: only x0 is compared.
        """
        small, large = self.log_small[i].to(x0), self.log_large[i].to(x0)
        if i == 0 and not isinstance(prediction.share, Tensor):
            large = small  # a fixed beta is beta tilde there, too
        log_variance = small + prediction.share * (large - small)
        x0_hat = prediction.x0.to(x0)
        if i == 0:
            return -_per_dim(discretized_gaussian_log_likelihood(x0, x0_hat, log_variance / 2))
        weight = self.towards_x0[i].to(x0)
        return _per_dim(normal_kl(weight * x0, small, weight * x0_hat, log_variance))


class _Tally:
    """Sums over the images seen so far, from which a `Likelihood` can be told at any time."""

    def __init__(self, chain: Chain, images: int):
        self.chain = chain
        self.bits, self.squares, self.seen = torch.zeros(3, len(chain.t), dtype=torch.float64)
        self.prior, self.started = torch.zeros((), dtype=torch.float64), 0
        self.per_image = torch.full((images,), torch.nan, dtype=torch.float64)

    def start(self, prior: Tensor) -> None:
        """A batch begins, with these LT, (B,)."""
        self.prior += prior.sum()
        self.started += len(prior)
        self.batch = prior

    def add(self, i: int, bits: Tensor, squares: Tensor) -> None:
        """The i-th step of the batch, (B,) each; step 0 is the last and completes its totals."""
        self.bits[i] += bits.sum()
        self.squares[i] += squares.sum()
        self.seen[i] += len(bits)
        self.batch += bits
        if i == 0:
            self.per_image[self.started - len(bits) : self.started] = self.batch

    def result(self) -> Likelihood:
        """The means so far, in tensors of their own."""
        terms, mse_x0 = self.bits / self.seen, self.squares / self.seen
        L0, LT, a = terms[0].clone(), self.prior / self.started, self.chain.alpha_bar
        total, per_image = LT + terms.sum(), self.per_image.clone()
        terms[0] = 0
        mse_eps = mse_x0 * a / (1 - a)
        return Likelihood(total, LT, terms, L0, mse_x0, mse_eps, per_image, self.chain.t)


def _stream(
    process: GaussianProcess,
    images: Tensor,
    rng: torch.Generator | None,
    batch_size: int,
    variance_type: str | None,
    chain: Chain,
    classes: Tensor | None,
) -> Iterator[Progress]:
    tally, steps, done = _Tally(chain, len(images)), len(chain.t), 0
    starts = range(0, len(images), batch_size)
    for start in starts:
        x0 = _scaled(process, images[start : start + batch_size])
        labels = None if classes is None else classes[start : start + batch_size]
        tally.start(chain.prior_bits(x0).cpu().double())
        for i in reversed(range(steps)):
            t = int(chain.t[i])
            with torch.no_grad(), eval_mode(process):
                x_start = x0.to(process.betas.dtype)
                times = torch.full((len(x0),), t, device=x0.device)
                x = process.q_sample(x_start, times, noise_like(x_start, rng))
                prediction = process.predict(x, times, variance_type=variance_type, classes=labels)
                bits = chain.step_bits(i, x0, prediction)
                squares = (x0 - prediction.x0).square().flatten(1).mean(1)
            tally.add(i, bits.cpu().double(), squares.cpu().double())
            done += 1
            yield Progress(done, len(starts) * steps, t, tally.result(), x, prediction.x0)


def _per_dim(nats: Tensor) -> Tensor:
    """(B, C, H, W) in nats -> (B,) in bits/dim."""
    return nats.flatten(1).mean(1) / math.log(2)


def _scaled(process: GaussianProcess, images: Tensor) -> Tensor:
    """A batch in [-1, 1] on the model's device, in the widest type there is."""
    levels = images.dtype == torch.uint8
    images = images.to(process.device).to(widest(process.device))
    return process.normalize(images / 255 if levels else images)


def _check(process: GaussianProcess, images: Tensor) -> None:
    """Raise DataError unless the images are those of this process, uint8 or floats."""
    expected, unit = (process.channels, *process.image_size), process.auto_normalize
    levels = isinstance(images, Tensor) and images.dtype == torch.uint8
    if levels and not unit:
        raise DataError("images are uint8, but auto_normalize is False: pass floats in [-1, 1]")
    check_images(images[:1] / 255 if levels else images, expected, True, unit)


def _checked_ts(ts: Sequence[int] | None, T: int) -> list[int]:
    """The timesteps as a list, all T for None, or a ConfigError unless they go down to -1."""
    every = range(T - 1, -2, -1)
    ts = [check_int("ts", t, -1, T - 1) for t in (every if ts is None else ts)]
    if len(ts) < 2 or ts[-1] != -1 or any(t <= s for t, s in pairwise(ts)):
        raise ConfigError(
            f"ts {shown(ts)} does not go down to -1: pass timesteps from {T - 1} down, and -1"
        )
    return ts
