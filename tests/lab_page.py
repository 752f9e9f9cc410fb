"""A tool of the Lab on a visitor's page, in a visitor's words; what it shows, as pixels."""

import base64
import io

import numpy as np
from PIL import Image

PATIENCE = 60_000  # ms: the machine may be busy with other tests


class Tool:
    """One sub-tab: `name` begins the ids of its controls, `title` is what its tab says."""

    def __init__(self, visitor, name: str, title: str) -> None:
        self.visitor, self.page, self.name = visitor, visitor.page, name
        self.page.set_default_timeout(PATIENCE)
        self.page.get_by_role("tab", name="Lab", exact=True).click()
        self.page.get_by_role("tab", name=title, exact=True).click()
        self.strips = self.page.locator(f"#{name}-strips .ddpm-strips")
        self.strips.wait_for()

    def choose(self, group: str, *values: object) -> None:
        """Press the choices of that group whose labels these are."""
        for value in values:
            labels = self.page.locator(f"#{self.name}-{group} label")
            labels.get_by_text(str(value), exact=True).click()

    def seed(self, value: int) -> None:
        self.page.locator(f"#{self.name}-seed input").fill(str(value))

    def press_run(self) -> None:
        self.page.locator(f"#{self.name}-run").click()

    def run(self) -> None:
        """Press Run and wait for the end of this run, not of an earlier one."""
        before = self.strips.get_attribute("data-run")
        self.press_run()
        self.page.wait_for_function(
            """([id, before]) => {
              const { run, state } = document.querySelector(id).dataset;
              return run && run !== before && ["done", "error", "stopped"].includes(state);
            }""",
            arg=[f"#{self.name}-strips .ddpm-strips", before],
        )
        assert self.state == "done", self.status

    @property
    def state(self) -> str:
        return self.strips.get_attribute("data-state")

    @property
    def index(self) -> int:
        return int(self.strips.get_attribute("data-index"))

    @property
    def status(self) -> str:
        return self.strips.locator(".st-status").inner_text()

    def notes(self) -> list[list[str]]:
        """The lines under each column."""
        return [node.inner_text().split("\n") for node in self.strips.locator(".st-notes").all()]

    def texts(self, part: str) -> list[str]:
        return self.strips.locator(f".st-{part}").all_inner_texts()

    def source(self, row: int, column: int) -> str:
        picture = self.strips.locator(f"img[data-row='{row}'][data-column='{column}']")
        return picture.get_attribute("src") or ""

    def pixels(self, row: int, column: int) -> np.ndarray:
        """What lies at that place, as signed integers, so that pictures can be subtracted."""
        return pixels(self.source(row, column))

    def refusal(self) -> str:
        toast = self.page.locator(".toast-body")
        toast.first.wait_for()
        return toast.first.inner_text()


def pixels(data_uri: str) -> np.ndarray:
    body = base64.b64decode(data_uri.split(",")[1])
    return np.asarray(Image.open(io.BytesIO(body))).astype(int)


def same(shown: np.ndarray, drawn) -> bool:
    """Equal, but for one grey: the server may add in another order, with other threads."""
    drawn = np.asarray(drawn).astype(int)
    return shown.shape == drawn.shape and np.abs(shown - drawn).max() <= 1
