"""The networks, by the name that `config.json` gives them."""

from __future__ import annotations

from typing import Any

from ddpm_hub.errors import check_choice
from ddpm_hub.nets.network import Network
from ddpm_hub.nets.unet import Unet
from ddpm_hub.nets.unet2d import UNet2D

NETS: dict[str, type[Network]] = {"Unet": Unet, "UNet2D": UNet2D}


def build(unet: dict[str, Any], channels: int | None = None) -> Network:
    """The network of a preset's `unet` or a config's section "unet", weights at random.

    channels: of the images, instead of the network's own. Raises ConfigError for an unknown
    "_class_name" (Unet if there is none) or an argument that cannot be.
    """
    cls = NETS[check_choice("network", unet.get("_class_name", "Unet"), NETS)]
    return cls.from_config({"unet": unet}, **(cls.of_channels(channels) if channels else {}))
