"""DDPMs of diffusers opened and written, with the installed diffusers on the other side.

The networks are tiny; those of the Hub's families are compared in `test_unet2d.py`.
"""

import json
import logging
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from families import TINY
from hub_support import api, hub_on_this_machine, machine
from safetensors.torch import load_file, save_file
from support import HERE, noise_like, parameters

from ddpm_hub import GaussianDiffusion, Unet, UNet2D
from ddpm_hub.errors import ConfigError, DDPMHubError, WeightsError

GOLDEN = HERE / "golden" / "diffusers_pipeline"
WEIGHTS = "diffusion_pytorch_model.safetensors"
SCHEDULER = "scheduler/scheduler_config.json"
# numpy 2 complains of how the peer's schedulers use torch
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
logging.getLogger("diffusers").setLevel(logging.ERROR)


def pipeline(unet=None, **scheduler):
    """A DDPMPipeline of random weights."""
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(**TINY | (unet or {})).eval()
    made = diffusers.DDPMPipeline(network, diffusers.DDPMScheduler(**scheduler))
    made.set_progress_bar_config(disable=True)
    return made


def opened(made, folder, **options):
    made.save_pretrained(folder)
    return GaussianDiffusion.from_diffusers(folder, **options)


def drawn(made, steps, seed=3):
    """What a pipeline makes, (B, C, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    images = made(2, generator, num_inference_steps=steps, output_type="np").images
    return torch.tensor(images).permute(0, 3, 1, 2)


def ours(diffusion, steps, seed=3):
    """The same run here: DDPM over the leading timesteps, at the end held in [0, 1]."""
    return diffusion.sample(
        2,
        sampler="ddpm",
        steps=steps,
        spacing="leading",
        generator=torch.Generator().manual_seed(seed),
        progress=False,
    ).clamp(0, 1)


def close(got, wanted, atol=1e-5):
    assert wanted.std() > 0.1  # a grey picture would compare nothing
    torch.testing.assert_close(got, wanted, atol=atol, rtol=0)


def edit(folder, path, **changes):
    config = json.loads((folder / path).read_text())
    config |= changes
    (folder / path).write_text(json.dumps(config))


@pytest.fixture
def folder(tmp_path):
    pipeline().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


# -- the same pictures -----------------------------------------------------------------------


@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
@pytest.mark.parametrize("steps", [1000, 50])
def test_a_whole_run_of_the_pipeline_comes_again(variance, steps, tmp_path):
    made = pipeline(variance_type=variance)
    close(ours(opened(made, tmp_path), steps), drawn(made, steps))


RUNS = {
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "cosine over all steps": {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 250},
    "another linear": {"beta_start": 0.001, "beta_end": 0.03},
    "short": {"num_train_timesteps": 100, "beta_end": 0.1},
    "scaled linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "sigmoid": {"beta_schedule": "sigmoid"},
    "x0": {"prediction_type": "sample"},
    "v": {"prediction_type": "v_prediction"},
    "zero terminal SNR": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
    "no clip": {"clip_sample": False, "prediction_type": "v_prediction"},
    "thresholding": {"thresholding": True},
    "small log": {"variance_type": "fixed_small_log"},
}


@pytest.mark.parametrize("kind", RUNS)
def test_schedules_objectives_and_variances_mean_the_same_here(kind, tmp_path):
    made = pipeline(**RUNS[kind])
    diffusion = opened(made, tmp_path)
    theirs = made.scheduler.alphas_cumprod
    assert torch.equal(diffusion.alphas_cumprod, theirs)  # to the last bit
    assert diffusion.num_timesteps == made.scheduler.config.num_train_timesteps
    steps = 250 if "all" in kind else 20
    close(ours(diffusion, steps), drawn(made, steps))


def test_a_learned_variance_means_the_same_here(tmp_path):
    made = pipeline({"out_channels": 2}, variance_type="learned_range")
    diffusion = opened(made, tmp_path)
    assert diffusion.variance_type == "learned_range"
    x, wanted = noise_like(2, 1, 8, 8).float(), []
    made.scheduler.set_timesteps(20)
    start, generator = x, torch.Generator().manual_seed(0)
    with torch.no_grad():  # the pipeline itself cannot take such a network
        for t in made.scheduler.timesteps:
            out = made.unet(x, t).sample
            x = made.scheduler.step(out, t, x, generator=generator).prev_sample
            wanted.append(x)
    stream = diffusion.sample_stream(
        noise=start, sampler="ddpm", steps=20, spacing="leading", seed=0
    )
    for step, state in zip(stream, wanted, strict=True):
        close(step.x, state)


def test_the_golden_pipeline_opens_with_no_other_argument_and_comes_again():
    diffusion, reference = (
        GaussianDiffusion.from_pretrained(GOLDEN),
        np.load(GOLDEN / "reference.npz"),
    )
    x, t = (torch.tensor(reference[name]) for name in ("x", "t"))
    with torch.no_grad():
        close(diffusion.model(x, t), torch.tensor(reference["out"]), 1e-6)
    assert np.array_equal(diffusion.alphas_cumprod, reference["alphas_cumprod"])
    wanted = torch.tensor(reference["ddpm20_seed3"]).permute(0, 3, 1, 2)
    close(ours(diffusion, 20), wanted, 1e-6)
    drawn = diffusion.sample_stream(sampler="ddim", steps=10, spacing="leading", noise=x)
    steps = list(drawn)
    assert [step.t for step in steps] == reference["ddim_timesteps"].tolist()
    close(steps[-1].x, torch.tensor(reference["ddim10_from_x"]), 1e-6)



# -- what is written -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"beta_schedule": "linear", "objective": "pred_noise"},
        {"beta_schedule": "linear", "objective": "pred_x0", "timesteps": 200},
        {"beta_schedule": "linear", "objective": "pred_v", "zero_terminal_snr": True},
        {"beta_schedule": "cosine", "objective": "pred_noise", "variance_type": "fixed_large"},
        {
            "beta_schedule": "linear",
            "schedule_fn_kwargs": {"beta_start": 0.00085, "beta_end": 0.012, "power": 2},
            "clip_x_start": False,
        },
    ],
    ids=str,
)
def test_what_is_written_opens_in_the_peers_pipeline_and_samples_the_same(options, tmp_path):
    torch.manual_seed(0)
    diffusion = GaussianDiffusion(UNet2D(**TINY), image_size=8, **options).eval()
    diffusion.save_diffusers(tmp_path)
    made = diffusers.DDPMPipeline.from_pretrained(tmp_path)
    made.set_progress_bar_config(disable=True)
    # a schedule of ours is float64, theirs is not: what is opened again has their rounding
    again = GaussianDiffusion.from_pretrained(tmp_path)
    close(ours(again, 20), drawn(made, 20))
    close(ours(diffusion, 20), drawn(made, 20), 2e-3)
    torch.testing.assert_close(again.alphas_cumprod, diffusion.alphas_cumprod, atol=1e-6, rtol=0)
    for name in ("num_timesteps", "objective", "variance_type", "image_size", "clip_x_start"):
        assert getattr(again, name) == getattr(diffusion, name)


def test_a_round_trip_changes_no_byte_of_the_weights(tmp_path):
    pipeline().save_pretrained(tmp_path / "theirs")
    diffusion = GaussianDiffusion.from_pretrained(tmp_path / "theirs")
    diffusion.save_diffusers(tmp_path / "back")
    before, after = (tmp_path / name / "unet" / WEIGHTS for name in ("theirs", "back"))
    assert before.read_bytes() == after.read_bytes()
    diffusion.save_pretrained(tmp_path / "ours")
    GaussianDiffusion.from_pretrained(tmp_path / "ours").save_diffusers(tmp_path / "twice")
    assert before.read_bytes() == (tmp_path / "twice" / "unet" / WEIGHTS).read_bytes()
    mine, theirs = load_file(tmp_path / "ours" / "model.safetensors"), load_file(before)
    assert {
        name.removeprefix("model."): value.numpy().tobytes() for name, value in mine.items()
    } == {name: value.numpy().tobytes() for name, value in theirs.items()}


def test_what_is_opened_and_written_again_says_the_same(tmp_path):
    made = pipeline({"sample_size": [8, 12]}, variance_type="fixed_large", beta_schedule="sigmoid")
    diffusion = opened(made, tmp_path / "theirs")
    assert diffusion.image_size == (8, 12)
    diffusion.save_diffusers(tmp_path / "back")
    for path in ("unet/config.json", SCHEDULER, "model_index.json"):
        before, after = (json.loads((tmp_path / f / path).read_text()) for f in ("theirs", "back"))
        assert after.items() <= before.items()


def test_half_precision_is_widened_and_comes_back_to_the_bytes_it_was(tmp_path):
    made = pipeline()
    made.unet.half()
    made.save_pretrained(tmp_path / "half", variant="fp16")
    assert not (tmp_path / "half" / "unet" / WEIGHTS).exists()
    diffusion = GaussianDiffusion.from_pretrained(tmp_path / "half")
    assert diffusion.model.conv_in.weight.dtype == torch.float32
    diffusion.half().save_diffusers(tmp_path / "back")
    stored = tmp_path / "half" / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    assert stored.read_bytes() == (tmp_path / "back" / "unet" / WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beta_schedule": "sigmoid"}, ["'sigmoid'", "counterpart", "cosine"]),
        ({"beta_schedule": "cosine", "schedule_fn_kwargs": {"s": 0.1}}, ["'s': 0.1", "default"]),
        ({"beta_schedule": "linear", "timesteps": 20}, ["'linear'", "counterpart"]),
        ({"beta_schedule": "linear", "auto_normalize": False}, ["auto_normalize=False"]),
    ],
    ids=str,
)
def test_what_diffusers_cannot_express_is_refused_and_nothing_is_written(options, words, tmp_path):
    diffusion = GaussianDiffusion(UNet2D(**TINY), image_size=8, **options)
    with pytest.raises(ConfigError) as caught:
        diffusion.save_diffusers(tmp_path / "new")
    assert all(word in str(caught.value) for word in words), caught.value
    assert not (tmp_path / "new").exists()


def test_a_network_of_another_kind_has_no_counterpart(tmp_path):
    net = Unet(8, dim_mults=(1, 2), channels=1)
    with pytest.raises(ConfigError, match="a Unet has no counterpart in diffusers"):
        GaussianDiffusion(net, image_size=8).save_diffusers(tmp_path)
    net = UNet2D(**TINY | {"out_channels": 2})
    diffusion = GaussianDiffusion(
        net, image_size=8, beta_schedule="linear", variance_type="fixed_small"
    )
    with pytest.raises(ConfigError, match=r"'fixed_small'.*colours"):
        diffusion.save_diffusers(tmp_path)


# -- the layouts -----------------------------------------------------------------------------


def rooted(folder: Path) -> Path:
    """The layout of google/ddpm-cifar10-32: all in one folder."""
    for part in ("unet", "scheduler"):
        for path in (folder / part).iterdir():
            path.rename(folder / path.name)
        (folder / part).rmdir()
    return folder


def same(a, b):
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def test_everything_in_one_folder_opens_too(folder):
    wanted = GaussianDiffusion.from_pretrained(folder)
    got = GaussianDiffusion.from_pretrained(rooted(folder))
    assert got.to_config() == wanted.to_config() and same(got, wanted)
    assert same(UNet2D.from_pretrained(folder), wanted.model)


def test_the_network_alone_opens_from_every_layout_and_says_what_a_diffusion_lacks(folder):
    wanted = UNet2D.from_pretrained(folder)
    assert same(UNet2D.from_pretrained(folder / "unet"), wanted)
    shutil.rmtree(folder / "scheduler")
    assert same(UNet2D.from_pretrained(folder), wanted)
    with pytest.raises(ConfigError, match=r"network alone.*wrap it"):
        GaussianDiffusion.from_pretrained(folder)
    diffusion = GaussianDiffusion(wanted, image_size=8, beta_schedule="linear")
    assert diffusion.sample(1, steps=2, progress=False).shape == (1, 1, 8, 8)


def test_arguments_can_be_replaced_and_a_missing_size_be_given(folder):
    diffusion = GaussianDiffusion.from_diffusers(folder, sampling_timesteps=5)
    assert diffusion.sampling_timesteps == 5
    edit(folder, "unet/config.json", sample_size=None)
    with pytest.raises(ConfigError, match=r"pass image_size="):
        GaussianDiffusion.from_pretrained(folder)
    assert GaussianDiffusion.from_pretrained(folder, image_size=16).image_size == (16, 16)


def test_a_pickle_is_read_only_when_it_is_asked_for(folder):
    wanted = GaussianDiffusion.from_pretrained(folder)
    safe = folder / "unet" / WEIGHTS
    torch.save(load_file(safe), folder / "unet" / "diffusion_pytorch_model.bin")
    safe.unlink()
    with pytest.raises(WeightsError, match=r"diffusion_pytorch_model\.bin.*allow_pickle=True"):
        GaussianDiffusion.from_pretrained(folder)
    assert same(GaussianDiffusion.from_pretrained(folder, allow_pickle=True), wanted)


def test_safetensors_are_read_before_a_pickle(folder):
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"no pickle at all")
    assert parameters(GaussianDiffusion.from_pretrained(folder, allow_pickle=True)) > 0
    (folder / "unet" / WEIGHTS).unlink()
    with pytest.raises(WeightsError, match="cannot be read as plain weights"):
        GaussianDiffusion.from_pretrained(folder, allow_pickle=True)
    (folder / "unet" / "diffusion_pytorch_model.bin").unlink()
    with pytest.raises(WeightsError, match=rf"holds no unet/{WEIGHTS}"):
        GaussianDiffusion.from_pretrained(folder)


def test_attention_under_its_names_of_2022_is_read(folder):
    wanted = GaussianDiffusion.from_pretrained(folder)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(folder / "unet" / WEIGHTS)
    renamed = {}
    for name, value in state.items():
        for new, legacy in old.items():
            name = name.replace(f".{new}.", f".{legacy}.")
        renamed[name] = value
    assert len(renamed.keys() - state.keys()) == 8 * 4
    save_file(renamed, folder / "unet" / WEIGHTS)
    assert same(GaussianDiffusion.from_pretrained(folder), wanted)


def test_what_an_old_or_short_file_does_not_say_is_as_the_peer_has_it(folder):
    (folder / SCHEDULER).write_text('{"_class_name": "DDPMScheduler", "tensor_format": "pt"}')
    config = json.loads((folder / "unet/config.json").read_text())
    given = {key: config[key] for key in ("_class_name", *TINY)}
    (folder / "unet/config.json").write_text(json.dumps(given))
    diffusion = GaussianDiffusion.from_pretrained(folder)
    wanted = diffusers.DDPMPipeline.from_pretrained(folder)
    theirs = {k: v for k, v in wanted.unet.config.items() if not k.startswith("_")}
    mine = diffusion.model.config
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in mine.items()} == {
        k: tuple(v) if isinstance(v, list) else v for k, v in theirs.items()
    }
    assert torch.equal(diffusion.alphas_cumprod, wanted.scheduler.alphas_cumprod)
    edit(folder, SCHEDULER, predict_epsilon=False)
    assert GaussianDiffusion.from_pretrained(folder).objective == "pred_x0"


@pytest.mark.parametrize(
    "name",
    [
        "DDIMScheduler",
        "PNDMScheduler",
        "DPMSolverMultistepScheduler",
        "UniPCMultistepScheduler",
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "HeunDiscreteScheduler",
        "LMSDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "DEISMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "DDPMParallelScheduler",
    ],
)
def test_whatever_solver_a_repo_names_its_chain_is_read(name, folder):
    scheduler = getattr(diffusers, name)()
    scheduler.save_pretrained(folder / "scheduler")
    diffusion = GaussianDiffusion.from_pretrained(folder)
    assert torch.equal(diffusion.alphas_cumprod, scheduler.alphas_cumprod)


OPEN = """
import json, sys
from ddpm_hub import GaussianDiffusion, UNet2D
repo = sys.argv[1]
for model in (GaussianDiffusion.from_diffusers(repo).model, UNet2D.from_pretrained(repo)):
    weights = [value.double().sum().item() for value in model.state_dict().values()]
print(json.dumps({"weights": weights, "peer": "diffusers" in sys.modules}))
"""


@pytest.mark.parametrize("xet", ["0", "1"])
def test_a_repo_of_the_hub_opens_on_another_machine_without_diffusers(xet, tmp_path, monkeypatch):
    with hub_on_this_machine(monkeypatch, tmp_path) as server:
        api(server).create_repo("alice/ddpm")
        api(server).upload_folder(repo_id="alice/ddpm", folder_path=GOLDEN)
        said, _ = machine(OPEN, "alice/ddpm", HF_HUB_DISABLE_XET=xet)
    state = UNet2D.from_pretrained(GOLDEN).state_dict()
    assert said["weights"] == [value.double().sum().item() for value in state.values()]
    assert not said["peer"]


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "changes", "words"),
    [
        (SCHEDULER, {"_class_name": "ScoreSdeVeScheduler"}, ["ScoreSdeVe", "DDPMScheduler"]),
        (SCHEDULER, {"_class_name": None}, ["scheduler None"]),
        (SCHEDULER, {"beta_schedule": "laplace"}, ["'laplace'", "scaled_linear"]),
        (SCHEDULER, {"trained_betas": [0.1] * 9}, ["trained_betas [0.1", "None"]),
        (SCHEDULER, {"variance_type": "learned"}, ["'learned'", "learned_range"]),
        (SCHEDULER, {"variance_type": "learned_range"}, ["learned_range", "predicts a variance"]),
        (SCHEDULER, {"prediction_type": "flow_prediction"}, ["flow_prediction", "epsilon"]),
        (SCHEDULER, {"prediction_type": []}, ["[]", "epsilon"]),
        (SCHEDULER, {"clip_sample_range": 2.0}, ["clip_sample_range 2", "clip_sample"]),
        (SCHEDULER, {"thresholding": True, "sample_max_value": 1.5}, ["sample_max_value 1.5"]),
        (SCHEDULER, {"rescale_betas_zero_snr": True}, ["zero_terminal_snr", "pred_v"]),
        (SCHEDULER, {"use_flow_sigmas": True}, ["use_flow_sigmas True", "flow"]),
        (SCHEDULER, {"num_train_timesteps": 0}, ["timesteps 0"]),
        (SCHEDULER, {"beta_end": 2.0}, ["2", "over 1"]),
        (SCHEDULER, {"beta_end": float("inf")}, ["beta_end", "inf"]),
        (SCHEDULER, {"num_train_timesteps": float("nan")}, ["timesteps nan"]),
        (SCHEDULER, {"beta_start": "x"}, ["beta_start", "'x'"]),
        (SCHEDULER, {"surprise": 1}, ["surprise", "remove it"]),
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, ["UNet2DConditionModel"]),
        ("unet/config.json", {"surprise": 1}, ["surprise", "remove"]),
        ("unet/config.json", {"time_embedding_type": "fourier"}, ["'fourier'"]),
        ("unet/config.json", {"dropout": float("nan")}, ["not valid JSON", "NaN"]),
        ("unet/config.json", {"num_class_embeds": 10}, ["num_class_embeds 10"]),
        ("unet/config.json", {"sample_size": 9}, ["9", "divisible by 2"]),
        ("model_index.json", {"vqvae": ["diffusers", "VQModel"]}, ["vqvae", "pixels"]),
    ],
    ids=str,
)
def test_what_has_no_counterpart_here_is_refused_by_name(path, changes, words, folder):
    edit(folder, path, **changes)
    with pytest.raises(ConfigError) as caught:
        GaussianDiffusion.from_pretrained(folder)
    assert all(word in str(caught.value) for word in words), caught.value
    assert len(str(caught.value)) < 700


def test_what_is_not_of_diffusers_is_refused_where_it_is_asked_for(folder, tmp_path):
    GaussianDiffusion.from_pretrained(folder).save_pretrained(tmp_path / "ours")
    with pytest.raises(ConfigError, match="holds no UNet2DModel of diffusers"):
        GaussianDiffusion.from_diffusers(tmp_path / "ours")


def test_an_export_beside_our_own_files_leaves_those_the_model(folder):
    diffusion = GaussianDiffusion.from_pretrained(folder, objective="pred_x0")
    diffusion.save_pretrained(folder)  # into the same folder
    assert GaussianDiffusion.from_pretrained(folder).objective == "pred_x0"


def test_weights_of_another_network_are_refused(folder):
    edit(folder, "unet/config.json", layers_per_block=2)
    with pytest.raises(WeightsError, match="do not belong to this config"):
        GaussianDiffusion.from_pretrained(folder)


HOSTILE = [-1, 0, 2**63, 10**40, 1e308, True, None, "", "x", [], [0], [[]], {}, {"a": 1},
           [1] * 10_000, "<img onerror=alert(1)>"]  # fmt: skip


@pytest.mark.parametrize("path", ["unet/config.json", SCHEDULER, "model_index.json"])
@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
def test_a_hostile_value_in_any_field_opens_or_is_one_sentence(path, value, folder):
    whole = (folder / path).read_text()
    for key in [*json.loads(whole), "unheard_of"]:
        edit(folder, path, **{key: value})
        try:
            GaussianDiffusion.from_pretrained(folder)
        except DDPMHubError as error:
            assert len(str(error)) < 1000
        (folder / path).write_text(whole)


@pytest.mark.parametrize("text", [b"[]", b"{", b'{"a": 1, "a": 1}', b"\xff", b""])
@pytest.mark.parametrize("path", ["unet/config.json", SCHEDULER, "model_index.json"])
def test_a_file_that_is_no_json_object_is_a_sentence_with_its_name(path, text, folder):
    (folder / path).write_bytes(text)
    with pytest.raises(ConfigError, match=Path(path).name):
        GaussianDiffusion.from_pretrained(folder)
