"""A worker process for one call, forked here: what ZeroGPU's `spaces` does, without its GPU.

In the room: the process, the pipe that it answers by, and its end. Not in the room: what goes
through the pipe (lane.py).
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from ddpm_hub.errors import DDPMHubError

PATIENCE = 20.0  # seconds that a worker has to finish its step once nobody listens
LOOK = 0.2  # seconds between two looks whether it lives


def stream(work: Callable[[bytes, int], Iterator[bytes]], call: bytes) -> Iterator[bytes]:
    """What `work(call, 0)` yields in a forked process, which is gone when this generator is.

    Closing it lets the worker close its own after the step under way. Raises DDPMHubError if the
    worker died.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    stop = context.Event()  # to close the pipe would not do: forks made meanwhile hold it, too
    child = context.Process(target=_serve, args=(work, theirs, stop, os.getpid()), daemon=True)
    child.start()
    theirs.close()
    try:
        ours.send_bytes(call)
        while answer := _next(ours, child):
            yield answer
    finally:
        stop.set()
        _see_off(ours, child)


def _next(ours: Connection, child: BaseProcess) -> bytes:
    """What the worker sends next; nothing at its end."""
    try:
        while not ours.poll(LOOK):
            if not child.is_alive() and not ours.poll():
                raise EOFError
        return ours.recv_bytes()
    except (EOFError, OSError):
        raise DDPMHubError(
            "the GPU's worker died, perhaps for want of memory: ask for less at once"
        ) from None


def _see_off(ours: Connection, child: BaseProcess) -> None:
    """Let the worker end, or end it; then it is no zombie."""
    deadline = time.monotonic() + PATIENCE
    while child.is_alive() and time.monotonic() < deadline:
        try:
            if ours.poll(0.02):
                ours.recv_bytes()  # else it could wait for ever to be read
        except (EOFError, OSError):
            child.join(max(0.0, deadline - time.monotonic()))
    if child.is_alive():
        child.kill()
    child.join()
    child.close()
    ours.close()


def _serve(work: Callable, pipe: Connection, stop: Any, parent: int) -> None:
    """In the worker: answer one call, as long as somebody listens."""
    with closing(work(pipe.recv_bytes(), 0)) as answers:
        for answer in answers:
            pipe.send_bytes(answer)
            if stop.is_set() or os.getppid() != parent:
                break
    pipe.send_bytes(b"")
