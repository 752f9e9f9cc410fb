"""Opening weights: all of them arrive, and it takes little more memory than they have."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from support import HERE, random_diffusion
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm_hub import GaussianDiffusion, Unet, UNet2D, weights
from ddpm_hub.hub_model import build_checked

CHURCH = {  # the 256-pixel networks of Ho et al., as the Hub has them: 113.7 M parameters
    "sample_size": 256,
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "down_block_types": ["DownBlock2D"] * 4 + ["AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D"] + ["UpBlock2D"] * 4,
}
OPENING = """
import json, sys, torch
from memory import peak
from ddpm_hub import GaussianDiffusion, UNet2D
torch.set_num_threads(1)
GaussianDiffusion.from_pretrained("bundled")  # what is loaded lazily is loaded

before = peak()
model = UNet2D.from_pretrained(sys.argv[1])
figures = {"weights": sum(p.nbytes for p in model.parameters())}
figures |= {"peak": peak() - before, "sum": model.conv_out.bias.sum().item()}
print(json.dumps(figures))
"""


@pytest.mark.parametrize("stretch", [1, 4000, 10**9])
def test_every_number_arrives_however_the_file_is_cut_into_stretches(
    stretch, tmp_path, monkeypatch
):
    monkeypatch.setattr(weights, "STRETCH", stretch)
    model = random_diffusion(seed=3)
    model.save_pretrained(tmp_path)
    opened = GaussianDiffusion.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(opened[name], value) for name, value in model.state_dict().items())


def test_opening_draws_no_random_numbers_and_keeps_what_learns_and_what_does_not(tmp_path):
    net = Unet(8, dim_mults=(1, 2), channels=1, random_fourier_features=True)
    net.save_pretrained(tmp_path)
    torch.manual_seed(0)
    opened = Unet.from_pretrained(tmp_path)
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(0))
    learns = {name: p.requires_grad for name, p in net.named_parameters()}
    assert {name: p.requires_grad for name, p in opened.named_parameters()} == learns
    assert set(learns.values()) == {True, False}


def test_the_schedule_of_what_was_opened_is_there_and_exact(tmp_path):
    model = random_diffusion()
    model.save_pretrained(tmp_path)
    opened = GaussianDiffusion.from_pretrained(tmp_path)
    for name, values in model.named_buffers():
        assert torch.equal(opened.get_buffer(name), values)
    assert opened.double().betas.dtype == torch.float64


def test_no_number_is_drawn_for_weights_that_the_file_holds():
    class Draws(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.count += function is torch.ops.aten.uniform_.default
            return function(*args, **(kwargs or {}))

    config = random_diffusion().to_config()
    with Draws() as at_random:
        plain = GaussianDiffusion.from_config(config)
    with Draws() as to_be_filled:
        model = build_checked(GaussianDiffusion, config, {})
    assert at_random.count > 50 and to_be_filled.count == 0
    shapes = {name: tensor.shape for name, tensor in plain.state_dict().items()}
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == shapes


def test_opening_a_large_checkpoint_takes_little_more_memory_than_its_size(tmp_path):
    with torch.device("meta"):
        net = UNet2D(**CHURCH)
    config = {
        "_class_name": "UNet2D",
        "format_version": 1,
        "ddpm_hub_version": "0",
        **net.to_config(),
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = {name: torch.ones(p.shape) for name, p in net.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    del state
    done = subprocess.run(
        [sys.executable, "-c", OPENING, tmp_path],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])},
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(done.stdout)
    print(figures)
    assert figures["weights"] > 450e6 and figures["sum"] == 3
    assert figures["peak"] < 1.2 * figures["weights"]
