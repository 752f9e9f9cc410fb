"""Where a run may begin instead of in noise: a state x_t that another tab prepared.

In the room: a bounded store of such states by key. Not in the room: who makes them (the Forward
tab), who draws from them (engine.py). No torch, no gradio here.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

MAX_STARTS = 64


class Start(NamedTuple):
    """x_t of one model: `x` is (C, H, W) float32 in the model's range, about [-1, 1], at time t."""

    model: str  # its name in this app: the state means nothing to another
    x: np.ndarray
    t: int
    words: str  # for people, where x_t is from: "ankle boot, noised in Forward"


_starts: OrderedDict[str, Start] = OrderedDict()
_lock = threading.Lock()


def keep(start: Start) -> str:
    """A key by which `find` gives it back, until MAX_STARTS newer ones have come."""
    key = secrets.token_hex(16)  # unguessable: the picture is a visitor's own
    with _lock:
        _starts[key] = start
        while len(_starts) > MAX_STARTS:
            _starts.popitem(last=False)
    return key


def find(key: object) -> Start | None:
    """The start of that key, or None: unknown, or forgotten."""
    return _starts.get(key) if isinstance(key, str) else None
