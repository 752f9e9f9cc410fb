"""The layers again, for training: pixels before channels, fewer passes over memory.

Values and gradients are those of `blocks.py` up to rounding; each layer there asks `pays` and then
calls its function here. In the room: what is done differently, and gradients by hand where
autograd's would cross memory twice as often. Not in the room: the layers as they are to be read
(`blocks.py`), and their copies for drawing (`packed.py`).

Convolutions are a tenth to a fifth faster on images whose pixels come before their channels. What
lost that again was the rest: normalising backwards took twice as long, and attention three times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WHOLE = 256  # pixels up to which a matrix of all pairs is faster than going through it in pieces


def pays(x: Tensor) -> bool:
    """Whether a layer that is given x, (B, C, H, W), should go this way: it learns, pixels first.

    On a GPU, autocast would square, normalise and softmax whole images in float32.
    A compiler fuses by itself, and better what is plain; float16 overflows in some of these sums.
    """
    return _learns(x) and x.stride(1) == 1


def untouched(kind: type[nn.Module], *layers: nn.Module) -> bool:
    """Whether they may be computed without being called: just `kind`, and nobody listens to them.

    An adapter stands in a layer's place; pruning and probes hook themselves to it.
    """
    return all(
        type(m) is kind
        and not (m._forward_hooks or m._forward_pre_hooks)
        and not (m._backward_hooks or m._backward_pre_hooks)
        for m in layers
    )


def _learns(x: Tensor) -> bool:
    followed = torch.compiler.is_compiling() or torch.jit.is_tracing()
    plain = followed or x.dtype == torch.float16
    return torch.is_grad_enabled() and (x.is_cpu or x.is_cuda) and not plain


def laid_out(x: Tensor, training: bool) -> Tensor:
    """x, (B, C, H, W), in the memory format in which a network in training is faster.

    Pixels before channels, but where channels are many and pixels few: there weights outweigh
    images, and it is they whose gradients would have to be turned round.
    """
    if not training or not x.is_cpu or not _learns(x):
        return x  # on a GPU the weights are channels_last, and images follow them
    return x.contiguous() if 4 * x.shape[2:].numel() < x.shape[1] else _pixels_first(x)


def _pixels_first(x: Tensor) -> Tensor:
    # vmap does not know contiguous(memory_format=channels_last), which is the same
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def dropped(x: Tensor, dropout: nn.Dropout) -> Tensor:
    """Dropout of the numbers that a seed drops of x as it usually lies in memory."""
    return _pixels_first(dropout(x.contiguous())) if dropout.training and dropout.p else x


def _again(plain: Callable, ctx: Any, inputs: tuple, grads: Any) -> tuple[Tensor | None, ...]:
    """The gradient by autograd: who differentiates it too must see how all of it came about."""
    wanted = [x for x, needed in zip(inputs, ctx.needs_input_grad, strict=True) if needed]
    found = iter(torch.autograd.grad(plain(*inputs), wanted, grads, create_graph=True))
    return tuple(next(found) if needed else None for needed in ctx.needs_input_grad)


# ---- normalisation ------------------------------------------------------------------------------
def normalised(x: Tensor, gain: Tensor, shift: Tensor | None, silu: bool = False) -> Tensor:
    """x / |x| * gain + shift, then SiLU if wanted; |x| over the channels of each pixel.

    x (B, C, H, W); gain (1 or B, C, 1, 1), and shift, shaped like it, or None for 0.
    """
    return Normalised.apply(x, gain, shift, silu)[0]


def plainly_normalised(x: Tensor, gain: Tensor, shift: Tensor | None, silu: bool) -> Tensor:
    """The same by operations that autograd knows: for gradients of gradients."""
    y = F.normalize(x, dim=1) * gain.to(x.dtype)
    y = y if shift is None else y + shift.to(x.dtype)
    return F.silu(y) if silu else y


class Normalised(torch.autograd.Function):
    """`normalised`; beside its value r = 1 / |x| and what SiLU was given, for the gradient.

    With u = x / |x| and g = gain dy the gradient of x is r (g - u <u, g>): what is left of g at
    right angles to x, since a longer x has the same direction.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, gain: Tensor, shift: Tensor | None, silu: bool) -> tuple[Tensor, ...]:
        total = torch.promote_types(x.dtype, torch.float32)
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=total)
        r = length.clamp_min_(1e-12).reciprocal_().to(x.dtype)
        unit, gain = x * r, gain.to(x.dtype)
        y = unit.mul_(gain) if shift is None else torch.addcmul(shift.to(x.dtype), unit, gain)
        return (F.silu(y), r, y) if silu else (y, r, y.new_empty(0))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, gain, shift, ctx.silu = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, gain, shift, *output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, shift, r, y = ctx.saved_tensors
        if dy is None:
            return None, None, None, None
        if torch.is_grad_enabled():
            return _again(plainly_normalised, ctx, (x, gain, shift, ctx.silu), dy)
        dy = torch.ops.aten.silu_backward(dy, y) if ctx.silu else dy
        u, g = x * r, dy * gain.to(x.dtype)
        along = (u * g).sum(1, keepdim=True)
        axes = [axis for axis, size in enumerate(gain.shape) if size == 1]
        dgain = (dy * u).sum(axes, keepdim=True).to(gain.dtype)
        dshift = None if shift is None else dy.sum(axes, keepdim=True).to(shift.dtype)
        return g.addcmul_(u, along, value=-1).mul_(r), dgain, dshift, None


# ---- attention ----------------------------------------------------------------------------------
def rows(x: Tensor) -> Tensor:
    """(B, C, H, W), channels last in memory, as (B, HW, C): no copy."""
    return x.flatten(2).mT


def image(x: Tensor, like: Tensor) -> Tensor:
    """(B, HW, C) as (B, C, H, W) with the sides of `like`, channels last in memory: no copy."""
    return x.mT.unflatten(2, like.shape[2:])


def linear_attention(
    pixels: Tensor, to_qkv: nn.Conv2d, mem_kv: Tensor, to_out: nn.Conv2d
) -> Tensor:
    """Shen et al. 2018, `blocks.LinearAttention` between its two norms: (B, HW, C) to the same.

    pixels: normalised. mem_kv (2, heads, d, memory); the convolutions are 1x1, as there.

    Once q and k are normalised, nothing but products is left: q (k^T v) W_o, with values
    v = x W_v. Taken as q ((k^T x) W_v W_o), no pixel has values or heads' features of its own.
    """
    features = mem_kv.shape[1:3]  # heads, d
    with torch.autocast(pixels.device.type, enabled=False):  # it would copy for softmax
        w_q, w_k, w_v = to_qkv.weight.flatten(1).to(pixels.dtype).chunk(3)  # (heads d, C)
        w_out = to_out.weight.flatten(1).to(pixels.dtype).T.unflatten(0, features)
        mem_k, mem_v = mem_kv.to(pixels.dtype)  # (heads, d, memory)
        q = F.linear(pixels, w_q).unflatten(-1, features).softmax(dim=-1).flatten(2)
        gathered, k_mem, *_ = Gathered.apply(pixels, w_k, mem_k.flatten(0, 1))
        context = gathered.unflatten(1, features) @ w_v.unflatten(0, features).mT
        context = context + k_mem.unflatten(1, features) @ mem_v.mT  # (B, heads, d_k, d_v)
        out = context @ w_out * features[1] ** -0.5  # (B, heads, d, C)
        return torch.baddbmm(to_out.bias.to(pixels.dtype), q, out.flatten(1, 2))


def plainly_gathered(pixels: Tensor, w_k: Tensor, mem_k: Tensor) -> tuple[Tensor, Tensor]:
    """k^T x, and the memory's share of k, where k = softmax of [mem_k, x W_k] over all pixels.

    pixels (B, HW, C), w_k (hidden, C), mem_k (hidden, memory) -> (B, hidden, C) and
    (B, hidden, memory).
    """
    logits = torch.cat((mem_k.expand(len(pixels), -1, -1), w_k @ pixels.mT), dim=-1)
    k_mem, k = logits.softmax(dim=-1).split((mem_k.shape[1], pixels.shape[1]), dim=-1)
    return k @ pixels, k_mem


class Gathered(torch.autograd.Function):
    """`plainly_gathered`, and for its gradient e = exp(logits - max) and 1 / z, z their sum."""

    generate_vmap_rule = True

    @staticmethod
    def forward(pixels: Tensor, w_k: Tensor, mem_k: Tensor) -> tuple[Tensor, ...]:
        logits = torch.bmm(w_k.expand(len(pixels), -1, -1), pixels.mT)  # (B, hidden, HW)
        top = torch.maximum(logits.amax(-1, keepdim=True), mem_k.amax(-1, keepdim=True))
        e, e_mem = logits.sub_(top).exp_(), (mem_k - top).exp()
        r = 1 / (e.sum(-1, keepdim=True) + e_mem.sum(-1, keepdim=True))
        return (e @ pixels) * r, e_mem * r, e, r

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs, *output)
        ctx.mark_non_differentiable(*output[2:])
        ctx.set_materialize_grads(False)  # of what is kept: zeros that nobody reads

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, ...]:
        pixels, w_k, mem_k, a, k_mem, e, r = ctx.saved_tensors
        given = zip(grads, (a, k_mem), strict=False)
        da, dk_mem = (torch.zeros_like(of) if d is None else d for d, of in given)
        if torch.is_grad_enabled():
            return _again(plainly_gathered, ctx, (pixels, w_k, mem_k), (da, dk_mem))
        mean = (da * a).sum(-1, keepdim=True) + (dk_mem * k_mem).sum(-1, keepdim=True)
        da = da * r
        dlogits = (da @ pixels.mT).sub_(mean * r).mul_(e)
        dpixels = torch.baddbmm(e.mT @ da, dlogits.mT, w_k.expand(len(pixels), -1, -1))
        return dpixels, (dlogits @ pixels).sum(0), (k_mem * (dk_mem - mean)).sum(0)


def attention(pixels: Tensor, to_qkv: nn.Conv2d, mem_kv: Tensor, to_out: nn.Conv2d) -> Tensor:
    """Vaswani et al. 2017, `blocks.Attention` behind its norm: (B, HW, C) to the same.

    pixels: normalised. mem_kv (2, heads, memory, d); the convolutions are 1x1, as there.

    Few pixels meet in one small matrix of all pairs: torch's kernel that never holds it whole
    takes three times as long backwards.
    """
    heads, d = mem_kv.shape[1], mem_kv.shape[3]
    qkv = F.linear(pixels, to_qkv.weight.flatten(1)).unflatten(-1, (3, heads, d))
    q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, HW, d)
    mem_k, mem_v = mem_kv.to(k.dtype).unsqueeze(1).expand(-1, len(q), -1, -1, -1)
    k, v = torch.cat((mem_k, k), dim=-2), torch.cat((mem_v, v), dim=-2)
    if pixels.shape[1] <= WHOLE and pixels.is_cpu:
        with torch.autocast(pixels.device.type, enabled=False):  # as above
            out = (q * d**-0.5 @ k.mT).softmax(dim=-1) @ v
    else:
        out = F.scaled_dot_product_attention(q, k, v)
    return F.linear(out.transpose(1, 2).flatten(2), to_out.weight.flatten(1), to_out.bias)
