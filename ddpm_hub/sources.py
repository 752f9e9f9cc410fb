"""Where a model's files are: in a folder, with this package, or in a repo of the Hub.

A source is asked which files it has and gives their paths; what is in them is not known here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError

from ddpm_hub.errors import HubError, shown

BUNDLED = Path(__file__).parent / "assets" / "bundled"


class Source(Protocol):
    """A folder or repo: `name` as a person knows it, its files by path with forward slashes."""

    name: str

    def has(self, path: str) -> bool:
        """Whether there is such a file."""

    def fetch(self, path: str) -> Path:
        """Where the file is on this machine, downloaded and checked if need be."""


class Folder:
    """A folder on this machine."""

    def __init__(self, folder: Path, name: str | None = None):
        self.folder, self.name = folder, name or repr(str(folder))

    def has(self, path: str) -> bool:
        return (self.folder / path).is_file()

    def fetch(self, path: str) -> Path:
        return self.folder / path


class Repo:
    """A repo of the Hub, at one commit from the first request to the last."""

    def __init__(self, repo_id: str, **where: object):
        self.repo_id, self.name, self.where = repo_id, shown(repo_id), where
        self.files = set(HfApi().list_repo_files(repo_id, revision=where.get("revision")))

    def has(self, path: str) -> bool:
        return path in self.files

    def fetch(self, path: str) -> Path:
        return Path(hf_hub_download(self.repo_id, path, **self.where))


def open_source(repo_id_or_dir: str | Path, **where: object) -> Source:
    """The source of that name; `where` has revision, token, cache_dir and local_files_only."""
    if repo_id_or_dir == "bundled":
        return Folder(BUNDLED, "the bundled model")
    if os.path.isdir(repo_id_or_dir):  # unlike Path.is_dir, False for a name too long to be one
        return Folder(Path(repo_id_or_dir))
    try:
        return Repo(str(repo_id_or_dir), **where)
    except HFValidationError as error:
        raise HubError(
            f"{shown(str(repo_id_or_dir))} is neither a folder nor a repo id: "
            "give a path that exists, or user/name"
        ) from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"repository {str(repo_id_or_dir)!r} was not found, or is private or gated: check the "
            "name, or log in with a token that may read it"
        ) from error
    except EntryNotFoundError as error:
        raise HubError(f"{shown(str(repo_id_or_dir))} has no such file") from error
    except OSError as error:  # no network, time-outs, HTTP errors
        raise HubError(
            f"{shown(str(repo_id_or_dir))} could not be reached ({error}): try again"
        ) from error
