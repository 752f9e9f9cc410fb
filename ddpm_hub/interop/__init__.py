"""Models as others store them, told in this library's terms: a config and names of weights.

Each layout is a function from a source to a `Layout`, or None if the source is not of that kind.
Nothing here builds a network or reads weights: `hub_model.py` does, from what it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ddpm_hub.config_file import CONFIG, read_config
from ddpm_hub.errors import ConfigError, WeightsError
from ddpm_hub.sources import Source

WEIGHTS = "model.safetensors"


class Layout(NamedTuple):
    """What a source holds.

    config: as our own config.json has it, {"diffusion": ..., "unet": ...}.
    weights: the path of the weights file in the source.
    rename: the names in that file, as {name in the file: name in the model that config describes}.
    """

    config: dict[str, Any]
    weights: str
    rename: Callable[[list[str]], dict[str, str]]


def ours(source: Source, allow_pickle: bool = False) -> Layout | None:
    """What `save_pretrained` writes: config.json and model.safetensors."""
    if not source.has(CONFIG):
        return None
    config = read_config(source.fetch(CONFIG))
    if not source.has(WEIGHTS):
        raise WeightsError(f"{source.name} holds no {WEIGHTS}: is it what save_pretrained wrote?")
    return Layout(config, WEIGHTS, lambda names: {name: name for name in names})


LAYOUTS: tuple[Callable[[Source, bool], Layout | None], ...] = (ours,)


def recognise(source: Source, allow_pickle: bool = False) -> Layout:
    """The layout of a source, by its content; ConfigError if it is of no known kind."""
    for layout in LAYOUTS:
        if found := layout(source, allow_pickle):
            return found
    raise ConfigError(
        f"{source.name} holds no {CONFIG}: it is neither a folder or repo of save_pretrained, "
        "nor a DDPM of diffusers"
    )
