"""Batches as a pure function of a seed and a position: nothing to save but how far one got.

In the room: the order of epochs, mirroring, and the way from uint8 to the device. Not in the
room: where images come from (the other files of this folder), and noise (training/).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from ddpm_hub import runtime
from ddpm_hub.data.imageset import ImageSet, ImageStream
from ddpm_hub.randomness import generator

CPU = torch.device("cpu")


class Feed:
    """Endless batches of a set: each image once an epoch, in an order drawn for that epoch.

    flip: mirror each image with probability a half, newly drawn in every epoch.
    device: where batches are wanted; a set that fits there is moved there once.
    team: (rank, size): which share of each batch is taken here.
    """

    def __init__(
        self,
        images: ImageSet,
        seed: int,
        flip: bool,
        device: torch.device,
        team: tuple[int, int] = (0, 1),
    ):
        self.size, self.seed, self.flip, self.device = len(images), seed, flip, device
        self.team = team
        fits = runtime.has_room(images.images.nbytes, device)
        self.images = images.images.to(device) if fits else images.images
        self.labels = images.labels
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)  # a batch may span two

    def take(self, start: int, count: int) -> tuple[Tensor, Tensor | None]:
        """This process's share of the images `start .. start + count - 1` since the beginning.

        Floats in [0, 1] on the device, (count / team size, C, H, W), and their labels if the set
        has some.
        """
        rank, size = self.team
        share = count // size
        rows, mirrored = self._rows(start + rank * share, share)
        batch = self.images[rows.to(self.images.device)].to(self.device, non_blocking=True)
        labels = None if self.labels is None else self.labels[rows].to(self.device)
        return as_floats(batch, mirrored if self.flip else None), labels

    def _rows(self, start: int, count: int) -> tuple[Tensor, Tensor]:
        parts, end = [], start + count
        while start < end:
            epoch, offset = divmod(start, self.size)
            stop = min(self.size, offset + end - start)
            parts.append([values[offset:stop] for values in self._epoch(epoch)])
            start += stop - offset
        rows, mirrored = zip(*parts, strict=True)
        return torch.cat(rows), torch.cat(mirrored)

    def _draw_epoch(self, epoch: int) -> tuple[Tensor, Tensor]:
        rng = generator(CPU, "epoch", self.seed, epoch)
        return torch.randperm(self.size, generator=rng), torch.rand(self.size, generator=rng) < 0.5


class StreamFeed:
    """Batches of a stream, which can only be read forward; else as `Feed`.

    Each process reads its own share of the stream. Going on from a position means skipping all
    before it.
    """

    def __init__(
        self,
        stream: ImageStream,
        seed: int,
        flip: bool,
        device: torch.device,
        team: tuple[int, int] = (0, 1),
    ):
        self.stream = replace(stream, seed=seed)
        self.seed, self.flip, self.device = seed, flip, device
        self.team, self.position = team, -1
        self.rows: Iterator[Tensor] = iter(())

    def take(self, start: int, count: int) -> tuple[Tensor, None]:
        """This process's share of the next `count` images, (count / team size, C, H, W)."""
        rank, size = self.team
        if start != self.position:
            self.rows = self.stream.images(rank, size, start // size)
        self.position, share = start + count, count // size
        batch = torch.stack([next(self.rows) for _ in range(share)]).to(self.device)
        rng = generator(CPU, "flip", self.seed, start, rank)
        mirrored = torch.rand(share, generator=rng) < 0.5
        return as_floats(batch, mirrored if self.flip else None), None


def feed_for(
    images: ImageSet | ImageStream,
    seed: int,
    flip: bool,
    device: torch.device,
    team: tuple[int, int] = (0, 1),
) -> Feed | StreamFeed:
    """The feed that suits the images."""
    kind = StreamFeed if isinstance(images, ImageStream) else Feed
    return kind(images, seed, flip, device, team)


def as_floats(batch: Tensor, mirrored: Tensor | None) -> Tensor:
    """uint8 (B, C, H, W) as floats in [0, 1], mirrored where `mirrored`, (B,), says so."""
    if mirrored is not None:
        where = mirrored.to(batch.device)[:, None, None, None]
        batch = torch.where(where, batch.flip(-1), batch)
    return batch.float().div_(255)
