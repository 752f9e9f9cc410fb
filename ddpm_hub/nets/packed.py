"""The layers again, for drawing on a CPU: bfloat16, weights packed once, pixels before channels.

What `packed` makes of a network gives the same answers to the precision of bfloat16, in half the
time. It is a copy for inference: it has no gradients, and is neither saved nor trained. In the
room: what a layer does differently. Not in the room: the layers as they are to be read
(`blocks.py`), and when a copy is worth making (`fast.py`).

Three things cost time in a forward pass beside its arithmetic. Every convolution brings its weights
into the order that its kernel wants, anew in each call: here that is done once. Autocast rounds all
weights to bfloat16 in each call: here they are stored so. And attention turns (B, C, H, W) into
sequences and back, softmax over a strided axis: here the channels of a pixel lie side by side all
the way.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_hub.nets import blocks
from ddpm_hub.nets.half import for_drawing
from ddpm_hub.nets.trained import image, rows

LARGEST_LOGIT = 60  # e^60 times 10^12 pixels is within float32's and bfloat16's range
KEPT = 2  # shapes of input for which a convolution's weights stay packed: a batch, and its rest


class Conv2d(nn.Module):
    """A convolution whose weights are in its kernel's own order, for the shapes seen last."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.padding, self.stride, self.dilation = conv.padding, conv.stride, conv.dilation
        self.groups = conv.groups
        self.packs: dict[torch.Size, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        pack = self.packs.get(x.shape)
        if pack is None:
            pack = self.pack(list(x.shape))
            # a new table, so that another thread's call is not disturbed
            self.packs = dict([*self.packs.items(), (x.shape, pack)][-KEPT:])
        return self.call(x, pack)

    def __getstate__(self) -> dict[str, Any]:
        """Without the packs, which nobody but oneDNN can read: a copy makes its own."""
        return self.__dict__ | {"packs": {}}

    @staticmethod
    def fits(conv: nn.Conv2d) -> bool:
        """Whether the kernel knows such an edge: zeros, and how many in numbers."""
        return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)

    @property
    def how(self) -> tuple[tuple[int, int] | int, ...]:
        """What every kernel is told."""
        return self.padding, self.stride, self.dilation, self.groups

    def pack(self, shape: list[int]) -> Tensor:
        """The weights in the order that suits inputs of this shape."""
        return torch._C._nn.mkldnn_reorder_conv2d_weight(self.weight.to_mkldnn(), *self.how, shape)

    def call(self, x: Tensor, pack: Tensor) -> Tensor:
        """The convolution, nothing fused behind it."""
        return torch.ops.mkldnn._convolution_pointwise(
            x, pack, self.bias, *self.how, "none", [], ""
        )


class Downsample(Conv2d):
    """PixelUnshuffle and a 1x1 convolution are one 2x2 convolution of stride 2."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        self.weight = nn.Parameter(conv.weight.view(len(conv.weight), -1, 2, 2))
        self.stride = 2, 2


class Upsample(Conv2d):
    """Doubling each pixel and a 3x3 convolution are one transposed 4x4 convolution of stride 2.

    Four products for each output and not nine: doubled pixels meet sums of weights.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        square = conv.weight.new_ones(1, 1, 2, 2)
        taps = F.conv2d(conv.weight.flip(2, 3).reshape(-1, 1, 3, 3), square, padding=1)
        taps = taps.view(*conv.weight.shape[:2], 4, 4).transpose(0, 1)
        self.weight, self.stride = nn.Parameter(taps.contiguous()), (2, 2)

    @property
    def how(self) -> tuple[tuple[int, int] | int, ...]:
        return self.padding, (0, 0), self.stride, self.dilation, self.groups

    def pack(self, shape: list[int]) -> Tensor:
        return torch.ops.mkldnn._reorder_convolution_transpose_weight(self.weight, *self.how, shape)

    def call(self, x: Tensor, pack: Tensor) -> Tensor:
        return torch.ops.mkldnn._convolution_transpose_pointwise(
            x, pack, self.bias, *self.how, "none", [], ""
        )


class RMSNorm(nn.Module):
    """`blocks.RMSNorm` in one pass less, its constant gain computed once."""

    def __init__(self, norm: blocks.RMSNorm):
        super().__init__()
        self.gain = nn.Parameter(norm.g * norm.root_dim)

    def forward(
        self, x: Tensor, scale_shift: tuple[Tensor, Tensor] | None = None, mine: bool = False
    ) -> Tensor:
        direction = unit(x, mine)
        if scale_shift is None:
            return direction.mul_(self.gain)
        gain, shift = self.gain_and_shift(scale_shift)
        return torch.addcmul(shift, direction, gain)

    def gain_and_shift(
        self, scale_shift: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor | None]:
        """As `blocks.RMSNorm` has it: blocks ask for it where gradients are on."""
        scale, shift = (0, None) if scale_shift is None else scale_shift
        return self.gain * (scale + 1), shift


def unit(x: Tensor, mine: bool = False) -> Tensor:
    """Each pixel of (B, C, H, W) divided by its length; in place if nobody else needs x."""
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min_(1e-12)
    return x.div_(length) if mine else x / length


class LinearAttention(nn.Module):
    """`blocks.LinearAttention` on pixels as rows, (B, HW, C), and without their values.

    Attention that is linear can be multiplied in another order. Values are x W_v, so k^T v is
    (k^T x) W_v: no pixel's values are ever computed. What comes out is q times that, times W_o: so
    is no pixel's (heads * d) features. All heads share each product, and what it says between
    different heads is masked: more arithmetic than a product for each, and no copies.

    Normalised pixels are of length one, so that weights alone say how large a logit can be. Where
    that is small, as `fits` asks, a softmax needs no maximum: it is exp and a division, and for
    keys one of the small (hidden, hidden) product rather than of every pixel.
    """

    def __init__(self, attention: blocks.LinearAttention):
        super().__init__()
        self.heads, self.d = attention.heads, attention.dim_head
        to_q, to_k, to_v = _to_qkv(attention)
        self.to_q, self.to_k = nn.Parameter(to_q), nn.Parameter(to_k)
        self.to_v = nn.Parameter(to_v.T.clone())
        to_out, norm = attention.to_out
        self.to_out = nn.Parameter(to_out.weight.flatten(1).T * self.d**-0.5)
        self.bias, self.norm_out = to_out.bias, RMSNorm(norm)
        same_head = torch.block_diag(*[torch.ones(self.d, self.d)] * self.heads)
        self.register_buffer("same_head", same_head)
        mem_k, mem_v = attention.mem_kv.flatten(1, 2)  # (hidden, 4)
        self.memory = nn.Parameter(mem_k.exp() @ mem_v.T)
        self.memory_sum = nn.Parameter(mem_k.exp().sum(-1, keepdim=True))

    @staticmethod
    def fits(attention: blocks.LinearAttention) -> bool:
        """Whether no exp of a logit, and no sum of them over any image, can overflow."""
        logits = _to_qkv(attention).norm(dim=-1)[:2].max()
        return max(logits, attention.mem_kv[0].abs().max()) < LARGEST_LOGIT

    def forward(self, x: Tensor) -> Tensor:
        pixels = rows(unit(x))
        q = F.linear(pixels, self.to_q).exp_().unflatten(-1, (self.heads, self.d))
        q = q.div_(q.sum(dim=-1, keepdim=True)).flatten(2)
        k = (self.to_k @ pixels.mT).exp_()  # (B, hidden, HW)
        context = torch.baddbmm(self.memory, k @ pixels, self.to_v.expand(len(x), -1, -1))
        context = context.mul_(self.same_head).div_(k.sum(dim=-1, keepdim=True) + self.memory_sum)
        out = torch.baddbmm(self.bias, q, context @ self.to_out)
        return self.norm_out(image(out, like=x))


def _to_qkv(attention: blocks.LinearAttention) -> Tensor:
    """(3, hidden, C): the weights of queries, keys and values, with the norm's gain."""
    norm = attention.norm
    weights = attention.to_qkv.weight.flatten(1) * (norm.g * norm.root_dim).flatten()
    return weights.unflatten(0, (3, -1))


class Attention(nn.Module):
    """`blocks.Attention` on pixels as rows."""

    def __init__(self, attention: blocks.Attention):
        super().__init__()
        self.heads, self.d = attention.heads, attention.dim_head
        self.norm = RMSNorm(attention.norm)
        self.to_qkv, self.to_out = Conv2d(attention.to_qkv), Conv2d(attention.to_out)
        self.mem_kv = attention.mem_kv

    def forward(self, x: Tensor) -> Tensor:
        b = len(x)
        qkv = rows(self.to_qkv(self.norm(x))).view(b, -1, 3, self.heads, self.d)
        q, k, v = qkv.transpose(1, 3).unbind(2)  # (B, heads, HW, d)
        mem_k, mem_v = self.mem_kv.unsqueeze(1).expand(-1, b, -1, -1, -1)
        k, v = torch.cat((mem_k, k), dim=-2), torch.cat((mem_v, v), dim=-2)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(image(out.transpose(1, 2).flatten(2), like=x))


PACKED = {
    nn.Conv2d: Conv2d,
    blocks.RMSNorm: RMSNorm,
    blocks.LinearAttention: LinearAttention,
    blocks.Attention: Attention,
}
RESIZING = {(nn.PixelUnshuffle, nn.Conv2d): Downsample, (nn.Upsample, nn.Conv2d): Upsample}


def _resizes(module: nn.Sequential) -> bool:
    """Whether it is one of RESIZING with just the sizes that `blocks.py` gives them."""
    if tuple(map(type, module)) not in RESIZING:
        return False
    resize, conv = module
    plain = (conv.stride, conv.dilation, conv.groups, conv.padding_mode)
    if plain != ((1, 1), (1, 1), 1, "zeros"):
        return False
    if isinstance(resize, nn.PixelUnshuffle):
        return (resize.downscale_factor, conv.kernel_size, conv.padding) == (2, (1, 1), (0, 0))
    doubles = (resize.size, resize.mode) == (None, "nearest") and resize.scale_factor in (2, (2, 2))
    return doubles and (conv.kernel_size, conv.padding) == ((3, 3), (1, 1))


def packed(net: nn.Module) -> nn.Module:
    """A copy of `net` for inference on the CPU; it takes and gives bfloat16. Needs oneDNN."""
    with torch.no_grad():
        return for_drawing(_replaced(copy.deepcopy(net)))


def _replaced(module: nn.Module) -> nn.Module:
    kind = PACKED.get(type(module))
    if kind is not None and (not hasattr(kind, "fits") or kind.fits(module)):
        return kind(module)
    if isinstance(module, nn.Sequential) and _resizes(module):
        return RESIZING[tuple(map(type, module))](module[1])
    for name, child in module.named_children():
        setattr(module, name, _replaced(child))
    return module
