"""What every test shares: one thread per network, since they are tiny and the cores are few.

And a Hub on this machine, for those that ask for it.
"""

import signal

import pytest
import torch

torch.set_num_threads(1)
# a shell that starts the suite in the background has it ignore Ctrl-C, and its children with it
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=[False, True], ids=["LFS", "Xet"])
def xet(request, monkeypatch):
    """Whether the client speaks Xet, its default, or LFS, which it falls back to."""
    monkeypatch.setenv("HF_HUB_DISABLE_XET", str(int(not request.param)))
    return request.param


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A Hub, and alice logged in to it."""
    from hub_support import hub_on_this_machine

    torch.set_num_threads(1)
    with hub_on_this_machine(monkeypatch, tmp_path) as server:
        yield server
