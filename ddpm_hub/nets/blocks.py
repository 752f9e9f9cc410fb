"""The layers of the U-Net: normalisation, time embedding, residual block, two attentions.

Parameter names, shapes and arithmetic equal those of denoising-diffusion-pytorch 2.3.4, so its
weights load here; the way there is ours. All images are (B, C, H, W), in either memory format.
What decides where each layer stands is in `unet.py`. Without gradients, layers overwrite what only
they hold: to look at features with a forward hook, hook a ResnetBlock, or keep gradients on.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_hub.nets import trained

MEMORY_TOKENS = 4  # learned keys and values that every attention layer sees besides the image


class RMSNorm(nn.Module):
    """y = x / rms(x) * g over the channels of each pixel, then * (1 + scale) + shift if given."""

    def __init__(self, dim: int):
        super().__init__()
        self.root_dim = dim**0.5
        self.g = nn.Parameter(torch.ones(1, dim, 1, 1))

    def forward(
        self, x: Tensor, scale_shift: tuple[Tensor, Tensor] | None = None, mine: bool = False
    ) -> Tensor:
        """x (B, dim, H, W); `mine` says that nobody else needs x, so that it may be overwritten."""
        if trained.pays(x):
            return trained.normalised(x, *self.gain_and_shift(scale_shift))
        # float16 overflows when squared; bfloat16 only needs the sum in float32
        wide = x.float() if x.dtype == torch.float16 else x
        total = torch.promote_types(x.dtype, torch.float32)
        squares = wide.square().sum(1, keepdim=True, dtype=total)
        # 1e-24 under the root is F.normalize's 1e-12 above it
        inverse = squares.clamp_min(1e-24).rsqrt().to(x.dtype)
        gain, shift = self.gain_and_shift(scale_shift)
        gain = gain.to(x.dtype)
        if torch.is_grad_enabled():
            unit = x * inverse
            return unit * gain if shift is None else torch.addcmul(shift.to(x.dtype), unit, gain)
        # in place where nothing is kept for a gradient: memory costs more than arithmetic here
        y = (x.mul_(inverse) if mine else x * inverse).mul_(gain)
        return y if shift is None else y.add_(shift.to(x.dtype))

    def gain_and_shift(
        self, scale_shift: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor | None]:
        """What a direction is multiplied by, and what is added to it."""
        scale, shift = (0, None) if scale_shift is None else scale_shift
        return self.g * self.root_dim * (scale + 1), shift


class SinusoidalPosEmb(nn.Module):
    """Vaswani et al. 2017, section 3.5: [sin(t f), cos(t f)], f geometric from 1 to 1/theta."""

    def __init__(self, dim: int, theta: float = 10000):
        super().__init__()
        self.dim, self.theta = dim, theta

    def forward(self, t: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        half = self.dim // 2
        i = torch.arange(half, device=t.device, dtype=dtype)
        angles = t.to(dtype)[:, None] * torch.exp(i * (-math.log(self.theta) / (half - 1)))
        return torch.cat((angles.sin(), angles.cos()), dim=-1)  # (B, dim)


class RandomOrLearnedSinusoidalPosEmb(nn.Module):
    """[t, sin(2 pi w t), cos(2 pi w t)] with w random and fixed, or learned; (B, dim + 1)."""

    def __init__(self, dim: int, is_random: bool = False):
        super().__init__()
        self.weights = nn.Parameter(torch.randn(dim // 2), requires_grad=not is_random)

    def forward(self, t: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        t = t.to(dtype)[:, None]
        angles = t * self.weights[None].to(dtype) * 2 * math.pi  # angles reach thousands: this
        # order of products is the reference's, another one rounds to other sines
        return torch.cat((t, angles.sin(), angles.cos()), dim=-1)


class TimeMLP(nn.Sequential):
    """Embedding, Linear, GELU, Linear: t, (B,), becomes the vector every block sees, (B, 4 dim).

    The embedding is computed in float32 at least, then follows the weights' dtype: the angles
    of t = 999 are noise in half precision.
    """

    def __init__(self, embedding: nn.Module, dim_in: int, dim_out: int):
        super().__init__(
            embedding, nn.Linear(dim_in, dim_out), nn.GELU(), nn.Linear(dim_out, dim_out)
        )

    def forward(self, t: Tensor) -> Tensor:
        embedding, linear_in, gelu, linear_out = self
        dtype = linear_in.weight.dtype
        angles = embedding(t, torch.promote_types(dtype, torch.float32))
        return linear_out(gelu(linear_in(angles.to(dtype))))


class Block(nn.Module):
    """Conv 3x3, RMSNorm (scaled and shifted by the time embedding), SiLU, dropout."""

    def __init__(self, dim: int, dim_out: int, dropout: float = 0.0):
        super().__init__()
        self.proj = conv3x3(dim, dim_out)
        self.norm = RMSNorm(dim_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, scale_shift: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x = self.proj(x)
        if trained.pays(x) and trained.untouched(RMSNorm, self.norm):
            gain, shift = self.norm.gain_and_shift(scale_shift)
            return trained.dropped(trained.normalised(x, gain, shift, silu=True), self.dropout)
        x = self.norm(x, scale_shift, mine=True)
        return self.dropout(F.silu(x, inplace=not torch.is_grad_enabled()))


class ResnetBlock(nn.Module):
    """x + block2(block1(x, time)): the time embedding scales and shifts the first block only."""

    def __init__(self, dim: int, dim_out: int, time_dim: int, dropout: float = 0.0):
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(time_dim, dim_out * 2))
        self.block1 = Block(dim, dim_out, dropout)
        self.block2 = Block(dim_out, dim_out)
        self.res_conv = nn.Conv2d(dim, dim_out, 1) if dim != dim_out else nn.Identity()

    def forward(self, x: Tensor, silu_t: Tensor) -> Tensor:
        """x (B, dim, H, W); silu_t (B, time_dim), after the SiLU that all blocks share."""
        time = self.mlp[1](silu_t)[:, :, None, None]
        h = self.block2(self.block1(x, time.chunk(2, dim=1)))
        return add(h, self.res_conv(x))


class LinearAttention(nn.Module):
    """Shen et al. 2018: softmax over q's features and k's pixels apart, so cost is linear in HW."""

    def __init__(self, dim: int, heads: int = 4, dim_head: int = 32):
        super().__init__()
        self.heads, self.dim_head = heads, dim_head
        hidden = heads * dim_head
        self.norm = RMSNorm(dim)
        self.mem_kv = nn.Parameter(torch.randn(2, heads, dim_head, MEMORY_TOKENS))
        self.to_qkv = nn.Conv2d(dim, hidden * 3, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(hidden, dim, 1), RMSNorm(dim))

    def forward(self, x: Tensor) -> Tensor:
        if trained.pays(x) and self._untouched():
            pixels, (to_out, norm) = trained.rows(self.norm(x)), self.to_out
            y = trained.linear_attention(pixels, self.to_qkv, self.mem_kv, to_out)
            return norm(trained.image(y, like=x))
        b, _, height, width = x.shape
        qkv = self.to_qkv(self.norm(x)).flatten(2)
        q, k, v = qkv.view(b, 3, self.heads, self.dim_head, -1).unbind(1)  # (B, heads, d, HW)
        mem_k, mem_v = self.mem_kv.to(k.dtype).unsqueeze(1).expand(-1, b, -1, -1, -1)
        k = torch.cat((mem_k, k), dim=-1).softmax(dim=-1)
        v = torch.cat((mem_v, v), dim=-1)
        context = v @ k.mT * self.dim_head**-0.5  # (B, heads, d_v, d_k)
        out = context.to(q.dtype) @ q.softmax(dim=-2).to(q.dtype)
        return self.to_out(out.reshape(b, -1, height, width))

    def _untouched(self) -> bool:
        return trained.untouched(nn.Sequential, self.to_out) and trained.untouched(
            nn.Conv2d, self.to_qkv, self.to_out[0]
        )


class Attention(nn.Module):
    """Vaswani et al. 2017 over all pixels, by `scaled_dot_product_attention`."""

    def __init__(self, dim: int, heads: int = 4, dim_head: int = 32):
        super().__init__()
        self.heads, self.dim_head = heads, dim_head
        hidden = heads * dim_head
        self.norm = RMSNorm(dim)
        self.mem_kv = nn.Parameter(torch.randn(2, heads, MEMORY_TOKENS, dim_head))
        self.to_qkv = nn.Conv2d(dim, hidden * 3, 1, bias=False)
        self.to_out = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        if trained.pays(x) and trained.untouched(nn.Conv2d, self.to_qkv, self.to_out):
            pixels = trained.rows(self.norm(x))
            y = trained.attention(pixels, self.to_qkv, self.mem_kv, self.to_out)
            return trained.image(y, like=x)
        b, _, height, width = x.shape
        qkv = self.to_qkv(self.norm(x)).flatten(2)
        q, k, v = qkv.view(b, 3, self.heads, self.dim_head, -1).mT.unbind(1)  # (B, heads, HW, d)
        mem_k, mem_v = self.mem_kv.to(k.dtype).unsqueeze(1).expand(-1, b, -1, -1, -1)
        k, v = torch.cat((mem_k, k), dim=-2), torch.cat((mem_v, v), dim=-2)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(out.mT.reshape(b, -1, height, width))


def add(fresh: Tensor, x: Tensor) -> Tensor:
    """fresh + x; without gradients in place of `fresh`, which nobody else may hold."""
    return fresh + x if torch.is_grad_enabled() else fresh.add_(x)


def conv3x3(dim: int, dim_out: int) -> nn.Conv2d:
    """Change the width and keep the size: what stands where nothing is resized."""
    return nn.Conv2d(dim, dim_out, 3, padding=1)


def downsample(dim: int, dim_out: int) -> nn.Sequential:
    """Each 2x2 square becomes 4 C channels, mixed to `dim_out`: nothing is thrown away."""
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(dim * 4, dim_out, 1))


def upsample(dim: int, dim_out: int) -> nn.Sequential:
    """Nearest neighbour x2, then a 3x3 conv: no checkerboard (Odena et al. 2016)."""
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv3x3(dim, dim_out))
