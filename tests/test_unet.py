"""Unet: the golden file's numbers, any dtype and layout, classes, and what it refuses.

Over 300 lines, since a test file mirrors its module and most of these are tables of cases.
"""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from peers import fill, wave
from support import TRAINER, UNET_FORWARD, assert_like_golden, parameters, tiny_unet

from ddpm_hub import Unet
from ddpm_hub.errors import ConfigError

T2 = torch.tensor([3, 700])


def golden_unet(name):
    return fill(Unet(**UNET_FORWARD[name]["kwargs"])).eval()  # lists, as JSON has them


def golden_time(name):
    """The fourier network was asked at 0.1 and 0.7, which its record does not say."""
    return torch.tensor([0.1, 0.7] if name == "u5_fourier" else UNET_FORWARD[name]["t"])


@pytest.mark.parametrize("name", UNET_FORWARD)
@torch.no_grad()
def test_a_forward_equals_the_golden_file(name):
    record = UNET_FORWARD[name]
    batch, _, *size = record["out"]["shape"]
    x = wave(batch, record["kwargs"]["channels"], *size)
    assert_like_golden(golden_unet(name)(x, golden_time(name)), record["out"], atol=1e-5)


@torch.no_grad()
def test_self_conditioning_is_concatenated_before_the_image():
    x = wave(2, 1, 8, 8)
    got = golden_unet("u4_selfcond")(x, T2, 0.5 * x)
    assert_like_golden(got, UNET_FORWARD["u4_selfcond"]["out_with_sc"], atol=1e-5)


@torch.no_grad()
def test_no_self_condition_means_zeros():
    net, x = golden_unet("u4_selfcond"), wave(2, 1, 8, 8)
    assert torch.equal(net(x, T2), net(x, T2, torch.zeros_like(x)))


@pytest.mark.parametrize("name", UNET_FORWARD)
def test_parameter_count_and_state_dict_length_equal_the_reference(name):
    net, record = golden_unet(name), UNET_FORWARD[name]
    assert (parameters(net), len(net.state_dict())) == (record["params"], record["n_keys"])


@pytest.mark.parametrize(
    ("dim", "mults", "channels", "count", "keys"),
    [
        (64, (1, 2, 4, 8), 3, 35_711_491, 245),
        (32, (1, 2, 4), 1, 2_607_681, 193),
        (64, (1, 2, 4), 1, 9_898_113, 193),
        (32, (1, 2, 4, 8), 3, 9_199_363, 245),
        (128, (1, 2, 2, 2), 3, 28_537_347, 245),
        (16, (1, 2), 1, 240_401, 141),
    ],
)
def test_sizes_that_people_know_have_the_reference_parameter_counts(
    dim, mults, channels, count, keys
):
    with torch.device("meta"):
        net = Unet(dim, dim_mults=mults, channels=channels)
    assert (parameters(net), len(net.state_dict())) == (count, keys)


def test_submodules_are_registered_in_the_reference_order():
    seen = dict.fromkeys(name.split(".")[0] for name in tiny_unet().state_dict())
    assert list(seen) == [
        *("init_conv", "time_mlp", "downs", "ups", "mid_block1", "mid_attn", "mid_block2"),
        *("final_res_block", "final_conv"),
    ]


@pytest.mark.parametrize("which", ["model", "ema"])
@torch.no_grad()
def test_weights_of_the_reference_trainer_load_strictly_and_give_its_outputs(which):
    saved = torch.load(TRAINER / "model-1.pt", weights_only=True)
    prefix = "model." if which == "model" else "ema_model.model."
    state = saved[which]
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    net = Unet(8, dim_mults=(1, 2, 4), channels=1).eval()
    net.load_state_dict(weights, strict=True)
    want = np.load(TRAINER / "reference.npz")
    got = net(torch.from_numpy(want["x"]), torch.from_numpy(want["t"]))
    torch.testing.assert_close(got, torch.from_numpy(want[f"out_{which}"]), atol=1e-5, rtol=0)


def test_c4_full_attn_false_is_linear_attention_in_every_level():
    net = Unet(8, dim_mults=(1, 2, 2), channels=1, full_attn=False)
    levels = [*(d[2] for d in net.downs), *(u[2] for u in net.ups)]
    assert {type(level).__name__ for level in levels} == {"LinearAttention"}


def test_c4_a_list_of_full_attn_is_read_level_by_level():
    def kinds(full_attn):
        net = Unet(8, dim_mults=(1, 2, 2), channels=1, full_attn=full_attn)
        down = [type(d[2]).__name__ == "Attention" for d in net.downs]
        up = [type(u[2]).__name__ == "Attention" for u in net.ups]
        assert up == down[::-1]
        return down

    assert kinds([False, False, False]) == [False, False, False]
    assert kinds([True, False, False]) == kinds((True, False, False)) == [True, False, False]
    assert kinds(True) == [True, True, True]
    assert kinds(None) == [False, False, True]


def test_lists_are_taken_wherever_tuples_are():
    arguments = {"dim_mults": (1, 2), "attn_heads": (2, 4), "attn_dim_head": (8, 16)}
    as_tuples = Unet(8, channels=1, **arguments)
    as_lists = Unet(8, channels=1, **{k: list(v) for k, v in arguments.items()})
    as_lists.load_state_dict(as_tuples.state_dict(), strict=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@torch.no_grad()
def test_c15_double_half_and_bfloat16_follow_the_dtype(dtype):
    net, x = tiny_unet(), wave(2, 1, 8, 8)
    want = net(x, T2)
    got = net.to(dtype)(x.to(dtype), T2)
    assert got.dtype == dtype
    atol = {torch.float64: 1e-6, torch.float16: 1e-2, torch.bfloat16: 5e-2}[dtype]
    torch.testing.assert_close(got.float(), want, atol=atol, rtol=0)


@pytest.mark.parametrize("kwargs", [{"random_fourier_features": True}, {"self_condition": True}])
@torch.no_grad()
def test_c15_the_other_time_embedding_and_self_conditioning_follow_the_dtype_too(kwargs):
    net, x = tiny_unet(**kwargs), wave(2, 1, 8, 8)
    t = torch.tensor([0.1, 0.7])
    want, got = net(x, t), net.double()(x.double(), t)
    torch.testing.assert_close(got.float(), want, atol=1e-5, rtol=0)


@torch.no_grad()
def test_float16_does_not_overflow_where_float32_does_not():
    net, x = tiny_unet(), 300 * wave(2, 1, 8, 8)
    assert net.half()(x.half(), T2).isfinite().all()


def test_gradients_in_double_agree_with_finite_differences():
    torch.manual_seed(0)
    net = Unet(4, dim_mults=(1, 2), channels=1, attn_dim_head=4, attn_heads=1).double()
    x = torch.randn(1, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: net(x, torch.tensor([5])), (x,), fast_mode=True)


@torch.no_grad()
def test_channels_last_gives_the_same_numbers():
    net, x = fill(Unet(8, dim_mults=(1, 2, 4), channels=3)).eval(), wave(2, 3, 16, 16)
    want = net(x, T2)
    net = net.to(memory_format=torch.channels_last)
    got = net(x.to(memory_format=torch.channels_last), T2)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


@torch.no_grad()
def test_bfloat16_autocast_with_channels_last_stays_within_two_percent_of_float32():
    torch.manual_seed(0)
    net, x = Unet(8, dim_mults=(1, 2, 4), channels=3).eval(), wave(2, 3, 16, 16)
    want = net(x, T2)
    net = net.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        got = net(x.to(memory_format=torch.channels_last), T2)
    assert (got.float() - want).square().mean().sqrt() < 0.02 * want.std()


def test_every_parameter_gets_a_gradient_under_bfloat16_autocast():
    net = tiny_unet().train()
    with torch.autocast("cpu", torch.bfloat16):
        net(wave(2, 1, 8, 8), T2).float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@torch.no_grad()
def test_non_square_images_keep_their_shape():
    net = fill(Unet(8, dim_mults=(1, 2, 4), channels=2)).eval()
    assert net(wave(1, 2, 8, 20), T2[:1]).shape == (1, 2, 8, 20)


@torch.no_grad()
def test_pictures_of_a_batch_do_not_touch_each_other():
    net, x = tiny_unet(), wave(2, 1, 8, 8)
    together = net(x, T2)
    apart = torch.cat([net(x[i : i + 1], T2[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_pickle_round_trip_and_a_deep_copy_give_the_same_network():
    net, x = tiny_unet(), wave(2, 1, 8, 8)
    for twin in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert torch.equal(twin(x, T2), net(x, T2))


@torch.no_grad()
def test_torch_save_of_the_whole_network_round_trips():
    buffer = io.BytesIO()
    torch.save(tiny_unet(), buffer)
    buffer.seek(0)
    twin = torch.load(buffer, weights_only=False)
    assert torch.equal(twin(wave(2, 1, 8, 8), T2), tiny_unet()(wave(2, 1, 8, 8), T2))


@torch.no_grad()
def test_torch_compile_takes_the_network_whole_with_no_graph_break():
    torch._dynamo.reset()
    net = fill(Unet(4, dim_mults=(1, 2), channels=1, attn_dim_head=4, attn_heads=2)).eval()
    x = wave(2, 1, 8, 8)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, T2), net(x, T2), atol=1e-5, rtol=0)


def test_dropout_acts_in_training_in_the_first_half_of_each_block_only():
    net, x = tiny_unet(dropout=0.5), wave(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(net(x, T2), net(x, T2))
        net.train()
        assert not torch.equal(net(x, T2), net(x, T2))
    rates = {n: m.p for n, m in net.named_modules() if isinstance(m, torch.nn.Dropout)}
    assert {p for n, p in rates.items() if "block1." in f"{n}." and p} == {0.5}
    assert all(p == 0 for n, p in rates.items() if n.endswith("block2.dropout"))


@torch.no_grad()
def test_learned_variance_doubles_the_output_and_out_dim_overrides_it():
    x = wave(2, 1, 8, 8)
    assert tiny_unet(learned_variance=True)(x, T2).shape == (2, 2, 8, 8)
    assert tiny_unet(out_dim=5)(x, T2).shape == (2, 5, 8, 8)
    assert tiny_unet(out_dim=5).out_dim == 5


@torch.no_grad()
def test_classes_change_the_answer_and_none_means_any():
    torch.manual_seed(0)
    net, x = Unet(8, dim_mults=(1, 2), channels=1, num_classes=3).eval(), wave(2, 1, 8, 8)
    zero, one = (net(x, T2, classes=torch.tensor([c, c])) for c in (0, 1))
    any_class = net(x, T2)
    assert not torch.allclose(zero, one)
    assert not torch.allclose(zero, any_class)
    mixed = net(x, T2, classes=torch.tensor([0, 1]))
    torch.testing.assert_close(mixed, torch.stack([zero[0], one[1]]), atol=1e-5, rtol=0)


def test_training_hides_labels_as_often_as_cond_drop_prob_says():
    x = wave(2, 1, 8, 8)
    labels = torch.tensor([0, 1])
    with torch.no_grad():
        torch.manual_seed(0)
        always = Unet(8, dim_mults=(1, 2), channels=1, num_classes=2, cond_drop_prob=1.0)
        assert torch.equal(always.train()(x, T2, classes=labels), always(x, T2))
        assert not torch.equal(always.eval()(x, T2, classes=labels), always(x, T2))
        never = Unet(8, dim_mults=(1, 2), channels=1, num_classes=2, cond_drop_prob=0.0).train()
        assert torch.equal(never(x, T2, classes=labels), never.eval()(x, T2, classes=labels))


def test_a_network_without_classes_has_the_reference_keys_alone():
    plain, classy = tiny_unet(), tiny_unet(num_classes=3)
    extra = set(classy.state_dict()) - set(plain.state_dict())
    assert extra
    assert all("class" in key for key in extra)


GOOD = {"dim": 8, "dim_mults": (1, 2), "channels": 1}


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ({"dim": 7}, ["7", "odd", "8"]),
        ({"dim": 2}, ["2", "4"]),
        ({"dim": 0}, ["0", "4"]),
        ({"dim": -8}, ["-8"]),
        ({"dim": 8.5}, ["8.5"]),
        ({"dim": "8"}, ["8"]),
        ({"dim": True}, ["True"]),
        ({"dim": 10**9}, ["1000000000"]),
        ({"dim_mults": ()}, ["dim_mults", "(1, 2, 4, 8)"]),
        ({"dim_mults": 3}, ["dim_mults", "3"]),
        ({"dim_mults": (1, 0)}, ["dim_mults", "0"]),
        ({"dim_mults": (1, 1.5)}, ["dim_mults", "1.5"]),
        ({"dim_mults": (1,) * 40}, ["dim_mults"]),
        ({"channels": 0}, ["channels", "0"]),
        ({"init_dim": 0}, ["init_dim", "0"]),
        ({"out_dim": -1}, ["out_dim", "-1"]),
        ({"dropout": 1.5}, ["dropout", "1.5"]),
        ({"dropout": float("nan")}, ["dropout", "nan"]),
        ({"attn_heads": 0}, ["attn_heads", "0"]),
        ({"attn_heads": (4, 4, 4)}, ["attn_heads", "3", "2"]),
        ({"attn_dim_head": []}, ["attn_dim_head", "0", "2"]),
        ({"full_attn": (True,)}, ["full_attn", "1", "2"]),
        ({"full_attn": "yes"}, ["full_attn", "yes"]),
        ({"num_classes": 0}, ["num_classes", "0"]),
        ({"num_classes": 3, "cond_drop_prob": 1.1}, ["cond_drop_prob", "1.1"]),
        ({"learned_sinusoidal_dim": 0}, ["learned_sinusoidal_dim", "0"]),
        (
            {"learned_sinusoidal_dim": 15, "learned_sinusoidal_cond": True},
            ["learned_sinusoidal_dim", "15"],
        ),
        ({"sinusoidal_pos_emb_theta": 0}, ["sinusoidal_pos_emb_theta", "0"]),
        ({"sinusoidal_pos_emb_theta": "x"}, ["sinusoidal_pos_emb_theta", "x"]),
        ({"sinusoidal_pos_emb_theta": float("nan")}, ["sinusoidal_pos_emb_theta", "nan"]),
        ({"self_condition": "no"}, ["self_condition", "no"]),
    ],
)
def test_a_constructor_argument_that_cannot_be_is_refused_in_a_sentence(arguments, fragments):
    with pytest.raises(ConfigError) as caught:
        Unet(**GOOD | arguments)
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "fragments"),
    [
        ((2, 1, 30, 32), ["30", "4", "28", "32"]),
        ((2, 1, 32, 31), ["31", "4", "28", "32"]),
        ((2, 3, 32, 32), ["3", "1"]),
        ((1, 32, 32), ["(1, 32, 32)"]),
    ],
)
def test_an_image_that_does_not_fit_is_refused_in_a_sentence(shape, fragments):
    net = Unet(8, dim_mults=(1, 2, 2), channels=1)
    with pytest.raises(ConfigError) as caught:
        net(torch.zeros(shape), torch.zeros(shape[0], dtype=torch.long))
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_a_network_without_classes_refuses_labels_rather_than_ignore_them():
    with pytest.raises(ConfigError, match="num_classes"):
        tiny_unet()(wave(2, 1, 8, 8), T2, classes=torch.tensor([0, 1]))


def test_one_label_for_two_images_is_refused_in_a_sentence():
    with pytest.raises(ConfigError, match=r"1\b.*2"):
        tiny_unet(num_classes=3)(wave(2, 1, 8, 8), T2, classes=torch.tensor([0]))
