"""How this process holds memory, for programs that compute on a CPU.

In the room: what is asked of the C library's malloc. Not in the room: what a device has room for
(`runtime.py`). Nothing here imports torch, so that a program can call it before anything else.
"""

from __future__ import annotations

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of malloc.h
TOP = 512 * 2**20  # bytes that may lie unused at the end of the heap
LARGEST = 32 * 2**20  # bytes of a block that is cut from the heap: the most that glibc takes
SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_memory() -> bool:
    """Let malloc keep freed memory for the next layer, and not hand it back to the system.

    A network frees some ten megabytes and asks for them again all the time. Each page that comes
    back from the system is cleared first, in a fault of its own: a quarter of a step on the CPU, in
    the worst case (docs/performance.md). The price is up to TOP bytes that stay with the process.

    It is a matter of the whole process, so a program calls it (the command line, the demo), and no
    library does. False, and nothing done, where malloc is not glibc's (mallopt(3)), or where one
    of the environment's SETTINGS says how it is to be.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in SETTINGS):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST) and mallopt(M_TRIM_THRESHOLD, TOP))
