"""Folders and zips of every kind of picture, and of what is none: right pixels, told reasons.

Over 300 lines: folders and zips are held to the same list of odd files.
"""

import io
import os
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_hub.data import files, load_data, store
from ddpm_hub.errors import DataError

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
RAMP = (np.arange(64) * 1040).astype(np.uint16)[None].repeat(64, 0)  # 0 .. 65520, left to right
SIZE = (64, 64)


def save(path, image, *args, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, *args, **options)


def encoded(image, format="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(size=(64, 64), seed=0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def upside_down(size=SIZE) -> Image.Image:
    """Red on top as it lies in the file, blue below."""
    image = Image.new("RGB", size, BLUE)
    image.paste(RED, (0, 0, size[0], size[1] // 2))
    return image


@pytest.fixture
def zoo(tmp_path):
    """A folder with every kind of picture, three broken ones and a text."""
    folder = tmp_path / "zoo"
    save(folder / "16-bit.png", Image.fromarray(RAMP))
    save(folder / "16-bit.tiff", Image.fromarray(RAMP))
    save(folder / "animated.gif", Image.new("RGB", SIZE, RED), save_all=True,
         append_images=[Image.new("RGB", SIZE, BLUE)])  # fmt: skip
    save(folder / "cmyk.JPG", Image.new("CMYK", SIZE, (0, 255, 255, 0)))
    save(folder / "deep" / "er" / "grey.BMP", Image.new("L", SIZE, 77))
    save(folder / "deep" / "one bit.png", Image.new("1", SIZE, 1))
    save(folder / "float.tif", Image.fromarray(RAMP.astype(np.float32) / 65520))
    save(folder / "grey-alpha.png", Image.new("LA", SIZE, (0, 0)))
    save(folder / "palette.png", Image.new("RGB", SIZE, RED).quantize(4))
    clear = Image.new("P", SIZE, 0)
    clear.putpalette([*RED, *BLUE])
    clear.paste(1, (0, 32, 64, 64))
    save(folder / "palette-clear.png", clear, transparency=0)
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was held upside down
    save(folder / "rotated.jpeg", upside_down(), exif=exif, quality=95)
    save(folder / "soft.webp", Image.new("RGBA", SIZE, (*RED, 128)), lossless=True)

    (folder / "broken 1.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (folder / "broken 2.png").write_bytes(encoded(noise())[:5000])
    (folder / "deep" / "empty.gif").write_bytes(b"")
    (folder / "notes.txt").write_text("no picture")
    return folder


def by_name(folder, loaded):
    """Name of a file -> its image, (C, H, W): they come in the order of their paths."""
    there = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    names = sorted(set(there) - {name for name, _ in loaded.skipped})
    assert len(names) == len(loaded)
    return dict(zip(names, loaded.images, strict=True))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_folder_of_every_kind_of_picture_is_read_right(zoo):
    loaded = load_data(zoo, SIZE, 3, progress=False)
    of = by_name(zoo, loaded)
    assert len(of) == 12 and loaded.images.dtype == torch.uint8

    def middle(name):
        return of[name][:, 48, 32].tolist()

    ramp = torch.from_numpy(RAMP[0].astype(np.float32) / 257).round()
    for name in ("16-bit.png", "16-bit.tiff", "float.tif"):
        assert (of[name][1, 5] - ramp).abs().max() <= 1, name
    assert middle("animated.gif") == list(RED)
    assert middle("cmyk.JPG") == pytest.approx(RED, abs=3)
    assert middle("deep/er/grey.BMP") == [77] * 3
    assert middle("deep/one bit.png") == list(WHITE)
    assert middle("grey-alpha.png") == list(WHITE)
    assert middle("palette.png") == list(RED)
    assert of["palette-clear.png"][:, 16, 32].tolist() == list(WHITE)
    assert middle("palette-clear.png") == list(BLUE)
    assert middle("rotated.jpeg") == pytest.approx(RED, abs=3)
    assert of["rotated.jpeg"][:, 16, 32].tolist() == pytest.approx(BLUE, abs=3)
    assert middle("soft.webp") == pytest.approx((255, 127, 127), abs=1)


def test_what_was_skipped_is_told_with_its_reason(zoo):
    with pytest.warns(UserWarning) as told:
        loaded = load_data(zoo, (8, 8), 3, progress=False)
    assert loaded.name == "zoo" and loaded.notes() == [
        "2 files were skipped, truncated or corrupt: broken 1.jpg, broken 2.png.",
        "1 file was skipped, not an image we read: deep/empty.gif.",
        "1 file was skipped, not an image: notes.txt.",
        "12 images are few: the model will learn them by heart, use 100 or more for new pictures.",
    ]
    assert [str(warning.message) for warning in told] == loaded.notes()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_kind_of_picture_comes_in_grey_and_with_its_transparency(zoo):
    grey = by_name(zoo, load_data(zoo, SIZE, 1, progress=False))
    assert grey["deep/er/grey.BMP"].unique().tolist() == [77]
    assert grey["cmyk.JPG"][0, 9, 9] == pytest.approx(76, abs=3)  # the luminance of red
    clear = by_name(zoo, load_data(zoo, SIZE, 4, progress=False))
    assert clear["palette-clear.png"][3, 16, 32] == 0
    assert clear["palette-clear.png"][:, 48, 32].tolist() == [*BLUE, 255]
    assert clear["soft.webp"][:, 9, 9].tolist() == pytest.approx((*RED, 128), abs=1)
    assert clear["grey-alpha.png"][3].max() == 0 and clear["16-bit.png"][3].min() == 255


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_order_is_that_of_the_paths_whatever_the_threads_do(tmp_path, monkeypatch):
    for i in range(60):  # of very different size, so that threads overtake each other
        save(tmp_path / f"{i % 7}" / f"{i:02}.png", noise((400, 400) if i % 3 else (8, 8), i))
    sets = []
    for threads in (1, 8, 8):
        monkeypatch.setattr(store, "workers", lambda threads=threads: threads)
        sets.append(load_data(tmp_path, (8, 8), 3, progress=False).images)
    assert torch.equal(sets[0], sets[1]) and torch.equal(sets[0], sets[2])
    paths = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.png"))
    for i in (0, 31, 59):
        alone = files.read_pixels(tmp_path / paths[i], (8, 8), 3)
        assert np.array_equal(sets[0][i].numpy(), alone)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_photo_that_is_not_square_keeps_its_aspect(tmp_path):
    """numerics.md C3: the reference squashes it; here the shorter side is scaled, the rest cut."""
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, :10], wide[:, 20:] = 255, 255  # white, black, white: the middle is black
    save(tmp_path / "wide.png", Image.fromarray(wide))
    images = load_data(tmp_path, (10, 10), 1, progress=False).images
    assert images[0, 0, :, 2:-2].max() == 0


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_links_are_followed_and_loops_and_hidden_files_do_no_harm(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    for name in ("in/a.png", "in/deep/b.png", "out/c.png", "in/.hidden/d.png", "in/.e.png"):
        save(tmp_path / name, Image.new("L", (8, 8)))
    (inside / "deep" / "up").symlink_to(inside)
    (inside / "deep" / "again").symlink_to(inside / "deep")
    (inside / "itself").symlink_to("itself")
    (inside / "itself.png").symlink_to("itself.png")
    (inside / "other").symlink_to(outside)
    (outside / "back").symlink_to(inside)
    (inside / "gone.png").symlink_to("nothing.png")
    os.mkfifo(inside / "pipe.png")
    loaded = load_data(inside, (8, 8), progress=False)
    assert len(loaded) == 3  # a, b and, through a link, c
    assert dict(loaded.skipped).keys() == {"itself", "itself.png", "gone.png", "pipe.png"}
    assert dict(loaded.skipped)["gone.png"] == "a link to nothing"
    assert dict(loaded.skipped)["pipe.png"] == "not a file"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_file_starts_another_program(tmp_path):
    save(tmp_path / "good.png", noise())
    page = encoded(noise(), "EPS")
    for name in ("page.eps", "page.PS", "disguised.png", "disguised.jpg"):
        (tmp_path / name).write_bytes(page)
    (tmp_path / "paper.pdf").write_bytes(encoded(noise(), "PDF"))
    loaded = load_data(tmp_path, (8, 8), progress=False)
    assert len(loaded) == 1
    assert dict(loaded.skipped) == {
        "page.eps": "EPS, a format that is not read here",
        "page.PS": "EPS, a format that is not read here",
        "paper.pdf": "PDF, a format that is not read here",
        "disguised.png": "not an image we read",
        "disguised.jpg": "not an image we read",
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "format", ["avif", "tga", "ppm", "jp2", "tiff", "qoi", "ico", "dds", "pcx"]
)
def test_whatever_pillow_reads_by_itself_is_read_from_a_folder(tmp_path, format):
    save(tmp_path / f"picture.{format.upper()}", Image.new("RGB", (32, 32), (200, 40, 40)))
    loaded = load_data(tmp_path, (8, 8), 3, progress=False)
    assert loaded.images[0, :, 4, 4].tolist() == pytest.approx((200, 40, 40), abs=4)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_files_of_strangers_have_narrower_limits(tmp_path):
    save(tmp_path / "a.png", noise((50, 50)))
    save(tmp_path / "b.tga", noise((50, 50)))
    save(tmp_path / "c.png", noise((60, 60)))
    limits = files.foreign_files()._replace(max_pixels=3000)
    loaded = files.read_folder(tmp_path, (8, 8), 3, False, limits)
    assert dict(loaded.skipped) == {
        "b.tga": "TGA, a format that is not read here",
        "c.png": "larger than 3,000 pixels",
    }
    assert files.own_files().max_pixels > 100_000_000 > files.foreign_files().max_pixels


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("size", [(3072, 2048), (768, 512), (512, 768)])
def test_a_large_jpeg_that_is_decoded_small_looks_the_same(tmp_path, size):
    small = noise((75, 50) if size[0] > size[1] else (50, 75))
    save(tmp_path / "large.jpg", small.resize(size, Image.Resampling.BICUBIC), quality=95)
    with Image.open(tmp_path / "large.jpg") as image:
        whole = files.images.pixels_of(image, (64, 96), 3)
    image = load_data(tmp_path, (64, 96), 3, progress=False).images[0].numpy()
    assert np.abs(image.astype(int) - whole).mean() < 1


def test_a_folder_without_images_is_a_sentence_that_says_what_is_there(tmp_path):
    with pytest.raises(DataError, match="holds no image that can be read"):
        load_data(tmp_path, progress=False)
    (tmp_path / "broken.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"GIF files there; 1 file was skipped.*broken\.jpg"):
        load_data(tmp_path, progress=False)


@pytest.mark.parametrize(("size", "channels"), [((8, 0), 3), ((8, 8), 2)])
def test_a_shape_that_cannot_be_is_an_error_not_a_skipped_file(tmp_path, size, channels):
    save(tmp_path / "a.png", noise())
    with pytest.raises(DataError, match=r"channels 2|is not at least"):
        load_data(tmp_path, size, channels, progress=False)


# -- zips


def pack(path, members: dict[str, bytes], method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_zip_is_read_like_its_folder_and_never_unpacked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["../../evil.png", "/etc/evil.png", "a/1.png", "b/2.PNG", "c:/evil.png"]  # sorted
    members = {name: encoded(Image.new("L", (8, 8), i)) for i, name in enumerate(names)}
    junk = {"a/.hidden.png": b"", "__MACOSX/a/1.png": b"", "a/read me.txt": b"x", "a/x.jpg": b"x"}
    tiff = {"t.tif": encoded(noise(), "TIFF")}
    pack(tmp_path / "set.zip", tiff | junk | dict(reversed(members.items())))
    before = set(tmp_path.parent.rglob("*"))
    loaded = load_data("set.zip", (8, 8), progress=False)
    assert loaded.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert loaded.name == "set" and set(tmp_path.parent.rglob("*")) == before
    assert dict(loaded.skipped) == {
        "a/read me.txt": "not an image",
        "a/x.jpg": "not an image we read",
        "t.tif": "TIFF, a format that is not read here",
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_members_that_would_unpack_beyond_all_measure_are_skipped(tmp_path):
    good = encoded(Image.new("L", (8, 8)))
    path = pack(tmp_path / "a.zip", {"bomb.png": bytes(60_000_000), "good.png": good})
    assert path.stat().st_size < 100_000
    loaded = load_data(path, (8, 8), progress=False)
    assert dict(loaded.skipped) == {"bomb.png": "larger than 50 MB"}
    with zipfile.ZipFile(path, "a") as archive:  # whose dictionary alone may take gigabytes
        archive.writestr("odd.png", good, zipfile.ZIP_LZMA)
    assert dict(load_data(path, (8, 8), progress=False).skipped)["odd.png"] == (
        "packed in an unusual way"
    )


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    many = {f"{i}.png": bytes(40_000) for i in range(50)}
    path = pack(tmp_path / "many.zip", many)
    monkeypatch.setattr(files, "MAX_ZIP_BYTES", 1_000_000)
    monkeypatch.setattr(files, "_unpacked", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(DataError, match=r"many\.zip unpacks to .* GB, more than"):
        load_data(path, (8, 8), progress=False)
    monkeypatch.setattr(files, "MAX_MEMBERS", 49)
    with pytest.raises(DataError, match="holds 50 files, more than 49: unpack it"):
        load_data(path, (8, 8), progress=False)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_member_that_lies_about_its_size_or_is_locked_is_skipped(tmp_path):
    image = encoded(noise())
    path = pack(tmp_path / "a.zip", {"liar.png": image, "z.png": image}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")  # the first of the directory at the end: liar.png
    data[entry + 24 : entry + 28] = (100).to_bytes(4, "little")
    path.write_bytes(data)
    assert dict(load_data(path, (8, 8), progress=False).skipped) == {
        "liar.png": "damaged in the zip"
    }
    data[entry + 8] |= 1
    path.write_bytes(data)
    assert dict(load_data(path, (8, 8), progress=False).skipped) == {
        "liar.png": "locked with a password"
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_five_hundred_mutated_zips_are_read_or_refused_in_a_sentence(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(4)]
    path = pack(tmp_path / "a.zip", {name: encoded(Image.new("L", (8, 8))) for name in names})
    whole, opened = path.read_bytes(), 0
    for _ in range(500):
        data = bytearray(whole)
        for position in rng.integers(0, len(data), 3):
            data[position] = rng.integers(256)
        path.write_bytes(data[: rng.integers(len(data) // 2, 2 * len(data))])
        try:
            opened += len(load_data(path, (8, 8), progress=False)) > 0
        except DataError as error:
            assert "\n" not in str(error)
    assert 0 < opened < 500


def test_a_zip_that_is_none_is_a_sentence(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK no zip")
    with pytest.raises(DataError, match=r"a\.zip is no zip that can be read"):
        load_data(tmp_path / "a.zip")
    with pytest.raises(DataError, match="holds no image"):
        load_data(pack(tmp_path / "b.zip", {}), progress=False)
