"""The live peer: denoising-diffusion-pytorch, the reference implementation users come from.

In the room: importing it, installed with `pip install --no-deps`, with stand-ins for the packages
it imports but that its Unet and GaussianDiffusion never call (torchvision has no CPU build
everywhere). Not in the room: tests; `benchmarks/` uses this file too.
"""

import contextlib
import sys
import types

import torch

STAND_INS = {
    "torchvision": ("transforms", "utils"),
    "torchvision.transforms": (),
    "torchvision.utils": (),
    "accelerate": ("Accelerator",),
    "pytorch_fid": (),
    "pytorch_fid.fid_score": ("calculate_frechet_distance",),
    "pytorch_fid.inception": ("InceptionV3",),
}


@contextlib.contextmanager
def _stand_ins():
    """Put empty modules where the peer's heavy imports look, and take them out again."""
    added = {}
    for name, attributes in STAND_INS.items():
        module = types.ModuleType(name)
        for attribute in attributes:
            setattr(module, attribute, types.SimpleNamespace())
        added[name] = sys.modules.get(name)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name, before in added.items():
            if before is None:
                del sys.modules[name]
            else:
                sys.modules[name] = before


def reference():
    """The reference's main module, with `.Unet`, `.GaussianDiffusion`, and silent progress."""
    with _stand_ins():
        from denoising_diffusion_pytorch import denoising_diffusion_pytorch as module
    module.tqdm = lambda iterable, **_: iterable
    return module


def fill(module: torch.nn.Module) -> torch.nn.Module:
    """Deterministic weights of the golden file: parameter i is 0.05 sin(0.37 k + i), *.g plus 1."""
    with torch.no_grad():
        for i, (name, p) in enumerate(module.named_parameters()):
            k = torch.arange(p.numel(), dtype=torch.float64)
            value = 0.05 * torch.sin(0.37 * k + i) + (1.0 if name.endswith(".g") else 0.0)
            p.copy_(value.view(p.shape))
    return module


def wave(*shape: int, frequency: float = 0.11) -> torch.Tensor:
    """The golden file's inputs: element k is cos(frequency k), float32."""
    count = torch.Size(shape).numel()
    return torch.cos(frequency * torch.arange(count, dtype=torch.float64)).view(shape).float()
