"""model-N.pt of the reference's Trainer: what was constructed there is recovered here.

The golden file was written by the real Trainer; the rest is built with the live peer and saved in
the Trainer's own form, so that every argument the numbers can tell is told.
"""

import pickle

import numpy as np
import pytest
import torch
from peers import reference
from support import TRAINER

from ddpm_hub import GaussianDiffusion
from ddpm_hub.errors import ConfigError, WeightsError

FILE = TRAINER / "model-1.pt"
WANT = {name: torch.from_numpy(v) for name, v in np.load(TRAINER / "reference.npz").items()}
PLAIN = {"dim": 8, "dim_mults": (1, 2), "channels": 1}
UNETS = [
    {},
    {"channels": 3, "self_condition": True},
    {"init_dim": 12},
    {"dim": 16, "dim_mults": (1, 3, 2)},
    {"full_attn": (True, False)},
    {"full_attn": (True, True), "attn_heads": (2, 4), "attn_dim_head": (16, 8)},
    {"dim_mults": (2,), "full_attn": (False,), "channels": 4},
]
PROCESSES = [
    {"objective": "pred_noise", "beta_schedule": "linear"},
    {"objective": "pred_x0", "beta_schedule": "cosine", "timesteps": 250},
    {"objective": "pred_v", "beta_schedule": "sigmoid", "timesteps": 50},
    {"objective": "pred_noise", "min_snr_loss_weight": True},
    {"objective": "pred_x0", "min_snr_loss_weight": True, "beta_schedule": "linear"},
    {"objective": "pred_v", "min_snr_loss_weight": True, "min_snr_gamma": 3},
    {"objective": "pred_x0", "min_snr_loss_weight": True, "min_snr_gamma": 0.5},
]


def theirs(unet=None, **process):
    """The peer's GaussianDiffusion, its weights from PyTorch's own seed 0."""
    peer = reference()
    torch.manual_seed(0)
    net = peer.Unet(**PLAIN | (unet or {}))
    return peer.GaussianDiffusion(net, image_size=8, **process)


def saved(diffusion, path, ema=True):
    """A checkpoint as the Trainer writes it; the average is twice the raw weights."""
    raw = diffusion.state_dict()
    average = {f"ema_model.{k}": v * (2 if k.startswith("model.") else 1) for k, v in raw.items()}
    online = {f"online_model.{k}": v for k, v in raw.items()}
    state = {"initted": torch.tensor(True), "step": torch.tensor(12), **online, **average}
    data = {"step": 12, "model": raw, "opt": {}, "scaler": None, "version": "2.3.4"}
    torch.save(data | ({"ema": state} if ema else {}), path)
    return path


@pytest.mark.parametrize("ema", [True, False])
def test_the_golden_checkpoint_opens_and_predicts_what_the_peer_predicted(ema):
    model = GaussianDiffusion.from_lucidrains(FILE, image_size=16, ema=ema)
    with torch.no_grad():
        got = model.model(WANT["x"], WANT["t"])
    torch.testing.assert_close(got, WANT["out_ema" if ema else "out_model"], atol=1e-6, rtol=0)
    torch.testing.assert_close(model.alphas_cumprod, WANT["alphas_cumprod"], atol=1e-6, rtol=0)
    assert not model.training


def test_the_golden_checkpoint_draws_what_the_peer_drew():
    model = GaussianDiffusion.from_lucidrains(FILE, image_size=16, sampling_timesteps=10)
    torch.manual_seed(3)
    got = model.sample(2, progress=False)
    torch.testing.assert_close(got, WANT["sample_ema_seed3"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("unet", UNETS, ids=str)
def test_the_network_s_arguments_are_recovered_from_its_shapes(unet, tmp_path):
    path = saved(peer := theirs(unet, timesteps=20), tmp_path / "model-1.pt", ema=False)
    model = GaussianDiffusion.from_lucidrains(path, image_size=8)
    asked = PLAIN | unet
    levels = len(asked["dim_mults"])
    for name, value in asked.items():
        told = model.model.config[name]
        several = name in ("attn_heads", "attn_dim_head") and not isinstance(value, tuple)
        assert told == ([value] * levels if several else _listed(value)), name
    x, t = torch.randn(2, asked["channels"], 8, 8), torch.tensor([3, 19])
    with torch.no_grad():
        torch.testing.assert_close(model.model(x, t), peer.model(x, t), atol=2e-6, rtol=1e-5)


def _listed(value):
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("process", PROCESSES, ids=str)
def test_schedule_and_objective_are_recovered_from_the_buffers(process, tmp_path):
    peer = theirs(**process)
    model = GaussianDiffusion.from_lucidrains(saved(peer, tmp_path / "model-1.pt"), image_size=8)
    expected = {"timesteps": 1000, "beta_schedule": "sigmoid", "min_snr_loss_weight": False}
    for name, value in (expected | process).items():
        close = pytest.approx(value, rel=1e-3) if name == "min_snr_gamma" else value
        assert model.config[name] == close, name
    for name in ("betas", "posterior_variance"):
        torch.testing.assert_close(getattr(model, name), getattr(peer, name))
    torch.testing.assert_close(model.loss_weight, peer.loss_weight, rtol=2e-3, atol=1e-6)


def test_the_average_comes_first_and_the_raw_weights_when_asked_for_or_alone(tmp_path):
    peer = theirs(timesteps=20)
    both = saved(peer, tmp_path / "model-1.pt")
    raw = peer.model.final_conv.weight
    for path, ema, factor in (
        (both, True, 2),
        (both, False, 1),
        (saved(peer, tmp_path / "model-2.pt", ema=False), True, 1),
    ):
        model = GaussianDiffusion.from_lucidrains(path, image_size=8, ema=ema)
        assert torch.equal(model.model.final_conv.weight, factor * raw)


def test_what_was_opened_can_be_saved_and_shared(tmp_path):
    model = GaussianDiffusion.from_lucidrains(FILE, image_size=16)
    model.save_pretrained(tmp_path)
    again = GaussianDiffusion.from_pretrained(tmp_path)
    options = {"steps": 3, "seed": 0, "progress": False}
    assert torch.equal(again.sample(1, **options), model.sample(1, **options))


def test_the_size_of_the_images_is_asked_for():
    with pytest.raises(ConfigError, match=r"pass image_size .* divisible by 4"):
        GaussianDiffusion.from_lucidrains(FILE)
    with pytest.raises(ConfigError, match="not divisible by 4"):
        GaussianDiffusion.from_lucidrains(FILE, image_size=18)


def test_a_schedule_with_options_of_its_own_has_to_be_told(tmp_path):
    told = {"beta_schedule": "cosine", "schedule_fn_kwargs": {"s": 0.1}}
    path = saved(peer := theirs(timesteps=100, **told), tmp_path / "model-1.pt")
    with pytest.raises(ConfigError, match="pass the beta_schedule"):
        GaussianDiffusion.from_lucidrains(path, image_size=8)
    with pytest.raises(ConfigError, match="not those of"):
        GaussianDiffusion.from_lucidrains(path, image_size=8, beta_schedule="linear")
    model = GaussianDiffusion.from_lucidrains(path, image_size=8, **told)
    torch.testing.assert_close(model.betas, peer.betas)


def test_a_loss_weight_that_no_objective_has_is_asked_about(tmp_path):
    peer = theirs(timesteps=20, objective="pred_noise")
    peer.loss_weight.mul_(torch.linspace(1, 3, 20))
    path = saved(peer, tmp_path / "model-1.pt")
    with pytest.raises(ConfigError, match="pass objective"):
        GaussianDiffusion.from_lucidrains(path, image_size=8)
    told = GaussianDiffusion.from_lucidrains(path, image_size=8, objective="pred_noise")
    assert told.objective == "pred_noise"


@pytest.mark.parametrize(
    "content",
    [
        {"step": 1},
        {"model": {"betas": torch.ones(3)}},
        {"model": {"betas": torch.ones(3), "loss_weight": torch.ones(3), "model.x": torch.ones(1)}},
        [1, 2],
        {"model": 3, "ema": {"ema_model.betas": 4}},
    ],
    ids=lambda content: str(content)[:40],
)
def test_a_file_of_another_kind_is_refused_with_a_sentence(content, tmp_path):
    torch.save(content, tmp_path / "model-1.pt")
    with pytest.raises(WeightsError, match=r"\w+ \w+ \w+"):
        GaussianDiffusion.from_lucidrains(tmp_path / "model-1.pt", image_size=8)


def test_a_network_of_version_1_is_named_as_such(tmp_path):
    peer = theirs(timesteps=20)
    old = {k.replace("norm.g", "norm.weight"): v for k, v in peer.state_dict().items()}
    torch.save({"model": old}, tmp_path / "model-1.pt")
    with pytest.raises(WeightsError, match="version 1"):
        GaussianDiffusion.from_lucidrains(tmp_path / "model-1.pt", image_size=8)


class Hostile:
    """A pickle that writes a file when it is read."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return open, (str(self.canary), "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_holds_code_is_refused_and_runs_nothing(zipped, tmp_path):
    path, canary = tmp_path / "model-1.pt", tmp_path / "canary"
    if zipped:
        torch.save({"model": Hostile(canary)}, path)
    else:
        path.write_bytes(pickle.dumps({"model": Hostile(canary)}))
    with pytest.raises(WeightsError, match="never run"):
        GaussianDiffusion.from_lucidrains(path, image_size=8)
    assert not canary.exists()


def test_a_file_that_is_not_there_and_one_that_is_cut_are_sentences(tmp_path):
    with pytest.raises(WeightsError, match="no file"):
        GaussianDiffusion.from_lucidrains(tmp_path / "model-9.pt", image_size=8)
    (tmp_path / "model-1.pt").write_bytes(FILE.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match="cannot be read"):
        GaussianDiffusion.from_lucidrains(tmp_path / "model-1.pt", image_size=8)
