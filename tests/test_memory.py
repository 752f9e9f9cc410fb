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
GLIBC = platform.libc_ver()[0] == "glibc"  # of another C library's malloc nothing is promised
PROGRAMS = {
    "function": "from ddpm_hub.memory import keep_memory; keep_memory()",
    "command line": """
import sys; from ddpm_hub import cli; sys.argv = ["ddpm-hub", "--version"]
try: cli.main()
except SystemExit: pass
""",
    "demo": "from ddpm_hub.app import models; models.prepare()",
}
ASKED = "from ddpm_hub.memory import keep_memory; print(keep_memory())"


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


def test_memory_goes_back_and_forth_without_it():
    assert int(said(CHURN)) > PAGES / 2 or not GLIBC


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_of_ours_keeps_its_memory(program):
    assert int(said(PROGRAMS[program] + "\n" + CHURN)) < PAGES / 100 or not GLIBC


def test_it_says_whether_it_could():
    assert said(ASKED) == str(GLIBC)


@pytest.mark.parametrize("name", SETTINGS)
def test_who_has_told_malloc_otherwise_is_left_alone(name):
    assert said(ASKED, **{name: ""}) == "False"


def test_no_other_c_library_is_touched(monkeypatch):
    from ddpm_hub import memory

    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))  # as musl and macOS have it
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: pytest.fail("called"))
    assert memory.keep_memory() is False
