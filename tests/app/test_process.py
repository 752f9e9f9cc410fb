"""The Forward tab's numbers, against the library and against closed forms."""

import base64
import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_hub.app import process
from ddpm_hub.diffusion import GaussianProcess
from ddpm_hub.errors import ConfigError, DataError
from ddpm_hub.schedules import SCHEDULES, alpha_bar


def file_of(picture: Image.Image, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format)
    return buffer.getvalue()


def decoded(uri: str) -> np.ndarray:
    head, body = uri.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("timesteps", [20, 50, 1000])
def test_curves_are_the_library_s_schedules(name, timesteps):
    curves = process.curves(name, timesteps)
    expected = alpha_bar(name, timesteps)
    assert len(curves.beta) == len(curves.alpha_bar) == len(curves.snr_db) == timesteps
    torch.testing.assert_close(torch.tensor(curves.alpha_bar).double(), expected, rtol=1e-6, atol=0)
    product = np.cumprod(1 - np.array(curves.beta))
    np.testing.assert_allclose(curves.alpha_bar, product, rtol=1e-6)
    assert all(math.isfinite(value) for value in curves.snr_db)


def test_the_snr_is_ten_log_of_signal_to_noise():
    curves = process.curves("cosine", 100)
    at_half = min(range(100), key=lambda t: abs(curves.alpha_bar[t] - 0.5))
    ab = curves.alpha_bar[at_half]
    assert curves.snr_db[at_half] == pytest.approx(10 * math.log10(ab / (1 - ab)), abs=1e-4)
    assert abs(curves.snr_db[at_half]) < 0.3  # as much signal as noise is 0 dB


@pytest.mark.parametrize(
    ("name", "timesteps"),
    [("linear", 19), ("cosine", 1), ("cosine", 1001), ("linear", 2.5), ("square", 100), (3, 100)],
)
def test_what_no_schedule_can_be_is_refused_with_its_value_and_a_cure(name, timesteps):
    with pytest.raises(ConfigError) as caught:
        process.curves(name, timesteps)
    sentence = str(caught.value)
    assert (str(timesteps) in sentence or repr(name) in sentence) and ":" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 16, 16)])
def test_a_noised_picture_is_eq_4_with_the_noise_of_the_fixed_seed(shape):
    picture = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    got = process.noised(picture, 200, "sigmoid", 60)
    ab = alpha_bar("sigmoid", 200)[60]
    generator = torch.Generator().manual_seed(process.NOISE_SEED)
    noise = torch.randn(1, *shape, generator=generator)[0]
    xt = ab.sqrt() * (2 * picture - 1) + (1 - ab).sqrt() * noise
    expected = ((xt + 1) / 2).clamp(0, 1) * 255
    pixels = decoded(got.image).reshape(shape[1], shape[2], shape[0])
    assert np.abs(pixels - expected.permute(1, 2, 0).numpy()).max() <= 0.51
    assert got.t == 60 and got.alpha_bar == pytest.approx(ab.item(), rel=1e-9)


@pytest.mark.parametrize("t", [-1, 200, 1.5, True])
def test_a_t_outside_the_chain_is_refused(t):
    with pytest.raises(ConfigError, match=r"^t .*199"):
        process.noised(torch.zeros(1, 4, 4), 200, "cosine", t)


@pytest.mark.parametrize(
    ("mode", "size", "shape"),
    [
        ("RGB", (300, 200), (3, 64, 64)),
        ("L", (70, 500), (1, 64, 64)),
        ("RGBA", (40, 50), (3, 40, 40)),
        ("LA", (28, 28), (1, 28, 28)),
        ("P", (1, 1), (3, 1, 1)),
    ],
)
def test_an_upload_becomes_a_square_of_at_most_64_and_stays_grey_or_coloured(mode, size, shape):
    picture = process.small_picture(file_of(Image.new(mode, size)))
    assert tuple(picture.shape) == shape


def test_an_upload_is_cropped_at_its_centre():
    wide = Image.new("L", (192, 64), 0)
    wide.paste(255, (64, 0, 128, 64))
    assert process.small_picture(file_of(wide)).min() == 1


@pytest.mark.parametrize("junk", [b"", b"GIF89a", b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_what_is_no_picture_is_refused_in_one_sentence(junk):
    with pytest.raises(DataError) as caught:
        process.small_picture(junk)
    assert "\n" not in str(caught.value)


def test_pixels_are_the_picture_s_bytes_row_by_row_channels_last():
    picture = torch.arange(2 * 3 * 3).reshape(2, 3, 3).permute(2, 0, 1) / 255  # (C, H, W)
    message = process.pixels(picture, "ramp")
    assert (message["height"], message["width"], message["channels"]) == (2, 3, 3)
    assert list(base64.b64decode(message["data"])) == list(range(18))


def test_the_four_samples_are_different_real_pictures():
    samples = process.samples()
    assert len({sample["data"] for sample in samples}) == 4
    for sample in samples:
        values = np.frombuffer(base64.b64decode(sample["data"]), np.uint8)
        assert values.std() > 30


# ---- a model's own schedule ---------------------------------------------------------------------
def process_of(timesteps: int, schedule: str, **options) -> GaussianProcess:
    return GaussianProcess(
        process._NoNetwork(1),
        image_size=8,
        timesteps=timesteps,
        beta_schedule=schedule,
        **options,
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_model_s_schedule_goes_by_the_name_of_the_curve_that_it_is(name):
    model = process_of(250, name)
    assert process.schedule_of(model) == name
    assert set(process.curves_beside(model, 250)) == set(SCHEDULES)


def test_a_schedule_without_a_name_is_a_row_of_its_own_on_a_chain_of_its_length():
    model = process_of(250, "cosine", zero_terminal_snr=True)
    assert process.schedule_of(model) == process.OWN
    rows = process.curves_beside(model, 250)
    own = rows[process.OWN]
    expected = [model.alpha_bar(t) for t in range(250)]
    np.testing.assert_allclose(own["alpha_bar"], expected, rtol=1e-9)
    np.testing.assert_allclose(np.cumprod(1 - np.array(own["beta"])), expected, rtol=1e-6)
    assert own["alpha_bar"][-1] == 0 and own["snr_db"][-1] == -process.MAX_DB
    json.dumps(rows, allow_nan=False)
    for other in (model, None):
        assert process.OWN not in process.curves_beside(other, 300)


@pytest.mark.parametrize("timesteps", [10, 1500])
def test_a_chain_that_is_not_drawn_here_has_no_curve(timesteps):
    assert process.schedule_of(process_of(timesteps, "cosine")) is None
