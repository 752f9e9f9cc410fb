"""The networks, by the name that `config.json` gives them."""

from ddpm_hub.nets.unet import Unet

NETS = {"Unet": Unet}
