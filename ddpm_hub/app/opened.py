"""Models of the Hub in the demo: what a repo holds before its weights are fetched, then the model.

In the room: whose right opens a repo, the limits on what is fetched, what a page is told of it, and
the disk that opened models take. Not in the room: the models in memory (models.py), which names may
be asked for (limits.py), components (tabs/hub.py), the Hub's client (`ddpm_hub.hub.sources`).

Nothing of the machine's owner is used: what everybody may read is read without a token, into the
machine's cache; all else with the visitor's own token, into a folder that is deleted afterwards.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import ddpm_hub
from ddpm_hub import images
from ddpm_hub.app import limits
from ddpm_hub.app.background import Done, in_background
from ddpm_hub.errors import ConfigError, DDPMHubError, HubError, WeightsError, shown
from ddpm_hub.hub import client
from ddpm_hub.hub.cache import Cache
from ddpm_hub.hub.client import Failure
from ddpm_hub.hub.sources import Repo
from ddpm_hub.hub_model import build_checked
from ddpm_hub.interop import WEIGHTS, Layout, recognise

README, SAMPLES = "README.md", "samples.png"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
MAX_LOADS = 4  # weights fetched at the same time
KEPT_BYTES = 8_000_000_000  # of public models that visitors had this machine fetch
BUSY = "the machine fetches other models for other visitors: try again in a minute"
CURES: dict[object, str] = {  # by kind or status of a client.Failure: a page is no command line
    "missing": "it does not exist, or is private: check the name, or use a token that may read it",
    "gated": "it is gated: ask for access on its page, then use a token of your own here",
    "offline": "this server works offline: it has only what was opened here before",
    401: "the token is not accepted, it may have expired: sign in again, or give another one",
    403: "this token has no right to read it: use one that has",
}

_loads = threading.BoundedSemaphore(MAX_LOADS)
_fetched: OrderedDict[str, int] = OrderedDict()  # repos that are on the disk because of us, bytes
_disk = threading.Lock()


class Opened(NamedTuple):
    """A repo at one commit, looked at but not loaded. `private`: not everybody may read it."""

    repo_id: str
    commit: str
    private: bool
    kind: str  # "ddpm_hub" or "diffusers"
    config: dict[str, Any]
    facts: dict[str, Any]  # of the model: parameters, T, image_size, channels, ...
    weights: str
    weight_bytes: int
    card: str
    samples: str = ""  # its author's, as a data URI

    @property
    def name(self) -> str:
        """Under which a public one is known in this app: owner/name@commit."""
        return f"{self.repo_id}@{self.commit}"

    @property
    def title(self) -> str:
        """The same for people."""
        return f"{self.repo_id} @ {self.commit[:7]}"


def look(repo_id: object, revision: object = None, token: str | None = None) -> Opened:
    """What a repo of the Hub holds: its small files are read, its weights are not.

    Without a token if everybody may read it, else with `token`, the visitor's own. Raises
    DDPMHubError, a sentence: no such repo or revision, no right, no DDPM, or too large for here.
    """
    repo_id, revision = limits.repo_name(repo_id), limits.revision_name(revision)
    with source_of(repo_id, revision, token) as source:
        _check_kind(source)
        layout = recognise(source)
        size = _check_weights(source, layout)
        return Opened(
            repo_id=repo_id,
            commit=source.commit,
            private=source.token is not False,
            kind="ddpm_hub" if layout.weights == WEIGHTS else "diffusers",
            config=layout.config,
            facts=_facts(source, layout),
            weights=layout.weights,
            weight_bytes=size,
            card=_readme(source),
            samples=_samples(source),
        )


def commit(repo_id: object, revision: object = None) -> str:
    """Which commit of a public repo a branch or tag is now. HubError as `look` raises it."""
    repo_id, revision = limits.repo_name(repo_id), limits.revision_name(revision)
    with source_of(repo_id, revision, None) as source:
        if not source.offline:  # there it is asked for later, by the same name
            with suppress(OSError):
                source.cache.folder.mkdir(parents=True, exist_ok=True)
            source.cache.remember(source.revision, source.commit, source.public)
        return source.commit


def load(
    opened: Opened, token: str | None = None, folder: str | None = None
) -> ddpm_hub.GaussianDiffusion:
    """The model of a repo that was looked at, on the CPU; DDPMHubError if it cannot be had.

    folder: where a private one is downloaded to; whoever gives it deletes it.
    """
    if not _loads.acquire(blocking=False):
        raise HubError(BUSY)
    try:
        before = Cache(opened.repo_id).path(opened.commit, opened.weights)
        where = (
            {"token": token or False, "cache_dir": folder} if opened.private else {"token": False}
        )
        with _in_words(opened.repo_id):
            diffusion = ddpm_hub.GaussianDiffusion.from_pretrained(
                opened.repo_id, revision=opened.commit, **where
            )
        if not (opened.private or before):
            _keep(opened)
        return diffusion
    finally:
        _loads.release()


def follow(opened: Opened, token: str | None = None) -> Iterator[int | Done]:
    """The same as a stream: bytes on the disk while it lasts, then `Done` with the model.

    What a private one left on the disk is deleted, also if nobody listens any more.
    """
    folder = tempfile.mkdtemp(prefix="ddpm_hub_") if opened.private else None

    def work() -> ddpm_hub.GaussianDiffusion:
        try:
            return load(opened, token, folder)
        finally:
            if folder:
                shutil.rmtree(folder, ignore_errors=True)

    here = Cache(opened.repo_id, folder).folder
    for said in in_background(work):
        yield said if isinstance(said, Done) else min(_bytes_in(here), opened.weight_bytes)


# ---- whose right --------------------------------------------------------------------------------
@contextmanager
def source_of(
    repo_id: str, revision: str | None, token: str | None, apart: bool = False
) -> Iterator[Repo]:
    """The repo as everybody sees it, or if that is not allowed, as the visitor does.

    apart: nothing of it stays in the machine's cache, though it is public.
    """
    with tempfile.TemporaryDirectory(prefix="ddpm_hub_") as folder, _in_words(repo_id):
        try:
            here = folder if apart else None
            source = Repo(repo_id, revision=revision, token=False, cache_dir=here)
        except HubError as refused:
            if token is None or not _is_about_rights(refused):
                raise
            source = Repo(repo_id, revision=revision, token=token, cache_dir=folder)
        if source.offline and not source.cache.public:  # the owner of the machine may have put it
            raise HubError(f"{shown(repo_id)} could not be opened: {CURES['offline']}")
        yield source


@contextmanager
def _in_words(repo_id: str) -> Iterator[None]:
    """Errors as they are, but for cures that need a command line, and those that are not ours."""
    try:
        yield
    except HubError as error:
        cure = _cure(error)
        if cure is None or "not a model" in str(error):  # a data set, or a Space, is said so
            raise
        raise HubError(f"{shown(repo_id)} could not be opened: {cure}") from error.__cause__
    except DDPMHubError:
        raise
    except OSError as error:  # a full disk, a cache that cannot be written
        why = client.SECRET.sub("***", error.strerror or type(error).__name__)
        raise HubError(f"{shown(repo_id)} could not be opened here ({why}): try again") from None


def _is_about_rights(error: HubError) -> bool:
    """Whether a token might help: the Hub does not tell a stranger that a private repo exists."""
    failure = error.__cause__
    return isinstance(failure, Failure) and (
        failure.kind in ("missing", "gated") or failure.status in (401, 403)
    )


def _cure(error: HubError) -> str | None:
    failure = error.__cause__
    if not isinstance(failure, Failure):
        return None
    return CURES.get(failure.kind) or CURES.get(failure.status)


# ---- limits -------------------------------------------------------------------------------------
def _check_kind(source: Repo) -> None:
    """Refuse a repo of pickles in so many words, before anything of it is read."""
    if any(name.endswith(".safetensors") for name in source.files):
        return
    pickles = sorted(name for name in source.files if name.endswith(PICKLES))
    if pickles:
        raise WeightsError(
            f"{source.name} has its weights as pickles only ({shown(pickles[0])}), which can hold "
            "programs: this demo reads safetensors, ask its author for them"
        )
    raise WeightsError(f"{source.name} holds no safetensors weights: is it a model's repo?")


def _check_weights(source: Repo, layout: Layout) -> int:
    size = source.files[layout.weights].size or 0
    if size > limits.MAX_WEIGHT_BYTES:
        raise WeightsError(
            f"{layout.weights} of {source.name} has {size / 1e6:,.0f} MB, more than the "
            f"{limits.MAX_WEIGHT_BYTES / 1e6:,.0f} of this demo: open it with the library"
        )
    if not layout.weights.endswith(".safetensors"):
        raise WeightsError(f"{layout.weights} of {source.name} is no safetensors file: not read")
    return size


def _facts(source: Repo, layout: Layout) -> dict[str, Any]:
    """What the model will be, from one that has no numbers yet; ConfigError if it is too large."""
    diffusion = build_checked(ddpm_hub.GaussianDiffusion, layout.config, {})
    count = sum(parameter.numel() for parameter in diffusion.parameters())
    if count > limits.MAX_PARAMETERS:
        raise ConfigError(
            f"{source.name} has {count:,} parameters, more than the {limits.MAX_PARAMETERS:,} of "
            "this demo: open it with the library"
        )
    return {
        "parameters": count,
        "image_size": diffusion.image_size,
        "channels": diffusion.channels,
        "timesteps": diffusion.num_timesteps,
        "objective": diffusion.objective,
        "schedule": diffusion.to_config()["diffusion"]["beta_schedule"],
        "network": type(diffusion.model).__name__,
    }


def _readme(source: Repo) -> str:
    """The card as text; none is no fault of a model."""
    if not source.has(README):
        return ""
    size = source.files[README].size or 0
    if size > limits.MAX_README_BYTES:
        return f"({README} has {size:,} bytes: too long to be shown here)"
    try:
        return source.fetch(README).read_bytes().decode("utf-8", "replace")
    except (HubError, OSError):
        return f"({README} could not be fetched)"


def _samples(source: Repo) -> str:
    """The pictures that lie beside the model, decoded and written anew; none is no fault."""
    if not source.has(SAMPLES) or (source.files[SAMPLES].size or 0) > limits.MAX_SAMPLES_BYTES:
        return ""
    try:
        picture = images.open_image(source.fetch(SAMPLES), limits.MAX_SAMPLES_PIXELS)
    except (DDPMHubError, OSError):
        return ""
    picture.thumbnail((512, 512))
    return images.data_uri(picture.convert("RGB"), "jpeg")


# ---- the disk -----------------------------------------------------------------------------------
def _keep(opened: Opened) -> None:
    """Note what the cache holds because of visitors, and remove what was opened first."""
    with _disk:
        _fetched[opened.repo_id] = opened.weight_bytes
        _fetched.move_to_end(opened.repo_id)
        while len(_fetched) > 1 and sum(_fetched.values()) > KEPT_BYTES:
            oldest, _ = _fetched.popitem(last=False)
            shutil.rmtree(Cache(oldest).folder, ignore_errors=True)


def _bytes_in(folder: Path) -> int:
    """How many bytes of a repo are here, as far as they have come."""
    total = 0
    with suppress(OSError):
        for path in (folder / "blobs").iterdir():
            with suppress(OSError):
                total += path.stat().st_size
    return total
