"""`load_data`: the bundled set in any size, arrays as they are, and what a person is told."""

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_hub.data import (
    FASHION,
    GARMENTS,
    ImageSet,
    Skipped,
    as_images,
    bundled,
    fashion_mnist,
    load_data,
)
from ddpm_hub.errors import ConfigError, DataError

MANY = np.arange(256, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(5, 2)  # (256, 4, 5)


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


def test_the_bundled_set_in_its_own_size_is_shared_not_copied():
    loaded = load_data("bundled")
    assert loaded.images.data_ptr() == bundled().data_ptr()
    assert loaded.name == "bundled" and loaded.classes == GARMENTS and loaded.notes() == []
    assert torch.equal(loaded.labels, fashion_mnist().labels)


def test_the_bundled_set_comes_in_any_size_and_colour():
    loaded = load_data("bundled", (56, 56), 3, progress=False)
    assert loaded.images.shape == (12_000, 3, 56, 56) and len(loaded.labels) == 12_000
    red, green, blue = loaded.images[:100].unbind(1)
    assert torch.equal(red, green) and torch.equal(red, blue)
    assert torch.equal(loaded.labels, fashion_mnist().labels)
    half = torch.nn.functional.avg_pool2d(red[:, None].float(), 2)
    assert (half - bundled()[:100].float()).abs().mean() < 8  # the same pictures, larger


def test_arrays_in_any_usual_layout_are_taken():
    for shape in ((5, 8, 9), (5, 8, 9, 3), (5, 3, 8, 9)):
        images = as_images(np.zeros(shape, np.uint8))
        assert images.shape == (5, 3 if len(shape) == 4 else 1, 8, 9)
    for bad in (
        np.zeros((5, 8, 9), np.float32),
        np.zeros((0, 8, 9), np.uint8),
        np.zeros(5, np.uint8),
        np.array([None]),
        torch.zeros(5, 1, 8, 9),
    ):
        with pytest.raises(DataError):
            as_images(bad)


def test_channels_that_come_last_are_moved_not_mixed():
    array = np.random.default_rng(0).integers(0, 256, (3, 8, 9, 3), dtype=np.uint8)
    assert np.array_equal(as_images(array)[2, 1].numpy(), array[2, :, :, 1])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(256, 4, 5), (64, 4, 4, 5), (64, 5, 4, 4)])
def test_an_array_mapped_from_a_file_stays_mapped(tmp_path, shape):
    np.save(tmp_path / "images.npy", MANY.reshape(shape))
    array = np.load(tmp_path / "images.npy", mmap_mode="r")
    images = as_images(array)
    assert images.data_ptr() == array.ctypes.data
    assert torch.equal(images, as_images(MANY.reshape(shape)))


def test_an_array_read_backwards_is_taken():
    assert as_images(MANY[::-1])[:, 0, 0, 0].tolist() == list(range(255, -1, -1))


def test_an_array_and_what_was_loaded_before_are_taken_as_they_are():
    loaded = load_data(MANY, (9, 9), 3)
    assert loaded.images.shape == (256, 1, 4, 5) and loaded.name == "array"
    assert loaded.images.data_ptr() == MANY.ctypes.data
    assert load_data(loaded) is loaded


def test_few_images_are_a_warning_not_an_error():
    with pytest.warns(UserWarning, match="99 images are few: the model will learn them by heart"):
        load_data(MANY[:99])
    assert load_data(MANY[:100]).notes() == []


def test_notes_group_what_was_skipped_by_reason_and_name_five():
    skipped = [Skipped(f"{i}.jpg", "torn") for i in range(7)] + [Skipped("a.txt", "not an image")]
    notes = ImageSet(as_images(MANY), "x", skipped=tuple(skipped)).notes()
    assert notes == [
        "7 files were skipped, torn: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg and 2 more.",
        "1 file was skipped, not an image: a.txt.",
    ]


def test_a_set_that_does_not_fit_together_is_refused():
    with pytest.raises(DataError, match="3 labels for 256 images"):
        ImageSet(as_images(MANY), "x", torch.zeros(3, dtype=torch.int64))
    with pytest.raises(DataError, match=r"float32 \(2, 1, 4, 4\): pass uint8"):
        ImageSet(torch.zeros(2, 1, 4, 4), "x")


@pytest.mark.parametrize("source", ["~nobody/x", "nowhere", "notes.txt", 7, None])
def test_what_is_no_source_is_told_what_one_is(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no zip")
    with pytest.raises(DataError, match=r"give a folder, a \.zip, hub:user/name, an array, or one"):
        load_data(source)


def test_a_folder_may_lie_in_the_home_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "pics").mkdir()
    Image.new("L", (8, 8), 5).save(tmp_path / "pics" / "a.png")
    with pytest.warns(UserWarning, match="1 image is few"):
        assert load_data("~/pics", (8, 8), progress=False).name == "pics"
