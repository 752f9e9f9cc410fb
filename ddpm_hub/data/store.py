"""Where decoded pixels lie: in memory, or in a file that the next start maps instead of decoding.

In the room: decoding many pictures by threads into one preallocated array, and the cache of the
sets that are too large for memory. Its folder is `DDPM_HUB_CACHE`, else `ddpm_hub` in the user's
cache folder; what lies there can be deleted at any time. Not in the room: how one picture is
decoded (images.py), and which pictures there are (files.py, hub.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import inf, prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ddpm_hub.errors import DataError
from ddpm_hub.files import cache_folder, reason, write_durably
from ddpm_hub.images import Unreadable

Progress = bool | Callable[[int, int], Any]  # a bar or none, or a function of (done, total)

IN_MEMORY = 2 * 2**30  # bytes of pixels; what is larger lies in a file and is mapped
FREE_SHARE = 4  # ... and so is what would take more than this part of the free memory
FORMAT = 1  # of the file, and of the way pixels are made: another number, and all is read again
MAGIC = b"ddpm_hub"
CHUNKS = 1000  # that the pictures are dealt out in: few to hand over, many to watch and to share
TRIED = 8  # pictures that are timed before it is known how many threads are worth while
QUICK = 3e-4  # seconds: of a smaller picture most is Python's share, which threads only fight for
TOGETHER = 32  # such pictures at least are handed over at once


class Pictures(NamedTuple):
    """What is to be decoded: names; i -> pixels uint8 (C, h, w) or Unreadable; and a key.

    key() changes whenever one of the pictures does. It is asked only for sets that are mapped.
    """

    names: Sequence[Any]
    read: Callable[[int], np.ndarray]
    key: Callable[[], Any]


class Decoded(NamedTuple):
    """images uint8 (N, C, H, W) and the pictures that are not among them: index -> why."""

    images: Tensor
    refused: dict[int, str]


def decode(pictures: Pictures, shape: tuple[int, int, int], progress: Progress) -> Decoded:
    """All pictures that can be read, in their order; `shape` is (C, H, W). Raises DataError."""
    count = len(pictures.names)
    size = count * prod(shape)
    if size > min(IN_MEMORY, free_memory() / FREE_SHARE):
        return _mapped(pictures, (count, *shape), progress)
    pixels = np.empty((count, *shape), np.uint8)
    refused = _fill(pixels, pictures.read, progress)
    kept = _close_gaps(pixels, refused)
    return Decoded(torch.from_numpy(pixels[:kept]), refused)


def workers() -> int:
    """How many threads decode: Pillow lets go of the interpreter, so one for each core."""
    if hasattr(os, "sched_getaffinity"):  # what a container may use of the machine
        return min(32, len(os.sched_getaffinity(0)))
    return min(32, os.cpu_count() or 1)


def free_memory() -> float:
    """Bytes that can still be had, of the machine and of the container; inf if nobody says."""
    free = inf
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
        group = Path("/sys/fs/cgroup")
        used, limit = ((group / f"memory.{n}").read_text() for n in ("current", "max"))
        return free if limit.strip() == "max" else min(free, int(limit) - int(used))
    except (OSError, KeyError, ValueError):  # not Linux, or no control group of our own
        return free


def tensor_of(array: np.ndarray) -> Tensor:
    """The array as a tensor on the same memory, even if that is mapped read-only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def _fill(
    pixels: np.ndarray, read: Callable[[int], np.ndarray], progress: Progress
) -> dict[int, str]:
    """Decode picture i into pixels[i]; gives back those that could not be: index -> why."""
    count, refused, stop = len(pixels), {}, threading.Event()

    def one(i: int) -> float:
        begun = time.perf_counter()
        try:
            pixels[i] = read(i)
        except Unreadable as error:
            refused[i] = error.why
        return time.perf_counter() - begun

    def some(numbers: range) -> int:
        for i in numbers:
            if stop.is_set():
                break
            one(i)
        return numbers.stop

    with told(progress, count) as tell:
        tried, quick = min(TRIED, count), False
        for i in range(tried):
            quick |= one(i) < QUICK
            tell(i + 1)
        chunk = max(-(-count // CHUNKS), TOGETHER if quick else 1)
        chunks = [range(i, min(i + chunk, count)) for i in range(tried, count, chunk)]
        pool = ThreadPoolExecutor(1 if quick else workers(), thread_name_prefix="decode")
        try:
            for done in pool.map(some, chunks):
                tell(done)
        finally:  # Ctrl-C, or `progress` had enough: what runs ends after its picture
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    return dict(sorted(refused.items()))


def _close_gaps(pixels: np.ndarray, refused: dict[int, str]) -> int:
    """Move the pictures that are there to the front, in their order; how many there are."""
    kept = [i for i in range(len(pixels)) if i not in refused]
    for to, i in enumerate(kept):
        if to != i:
            pixels[to] = pixels[i]
    return len(kept)


@contextmanager
def told(progress: Progress, total: int) -> Iterator[Callable[[int], Any]]:
    """A function that takes how many are done and tells whoever wants to know."""
    if callable(progress):
        yield lambda done: progress(done, total)
        return
    with tqdm(total=total, desc="reading images", delay=2, disable=not progress) as bar:
        yield lambda done: bar.update(done - bar.n)


# -- in a file: the pixels, then JSON {"shape", "refused"}, its length, and MAGIC


def _mapped(pictures: Pictures, shape: tuple[int, ...], progress: Progress) -> Decoded:
    path = _cache_folder() / f"{_digest(pictures.key(), shape)}.images"
    with _alone(path):  # the other processes of a training wait and find the file
        for leftover in path.parent.glob(f".{path.name}.*.tmp"):
            leftover.unlink(missing_ok=True)
        found = _open(path)
        if found is None:
            try:
                write_durably(path, lambda temporary: _write(temporary, pictures, shape, progress))
            except OSError as error:
                raise DataError(_no_room(path.parent, prod(shape), reason(error))) from None
            found = _open(path)
    if found is None:
        raise DataError(f"{str(path)!r} cannot be read back: set DDPM_HUB_CACHE to another disk")
    return found


def _cache_folder() -> Path:
    folder = cache_folder() / "data"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{str(folder)!r} cannot be made ({reason(error)}): set DDPM_HUB_CACHE to a folder "
            "that can be written"
        ) from None
    return folder


def _digest(key: Any, shape: tuple[int, ...]) -> str:
    text = json.dumps([FORMAT, shape, key], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    from huggingface_hub.utils import WeakFileLock

    try:
        with WeakFileLock(path.with_suffix(".lock")):
            yield
    except PermissionError as error:
        raise DataError(_no_room(path.parent, 0, reason(error))) from None


def _write(path: Path, pictures: Pictures, shape: tuple[int, ...], progress: Progress) -> None:
    """Decode into the file itself; the room is taken first, for a full disk kills who maps it."""
    size = prod(shape)
    if shutil.disk_usage(path.parent).free < size:
        raise OSError("the disk is too full")
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        file.truncate(size)
    pixels = np.memmap(path, np.uint8, "r+", shape=shape)
    refused = _fill(pixels, pictures.read, progress)
    kept = _close_gaps(pixels, refused)
    pixels.flush()
    del pixels
    tail = json.dumps({"shape": (kept, *shape[1:]), "refused": refused}).encode()
    with path.open("r+b") as file:
        file.truncate(kept * prod(shape[1:]))
        file.seek(0, os.SEEK_END)
        file.write(tail + struct.pack("<Q", len(tail)) + MAGIC)


def _open(path: Path) -> Decoded | None:
    """What the file holds; None if there is none, or one that was not written here, whole."""
    try:
        with path.open("rb") as file:
            file.seek(-16, os.SEEK_END)
            length, magic = struct.unpack("<Q8s", file.read())
            file.seek(-16 - length, os.SEEK_END)
            size, facts = file.tell(), json.loads(file.read(length))
        shape = tuple(facts["shape"])
        if magic != MAGIC or prod(shape) != size:
            return None
        refused = {int(i): why for i, why in facts["refused"].items()}
        pixels = np.memmap(path, np.uint8, "r", shape=shape) if size else np.empty(shape, np.uint8)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return None
    return Decoded(tensor_of(pixels), refused)


def _no_room(folder: Path, size: int, why: str) -> str:
    free = shutil.disk_usage(folder).free
    return (
        f"the decoded images need {size / 2**30:.1f} GB in {str(folder)!r}, where "
        f"{free / 2**30:.1f} GB are free ({why}): set DDPM_HUB_CACHE to a folder with more room"
    )
