"""A network whose calls a GPU replays from a recording, a CUDA graph: one launch, not hundreds.

A small network's kernels take less time than Python needs to launch them: the GPU waits. A graph is
launched once. In the room: recordings, and which call is answered by which. Not in the room: what
is recorded (`half.py`), and when that is worth it (`fast.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor, nn

KEPT = 4  # recordings: a batch and its rest, each with and without guidance
WARM = 3  # calls before one is recorded: libraries choose their kernels in the first ones

Given = dict[str, Tensor]  # the arguments of a call that are not None
Forward = Callable[..., Tensor]


def graphed(net: nn.Module) -> nn.Module:
    """`net`, from now on by recordings. Its weights must stay where they are."""
    net.forward = Recordings(net.forward)
    return net


class Recordings:
    """`forward`, by recordings: for each shape of the arguments, that of its first call.

    Threads take turns, on the same stream of the GPU (it is, unless they are told otherwise): a
    recording has one place for its arguments, and one for its answer.
    """

    def __init__(self, forward: Forward):
        # by position, as any network may be called: its names are its own
        self.forward = lambda x, time, x_self_cond=None, **more: forward(
            x, time, x_self_cond, **more
        )
        self.kept: dict[tuple, Callable[[Given], Tensor]] = {}
        self.turn = threading.Lock()

    def __call__(self, x: Tensor, time: Tensor, x_self_cond: Tensor | None = None, **more: Tensor):
        """As `forward` answers. Raises RuntimeError if what it does cannot be recorded."""
        given = {"x": x, "time": time, "x_self_cond": x_self_cond, **more}
        given = {name: value for name, value in given.items() if value is not None}
        kind = tuple((name, value.shape, value.dtype) for name, value in given.items())
        with self.turn:
            replay = self.kept.pop(kind, None) or record(self.forward, given)
            self.kept[kind] = replay  # the newest stands last
            for oldest in list(self.kept)[:-KEPT]:
                del self.kept[oldest]
            return replay(given)


@torch.no_grad()
def record(forward: Forward, given: Given) -> Callable[[Given], Tensor]:
    """Record one call, and return what replays it with other arguments of the same shapes."""
    places = {name: value.clone() for name, value in given.items()}
    device, graph = places["x"].device, torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        apart, here = torch.cuda.Stream(), torch.cuda.current_stream()
        apart.wait_stream(here)
        with torch.cuda.stream(apart):
            for _ in range(WARM):
                forward(**places)
        here.wait_stream(apart)
        # thread_local: other threads may ask for memory meanwhile
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            answer = forward(**places)

    def replay(given: Given) -> Tensor:
        with torch.cuda.device(device):
            for name, value in given.items():
                places[name].copy_(value)
            graph.replay()
            return answer.clone()  # the next call writes where this one's answer lies

    return replay
