"""Which arguments a UNet2D can have: each check names the value, the limit and the cure.

They are those of diffusers' UNet2DModel, from whose config.json they may come. What it has for
other kinds of model (Fourier features of a continuous time, classes) is refused by name.
"""

from __future__ import annotations

from typing import Any

from ddpm_hub.errors import ConfigError, check_bool, check_choice, check_float, check_int, shown
from ddpm_hub.nets.arguments import MAX_LEVELS, MAX_WIDTH

MAX_LAYERS = 8  # residual blocks of a level
MAX_BLOCKS = 48  # of all levels on the way down: such a network is still built in a moment
PREFIX = "UNetRes"  # of the block types in files of 2022
# block type: (has attention, how it resizes; None: as downsample_type or upsample_type says)
DOWN = {
    "DownBlock2D": (False, "conv"),
    "AttnDownBlock2D": (True, None),
    "ResnetDownsampleBlock2D": (False, "resnet"),
}
UP = {
    "UpBlock2D": (False, "conv"),
    "AttnUpBlock2D": (True, None),
    "ResnetUpsampleBlock2D": (False, "resnet"),
}
WHOLE = {
    "in_channels": (1, 1024),
    "out_channels": (1, 2048),
    "layers_per_block": (1, MAX_LAYERS),
    "downsample_padding": (0, 1),
    "norm_num_groups": (1, MAX_WIDTH),
    "attention_head_dim": (1, MAX_WIDTH),
    "attn_norm_num_groups": (1, MAX_WIDTH),
    "time_embedding_dim": (1, 4 * MAX_WIDTH),
    "num_train_timesteps": (1, 10**9),
}
OPTIONAL = {
    "attention_head_dim",
    "attn_norm_num_groups",
    "time_embedding_dim",
    "num_train_timesteps",
}
NUMBERS = {
    "freq_shift": (0, MAX_WIDTH),
    "mid_block_scale_factor": (1e-3, 1e3),
    "dropout": (0, 0.99),
    "norm_eps": (1e-12, 1),
}
SWITCHES = ("center_input_sample", "flip_sin_to_cos", "add_attention")
CHOICES = {
    "act_fn": ("silu", "swish", "mish", "relu", "gelu"),
    "downsample_type": ("conv", "resnet"),
    "upsample_type": ("conv", "resnet"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
}
ONLY = {  # what is fixed here, and what another value would be
    "time_embedding_type": ("positional", "a network of another kind of time"),
    "class_embed_type": (None, "a network with classes"),
    "num_class_embeds": (None, "a network with classes"),
}


def block(name: str, known: dict[str, tuple]) -> tuple[bool, str | None]:
    """What a block type is: its row in DOWN or UP."""
    return known[name.removeprefix(PREFIX)]


def check_arguments(arguments: dict[str, Any]) -> None:
    """Raise ConfigError for the first constructor argument of `UNet2D` that cannot be."""
    _check_plain(arguments)
    widths = _check_list(arguments, "block_out_channels", "(128, 256, 256, 256)")
    for width in widths:
        check_int("block_out_channels entry", width, 1, MAX_WIDTH)
    layers = arguments["layers_per_block"]
    if layers * len(widths) > MAX_BLOCKS:
        raise ConfigError(
            f"layers_per_block {layers} in {len(widths)} levels is more than {MAX_BLOCKS} blocks: "
            "use fewer of either"
        )
    for name, known in (("down_block_types", DOWN), ("up_block_types", UP)):
        for entry in _check_list(arguments, name, next(iter(known)), len(widths)):
            plain = entry.removeprefix(PREFIX) if isinstance(entry, str) else entry
            check_choice(f"{name} entry", plain, known)
    if arguments["mid_block_type"] is not None:
        check_choice("mid_block_type", arguments["mid_block_type"], ["UNetMidBlock2D"])
    _check_fit(arguments)
    _check_sample_size(arguments["sample_size"])


def _check_plain(arguments: dict[str, Any]) -> None:
    for name, (value, kind) in ONLY.items():
        if arguments[name] != value:
            raise ConfigError(
                f"{name} {shown(arguments[name])} is {kind}: UNet2D has only {value!r}"
            )
    for name, (low, high) in WHOLE.items():
        if arguments[name] is not None or name not in OPTIONAL:
            check_int(name, arguments[name], low, high)
    for name, (low, high) in NUMBERS.items():
        check_float(name, arguments[name], low, high)
    for name in SWITCHES:
        check_bool(name, arguments[name])
    for name, known in CHOICES.items():
        check_choice(name, arguments[name], known)


def _check_list(
    arguments: dict[str, Any], name: str, example: str, levels: int | None = None
) -> list:
    value = arguments[name]
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_LEVELS:
        raise ConfigError(
            f"{name} {shown(value)} is not a sequence of 1 to {MAX_LEVELS} entries, one for each "
            f"level: use {example}"
        )
    if levels is not None and len(value) != levels:
        raise ConfigError(
            f"{name} has {len(value)} entries for {levels} levels of block_out_channels: give one "
            "for each"
        )
    return value


def _check_fit(arguments: dict[str, Any]) -> None:
    widths, groups = arguments["block_out_channels"], arguments["norm_num_groups"]
    for width in widths:
        _check_groups("norm_num_groups", groups, width)
    if arguments["attn_norm_num_groups"] is not None:
        _check_groups("attn_norm_num_groups", arguments["attn_norm_num_groups"], widths[-1])
    if arguments["freq_shift"] >= widths[0] // 2:
        raise ConfigError(
            f"freq_shift {arguments['freq_shift']} leaves no frequency of the {widths[0] // 2} "
            f"that a first width of {widths[0]} has: use 0, or a wider network"
        )
    head_dim = arguments["attention_head_dim"]
    narrowest = min(attending_widths(arguments), default=None)
    if head_dim is not None and narrowest is not None and head_dim > narrowest:
        raise ConfigError(
            f"attention_head_dim {head_dim} is more than the {narrowest} channels of a level with "
            f"attention: use at most {narrowest}, or None for one head"
        )


def attending_widths(arguments: dict[str, Any]) -> list[int]:
    """The widths at which there is attention."""
    widths = arguments["block_out_channels"]
    down = [w for w, b in zip(widths, arguments["down_block_types"], strict=True)
            if block(b, DOWN)[0]]  # fmt: skip
    up = [w for w, b in zip(reversed(widths), arguments["up_block_types"], strict=True)
          if block(b, UP)[0]]  # fmt: skip
    middle = arguments["mid_block_type"] is not None and arguments["add_attention"]
    return down + up + (widths[-1:] if middle else [])


def _check_groups(name: str, groups: int, width: int) -> None:
    if width % groups:
        raise ConfigError(
            f"{name} {groups} does not divide the {width} channels of a level: use a number that "
            "divides all of block_out_channels"
        )


def _check_sample_size(size: Any) -> None:
    for side in size if isinstance(size, list) and len(size) == 2 else [size]:
        if side is not None or isinstance(size, list):
            check_int("sample_size", side, 1, 65_536, "use a side, or (height, width), in pixels")
