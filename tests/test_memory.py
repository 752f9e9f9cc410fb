"""Programs keep the memory that they free, and ask the system for none of it again."""

import os
import platform
import subprocess
import sys

import pytest

from ddpm_hub.memory import SETTINGS

# three blocks at a time are more than glibc leaves at the end of its heap by itself
CHURN = """
import resource

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def churn():
    blocks = [bytearray(b"x") * (24 * 2**20) for _ in range(3)]

for _ in range(3):
    churn()
before = faults()
for _ in range(3):
    churn()
print(faults() - before)
"""
PAGES = 3 * 3 * 24 * 2**20 // 4096  # that the three rounds touch
on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's malloc")
PROGRAMS = {
    "function": "from ddpm_hub.memory import keep_memory; assert keep_memory()",
    "command line": """
import sys; from ddpm_hub import cli; sys.argv = ["ddpm-hub", "--version"]
try: cli.main()
except SystemExit: pass
""",
    "demo": "from ddpm_hub.app import models; models.prepare()",
}


def said(program, **environment):
    """The last line that a fresh Python prints."""
    bare = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=bare | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.split()[-1]


@on_glibc
def test_memory_goes_back_and_forth_without_it():
    assert int(said(CHURN)) > PAGES / 2


@on_glibc
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_of_ours_keeps_its_memory(program):
    assert int(said(PROGRAMS[program] + "\n" + CHURN)) < PAGES / 100


@pytest.mark.parametrize("name", SETTINGS)
def test_who_has_told_malloc_otherwise_is_left_alone(name):
    program = "from ddpm_hub.memory import keep_memory; print(keep_memory())"
    assert said(program, **{name: ""}) == "False"


def test_no_other_c_library_is_touched(monkeypatch):
    from ddpm_hub import memory

    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))  # as musl and macOS have it
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: pytest.fail("called"))
    assert memory.keep_memory() is False
