"""Unet: the network of denoising-diffusion-pytorch 2.3.4, layer by layer under its names.

Its weights load here and its arithmetic is the same to float rounding; `blocks.py` has the layers.
New are class conditioning (`num_classes`), any dtype, and errors from the constructor.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from ddpm_hub.config_file import plain
from ddpm_hub.errors import ConfigError
from ddpm_hub.nets import trained
from ddpm_hub.nets.arguments import check_arguments, per_level
from ddpm_hub.nets.blocks import (
    Attention,
    LinearAttention,
    RandomOrLearnedSinusoidalPosEmb,
    ResnetBlock,
    SinusoidalPosEmb,
    TimeMLP,
    add,
    conv3x3,
    downsample,
    upsample,
)
from ddpm_hub.nets.network import Network


class Unet(Network):
    """Predicts noise, x0 or v from a noisy image and its timestep.

    Args:
        dim: base width, even and at least 4; the time embedding has 4 * dim features.
        init_dim: width after the 7x7 stem; `dim` if None.
        out_dim: channels of the output; `channels` if None (twice that with learned_variance).
        dim_mults: width of each level as a multiple of `dim`. Each level but the last halves
            the image, so its sides must be divisible by 2 ** (len(dim_mults) - 1).
        channels: channels of the image.
        self_condition: also take the previous estimate of x0 (Chen et al. 2022).
        learned_variance: double the output for Improved DDPM's variance.
        learned_sinusoidal_cond, random_fourier_features, learned_sinusoidal_dim: embed t by
            learned or random frequencies.
        sinusoidal_pos_emb_theta: largest wavelength of the fixed embedding, over 2 pi.
        dropout: in the first half of each residual block, in [0, 1).
        attn_dim_head, attn_heads: one number, or one per level.
        full_attn: True for attention over all pixels, False for linear attention, one switch or
            one per level; None is full attention in the innermost level alone.
        flash_attn: kept for the reference's programs; torch always picks the fastest kernel.
        num_classes: condition on labels 0 .. num_classes - 1.
        cond_drop_prob: how often training hides the label, so that the network also learns to
            do without (Ho & Salimans 2022); in [0, 1].

    Raises:
        ConfigError: an argument that cannot be, from the constructor; an image whose channels
            or sides do not fit, from the call.
    """

    kind = "Unet"

    def __init__(  # noqa: PLR0913  the reference's arguments
        self,
        dim: int,
        init_dim: int | None = None,
        out_dim: int | None = None,
        dim_mults: tuple[int, ...] = (1, 2, 4, 8),
        channels: int = 3,
        self_condition: bool = False,
        learned_variance: bool = False,
        learned_sinusoidal_cond: bool = False,
        random_fourier_features: bool = False,
        learned_sinusoidal_dim: int = 16,
        sinusoidal_pos_emb_theta: float = 10000,
        dropout: float = 0.0,
        attn_dim_head: int | tuple[int, ...] = 32,
        attn_heads: int | tuple[int, ...] = 4,
        full_attn: bool | tuple[bool, ...] | None = None,
        flash_attn: bool = False,
        num_classes: int | None = None,
        cond_drop_prob: float = 0.1,
    ):
        arguments = {k: plain(v) for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__()
        self.config = arguments
        check_arguments(arguments)
        dim_mults = arguments["dim_mults"]
        self.channels, self.self_condition = channels, self_condition
        self.out_dim = out_dim or channels * (2 if learned_variance else 1)
        self.random_or_learned_sinusoidal_cond = learned_sinusoidal_cond or random_fourier_features
        self.num_classes, self.cond_drop_prob = num_classes, cond_drop_prob

        init_dim, time_dim, levels = init_dim or dim, dim * 4, len(dim_mults)
        widths = [init_dim, *(dim * m for m in dim_mults)]
        heads, dim_heads = per_level(attn_heads, levels), per_level(attn_dim_head, levels)
        innermost = (False,) * (levels - 1) + (True,)
        full = innermost if full_attn is None else per_level(full_attn, levels)

        def block(dim_in: int, dim_out: int) -> ResnetBlock:
            return ResnetBlock(dim_in, dim_out, time_dim, dropout)

        def attention(width: int, level: int) -> nn.Module:
            kind = Attention if full[level] else LinearAttention
            return kind(width, heads[level], dim_heads[level])

        self.init_conv = nn.Conv2d(channels * (1 + self_condition), init_dim, 7, padding=3)
        if self.random_or_learned_sinusoidal_cond:
            embedding = RandomOrLearnedSinusoidalPosEmb(
                learned_sinusoidal_dim, random_fourier_features
            )
            self.time_mlp = TimeMLP(embedding, learned_sinusoidal_dim + 1, time_dim)
        else:
            self.time_mlp = TimeMLP(SinusoidalPosEmb(dim, sinusoidal_pos_emb_theta), dim, time_dim)

        # built in the reference's order too, so that the same seed gives the same weights
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, (narrow, wide) in enumerate(pairwise(widths)):
            resize = downsample if level < levels - 1 else conv3x3
            layers = block(narrow, narrow), block(narrow, narrow), attention(narrow, level)
            self.downs.append(nn.ModuleList([*layers, resize(narrow, wide)]))
        middle = widths[-1]
        self.mid_block1 = block(middle, middle)
        self.mid_attn = Attention(middle, heads[-1], dim_heads[-1])
        self.mid_block2 = block(middle, middle)
        for level, (wide, narrow) in zip(
            reversed(range(levels)), pairwise(reversed(widths)), strict=True
        ):
            resize = upsample if level else conv3x3
            both = narrow + wide  # the skip connection comes in
            layers = block(both, wide), block(both, wide), attention(wide, level)
            self.ups.append(nn.ModuleList([*layers, resize(wide, narrow)]))
        self.final_res_block = block(init_dim * 2, init_dim)
        self.final_conv = nn.Conv2d(init_dim, self.out_dim, 1)
        if num_classes is not None:  # one row more: the label that stands for "any"
            self.class_emb = nn.Embedding(num_classes + 1, time_dim)
            nn.init.normal_(self.class_emb.weight, std=0.02)

    @property
    def downsample_factor(self) -> int:
        """What both sides of an image must be divisible by."""
        return 2 ** (len(self.downs) - 1)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        x_self_cond: Tensor | None = None,
        classes: Tensor | None = None,
    ) -> Tensor:
        """x (B, channels, H, W) in [-1, 1], time (B,) in 0 .. T-1 -> (B, out_dim, H, W).

        x_self_cond: an estimate of x0, shaped like x; zeros if None.
        classes: labels, (B,) int64; None means any.
        """
        self._check_image(x)
        if self.self_condition:
            x_self_cond = torch.zeros_like(x) if x_self_cond is None else x_self_cond
            x = torch.cat((x_self_cond, x), dim=1)
        t = self.time_mlp(time)
        if self.num_classes is not None or classes is not None:
            labels = self._labels(classes, x)
            t = t + self.class_emb(labels)
        t = nn.functional.silu(t)  # every block begins with it: once is enough

        # twice: an image of one channel lies both ways, and the convolution would choose the other
        x = self.init_conv(trained.laid_out(x, self.training))
        x = stem = trained.laid_out(x, self.training)
        skips = []
        for block1, block2, attn, resize in self.downs:
            x = block1(x, t)
            skips.append(x)
            x = block2(x, t)
            x = add(attn(x), x)
            skips.append(x)
            x = trained.laid_out(resize(x), self.training)
        x = self.mid_block1(x, t)
        x = add(self.mid_attn(x), x)
        x = self.mid_block2(x, t)
        for block1, block2, attn, resize in self.ups:
            x = block1(torch.cat((x, skips.pop()), dim=1), t)
            x = block2(torch.cat((x, skips.pop()), dim=1), t)
            x = add(attn(x), x)
            x = trained.laid_out(resize(x), self.training)
        return self.final_conv(self.final_res_block(torch.cat((x, stem), dim=1), t))

    def _labels(self, classes: Tensor | None, x: Tensor) -> Tensor:
        if self.num_classes is None:
            raise ConfigError(
                "classes were given, but this Unet has none: build it with num_classes"
            )
        if classes is None:
            return torch.full((len(x),), self.num_classes, device=x.device)
        if classes.shape != (len(x),):
            raise ConfigError(
                f"classes of shape {tuple(classes.shape)} do not fit a batch of {len(x)}: pass one "
                "label for each image"
            )
        if not self.training or self.cond_drop_prob == 0:
            return classes
        hidden = torch.rand(classes.shape, device=classes.device) < self.cond_drop_prob
        return classes.masked_fill(hidden, self.num_classes)
