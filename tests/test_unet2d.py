"""UNet2D beside the installed diffusers: the same weights and numbers, and what it refuses."""

import copy
import pickle
import time

import diffusers
import pytest
import torch
from families import ATTENDING, FAMILIES, ODD, TINY
from support import parameters

from ddpm_hub import GaussianDiffusion, Unet, UNet2D
from ddpm_hub.errors import ConfigError
from ddpm_hub.nets import build
from ddpm_hub.runtime import channels_last

T = torch.tensor([7, 999])


def peer(**config):
    torch.manual_seed(0)
    return diffusers.UNet2DModel(**config).eval()


def arguments(net):
    return {key: value for key, value in net.config.items() if not key.startswith("_")}


def tiny(**changes):
    torch.manual_seed(0)
    return UNet2D(**TINY | changes).eval()


def image(channels, *size):
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def furthest(ours, theirs, x):
    """The largest difference of the answers, in float32 and in float64; and theirs must differ."""
    answer = theirs(x, T).sample
    assert answer.std() > 0.05 and not torch.equal(answer[0], answer[1])
    single = (ours(x, T) - answer).abs().max().item()
    ours, theirs, x = ours.double(), theirs.double(), x.double()
    return single, (ours(x, T) - theirs(x, T).sample).abs().max().item()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_families_of_the_hub_open_strictly_and_answer_as_the_peer(family, tmp_path):
    config, count = FAMILIES[family]
    theirs = peer(**config)
    theirs.save_pretrained(tmp_path)
    ours = UNet2D.from_pretrained(tmp_path)
    assert parameters(ours) == count
    size = (32, 64) if len(config["block_out_channels"]) == 6 else (16, 24)
    single, double = furthest(ours, theirs, image(3, *size))
    assert single <= 2e-6 and double <= 1e-12


@pytest.mark.parametrize("kind", ODD)
def test_odd_networks_have_the_peers_names_shapes_and_answers(kind):
    theirs = peer(**TINY | ODD[kind])
    ours = UNet2D(**arguments(theirs)).eval()
    shapes = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == shapes
    ours.load_state_dict(theirs.state_dict())
    single, double = furthest(ours, theirs, image(ours.channels, 8, 12))
    assert single <= 2e-6 and double <= 1e-12


@pytest.mark.parametrize("kind", ["TensorFlow's padding and time", "one head", "blocks of ADM"])
def test_gradients_are_the_peers(kind):
    theirs = peer(**TINY | ODD[kind]).double()
    ours = UNet2D(**arguments(theirs)).double()
    ours.load_state_dict(theirs.state_dict())
    x = image(1, 8, 8).double()
    ours(x, T).square().sum().backward()
    theirs(x, T).sample.square().sum().backward()
    wanted = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, atol=1e-10, rtol=1e-8)


def test_the_default_network_is_the_papers_of_cifar10():
    with torch.device("meta"):
        net = UNet2D()
    assert parameters(net) == 35_746_307
    assert (net.channels, net.out_dim, net.downsample_factor) == (3, 3, 8)
    assert not net.self_condition


def test_an_answer_without_gradients_is_the_one_with_them_and_the_input_is_left_alone():
    for kind in ({}, ODD["blocks of ADM"], ODD["a scaled middle"]):
        net, x = tiny(**kind), image(1, 8, 8)
        before = x.clone()
        with_gradients = net(x, T).detach()
        with torch.no_grad():
            assert torch.equal(net(x, T), with_gradients)
        assert torch.equal(x, before)


def test_the_memory_format_changes_nothing_but_rounding():
    net, x = tiny(**ATTENDING), image(1, 8, 8)
    with torch.no_grad():
        plain = net(x, T)
        got = channels_last(net)(x.to(memory_format=torch.channels_last), T)
    torch.testing.assert_close(got, plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_it_follows_a_half_precision(dtype, atol):
    net, x = tiny(), image(1, 8, 8)
    with torch.no_grad():
        wanted, got = net(x, T), net.to(dtype)(x.to(dtype), T)
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), wanted, atol=atol, rtol=0)


def test_it_learns():
    torch.manual_seed(0)
    diffusion = GaussianDiffusion(
        tiny(dropout=0.1).train(), image_size=8, timesteps=20, objective="pred_noise"
    )
    images = torch.rand(8, 1, 8, 8)
    optimiser = torch.optim.Adam(diffusion.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = diffusion(images)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert all(p.grad is not None for p in diffusion.parameters())


@pytest.mark.parametrize("kind", ["gelu", "resnets that resize"])
def test_it_can_be_pickled_and_compiled_whole(kind):
    net, x = tiny(**ODD[kind]), image(1, 8, 8)
    again = pickle.loads(pickle.dumps(net))
    whole = torch.compile(net, fullgraph=True, backend="eager")
    with torch.no_grad():
        wanted = net(x, T)
        assert torch.equal(again(x, T), wanted)
        torch.testing.assert_close(whole(x, T), wanted)


def test_it_learns_a_variance():
    diffusion = GaussianDiffusion(tiny(out_channels=2), image_size=8, timesteps=20)
    assert diffusion.variance_type == "learned_range"
    diffusion(torch.rand(2, 1, 8, 8)).backward()
    assert diffusion.model.conv_out.weight.grad.abs().sum(dim=(1, 2, 3)).min() > 0


def test_it_is_saved_and_opened_with_every_argument_and_by_its_class_alone(tmp_path):
    net = tiny(**ODD["scale and shift with a norm"])
    net.save_pretrained(tmp_path / "net")
    GaussianDiffusion(net, image_size=8).save_pretrained(tmp_path / "diffusion")
    for folder in ("net", "diffusion"):
        again = UNet2D.from_pretrained(tmp_path / folder)
        assert again.to_config() == net.to_config()
        assert all(
            torch.equal(value, net.state_dict()[name]) for name, value in again.state_dict().items()
        )
        with pytest.raises(ConfigError, match="describes a 'UNet2D', not a Unet"):
            Unet.from_pretrained(tmp_path / folder)
    with pytest.raises(ConfigError, match=r"network alone.*UNet2D\.from_pretrained"):
        GaussianDiffusion.from_pretrained(tmp_path / "net", image_size=8)


def test_a_copy_and_a_subclass_are_described_as_what_they_are(tmp_path):
    class Mine(UNet2D):
        pass

    mine = Mine(**TINY)
    mine.save_pretrained(tmp_path)
    assert type(Mine.from_pretrained(tmp_path)) is Mine
    assert UNet2D.from_pretrained(tmp_path).config == copy.deepcopy(mine).config


def test_a_presets_network_is_built_by_its_name_and_for_any_channels():
    assert type(build({"dim": 8, "dim_mults": (1, 2)})) is Unet
    assert build({"dim": 8, "dim_mults": (1, 2)}, channels=1).channels == 1
    net = build({"_class_name": "UNet2D", **TINY}, channels=4)
    assert (type(net), net.channels, net.out_dim) == (UNet2D, 4, 4)
    with pytest.raises(ConfigError, match=r"'Mine'.*Unet, UNet2D"):
        build({"_class_name": "Mine"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"block_out_channels": ()}, ["block_out_channels", "1 to 12"]),
        ({"block_out_channels": 8}, ["block_out_channels 8"]),
        ({"block_out_channels": (8, "x")}, ["'x'", "1 .. 65536"]),
        ({"block_out_channels": (8, 10)}, ["norm_num_groups 4", "10"]),
        ({"down_block_types": ("DownBlock2D",)}, ["1 entries for 2 levels"]),
        ({"down_block_types": ("DownBlock2D", "SkipDownBlock2D")}, ["SkipDownBlock2D", "Attn"]),
        ({"up_block_types": ("UpBlock2D", 3)}, ["3", "AttnUpBlock2D"]),
        ({"mid_block_type": "UNetMidBlock2DCrossAttn"}, ["CrossAttn", "UNetMidBlock2D"]),
        ({"layers_per_block": 0}, ["layers_per_block 0", "1 .. 8"]),
        ({"layers_per_block": 2**63}, ["layers_per_block", "1 .. 8"]),
        ({"layers_per_block": True}, ["layers_per_block True"]),
        ({"time_embedding_type": "fourier"}, ["time_embedding_type 'fourier'", "'positional'"]),
        ({"class_embed_type": "timestep"}, ["class_embed_type 'timestep'", "classes"]),
        ({"num_class_embeds": 10}, ["num_class_embeds 10", "classes"]),
        ({"attention_head_dim": 32}, ["attention_head_dim 32", "16", "None"]),
        ({"attn_norm_num_groups": 5}, ["attn_norm_num_groups 5", "16"]),
        ({"norm_num_groups": None}, ["norm_num_groups None"]),
        ({"freq_shift": 4}, ["freq_shift 4", "4"]),
        ({"act_fn": "tanh"}, ["'tanh'", "silu"]),
        ({"downsample_padding": 2}, ["downsample_padding 2", "0 .. 1"]),
        ({"downsample_type": "fir"}, ["'fir'", "resnet"]),
        ({"resnet_time_scale_shift": "ada_group"}, ["ada_group", "scale_shift"]),
        ({"norm_eps": 0}, ["norm_eps 0"]),
        ({"mid_block_scale_factor": 0}, ["mid_block_scale_factor 0"]),
        ({"dropout": 1.5}, ["dropout 1.5"]),
        ({"sample_size": (8, 8, 8)}, ["sample_size", "(height, width)"]),
        ({"sample_size": "big"}, ["sample_size 'big'"]),
        ({"center_input_sample": "no"}, ["center_input_sample 'no'"]),
    ],
    ids=str,
)
def test_what_a_network_cannot_be_is_one_sentence(changes, words):
    with pytest.raises(ConfigError) as caught:
        UNet2D(**TINY | changes)
    assert all(word in str(caught.value) for word in words), caught.value


def test_images_that_do_not_fit_are_a_sentence():
    net = tiny()
    for x, words in ((image(1, 9, 8), "divisible by 2"), (image(3, 8, 8), "UNet2D of 1 channels")):
        with pytest.raises(ConfigError, match=words):
            net(x, T)
    with pytest.raises(ConfigError, match="takes no estimate"):
        net(image(1, 8, 8), T, image(1, 8, 8))


def test_the_largest_network_that_is_described_at_all_is_counted_in_a_moment():
    levels = {
        "block_out_channels": (60_000,) * 6,
        "down_block_types": ("AttnDownBlock2D",) * 6,
        "up_block_types": ("AttnUpBlock2D",) * 6,
    }
    started = time.process_time()
    with torch.device("meta"):
        net = UNet2D(**TINY | levels | {"layers_per_block": 8})
    assert parameters(net) > 10**12
    assert time.process_time() - started < 3  # 0.3 s when nothing else is at work
    with pytest.raises(ConfigError, match="more than 48"):
        UNet2D(
            **TINY | {name: value * 2 for name, value in levels.items()} | {"layers_per_block": 8}
        )
