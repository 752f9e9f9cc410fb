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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_hub.errors import ConfigError
from ddpm_hub.nets import blocks

DTYPE = torch.bfloat16
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
            pack = self._packed(x.shape)
        return torch.ops.mkldnn._convolution_pointwise(
            *(x, pack, self.bias, self.padding, self.stride, self.dilation, self.groups),
            *("none", [], ""),  # nothing is fused behind it
        )

    def _packed(self, shape: torch.Size) -> Tensor:
        while len(self.packs) >= KEPT:
            del self.packs[next(iter(self.packs))]
        pack = torch._C._nn.mkldnn_reorder_conv2d_weight(
            *(self.weight.to_mkldnn(), self.padding, self.stride, self.dilation, self.groups),
            list(shape),
        )
        self.packs[shape] = pack
        return pack


class Downsample(Conv2d):
    """PixelUnshuffle and a 1x1 convolution are one 2x2 convolution of stride 2."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        self.weight = nn.Parameter(conv.weight.view(len(conv.weight), -1, 2, 2))
        self.stride = 2, 2


class Upsample(nn.Module):
    """Doubling each pixel and a 3x3 convolution are one transposed 4x4 convolution of stride 2.

    Four products for each output and not nine: doubled pixels meet sums of weights.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        square = conv.weight.new_ones(1, 1, 2, 2)
        taps = F.conv2d(conv.weight.flip(2, 3).reshape(-1, 1, 3, 3), square, padding=1)
        self.weight = nn.Parameter(taps.view(*conv.weight.shape[:2], 4, 4).transpose(0, 1))
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=1)


class RMSNorm(nn.Module):
    """`blocks.RMSNorm` in one pass less, its constant gain computed once."""

    def __init__(self, norm: blocks.RMSNorm):
        super().__init__()
        self.gain = nn.Parameter(norm.g * norm.root_dim)

    def forward(
        self, x: Tensor, scale_shift: tuple[Tensor, Tensor] | None = None, mine: bool = False
    ) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min_(1e-12)
        unit = x.div_(length) if mine else x / length
        if scale_shift is None:
            return unit.mul_(self.gain)
        scale, shift = scale_shift
        return torch.addcmul(shift, unit, self.gain * (scale + 1))


class LinearAttention(nn.Module):
    """`blocks.LinearAttention` on pixels as rows: (B, HW, heads * d) throughout.

    All heads share one product of (hidden, HW) and (HW, hidden): what it says between different
    heads is masked. That is more arithmetic than a product for each head, and no copies.
    """

    def __init__(self, attention: blocks.LinearAttention):
        super().__init__()
        self.heads, self.d = attention.heads, attention.dim_head
        self.norm = RMSNorm(attention.norm)
        self.to_qkv = Conv2d(attention.to_qkv)
        out, norm = attention.to_out
        self.to_out = nn.Sequential(Conv2d(out), RMSNorm(norm))
        memory = attention.mem_kv.permute(0, 3, 1, 2).flatten(2)  # (2, 4, heads * d)
        self.mem_k, self.mem_v = (nn.Parameter(one.clone()) for one in memory)
        same = torch.block_diag(*[torch.ones(self.d, self.d)] * self.heads)
        self.register_buffer("same_head", same * self.d**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        b, _, height, width = x.shape
        q, k, v = rows(self.to_qkv(self.norm(x))).chunk(3, dim=-1)
        peak = torch.maximum(k.amax(1, keepdim=True), self.mem_k.amax(0))
        k, mem_k = (k - peak).exp_(), (self.mem_k - peak).exp_()
        total = k.sum(1, dtype=torch.float32) + mem_k.sum(1, dtype=torch.float32)
        context = torch.baddbmm(mem_k.mT @ self.mem_v, k.mT, v)  # (B, hidden of k, hidden of v)
        context = (context / total[:, :, None]).to(DTYPE).mul_(self.same_head)
        q = q.reshape(b, -1, self.heads, self.d).softmax(dim=-1).view(b, -1, q.shape[-1])
        return self.to_out(image(q @ context, height, width))


class Attention(nn.Module):
    """`blocks.Attention` on pixels as rows."""

    def __init__(self, attention: blocks.Attention):
        super().__init__()
        self.heads, self.d = attention.heads, attention.dim_head
        self.norm = RMSNorm(attention.norm)
        self.to_qkv, self.to_out = Conv2d(attention.to_qkv), Conv2d(attention.to_out)
        self.mem_kv = attention.mem_kv

    def forward(self, x: Tensor) -> Tensor:
        b, _, height, width = x.shape
        qkv = rows(self.to_qkv(self.norm(x))).view(b, -1, 3, self.heads, self.d)
        q, k, v = qkv.transpose(1, 3).unbind(2)  # (B, heads, HW, d)
        mem_k, mem_v = self.mem_kv.unsqueeze(1).expand(-1, b, -1, -1, -1)
        k, v = torch.cat((mem_k, k), dim=-2), torch.cat((mem_v, v), dim=-2)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(image(out.transpose(1, 2).flatten(2), height, width))


def rows(x: Tensor) -> Tensor:
    """(B, C, H, W), channels last in memory, as (B, HW, C): no copy."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def image(x: Tensor, height: int, width: int) -> Tensor:
    """(B, HW, C) as (B, C, H, W), channels last in memory: no copy."""
    return x.unflatten(1, (height, width)).permute(0, 3, 1, 2)


PACKED = {
    nn.Conv2d: Conv2d,
    blocks.RMSNorm: RMSNorm,
    blocks.LinearAttention: LinearAttention,
    blocks.Attention: Attention,
}
RESIZING = {(nn.PixelUnshuffle, nn.Conv2d): Downsample, (nn.Upsample, nn.Conv2d): Upsample}


def packed(net: nn.Module) -> nn.Module:
    """A copy of `net` for inference on the CPU; it takes and gives bfloat16. Needs oneDNN."""
    with torch.no_grad():
        twin = _replaced(copy.deepcopy(net))
    twin.register_state_dict_pre_hook(_refuse)
    return twin.to(DTYPE).eval().requires_grad_(False)


def _refuse(*_: object) -> None:
    raise ConfigError("this copy of a network is for drawing: save the one that it was made of")


def _replaced(module: nn.Module) -> nn.Module:
    if type(module) in PACKED:
        return PACKED[type(module)](module)
    if isinstance(module, nn.Sequential) and tuple(map(type, module)) in RESIZING:
        return RESIZING[tuple(map(type, module))](module[1])
    for name, child in module.named_children():
        setattr(module, name, _replaced(child))
    return module
