"""A chart: an experiment's points over time, as messages for widgets/plot.

In the room: points with values, a sentence and pictures; what is new since the last message. Not in
the room: who computes them, and when a message is sent (desk.py, for which it stands in a Board's
place).
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from ddpm_hub import images

if TYPE_CHECKING:
    from torch import Tensor


class Chart:
    """Points by index: `put` them in any order, and again when more is known."""

    def __init__(self) -> None:
        self.id = secrets.token_hex(8)
        self.points: dict[int, dict[str, Any]] = {}
        self._new: dict[int, dict[str, Any]] = {}

    def put(
        self,
        index: int,
        text: str,
        values: dict[str, float],
        pictures: dict[str, Tensor] | None = None,
    ) -> None:
        """A point: its sentence, its numbers, and pictures, (1, C, H, W) in [0, 1] (clipped)."""
        point = {"index": index, "text": text, "values": values}
        if pictures:
            point["pictures"] = {
                key: images.data_uri(images.to_pil(x)[0], "png") for key, x in pictures.items()
            }
        elif "pictures" in self.points.get(index, {}):
            point["pictures"] = self.points[index]["pictures"]
        self.points[index] = self._new[index] = point

    def news(self) -> dict[int, dict[str, Any]]:
        """The points since the last news or message, for the chart that is its twin."""
        points, self._new = self._new, {}
        return points

    def take(self, news: dict[int, dict[str, Any]]) -> None:
        """Be as the twin that gave this news."""
        for index, point in news.items():
            self.points[index] = self._new[index] = point

    def message(
        self, state: str, text: str = "", progress: float | None = None, complete: bool = False
    ) -> dict[str, Any]:
        """A message of widgets/plot with the points since the last, or with all of them."""
        points, self._new = self.points if complete else self._new, {}
        return {
            "run": self.id,
            "state": state,
            "message": text,
            "progress": progress,
            "points": [points[index] for index in sorted(points)],
            "complete": complete,
        }
