"""A board: an experiment's pictures in rows and columns, as messages for widgets/strips.

In the room: encoding (PNG for results, exact; JPEG on the way), what is new since the last
message. Not in the room: who computes the pictures, and when a message is sent (desk.py).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from PIL import Image

from ddpm_hub import images

if TYPE_CHECKING:
    from torch import Tensor

Label = str | tuple[str, str]  # with a kind: "x0" or "xt", the quantity's colour and sign


class Board:
    """Rows and columns, each with a label; in `put` and `note` they go by number."""

    def __init__(self, rows: Iterable[Label], columns: Iterable[Label]) -> None:
        self.id = secrets.token_hex(8)
        self.rows = [_named(label) for label in rows]
        self.columns = [_named(label) | {"notes": [], "total": 1} for label in columns]
        self.pictures: dict[tuple[int, int, int], dict[str, Any]] = {}
        self._new: dict[tuple[int, int, int], dict[str, Any]] = {}

    def put(
        self,
        row: int,
        column: int,
        picture: Tensor | Image.Image,
        *,
        index: int = 0,
        t: int | None = None,
        exact: bool = True,
    ) -> None:
        """Show a picture: (B, C, H, W) in [0, 1], drawn as a grid, or one of Pillow's.

        `index` is the frame of a board with a slider; what lay there before is replaced.
        """
        if not isinstance(picture, Image.Image):
            picture = images.grid(picture)
        source = images.data_uri(picture, "png" if exact else "jpeg")
        place = (row, column, index)
        entry = {"row": row, "column": column, "index": index, "t": t, "src": source}
        self.pictures[place] = self._new[place] = entry

    def note(self, column: int, *notes: str) -> None:
        """Short lines under a column, instead of those it had."""
        self.columns[column]["notes"] = list(notes)

    def frames(self, column: int, total: int) -> None:
        """How many frames the column's run has."""
        self.columns[column]["total"] = total

    def news(self) -> dict[str, Any]:
        """What changed since the last news or message, for the board that is its twin."""
        pictures, self._new = self._new, {}
        return {"pictures": pictures, "columns": self.columns}

    def take(self, news: dict[str, Any]) -> None:
        """Be as the twin that gave this news."""
        self.columns = news["columns"]
        for place, entry in news["pictures"].items():
            self.pictures[place] = self._new[place] = entry

    def message(
        self, state: str, text: str = "", progress: float | None = None, complete: bool = False
    ) -> dict[str, Any]:
        """A message of widgets/strips with the pictures since the last, or with all of them."""
        pictures, self._new = self.pictures if complete else self._new, {}
        return {
            "run": self.id,
            "state": state,
            "message": text,
            "progress": progress,
            "rows": self.rows,
            "columns": [dict(column) for column in self.columns],
            "pictures": list(pictures.values()),
            "complete": complete,
        }


def _named(label: Label) -> dict[str, Any]:
    text, kind = (label, "") if isinstance(label, str) else label
    return {"label": text, "kind": kind}
