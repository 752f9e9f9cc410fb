"""Fast copies of networks: that they agree, what is chosen, and that nobody saves one."""

import copy
import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support import needs_bf16
from torch import nn
from torch.nn import functional as F

from ddpm_hub import GaussianDiffusion, Unet, UNet2D, fast, runtime
from ddpm_hub.errors import ConfigError
from ddpm_hub.nets import blocks
from ddpm_hub.nets import packed as layers
from ddpm_hub.nets.half import half
from ddpm_hub.nets.packed import packed

SMALL = {"dim": 16, "dim_mults": (1, 2, 2), "channels": 3}
NETS = {
    "plain": lambda: Unet(**SMALL),
    "grey, odd heads": lambda: Unet(dim=16, dim_mults=(1, 2), channels=1, attn_heads=(1, 3)),
    "full attention": lambda: Unet(**SMALL, full_attn=True),
    "linear attention": lambda: Unet(**SMALL, full_attn=False),
    "learned variance": lambda: Unet(**SMALL, learned_variance=True),
    "self-conditioned": lambda: Unet(**SMALL, self_condition=True),
    "with classes": lambda: Unet(**SMALL, num_classes=4),
    "fourier": lambda: Unet(**SMALL, random_fourier_features=True),
    "UNet2D": lambda: UNet2D(
        sample_size=16,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ),
    "UNet2D, padding 0": lambda: UNet2D(
        sample_size=16,
        block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        downsample_padding=0,
    ),
}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "ddpm_hub" / "runtimes.json"


def seeded(make):
    torch.manual_seed(0)
    return make().eval()


@pytest.mark.parametrize("name", NETS)
@needs_bf16
@torch.no_grad()
def test_a_packed_copy_agrees_with_its_network(name):
    net = seeded(NETS[name])
    copied = packed(net)
    for batch in (1, 3, 1, 2, 1):  # weights are packed for a shape: others come between
        x, t = torch.randn(batch, net.channels, 16, 16), torch.randint(1000, (batch,))
        said, want = copied(x.bfloat16(), t).float(), net(x, t)
        assert (said - want).norm() < 2e-2 * want.norm()


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_a_copy_in_half_precision_agrees_with_its_network(name):
    net = seeded(NETS[name])
    x, t = torch.randn(3, net.channels, 16, 16), torch.randint(1000, (3,))
    said, want = half(net)(x.bfloat16(), t), net(x, t)
    assert said.dtype == torch.bfloat16
    assert (said.float() - want).norm() < 2e-2 * want.norm()


@needs_bf16
def test_a_compiled_copy_draws_nearly_the_same_pictures():
    no_compiler = shutil.which("c++") is None  # then what was traced is run as it stands
    net = seeded(lambda: Unet(dim=8, dim_mults=(1,), channels=1))  # compiling takes its time
    diffusion = GaussianDiffusion(net, image_size=8, timesteps=50)
    asked = {"steps": 3, "seed": 3, "progress": False}
    with torch._dynamo.config.patch(suppress_errors=no_compiler):
        quick = diffusion.accelerated("compiled", batch_size=2)
        assert 0 < (quick.sample(2, **asked) - diffusion.sample(2, **asked)).abs().mean() < 0.02
    assert quick.runtime == ("compiled", "as asked for")


@pytest.mark.parametrize("way", [packed, half])
@pytest.mark.parametrize("kind", ["learned_sinusoidal_cond", "random_fourier_features"])
@needs_bf16
@torch.no_grad()
def test_the_time_is_told_as_exactly_as_half_precision_can(way, kind):
    """Rounded frequencies would be other waves altogether at the end of a chain."""
    net = seeded(lambda: Unet(**SMALL, **{kind: True}))
    net.time_mlp[0].weights.mul_(10)
    net.time_mlp[1].weight[:, 0] = 0  # t itself, beside which its waves are small
    t = torch.tensor([1, 10, 100, 500, 900, 999])
    said, want = way(net).time_mlp(t).float(), net.time_mlp(t)
    assert ((said - want).norm(dim=1) < 1e-2 * want.norm(dim=1)).all()


@needs_bf16
def test_threads_may_draw_batches_of_their_own_with_one_copy():
    net = seeded(NETS["plain"])
    copied, x = packed(net), torch.randn(6, 3, 16, 16).bfloat16()
    times = torch.full((6,), 500)

    @torch.no_grad()
    def draw(batch):
        return [copied(x[:batch], times[:batch]) for _ in range(10)]

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(draw, range(1, 7)))
    for batch, said in enumerate(answers, 1):
        with torch.no_grad():
            want = net(x[:batch].float(), times[:batch])
        assert all((one.float() - want).norm() < 2e-2 * want.norm() for one in said)
    assert len(copied.init_conv.packs) == layers.KEPT


@needs_bf16
@torch.no_grad()
def test_it_reads_labels_and_earlier_estimates_as_its_network_does():
    for name, more in (
        ("with classes", {"classes": torch.tensor([1, 3])}),
        ("self-conditioned", {"x_self_cond": torch.randn(2, 3, 16, 16)}),
    ):
        net = seeded(NETS[name])
        x, t = torch.randn(2, 3, 16, 16), torch.tensor([10, 900])
        small = {k: v if k == "classes" else v.bfloat16() for k, v in more.items()}
        said, want = packed(net)(x.bfloat16(), t, **small).float(), net(x, t, **more)
        assert (said - want).norm() < 2e-2 * want.norm()
        assert (said - want).norm() < (said - net(x, t)).norm()  # it did look


@torch.no_grad()
def test_two_layers_that_became_one_are_equal_in_exact_arithmetic():
    x = torch.randn(2, 6, 5, 7).double()
    conv = torch.nn.Conv2d(6, 4, 3, padding=1).double()
    doubled = conv(F.interpolate(x, scale_factor=2, mode="nearest"))
    one = layers.Upsample(conv)
    said = F.conv_transpose2d(x, one.weight, one.bias, stride=one.stride, padding=one.padding)
    assert (said - doubled).abs().max() < 1e-12
    conv, x = torch.nn.Conv2d(24, 4, 1).double(), torch.randn(2, 6, 4, 8).double()
    one = layers.Downsample(conv)
    assert (
        F.conv2d(x, one.weight, one.bias, stride=one.stride) - conv(F.pixel_unshuffle(x, 2))
    ).abs().max() < 1e-12


def attention_with_logits_of(largest):
    """Linear attention of 8 channels whose weights allow logits of this size."""
    torch.manual_seed(0)
    attention = blocks.LinearAttention(8, heads=2, dim_head=4).double()
    attention.norm.g.uniform_(0.5, 2)
    gained = attention.to_qkv.weight.flatten(1) * attention.norm.g.flatten() * 8**0.5
    attention.to_qkv.weight *= largest / gained.norm(dim=1)[:16].max()
    return attention


@torch.no_grad()
def test_linear_attention_without_maxima_is_equal_in_exact_arithmetic():
    x = torch.randn(2, 8, 5, 6).double()
    for largest in (1, 0.99 * layers.LARGEST_LOGIT):
        attention = attention_with_logits_of(largest)
        assert layers.LinearAttention.fits(attention)
        said, want = layers.LinearAttention(attention)(x), attention(x)
        assert (said - want).abs().max() < 1e-12


@needs_bf16
@torch.no_grad()
def test_linear_attention_whose_exp_could_overflow_keeps_its_maxima():
    net = torch.nn.Sequential(attention_with_logits_of(1000).float())
    copied, x = packed(net), torch.randn(2, 8, 5, 6)
    assert isinstance(copied[0], blocks.LinearAttention)
    assert (copied(x.bfloat16()).float() - net(x)).norm() < 0.2 * net(x).norm()
    net[0].to_qkv.weight /= 1000
    net[0].mem_kv[0] = 61
    assert isinstance(packed(net)[0], blocks.LinearAttention)


@needs_bf16
@torch.no_grad()
def test_the_network_itself_stays_as_it_was():
    net = seeded(NETS["plain"])
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    packed(net)
    assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())


@needs_bf16
@pytest.mark.parametrize("name", NETS)
def test_a_packed_copy_answers_the_same_where_gradients_are_on(name):
    net = seeded(NETS[name])
    copy = packed(net)
    x, t = torch.randn(2, net.channels, 16, 16, dtype=torch.bfloat16), torch.tensor([3, 700])
    answer = copy(x, t)
    assert not answer.requires_grad
    with torch.no_grad():
        want = copy(x, t)
    assert (answer - want).norm() < 0.02 * want.norm()


@needs_bf16
def test_a_process_draws_nearly_the_same_pictures_around_it_and_is_not_saved(tmp_path):
    diffusion = GaussianDiffusion(
        seeded(NETS["with classes"]), image_size=16, timesteps=50, beta_schedule="linear"
    )
    quick = diffusion.accelerated("packed", batch_size=2)
    asked = {"steps": 5, "seed": 3, "progress": False, "classes": [0, 2], "guidance": 2.0}
    ours, theirs = quick.sample(2, **asked), diffusion.sample(2, **asked)
    assert ours.dtype == theirs.dtype == torch.float32
    assert 0 < (ours - theirs).abs().mean() < 0.02
    assert torch.equal(ours, quick.sample(2, **asked))  # the same seed, the same pictures
    with pytest.raises(ConfigError, match="save the one that it was made of"):
        quick.save_pretrained(tmp_path)
    for way in ("eager", "auto", "packed"):
        with pytest.raises(ConfigError, match="this is a 'packed' copy already"):
            quick.accelerated(way)
    diffusion.save_pretrained(tmp_path)
    assert (quick.runtime.runtime, diffusion.runtime.runtime) == ("packed", "eager")


@needs_bf16
def test_auto_measures_once_for_each_kind_of_network_and_batch(own_cache, monkeypatch):
    races = []
    race = fast._race
    monkeypatch.setattr(fast, "_race", lambda *a: races.append(a) or race(*a))
    diffusion = GaussianDiffusion(seeded(NETS["plain"]), image_size=16, timesteps=50)
    chosen = [diffusion.accelerated(batch_size=batch).runtime for batch in (2, 2, 3, 2)]
    assert len(races) == 2 and chosen[0] == chosen[1] == chosen[3]
    assert "a call on 2 images takes eager" in chosen[0].why and "packed" in chosen[0].why
    assert len(json.loads(own_cache.read_text())) == 2
    key = fast._key(diffusion.model, (2, 3, 16, 16))
    for seconds, best in (
        ({"eager": 1.0, "packed": 2.0}, "eager"),
        ({"eager": 2.0, "packed": 1.0}, "packed"),
    ):
        own_cache.write_text(json.dumps({key: seconds}))
        assert diffusion.accelerated(batch_size=2).runtime.runtime == best


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"k": 1}', '{"k": {"eager": "x", "packed": 1.0}}', '{"k": {}}']
)
@needs_bf16
def test_a_damaged_memory_is_measured_anew(own_cache, monkeypatch, text):
    net = seeded(NETS["plain"])
    key = fast._key(net, (1, 3, 16, 16))
    own_cache.parent.mkdir(parents=True)
    own_cache.write_text(text.replace('"k"', f'"{key}"'))
    monkeypatch.setattr(fast, "_race", lambda *_: {"eager": 3.0, "packed": 1.0})
    assert fast.choose(net, (1, 3, 16, 16)).runtime == "packed"
    assert json.loads(own_cache.read_text())[key] == {"eager": 3.0, "packed": 1.0}


class Own(nn.Module):
    """A network of somebody's own, with layers that packing does not know."""

    channels = out_dim = 3
    self_condition = False

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x, t, x_self_cond=None):
        return self.layers(x)


ODD = {
    "circular": lambda: Own(nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular")),
    "same": lambda: Own(nn.Conv2d(3, 3, 3, padding="same")),
    "bilinear": lambda: Own(
        nn.Conv2d(3, 3, 2, stride=2),
        nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(3, 3, 3, padding=1)),
    ),
    "unshuffled by 4": lambda: Own(
        nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 48, 1)), nn.PixelShuffle(4)
    ),
}


@needs_bf16
@torch.no_grad()
@pytest.mark.parametrize("name", ODD)
def test_layers_that_packing_does_not_know_stay_as_they_are(name):
    torch.manual_seed(0)
    net = ODD[name]()
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 700])
    want, said = net(x, t), packed(net)(x.bfloat16(), t).float()
    assert (said - want).norm() < 0.02 * want.norm()


@needs_bf16
def test_a_packed_copy_is_copied_and_its_place_is_its_own():
    diffusion = GaussianDiffusion(seeded(NETS["plain"]), image_size=16, timesteps=50)
    quick = diffusion.accelerated("packed")
    asked = {"steps": 2, "seed": 3, "progress": False}
    want = quick.sample(2, **asked)
    assert torch.equal(copy.deepcopy(quick).sample(2, **asked), want)
    assert torch.equal(pickle.loads(pickle.dumps(quick)).sample(2, **asked), want)
    diffusion.accelerated("half").to("meta")
    assert diffusion.device.type == "cpu"


@needs_bf16
def test_a_network_that_cannot_be_made_fast_is_eager():
    class Reads(Own):
        def forward(self, x, t, x_self_cond=None):
            return self.layers(x)[:, : self.layers[0].out_channels]  # a packed one has no such name

    with pytest.warns(UserWarning, match="runtime 'packed' does not work here"):
        choice = fast.choose(Reads(nn.Conv2d(3, 3, 3, padding=1)), (1, 3, 16, 16))
    assert choice.runtime == "eager"


def test_a_network_without_weights_is_eager():
    assert fast.choose(Own(nn.Identity()), (1, 3, 16, 16)) == ("eager", "it has no weights")


def test_what_cannot_be_is_said():
    net = seeded(NETS["plain"])
    with pytest.raises(ConfigError, match="unknown runtime 'turbo': choose one of"):
        fast.choose(net, (1, 3, 16, 16), "turbo")
    assert fast.choose(net, (1, 3, 16, 16), "eager") == ("eager", "as asked for")
    with pytest.raises(ConfigError, match=r"not for this machine.*float64.*use 'eager'"):
        fast.choose(net.double(), (1, 3, 16, 16), "packed")
    assert fast.choose(net, (1, 3, 16, 16)).runtime == "eager"


def test_a_network_that_takes_long_is_timed_once(monkeypatch):
    calls = []
    seconds = fast._seconds
    monkeypatch.setattr(fast, "_seconds", lambda *a: calls.append(a) or seconds(*a))
    monkeypatch.setattr(fast, "RACED", {"cpu": ("eager", "half")})
    net = seeded(NETS["plain"])
    fast._race(net, (1, 3, 16, 16))
    assert len(calls) == 2 * (1 + fast.ROUNDS)
    calls.clear()
    monkeypatch.setattr(fast, "LONG", 0.0)
    assert fast._race(net, (1, 3, 16, 16)).keys() == {"eager", "half"}
    assert len(calls) == 2 * (1 + 1)


@needs_bf16
def test_a_way_that_fails_is_left_out_of_the_race(monkeypatch):
    """Here a CUDA graph, which no CPU has."""
    net = seeded(NETS["plain"])
    monkeypatch.setitem(fast.RACED, "cpu", ("eager", "graphed"))
    with pytest.warns(UserWarning, match="runtime 'graphed' does not work here"):
        choice = fast.choose(net, (1, 3, 16, 16))
    assert choice.runtime == "eager" and "graphed" not in choice.why
    with pytest.raises(ConfigError, match="weights are on cpu, and 'graphed' is for cuda"):
        fast.choose(net, (1, 3, 16, 16), "graphed")


def test_a_batch_of_nothing_is_refused_before_anything_is_measured():
    diffusion = GaussianDiffusion(seeded(NETS["plain"]), image_size=16, timesteps=50)
    with pytest.raises(ConfigError, match="batch_size 0"):
        diffusion.accelerated(batch_size=0)


def test_on_another_processor_auto_is_eager(monkeypatch):
    monkeypatch.setattr(runtime, "has_bf16", lambda device: False)
    diffusion = GaussianDiffusion(seeded(NETS["plain"]), image_size=16, timesteps=50)
    assert diffusion.accelerated().runtime == ("eager", "this processor has no bfloat16 arithmetic")
    assert diffusion.accelerated("eager") is diffusion
