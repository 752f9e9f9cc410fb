"""UNet2D: the network of Ho et al. 2020 as the Hub has it, under diffusers' names.

The weights of a UNet2DModel load here and its arithmetic is the same to float rounding;
`unet2d_blocks.py` has the layers, `unet2d_arguments.py` what they can be asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ddpm_hub.config_file import plain
from ddpm_hub.errors import ConfigError
from ddpm_hub.nets.network import Network
from ddpm_hub.nets.unet2d_arguments import DOWN, UP, block, check_arguments
from ddpm_hub.nets.unet2d_blocks import (
    ACTIVATIONS,
    Attention,
    DownBlock,
    Downsample,
    MidBlock,
    Recipe,
    ResnetBlock,
    TimeEmbedding,
    UpBlock,
    Upsample,
    doubled,
    halved,
)


class UNet2D(Network):
    """Predicts noise, x0 or v from a noisy image and its timestep.

    The arguments are those of diffusers' UNet2DModel; the defaults are the network that Ho et al.
    2020 trained on CIFAR-10 (appendix B), 35.7 M parameters.

    Args:
        sample_size: side of the images it was trained on, or (height, width); for information,
            since any size that can be halved often enough fits.
        in_channels, out_channels: of the image and of the answer; twice as many in the answer
            for a learned variance.
        center_input_sample: map the input from [0, 1] to [-1, 1].
        freq_shift, flip_sin_to_cos: of the time embedding: frequencies 10000^(-i / (half -
            freq_shift)), sines first unless flipped.
        time_embedding_dim: its features; 4 times the first width if None.
        down_block_types, up_block_types: one for each level, from the outside in and back:
            DownBlock2D, AttnDownBlock2D, ResnetDownsampleBlock2D and their Up.
        mid_block_type: "UNetMidBlock2D", or None for no block in the middle.
        block_out_channels: the width of each level. Each but the last halves the image.
        layers_per_block: residual blocks of a level on the way down; on the way up one more.
        mid_block_scale_factor: what the outputs of the middle's layers are divided by.
        downsample_padding: of the stride-2 convs: 1, or 0 for TensorFlow's.
        downsample_type, upsample_type: "conv" or "resnet", in the blocks with attention.
        dropout: in each residual block, in [0, 1).
        act_fn: silu (or swish), mish, relu or gelu.
        attention_head_dim: channels of an attention head; None: one head.
        norm_num_groups, norm_eps: of GroupNorm.
        attn_norm_num_groups: of that in the middle's attention.
        resnet_time_scale_shift: "default" adds the time embedding, "scale_shift" also scales.
        add_attention: whether there is attention in the middle.
        num_train_timesteps: for information.
        time_embedding_type, class_embed_type, num_class_embeds: only as they are by default.

    Raises:
        ConfigError: an argument that cannot be, from the constructor; an image whose channels
            or sides do not fit, from the call.
    """

    kind = "UNet2D"
    self_condition = False

    def __init__(  # noqa: PLR0913  diffusers' arguments
        self,
        sample_size: int | tuple[int, int] | None = 32,
        in_channels: int = 3,
        out_channels: int = 3,
        center_input_sample: bool = False,
        time_embedding_type: str = "positional",
        time_embedding_dim: int | None = None,
        freq_shift: int = 1,
        flip_sin_to_cos: bool = False,
        down_block_types: tuple[str, ...] = (
            "DownBlock2D",
            "AttnDownBlock2D",
            "DownBlock2D",
            "DownBlock2D",
        ),
        mid_block_type: str | None = "UNetMidBlock2D",
        up_block_types: tuple[str, ...] = (
            "UpBlock2D",
            "UpBlock2D",
            "AttnUpBlock2D",
            "UpBlock2D",
        ),
        block_out_channels: tuple[int, ...] = (128, 256, 256, 256),
        layers_per_block: int = 2,
        mid_block_scale_factor: float = 1,
        downsample_padding: int = 0,
        downsample_type: str = "conv",
        upsample_type: str = "conv",
        dropout: float = 0.0,
        act_fn: str = "silu",
        attention_head_dim: int | None = None,
        norm_num_groups: int = 32,
        attn_norm_num_groups: int | None = None,
        norm_eps: float = 1e-6,
        resnet_time_scale_shift: str = "default",
        add_attention: bool = True,
        class_embed_type: str | None = None,
        num_class_embeds: int | None = None,
        num_train_timesteps: int | None = None,
    ):
        arguments = {k: plain(v) for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__()
        self.config = arguments
        check_arguments(arguments)
        self.channels, self.out_dim = in_channels, out_channels
        self.center_input_sample = center_input_sample
        widths = arguments["block_out_channels"]
        recipe = Recipe(
            time_dim=time_embedding_dim or 4 * widths[0],
            groups=norm_num_groups,
            eps=norm_eps,
            dropout=dropout,
            act=act_fn,
            head_dim=attention_head_dim,
            scale_shift=resnet_time_scale_shift == "scale_shift",
        )
        self.act = ACTIVATIONS[act_fn]
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], recipe.time_dim, freq_shift, flip_sin_to_cos)
        self.down_blocks = nn.ModuleList(_down_blocks(arguments, recipe))
        self.mid_block = _mid_block(arguments, recipe)
        self.up_blocks = nn.ModuleList(_up_blocks(arguments, recipe))
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, widths[0], norm_eps)
        self.conv_out = nn.Conv2d(widths[0], out_channels, 3, padding=1)

    @property
    def downsample_factor(self) -> int:
        """What both sides of an image must be divisible by."""
        return 2 ** (len(self.down_blocks) - 1)

    @classmethod
    def of_channels(cls, channels: int) -> dict[str, int]:
        """The arguments that make a network for images of so many channels."""
        return {"in_channels": channels, "out_channels": channels}

    def forward(self, x: Tensor, time: Tensor, x_self_cond: None = None) -> Tensor:
        """x (B, channels, H, W) in [-1, 1], time (B,) in 0 .. T-1 -> (B, out_dim, H, W)."""
        self._check_image(x)
        if x_self_cond is not None:
            raise ConfigError("x_self_cond was given, but a UNet2D takes no estimate: use a Unet")
        x = 2 * x - 1 if self.center_input_sample else x
        t = self.act(self.time_embedding(time))  # every block begins with it: once is enough

        x = self.conv_in(x)
        states = [x]
        for level in self.down_blocks:
            x, more = level(x, t)
            states += more
        if self.mid_block is not None:
            x = self.mid_block(x, t)
        for level in self.up_blocks:
            x = level(x, states, t)
        return self.conv_out(nn.functional.silu(self.conv_norm_out(x)))


def _down_blocks(arguments: dict[str, Any], recipe: Recipe) -> Iterator[DownBlock]:
    widths, layers = arguments["block_out_channels"], arguments["layers_per_block"]
    before = widths[0]
    for i, (width, name) in enumerate(zip(widths, arguments["down_block_types"], strict=True)):
        attends, resize = block(name, DOWN)
        inputs = [before] + [width] * (layers - 1)
        if i == len(widths) - 1:
            smaller = None
        elif (resize or arguments["downsample_type"]) == "conv":
            smaller = Downsample(width, arguments["downsample_padding"])
        else:
            smaller = ResnetBlock(width, width, recipe, resize=halved)
        yield DownBlock(*_layers(inputs, width, attends, recipe), smaller)
        before = width


def _up_blocks(arguments: dict[str, Any], recipe: Recipe) -> Iterator[UpBlock]:
    """Each takes the states of its level, and one of the level above, which is as wide as that."""
    widths, layers = arguments["block_out_channels"][::-1], arguments["layers_per_block"]
    before = widths[0]
    for i, (width, name) in enumerate(zip(widths, arguments["up_block_types"], strict=True)):
        attends, resize = block(name, UP)
        above = widths[min(i + 1, len(widths) - 1)]
        kept = [width] * layers + [above]
        inputs = [kept[0] + before] + [state + width for state in kept[1:]]
        if i == len(widths) - 1:
            larger = None
        elif (resize or arguments["upsample_type"]) == "conv":
            larger = Upsample(width)
        else:
            larger = ResnetBlock(width, width, recipe, resize=doubled)
        yield UpBlock(*_layers(inputs, width, attends, recipe), larger)
        before = width


def _layers(
    inputs: list[int], width: int, attends: bool, recipe: Recipe
) -> tuple[list[nn.Module], list[nn.Module]]:
    """The residual blocks from these widths to `width`, and what follows each of them."""
    resnets = [ResnetBlock(dim, width, recipe) for dim in inputs]
    attentions = [Attention(width, recipe, recipe.groups) if attends else nn.Identity()
                  for _ in inputs]  # fmt: skip
    return resnets, attentions


def _mid_block(arguments: dict[str, Any], recipe: Recipe) -> MidBlock | None:
    if arguments["mid_block_type"] is None:
        return None
    width, scale = arguments["block_out_channels"][-1], arguments["mid_block_scale_factor"]
    groups = arguments["attn_norm_num_groups"] or (None if recipe.scale_shift else recipe.groups)
    attention = Attention(width, recipe, groups, scale)
    resnets = [ResnetBlock(width, width, recipe, scale) for _ in range(2)]
    return MidBlock(resnets, [attention] if arguments["add_attention"] else [])
