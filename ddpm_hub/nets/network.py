"""What all networks share: their arguments are their config, and an image must fit them.

Not in the room: layers (`blocks.py`, `unet2d_blocks.py`) and what each argument may be.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ddpm_hub.config_file import config_section
from ddpm_hub.errors import ConfigError, shown
from ddpm_hub.hub_model import HubModel
from ddpm_hub.nets.arguments import check_divisible

if TYPE_CHECKING:
    from typing_extensions import Self


class Network(HubModel):
    """A network that keeps its constructor's arguments in `config`: section "unet" of the file."""

    kind: str  # how config.json calls this class: a row of NETS
    channels: int
    downsample_factor: int

    def to_config(self) -> dict[str, Any]:
        """{"unet": {"_class_name": its class, every constructor argument}}."""
        return {"unet": {"_class_name": self.kind, **self.config}}

    @classmethod
    def from_config(cls, config: dict[str, Any], **overrides: Any) -> Self:
        """From `to_config`, or from the config of a diffusion around such a network."""
        own, name = cls.arguments(), cls.kind
        section = config_section(config, "unet")
        if section.get("_class_name", "Unet") != name:
            raise ConfigError(
                f"config.json describes a {shown(section.get('_class_name', 'Unet'))}, not a "
                f"{name}: load it with the class it names"
            )
        section = config_section(config, "unet", {"_class_name", *own})
        unknown = sorted(overrides.keys() - own.keys())
        if unknown:
            raise ConfigError(f"{name} has no argument {shown(unknown)}: it has {sorted(own)}")
        for argument, parameter in own.items():
            if parameter.default is parameter.empty and argument not in section | overrides:
                raise ConfigError(
                    f"config.json section 'unet' has no {argument!r}: it is damaged, save again"
                )
        return cls(**{k: v for k, v in (section | overrides).items() if k != "_class_name"})

    @classmethod
    def arguments(cls) -> dict[str, inspect.Parameter]:
        """The constructor's arguments by name."""
        parameters = inspect.signature(cls.__init__).parameters
        return {name: parameter for name, parameter in parameters.items() if name != "self"}

    @classmethod
    def of_channels(cls, channels: int) -> dict[str, int]:
        """The arguments that make a network for images of so many channels."""
        return {"channels": channels}

    @classmethod
    def rename_weights(cls, names: list[str]) -> dict[str, str]:
        """A diffusion's file has this network under `model.`; it loads from there too."""
        prefix = "model." if all(name.startswith("model.") for name in names) else ""
        return {name: name.removeprefix(prefix) for name in names}

    def _check_image(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ConfigError(
                f"image of shape {tuple(x.shape)} does not fit this {self.kind} of "
                f"{self.channels} channels: pass (batch, {self.channels}, height, width)"
            )
        check_divisible(x.shape[-2:], self.downsample_factor)
