"""Files of a run: a picture, one image of it, a film, a strip: small, and each knows its run."""

import base64
import io
import threading

import numpy as np
import pytest
from PIL import Image

from ddpm_hub import GaussianDiffusion, Unet, images
from ddpm_hub.app import engine, exports, limits, models, runs
from ddpm_hub.version import __version__

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def network(side: int, channels: int = 1) -> GaussianDiffusion:
    return GaussianDiffusion(
        Unet(dim=8, dim_mults=(1, 2), channels=channels), image_size=side, timesteps=400
    )


@pytest.fixture(autouse=True)
def small_model(monkeypatch):
    """A network of a few thousand weights stands in for the bundled one."""
    known = {("bundled", None): network(8), ("alice/small", COMMIT): network(8, 3)}
    monkeypatch.setattr(models, "_models", models.OrderedDict(known))
    monkeypatch.setattr(runs, "STORE", runs.Store())


def finished(model="bundled", steps=10, batch=5, **more) -> runs.Run:
    run = runs.STORE.add(runs.Run(limits.request(model, "ddim", steps, 0.0, batch, 3, **more)))
    list(runs.stream(run))
    return run


def file_of(run, format, **more) -> bytes:
    return base64.b64decode(exports.export({"run": run.id, "format": format, **more})["data"])


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(images.open_image(data), int)


@pytest.mark.parametrize("format", list(exports.MIME))
def test_every_file_says_what_made_it(format):
    run = finished(f"alice/small@{COMMIT}", spacing="trailing", bounds="none")
    about = images.read_metadata(file_of(run, format))
    wanted = {"model": f"alice/small@{COMMIT}", "sampler": "ddim", "steps": 10, "eta": 0.0}
    wanted |= {"batch": 5, "seed": 3, "spacing": "trailing", "bounds": "none", "variance": None}
    assert wanted.items() <= about.items()
    assert about["ddpm_hub_version"] == __version__
    assert (about["total"], about["step"]) == (10, 10)


def test_the_picture_is_the_last_state_pixel_for_pixel():
    run = finished()
    data = file_of(run, "png")
    enlarged = images.read_metadata(data)["enlarged"]
    last = pixels(base64.b64decode(run.frames[-1]["x"].split(",")[1]))
    assert np.array_equal(pixels(data)[::enlarged, ::enlarged], last)
    assert min(pixels(data).shape) >= exports.PICTURE_SIDE


def test_one_image_of_the_batch_can_be_taken_alone():
    run = finished()
    grid = pixels(base64.b64decode(run.frames[-1]["x"].split(",")[1]))
    answer = exports.export(
        {"run": run.id, "format": "png", "image": 4}
    )  # second row, in the middle
    assert answer["name"] == "ddpm-ddim-10-seed3-image5.png"
    data = base64.b64decode(answer["data"])
    about = images.read_metadata(data)
    assert np.array_equal(pixels(data)[:: about["enlarged"], :: about["enlarged"]], grid[8:, 8:16])
    assert about["image"] == 4


@pytest.mark.parametrize("image", [-1, 5, None, "1", 1.0, [1], 10**30])
def test_an_image_that_is_not_there_means_all_of_them(image):
    run = finished()
    assert file_of(run, "png", image=image) == file_of(run, "png")


def test_a_strip_shows_eight_moments_from_the_first_to_the_last():
    run = finished(steps=40)
    data = file_of(run, "strip")
    about = images.read_metadata(data)
    times = [frame["t"] for frame in run.frames]
    assert (about["times"][0], about["times"][-1], len(about["times"])) == (times[0], times[-1], 8)
    assert about["times"] == sorted(set(about["times"]), reverse=True)
    sheet = pixels(data)
    side = (sheet.shape[1] - 7 * 9) // 8  # 24 x 16 pixels, 8 times as large: gaps of 12 wide
    assert sheet.shape[1] > 4 * sheet.shape[0] * 0.9 and side > 100
    assert not np.array_equal(sheet[:128, :128], sheet[-128:, :128])  # x0 is not x_t at first


def test_a_strip_of_a_short_run_has_as_many_moments_as_there_are():
    assert len(images.read_metadata(file_of(finished(steps=3), "strip"))["times"]) == 3
    assert len(images.read_metadata(file_of(finished(steps=1), "strip"))["times"]) == 1


@pytest.mark.parametrize("format", ["webp", "gif"])
def test_a_film_of_a_long_run_is_bounded_and_ends_with_the_result(format):
    run = finished(steps=70)
    film = Image.open(io.BytesIO(file_of(run, format)))
    assert film.n_frames == exports.FILM_FRAMES
    film.seek(film.n_frames - 1)
    right = np.asarray(film.convert("L"), int)[:, -film.height * 3 // 2 :]  # three by two images
    wanted = Image.open(io.BytesIO(exports.picture(run))).resize((right.shape[1], film.height), 0)
    assert np.abs(right - np.asarray(wanted, int)).mean() < 6  # WebP is not exact


def test_large_pictures_make_small_films_and_strips():
    run = finished(steps=3, batch=16)
    run.frames = [large(frame) for frame in run.frames]
    film = Image.open(io.BytesIO(file_of(run, "webp")))
    assert film.height == exports.FILM_SIDE
    assert max(pixels(file_of(run, "strip")).shape) < 9 * exports.STRIP_SIDE


def large(frame: dict) -> dict:
    """The frame as a model of images of 256 x 256 pixels would send it."""
    grown = {}
    for name in ("x0", "x"):
        image = images.open_image(base64.b64decode(frame[name].split(",")[1]))
        grown[name] = images.data_uri(images.enlarge(image, 1024))
    return frame | grown


def test_two_files_are_made_at_once_and_a_third_waits_for_no_one(monkeypatch):
    run, busy, go = finished(), threading.Barrier(3), threading.Event()

    def slow(*_):
        busy.wait(10)
        go.wait(10)
        return b"film"

    monkeypatch.setitem(exports._MAKERS, "gif", slow)
    threads = [
        threading.Thread(target=exports.export, args=({"run": run.id, "format": "gif"},))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    busy.wait(10)
    assert "for others" in exports.export({"run": run.id, "format": "strip"})["error"]
    assert "data" in exports.export({"run": run.id, "format": "png"})
    go.set()
    for thread in threads:
        thread.join(10)
    assert "data" in exports.export({"run": run.id, "format": "strip"})


def test_a_file_that_fails_gives_its_place_back(monkeypatch):
    run = finished()
    monkeypatch.setitem(exports._MAKERS, "gif", lambda *_: 1 / 0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            exports.export({"run": run.id, "format": "gif"})
    assert "data" in exports.export({"run": run.id, "format": "strip"})


def test_a_branch_says_when_it_left_and_with_which_seed():
    run = runs.STORE.add(
        runs.Run(limits.request("bundled", "ddpm", 10, None, 1, 3), turns=(engine.Turn(4, 99),))
    )
    list(runs.stream(run))
    about = images.read_metadata(file_of(run, "png"))
    assert about["turns"] == [[4, 99]] and about["midway"] is True


@pytest.mark.parametrize("format", ["exe", None, ["png"], {"a": 1}, 3])
def test_another_format_is_a_sentence(format):
    run = finished(steps=1)
    error = exports.export({"run": run.id, "format": format})["error"]
    assert error == "The formats are png, webp, gif, strip."
