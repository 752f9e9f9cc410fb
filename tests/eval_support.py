"""What the tests of evaluation share: programs as processes, random pictures, small features."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from ddpm_hub.evaluate import Drawing, FeatureNetwork

ROOT = Path(__file__).parents[1]
FEW = Drawing(5, "ddpm", 3, batch_size=2)


def program(name, *arguments, processes=1, **environment):
    """What each process of a program in tests/ printed, as JSON."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [sys.executable, *(torchrun if processes > 1 else []), f"tests/{name}", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:tests", "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def pixels(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.manual_seed(seed), dtype=torch.uint8)


def mean_and_corner(seen=None):
    """A feature network of three numbers per image; `seen` collects what it was shown."""

    def compute(images):
        if seen is not None:
            seen.append(len(images))
        x = images.float() / 255
        return torch.stack((x.mean((1, 2, 3)), x[:, 0, 0, 0], x[:, 0, -1, -1]), 1)

    return FeatureNetwork("corners", compute, identity="1")
