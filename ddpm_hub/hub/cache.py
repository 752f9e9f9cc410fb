"""The Hub's cache on this machine: what is there of a repo, and whether it is whole.

The folders are huggingface_hub's own, so that what other libraries downloaded is found here and
the other way round: snapshots/COMMIT/PATH are links to blobs/ETAG, where ETAG is the sha256 of a
large file and the git id of a small one. The client compares sizes only; here every byte counts.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from huggingface_hub import constants

from ddpm_hub.files import write_text

PUBLIC = "ddpm_hub_public"  # a mark in a repo's folder: all may read what is there
BLOCK = 2**20


class File(NamedTuple):
    """What is known of a file: its size in bytes, and its sha256 or git id; None where unknown."""

    size: int | None = None
    sha256: str | None = None
    git_id: str | None = None

    @property
    def etag(self) -> str | None:
        """The name of its blob in the cache."""
        return self.sha256 or self.git_id


def intact(path: Path, file: File) -> bool:
    """Whether the file at `path` is that one, byte by byte, as far as is known."""
    try:
        size = path.stat().st_size
        if file.size is not None and size != file.size:
            return False
        if file.sha256 is not None:
            return _digest(path, hashlib.sha256()) == file.sha256
        if file.git_id is not None:
            return _digest(path, hashlib.sha1(b"blob %d\0" % size)) == file.git_id
    except OSError:
        return False
    return True


class Cache:
    """One repo's part of the cache."""

    def __init__(self, repo_id: str, cache_dir: str | Path | None = None):
        self.root = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
        self.folder = self.root / f"models--{repo_id.replace('/', '--')}"

    def commit(self, revision: str) -> str | None:
        """The commit that a branch or tag was when it was last asked for; None if it never was."""
        if (self.folder / "snapshots" / revision).is_dir():
            return revision
        try:
            commit = (self.folder / "refs" / revision).read_text().strip()
        except OSError:
            return None
        return commit if re.fullmatch("[0-9a-f]{40}", commit) else None

    def files(self, commit: str) -> dict[str, File]:
        """What is there of a commit, and what the names of the blobs tell of it."""
        top = self.folder / "snapshots" / commit
        paths = [path for path in top.rglob("*") if path.is_file()]
        return {path.relative_to(top).as_posix(): _told_by_link(path) for path in paths}

    def path(self, commit: str, name: str) -> Path | None:
        """Where a file of a commit is; None if it is not."""
        path = self.folder / "snapshots" / commit / name
        return path if path.is_file() else None

    def remove(self, path: Path) -> None:
        """Remove a damaged file: its name, its blob, and the blob that several repos may share."""
        while path.is_symlink() and self.root.resolve() in path.resolve().parents:
            link, path = path, path.parent / os.readlink(path)
            link.unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def remember(self, revision: str, commit: str, public: bool) -> None:
        """Note which commit a revision is now, and whether everybody may read it.

        For when there is no network. A cache that cannot be written stays as it is.
        """
        mark, ref = self.folder / PUBLIC, self.folder / "refs" / revision
        with suppress(OSError):
            mark.touch() if public else mark.unlink(missing_ok=True)
            if revision != commit and self.commit(revision) != commit:
                ref.parent.mkdir(parents=True, exist_ok=True)
                write_text(ref, commit)

    @property
    def public(self) -> bool:
        """Whether everybody could read the repo when it was last asked for."""
        return (self.folder / PUBLIC).exists()

    def sweep(self, file: File) -> None:
        """Remove what killed downloads of a file left; one that is under way holds the lock."""
        lock = self.root / ".locks" / self.folder.name / f"{file.etag}.lock"
        left = list((self.folder / "blobs").glob(f"{file.etag}.*.incomplete"))
        with suppress(OSError, Timeout):
            if left and lock.parent.is_dir():
                with FileLock(lock, timeout=0):
                    for path in left:
                        path.unlink(missing_ok=True)


def _told_by_link(path: Path) -> File:
    name = os.path.basename(os.readlink(path)) if path.is_symlink() else ""
    size = path.stat().st_size
    if re.fullmatch("[0-9a-f]{64}", name):
        return File(size, sha256=name)
    return File(size, git_id=name if re.fullmatch("[0-9a-f]{40}", name) else None)


def _digest(path: Path, digest: hashlib._Hash) -> str:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
