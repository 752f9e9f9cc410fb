"""The folders of trainings on a disk that several apps may share: how large, and whose just now.

Not in the room: what is in such a folder (job.py), which of them stay (jobs.py).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def bytes_of(folder: Path) -> int:
    """What all files below it take together."""
    total = 0
    with suppress(OSError):  # another app may share the folder, and be at work in it
        for path in folder.rglob("*"):
            total += path.stat().st_size
    return total


class Lock:
    """A lock on a job's folder that dies with its process: two apps may share a folder."""

    def __init__(self, folder: Path) -> None:
        self.path, self.file = folder / ".lock", None

    def __enter__(self) -> bool:
        self.file = self.path.open("w")
        with suppress(ImportError):  # Windows: one app per folder, please
            import fcntl

            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:
                pass  # a mounted bucket may know no locks: one app per folder there, too
        return True

    def __exit__(self, *_: object) -> None:
        self.file.close()


def in_use(folder: Path) -> bool:
    """Whether some app trains there now."""
    with Lock(folder) as free:
        return not free
