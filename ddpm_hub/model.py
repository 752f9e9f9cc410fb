"""GaussianDiffusion: the model that people construct, train, sample from, save and share.

It is a tower: the equations of `diffusion.py`, the loss of `loss.py`, the runs of `sampling.py`,
the recipes of `editing.py`, and the files of `hub_model.py`. Here is what all of them are
constructed from, and how that becomes a config.json and comes back.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ddpm_hub.config_file import config_section, plain
from ddpm_hub.diffusion import GaussianProcess
from ddpm_hub.editing import EditingProcess
from ddpm_hub.errors import ConfigError, check_choice, shown
from ddpm_hub.hub_model import HubModel
from ddpm_hub.nets import NETS

if TYPE_CHECKING:
    from typing_extensions import Self


class GaussianDiffusion(EditingProcess, HubModel):
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
        variance_type: of a step of `ddpm` and of the likelihood: "fixed_small" (beta tilde),
            "fixed_large" (beta), or "learned_range" (Nichol & Dhariwal 2021), for a network with
            learned_variance=True; None: learned if it is, else small.
        vlb_weight: share of L_vlb in the loss of a learned variance (0.001 there).
        zero_terminal_snr: rescale the schedule so that it ends in pure noise (Lin et al. 2023).

    Raises:
        ConfigError: an argument that cannot be, named with its limit and the cure.

    Calling it with images in [0, 1], (B, C, H, W), gives the training loss, a scalar.
    """

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


ARGUMENTS = set(inspect.signature(GaussianProcess.__init__).parameters) - {"self", "model"}
