"""Tools of the Lab that begin on a board or end in a chart, on a visitor's page."""

import base64

import numpy as np
import torch
from lab_page import PATIENCE, Tool, pixels

BOARD = """selector => {
  const c = document.querySelector(selector);
  return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data];
}"""
ENDED = """([id, before]) => {
  const { run, state } = document.querySelector(id).dataset;
  return run && run !== before && ["done", "error", "stopped"].includes(state);
}"""


class PadTool(Tool):
    """A tool with a pad; its result is widgets/strips."""

    @property
    def pad(self) -> str:
        return f"#{self.name}-pad"

    def pick(self, key: object) -> None:
        """Press a thumbnail: its number, "blank" or "own"."""
        self.page.locator(f"{self.pad} .pd-pick[data-pick='{key}']").click()

    def press(self, selector: str) -> None:
        self.page.locator(f"{self.pad} {selector}").click()

    def stroke(self, *places: tuple[float, float]) -> None:
        """Paint from place to place; a place is (column, row) in pixels of the board."""
        board = self.page.locator(f"{self.pad} .pd-board")
        board.scroll_into_view_if_needed()
        box, mouse = board.bounding_box(), self.page.mouse
        points = [
            (box["x"] + box["width"] * x / 28, box["y"] + box["height"] * y / 28) for x, y in places
        ]
        mouse.move(*points[0])
        mouse.down()
        for point in points:
            mouse.move(*point, steps=3)
        mouse.up()

    def swipe(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """One finger, from one place of the window to another, as the browser itself sees it."""
        touch = self.visitor.context.new_cdp_session(self.page)

        def send(kind: str, *points: tuple[float, float]) -> None:
            touches = [{"x": x, "y": y} for x, y in points]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

        send("touchStart", start)
        for part in (0.25, 0.5, 0.75, 1.0):
            send("touchMove", tuple(a + part * (b - a) for a, b in zip(start, end, strict=True)))
        send("touchEnd")
        self.page.wait_for_timeout(300)  # scrolling takes a moment

    def picture(self) -> np.ndarray:
        """What the board shows, (28, 28) of 0 .. 255."""
        return self._canvas(".pd-picture")[..., 0]

    def marked(self) -> np.ndarray:
        """Where it was painted over, (28, 28) of bool."""
        return self._canvas(".pd-over")[..., 3] > 0

    def _canvas(self, selector: str) -> np.ndarray:
        values = self.page.evaluate(BOARD, f"{self.pad} {selector}")
        return np.array(values, dtype=np.int64).reshape(28, 28, 4)


class ChartTool(PadTool):
    """A tool with a pad whose result is widgets/plot."""

    def __init__(self, visitor, name: str, title: str) -> None:
        self.visitor, self.page, self.name = visitor, visitor.page, name
        self.page.set_default_timeout(PATIENCE)
        self.page.get_by_role("tab", name="Lab", exact=True).click()
        self.page.get_by_role("tab", name=title, exact=True).click()
        self.root = f"#{name}-plot .ddpm-plot"
        self.strips = self.page.locator(self.root)
        self.strips.wait_for()

    def run(self) -> None:
        before = self.strips.get_attribute("data-run")
        self.press_run()
        self.page.wait_for_function(ENDED, arg=[self.root, before])
        assert self.state == "done", self.status

    @property
    def status(self) -> str:
        return self.strips.locator(".pl-status").inner_text()

    @property
    def cursor(self):
        return self.strips.locator(".pl-plot").first

    @property
    def text(self) -> str:
        """The sentence at the cursor, as a screen reader hears it."""
        said = self.cursor.get_attribute("aria-valuetext")
        assert said == self.strips.locator(".pl-text").inner_text()
        return said

    def go_to(self, index: int) -> None:
        """By keys alone."""
        self.cursor.focus()
        self.page.keyboard.press("Home")
        for _ in range(index):
            self.page.keyboard.press("ArrowRight")
        assert self.index == index

    def pane(self, key: str) -> np.ndarray:
        return pixels(self.strips.locator(f"[data-pane={key}] img").get_attribute("src"))


def as_floats(garment: dict) -> torch.Tensor:
    """A garment of the pad as (1, 1, 28, 28) in [0, 1]."""
    values = np.frombuffer(base64.b64decode(garment["data"]), np.uint8)
    return torch.from_numpy(values.reshape(1, 1, 28, 28).copy()).float() / 255
