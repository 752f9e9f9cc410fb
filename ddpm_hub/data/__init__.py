"""Images to train on: from a name, files, the Hub or an array to uint8 tensors, and to batches.

Not in the room: decoding a single picture (images.py) and the steps of training (training/).
"""

from ddpm_hub.data.files import foreign_files, own_files, read_folder, read_zip
from ddpm_hub.data.imageset import FEW_IMAGES, ImageSet, ImageStream, Skipped
from ddpm_hub.data.sets import (
    DATASETS,
    FASHION,
    GARMENTS,
    SPLITS,
    LabelledImages,
    as_images,
    bundled,
    fashion_mnist,
    load_data,
)

__all__ = [
    "DATASETS",
    "FASHION",
    "FEW_IMAGES",
    "GARMENTS",
    "SPLITS",
    "ImageSet",
    "ImageStream",
    "LabelledImages",
    "Skipped",
    "as_images",
    "bundled",
    "fashion_mnist",
    "foreign_files",
    "load_data",
    "own_files",
    "read_folder",
    "read_zip",
]
