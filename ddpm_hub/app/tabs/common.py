"""What the tabs' events have in common: how they are queued, and how an error reaches a visitor.

No components here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from ddpm_hub.errors import DDPMHubError

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
LIGHT = QUIET | {"queue": False}
# one lane for everything heavy
GPU: dict[str, Any] = {"concurrency_id": "gpu", "concurrency_limit": 1}
HUB = QUIET | {"concurrency_id": "hub", "concurrency_limit": 8}  # never behind a picture


@contextmanager
def sentences() -> Iterator[None]:
    """Our errors are sentences for the visitor; all others stay in the log."""
    try:
        yield
    except DDPMHubError as error:
        raise gr.Error(str(error), print_exception=False) from None
