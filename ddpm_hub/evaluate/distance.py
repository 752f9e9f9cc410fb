"""How far two sets of pictures are apart: the Frechet distance of their features' Gaussians.

The square root's trace is taken from numpy's eigenvalues, the way torch-fidelity does it, so that
no further package is needed; the tests compare it with torch-fidelity and scipy. Not in the room:
the networks that make features (features.py).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ddpm_hub.errors import DataError


class Moments(NamedTuple):
    """mean (D,) and covariance (D, D) of features, float64."""

    mean: np.ndarray
    covariance: np.ndarray


def moments(features: np.ndarray) -> Moments:
    """The mean and the unbiased covariance of rows, (N, D), in float64."""
    if features.ndim != 2 or len(features) < 2:
        raise DataError(
            f"features of shape {features.shape} have no covariance: give 2 images or more"
        )
    wide = features.astype(np.float64)
    if not np.isfinite(wide).all():
        raise DataError("features hold NaN or infinity: check the feature network's weights")
    return Moments(wide.mean(0), np.atleast_2d(np.cov(wide, rowvar=False)))


def frechet_distance(first: Moments, second: Moments) -> float:
    """Heusel et al. 2017, Eq. 6: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))."""
    apart = first.mean - second.mean
    # C1 C2 has the eigenvalues of a matrix that is symmetric and not negative: what is negative
    # or imaginary in them is rounding, and is left out
    roots = np.linalg.eigvals(first.covariance @ second.covariance).astype(complex) ** 0.5
    spread = np.trace(first.covariance) + np.trace(second.covariance) - 2 * roots.real.sum()
    return float(apart @ apart + spread)
