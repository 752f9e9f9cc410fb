"""The Forward tab as a visitor has it before them, and the scenes that its widget sends."""

import base64
import io
import re
import time

import numpy as np
import torch
from PIL import Image

TEXT = re.compile(r"t = (\d+) of (\d+) · alpha_bar (\S+) · SNR (\S+) dB")
PIXELS = """selector => {
  const c = document.querySelector(selector);
  return [c.width, c.height, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data];
}"""
SET = """([selector, value]) => {
  const input = document.querySelector(selector);
  input.value = value;
  input.dispatchEvent(new Event('input', {bubbles: true}));
}"""


def open_tab(opener, **options):
    """A visitor on the Forward tab; without motion, unless told."""
    visitor = opener(**{"reduced_motion": "reduce"} | options)
    visitor.page.get_by_role("tab", name="Forward").click()
    visitor.page.locator(".fw-text").filter(has_text="alpha_bar").wait_for(timeout=30_000)
    return visitor


def set_t(page, t: int) -> None:
    page.evaluate(SET, [".fw-t", t])


def shown(page) -> tuple[int, int, float, float]:
    """t, T, alpha_bar and the SNR as the page says them."""
    t, length, ab, snr = TEXT.fullmatch(page.inner_text(".fw-text")).groups()
    return int(t), int(length), float(ab), float(snr)


def pixels(page, selector: str) -> np.ndarray:
    """The canvas as (H, W, 4) floats, 0 .. 255."""
    width, height, *values = page.evaluate(PIXELS, selector)
    return np.array(values, dtype=np.float64).reshape(height, width, 4)


def wait_until(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


# ---- scenes -------------------------------------------------------------------------------------
def base64_of(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def message(channels=1, side=28, alpha_bar=0.3, seed=5, **changes) -> dict:
    """What the widget sends of a smooth picture and white noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:side, 0:side]
    layers = [(3 * rows + (k + 1) * columns) % 256 for k in range(channels)]
    picture = np.stack(layers, axis=-1).astype(np.uint8)
    eps = rng.standard_normal(picture.shape).astype("<f4")
    sent = {"name": "ramp", "width": side, "height": side, "channels": channels}
    sent |= {"data": base64_of(picture), "eps": base64_of(eps), "alpha_bar": alpha_bar}
    return sent | {"seed": seed, "ticket": 1} | changes


def decoded(uri: str) -> torch.Tensor:
    """A PNG data URI as floats in [0, 1], (C, H, W)."""
    picture = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    assert picture.format == "PNG"
    array = np.asarray(picture)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1).transpose(2, 0, 1) / 255)
