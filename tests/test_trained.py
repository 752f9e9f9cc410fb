"""The layers as they are trained on a CPU: their values and gradients are those of `blocks.py`."""

import pytest
import torch
from support import needs_bf16
from torch import nn

from ddpm_hub import Unet
from ddpm_hub.nets import blocks, trained

LAYERS = {
    "norm": blocks.RMSNorm,
    "block": lambda dim: blocks.Block(dim, dim),
    "linear attention": lambda dim: blocks.LinearAttention(dim, heads=3, dim_head=5),
    "attention": lambda dim: blocks.Attention(dim, heads=3, dim_head=5),
}
DIM = 6


def seeded(make, *args, **kwargs):
    torch.manual_seed(0)
    module = make(*args, **kwargs).double()
    for weights in module.parameters():
        torch.nn.init.normal_(weights)
    return module


def image(batch=2, size=4, dim=DIM):
    return torch.randn(batch, dim, size, size, dtype=torch.double)


def rows_first(x):
    return x.clone(memory_format=torch.channels_last).requires_grad_()


def gradients(value, inputs):
    return torch.autograd.grad(value.sin().sum(), inputs)  # a different one for each number


def agree(layer, x, *more):
    """Same value, and same gradients of all that has one, in either memory format."""
    plain, fast = x.clone().requires_grad_(), rows_first(x)
    assert trained.pays(fast) and not trained.pays(plain)
    want, said = layer(plain, *more), layer(fast, *more)
    others = [*layer.parameters(), *(m for pair in more for m in pair)]
    torch.testing.assert_close(said, want)
    torch.testing.assert_close(gradients(said, [fast, *others]), gradients(want, [plain, *others]))


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_in_training_has_the_value_and_the_gradients_of_the_plain_one(name):
    agree(seeded(LAYERS[name], DIM), image())


@pytest.mark.parametrize("name", ["norm", "block"])
def test_so_does_one_that_is_scaled_and_shifted_by_the_time(name):
    pair = tuple(torch.randn(2, DIM, 1, 1, dtype=torch.double, requires_grad=True) for _ in "ab")
    agree(seeded(LAYERS[name], DIM), image(), pair)


def test_attention_over_many_pixels_agrees_as_well():
    """From WHOLE pixels on it goes another way."""
    agree(seeded(LAYERS["attention"], DIM), image(1, 17))


def test_a_pixel_without_length_gets_no_gradient_that_is_not_finite():
    norm, x = seeded(blocks.RMSNorm, DIM), image()
    x[0, :, 1, 1] = 0
    x = rows_first(x)
    norm(x).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", LAYERS)
def test_a_gradient_may_be_differentiated_again(name):
    """As for a gradient penalty: by autograd, not by hand, and through frozen weights too."""
    layer, plain = seeded(LAYERS[name], DIM), image()
    for frozen in (False, True):
        layer.requires_grad_(not frozen)
        inputs = [] if frozen else [*layer.parameters()]
        found = []
        for x in (plain.clone().requires_grad_(), rows_first(plain)):
            [grad] = torch.autograd.grad(layer(x).sin().sum(), x, create_graph=True)
            found.append(torch.autograd.grad(grad.square().sum(), [x, *inputs], allow_unused=True))
        for said, want in zip(*reversed(found), strict=True):
            torch.testing.assert_close(said, want)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_each_image_by_itself_can_be_taken(name):
    """torch.func, over a batch of gradients."""
    layer, x = seeded(LAYERS[name], DIM), image(3)
    weights = dict(layer.named_parameters())

    def loss(weights, one):
        one = trained.laid_out(one[None], True)
        assert trained.pays(one)
        return torch.func.functional_call(layer, weights, one).sin().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, x)
    for i in range(3):
        one = torch.autograd.grad(loss(weights, x[i]), [*weights.values()])
        torch.testing.assert_close([found[i] for found in each.values()], [*one])


class Adapter(nn.Module):
    """A layer with something to learn beside it, and, as adapters have, its weight's name."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.extra = layer, nn.Parameter(torch.ones(()))
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x):
        return self.layer(x) * self.extra


@pytest.mark.parametrize("full", [True, False])
def test_adapters_learn_and_hooks_are_called(full):
    torch.manual_seed(0)
    net = Unet(8, dim_mults=(1, 2), channels=2, full_attn=full)
    adapter = net.mid_attn.to_qkv = Adapter(net.mid_attn.to_qkv)
    heard = []
    watched = [m for m in net.modules() if isinstance(m, nn.Conv2d | blocks.RMSNorm)]
    for module in watched:
        module.register_forward_hook(lambda module, *_: heard.append(module))
    x, t = image(2, 8, dim=2).float(), torch.tensor([3, 700])
    [gradient] = gradients(net(x, t), [adapter.extra])
    assert gradient.abs() > 0 and set(heard) == set(watched)


def test_what_stands_in_place_of_an_output_layer_is_called_too():
    layer, x = seeded(LAYERS["linear attention"], DIM), image()
    layer.to_out = Adapter(layer.to_out[0])
    [gradient] = gradients(layer(rows_first(x)), [layer.to_out.extra])
    [want] = gradients(layer(x), [layer.to_out.extra])
    torch.testing.assert_close(gradient, want)


def test_images_of_one_channel_are_laid_out_too():
    """Of one channel, both layouts look alike: the first convolution would answer in the other."""
    net, seen = Unet(8, dim_mults=(1, 2), channels=1), []
    net.downs[0][0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(torch.randn(2, 1, 8, 8), torch.tensor([3, 700]))
    assert trained.pays(seen[0])


def test_a_network_in_training_can_be_traced(tmp_path):
    net, x, t = Unet(8, dim_mults=(1, 2), channels=1), torch.randn(2, 1, 8, 8), torch.tensor([3, 7])
    traced = torch.jit.trace(net, (x, t), check_trace=False)  # what it answers is checked below
    traced.save(str(tmp_path / "traced.pt"))
    torch.testing.assert_close(torch.jit.load(str(tmp_path / "traced.pt"))(x, t), net(x, t))


@pytest.mark.parametrize("full", [True, False])
def test_a_network_in_training_gives_the_gradients_that_it_gives_in_eval(full):
    torch.manual_seed(0)
    net = Unet(8, dim_mults=(1, 2, 8), channels=2, full_attn=full).double()
    x, t = image(2, 8, dim=2), torch.tensor([3, 700])
    weights = [*net.parameters()]
    want, said = net.eval()(x, t), net.train()(x, t)
    assert not torch.equal(said, want)  # another way went round
    torch.testing.assert_close(said, want)
    torch.testing.assert_close(gradients(said, weights), gradients(want, weights))


@needs_bf16
def test_in_bf16_gradients_are_as_near_to_float32_as_the_plain_ones():
    torch.manual_seed(0)
    net = Unet(16, dim_mults=(1, 2), channels=1)
    x, t = torch.randn(4, 1, 16, 16), torch.tensor([3, 200, 500, 900])
    weights = [*net.parameters()]

    def flat(bf16):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = net(x, t).float().square().mean()
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])

    want = flat(False)
    plain = (net.eval() and flat(True) - want).norm() / want.norm()
    fast = (net.train() and flat(True) - want).norm() / want.norm()
    assert 0 < fast < max(1.5 * plain, 2e-2)


def test_the_format_follows_the_size_and_only_while_something_learns():
    many, few = torch.randn(2, 64, 4, 4), torch.randn(2, 65, 4, 4)
    assert trained.pays(trained.laid_out(many, True))
    assert not trained.pays(trained.laid_out(few, True))
    assert trained.laid_out(many, False) is many
    with torch.no_grad():
        assert trained.laid_out(many, True) is many
    half = many.half().contiguous(memory_format=torch.channels_last)
    assert not trained.pays(half)  # its squares overflow
