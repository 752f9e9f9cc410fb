"""Train the bundled model: the "fashion" preset on Fashion-MNIST.

    python tools/train_bundled.py OUTPUT [FOLDER-WITH-THE-IDX-GZ-FILES] [--threads N]

With the folder (see make_assets.py) all 60,000 training images are used, else the 12,000 that come
with the package. `docs/results.md` has the run that made ddpm_hub/assets/bundled.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from make_assets import read_idx
from tqdm import tqdm

from ddpm_hub import PRESETS, GaussianDiffusion, Unet, train


def main() -> None:
    """Train, and print the mean loss between two saves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    preset = PRESETS["fashion"]
    torch.manual_seed(preset.train.seed)
    diffusion = GaussianDiffusion(Unet(**preset.unet), **preset.diffusion)
    data = torch.from_numpy(read_idx(args.folder, "train")[0].copy()) if args.folder else "bundled"
    config = replace(preset.train, results_folder=args.output)
    started, losses = time.monotonic(), []
    for event in tqdm(train(diffusion, data, config), total=config.train_num_steps):
        losses.append(event.loss)
        if event.checkpoint:
            mean = sum(losses) / len(losses)
            print(
                f"step {event.step}: loss {mean:.4f}, {time.monotonic() - started:.0f} s",
                flush=True,
            )
            losses.clear()


if __name__ == "__main__":
    main()
