"""The layers of UNet2D: residual block, attention, and the blocks of one level.

Parameter names, shapes and arithmetic equal those of diffusers' UNet2DModel, so its weights load
here; the way there is ours. Images are (B, C, H, W), in either memory format. Without gradients,
layers overwrite what only they hold. Which block stands where is decided in `unet2d.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_hub.nets.blocks import add, conv3x3


def gelu(x: Tensor, inplace: bool = False) -> Tensor:
    """GELU; torch has none in place."""
    return F.gelu(x)


ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "silu": F.silu,
    "swish": F.silu,
    "mish": F.mish,
    "relu": F.relu,
    "gelu": gelu,
}


class Recipe(NamedTuple):
    """What all layers of one network have in common.

    time_dim: features of the time embedding. groups, eps: of every GroupNorm. head_dim: features
    of an attention head; None is one head. scale_shift: the time embedding also scales.
    """

    time_dim: int
    groups: int
    eps: float
    dropout: float
    act: str
    head_dim: int | None
    scale_shift: bool


class TimeEmbedding(nn.Module):
    """t, (B,), as sines and cosines and through two linear layers: (B, time_dim).

    The sines are float32 whatever the weights are, as where the weights were trained: the angles
    of t = 999 are noise in half precision. An odd width ends with a zero.
    """

    def __init__(self, width: int, time_dim: int, freq_shift: float, flip_sin_to_cos: bool):
        super().__init__()
        self.width, self.freq_shift, self.flip = width, freq_shift, flip_sin_to_cos
        self.linear_1 = nn.Linear(width, time_dim)
        self.linear_2 = nn.Linear(time_dim, time_dim)

    def forward(self, t: Tensor) -> Tensor:
        half = self.width // 2
        i = torch.arange(half, dtype=torch.float32, device=t.device)
        frequencies = torch.exp(-math.log(10_000) * i / (half - self.freq_shift))
        angles = t.float()[:, None] * frequencies
        pair = (angles.cos(), angles.sin()) if self.flip else (angles.sin(), angles.cos())
        waves = F.pad(torch.cat(pair, dim=-1), (0, self.width % 2))
        return self.linear_2(F.silu(self.linear_1(waves.to(self.linear_1.weight.dtype))))


class ResnetBlock(nn.Module):
    """(x + conv(act(norm(conv(act(norm(x))) + time)))) / scale, resized on the way if asked."""

    def __init__(
        self,
        dim: int,
        dim_out: int,
        recipe: Recipe,
        scale: float = 1.0,
        resize: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__()
        self.act, self.scale, self.resize = ACTIVATIONS[recipe.act], scale, resize
        self.scale_shift = recipe.scale_shift
        self.norm1 = nn.GroupNorm(recipe.groups, dim, recipe.eps)
        self.conv1 = conv3x3(dim, dim_out)
        self.time_emb_proj = nn.Linear(recipe.time_dim, dim_out * (1 + recipe.scale_shift))
        self.norm2 = nn.GroupNorm(recipe.groups, dim_out, recipe.eps)
        self.dropout = nn.Dropout(recipe.dropout)
        self.conv2 = conv3x3(dim_out, dim_out)
        self.conv_shortcut = nn.Conv2d(dim, dim_out, 1) if dim != dim_out else nn.Identity()

    def forward(self, x: Tensor, act_t: Tensor) -> Tensor:
        """x (B, dim, H, W); act_t (B, time_dim), after the activation that all blocks share."""
        mine = not torch.is_grad_enabled()
        h = self.act(self.norm1(x), inplace=mine)
        if self.resize is not None:
            x, h = self.resize(x), self.resize(h)
        h = self._timed(self.conv1(h), self.time_emb_proj(act_t)[:, :, None, None])
        h = add(self.conv2(self.dropout(self.act(h, inplace=mine))), self.conv_shortcut(x))
        return h if self.scale == 1 else h / self.scale

    def _timed(self, h: Tensor, time: Tensor) -> Tensor:
        """norm2 of h, (B, dim_out, H, W), moved by the time embedding before or after it."""
        if not self.scale_shift:
            return self.norm2(add(h, time))
        scale, shift = time.chunk(2, dim=1)
        return torch.addcmul(shift, self.norm2(h), 1 + scale)


class Attention(nn.Module):
    """(x + attention over all pixels of norm(x)) / scale, by `scaled_dot_product_attention`."""

    def __init__(self, dim: int, recipe: Recipe, groups: int | None, scale: float = 1.0):
        super().__init__()
        self.scale, head_dim = scale, recipe.head_dim or dim
        self.heads = dim // head_dim
        inner = self.heads * head_dim
        self.group_norm = nn.GroupNorm(groups, dim, recipe.eps) if groups else nn.Identity()
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, inner) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(inner, dim))

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.group_norm(x.flatten(2)).mT  # (B, HW, C)
        q, k, v = (
            to(pixels).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, HW, d)
            for to in (self.to_q, self.to_k, self.to_v)
        )
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        # laid out (H, W, C) from here on, as in diffusers: convs round differently otherwise
        out = add(self.to_out(out).mT.unflatten(-1, x.shape[2:]), x)
        return out if self.scale == 1 else out / self.scale


class Downsample(nn.Module):
    """A 3x3 conv of stride 2; padding 0 pads below and on the right alone, as TensorFlow does."""

    def __init__(self, dim: int, padding: int):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, stride=2, padding=padding)

    def forward(self, x: Tensor, act_t: Tensor) -> Tensor:
        return self.conv(x if self.conv.padding[0] else F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest neighbour x2, then a 3x3 conv: no checkerboard (Odena et al. 2016)."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv = conv3x3(dim, dim)

    def forward(self, x: Tensor, act_t: Tensor) -> Tensor:
        return self.conv(doubled(x))


class Level(nn.Module):
    """The residual blocks of one size, and what follows each: attention, or nothing."""

    def __init__(self, resnets: list[nn.Module], attentions: list[nn.Module]):
        super().__init__()
        self.attentions, self.resnets = nn.ModuleList(attentions), nn.ModuleList(resnets)


class DownBlock(Level):
    """Residual blocks (and attentions), then half the size, if there is a `downsamplers`."""

    def __init__(self, resnets: list, attentions: list, resize: nn.Module | None):
        super().__init__(resnets, attentions)
        self.downsamplers = nn.ModuleList([] if resize is None else [resize])

    def forward(self, x: Tensor, act_t: Tensor) -> tuple[Tensor, list[Tensor]]:
        """x after this level, and every state of it for the way up."""
        states = []
        for resnet, attention in zip(self.resnets, self.attentions, strict=True):
            x = attention(resnet(x, act_t))
            states.append(x)
        for resize in self.downsamplers:
            x = resize(x, act_t)
            states.append(x)
        return x, states


class UpBlock(Level):
    """Residual blocks (and attentions) that take back one state each, then twice the size."""

    def __init__(self, resnets: list, attentions: list, resize: nn.Module | None):
        super().__init__(resnets, attentions)
        self.upsamplers = nn.ModuleList([] if resize is None else [resize])

    def forward(self, x: Tensor, states: list[Tensor], act_t: Tensor) -> Tensor:
        """x after this level; the last of `states` are taken off."""
        for resnet, attention in zip(self.resnets, self.attentions, strict=True):
            x = attention(resnet(torch.cat((x, states.pop()), dim=1), act_t))
        for resize in self.upsamplers:
            x = resize(x, act_t)
        return x


class MidBlock(Level):
    """Residual block, attention, residual block, at the smallest size."""

    def forward(self, x: Tensor, act_t: Tensor) -> Tensor:
        before, after = self.resnets
        x = before(x, act_t)
        for attention in self.attentions:
            x = attention(x)
        return after(x, act_t)


def doubled(x: Tensor) -> Tensor:
    """Each pixel four times: (B, C, 2H, 2W)."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def halved(x: Tensor) -> Tensor:
    """The mean of each 2x2 square: (B, C, H/2, W/2)."""
    return F.avg_pool2d(x, 2)
