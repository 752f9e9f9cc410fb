"""No token of the Hub in what is published: everybody could read it, and write with it."""

from __future__ import annotations

import re
from pathlib import Path

from ddpm_hub.errors import HubError

TOKEN = re.compile(rb"hf_(?:[A-Za-z0-9]{30,}|(?=\w*[0-9])\w{20,})")


def check_no_token(paths: dict[str, Path]) -> None:
    """Raise HubError if a file among {name: path}, weights excepted, holds a token of the Hub."""
    for name, path in paths.items():
        if not name.endswith(".safetensors") and TOKEN.search(path.read_bytes()):
            raise HubError(
                f"{name} holds what looks like a token of the Hub (hf_...): take it out, and "
                "revoke it at https://huggingface.co/settings/tokens"
            )
