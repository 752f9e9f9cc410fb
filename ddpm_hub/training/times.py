"""Which timesteps a step trains on: all alike, or those more often whose loss is large.

In the room: the probabilities of t and what they are made from. The numbers themselves are drawn
by the loop, from the seed and the step; what is remembered here goes into the checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor

KEPT = 10  # losses remembered of each t
UNIFORM_SHARE = 0.001  # so that no t is forgotten


class Importance:
    """Nichol & Dhariwal 2021, section 3.3: p_t in proportion to sqrt(E[L_t^2]).

    The mean is over the last ten losses at t; until each t has so many, all are alike. A loss is
    divided by T p_t, so that its expectation is what it was: only its noise is less.
    """

    def __init__(self, timesteps: int):
        self.history = torch.full((timesteps, KEPT), torch.nan, dtype=torch.float64)

    def probabilities(self) -> Tensor:
        """p_t, (T,) float64 on the CPU, in sum 1."""
        T = len(self.history)
        uniform = torch.full((T,), 1 / T, dtype=torch.float64)
        size = self.history.square().mean(1).sqrt()
        if size.isnan().any() or not size.sum() > 0:
            return uniform
        return (1 - UNIFORM_SHARE) * size / size.sum() + UNIFORM_SHARE * uniform

    def record(self, times: Tensor, losses: Tensor) -> None:
        """Take down the losses, (N,), that were found at times, (N,), in no particular order."""
        pairs = zip(times.tolist(), losses.tolist(), strict=True)
        for t, loss in sorted(pairs):  # so that it does not matter which process found which
            if loss == loss and abs(loss) != float("inf"):
                self.history[t] = torch.cat((self.history[t, 1:], self.history.new_tensor([loss])))
