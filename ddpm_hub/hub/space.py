"""The demo as a Space of the Hub: which files it takes, how it is to run, and how it fares.

A Space builds itself anew at every commit, so all of a deployment is one, and an unchanged tree
makes none. What the Hub is asked is in space_tasks.py, by whom in client.py. No torch here: what
deploys from a CI needs huggingface_hub only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import SpaceCard, SpaceHardware

from ddpm_hub.errors import HubError, check_choice, check_int, shown
from ddpm_hub.hub import client, repos, space_tasks
from ddpm_hub.hub.client import Failure
from ddpm_hub.hub.leaks import check_no_token

PACKAGE = Path(__file__).parents[1]
CARD = "space_config/README.md"  # becomes the Space's README.md
BESIDE = ("app.py", "requirements.txt", "LICENSE")
NOT_DATA = {".pyc", ".pyo"}
FREE = "cpu-basic"
# ZeroGPU goes with a plan, and is chosen in the Space's settings (docs/hub.md)
HARDWARE = tuple(h.value for h in SpaceHardware if not h.value.startswith("zero-"))
SLEEP = 60  # minutes: a GPU that nobody looks at is paid for all the same
MODEL_FILES = ("config.json", "model.safetensors")
CURES = {
    402: "a Space of Gradio on free hardware needs a paid plan: choose hardware that is paid by "
    "the hour (--hardware t4-small), or see https://huggingface.co/pricing",
}


@dataclass(frozen=True)
class Wishes:
    """How a Space is to run; what is None is left as the Hub has it.

    model: repo id of the model that it is about, fetched when the Space is built. hardware: a row
    of HARDWARE. sleep: minutes without a visitor after which paid hardware rests, 0 for never;
    SLEEP where hardware is paid for. bucket: "user/name", where trainings are kept over restarts.
    private: of a Space that is not there yet.

    Raises ConfigError or HubError for what cannot be.
    """

    model: str | None = None
    hardware: str | None = None
    sleep: int | None = None
    bucket: str | None = None
    private: bool = False

    def __post_init__(self) -> None:
        for name in (self.model, self.bucket):
            if name is not None:
                repos.check_repo_id(name)
        if self.hardware is not None:
            check_choice("hardware", self.hardware, HARDWARE)
        if self.sleep is not None:
            hint = "give minutes, or 0 to never sleep"
            check_int("sleep", self.sleep, 0, 7 * 24 * 60, hint)

    @property
    def seconds(self) -> int | None:
        """The sleep time as the Hub takes it: seconds, -1 for never."""
        paid = self.hardware not in (None, FREE)
        minutes = SLEEP if self.sleep is None and paid else self.sleep
        return None if minutes is None else 60 * minutes or -1

    @property
    def variables(self) -> dict[str, str]:
        """What the demo is told by its environment."""
        told = {
            "DDPM_HUB_MODEL": self.model,
            "DDPM_HUB_RUNS": self.bucket and f"{space_tasks.DATA}/runs",
        }
        return {name: value for name, value in told.items() if value}

    def settings(self) -> dict[str, Any]:
        """What the Hub is asked to set, as plain JSON."""
        return {
            "hardware": self.hardware,
            "seconds": self.seconds,
            "bucket": self.bucket,
            "variables": self.variables,
            "private": self.private,
        }


class Stage(NamedTuple):
    """What a Space will hold: its README, and all other files by their name there."""

    readme: str
    files: dict[str, Path]

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by its name there."""
        found = {name: path.stat().st_size for name, path in self.files.items()}
        return dict(sorted({"README.md": len(self.readme.encode()), **found}.items()))


class Deployed(NamedTuple):
    """Where the Space is, the commit that it now has, and whether that is a new one."""

    url: str
    commit: str
    changed: bool


class Status(NamedTuple):
    """How a Space fares. `error` is what the Hub says of a build or run that failed, else ""."""

    url: str
    app: str
    stage: str
    hardware: str
    requested: str
    sleep: int | None  # seconds
    error: str


def stage(wishes: Wishes | None = None, model_files: tuple[str, ...] = MODEL_FILES) -> Stage:
    """The files of a Space, from this installation or checkout: no network, nothing is written.

    model_files: what of the model's repo is fetched when the Space is built. Raises HubError if
    files are missing here, or if one of them holds a token.
    """
    root = _root()
    files = {name: root / name for name in BESIDE if (root / name).is_file()}
    for path in sorted(PACKAGE.rglob("*")):
        inside = path.relative_to(PACKAGE)
        hidden = any(part.startswith((".", "__pycache__")) for part in inside.parts)
        if path.is_file() and not hidden and path.suffix not in NOT_DATA:
            files[f"{PACKAGE.name}/{inside.as_posix()}"] = path
    readme = _readme(root / CARD, wishes or Wishes(), model_files)
    check_no_token({**files, CARD: root / CARD})
    return Stage(readme, files)


def deploy(
    repo_id: str,
    wishes: Wishes | None = None,
    *,
    token: str | bool | None = None,
    moved: Callable[[int], Any] | None = None,
) -> Deployed:
    """Make the Space what `stage` says, in one commit, and let it run as wished.

    It is created if it is not there. What is there and not staged is deleted. `moved` is told how
    many bytes of large files were sent so far. Raises HubError: no right to write there, no
    network, a plan that does not cover it, a model that is not public.
    """
    wishes = wishes or Wishes()
    repos.check_repo_id(repo_id)
    token = client.check_token(token)
    staged = stage(wishes, _public_files(wishes.model) if wishes.model else MODEL_FILES)
    with tempfile.TemporaryDirectory() as folder:
        readme = Path(folder) / "README.md"
        readme.write_text(staged.readme, encoding="utf-8")
        files = {**staged.files, "README.md": readme}
        told = {
            "repo_id": repo_id,
            "files": {name: str(path) for name, path in files.items()},
            "settings": wishes.settings(),
        }
        failed = f"{shown(repo_id)} could not be deployed"
        commit, changed = _asked(space_tasks.publish, told, token, failed, moved)
    return Deployed(page(repo_id), commit, changed)


def status(repo_id: str, *, token: str | bool | None = None) -> Status:
    """How the Space fares, as the Hub sees it. Raises HubError."""
    repos.check_repo_id(repo_id)
    token = client.check_token(token)
    told = _asked(
        space_tasks.look, {"repo_id": repo_id}, token, f"{shown(repo_id)} could not be looked at"
    )
    return Status(page(repo_id), *told)


def page(repo_id: str) -> str:
    """The Space's page on the Hub."""
    return f"{client.endpoint()}/spaces/{repo_id}"


def _root() -> Path:
    """The folder with app.py, requirements.txt and space_config/: a checkout's, or a wheel's."""
    if (PACKAGE.parent / CARD).is_file():
        return PACKAGE.parent
    try:
        installed = metadata.files("ddpm-hub") or ()
    except metadata.PackageNotFoundError:
        installed = ()
    for file in installed:
        if file.as_posix().endswith(CARD):
            return Path(file.locate()).resolve().parents[1]
    raise HubError(f"{CARD} is neither beside the package nor installed with it: use a checkout")


def _readme(path: Path, wishes: Wishes, model_files: tuple[str, ...]) -> str:
    """The Space's README: as it is in space_config/, and with the model's name if there is one."""
    text = path.read_text(encoding="utf-8")
    if wishes.model is None and wishes.hardware is None:
        return text
    card = SpaceCard(text)
    if wishes.model is not None:
        card.data.models = [wishes.model]
        card.data["preload_from_hub"] = [f"{wishes.model} {','.join(model_files)}"]
    if wishes.hardware is not None:
        card.data["suggested_hardware"] = wishes.hardware
    return str(card)


def _public_files(model: str) -> tuple[str, ...]:
    """The model's own files in its repo, which the Space's visitors must be able to read."""
    try:
        facts = repos.describe(model, "main", False)
    except Failure as failure:
        raise failure.sentence(f"{shown(model)} could not be opened", repos.page(model)) from None
    if not facts.public:
        raise HubError(f"{shown(model)} is gated: a Space's visitors could not open it")
    wanted = [n for n in sorted(facts.files) if n.endswith(("config.json", ".safetensors"))]
    found = [n for n in wanted if not n.startswith("checkpoints/")]
    if not any(name.endswith(".safetensors") for name in found):
        raise HubError(f"{shown(model)} holds no safetensors: give the repo of a model")
    return tuple(name for name in MODEL_FILES if name in found) or tuple(found)


def _asked(
    task: Callable[..., Any],
    told: dict[str, Any],
    token: str | bool,
    failed: str,
    moved: Callable[[int], Any] | None = None,
) -> Any:
    try:
        return client.call(task, told, token, moved)
    except Failure as failure:
        if failure.status in CURES:
            raise HubError(f"{failed} ({failure.why}): {CURES[failure.status]}") from failure
        raise failure.sentence(failed, page(told["repo_id"])) from failure
