"""Pictures to train on: the bundled ones, and those a visitor brought, as the network sees them.

In the room: uploads kept under an unguessable id until a training takes them, and what the page
says of a set. Reading, cropping and scaling are `ddpm_hub.data`'s; where files come in, tabs/'s.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddpm_hub import files, images
from ddpm_hub.errors import DataError

if TYPE_CHECKING:
    from ddpm_hub.data import ImageSet

MAX_FILES = 500  # pictures of one upload, in a zip or not
MAX_ZIP_BYTES = 200_000_000  # unpacked: 5 MB can hold thousands of times that
MAX_PIXELS = 16_000_000  # of one picture: a phone's photograph has 12 million
MAX_UPLOADS = 16  # kept in memory, 28 x 28 pixels each: the oldest goes
THUMBNAILS = 8

_uploads: OrderedDict[str, Pictures] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True)
class Pictures:
    """A set of images, uint8 (N, C, H, W), with what a person should know of it."""

    id: str  # "bundled" or "upload:ID"
    name: str
    images: np.ndarray
    notes: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        """As a .npy file, so that a training that is resumed has its pictures."""
        files.write_durably(path, self._write)

    def _write(self, path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, self.images, allow_pickle=False)

    def card(self) -> dict[str, Any]:
        """{name, count, width, height, channels, thumbnails (a data URI), notes}."""
        import torch

        count, channels, height, width = self.images.shape
        chosen = np.linspace(0, count - 1, min(THUMBNAILS, count)).round().astype(int)
        shown = torch.from_numpy(self.images[chosen]).float() / 255
        return {
            "name": self.name,
            "count": count,
            "width": width,
            "height": height,
            "channels": channels,
            "thumbnails": images.data_uri(images.grid(shown, columns=THUMBNAILS), "png"),
            "shown": len(chosen),
            "notes": list(self.notes),
        }


def find(id: str, shape: tuple[int, int, int]) -> Pictures:
    """The set of that id, for a network that takes (C, H, W); DataError if it is not there."""
    if id == "bundled":
        return _bundled(shape)
    pictures = _uploads.get(id)
    if pictures is None:
        raise DataError("these pictures are no longer kept on the server: choose the files again")
    if pictures.images.shape[1:] != shape:
        raise DataError(
            f"these pictures were made {pictures.images.shape[1:]} and the preset takes {shape}: "
            "choose the files again"
        )
    return pictures


def _bundled(shape: tuple[int, int, int]) -> Pictures:
    from ddpm_hub.data import load_data

    loaded = load_data("bundled", shape[1:], shape[0], progress=False)
    return Pictures("bundled", "garments", loaded.images.numpy(), tuple(loaded.notes()))


def take(paths: list[str], shape: tuple[int, int, int]) -> Pictures:
    """Read files that Gradio has stored: pictures, or one zip of them; kept under a new id.

    Raises DataError, one sentence, for too many of them or none that can be read.
    """
    zips = [path for path in paths if Path(path).suffix.lower() == ".zip"]
    if len(paths) > MAX_FILES:
        raise DataError(f"{len(paths)} files are more than {MAX_FILES}: choose fewer")
    if len(zips) > 1 or (zips and len(paths) > 1):
        raise DataError("a zip comes alone: choose one zip, or pictures")
    loaded = _read_zip(zips[0], shape) if zips else _read_pictures(paths, shape)
    if len(loaded) > MAX_FILES:
        raise DataError(f"{len(loaded)} pictures are more than {MAX_FILES}: choose fewer")
    name = f"{len(loaded)} of your images"
    pixels = np.array(loaded.images.numpy())  # out of whatever file they are mapped from
    made = Pictures(f"upload:{secrets.token_hex(8)}", name, pixels, tuple(loaded.notes()))
    with _lock:
        _uploads[made.id] = made
        while len(_uploads) > MAX_UPLOADS:
            _uploads.popitem(last=False)
    return made


def _read_zip(path: str, shape: tuple[int, int, int]) -> ImageSet:
    from ddpm_hub.data import read_zip

    try:
        with zipfile.ZipFile(path) as archive:
            inside = [member for member in archive.infolist() if not member.is_dir()]
    except (zipfile.BadZipFile, OSError, NotImplementedError):
        raise DataError(f"{Path(path).name} is no zip that can be read: pack it again") from None
    size = sum(member.file_size for member in inside)
    if len(inside) > 2 * MAX_FILES or size > MAX_ZIP_BYTES:
        raise DataError(
            f"{Path(path).name} unpacks to {len(inside):,} files, {size / 1e6:,.0f} MB: pack at "
            f"most {MAX_FILES} pictures, {MAX_ZIP_BYTES / 1e6:.0f} MB together"
        )
    return _told_plainly(Path(path), lambda: read_zip(Path(path), shape[1:], shape[0], False))


def _read_pictures(paths: list[str], shape: tuple[int, int, int]) -> ImageSet:
    from ddpm_hub.data import foreign_files, read_folder

    with tempfile.TemporaryDirectory() as folder:  # Gradio keeps each file in a folder of its own
        for index, path in enumerate(paths):
            name = Path(path).name[-80:].lstrip(".")
            taken = (Path(folder) / name).exists() or not name
            shutil.copyfile(path, Path(folder) / (f"{index} {name}" if taken else name))
        limits = foreign_files()._replace(max_pixels=MAX_PIXELS)
        return _told_plainly(
            Path(folder), lambda: read_folder(Path(folder), shape[1:], shape[0], False, limits)
        )


def _told_plainly(path: Path, read: Callable[[], ImageSet]) -> ImageSet:
    """What `read` gives; a visitor has no use for the name of a folder of this machine."""
    try:
        return read()
    except DataError as error:
        raise DataError(str(error).replace(repr(str(path)), "the upload")) from None
