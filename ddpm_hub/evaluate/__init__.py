"""How good a model is: sample quality, loss by t, bits/dim, each with all that it depends on.

In the room: figures, and the samples and features they are made of. Not in the room: the terms of
the likelihood (likelihood.py) and how figures are shown (cli/).
"""

from ddpm_hub.evaluate.distance import Moments, frechet_distance, moments
from ddpm_hub.evaluate.drawing import Drawing, Samples, draw_samples, draw_stream
from ddpm_hub.evaluate.features import (
    FEATURES,
    FeatureNetwork,
    default_features,
    feature_network,
    feature_stream,
    features_of,
)
from ddpm_hub.evaluate.held_out import (
    BitsPerDim,
    LossByT,
    likelihood_work,
    loss_by_t,
    loss_stream,
)
from ddpm_hub.evaluate.quality import (
    Quality,
    is_averaged,
    quality_of,
    quality_stream,
    quality_work,
    sample_quality,
)
from ddpm_hub.evaluate.real import RealImages, held_out_images, real_images
from ddpm_hub.evaluate.work import Progress, Work, default_cache, finish

__all__ = [
    "FEATURES",
    "BitsPerDim",
    "Drawing",
    "FeatureNetwork",
    "LossByT",
    "Moments",
    "Progress",
    "Quality",
    "RealImages",
    "Samples",
    "Work",
    "default_cache",
    "default_features",
    "draw_samples",
    "draw_stream",
    "feature_network",
    "feature_stream",
    "features_of",
    "finish",
    "frechet_distance",
    "held_out_images",
    "is_averaged",
    "likelihood_work",
    "loss_by_t",
    "loss_stream",
    "moments",
    "quality_of",
    "quality_stream",
    "quality_work",
    "real_images",
    "sample_quality",
]
