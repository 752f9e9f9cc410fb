"""The promise of `format_version`: what a version saved, every later one opens, and draws alike.

The folders were written once, by `tools/make_format_fixture.py`. If a test here fails, the code is
at fault: the files are never made anew.
"""

import json

import numpy as np
import pytest
import torch
from support import HERE

from ddpm_hub import GaussianDiffusion
from ddpm_hub.config_file import FORMAT_VERSION
from ddpm_hub.nets import NETS

DRAW = {"batch_size": 2, "sampler": "ddim", "steps": 4, "seed": 0, "progress": False}
SAVED = sorted(path.parent for path in HERE.glob("golden/format_*/*/config.json"))


def test_every_format_and_every_network_is_kept():
    kept = {(p.parent.name, json.loads((p / "config.json").read_text())["unet"]["_class_name"])
            for p in SAVED}  # fmt: skip
    wanted = {(f"format_{n}", net) for n in range(1, FORMAT_VERSION + 1) for net in NETS}
    assert wanted <= kept


@pytest.mark.parametrize("folder", SAVED, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_what_was_saved_once_opens_for_ever_and_draws_the_same_pictures(folder):
    diffusion = GaussianDiffusion.from_pretrained(folder)
    wanted = torch.from_numpy(np.load(folder / "pictures.npy"))
    torch.testing.assert_close(diffusion.sample(**DRAW), wanted, atol=2e-6, rtol=0)


@pytest.mark.parametrize("folder", SAVED, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_its_network_opens_alone(folder):
    kind = json.loads((folder / "config.json").read_text())["unet"]["_class_name"]
    network, whole = NETS[kind].from_pretrained(folder), GaussianDiffusion.from_pretrained(folder)
    for name, value in network.state_dict().items():
        assert torch.equal(whole.state_dict()[f"model.{name}"], value)
