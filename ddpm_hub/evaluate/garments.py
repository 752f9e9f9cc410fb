"""A small classifier of garments, whose inner features compare sets of 28 x 28 grey pictures.

Inception, which FID is made of, has seen photographs of 299 x 299 pixels; this network has seen
what it is asked about. It is not Inception, and no figure made with it is called FID. How it was
trained is in `tools/train_features.py`, and how well it does in `assets/features/README.md`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).parents[1] / "assets" / "features" / "garments.safetensors"
SIZE = (1, 28, 28)
FEATURES = 128


class GarmentNet(nn.Module):
    """uint8 (B, 1, 28, 28) -> scores of ten kinds of garments, (B, 10); 136 thousand weights."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            *_block(1, 16),
            *_block(16, 32, stride=2),  # 14 x 14
            *_block(32, 64),
            nn.MaxPool2d(2),  # 7 x 7
            *_block(64, 64),
            *_block(64, FEATURES),
        )
        self.head = nn.Linear(FEATURES, 10)

    def features(self, images: Tensor) -> Tensor:
        """What the last layer sees, the mean over the picture, float (B, 128)."""
        x = images.float() / 127.5 - 1
        return self.body(x).float().mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """The scores, before softmax."""
        return self.head(self.features(images))


def load() -> GarmentNet:
    """The network that comes with the package, in eval mode."""
    net = GarmentNet()
    net.load_state_dict(load_file(WEIGHTS))
    return net.eval().requires_grad_(False)


def _block(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


def accuracy(net: GarmentNet, images: Tensor, labels: Tensor) -> float:
    """Share of the images whose kind the network finds."""
    with torch.no_grad():
        found = torch.cat([net(part).argmax(1) for part in images.split(1000)])
    return (found == labels).double().mean().item()
