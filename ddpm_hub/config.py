"""Every default once, with its reason: how to train, and ready-made combinations.

Plain frozen dataclasses, no code: forms, command line and model card read the same fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Names and most defaults are those of the reference's Trainer."""

    train_batch_size: int = 16  # images per network call
    gradient_accumulate_every: int = 1  # network calls per optimiser step
    train_lr: float = 1e-4  # of Adam, at its peak
    lr_warmup_steps: int = 0  # linear, from 0
    lr_schedule: str = "constant"  # or "cosine": down to 0 at the last step, for short runs
    adam_betas: tuple[float, float] = (0.9, 0.99)
    train_num_steps: int = 100_000
    ema_decay: float = 0.995  # with a warm-up, so that short runs are not held by their start
    ema_update_every: int = 10  # optimiser steps
    max_grad_norm: float = 1.0
    augment_horizontal_flip: bool = True
    mixed_precision: str = "auto"  # "no", "bf16", or "auto": bf16 where the hardware has it
    save_and_sample_every: int = 1000  # optimiser steps; the last one always counts
    num_samples: int = 25  # images per sample grid
    sample_steps: int = 50  # DDIM steps of the grid
    results_folder: str | None = "./results"  # None keeps everything in memory
    seed: int = 0  # of data order, noise and samples


@dataclass(frozen=True)
class Preset:
    """A network, a process and a training that go together, with what they cost."""

    cost: str
    unet: dict[str, Any]
    diffusion: dict[str, Any]
    train: TrainConfig = field(default_factory=TrainConfig)


PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        cost="0.4 M parameters; to try things out on a CPU",
        unet={"dim": 16, "dim_mults": (1, 2, 2), "channels": 1},
        diffusion={"image_size": 28, "beta_schedule": "cosine", "objective": "pred_v"},
        train=TrainConfig(
            train_batch_size=64,
            train_lr=2e-3,
            lr_warmup_steps=50,
            lr_schedule="cosine",
            train_num_steps=1000,
            ema_decay=0.99,
            ema_update_every=1,
            save_and_sample_every=250,
        ),
    ),
    "fashion": Preset(
        cost="2.6 M parameters; the bundled model: 71 minutes on one CPU core",
        # one attention head at full size and two at half: four at each level, as the reference
        # has them, cost two fifths of a training step on one core
        unet={"dim": 32, "dim_mults": (1, 2, 4), "channels": 1, "attn_heads": (1, 2, 4)},
        diffusion={
            "image_size": 28,
            "beta_schedule": "cosine",
            "objective": "pred_v",
            "min_snr_loss_weight": True,
        },
        train=TrainConfig(
            train_batch_size=32,
            train_lr=1e-3,
            lr_warmup_steps=200,
            lr_schedule="cosine",
            train_num_steps=7000,
            ema_decay=0.999,
            ema_update_every=1,
            augment_horizontal_flip=False,  # shoes all point one way
            save_and_sample_every=500,
            num_samples=16,
            sample_steps=25,
        ),
    ),
}
