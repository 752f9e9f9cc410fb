"""A program that looks at Inception for `test_evaluate_features.py`, in a process of its own.

    PYTHONPATH=build/eval python tests/inception_program.py WEIGHTS

torch-fidelity imports torchvision, for which other tests put stand-ins. Writes random weights to
WEIGHTS, since the real ones cannot be had everywhere, and prints one line of JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ddpm_hub.evaluate import features
from ddpm_hub.evaluate.distance import frechet_distance, moments
from ddpm_hub.evaluate.work import weights_of

IMAGES = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.manual_seed(1), dtype=torch.uint8)


def write_weights(module, path):
    """Random weights that let a signal through, in torch-fidelity's layout."""

    class Unloaded(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            """Stay random."""

    torch.save({}, path)
    net = Unloaded("inception", ["2048"], str(path))
    torch.manual_seed(0)
    for part in net.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
    torch.save(net.state_dict(), path)
    return net


def parity(module, rank_deficient):
    """Our distance and torch-fidelity's, of the same features."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    rng = np.random.default_rng(0)
    rows = 12 if rank_deficient else 400
    pair = [rng.normal(size=(rows, 24)) @ rng.normal(size=(24, 24)) + k for k in range(2)]
    theirs = [fid_features_to_statistics(torch.from_numpy(rows)) for rows in pair]
    metric = fid_statistics_to_metric(*theirs, verbose=False)["frechet_inception_distance"]
    return [frechet_distance(*map(moments, pair)), metric]


def main():
    """Everything that needs torch-fidelity."""
    path = Path(sys.argv[1])
    module = features._torch_fidelity()
    theirs = write_weights(module, path)
    ours = features.feature_network("inception", path)
    found = features.features_of(IMAGES, ours)
    grey = IMAGES[:, :1]
    same = features.features_of(grey.expand(-1, 3, -1, -1), ours)
    # what only the canonical file can be: one whose hash begins as CANONICAL says
    features.CANONICAL = ours.identity[:8]
    canonical = features.feature_network("inception", path)
    print(
        json.dumps(
            {
                "weights": weights_of(theirs)[:8],
                "shape": found.shape,
                "spread": float(found.std()),
                "off": float(np.abs(found - theirs(IMAGES)[0].numpy()).max()),
                "grey_off": float(np.abs(features.features_of(grey, ours) - same).max()),
                "identity": ours.identity,
                "name": ours.name,
                "metric": ours.metric,
                "canonical_metric": canonical.metric,
                "parity": [parity(module, False), parity(module, True)],
            }
        )
    )


if __name__ == "__main__":
    main()
