"""The lane to the GPU: where a function that computes runs, and when it is its turn.

`@gpu(work)` on a function at a module's top level, a generator or not, decides at each call:

- On a CPU, or a GPU of one's own: it is called here, as if it were not decorated.
- On ZeroGPU, a visitor's call runs in a worker that `spaces` forks and lends a GPU to, for about
  as long as `work` makes it last. What nobody asked for (the example) has no GPU there: it runs
  here, on the CPU.
- With DDPM_HUB_LANE=fork, in a worker forked here (fork.py): ZeroGPU's boundary, for tests.

Arguments and results cross that boundary as pickles with tensors on the CPU alone, and so does the
model that `work` names; what a worker writes into globals is lost. Not in the room: what is
computed (engine.py, glimpse.py, experiments/).
"""

from __future__ import annotations

import inspect
import io
import logging
import math
import pickle
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import wraps
from importlib import import_module
from typing import Any, NamedTuple

import gradio as gr
import torch
from gradio.context import LocalContext
from torch import Tensor

from ddpm_hub.app import fork, machine, models
from ddpm_hub.errors import DDPMHubError

LONGEST = 60  # seconds of GPU asked for at once; some hardware counts them for one and a half
WAKE = 4.0  # seconds until a worker has its GPU and the model on it
MARGIN = 1.5
CALL_SECONDS, IMAGE_SECONDS = 0.03, 7e-14  # of a network call, of each parameter x pixel in it
LOG = logging.getLogger(__name__)


class NoGPU(DDPMHubError):
    """ZeroGPU lends none now: a quota is used up, or all are in use. Its sentence says which."""


class Work(NamedTuple):
    """What there is to do: network calls of a model, by name, for so many images each."""

    model: str
    calls: int = 1
    images: int = 1


def gpu(work: Callable[..., Work | float]) -> Callable[[Callable], Callable]:
    """Run the decorated function where the GPU is; see above. In this process one at a time.

    work: called with the same arguments, it says what there is to do, or the seconds of GPU. The
    model it names is loaded before the call has its turn: nobody waits for another's download.

    Raises what the function raises; from a worker only the project's errors come as they are, and
    for all others a DDPMHubError says that the log has more.
    """

    def decorate(task: Callable) -> Callable:
        steps = task if inspect.isgeneratorfunction(task) else _once(task)

        @wraps(task)
        def stream(*arguments: Any) -> Iterator[Any]:
            if machine.in_worker():
                yield from steps(*arguments)
                return
            said = work(*arguments)
            loaded = models.load(said.model) if isinstance(said, Work) else None
            if is_away():
                yield from _away(task, arguments, said, loaded)
                return
            with _TURNS.taken() if _visited() else nullcontext():
                yield from steps(*arguments)

        @wraps(task)
        def call(*arguments: Any) -> Any:
            with closing(stream(*arguments)) as answers:
                return next(answers)

        run = stream if steps is task else call
        run.steps = steps  # what a worker runs
        return run

    return decorate


def is_away() -> bool:
    """Whether what this thread asks for would run in a worker."""
    return machine.has_workers() and (_visited() or not machine.ZERO)


def _visited() -> bool:
    """Whether a visitor's event is being answered: that is who ZeroGPU lends its GPU to."""
    return LocalContext.request.get(None) is not None


def _once(task: Callable) -> Callable[..., Iterator[Any]]:
    def steps(*arguments: Any) -> Iterator[Any]:
        yield task(*arguments)

    return steps


# ---- whose turn ---------------------------------------------------------------------------------
class _Turns:
    """One visitor's work at a time, first come, first served, whichever endpoint it came by."""

    def __init__(self) -> None:
        self.bell, self.waiting = threading.Condition(), deque()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for one's turn, and have it."""
        ticket = object()
        with self.bell:
            self.waiting.append(ticket)
            self.bell.wait_for(lambda: self.waiting[0] is ticket)
        try:
            yield
        finally:
            with self.bell:
                self.waiting.remove(ticket)
                self.bell.notify_all()


_TURNS = _Turns()


# ---- the boundary -------------------------------------------------------------------------------
_paces: dict[int, float] = {}  # by a model's size: how much slower than expected it was, last


def _away(task: Callable, arguments: tuple, work: Work | float, diffusion: Any) -> Iterator[Any]:
    """Do it in a worker; gives what comes back, and takes down how long that took."""
    model = None if diffusion is None else (work.model, diffusion)
    call = pack(((task.__module__, task.__qualname__), arguments, model))
    began = time.monotonic()
    with closing(_lent(call, seconds_for(work, diffusion))) as answers:
        for answer in answers:
            good, value = pickle.loads(answer)
            if not good:
                raise value
            yield value
    if diffusion is not None:
        took = time.monotonic() - began - WAKE
        _paces[_size(diffusion)] = max(0.2, took / _expected(work, diffusion))


def seconds_for(work: Work | float, diffusion: Any = None) -> int:
    """What to ask ZeroGPU for: the estimate with a margin, at the pace measured before."""
    if isinstance(work, Work):
        pace = _paces.get(_size(diffusion), 1.0)
        work = WAKE + MARGIN * pace * _expected(work, diffusion)
    return math.ceil(min(work, LONGEST))


def _expected(work: Work, diffusion: Any) -> float:
    """Seconds on a GPU, before anything was measured."""
    return work.calls * max(CALL_SECONDS, work.images * _size(diffusion) * IMAGE_SECONDS)


def _size(diffusion: Any) -> int:
    """Parameters x pixels of one image."""
    return sum(p.numel() for p in diffusion.parameters()) * math.prod(diffusion.image_size)


def _worker(call: bytes, _seconds: int) -> Iterator[bytes]:
    """In the worker: run what was asked for; pickles of (True, result) or (False, error)."""
    machine.enter_worker()
    models.enter_worker()
    torch.set_num_threads(1)  # the parent's other threads do not exist in a fork
    try:
        (module, name), arguments, model = pickle.loads(call)
        if model is not None:
            models.adopt(model[0], models.placed(model[1]))
        with closing(getattr(import_module(module), name).steps(*arguments)) as results:
            for result in results:
                yield pack((True, result))
    except DDPMHubError as error:
        yield pack((False, error))
    except Exception:
        LOG.exception("GPU work failed in a worker")
        yield pack((False, DDPMHubError("the GPU's worker failed, the log says why: try again")))


class _Pickler(pickle.Pickler):
    """Refuses what must not cross: a tensor of a GPU that the other side does not have."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Tensor) and value.device.type != "cpu":
            raise TypeError(f"a tensor on {value.device} does not leave its process: .cpu() first")
        return NotImplemented


def pack(value: Any) -> bytes:
    """`value` as a pickle without shared memory; TypeError for tensors that are not on the CPU."""
    file = io.BytesIO()
    _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


def _lent(call: bytes, seconds: int) -> Iterator[bytes]:
    """By a worker; what ZeroGPU's scheduler says of quotas becomes a sentence of ours."""
    try:
        yield from _granted(call, seconds)  # with a worker's own errors inside what it yields
    except gr.Error as error:
        words = re.sub(r"<[^>]*>", "", str(error.message)).strip().rstrip(".")
        raise NoGPU(words or "ZeroGPU has no GPU just now: try again in a minute") from None


if machine.ZERO:
    import spaces  # before anything asks CUDA, which no import of ours does

    _granted = spaces.GPU(duration=lambda call, seconds: seconds)(_worker)
else:

    def _granted(call: bytes, _seconds: int) -> Iterator[bytes]:
        yield from fork.stream(_worker, call)
