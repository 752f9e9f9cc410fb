"""What the numeric tests share: golden records, oracle networks, and a small real diffusion.

An oracle knows the whole data set, so it is the perfect network for it: a sampler's correctness
is then an equality, not an impression. Not in the room: tests, and the live peer (`peers.py`).
"""

import json
import math
from functools import wraps
from pathlib import Path

import pytest
import torch
from peers import fill, wave
from torch import Tensor, nn

from ddpm_hub import GaussianDiffusion, Unet, runtime
from ddpm_hub.errors import ConfigError

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "golden" / "lucidrains_golden.json").read_text())
TRAINER = HERE / "golden" / "lucidrains_trainer"
SCHEDULE_BUFFERS = GOLDEN["schedule_buffers idx (0,1,T//2,T-2,T-1)"]
UNET_FORWARD = next(v for k, v in GOLDEN.items() if k.startswith("unet_forward"))
DIFFUSION = GOLDEN["diffusion"]
DDIM_TIMES = GOLDEN["ddim_times"]
OBJECTIVES = ("pred_noise", "pred_x0", "pred_v")
NAMES = ("linear", "cosine", "sigmoid")

# inputs of the golden file's section "diffusion", found by running the peer until all agreed
X0 = 0.5 * wave(4, 1, 8, 8)
NOISE = torch.sin(0.23 * torch.arange(256, dtype=torch.float64)).view(4, 1, 8, 8).float()
TIMES = torch.tensor([0, 10, 30, 49])


def assert_like_golden(tensor: Tensor, record: dict, atol: float) -> None:
    """Shape, mean, standard deviation, first five and last three values of a golden record."""
    assert list(tensor.shape) == record["shape"]
    flat = tensor.detach().double().flatten()
    got = torch.cat([flat[:5], flat[-3:], flat.mean()[None], flat.std()[None]])
    want = [*record["first5"], *record["last3"], record["mean"], record["std"]]
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), atol=atol, rtol=0)


def tiny_unet(**kwargs) -> Unet:
    """The golden file's smallest network, 79 k parameters, filled."""
    return fill(Unet(**{"dim": 8, "dim_mults": (1, 2), "channels": 1} | kwargs)).eval()


def tiny_diffusion(unet: dict | None = None, **kwargs) -> GaussianDiffusion:
    """A golden diffusion: 1x8x8, T = 50."""
    arguments = {"image_size": 8, "timesteps": 50} | kwargs
    return GaussianDiffusion(tiny_unet(**(unet or {})), **arguments)


def random_diffusion(seed: int = 0, unet: dict | None = None, **kwargs) -> GaussianDiffusion:
    """A small network with PyTorch's own initial weights, for what must hold for any weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Unet(**{"dim": 8, "dim_mults": (1, 2), "channels": 1} | (unet or {}))
    return GaussianDiffusion(model, **{"image_size": 8, "timesteps": 20} | kwargs)


class Oracle(nn.Module):
    """E[x0 | xt] when the data set is exactly `data`, (N, C, H, W), told in any objective.

    `bind` gives it the diffusion whose schedule it is asked about. It records the times at which
    it is called, and whether it was in training mode then.
    """

    self_condition = False

    def __init__(self, data: Tensor):
        super().__init__()
        self.register_buffer("data", data)
        self.channels = self.out_dim = data.shape[1]
        self.times: list[int] = []
        self.trained: list[bool] = []
        self.states: list[Tensor] = []

    def bind(self, diffusion: GaussianDiffusion) -> GaussianDiffusion:
        """Tie the oracle to its diffusion without making it a submodule of itself."""
        self.__dict__["diffusion"] = diffusion
        return diffusion

    def forward(self, x: Tensor, t: Tensor, x_self_cond: Tensor | None = None) -> Tensor:
        """The network's answer at state x, (B, C, H, W), and times t, (B,)."""
        self.times.append(int(t[0]))
        self.trained.append(self.training)
        self.states.append(x.clone())
        process, data = self.diffusion, self.data.to(x.dtype)
        a = process.alphas_cumprod[t].to(x.dtype).view(-1, 1)
        far = (x.flatten(1)[:, None] - a.sqrt()[:, None] * data.flatten(1)).square().sum(-1)
        x0 = ((-far / (2 * (1 - a))).softmax(1) @ data.flatten(1)).view_as(x)
        if process.objective == "pred_x0":
            return x0
        eps = process.predict_noise_from_start(x, t, x0)
        return eps if process.objective == "pred_noise" else process.predict_v(x0, t, eps)


def oracle_diffusion(data: Tensor, timesteps: int = 50, **kwargs) -> GaussianDiffusion:
    """A float64 diffusion whose network is the oracle of `data`."""
    oracle = Oracle(data.double())
    size = tuple(data.shape[-2:])
    made = GaussianDiffusion(oracle, **{"image_size": size, "timesteps": timesteps} | kwargs)
    return oracle.bind(made.double())


def noise_like(*shape: int, seed: int = 1) -> Tensor:
    """float64 standard normal numbers of a seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def images_like(*shape: int, seed: int = 2) -> Tensor:
    """float64 uniform numbers in [-1, 1] of a seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1


def parameters(module: nn.Module) -> int:
    """How many numbers the module learns."""
    return sum(math.prod(p.shape) for p in module.parameters())


def needs_bf16(test):
    """On a processor without bfloat16 there is no copy: there the test is that it is refused."""
    if runtime.has_bf16(torch.device("cpu")):
        return test

    @wraps(test)
    def refused(**_):
        with pytest.raises(ConfigError, match="not for this machine"):
            random_diffusion().accelerated("packed")

    return refused
