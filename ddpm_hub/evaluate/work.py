"""Long work as a generator that returns its result, and numbered pieces of it that outlast a crash.

In the room: what all stages of an evaluation share. A stage yields `Progress` and returns what it
found; `finish` drains one, and `yield from` joins several. Its pieces lie in a folder whose name is
made of all that they depend on, so that what is there is what would be computed again. Not in the
room: what is computed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ddpm_hub.config_file import plain
from ddpm_hub.errors import DataError
from ddpm_hub.files import cache_folder, write_durably, write_text
from ddpm_hub.weights import clean_state

T = TypeVar("T")
EMA = {True: "yes", False: "no", None: "unknown"}  # are the weights averaged: words of a report
BLOCK = 2**24  # bytes of a mapped data set that are read at once to be hashed


class Progress(NamedTuple):
    """How far a stage is: `done` of `total`, in what the stage counts."""

    stage: str
    done: int
    total: int


Work = Generator[Progress, None, T]


def finish(work: Work[T], watch: Callable[[Progress], Any] | None = None) -> T:
    """Drain `work` to its result; `watch` sees every Progress."""
    while True:
        try:
            progress = next(work)
        except StopIteration as end:
            return end.value
        if watch is not None:
            watch(progress)


class Pieces:
    """`count` arrays, each there whole or not at all: in a folder, or without one in memory."""

    def __init__(self, folder: Path | None, count: int, about: Mapping[str, Any]):
        self.folder, self.count, self.about = folder, count, about
        self._kept: dict[int, np.ndarray] = {}

    def path(self, k: int) -> Path:
        """Where piece k lies."""
        return self.folder / f"chunk-{k:05d}.npy"

    def missing(self) -> list[int]:
        """The pieces that are still to be made."""
        return [k for k in range(self.count) if not self.has(k)]

    def has(self, k: int) -> bool:
        """Whether piece k is there."""
        return k in self._kept if self.folder is None else self.path(k).is_file()

    def open(self) -> None:
        """Make the folder, and write into it what it holds."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / "about.json", json.dumps(plain(self.about), indent=1) + "\n")

    def put(self, k: int, array: np.ndarray) -> None:
        """Keep piece k."""
        if self.folder is None:
            self._kept[k] = array
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_durably(self.path(k), lambda path: _save(path, array))

    def joined(self) -> np.ndarray:
        """All pieces, one after the other; DataError if one is missing or damaged."""
        return np.concatenate([self._get(k) for k in range(self.count)])

    def _get(self, k: int) -> np.ndarray:
        if self.folder is None:
            return self._kept[k]
        try:
            return np.load(self.path(k), allow_pickle=False)
        except FileNotFoundError:
            raise DataError(
                f"{self.path(k).name} is not in {str(self.folder)!r}: the cache must be one folder "
                "that all processes see"
            ) from None
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{str(self.path(k))!r} cannot be read ({error}): delete it, and it is made again"
            ) from None


def default_cache() -> Path:
    """Where pieces lie unless told: beside the data sets' cache, `DDPM_HUB_CACHE`/evaluation."""
    return cache_folder() / "evaluation"


def folder_of(cache: str | Path | None, kind: str, about: Mapping[str, Any]) -> Path | None:
    """The folder in `cache` for what depends on all of `about`, and on nothing else."""
    return None if cache is None else Path(cache) / f"{kind}-{digest(about)}"


def digest(about: Any) -> str:
    """16 hex digits for plain values."""
    text = json.dumps(plain(about), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def content_of(images: Tensor) -> str:
    """A hash of the pixels and the shape of a set of images."""
    found = hashlib.sha256(repr(tuple(images.shape)).encode())
    rows = max(1, BLOCK // max(1, images[0].numel()))
    for part in images.split(rows):  # a mapped set does not fit in the memory
        found.update(part.cpu().contiguous().numpy().data)
    return found.hexdigest()


def weights_of(module: nn.Module) -> str:
    """A hash of a network's weights, their names and their shapes; on any device the same."""
    found = hashlib.sha256()
    for name, tensor in sorted(clean_state(module).items()):
        found.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        found.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:  # np.save would add .npy to the temporary name
        np.save(file, array, allow_pickle=False)
