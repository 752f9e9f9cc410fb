"""Where a model's files are: in a folder, with this package, or in a repo of the Hub.

A source is asked which files it has and gives their paths; what is in them is not known here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from huggingface_hub.utils import are_progress_bars_disabled
from tqdm.auto import tqdm

from ddpm_hub.config_file import MAX_BYTES
from ddpm_hub.errors import ConfigError, HubError, WeightsError, shown
from ddpm_hub.hub import client, repos, tasks
from ddpm_hub.hub.cache import Cache, File, intact
from ddpm_hub.hub.client import Failure

BUNDLED = Path(__file__).parents[1] / "assets" / "bundled"
BAR_AFTER = 2.0  # seconds of a download


class Source(Protocol):
    """A folder or repo: `name` as a person knows it, its files by path with forward slashes."""

    name: str

    def has(self, path: str) -> bool:
        """Whether there is such a file."""

    def fetch(self, path: str, limit: int | None = None) -> Path:
        """Where the file is on this machine, downloaded and checked if need be.

        More than `limit` bytes, or more than a config may have, are not downloaded.
        """


class Folder:
    """A folder on this machine."""

    def __init__(self, folder: Path, name: str | None = None):
        self.folder, self.name = folder, name or repr(str(folder))

    def has(self, path: str) -> bool:
        return (self.folder / path).is_file()

    def fetch(self, path: str, limit: int | None = None) -> Path:
        return self.folder / path


class Repo:
    """A repo of the Hub, at one commit from the first request to the last.

    The Hub is asked once what is there, which is also the check that this token may read it; then
    each file comes from the cache, or is downloaded. Either way it is compared with the sha256, or
    the git id, that the Hub told: a damaged file in the cache is fetched again, one that arrives
    damaged is an error. With `local_files_only`, offline, or if the Hub cannot be reached, the
    cache alone is asked: then the hash is known by the name of the file's blob, unless the cache
    holds no links (Windows, mostly), where only names are compared. What is not known to be public
    is given from there only to the machine's own user, `token=None` or True, or to who asks for
    `local_files_only`.

    Raises HubError: no such repo or revision, no right to read it, no network and not in the
    cache, not a model's repo; ConfigError or WeightsError for a file over its limit.
    """

    def __init__(  # the arguments of huggingface_hub
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ):
        self.repo_id, self.name = repos.check_repo_id(repo_id), shown(repo_id)
        self.revision = repos.check_revision(revision)
        self.owner = token is None or token is True
        self.cache = Cache(repo_id, cache_dir)
        self.token: str | bool = False
        self.offline = False
        self.fetched: dict[str, Path] = {}
        if local_files_only:
            self._take_cached()
        else:
            self.token = client.check_token(token)
            self._ask()

    def has(self, path: str) -> bool:
        return path in self.files

    def fetch(self, path: str, limit: int | None = None) -> Path:
        if path not in self.fetched:
            self._check_size(path, limit)
            self.fetched[path] = self._from_cache(path) or self._download(path)
        return self.fetched[path]

    def _ask(self) -> None:
        try:
            facts = repos.describe(self.repo_id, self.revision, self.token)
            if facts.gated:  # all may be told of its files, not all may read them
                repos.check_access(self.repo_id, self.token)
            self.commit, self.files, self.public = facts.commit, facts.files, facts.public
        except Failure as failure:
            away = failure.kind in ("offline", "unreachable")
            known = self.owner or self.cache.public
            if not (away and known and self.cache.commit(self.revision)):
                raise self._refusal(failure) from failure
            self._take_cached()

    def _take_cached(self) -> None:
        commit = self.cache.commit(self.revision)
        if commit is None:
            raise HubError(
                f"{self.name} at {shown(self.revision)} is not in the cache: open it once with a "
                "network and without local_files_only"
            )
        self.offline, self.public = True, False
        self.commit, self.files = commit, self.cache.files(commit)
        self.name += " (as far as it is in the cache)"

    def _check_size(self, path: str, limit: int | None) -> None:
        size = self.files[path].size or 0 if path in self.files else 0
        config = path.endswith(".json")
        limit = MAX_BYTES if config else limit
        if limit is not None and size > limit:
            kind, what = (ConfigError, "config") if config else (WeightsError, "network")
            raise kind(
                f"{path} of {self.name} has {size:,} bytes, over the limit of {limit:,} for this "
                f"{what}: is this really a DDPM?"
            )

    def _from_cache(self, path: str) -> Path | None:
        here = self.cache.path(self.commit, path)
        if here is not None and intact(here, self.files.get(path, File())):
            self._remember()
            return here
        if self.offline:
            state = "is not in the cache" if here is None else "is damaged in the cache"
            raise HubError(f"{path} of {self.name} {state}: open it again with a network")
        if here is not None:
            self.cache.remove(here)
        return None

    def _download(self, path: str) -> Path:
        if path not in self.files:
            raise HubError(f"{self.name} has no file {shown(path)}: is it the right revision?")
        file = self.files[path]
        self.cache.sweep(file)
        told = {"repo_id": self.repo_id, "name": path, "commit": self.commit}
        try:
            with _bar(path, file.size) as bar:
                moved = lambda count: bar.update(max(0, count - bar.n))  # noqa: E731
                folder = str(self.cache.root)
                client.call(tasks.download, told | {"cache_dir": folder}, self.token, moved)
        except Failure as failure:
            raise self._refusal(failure, f"{path} of {self.name} could not be had") from failure
        finally:
            self.cache.sweep(file)
        here = self.cache.path(self.commit, path)
        if here is None or not intact(here, file):
            if here is not None:
                self.cache.remove(here)
            raise HubError(f"{path} of {self.name} arrived damaged: try again")
        self._remember()
        return here

    def _remember(self) -> None:
        if not self.offline:
            self.cache.remember(self.revision, self.commit, self.public)

    def _refusal(self, failure: Failure, failed: str | None = None) -> HubError:
        other = repos.other_kind(self.repo_id, self.token) if failure.kind == "missing" else None
        if other:
            return HubError(f"{self.name} is {other}, not a model: give the repo of a model")
        if failure.kind == "revision":
            failure.why = f"it has no revision {shown(self.revision)}"
        return failure.sentence(
            failed or f"{self.name} could not be opened", repos.page(self.repo_id)
        )


def _bar(path: str, size: int | None) -> tqdm:
    return tqdm(
        desc=path,
        total=size,
        unit="B",
        unit_scale=True,
        delay=BAR_AFTER,
        disable=are_progress_bars_disabled(),
    )


def open_source(repo_id_or_dir: str | Path, **where: object) -> Source:
    """The source of that name; `where` has revision, token, cache_dir and local_files_only."""
    if repo_id_or_dir == "bundled":
        return Folder(BUNDLED, "the bundled model")
    if os.path.isdir(repo_id_or_dir):  # unlike Path.is_dir, False for a name too long to be one
        return Folder(Path(repo_id_or_dir))
    if os.path.isfile(repo_id_or_dir):  # "results/model.safetensors" has the form of user/name
        raise ConfigError(
            f"{shown(str(repo_id_or_dir))} is a file: give the folder of config.json and "
            "model.safetensors (a model-N.pt: ddpm-hub convert, or from_lucidrains)"
        )
    try:
        repos.check_repo_id(str(repo_id_or_dir))
    except HubError as error:
        raise HubError(
            f"{shown(str(repo_id_or_dir))} is neither a folder nor a repo id: "
            "give a path that exists, or user/name"
        ) from error
    return Repo(str(repo_id_or_dir), **where)
