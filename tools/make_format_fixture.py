"""Keep what this version saves: tests/golden/format_N, which every later version has to open.

    python tools/make_format_fixture.py

Run once for each FORMAT_VERSION, never again: `tests/test_format.py` promises that these very
files go on being opened, and drawn from alike.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ddpm_hub import GaussianDiffusion, Unet, UNet2D
from ddpm_hub.config_file import FORMAT_VERSION

HOME = Path(__file__).parent.parent / "tests" / "golden" / f"format_{FORMAT_VERSION}"
NETWORKS = {
    "unet": lambda: Unet(
        8, dim_mults=(1, 2), channels=1, attn_heads=(1, 2), attn_dim_head=8, num_classes=3
    ),
    "unet2d": lambda: UNet2D(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
    ),
}
PROCESSES = {
    "unet": {"objective": "pred_v", "beta_schedule": "cosine", "min_snr_loss_weight": True},
    "unet2d": {"objective": "pred_noise", "beta_schedule": "linear", "timesteps": 100},
}
DRAW = {"batch_size": 2, "sampler": "ddim", "steps": 4, "seed": 0, "progress": False}


def main() -> None:
    """Write one folder for each network, with the pictures of a seed beside it."""
    for name, network in NETWORKS.items():
        if (HOME / name).exists():
            raise SystemExit(f"{HOME / name} is there: it stays as it is")
        torch.manual_seed(0)
        diffusion = GaussianDiffusion(network(), image_size=8, **PROCESSES[name])
        diffusion.save_pretrained(HOME / name)
        np.save(HOME / name / "pictures.npy", diffusion.sample(**DRAW).numpy())
        print(HOME / name)


if __name__ == "__main__":
    main()
