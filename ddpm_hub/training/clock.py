"""Speed and time: what a person is told while a model is trained, and when time is up."""

from __future__ import annotations

import time

from ddpm_hub.config import TrainConfig

SMOOTHING = 0.95  # of the speed shown, per step


class Clock:
    """Images per second, smoothed, seconds to the end, and whether `max_minutes` are over.

    The consumer's time between two steps is not counted; that of samples and saves only in the
    seconds to the end.
    """

    def __init__(self, config: TrainConfig):
        self.config, self.over = config, False
        self.began = time.perf_counter()
        self.seconds, self.beside, self.steps, self.last = 0.0, 0.0, 0, 0.0

    def start(self) -> None:
        """A step begins."""
        self.last = time.perf_counter()

    def tick(self) -> float:
        """The step is done; what it took."""
        now = time.perf_counter()
        took, self.last = now - self.last, now
        self.steps += 1
        keep = min(SMOOTHING, 1 - 1 / self.steps)
        self.seconds = keep * self.seconds + (1 - keep) * took
        return took

    def stop(self) -> None:
        """Whatever came after the step is done, too."""
        self.beside += time.perf_counter() - self.last

    def expired(self) -> bool:
        """Whether this process has trained for `max_minutes`."""
        limit = self.config.max_minutes
        return limit is not None and time.perf_counter() - self.began >= 60 * limit

    def rates(self, step: int) -> tuple[float, float]:
        """(images_per_second, eta_seconds) after optimiser step `step`."""
        images = self.config.train_batch_size * self.config.gradient_accumulate_every
        left = self.config.train_num_steps - step
        eta = left * (self.seconds + self.beside / self.steps)
        if self.config.max_minutes is not None:
            eta = min(eta, max(0.0, 60 * self.config.max_minutes - (self.last - self.began)))
        return images / self.seconds, eta
