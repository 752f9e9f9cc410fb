"""Algorithm 1: what a diffusion is trained by, Eq. 14 and what has been added to it since.

In the room: the loss and all that is random in it. Not in the room: the equations it stands on
(`diffusion.py`), and optimisers, averages and events (`training/`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_hub.assignment import linear_sum_assignment
from ddpm_hub.diffusion import GaussianProcess
from ddpm_hub.errors import check_choice, check_float
from ddpm_hub.gaussians import discretized_gaussian_log_likelihood, normal_kl
from ddpm_hub.inputs import as_labels, check_images, check_times


class DenoisingLoss(GaussianProcess):
    """A process that learns: called with images in [0, 1], it gives the loss.

    `GaussianDiffusion` documents the arguments of the constructor.
    """

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

        The target is eps, x0 or v by `objective`. With a learned variance, L_hybrid of Nichol &
        Dhariwal 2021 (Eq. 16): + vlb_weight L_vlb. Returns a scalar, or (B,) with
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
        out, variance = out.to(wide).split((self.channels, self.model.out_dim - self.channels), 1)
        loss = F.mse_loss(out, target.to(wide), reduction="none").flatten(1).mean(1)
        loss = loss * self.loss_weight[t]
        if self.variance_type == "learned_range" and self.vlb_weight:
            bits = self.vlb_term(x_start, x, t, out.detach(), (variance + 1) / 2)
            loss = loss + self.vlb_weight * self.num_timesteps * bits
        return loss if loss_reduction == "none" else loss.mean()

    def vlb_term(
        self, x_start: Tensor, x_t: Tensor, t: Tensor, out: Tensor, share: Tensor
    ) -> Tensor:
        """Eq. 5's term at t: KL(q(x_{t-1} | xt, x0) || p(x_{t-1} | xt)), bits/dim, (B,).

        At t = 0 the decoder's -log p(x0 | x1) of section 3.3. out: the network's x0, eps or v, of
        which `p_losses` lets no gradient through: the mean is L_simple's to learn (Nichol &
        Dhariwal 2021, section 3.1), the variance, by its `share`, this term's.
        """
        mean = self.q_posterior(self._x_start(x_t, t, out), x_t, t)[0]
        log_variance = self.p_log_variance(t, share, x_t)
        true_mean = self.q_posterior(x_start, x_t, t)[0]
        kl = normal_kl(true_mean, self.p_log_variance(t, 0.0, x_t), mean, log_variance)
        nll = -discretized_gaussian_log_likelihood(x_start, mean, log_variance / 2)
        first = (t == 0).view(-1, *[1] * (kl.ndim - 1))
        return torch.where(first, nll, kl).flatten(1).mean(1) / math.log(2)

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
