"""Which way a network answers fastest on this machine: measured once, remembered, and said.

In the room: the ways, and the choice between them. Not in the room: how a way works
(`nets/packed.py`), and what hardware offers (`runtime.py`). The network as it is to be read is
always one of the ways, "eager", and the only one whose numbers are float32's own.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ddpm_hub import files, runtime
from ddpm_hub.errors import ConfigError, check_choice
from ddpm_hub.nets.packed import packed

RUNTIMES = ("auto", "eager", "packed")
ROUNDS = 3  # calls of each way that are timed, after one that warms up
REMEMBERED = 200  # choices, of all networks on this machine


class Choice(NamedTuple):
    """What was chosen: a row of RUNTIMES, and why, for people."""

    runtime: str
    why: str


def choose(net: nn.Module, shape: tuple[int, ...], wanted: str = "auto") -> Choice:
    """How `net` is to be called on batches of `shape`, (B, C, H, W).

    "auto" calls it both ways, ROUNDS times each, unless this machine remembers having done so.
    Raises ConfigError for a way that there is none of, or that this machine does not offer.
    """
    check_choice("runtime", wanted, RUNTIMES)
    lack = _lack(net)
    if wanted == "packed" and lack:
        raise ConfigError(f"runtime 'packed' is not for this machine: {lack}; use 'eager'")
    if wanted != "auto":
        return Choice(wanted, "as asked for")
    if lack:
        return Choice("eager", lack)
    key = _key(net, shape)
    known = _memory().get(key)
    seconds = known if _is_timing(known) else _remembered(key, _race(net, shape))
    best = min(seconds, key=seconds.get)
    times = ", ".join(f"{way} {1e3 * taken:.1f} ms" for way, taken in sorted(seconds.items()))
    return Choice(best, f"a call on {shape[0]} images takes {times}")


def prepared(net: nn.Module, choice: Choice) -> nn.Module:
    """`net` itself, or the copy of it that was chosen."""
    return packed(net) if choice.runtime == "packed" else net


def _lack(net: nn.Module) -> str | None:
    """Why there is no other way here than "eager"; None if there is."""
    weights = next(net.parameters())
    if weights.device.type != "cpu":
        return f"the weights are on {weights.device.type}, and packing is for the CPU"
    if weights.dtype != torch.float32:
        return f"the weights are {weights.dtype}, and packing is for float32"
    if not runtime.has_bf16(weights.device):
        return "this processor has no bfloat16 arithmetic"
    return None if torch.backends.mkldnn.is_available() else "this torch has no oneDNN"


# ---- measuring ----------------------------------------------------------------------------------
@torch.no_grad()
def _race(net: nn.Module, shape: tuple[int, ...]) -> dict[str, float]:
    """Seconds of one call each way: the best of ROUNDS, in turns."""
    x, t = torch.zeros(shape), torch.zeros(shape[0], dtype=torch.long)
    calls = {"eager": (net, x), "packed": (packed(net), x.bfloat16())}
    best = dict.fromkeys(calls, float("inf"))
    with runtime.eval_mode(net):
        for rounds in range(ROUNDS + 1):
            for way, (called, image) in calls.items():
                taken = _seconds(called, image, t)
                best[way] = min(best[way], taken) if rounds else best[way]
    return best


def _seconds(net: nn.Module, x: Tensor, t: Tensor) -> float:
    begun = time.perf_counter()
    net(x, t)
    return time.perf_counter() - begun


# ---- remembering --------------------------------------------------------------------------------
def _key(net: nn.Module, shape: tuple[int, ...]) -> str:
    """What the figures depend on: the machine, torch, the network's kind, the batch."""
    machine = (platform.processor(), platform.machine(), platform.node(), torch.get_num_threads())
    config = getattr(net, "config", None) or [tuple(p.shape) for p in net.parameters()]
    told = json.dumps([machine, torch.__version__, type(net).__name__, config, shape], default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _file() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "ddpm_hub" / "runtimes.json"


def _memory() -> dict[str, Any]:
    try:
        known = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # nothing is lost but a second
    return known if isinstance(known, dict) else {}


def _is_timing(known: Any) -> bool:
    return (
        isinstance(known, dict)
        and set(known) == {"eager", "packed"}
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
