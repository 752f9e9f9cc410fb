"""Which way a network answers fastest on this machine: measured once, remembered, and said.

In the room: the ways, and the choice between them. Not in the room: how a way works
(`nets/half.py`, `nets/packed.py`, `nets/graphed.py`), and what hardware offers (`runtime.py`). The
network as it is to be read is always one of the ways, "eager", and the only one whose numbers are
float32's own.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ddpm_hub import files, runtime
from ddpm_hub.errors import ConfigError, check_choice
from ddpm_hub.nets.graphed import graphed
from ddpm_hub.nets.half import half
from ddpm_hub.nets.packed import packed


class Way(NamedTuple):
    """How a network can be called: what makes the copy, and for which kind of device, if one."""

    make: Callable[[nn.Module], nn.Module]
    device: str | None = None


WAYS = {
    "eager": Way(lambda net: net),
    "packed": Way(packed, "cpu"),
    "half": Way(half),
    "graphed": Way(lambda net: graphed(half(net)), "cuda"),
    "compiled": Way(lambda net: runtime.compile(half(net))),
}
RUNTIMES = ("auto", *WAYS)
# what "auto" tries, by kind of device: nothing that takes minutes to be made
RACED = {"cpu": ("eager", "packed"), "cuda": ("eager", "half", "graphed")}
ROUNDS = 3  # calls of each way that are timed, after one that warms up
LONG = 1.0  # seconds of a round after which there is no other: so long a call is told apart by one
REMEMBERED = 200  # choices, of all networks on this machine


class Choice(NamedTuple):
    """What was chosen: a row of WAYS, and why, for people."""

    runtime: str
    why: str


def choose(net: nn.Module, shape: tuple[int, ...], wanted: str = "auto") -> Choice:
    """How `net` is to be called on batches of `shape`, (B, C, H, W).

    "auto" calls it every way of RACED, ROUNDS times each (a network that takes long once), unless
    this machine remembers having done so. Raises ConfigError for a way that there is none of, or
    that this machine does not offer.
    """
    check_choice("runtime", wanted, RUNTIMES)
    lack = _lack(net, wanted)
    if wanted == "auto" and lack:
        return Choice("eager", lack)
    if lack:
        raise ConfigError(f"runtime {wanted!r} is not for this machine: {lack}; use 'eager'")
    if wanted != "auto":
        return Choice(wanted, "as asked for")
    key = _key(net, shape)
    known = _memory().get(key)
    seconds = known if _is_timing(known) else _remembered(key, _race(net, shape))
    best = min(seconds, key=seconds.get)
    times = ", ".join(f"{way} {1e3 * taken:.1f} ms" for way, taken in sorted(seconds.items()))
    return Choice(best, f"a call on {shape[0]} images takes {times}")


def prepared(net: nn.Module, choice: Choice) -> nn.Module:
    """`net` itself, or the copy of it that was chosen."""
    return WAYS[choice.runtime].make(net)


def _lack(net: nn.Module, wanted: str) -> str | None:
    """Why `net` cannot be called so here, or for "auto" not otherwise than "eager"; else None."""
    if wanted == "eager":
        return None
    weights = next(net.parameters(), None)
    if weights is None:
        return "it has no weights"
    here = weights.device.type
    meant = tuple(RACED) if wanted == "auto" else (WAYS[wanted].device or here,)
    if here not in meant:
        return f"the weights are on {here}, and {wanted!r} is for {' or '.join(meant)}"
    if weights.dtype != torch.float32:
        return f"the weights are {weights.dtype}, and fast copies are made of float32"
    if not runtime.has_bf16(weights.device):
        return "this processor has no bfloat16 arithmetic"
    if here == "cpu" and wanted in ("auto", "packed") and not torch.backends.mkldnn.is_available():
        return "this torch has no oneDNN"
    return None


# ---- measuring ----------------------------------------------------------------------------------
@torch.no_grad()
def _race(net: nn.Module, shape: tuple[int, ...]) -> dict[str, float]:
    """Seconds of one call each way that works here: the best of ROUNDS, in turns, or of one."""
    device, best = next(net.parameters()).device, {}
    x, t = torch.zeros(shape, device=device), torch.zeros(shape[0], dtype=torch.long, device=device)
    copies = {}
    with runtime.eval_mode(net):
        for way in RACED[device.type]:
            try:
                copies[way] = WAYS[way].make(net)
                _seconds(copies[way], x, t)  # the first call warms up
                best[way] = float("inf")
            except Exception as error:  # no memory, a driver that cannot do it, an odd network
                if way == "eager":
                    raise
                warnings.warn(f"runtime {way!r} does not work here: {error}", stacklevel=2)
        for _ in range(ROUNDS):
            for way in best:
                best[way] = min(best[way], _seconds(copies[way], x, t))
            if sum(best.values()) > LONG:
                break
    return best


def _seconds(net: nn.Module, x: Tensor, t: Tensor) -> float:
    x = x.to(next(net.parameters()).dtype)
    begun = time.perf_counter()
    net(x, t)
    if x.device.type != "cpu":
        torch.accelerator.synchronize(x.device)
    return time.perf_counter() - begun


# ---- remembering --------------------------------------------------------------------------------
def _key(net: nn.Module, shape: tuple[int, ...]) -> str:
    """What the figures depend on: the machine, torch, the network's kind, the batch."""
    device = runtime.describe(next(net.parameters()).device)
    machine = (platform.processor(), platform.machine(), platform.node(), device)
    config = getattr(net, "config", None) or str(net)
    told = json.dumps([machine, torch.__version__, type(net).__name__, config, shape], default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _file() -> Path:
    return files.cache_folder() / "runtimes.json"


def _memory() -> dict[str, Any]:
    try:
        known = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # nothing is lost but a second
    return known if isinstance(known, dict) else {}


def _is_timing(known: Any) -> bool:
    return (
        isinstance(known, dict)
        and "eager" in known
        and known.keys() <= WAYS.keys()
        and all(isinstance(taken, float) and taken > 0 for taken in known.values())
    )


def _remembered(key: str, seconds: dict[str, float]) -> dict[str, float]:
    newest = list({**_memory(), key: seconds}.items())[-REMEMBERED:]
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        files.write_text(_file(), json.dumps(dict(newest), indent=1))
    except OSError:
        pass  # a home that cannot be written to: it is measured again next time
    return seconds
