"""Features and their distance: kept by contents, named truthfully, equal to other libraries'."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from eval_support import ROOT, mean_and_corner, pixels, program

from ddpm_hub import evaluate
from ddpm_hub.data import bundled, fashion_mnist
from ddpm_hub.errors import ConfigError, DataError, HubError, WeightsError
from ddpm_hub.evaluate import FeatureNetwork, features, garments
from ddpm_hub.evaluate.distance import Moments, frechet_distance, moments


def test_the_distance_of_gaussians_is_that_of_the_closed_form():
    rng = np.random.default_rng(0)
    turn = scipy.linalg.qr(rng.normal(size=(6, 6)))[0]
    a, b = rng.uniform(0.1, 4, (2, 6))
    apart = rng.normal(size=6)
    first = Moments(apart, turn @ np.diag(a) @ turn.T)
    second = Moments(np.zeros(6), turn @ np.diag(b) @ turn.T)
    expected = apart @ apart + ((a**0.5 - b**0.5) ** 2).sum()  # they commute
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-12)


def test_the_distance_of_covariances_that_do_not_commute_is_that_of_scipys_root():
    rng = np.random.default_rng(1)
    first, second = (moments(rng.normal(size=(50, 8)) @ rng.normal(size=(8, 8))) for _ in "ab")
    root = scipy.linalg.sqrtm(first.covariance @ second.covariance).real
    apart = first.mean - second.mean
    spread = np.trace(first.covariance + second.covariance - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(apart @ apart + spread, rel=1e-9)


def test_a_set_is_at_0_from_itself_and_a_shift_counts_squared():
    rows = np.random.default_rng(2).normal(size=(100, 4)).astype(np.float32)
    shifted = rows.astype(np.float64) + np.array([3, 0, 4, 0])
    assert frechet_distance(moments(rows), moments(rows)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(moments(rows), moments(shifted)) == pytest.approx(25, rel=1e-6)


def test_features_without_a_covariance_are_a_sentence():
    with pytest.raises(DataError, match=r"shape \(1, 3\) have no covariance: give 2"):
        moments(np.zeros((1, 3)))
    with pytest.raises(DataError, match="NaN or infinity"):
        moments(np.array([[0.0], [np.nan]]))


def test_features_are_kept_by_the_contents_of_the_images_and_the_networks_identity(tmp_path):
    seen, images = [], pixels(7, 1, 4, 4)
    network = mean_and_corner(seen)
    first = evaluate.features_of(images, network, cache=tmp_path)
    assert np.array_equal(evaluate.features_of(images.clone(), network, cache=tmp_path), first)
    assert sum(seen) == 7
    changed = images.clone()
    changed[6, 0, 0, 0] ^= 1
    evaluate.features_of(changed, network, cache=tmp_path)
    assert sum(seen) == 14
    evaluate.features_of(images, replace(network, identity="2"), cache=tmp_path)
    assert sum(seen) == 21
    nameless = replace(network, identity="")
    for _ in range(2):  # who cannot say when it changes is asked each time
        evaluate.features_of(images, nameless, cache=tmp_path)
    assert sum(seen) == 35


def test_features_that_were_interrupted_go_on_where_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "ROWS", 3)
    seen, images = [], pixels(8, 1, 4, 4)
    network = mean_and_corner(seen)
    stopped = evaluate.feature_stream(images, network, cache=tmp_path)
    next(stopped), next(stopped)
    stopped.close()
    found = evaluate.features_of(images, network, cache=tmp_path)
    assert seen == [3, 3, 2]
    assert np.array_equal(found, network.compute(images).numpy())


def test_a_network_of_the_callers_is_named_and_never_called_fid():
    network = mean_and_corner()
    assert network.metric == "Fréchet distance, features of corners"
    with pytest.raises(ConfigError, match="has no name"):
        FeatureNetwork("", network.compute)
    with pytest.raises(DataError, match=r"corners made features of shape \(2,\) for 2 images"):
        flat = FeatureNetwork("corners", lambda images: images.float().mean((1, 2, 3)))
        evaluate.features_of(pixels(2, 1, 4, 4), flat)


def test_the_garment_network_is_small_and_right_about_more_than_92_of_100_garments():
    test = fashion_mnist("test")
    net = garments.load()
    assert garments.WEIGHTS.stat().st_size < 2**20
    assert garments.accuracy(net, test.images, test.labels) > 0.92
    network = evaluate.feature_network("garments")
    found = evaluate.features_of(test.images[:60], network)
    assert found.shape == (60, 128) and found.dtype == np.float32
    alone = network.compute(test.images[7:8]).numpy()  # whatever it is looked at together with
    assert found[7] == pytest.approx(alone[0], abs=1e-5)
    assert "FID" not in network.metric and "garments" in network.metric
    with pytest.raises(DataError, match=r"\(3, 32, 32\) are not \(1, 28, 28\)"):
        network.compute(pixels(2, 3, 32, 32))
    with pytest.raises(ConfigError, match="bring their own weights"):
        evaluate.feature_network("garments", "other.safetensors")


def test_garments_that_are_spoilt_more_are_farther_away():
    network, reference = evaluate.feature_network("garments"), bundled()[:1000]
    clean = bundled("test")[:200]
    noise = torch.randn(clean.shape, generator=torch.manual_seed(0))
    distances = [
        evaluate.quality_of(
            (clean + amount * noise).clamp(0, 255).to(torch.uint8), reference, network
        )
        for amount in (0, 8, 16, 32)
    ]
    assert distances == sorted(distances) and distances[0] < distances[1] / 2
    thin = evaluate.quality_of(clean[:1].expand(200, -1, -1, -1), reference, network)
    assert thin > 10 * distances[0]  # perfect pictures, but always the same


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    found = program(
        "inception_program.py", str(path), PYTHONPATH=f"{ROOT}:{ROOT / 'build' / 'eval'}"
    )
    return found[0]


def test_inceptions_features_are_torch_fidelitys_and_grey_is_three_equal_channels(inception):
    assert inception["shape"] == [3, 2048] and inception["spread"] > 0.01
    assert inception["off"] == 0 and inception["grey_off"] == 0


def test_only_the_canonical_weights_make_a_figure_that_is_called_fid(inception):
    digest = inception["identity"][:8]
    name = f"inception (random.pth, {digest})"
    assert inception["name"] == name
    assert inception["metric"] == f"Fréchet distance, features of {name}"
    assert inception["canonical_metric"] == "FID"
    assert features.CANONICAL == "6726825d"


def test_the_distance_is_torch_fidelitys_also_with_fewer_images_than_features(inception):
    for ours, theirs in inception["parity"]:
        assert ours == pytest.approx(theirs, rel=1e-9)


def test_inception_that_cannot_be_had_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ConfigError, match=r"need torch-fidelity .*pip install 'ddpm-hub\[eval\]'"):
        evaluate.feature_network("inception")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    url = "http://127.0.0.1:9/weights-inception-2015-12-05-6726825d.pth"
    with pytest.raises(HubError, match=r"could not be had from .*give it as --feature-weights"):
        features._download(url)
    (tmp_path / "checkpoints" / Path(url).name).write_bytes(b"x")
    assert features._download(url).read_bytes() == b"x"  # what is there is not asked for again
    with pytest.raises(ConfigError, match="unknown features 'vgg'"):
        evaluate.feature_network("vgg")


def test_a_weights_file_that_would_run_code_is_refused_before_it_does(tmp_path):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"

    class Evil:
        def __reduce__(self):
            return Path.touch, (trace,)

    torch.save({"weight": Evil()}, path)
    with pytest.raises(WeightsError, match=r"evil.pth' is no weights file that can be read safely"):
        features._inception_digest(path)
    assert not trace.exists()
