"""Saving and opening: nested config.json, strict safetensors, and what strangers put there."""

import copy
import json
import time

import pytest
import torch
from huggingface_hub import PyTorchModelHubMixin
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from ddpm_hub import GaussianDiffusion, Unet
from ddpm_hub.errors import ConfigError, DDPMHubError, HubError, WeightsError


def small(**changes) -> GaussianDiffusion:
    torch.manual_seed(0)
    net = Unet(8, dim_mults=(1, 2), channels=1, attn_heads=[2, 1], attn_dim_head=8)
    return GaussianDiffusion(net, **{"image_size": 8, "timesteps": 20, **changes})


@pytest.fixture
def folder(tmp_path):
    small().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_all_models_are_hub_mixins():
    assert issubclass(Unet, PyTorchModelHubMixin)
    assert issubclass(GaussianDiffusion, PyTorchModelHubMixin)


def test_a_saved_model_comes_back_with_the_same_weights_config_and_pictures(folder):
    before, after = small(), GaussianDiffusion.from_pretrained(folder)
    assert same_weights(before, after)
    assert before.to_config() == after.to_config()
    assert not after.training
    draw = {"seed": 1, "progress": False}
    assert torch.equal(before.sample(2, **draw), after.sample(2, **draw))


def test_the_file_is_nested_and_versioned_and_holds_no_schedule(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["_class_name"] == "GaussianDiffusion" and config["format_version"] == 1
    assert config["unet"]["dim_mults"] == [1, 2] and config["unet"]["_class_name"] == "Unet"
    assert config["diffusion"]["timesteps"] == 20
    assert all(name.startswith("model.") for name in load_file(folder / "model.safetensors"))


def test_saving_what_was_opened_writes_the_same_bytes(folder, tmp_path):
    GaussianDiffusion.from_pretrained(folder).save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_saving_over_the_folder_that_was_opened_loses_nothing(folder):
    model = GaussianDiffusion.from_pretrained(folder)
    model.save_pretrained(folder)
    assert same_weights(model, GaussianDiffusion.from_pretrained(folder))
    assert same_weights(model, small())
    assert not list(folder.glob(".*.tmp"))


def test_the_network_alone_opens_from_a_diffusion_and_from_its_own_folder(folder, tmp_path):
    net = Unet.from_pretrained(folder)
    assert same_weights(net, small().model)
    net.save_pretrained(tmp_path / "net")
    assert same_weights(net, Unet.from_pretrained(tmp_path / "net"))


def test_a_compiled_network_is_saved_under_its_plain_names(tmp_path):
    model = small()
    model.model = torch.compile(model.model)
    model.save_pretrained(tmp_path)
    assert same_weights(small(), GaussianDiffusion.from_pretrained(tmp_path))


def test_arguments_can_be_overridden_and_unknown_ones_are_refused(folder):
    model = GaussianDiffusion.from_pretrained(folder, sampling_timesteps=5, objective="pred_x0")
    assert model.sampling_timesteps == 5 and model.objective == "pred_x0"
    with pytest.raises(ConfigError, match="torch_dtype"):
        GaussianDiffusion.from_pretrained(folder, torch_dtype="float16")


def test_map_location_may_be_a_device_and_a_subclass_comes_back_as_itself(folder):
    class Mine(GaussianDiffusion):
        pass

    assert type(Mine.from_pretrained(folder, map_location=torch.device("cpu"))) is Mine


def test_a_list_passed_in_is_not_the_models_to_change():
    mults = [1, 2]
    net = Unet(8, dim_mults=mults, channels=1)
    mults.append(4)
    assert net.to_config()["unet"]["dim_mults"] == [1, 2]


def test_a_copy_keeps_its_config():
    model = small(objective="pred_x0")
    assert copy.deepcopy(model).to_config() == model.to_config()


def test_a_network_of_ones_own_cannot_be_described_and_says_so(tmp_path):
    class Mine(nn.Conv2d):
        channels = out_dim = 1
        self_condition = False

    model = GaussianDiffusion(Mine(1, 1, 1), image_size=8)
    with pytest.raises(ConfigError, match="Mine"):
        model.save_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_an_error_and_never_a_default_or_random_model(folder, name):
    (folder / name).unlink()
    with pytest.raises(DDPMHubError, match=name):
        GaussianDiffusion.from_pretrained(folder)


def test_a_pickle_is_never_a_substitute_for_safetensors(folder):
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        GaussianDiffusion.from_pretrained(folder)


def test_weights_of_another_network_are_refused_by_name_shape_and_type(folder):
    file = folder / "model.safetensors"
    good = load_file(file)
    first = next(iter(good))
    for change, word in (
        (lambda s: s.pop(first), first),
        (lambda s: s.update(surplus=torch.ones(1)), "surplus"),
        (lambda s: s.update({first: s[first][None]}), first),
        (lambda s: s.update({first: s[first].int()}), first),
    ):
        state = {k: v.clone() for k, v in good.items()}
        change(state)
        save_file(state, file)
        with pytest.raises(WeightsError, match=word):
            GaussianDiffusion.from_pretrained(folder)


def test_weights_that_are_not_strict_may_miss_some_when_asked(folder):
    file = folder / "model.safetensors"
    state = load_file(file)
    state.pop("model.final_conv.bias")
    save_file(state, file)
    model = GaussianDiffusion.from_pretrained(folder, strict=False)
    assert torch.equal(model.model.init_conv.weight, small().model.init_conv.weight)


def test_a_truncated_weights_file_is_a_sentence(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="again"):
        GaussianDiffusion.from_pretrained(folder)


def test_a_newer_format_asks_for_an_upgrade(folder):
    edit(folder, lambda c: c.update(format_version=9))
    with pytest.raises(ConfigError, match=r"9.*upgrade"):
        GaussianDiffusion.from_pretrained(folder)


def test_what_is_neither_a_folder_nor_a_repo_is_a_sentence():
    for name in ("../../nowhere", "/nowhere/at/all", "a b", "x" * 300):
        with pytest.raises(HubError, match="neither a folder nor a repo id"):
            GaussianDiffusion.from_pretrained(name)


HOSTILE = [
    b"",
    b"[]",
    b"8",
    b"null",
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b"\xff\xfe",
    b"{" + b" " * 70_000 + b"}",
    b'{"format_version": ' + b"9" * 5000 + b"}",
    b'{"format_version": NaN}',
    b'{"format_version": Infinity}',
    b'{"format_version": true}',
    b'{"format_version": 1, "format_version": 1}',
    b'{"format_version": 1, "diffusion": [], "unet": {}}',
    b'{"format_version": 1, "diffusion": {"image_size": 8}}',
    b'{"format_version": 1, "diffusion": {"image_size": 8}, "unet": []}',
    b'{"dim": 200000}',
]
VALUES = [-1, 0, 1, 2**31, 2**63, 10**40, 1e308, -0.5, True, None, "", "x", "../..", [], [0], [[]],
          {}, {"a": 1}, [1] * 10_000, "<img onerror=alert(1)>"]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:30]))
def test_a_hostile_config_is_one_sentence_and_quick(folder, text):
    (folder / "config.json").write_bytes(text)
    started = time.perf_counter()
    with pytest.raises(ConfigError) as caught:
        GaussianDiffusion.from_pretrained(folder)
    assert time.perf_counter() - started < 5  # it returns: no hang, nothing allocated
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("section", ["unet", "diffusion"])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_a_hostile_value_in_any_field_opens_or_is_one_sentence(folder, section, value):
    whole = json.loads((folder / "config.json").read_text())
    for key in [*whole[section], "unheard_of"]:
        edit(folder, lambda c, key=key: (c.update(whole), c[section].update({key: value})))
        try:
            GaussianDiffusion.from_pretrained(folder)
        except DDPMHubError as error:
            assert len(str(error)) < 1000
    edit(folder, lambda c: c.update(whole))


SCALAR = {"attn_heads": 4, "attn_dim_head": 32}


def test_a_network_too_large_to_build_is_refused_before_it_takes_memory(folder):
    for change in (
        {"dim": 60_000, "dim_mults": [1]},
        {"dim": 4096, "dim_mults": [16] * 12},
        {"num_classes": 10**6},
    ):
        edit(folder, lambda c, change=change: c["unet"].update(SCALAR | {"dim": 2048, **change}))
        with pytest.raises(ConfigError, match=r"over the limit|cannot be built"):
            Unet.from_pretrained(folder)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=12,
    )
)
def test_any_json_is_a_config_or_a_config_error(value):
    from ddpm_hub.hub_model import build_checked

    for config in ({"diffusion": value, "unet": value}, value):
        if not isinstance(config, dict):
            continue
        with pytest.raises(ConfigError):
            build_checked(GaussianDiffusion, config, {})


def test_numpy_numbers_are_numbers_and_are_saved_as_such(tmp_path):
    import numpy as np

    net = Unet(np.int64(8), dim_mults=[np.int64(1), 2], channels=1)
    model = GaussianDiffusion(net, image_size=np.int64(8), min_snr_gamma=np.float32(5))
    model.save_pretrained(tmp_path)
    assert GaussianDiffusion.from_pretrained(tmp_path).image_size == (8, 8)
