"""Training: `train`, a generator of events, and `Trainer`, the reference's face of it."""

from ddpm_hub.training.loop import Event, train
from ddpm_hub.training.trainer import Trainer

__all__ = ["Event", "Trainer", "train"]
