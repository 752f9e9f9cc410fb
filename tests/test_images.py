"""Pictures in and out: exact where they must be, refused in one sentence where they cannot be.

Just over 300 lines, since it mirrors images.py, reading and writing in one file.
"""

import base64
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_hub import images
from ddpm_hub.errors import DataError


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def picture(mode="RGB", size=(12, 9)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_every_8_bit_value_survives_the_way_through_a_tensor(channels, mode):
    values = torch.arange(256).reshape(1, 1, 16, 16).repeat(2, channels, 1, 1)
    pictures = images.to_pil(values / 255)
    assert [p.mode for p in pictures] == [mode] * 2
    assert np.array_equal(np.asarray(pictures[1]).reshape(16, 16, -1)[..., 0], values[0, 0])


def test_values_outside_the_range_are_clipped_and_nan_is_black():
    x = torch.tensor([-1.0, 2.0, float("nan"), 0.5]).reshape(1, 1, 2, 2)
    assert images.to_uint8(x).ravel().tolist() == [0, 255, 0, 128]


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 2, 4, 4), (1, 5, 4, 4)])
def test_tensors_that_are_no_pictures_are_refused(shape):
    with pytest.raises(DataError, match="give"):
        images.to_pil(torch.zeros(shape))


def test_from_pil_gives_back_a_picture_of_the_right_size_exactly():
    image = picture()
    back = images.from_pil(image, (9, 12), 3)
    assert back.shape == (3, 9, 12)
    assert np.array_equal(np.asarray(images.to_pil(back[None])[0]), np.asarray(image))


def test_from_pil_scales_the_shorter_side_and_crops_the_centre():
    wide = Image.new("L", (300, 100), 0)
    wide.paste(255, (100, 0, 200, 100))  # the central square is white
    inner = images.from_pil(wide, (10, 10), 1)[:, :, 1:-1]  # its edge columns blend, antialiased
    assert inner.min() == 1.0


def test_from_pil_averages_when_it_shrinks():
    fine = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8))
    small = images.from_pil(fine, (8, 8), 1)  # nearest neighbour would give pure black or white
    assert (small - 0.5).abs().max() < 0.05


def test_from_pil_turns_a_photograph_upright():
    image = Image.new("RGB", (8, 8), "black")
    image.paste((255, 0, 0), (0, 0, 8, 4))  # red on top
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    turned = images.open_image(encoded(image, "PNG", exif=exif))
    assert images.from_pil(turned, (8, 8), 3)[0, :4].max() == 0
    assert images.from_pil(turned, (8, 8), 3)[0, 4:].min() == 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_from_pil_lays_transparency_on_white(mode):
    clear = Image.new("RGBA", (6, 6), (0, 0, 0, 0)).convert(mode)
    data = encoded(clear, "PNG", **({"transparency": 0} if mode == "P" else {}))
    assert images.from_pil(images.open_image(data), (6, 6), 3).min() == 1.0


def test_from_pil_scales_16_bit_grey_instead_of_clipping_it():
    half = Image.fromarray(np.full((4, 4), 32768, dtype=np.uint16))
    x = images.from_pil(images.open_image(encoded(half, "PNG")), (4, 4), 1)
    assert x.mean() == pytest.approx(0.5, abs=0.01)


def test_from_pil_keeps_transparency_in_four_channels():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 4), dtype=np.uint8)
    x = images.from_pil(Image.fromarray(pixels), (9, 12), 4)
    assert np.array_equal(np.asarray(images.to_pil(x[None])[0]), pixels)
    assert images.from_pil(picture("L"), (9, 12), 4)[3].min() == 1


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (np.float32([0, 0.5, 1]), [0, 128, 255]),  # 0 .. 1
        (np.float32([0, 100, np.nan]), [0, 100, 0]),  # 0 .. 255
        (np.float32([-1, 0, 3]), [0, 64, 255]),  # nobody says: the darkest is black
        (np.float32([0, 1e4, 2e4]), [0, 39, 78]),  # 0 .. 65535
        (np.int32([0, 257, 65535]), [0, 1, 255]),  # 0 .. 65535
        (np.int32([-500_000, 0, 1_500_000]), [0, 64, 255]),
        (np.int32([-7, -7, -7]), [0, 0, 0]),
        (np.uint16([0, 257, 65535]), [0, 1, 255]),
    ],
)
def test_long_integers_and_floats_keep_their_greys(values, shown):
    image = Image.fromarray(np.tile(values, (3, 1)))
    assert images.pixels_of(image, (3, 3), 1)[0, 1].tolist() == shown


@pytest.mark.parametrize("mode", ["1", "CMYK", "HSV", "I;16", "LA", "LAB", "P", "PA", "YCbCr"])
def test_every_mode_becomes_grey_rgb_and_rgba(mode):
    for channels in (1, 3, 4):
        assert images.pixels_of(Image.new(mode, (4, 4)), (3, 5), channels).shape == (channels, 3, 5)


def test_pixels_of_a_file_are_those_of_its_picture(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture(size=(40, 30)), "PNG"))
    whole = images.from_pil(images.open_image(tmp_path / "a.png"), (7, 5), 3)
    pixels = images.read_pixels(tmp_path / "a.png", (7, 5), 3)
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    assert np.array_equal(pixels, (whole * 255).round().to(torch.uint8).numpy())


def test_from_pil_refuses_two_channels_and_empty_sizes():
    with pytest.raises(DataError, match="channels 2"):
        images.from_pil(picture(), (4, 4), 2)
    with pytest.raises(DataError, match="size"):
        images.from_pil(picture(), (0, 4), 1)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_open_image_reads_the_formats_people_have(format, tmp_path):
    file = tmp_path / "picture"
    file.write_bytes(encoded(picture(), format))
    assert images.open_image(file).size == (12, 9)


def test_open_image_takes_the_first_frame_of_an_animation():
    reds = Image.new("RGB", (5, 5), "red")
    blue = Image.new("RGB", (5, 5), "blue")
    data = encoded(reds, "GIF", save_all=True, append_images=[blue])
    assert images.open_image(data).convert("RGB").getpixel((2, 2)) == (255, 0, 0)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_every_truncation_is_one_sentence(format):
    data = encoded(picture(size=(40, 40)), format)
    for length in range(0, int(len(data) * 0.8), max(1, len(data) // 40)):
        with pytest.raises(DataError, match="the upload is "):
            images.open_image(data[:length])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_thousand_mutated_files_raise_data_errors_or_open():
    rng = np.random.default_rng(0)
    sources = [encoded(picture(), f) for f in images.FORMATS]
    for i in range(1000):
        data = bytearray(sources[i % len(sources)])
        for position in rng.integers(0, len(data), 4):
            data[position] = rng.integers(256)
        try:
            opened = images.open_image(bytes(data), max_pixels=10_000)
        except DataError as error:
            assert "\n" not in str(error)
        else:
            assert opened.width * opened.height <= 10_000


@pytest.mark.parametrize("format", ["TIFF", "PPM", "ICO", "TGA"])
def test_formats_outside_the_list_are_foreign(format):
    with pytest.raises(DataError, match="give PNG, JPEG, WebP, GIF or BMP"):
        images.open_image(encoded(picture(size=(16, 16)), format))


@pytest.mark.parametrize("data", [b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"hello"])
def test_text_is_not_an_image(data):
    with pytest.raises(DataError, match="not an image we read"):
        images.open_image(data)


def bomb(side: int) -> bytes:
    """A tiny PNG that says it is side x side."""

    def chunk(kind, body):
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [2001, 12_000, 60_000])
def test_an_image_bomb_is_refused_before_it_is_decoded(side):
    tracemalloc.start()
    with pytest.raises(DataError, match=r"pixels.*scale it down"):
        images.open_image(bomb(side))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("path", ["missing.png", "nul\0.png", "."])
def test_a_path_that_cannot_be_read_is_one_sentence(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"is unreadable \(.*\): check the path"):
        images.open_image(path)


def test_a_grid_is_near_square_and_in_reading_order():
    x = torch.arange(5).reshape(5, 1, 1, 1).expand(5, 1, 2, 3) / 255
    sheet = images.grid(x)
    assert sheet.size == (9, 4)
    top_left_corners = [sheet.getpixel((c * 3, r * 2)) for r in range(2) for c in range(3)]
    assert top_left_corners == [0, 1, 2, 3, 4, 255]


def test_a_grid_takes_columns_and_a_gap():
    x = torch.zeros(4, 3, 5, 5)
    assert images.grid(x, columns=4).size == (20, 5)
    assert images.grid(x, columns=9).size == (20, 5)
    gapped = images.grid(x, gap=2)
    assert gapped.size == (12, 12)
    assert gapped.getpixel((5, 5)) == (255, 255, 255)


def test_a_grid_of_nothing_is_refused():
    with pytest.raises(DataError, match="0 images"):
        images.grid(torch.zeros(0, 3, 4, 4))


def test_enlarging_repeats_pixels_and_never_shrinks():
    small = picture("L", (3, 2))
    large = images.enlarge(small, 8)
    assert large.size == (12, 8)
    assert np.array_equal(np.asarray(large)[::4, ::4], np.asarray(small))
    assert images.enlarge(large, 4) is large


def test_png_bytes_and_data_uris_are_exact():
    image = picture()
    uri = images.data_uri(image, "png")
    head, body = uri.split(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(images.open_image(base64.b64decode(body))), np.asarray(image))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
@pytest.mark.parametrize("format", ["jpeg", "webp", "png"])
def test_every_mode_can_be_encoded_in_every_format(mode, format):
    data = images.encode(picture(mode), format)
    assert images.open_image(data).format is None  # a copy: no file behind it
    assert Image.open(io.BytesIO(data)).format == format.upper()


def test_an_unknown_format_lists_the_known_ones():
    with pytest.raises(DataError, match="jpeg, png, webp"):
        images.encode(picture(), "tiff")


def test_a_saved_png_remembers_its_run_and_its_pixels():
    run = {"model": "bundled", "seed": 7, "steps": 25, "note": "naïve ✓"}
    image = picture()
    data = images.save_png(image, run)
    assert images.read_metadata(data) == run
    assert np.array_equal(np.asarray(images.open_image(data)), np.asarray(image))


def test_a_foreign_png_carries_nothing_and_an_edited_one_is_refused():
    assert images.read_metadata(encoded(picture(), "PNG")) == {}
    info = images.PngImagePlugin.PngInfo()
    info.add_text(images.PNG_KEY, "[1, 2")
    with pytest.raises(DataError, match="not a JSON object"):
        images.read_metadata(encoded(picture(), "PNG", pnginfo=info))


@pytest.mark.parametrize("format", ["webp", "gif"])
def test_an_animation_keeps_every_frame_and_rests_on_the_last(format):
    frames = [Image.new("L", (16, 16), grey) for grey in (0, 80, 160, 240)]
    film = Image.open(io.BytesIO(images.animate(frames, format, fps=10)))
    assert film.n_frames == 4
    film.seek(3)
    assert film.convert("L").getpixel((8, 8)) == pytest.approx(240, abs=2)
    film.load()
    assert film.info["duration"] == 1500
    assert film.info["loop"] == 0


def test_animations_that_cannot_be_are_refused():
    frame = picture()
    with pytest.raises(DataError, match="0 frames"):
        images.animate([])
    with pytest.raises(DataError, match="webp, gif"):
        images.animate([frame], "mp4")
    with pytest.raises(DataError, match="fps 0"):
        images.animate([frame], fps=0)
