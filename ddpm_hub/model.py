"""GaussianDiffusion: the model that people construct, train, sample from, save and share.

It is a tower: the equations of `diffusion.py`, the loss of `loss.py`, the runs of `sampling.py`,
the recipes of `editing.py`, and the files of `hub_model.py`. Here is what all of them are
constructed from, and how that becomes a config.json and comes back.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_hub.config_file import config_section, plain
from ddpm_hub.diffusion import GaussianProcess
from ddpm_hub.editing import EditingProcess
from ddpm_hub.errors import ConfigError, check_choice, shown
from ddpm_hub.hub_model import HubModel, build_checked, materialised
from ddpm_hub.interop import diffusers, lucidrains
from ddpm_hub.nets import NETS
from ddpm_hub.pickles import read_pickle
from ddpm_hub.weights import clean_state, load_state

if TYPE_CHECKING:
    from typing_extensions import Self


class GaussianDiffusion(EditingProcess, HubModel):
    """A denoising diffusion probabilistic model (Ho et al. 2020) around a network.

    Args:
        model: a network with `channels`, `out_dim` and `self_condition`, called as
            model(x, t, x_self_cond); a `Unet`, a `UNet2D`, or your own.
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
        schedule_dtype: "float64", or "float32" to round the schedule as diffusers does, whose
            weights and pictures come from such a one.
        rederive_pred_noise: while sampling, eps is made to agree with an x0 that was clipped, as
            in the reference; False keeps the network's own, as diffusers' DDIM does.

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
        if "diffusion" not in config and isinstance(config.get("unet"), dict):
            name = shown(config["unet"].get("_class_name", "Unet"))
            raise ConfigError(
                f"this is a network alone ({name}), without the process it was trained in: load it "
                "with its own class and wrap it, GaussianDiffusion(UNet2D.from_pretrained(...), "
                "image_size=32, objective='pred_noise', beta_schedule='linear')"
            )
        section = config_section(config, "diffusion", ARGUMENTS)
        unknown = sorted(overrides.keys() - ARGUMENTS)
        if unknown:
            raise ConfigError(
                f"GaussianDiffusion has no argument {shown(unknown)}: it has {sorted(ARGUMENTS)}"
            )
        if "image_size" not in section | overrides:
            raise ConfigError(
                "the config does not say of which size the images are: pass image_size=, in pixels"
            )
        name = config_section(config, "unet").get("_class_name", "Unet")
        net = NETS[check_choice("network", name, NETS)].from_config(config)
        return cls(net, **(section | overrides))

    @classmethod
    def from_diffusers(cls, repo_id_or_dir: str | Path, **options: Any) -> Self:
        """`from_pretrained` of what must be a DDPM of diffusers: a UNet2DModel with its scheduler.

        `sample(sampler="ddpm", steps=50, spacing="leading")` is then what DDPMPipeline does with
        50 steps. Weights stored in half precision are widened to float32, as diffusers does.
        """
        return cls.from_pretrained(repo_id_or_dir, layout="diffusers", **options)

    def save_diffusers(self, save_directory: str | Path) -> None:
        """Write what `diffusers.DDPMPipeline.from_pretrained` opens: `unet/`, `scheduler/`, index.

        Raises ConfigError for what diffusers cannot express: networks other than UNet2D,
        schedules without a counterpart, auto_normalize=False. Nothing is written then.
        """
        config = self.to_config()
        config["diffusion"]["image_size"] = list(self.image_size)
        diffusers.write(Path(save_directory), config, clean_state(self.model))

    @classmethod
    def from_lucidrains(
        cls,
        path: str | Path,
        *,
        image_size: int | tuple[int, int] | None = None,
        ema: bool = True,
        **overrides: Any,
    ) -> Self:
        """The model in a `model-7.pt` of denoising_diffusion_pytorch's Trainer (2.x), in eval mode.

        Network, schedule and objective are recovered from the numbers; `overrides` are arguments
        of this class for what cannot be, such as a schedule with options of its own.

        Args:
            path: the file; it is a pickle, of which only tensors and plain values are read.
            image_size: what the file does not say, in pixels.
            ema: the averaged weights, if the file has them; False for the raw ones.

        Raises WeightsError for a file of another kind, ConfigError for what has to be told.
        """
        state = lucidrains.state_of(read_pickle(path), ema)
        config = lucidrains.config_of(state, overrides | {"image_size": image_size})
        model = materialised(build_checked(cls, config, {}), "cpu")
        load_state(model, state, lucidrains.weights_of)
        return model.eval()


ARGUMENTS = set(inspect.signature(GaussianProcess.__init__).parameters) - {"self", "model"}
