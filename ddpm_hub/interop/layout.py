"""Layout: what a source of models holds, told in this library's terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Layout(NamedTuple):
    """What a source holds.

    config: as our own config.json has it, {"diffusion": ..., "unet": ...}; of a network alone
        without "diffusion".
    weights: the path of the weights file in the source.
    rename: the names in that file, as {name in the file: name in the model that config describes}.
    """

    config: dict[str, Any]
    weights: str
    rename: Callable[[list[str]], dict[str, str]]
