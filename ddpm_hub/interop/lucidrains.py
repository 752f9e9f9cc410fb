"""`model-7.pt` of denoising_diffusion_pytorch's Trainer, which keeps weights and no arguments.

The network's arguments are read off the shapes of its weights, the schedule and the objective off
the buffers beside them (2.3.4's `Unet` and `GaussianDiffusion`; their names are in `blocks.py`).
What no number tells is left at its default or asked for: image_size above all; also dropout and
the wavelengths of the time embedding, auto_normalize and sampling_timesteps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ddpm_hub.errors import ConfigError, WeightsError, shown
from ddpm_hub.schedules import SCHEDULES, make_betas, schedule_constants

MODEL, EMA = "model.", "ema_model."
OBJECTIVES = ("pred_noise", "pred_x0", "pred_v")
LOOSE = {"rtol": 1e-3, "atol": 1e-7}  # what float32 leaves of 1 - alpha_bar at the first steps


def state_of(checkpoint: dict[str, Any], ema: bool = True) -> dict[str, Tensor]:
    """The GaussianDiffusion's state dict in a checkpoint, or the checkpoint if it is one.

    ema: the averaged weights, which people sample from, if the file has them.
    """
    average = checkpoint.get("ema") if ema else None
    if isinstance(average, dict):
        found = {k.removeprefix(EMA): v for k, v in average.items() if k.startswith(EMA)}
    else:
        found = checkpoint.get("model", checkpoint)
    if not isinstance(found, dict) or "betas" not in found:
        raise WeightsError(
            f"this is no checkpoint of denoising_diffusion_pytorch's Trainer (it has "
            f"{shown(sorted(checkpoint)[:5])}, no 'betas'): of a network alone, build a Unet and "
            "use load_state_dict"
        )
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def config_of(state: dict[str, Tensor], given: dict[str, Any]) -> dict[str, Any]:
    """Our config of that state dict: {"diffusion": ..., "unet": ...}.

    `given` arguments of the diffusion are taken as they are; the schedule must then fit the file.
    Raises ConfigError for what cannot be told from the file, and names the argument.
    """
    try:
        unet = _unet({k.removeprefix(MODEL): v for k, v in state.items() if k.startswith(MODEL)})
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(
            f"the network in this checkpoint is not a Unet of denoising_diffusion_pytorch 2.x "
            f"({error}): other versions had other layers"
        ) from error
    if given.get("image_size") is None:
        factor = 2 ** (len(unet["dim_mults"]) - 1)
        raise ConfigError(
            "a checkpoint of this kind does not say how large its images are: pass image_size "
            f"(--image-size), what its GaussianDiffusion had, divisible by {factor}"
        )
    betas = state["betas"].double()
    options = {key: given[key] for key in ("beta_schedule", "schedule_fn_kwargs") if key in given}
    process = {"timesteps": len(betas), **_schedule(betas, options)}
    if "objective" not in given:
        process |= _objective(betas, state["loss_weight"].double())
    return {"diffusion": process | given, "unet": {"_class_name": "Unet"} | unet}


def weights_of(names: list[str]) -> dict[str, str]:
    """The network's weights, under the names they have; buffers follow from the config."""
    return {name: name for name in names if name.startswith(MODEL)}


def _unet(weights: dict[str, Tensor]) -> dict[str, Any]:
    """The constructor arguments of `Unet` that give weights of these shapes."""
    shape = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if "init_conv.weight" in shape and "downs.0.0.block1.norm.g" not in shape:
        raise ValueError("its blocks have no RMSNorm, so it is of version 1 or older")
    dim = shape["time_mlp.3.weight"][0] // 4
    levels = 1 + max(int(name.split(".")[1]) for name in shape if name.startswith("downs."))
    widths = [shape[f"ups.{levels - 1 - i}.0.block1.proj.weight"][0] for i in range(levels)]
    if any(width % dim for width in widths):
        raise ValueError(f"its widths {widths} are no multiples of {dim}")
    attention = [_attention(shape, level) for level in range(levels)]
    heads, dim_heads, full = (list(column) for column in zip(*attention, strict=True))
    return {
        "dim": dim,
        "init_dim": shape["init_conv.weight"][0],
        "dim_mults": [width // dim for width in widths],
        **_channels(shape["init_conv.weight"][1], shape["final_conv.weight"][0]),
        "attn_heads": heads,
        "attn_dim_head": dim_heads,
        "full_attn": full,
    }


def _attention(shape: dict[str, tuple], level: int) -> tuple[int, int, bool]:
    """(heads, dim_head, full) of a level; the two kinds keep their memory the other way round."""
    _, heads, first, second = shape[f"downs.{level}.2.mem_kv"]
    full = f"downs.{level}.2.to_out.weight" in shape
    return heads, (second if full else first), full


def _channels(taken: int, given: int) -> dict[str, Any]:
    """Self-conditioning takes the image twice, a learned variance gives it twice."""
    if taken not in (given, 2 * given) and given != 2 * taken:
        raise ValueError(f"it takes {taken} channels and gives {given}")
    return {
        "channels": min(taken, given),
        "self_condition": taken == 2 * given,
        "learned_variance": given == 2 * taken,
    }


def _schedule(betas: Tensor, given: dict[str, Any]) -> dict[str, Any]:
    """The row of SCHEDULES that gives these betas, (T,): the one that was given, or a default."""
    rows = [given] if "beta_schedule" in given else [{"beta_schedule": n} for n in SCHEDULES]
    for row in rows:
        try:
            made = make_betas(
                row["beta_schedule"], len(betas), **(row.get("schedule_fn_kwargs") or {})
            )
        except ConfigError:
            continue  # a schedule that cannot have so few steps
        if torch.allclose(made, betas, rtol=1e-4, atol=1e-9):
            return row
    raise ConfigError(
        f"the betas in this checkpoint ({betas[0]:.3g} .. {betas[-1]:.3g}) are not those of "
        f"{shown([row['beta_schedule'] for row in rows])}: pass the beta_schedule and "
        "schedule_fn_kwargs of its GaussianDiffusion"
    )


def _objective(betas: Tensor, loss_weight: Tensor) -> dict[str, Any]:
    """Objective and min-SNR weighting (Hang et al. 2023) that give this loss weight, (T,)."""
    found = [row for row, made in _weightings(betas, loss_weight) if made]
    if len(found) != 1:
        named = f"could be any of {found}" if found else "is no objective's"
        raise ConfigError(f"the loss weight in this checkpoint {named}: pass objective")
    return found[0]


def _weightings(betas: Tensor, loss_weight: Tensor) -> Iterator[tuple[dict[str, Any], bool]]:
    """Every objective, without a limit on the SNR and with the only one it could have; if it is."""
    alpha_bar = (1 - betas).cumprod(0)
    snr = alpha_bar / (1 - alpha_bar)
    for objective in OBJECTIVES:
        plain = schedule_constants(betas, objective)["loss_weight"]
        yield {"objective": objective}, torch.allclose(plain, loss_weight, **LOOSE)
        clipped = loss_weight / plain * snr
        largest = clipped.max()
        gamma = clipped[clipped > 0.99 * largest].median().item()  # the first steps are rounded
        if gamma < 0.99 * snr.max():  # a limit that nothing reaches is none
            limited = schedule_constants(betas, objective, gamma)["loss_weight"]
            row = {"objective": objective, "min_snr_loss_weight": True}
            row |= {"min_snr_gamma": round(gamma, 3)}
            yield row, torch.allclose(limited, loss_weight, **LOOSE)
