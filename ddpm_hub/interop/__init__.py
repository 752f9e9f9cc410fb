"""Models as others store them, told in this library's terms: a config and names of weights.

Each layout is a function from a source to a `Layout`, or None if the source is not of that kind.
Nothing here builds a network or reads weights: `hub_model.py` does, from what it is told.
"""

from __future__ import annotations

from collections.abc import Callable

from ddpm_hub.config_file import CONFIG, read_config
from ddpm_hub.errors import ConfigError, WeightsError
from ddpm_hub.hub.sources import Source
from ddpm_hub.interop import diffusers
from ddpm_hub.interop.layout import Layout

WEIGHTS = "model.safetensors"


def ours(source: Source, allow_pickle: bool = False) -> Layout | None:
    """What `save_pretrained` writes: config.json and model.safetensors."""
    if not source.has(CONFIG):
        return None
    config = read_config(source.fetch(CONFIG))
    if not source.has(WEIGHTS):
        raise WeightsError(f"{source.name} holds no {WEIGHTS}: is it what save_pretrained wrote?")
    return Layout(config, WEIGHTS, lambda names: {name: name for name in names})


LAYOUTS: dict[str, Callable[[Source, bool], Layout | None]] = {
    "diffusers": diffusers.read,
    "ddpm_hub": ours,
}


def recognise(source: Source, allow_pickle: bool = False, only: str | None = None) -> Layout:
    """The layout of a source, by its content; ConfigError if it is of no known kind.

    only: the row of LAYOUTS that it has to be.
    """
    for name, layout in LAYOUTS.items():
        if only in (None, name) and (found := layout(source, allow_pickle)):
            return found
    if only == "diffusers":
        raise ConfigError(
            f"{source.name} holds no UNet2DModel of diffusers: open it with from_pretrained, "
            "which also reads what save_pretrained wrote"
        )
    raise ConfigError(
        f"{source.name} holds no {CONFIG}: it is neither a folder or repo of save_pretrained, "
        "nor a DDPM of diffusers"
    )
