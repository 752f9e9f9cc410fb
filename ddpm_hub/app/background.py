"""Threads: work of seconds as a stream, for pages that show how far it is; who stands back.

Whoever stops listening does not stop such work: a push under way is to end as it was meant to.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

TICK = 0.25  # seconds between two signs of life
BEHIND = 10  # of the 19 by which Linux lets a thread stand back


class Done(NamedTuple):
    """The end of such a stream: what the action returned."""

    value: Any


def in_background(action: Callable[[], Any]) -> Iterator[float | Done]:
    """Seconds so far, every TICK, then `Done`. Raises what the action raises."""
    answer: list[Any] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            answer.append(action())
        except BaseException as error:
            failed.append(error)

    began = time.monotonic()
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        yield time.monotonic() - began
        thread.join(TICK)
    if failed:
        raise failed[0]
    yield Done(answer[0])


def stand_back() -> None:
    """This thread, and those it starts, leave the processor to others that want it.

    For work of minutes beside answers of milliseconds. Only Linux counts it by thread.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BEHIND)
