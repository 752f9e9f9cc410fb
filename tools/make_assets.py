"""Write the bundled image set: a random part of Fashion-MNIST, lossless, under 5 MB.

    python tools/make_assets.py FOLDER-WITH-THE-FOUR-IDX-GZ-FILES

The files come with Debian's package dataset-fashion-mnist (/usr/share/datasets/fashion-mnist) or
from github.com/zalandoresearch/fashion-mnist.
"""

import gzip
import io
import lzma
import sys
from pathlib import Path

import numpy as np

OUT = Path(__file__).parents[1] / "ddpm_hub" / "assets" / "fashion_mnist.npz.xz"
SPLITS = {"train": ("train", 12_000), "test": ("t10k", 1_000)}


def read_idx(folder: Path, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 28, 28) and labels int64 (N,) of one split."""
    images = gzip.decompress((folder / f"{prefix}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{prefix}-labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    return pixels, np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


def main() -> None:
    """Choose at random with a fixed seed, and write."""
    rng, arrays = np.random.default_rng(0), {}
    for split, (prefix, count) in SPLITS.items():
        images, labels = read_idx(Path(sys.argv[1]), prefix)
        chosen = rng.permutation(len(images))[:count]
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = images[chosen], labels[chosen]
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    OUT.write_bytes(lzma.compress(buffer.getvalue(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{OUT}: {OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
