"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

LEFTOVER = re.compile(r"\..*\.\d+\.tmp")


def write_durably(path: Path, write_to: Callable[[Path], Any]) -> None:
    """Call `write_to` on a temporary name, flush that to the disk, then give it its name.

    A crash leaves the file that was there before, and perhaps a leftover for `clean`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors would leave a file for its owner only
        write_to(temporary)
        temporary.chmod(mode)
        _flush(temporary)
        os.replace(temporary, path)
        if os.name == "posix":
            _flush(path.parent)  # the name, too, must outlast a power cut
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`text` as UTF-8, durably."""
    write_durably(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def cache_folder() -> Path:
    """What can be made again lies there: `DDPM_HUB_CACHE`, or ddpm_hub in the user's cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddpm_hub"
    return Path(os.environ.get("DDPM_HUB_CACHE") or base)


def check_place(path: Path) -> None:
    """Raise OSError if no file can be written there, for who would learn it after hours of work."""
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OSError(
            f"{str(path)!r} cannot be written: give a file in a folder that exists and is yours"
        )


def clean(folder: Path) -> None:
    """Remove what crashes left half written in a folder, if it is there."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)


def reason(error: Exception) -> str:
    """Why a file could not be read or written, in the fewest words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
