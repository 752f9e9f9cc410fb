"""Networks that turn pictures into features, and what a figure made with each may be called.

FID is a name for one network: Inception v3 with the weights of 2015-12-05, as torch-fidelity has
it (`pip install 'ddpm-hub[eval]'`). With other weights, or another network, the same distance is
another figure and is called by the network's name. Not in the room: the distance (distance.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm_hub.errors import ConfigError, DataError, HubError, WeightsError, check_choice
from ddpm_hub.evaluate import garments as garment_net
from ddpm_hub.evaluate.work import Pieces, Progress, Work, content_of, finish, folder_of
from ddpm_hub.files import reason

CANONICAL = "6726825d"  # the sha256 of the weights that FID is defined by begins so
ROWS = 500  # images whose features are kept together
BATCH = 50  # images that a network sees at once


@dataclass(frozen=True)
class FeatureNetwork:
    """Any function from images uint8 (B, C, H, W) to features (B, D), and its name.

    identity: changes whenever the features do; features are only kept for the next run under one.
    metric: what the Frechet distance of its features is called; made of the name if empty.
    """

    name: str
    compute: Callable[[Tensor], Tensor]
    identity: str = ""
    metric: str = ""

    def __post_init__(self):
        if not self.name:
            raise ConfigError("a feature network has no name: figures must say what they are of")
        if not self.metric:
            object.__setattr__(self, "metric", f"Fréchet distance, features of {self.name}")


def garments(
    weights: str | Path | None = None, device: str | torch.device = "cpu"
) -> FeatureNetwork:
    """The classifier of 28 x 28 garments that comes with the package, 128 features."""
    if weights is not None:
        raise ConfigError(f"features 'garments' bring their own weights: leave out {weights}")
    net = garment_net.load().to(device)

    def compute(images: Tensor) -> Tensor:
        if tuple(images.shape[1:]) != garment_net.SIZE:
            raise DataError(
                f"images of {tuple(images.shape[1:])} are not {garment_net.SIZE}, which the "
                "features 'garments' are for: use 'inception'"
            )
        return net.features(images.to(device))

    digest = _sha256(garment_net.WEIGHTS)
    return FeatureNetwork(f"garments ({digest[:8]})", compute, digest)


def inception(
    weights: str | Path | None = None, device: str | torch.device = "cpu"
) -> FeatureNetwork:
    """Inception v3 of torch-fidelity, 2048 features; weights from a file, or downloaded by it.

    Grey pictures are shown to it in three equal channels. Raises ConfigError without
    torch-fidelity, WeightsError for a file that is none of its, HubError without a network.
    """
    module = _torch_fidelity()
    path = Path(weights) if weights is not None else _download(module.URL_INCEPTION_V3)
    digest = _inception_digest(path)
    try:
        # float64 costs twice the time and moves FID in the sixth digit: not asked for
        net = module.FeatureExtractorInceptionV3("inception", ["2048"], str(path)).to(device)
    except (RuntimeError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path.name} holds no weights of torch-fidelity's Inception "
            f"({str(error).splitlines()[0]}): give weights-inception-2015-12-05-{CANONICAL}.pth"
        ) from error

    def compute(images: Tensor) -> Tensor:
        if images.shape[1] not in (1, 3):
            raise DataError(f"images have {images.shape[1]} channels: Inception sees 1 or 3")
        return net(images.to(device).expand(-1, 3, -1, -1))[0]

    canonical = digest.startswith(CANONICAL)
    name = f"inception ({digest[:8]})" if canonical else f"inception ({path.name}, {digest[:8]})"
    return FeatureNetwork(name, compute, digest, "FID" if canonical else "")


FEATURES: dict[str, Callable[..., FeatureNetwork]] = {"garments": garments, "inception": inception}


def feature_network(
    name: str, weights: str | Path | None = None, device: str | torch.device = "cpu"
) -> FeatureNetwork:
    """A row of FEATURES, ready on a device."""
    return FEATURES[check_choice("features", name, FEATURES)](weights, device)


def default_features(shape: tuple[int, int, int]) -> str:
    """The row of FEATURES for images of (C, H, W)."""
    return "garments" if tuple(shape) == garment_net.SIZE else "inception"


def feature_stream(
    images: Tensor, network: FeatureNetwork, *, cache: str | Path | None = None
) -> Work[np.ndarray]:
    """The features of images uint8 (N, C, H, W), float32 (N, D); what a cache holds is taken.

    The cache is keyed by the images' contents and the network's identity.
    """
    count = -(-len(images) // ROWS)
    about = {"images": content_of(images), "network": network.identity, "name": network.name}
    pieces = Pieces(folder_of(cache if network.identity else None, "features", about), count, about)
    missing = pieces.missing()
    if missing:
        pieces.open()
    for done, k in enumerate(missing):
        yield Progress(f"features, {ROWS} each", done, len(missing))
        pieces.put(k, computed(images[k * ROWS : (k + 1) * ROWS], network))
    yield Progress(f"features, {ROWS} each", len(missing), len(missing))
    return pieces.joined()


def features_of(
    images: Tensor, network: FeatureNetwork, *, cache: str | Path | None = None
) -> np.ndarray:
    """The end of `feature_stream`."""
    return finish(feature_stream(images, network, cache=cache))


@torch.no_grad()
def computed(images: Tensor, network: FeatureNetwork) -> np.ndarray:
    """The features of images uint8 (B, C, H, W), float32 (B, D), kept nowhere."""
    parts = [network.compute(part.contiguous()) for part in images.split(BATCH)]
    found = torch.cat([torch.as_tensor(part).float().cpu() for part in parts])
    if found.ndim != 2 or len(found) != len(images):
        raise DataError(
            f"{network.name} made features of shape {tuple(found.shape)} for {len(images)} "
            "images: it must give (B, D) for (B, C, H, W)"
        )
    return found.numpy()


def _torch_fidelity():
    """The module of torch-fidelity that has its Inception."""
    try:
        try:
            return _imported()
        except RuntimeError as error:
            # torch-fidelity imports torchvision for networks that are not asked for here. Where
            # torch was built without a GPU and torchvision with one, that fails for want of an
            # operator that nobody will call: declared, it is enough
            if "torchvision::nms" not in str(error):
                raise
            _declare_operators()
            return _imported()
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            f"features 'inception' need torch-fidelity ({error}): "
            "pip install 'ddpm-hub[eval]', or leave sample quality out with --no-quality"
        ) from error


def _imported():
    from torch_fidelity import feature_extractor_inceptionv3

    return feature_extractor_inceptionv3


def _declare_operators() -> None:
    global _OPERATORS  # they are gone with the object
    _OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        _OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _download(url: str) -> Path:
    """Where torch-fidelity's own download would put the weights, downloaded if need be."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=CANONICAL, progress=False)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; RuntimeError: a wrong hash
        raise HubError(
            f"the weights of Inception could not be had from {url} ({reason(error)}): download "
            "that file elsewhere and give it as --feature-weights FILE, or leave sample quality "
            "out with --no-quality"
        ) from error
    return path


def _inception_digest(path: Path) -> str:
    """The sha256 of a weights file, read without running what a pickle may hold."""
    try:
        torch.load(path, map_location="cpu", weights_only=True)
        return _sha256(path)
    except Exception as error:  # unpickling raises whatever the file makes it raise
        raise WeightsError(
            f"{str(path)!r} is no weights file that can be read safely ({reason(error)}): give "
            f"weights-inception-2015-12-05-{CANONICAL}.pth"
        ) from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
