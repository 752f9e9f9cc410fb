"""What training reads: a set of images that lies somewhere whole, or a stream of them.

In the room: the two kinds, what was skipped on the way and how it is told. Not in the room: where
the images come from (sets.py, files.py, hub.py) and their way to the device (feed.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm_hub.data.store import workers
from ddpm_hub.errors import DataError
from ddpm_hub.images import Unreadable

FEW_IMAGES = 100
NAMED = 5  # of the files skipped for one reason
AHEAD = 64  # images of a stream that are decoded before they are asked for
HOPELESS = 1000  # so many unreadable images in a row, and a stream gives up


class Skipped(NamedTuple):
    """A file that is not in the set, and why: "it is {why}"."""

    name: str
    why: str


def skipped_notes(skipped: tuple[Skipped, ...]) -> list[str]:
    """One sentence for each reason, the first few files by name."""
    reasons: dict[str, list[str]] = {}
    for name, why in skipped:
        reasons.setdefault(why, []).append(name)
    return [_note(why, names) for why, names in reasons.items()]


def _note(why: str, names: list[str]) -> str:
    files = "1 file was" if len(names) == 1 else f"{len(names):,} files were"
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"{files} skipped, {why}: {', '.join(names[:NAMED])}{more}."


@dataclass(eq=False)
class ImageSet:
    """Images uint8 (N, C, H, W), in memory or mapped from a file, with what is known about them.

    labels: int64 (N,), the meaning of each in `classes`. Several sets may share the pixels, and
    mapped ones cannot be written at all: copy before you write.
    """

    images: Tensor
    name: str
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    def __post_init__(self):
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or not len(self.images):
            raise DataError(
                f"images are {self.images.dtype} {tuple(self.images.shape)}: pass uint8 "
                "(N, C, H, W), at least one"
            )
        if self.labels is not None and len(self.labels) != len(self.images):
            raise DataError(
                f"{len(self.labels)} labels for {len(self.images)} images: pass one for each"
            )

    def __len__(self) -> int:
        return len(self.images)

    def notes(self) -> list[str]:
        """What a person should know: the files skipped and why, and whether images are few."""
        notes = skipped_notes(self.skipped)
        if len(self) < FEW_IMAGES:
            are = "1 image is" if len(self) == 1 else f"{len(self)} images are"
            notes.append(
                f"{are} few: the model will learn them by heart, use {FEW_IMAGES} or more for "
                "new pictures."
            )
        return notes


@dataclass(frozen=True, eq=False)
class ImageStream:
    """Images larger than memory, uint8 `shape` (C, H, W) each, one after the other, endlessly.

    rows: (seed, rank, size) -> what of the set this process sees, undecoded, epoch after epoch,
        each time in another order. A row has a `name`.
    decode: a row -> its pixels, or Unreadable.
    skipped: what could not be decoded so far, at most a thousand.
    """

    shape: tuple[int, int, int]
    name: str
    rows: Callable[[int, int, int], Iterator[Any]]
    decode: Callable[[Any], np.ndarray]
    seed: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    def images(self, rank: int = 0, size: int = 1, start: int = 0) -> Iterator[Tensor]:
        """What process `rank` of `size` sees, from its image number `start` on.

        A function of (seed, rank, size, start) alone: `start` passes over rows without decoding
        them. An unreadable row is replaced by the next good one, so that the count stays right.
        Raises DataError where the source fails for good.
        """
        missing = 0
        for pixels in self._decoded(islice(self.rows(self.seed, rank, size), start, None)):
            if pixels is None:
                missing += 1
                if missing == HOPELESS:
                    raise DataError(
                        f"{self.name!r}: {HOPELESS} images in a row cannot be read "
                        f"({self.skipped[-1].why}): choose another data set"
                    )
                continue
            for _ in range(missing + 1):
                yield torch.from_numpy(pixels)
            missing = 0

    def notes(self) -> list[str]:
        """What a person should know: what could not be read so far."""
        return skipped_notes(tuple(self.skipped))

    def _decoded(self, rows: Iterator[Any]) -> Iterator[np.ndarray | None]:
        """The rows' pixels in their order, decoded ahead by threads; None is unreadable."""
        waiting: deque = deque()
        pool = ThreadPoolExecutor(workers(), thread_name_prefix="decode")
        try:
            for row in rows:
                waiting.append(pool.submit(self._decode, row))
                if len(waiting) >= AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _decode(self, row: Any) -> np.ndarray | None:
        try:
            return self.decode(row)
        except Unreadable as error:
            entry = Skipped(row.name, error.why)
            if entry not in self.skipped and len(self.skipped) < HOPELESS:
                self.skipped.append(entry)
            return None
