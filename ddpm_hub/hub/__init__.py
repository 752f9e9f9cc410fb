"""The Hub: a repo opened file by file and checked, a folder published in one commit, a Space.

    hub.push_folder("results", "user/ddpm-cats")      # publish.py

In the room, from the ground up: `client` works in a process of its own that can be ended, `repos`
asks short questions, `cache` knows what is on this machine, `tasks` is what the process is told to
do; on these stand `sources` (where a model's files are), `publish` and `space`. What a model's
files mean is `interop`'s business; data sets of the Hub are `data/hub.py`'s.

Each name is loaded when it is first asked for: the client's process does without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddpm_hub.hub.publish import (
        EXTRAS,
        MODEL,
        Pushed,
        fetch_checkpoint,
        preview,
        push_folder,
        push_run,
    )
    from ddpm_hub.hub.repos import check_repo_id

HOME = {
    "EXTRAS": "publish",
    "MODEL": "publish",
    "Pushed": "publish",
    "check_repo_id": "repos",
    "fetch_checkpoint": "publish",
    "preview": "publish",
    "push_folder": "publish",
    "push_run": "publish",
}

__all__ = [
    "EXTRAS",
    "MODEL",
    "Pushed",
    "check_repo_id",
    "fetch_checkpoint",
    "preview",
    "push_folder",
    "push_run",
]


def __getattr__(name: str) -> object:
    if name not in HOME:
        raise AttributeError(f"module 'ddpm_hub.hub' has no attribute {name!r}")
    value = getattr(import_module(f"ddpm_hub.hub.{HOME[name]}"), name)
    globals()[name] = value
    return value
