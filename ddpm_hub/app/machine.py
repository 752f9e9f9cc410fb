"""The machine under the demo: which hardware, how it is lent, how much memory, which disk.

In the room: facts for the page and for who places something. Not in the room: how work reaches a
lent GPU (lane.py), what is kept on the disk (jobs.py) and in memory (models.py). No gradio.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# ZeroGPU lends a GPU to a worker process, for seconds, to who asks for it. `spaces` does it.
ZERO = os.getenv("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true") and bool(find_spec("spaces"))
VOLUME = Path("/data")  # where a Space's bucket is mounted
SHARE = 4  # models may take one such part of the memory
CGROUP = Path("/sys/fs/cgroup/memory.max")  # a container's own limit
_in_worker = False


def enter_worker() -> None:
    """This process is a worker now: what it has is its own GPU."""
    global _in_worker
    _in_worker = True


def in_worker() -> bool:
    """Whether this process is a worker that somebody forked for GPU work."""
    return _in_worker


def has_workers() -> bool:
    """Whether this process leaves GPU work to workers."""
    return not _in_worker and (ZERO or os.getenv("DDPM_HUB_LANE") == "fork")


def device() -> torch.device:
    """Where this process keeps models: its best device, and the CPU if GPUs are its workers'."""
    import torch

    from ddpm_hub.runtime import pick_device

    # even to ask CUDA here would spoil every worker that is forked later
    return torch.device("cpu") if has_workers() else pick_device()


def kind() -> str:
    """Where pictures are made, in a word: "cpu", "cuda", "ZeroGPU"."""
    return "ZeroGPU" if ZERO else device().type


# ---- for the page -------------------------------------------------------------------------------
def line() -> str:
    """Device, number formats and memory in one line: "cpu, 1 thread · float32 · 412 MB"."""
    from ddpm_hub import runtime

    where = device()
    trains = runtime.precision(where)
    words = "ZeroGPU" if ZERO else runtime.describe(where).replace("1 threads", "1 thread")
    formats = "float32" if trains == "no" else f"float32, training {trains}"
    return f"{words} · {formats} · {in_words(memory_used())} in use"


def in_words(count: int) -> str:
    """Bytes for people: "412 MB", "3.1 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def memory_used() -> int:
    """Bytes of memory in use: by models and runs on the GPU, else by this process."""
    where = device()
    if where.type == "cuda":
        import torch

        return torch.cuda.memory_allocated(where)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):  # not Linux: the most it ever was
        import resource
        import sys

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def memory() -> int:
    """Bytes of memory that there are: of the GPU, else of this machine or container."""
    where = device()
    if where.type == "cuda":
        import torch

        return torch.cuda.get_device_properties(where).total_memory
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(total, int(CGROUP.read_text()))
    except (OSError, ValueError):  # "max": no limit
        return total


def room_for_models() -> int:
    """Bytes that models in memory may take together."""
    return memory() // SHARE


# ---- a Space ------------------------------------------------------------------------------------
def space() -> str | None:
    """owner/name of the Space that this is; None elsewhere."""
    return os.getenv("SPACE_ID") or None


def runs_folder() -> Path:
    """Where trainings are kept: $DDPM_HUB_RUNS, else on the volume of a Space, else ./runs."""
    named = os.getenv("DDPM_HUB_RUNS")
    if named:
        return Path(named).resolve()
    return (VOLUME / "runs" if has_volume() else Path("runs")).resolve()


def has_volume() -> bool:
    """Whether this is a Space with a bucket mounted, and may write there."""
    return space() is not None and VOLUME.is_dir() and os.access(VOLUME, os.W_OK)
