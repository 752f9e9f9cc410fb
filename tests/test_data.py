"""The bundled set, image folders, arrays and batches."""

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_hub.data import FASHION, GARMENTS, as_images, batches, bundled, fashion_mnist, load_data
from ddpm_hub.errors import ConfigError, DataError


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_bundled_set_is_small_real_and_has_two_splits():
    assert FASHION.stat().st_size <= 5_000_000
    train, test = fashion_mnist("train"), fashion_mnist("test")
    assert train.images.shape == (12_000, 1, 28, 28) and test.images.shape == (1000, 1, 28, 28)
    assert train.images.dtype == torch.uint8 and train.classes == GARMENTS
    assert train.labels.unique().tolist() == test.labels.unique().tolist() == list(range(10))
    assert 60 < train.images.float().mean() < 80  # Fashion-MNIST's mean is 72.9
    assert (FASHION.parent / "FASHION_MNIST_LICENSE").read_text().startswith("The MIT License")


def test_no_test_image_is_a_train_image():
    train = {image.numpy().tobytes() for image in bundled("train")}
    assert sum(image.numpy().tobytes() in train for image in bundled("test")) == 0


def test_an_unknown_split_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"'valid'.*train, test"):
        bundled("valid")


def test_a_folder_is_read_with_its_subfolders_any_case_and_mode(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    Image.new("RGB", (40, 20), "red").save(tmp_path / "a.PNG")
    Image.new("L", (16, 16), 128).save(tmp_path / "deep" / "b.JpG")
    Image.new("P", (9, 30)).save(tmp_path / "deep" / "er" / "c.gif")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.warns(UserWarning, match="3 images are few"):
        images = load_data(tmp_path, (8, 12), 3, progress=False)
    assert images.shape == (3, 3, 8, 12) and images.dtype == torch.uint8
    assert images[0].float().mean((1, 2)).tolist() == [255, 0, 0]


def test_a_photo_that_is_not_square_keeps_its_aspect(tmp_path):
    """numerics.md C3: the reference squashes it; here the shorter side is scaled, the rest cut."""
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, :10], wide[:, 20:] = 255, 255  # white, black, white: the middle is black
    Image.fromarray(wide).save(tmp_path / "wide.png")
    with pytest.warns(UserWarning):
        images = load_data(tmp_path, (10, 10), 1, progress=False)
    assert images[0, 0, :, 2:-2].max() == 0


def test_a_corrupt_file_is_skipped_and_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG not really")
    with pytest.warns(UserWarning, match=r"broken\.png"), pytest.warns(UserWarning, match="few"):
        assert len(load_data(tmp_path, (8, 8), 1, progress=False)) == 1


def test_an_empty_or_missing_folder_and_one_of_broken_files_are_sentences(tmp_path):
    for folder, word in ((tmp_path, "no image"), (tmp_path / "nowhere", "not a folder")):
        with pytest.raises(DataError, match=word):
            load_data(folder, progress=False)
    (tmp_path / "broken.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        load_data(tmp_path, progress=False)


def test_arrays_in_any_usual_layout_are_taken():
    for shape in ((5, 8, 9), (5, 8, 9, 3), (5, 3, 8, 9)):
        images = as_images(np.zeros(shape, np.uint8))
        assert images.shape == (5, 3 if len(shape) == 4 else 1, 8, 9)
    for bad in (
        np.zeros((5, 8, 9), np.float32),
        np.zeros((0, 8, 9), np.uint8),
        np.zeros(5, np.uint8),
    ):
        with pytest.raises(DataError):
            as_images(bad)


def test_an_epoch_shows_each_image_once_and_a_seed_repeats_it():
    images = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 1, 4, 4)
    feed = batches(images, 4, rng())
    epochs = [torch.cat([next(feed) for _ in range(3)])[:, 0, 0, 0] * 255 for _ in range(2)]
    for epoch in epochs:
        assert sorted(epoch.round().int().tolist()) == list(range(12))
    assert not torch.equal(*epochs)
    again = batches(images, 4, rng())
    assert torch.equal(torch.cat([next(again) for _ in range(3)])[:, 0, 0, 0] * 255, epochs[0])


def test_batches_are_in_the_unit_range_and_half_are_mirrored():
    images = torch.zeros(200, 1, 2, 2, dtype=torch.uint8)
    images[..., 0] = 255
    batch = next(batches(images, 200, rng()))
    assert batch.min() == 0 and batch.max() == 1
    mirrored = (batch[:, 0, 0, 0] == 0).float().mean()
    assert 0.35 < mirrored < 0.65
    assert (next(batches(images, 200, rng(), flip=False))[:, 0, 0, 0] == 1).all()


def test_a_set_smaller_than_a_batch_fills_it():
    feed = batches(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), 8, rng())
    assert next(feed).shape == (8, 1, 2, 2)
