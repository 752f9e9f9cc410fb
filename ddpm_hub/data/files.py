"""Images from a folder or a zip: which files there are, which are pictures, and what limits hold.

A folder is the user's own: every format that Pillow reads by itself, and large pictures. A zip may
come from a stranger: five formats, small pictures, nothing is ever written to the disk. Not in the
room: how one picture is decoded (images.py) and where the pixels go (store.py).
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from ddpm_hub import images
from ddpm_hub.data.imageset import ImageSet, Skipped, skipped_notes
from ddpm_hub.data.store import Pictures, Progress, decode
from ddpm_hub.errors import DataError
from ddpm_hub.files import reason
from ddpm_hub.images import Unreadable, read_pixels

# EPS starts Ghostscript, WMF a part of Windows; IPTC opens what it holds without asking which
# format; the rest only know how to hand a file to something else
FORBIDDEN = {"EPS", "PDF", "WMF", "IPTC", "MPEG", "GRIB", "BUFR", "HDF5", "FPX", "MIC"}
MAX_PIXELS = 175_000_000  # of a file of one's own; Pillow itself refuses from 179 million on

MAX_MEMBERS = 100_000
MAX_MEMBER_BYTES = 50_000_000
MAX_ZIP_BYTES = 2**30  # unpacked; a larger zip of pictures, which hardly shrink, may hold ...
MAX_GROWTH = 10  # ... so many times its own size


class Limits(NamedTuple):
    """What is opened: the formats by their Pillow names, and pictures up to so many pixels."""

    formats: tuple[str, ...]
    max_pixels: int


@cache
def own_files() -> Limits:
    """Of files that are the user's own: all that Pillow opens without another program's help."""
    Image.init()
    rest = sorted(set(Image.OPEN) - FORBIDDEN - set(images.FORMATS))
    return Limits((*images.FORMATS, *rest), MAX_PIXELS)  # tried in this order: the usual ones first


def foreign_files() -> Limits:
    """Of files that a stranger may have made."""
    return Limits(images.FORMATS, images.MAX_PIXELS)


def read_folder(
    folder: Path,
    image_size: tuple[int, int],
    channels: int,
    progress: Progress = True,
    limits: Limits | None = None,
) -> ImageSet:
    """Every image below `folder`, (N, channels, *image_size), in the order of their paths.

    Links are followed, each folder is read once. Hidden files are no part of it. `limits`:
    `own_files()` unless told. Raises DataError if no image can be read.
    """
    limits = limits or own_files()
    paths, skipped = _found(folder, limits)
    names = sorted(paths)

    def read(i: int) -> np.ndarray:
        return read_pixels(paths[names[i]], image_size, channels, limits.max_pixels, limits.formats)

    def key() -> list:
        facts = [os.stat(paths[name]) for name in names]
        return [
            limits,
            [(n, f.st_size, f.st_mtime_ns) for n, f in zip(names, facts, strict=True)],
        ]

    pictures = Pictures(names, read, key)
    return _image_set(folder, pictures, (channels, *image_size), progress, skipped)


def read_zip(
    path: Path, image_size: tuple[int, int], channels: int, progress: Progress = True
) -> ImageSet:
    """Every image in a zip, (N, channels, *image_size), in the order of their names.

    Members are read in memory. Raises DataError for a zip that is damaged or beyond the limits,
    or if no image in it can be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members, skipped = _members(archive, path)

            def read(i: int) -> np.ndarray:
                data = _unpacked(archive, members[i])
                return read_pixels(data, image_size, channels, images.MAX_PIXELS)

            def key() -> list:
                return [(m.filename, m.file_size, m.CRC) for m in members]

            pictures = Pictures([m.filename for m in members], read, key)
            return _image_set(path, pictures, (channels, *image_size), progress, skipped)
    except (zipfile.BadZipFile, NotImplementedError, OSError, UnicodeError) as error:
        raise DataError(
            f"{path.name} is no zip that can be read ({reason(error)}): pack it again"
        ) from None


def _image_set(
    source: Path,
    pictures: Pictures,
    shape: tuple[int, int, int],
    progress: Progress,
    skipped: list[Skipped],
) -> ImageSet:
    pixels, refused = decode(pictures, shape, progress)
    skipped += [Skipped(pictures.names[i], why) for i, why in refused.items()]
    skipped.sort()
    if not len(pixels):
        why = " ".join(skipped_notes(tuple(skipped)))
        raise DataError(
            f"{str(source)!r} holds no image that can be read: put PNG, JPEG, WebP, BMP or GIF "
            f"files there{'; ' + why.rstrip('.') if why else ''}"
        )
    return ImageSet(pixels, source.stem if source.is_file() else source.name, skipped=(*skipped,))


def _refusal(suffix: str, limits: Limits) -> str | None:
    """Why a file is not even opened, by its name; None if it is worth a look."""
    known = Image.registered_extensions().get(suffix.lower())
    if known is None:
        return "not an image"
    # MPO, several JPEGs in one file, is opened by the reader of JPEG
    return None if known in (*limits.formats, "MPO") else f"{known}, a format that is not read here"


def _found(folder: Path, limits: Limits) -> tuple[dict[str, Path], list[Skipped]]:
    """The images below a folder, by their path in it; and what else there is."""
    paths: dict[str, Path] = {}
    skipped: list[Skipped] = []
    for path, why in _walk(folder):
        name = path.relative_to(folder).as_posix()
        why = why or _refusal(path.suffix, limits)
        if why:
            skipped.append(Skipped(name, why))
        else:
            paths[name] = path
    return paths, skipped


def _walk(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Each file below `folder`, and why it cannot be read, if so. Real folders before links."""
    seen, waiting, links = set(), [folder], []
    while waiting or links:
        here = waiting.pop() if waiting else links.pop()
        try:
            facts = os.stat(here)
            if (facts.st_dev, facts.st_ino) in seen:
                continue  # a link to a place already read, maybe around in a circle
            seen.add((facts.st_dev, facts.st_ino))
            entries = sorted(os.scandir(here), key=lambda e: e.name, reverse=True)
        except OSError as error:
            yield here, f"unreadable ({reason(error)})"
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = here / entry.name
            if _is_folder(path):
                (links if entry.is_symlink() else waiting).append(path)
            else:
                yield path, _irregular(path)


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except OSError:  # a link to itself, for one
        return False


def _irregular(path: Path) -> str | None:
    """Opening a pipe would wait for its other end for ever."""
    try:
        return None if stat.S_ISREG(os.stat(path).st_mode) else "not a file"
    except FileNotFoundError:
        return "a link to nothing"
    except OSError as error:
        return f"unreadable ({reason(error)})"


def _members(archive: zipfile.ZipFile, path: Path) -> tuple[list[zipfile.ZipInfo], list[Skipped]]:
    """The images of a zip, sorted by name; and what else is in it. DataError for a bomb."""
    infos = [info for info in archive.infolist() if not info.is_dir() and not _hidden(info)]
    if len(infos) > MAX_MEMBERS:
        raise DataError(
            f"{path.name} holds {len(infos):,} files, more than {MAX_MEMBERS:,}: unpack it and "
            "give the folder"
        )
    whys = [_member_refusal(info) for info in infos]
    members = [info for info, why in zip(infos, whys, strict=True) if why is None]
    skipped = [Skipped(i.filename, why) for i, why in zip(infos, whys, strict=True) if why]
    size = sum(info.file_size for info in members)
    limit = max(MAX_ZIP_BYTES, MAX_GROWTH * path.stat().st_size)
    if size > limit:
        raise DataError(
            f"{path.name} unpacks to {size / 2**30:.1f} GB, more than {limit / 2**30:.1f} GB: "
            "unpack it and give the folder"
        )
    return sorted(members, key=lambda info: info.filename), skipped


def _hidden(info: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(info.filename).parts
    hidden = (part.startswith(".") and part.strip(".") for part in parts)  # "..": a way, no name
    return any(hidden) or "__MACOSX" in parts


def _member_refusal(info: zipfile.ZipInfo) -> str | None:
    if why := _refusal(PurePosixPath(info.filename).suffix, foreign_files()):
        return why
    if info.flag_bits & 1:
        return "locked with a password"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "packed in an unusual way"  # whose unpackers may ask for gigabytes
    if info.file_size > MAX_MEMBER_BYTES:
        return f"larger than {MAX_MEMBER_BYTES // 1_000_000} MB"
    return None


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(info) as file:
            return file.read(MAX_MEMBER_BYTES)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError):
        raise Unreadable("damaged in the zip", "pack it again") from None
