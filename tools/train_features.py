"""Train the classifier of garments whose features `ddpm-hub eval` compares pictures by.

    python tools/train_features.py FOLDER-WITH-THE-FOUR-IDX-GZ-FILES [--epochs N] [--threads N]

The files are those of `make_assets.py`: all 60,000 training images are used, and the accuracy that
is printed is that on the 10,000 test images. Writes assets/features/garments.safetensors.
"""

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from make_assets import read_idx
from safetensors.torch import save_file
from tqdm import tqdm

from ddpm_hub import runtime
from ddpm_hub.evaluate.garments import WEIGHTS, GarmentNet, accuracy
from ddpm_hub.files import write_durably

BATCH, RATE, DECAY, SHIFT = 128, 4e-3, 0.02, 2


def read(folder: Path, prefix: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images uint8 (N, 1, 28, 28) and labels (N,) of one split."""
    images, labels = read_idx(folder, prefix)
    return torch.from_numpy(images.copy())[:, None], torch.from_numpy(labels)


def shifted(images: torch.Tensor) -> torch.Tensor:
    """The batch, moved by up to two pixels: where a garment lies says nothing about it."""
    down, right = torch.randint(-SHIFT, SHIFT + 1, (2,)).tolist()
    wide = F.pad(images, (SHIFT,) * 4)
    height, width = images.shape[-2:]
    down, right = down + SHIFT, right + SHIFT
    return wide[..., down : down + height, right : right + width]


def fit(net: GarmentNet, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """AdamW with one cycle of the learning rate, bf16 where the processor has it."""
    steps = len(images) // BATCH * epochs
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=DECAY)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    bar = tqdm(total=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(BATCH)[: len(images) // BATCH]:
            with runtime.autocast(torch.device("cpu")):
                loss = F.cross_entropy(net(shifted(images[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            bar.update()


def main() -> None:
    """Train, write, and say how good it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    net, started = runtime.channels_last(GarmentNet()), time.monotonic()
    fit(net, *read(args.folder, "train"), args.epochs)
    seconds = time.monotonic() - started
    net = net.to(memory_format=torch.contiguous_format).eval()
    WEIGHTS.parent.mkdir(exist_ok=True)
    write_durably(WEIGHTS, lambda path: save_file(net.state_dict(), path))
    found = accuracy(net, *read(args.folder, "t10k"))
    count = sum(p.numel() for p in net.parameters())
    print(
        f"{WEIGHTS}: {WEIGHTS.stat().st_size:,} bytes, {count:,} weights, "
        f"{found:.2%} of the test images right, {seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
