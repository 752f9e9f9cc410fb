"""Which arguments a Unet can have: each check names the value, the limit and the cure."""

from __future__ import annotations

from typing import Any

from ddpm_hub.errors import ConfigError, check_bool, check_float, check_int, shown

MAX_WIDTH = 65_536  # channels of any layer
MAX_LEVELS = 12  # 11 halvings: images of at least 2048 pixels
WHOLE = {
    "init_dim": (1, MAX_WIDTH),
    "out_dim": (1, MAX_WIDTH),
    "channels": (1, 1024),
    "num_classes": (1, 1_000_000),
    "learned_sinusoidal_dim": (2, 4096),
}
OPTIONAL = {"init_dim", "out_dim", "num_classes"}
NUMBERS = {
    "sinusoidal_pos_emb_theta": (1.001, 1e12),  # the longest wavelength / 2 pi; the shortest's is 1
    "dropout": (0, 0.99),
    "cond_drop_prob": (0, 1),
}
SWITCHES = (
    "self_condition",
    "learned_variance",
    "learned_sinusoidal_cond",
    "random_fourier_features",
    "flash_attn",
)


def per_level(value: Any, levels: int) -> tuple:
    """One value for each level: a scalar is repeated, a sequence taken as it is."""
    return tuple(value) if isinstance(value, list | tuple) else (value,) * levels


def check_divisible(image_size: tuple[int, int], factor: int) -> None:
    """Raise ConfigError unless a Unet that halves log2(factor) times can take this size."""
    for side in image_size:
        if side < 1 or side % factor:
            near = sorted({max(side // factor, 1) * factor, -(-max(side, 1) // factor) * factor})
            raise ConfigError(
                f"image_size {side} is not divisible by {factor} (this Unet halves "
                f"{factor.bit_length() - 1} times): use {' or '.join(map(str, near))}"
            )


def check_arguments(arguments: dict[str, Any]) -> None:
    """Raise ConfigError for the first constructor argument of `Unet` that cannot be."""
    _check_widths(arguments["dim"], arguments["dim_mults"])
    for name, (low, high) in WHOLE.items():
        if arguments[name] is not None or name not in OPTIONAL:
            check_int(name, arguments[name], low, high)
    if arguments["learned_sinusoidal_dim"] % 2:
        odd = arguments["learned_sinusoidal_dim"]
        raise ConfigError(
            f"learned_sinusoidal_dim {odd} is odd, but half of it are sines: use {odd + 1}"
        )
    for name, (low, high) in NUMBERS.items():
        check_float(name, arguments[name], low, high)
    for name in SWITCHES:
        check_bool(name, arguments[name])
    for name in ("attn_dim_head", "attn_heads", "full_attn"):
        _check_per_level(name, arguments[name], len(arguments["dim_mults"]))


def _check_widths(dim: Any, mults: Any) -> None:
    check_int("dim", dim, 4, MAX_WIDTH)
    if dim % 2:
        raise ConfigError(f"dim {dim} is odd, but half of it are sines: use {dim - 1} or {dim + 1}")
    if not isinstance(mults, list) or not 1 <= len(mults) <= MAX_LEVELS:
        raise ConfigError(
            f"dim_mults {shown(mults)} is not a sequence of 1 to {MAX_LEVELS} multiples: "
            "use (1, 2, 4, 8)"
        )
    for mult in mults:
        check_int("dim_mults entry", mult, 1, MAX_WIDTH // dim)


def _check_per_level(name: str, value: Any, levels: int) -> None:
    if name == "full_attn" and value is None:
        return
    if isinstance(value, list) and len(value) != levels:
        raise ConfigError(
            f"{name} {shown(value)} has {len(value)} entries for {levels} levels of dim_mults: "
            f"give one value, or {levels}"
        )
    for entry in per_level(value, levels):
        check_bool(name, entry) if name == "full_attn" else check_int(name, entry, 1, 1024)
