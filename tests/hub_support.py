"""What the tests of the Hub share: a Hub on this machine, models on it, and processes of their own.

`ddpm_hub` reads HF_ENDPOINT whenever it asks; huggingface_hub itself, when it is imported.
"""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import HfApi, constants
from local_hub import LocalHub

from ddpm_hub import GaussianDiffusion, Unet

HERE = Path(__file__).parent
REPO = "alice/model"
DOWNLOAD = {False: "GET /cdn/", True: "GET /cas/xorb/"}


def model(seed=0, **changes):
    """A diffusion of 60 kB of floats, which do not compress: with Xet, others come in twice."""
    torch.manual_seed(seed)
    net = Unet(8, dim_mults=(1, 2), channels=1, attn_heads=1, attn_dim_head=8)
    return GaussianDiffusion(net, **{"image_size": 8, "timesteps": 20, **changes})


def same(a, b):
    """Whether two models are equal in every weight and in their configs."""
    ours, theirs = a.state_dict(), b.state_dict()
    equal = ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    return equal and a.to_config() == b.to_config()


@contextmanager
def hub_on_this_machine(monkeypatch, home):
    """A Hub, and alice logged in to it; its owner's cache is a folder in `home`."""
    with LocalHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", server.add_token("alice"))
        monkeypatch.setenv("HF_HOME", str(home / "hf"))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hf" / "hub"))  # of this process
        yield server


def api(server, token=None):
    """The real client, of alice unless told otherwise."""
    return HfApi(server.url, token=token or os.environ["HF_TOKEN"])


def commits(server, repo=REPO):
    """Titles of a repo's commits, oldest first, without the one that made it."""
    return [c.title for c in reversed(api(server).list_repo_commits(repo))][1:]


def start(program, *arguments, **environment):
    """A program in a process of its own."""
    paths = [str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def machine(program, *arguments, **environment):
    """What a program in a process of its own says, as JSON, and what is on its stderr."""
    process = start(program, *arguments, **environment)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out), err
