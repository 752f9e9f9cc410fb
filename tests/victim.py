"""A training with everything on that draws random numbers, small enough to be killed many times.

Run in processes of their own by the tests of resuming, and by `torchrun` as a program:
`python tests/victim.py FOLDER STEPS`.
"""

import sys
import warnings
from dataclasses import replace

import torch

from ddpm_hub import GaussianDiffusion, TrainConfig, Unet, checkpoint, train

CONFIG = TrainConfig(
    train_batch_size=8,
    gradient_accumulate_every=2,  # 16 of 40 images a step: an epoch ends within a step, too
    train_lr=1e-3,
    lr_warmup_steps=5,
    lr_schedule="cosine",
    train_num_steps=40,
    ema_update_every=2,
    ema_decay=0.9,
    save_and_sample_every=3,
    num_samples=2,
    sample_steps=2,
    checkpoints_total_limit=2,
    mixed_precision="no",
    resume="auto",
)


def model() -> GaussianDiffusion:
    """Dropout, self-conditioning and offset noise: whatever draws numbers inside."""
    torch.manual_seed(0)
    unet = Unet(8, dim_mults=(1, 2), channels=1, dropout=0.1, self_condition=True, attn_heads=1)
    return GaussianDiffusion(unet, image_size=8, timesteps=50, offset_noise_strength=0.1)


def images() -> torch.Tensor:
    """40 grey images, uint8."""
    rng = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=rng)


warnings.filterwarnings("ignore", ".*few", UserWarning)  # that 40 images are few is known


def run(folder: str, started=None, **changes) -> list[float]:
    """Train into `folder`, from where it stands, to the end; the losses of these steps.

    started: a pipe that is told when the first of them is done.
    """
    torch.set_num_threads(1)
    config, losses = replace(CONFIG, results_folder=str(folder), **changes), []
    for event in train(model(), images(), config):
        if started is not None and not losses:
            started.send("started")
        losses.append(event.loss)
    return losses


def state_of(folder) -> dict[str, torch.Tensor]:
    """Every tensor of the newest checkpoint: weights, average, moments, losses."""
    return checkpoint.read(checkpoint.newest(folder))[0]


def plain() -> GaussianDiffusion:
    """Without numbers drawn for each image inside: what several processes must agree on."""
    torch.manual_seed(0)
    unet = Unet(8, dim_mults=(1, 2), channels=1, self_condition=True, attn_heads=1)
    return GaussianDiffusion(unet, image_size=8, timesteps=50)


if __name__ == "__main__":
    torch.set_num_threads(1)
    plan = replace(CONFIG, results_folder=sys.argv[1], lr_schedule="constant")
    for event in train(plain(), images(), replace(plan, train_num_steps=int(sys.argv[2]))):
        assert event.samples is None or event.samples.shape == (2, 1, 8, 8)
