"""ddpm_hub: denoising diffusion probabilistic models to learn from, train with and share.

    from ddpm_hub import GaussianDiffusion
    images = GaussianDiffusion.from_pretrained("bundled").sample(16, steps=25)

Only public names are here, and each is loaded when it is first asked for: `import ddpm_hub` costs
nothing, neither torch nor the Hub's client.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ddpm_hub.version import __version__

if TYPE_CHECKING:
    from ddpm_hub.config import PRESETS, TrainConfig
    from ddpm_hub.errors import DDPMHubError
    from ddpm_hub.model import GaussianDiffusion
    from ddpm_hub.nets import Unet, UNet2D
    from ddpm_hub.samplers import SAMPLERS
    from ddpm_hub.schedules import SCHEDULES
    from ddpm_hub.streams import Step
    from ddpm_hub.training import Trainer, train

HOME = {
    "DDPMHubError": "errors",
    "GaussianDiffusion": "model",
    "PRESETS": "config",
    "SAMPLERS": "samplers",
    "SCHEDULES": "schedules",
    "Step": "streams",
    "TrainConfig": "config",
    "Trainer": "training",
    "UNet2D": "nets",
    "Unet": "nets",
    "train": "training",
}

__all__ = [
    "PRESETS",
    "SAMPLERS",
    "SCHEDULES",
    "DDPMHubError",
    "GaussianDiffusion",
    "Step",
    "TrainConfig",
    "Trainer",
    "UNet2D",
    "Unet",
    "__version__",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in HOME:
        raise AttributeError(f"module 'ddpm_hub' has no attribute {name!r}")
    value = getattr(import_module(f"ddpm_hub.{HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
