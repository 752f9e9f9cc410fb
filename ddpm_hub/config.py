"""Every default once, with its reason: how to train, and ready-made combinations.

Plain frozen dataclasses, no code: the app's forms, the command line's options and their help read
the fields and the words beside them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def option(default: Any, help: str) -> Any:
    """A field with its help: what it is, in which unit, and why its default is what it is."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Names and most defaults are those of the reference's Trainer."""

    train_batch_size: int = option(16, "images per network call, of all processes together")
    gradient_accumulate_every: int = option(1, "network calls per optimiser step")
    train_lr: float = option(1e-4, "learning rate of Adam, at its peak")
    lr_warmup_steps: int = option(0, "optimiser steps of linear warm-up")
    lr_schedule: str = option("constant", "after the warm-up: constant, or cosine down to 0")
    adam_betas: tuple[float, float] = option((0.9, 0.99), "decay of Adam's two averages")
    train_num_steps: int = option(100_000, "optimiser steps")
    max_minutes: float | None = option(None, "save and stop after so long; None: never")
    ema_decay: float = option(0.995, "of the averaged model, with a warm-up for short runs")
    ema_update_every: int = option(10, "optimiser steps between updates of the averaged model")
    max_grad_norm: float = option(1.0, "longer gradients are scaled down to this norm")
    augment_horizontal_flip: bool = option(True, "mirror half of the images, at random")
    time_sampling: str = option(
        "uniform", "of t: uniform, or importance, by the loss there (for a learned variance)"
    )
    mixed_precision: str = option(
        "auto", "no, bf16, fp16, or auto: bf16 where the hardware has it, fp16 on older GPUs"
    )
    compile: bool = option(False, "torch.compile the network: minutes at the start, faster then")
    save_and_sample_every: int = option(1000, "optimiser steps; the last one always counts")
    save_every_minutes: float = option(10.0, "also save then: what a crash can cost at most")
    checkpoints_total_limit: int = option(3, "newest checkpoints kept, beside the best one")
    num_samples: int = option(25, "images per sample grid")
    sample_steps: int = option(50, "DDIM steps of the grid")
    sample_raw: bool = option(False, "also sample the weights as they are, beside their average")
    results_folder: str | None = option(
        "./results", "of model, samples and checkpoints (None, in Python: all stays in memory)"
    )
    resume: str | None = option(
        None, "auto: go on from the newest checkpoint if there is one; or a folder or checkpoint"
    )
    push_to_hub: str | None = option(None, "repo id that receives the model and its checkpoint")
    push_every_minutes: float = option(15.0, "between two pushes; the end is always pushed")
    seed: int = option(0, "of data order, noise and samples")


@dataclass(frozen=True)
class Preset:
    """A network, a process and a training that go together, with what they cost.

    unet: the arguments of a Unet, or of the network that its "_class_name" says.
    """

    cost: str
    unet: dict[str, Any]
    diffusion: dict[str, Any]
    train: TrainConfig = field(default_factory=TrainConfig)


PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        cost="0.35 M parameters; garment-like shapes within 3 minutes on two CPU cores",
        unet={"dim": 16, "dim_mults": (1, 2, 2), "channels": 1, "attn_heads": (1, 2, 2)},
        diffusion={
            "image_size": 28,
            "beta_schedule": "cosine",
            "objective": "pred_v",
            "min_snr_loss_weight": True,
        },
        train=TrainConfig(
            train_batch_size=64,
            train_lr=2e-3,
            lr_warmup_steps=50,
            lr_schedule="cosine",
            train_num_steps=350,
            ema_decay=0.98,
            ema_update_every=1,
            augment_horizontal_flip=False,  # shoes all point one way
            save_and_sample_every=50,
            num_samples=16,
            sample_steps=25,
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
    "cifar10": Preset(
        cost="35.7 M parameters; the paper's 800,000 steps of 128: for a large GPU",
        unet={"_class_name": "UNet2D", "dropout": 0.1},  # whose defaults are the paper's network
        diffusion={
            "image_size": 32,
            "beta_schedule": "linear",
            "objective": "pred_noise",
            "variance_type": "fixed_large",  # its better FID is of this one
        },
        train=TrainConfig(
            train_batch_size=128,
            train_lr=2e-4,
            lr_warmup_steps=5000,
            adam_betas=(0.9, 0.999),
            train_num_steps=800_000,
            ema_decay=0.9999,
            ema_update_every=1,
            save_and_sample_every=5000,
            num_samples=64,
        ),
    ),
    "folder64": Preset(
        cost="35.7 M parameters, 64 x 64; 100,000 steps of 32: for a GPU",
        unet={"dim": 64, "dim_mults": (1, 2, 4, 8), "channels": 3},
        diffusion={
            "image_size": 64,
            "beta_schedule": "cosine",
            "objective": "pred_v",
            "min_snr_loss_weight": True,
        },
        train=TrainConfig(
            train_batch_size=32,
            train_lr=2e-4,
            lr_warmup_steps=1000,
            lr_schedule="cosine",
            ema_decay=0.9995,
            ema_update_every=1,
            save_and_sample_every=2000,
        ),
    ),
    "folder128": Preset(
        cost="35.7 M parameters, 128 x 128; 200,000 steps of 32: for a large GPU",
        unet={"dim": 64, "dim_mults": (1, 2, 4, 8), "channels": 3},
        diffusion={
            "image_size": 128,
            "beta_schedule": "sigmoid",
            "objective": "pred_v",
            "min_snr_loss_weight": True,
        },
        train=TrainConfig(
            train_batch_size=16,
            gradient_accumulate_every=2,  # a batch of 32 in the memory of 16
            train_lr=2e-4,
            lr_warmup_steps=1000,
            lr_schedule="cosine",
            train_num_steps=200_000,
            ema_decay=0.9995,
            ema_update_every=1,
            save_and_sample_every=5000,
            num_samples=16,
        ),
    ),
    "folder256": Preset(
        cost="113.7 M parameters, 256 x 256; the paper's 500,000 steps of 64: for several GPUs",
        unet={  # the paper's network for CelebA-HQ and LSUN (appendix B)
            "_class_name": "UNet2D",
            "sample_size": 256,
            "block_out_channels": (128, 128, 256, 256, 512, 512),
            "down_block_types": (
                "DownBlock2D",
                "DownBlock2D",
                "DownBlock2D",
                "DownBlock2D",
                "AttnDownBlock2D",
                "DownBlock2D",
            ),
            "up_block_types": (
                "UpBlock2D",
                "AttnUpBlock2D",
                "UpBlock2D",
                "UpBlock2D",
                "UpBlock2D",
                "UpBlock2D",
            ),
        },
        diffusion={"image_size": 256, "beta_schedule": "linear", "objective": "pred_noise"},
        train=TrainConfig(
            train_batch_size=8,
            gradient_accumulate_every=8,  # a batch of 64 in the memory of 8
            train_lr=2e-5,  # 2e-4 is unstable at this size (appendix B)
            lr_warmup_steps=5000,
            adam_betas=(0.9, 0.999),
            train_num_steps=500_000,
            ema_decay=0.9999,
            ema_update_every=1,
            save_and_sample_every=5000,
            num_samples=16,
        ),
    ),
}
