"""A DDPM as diffusers stores it: a UNet2DModel, its scheduler, and their names for things.

Read and written without diffusers: what its files say is told in this library's terms, and back.
Which files there are, and the network's, is known here; the scheduler's in `schedulers.py`.
Building networks and reading weights is for `hub_model.py`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from ddpm_hub.config_file import CONFIG, read_object
from ddpm_hub.errors import ConfigError, WeightsError, shown
from ddpm_hub.files import write_durably, write_text
from ddpm_hub.hub.sources import Source
from ddpm_hub.interop.layout import Layout
from ddpm_hub.interop.schedulers import FILE as SCHEDULER
from ddpm_hub.interop.schedulers import process_of, scheduler_of

VERSION = "0.42.1"  # of diffusers, whose files these are
INDEX = "model_index.json"
WEIGHTS = "diffusion_pytorch_model"
VARIANTS = ("", ".fp16", ".bf16", ".fp32", ".ema", ".non_ema")  # the first that is there is read
LEGACY = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # before 2023
LEGACY_NAME = re.compile(rf"(.*attentions\.\d+)\.({'|'.join(LEGACY)})\.(weight|bias)")

# UNet2DModel's own, for files that were written before an argument was there, or by hand
UNET = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D"] + ["AttnDownBlock2D"] * 3,
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ["AttnUpBlock2D"] * 3 + ["UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,
}


def read(source: Source, allow_pickle: bool = False) -> Layout | None:
    """A repo or folder of a UNet2DModel, alone or with the scheduler of a DDPM; else None.

    Known are the root layout (google/ddpm-cifar10-32: everything in one folder) and that of
    pipelines (`unet/`, `scheduler/`, `model_index.json`). Pickled weights (`.bin`) are taken only
    where there are no safetensors, and only with `allow_pickle`. Raises ConfigError for what this
    library has no counterpart of, WeightsError where no weights can be read.
    """
    folder = _folder_of_unet(source)
    if folder is None:
        return None
    unet = _unet_of(read_object(source.fetch(folder + CONFIG)))
    config: dict[str, Any] = {"unet": {"_class_name": "UNet2D"} | unet}
    for path in (f"scheduler/{SCHEDULER}", SCHEDULER):
        if source.has(path):
            # lambda_min_clipped of its DPM solvers is -Infinity
            config["diffusion"] = process_of(read_object(source.fetch(path), infinite=True))
            if unet["sample_size"] is not None:
                config["diffusion"]["image_size"] = unet["sample_size"]
            break
    return Layout(config, _weights_of(source, folder, allow_pickle), _rename)


def write(folder: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """`config`, as our config.json has it, and its UNet2D's `weights` as a DDPMPipeline.

    What was in the folder under these names is replaced, the index at last. Raises ConfigError
    for what diffusers cannot express, before anything is written.
    """
    process, unet = config["diffusion"], config["unet"]
    if unet["_class_name"] != "UNet2D":
        raise ConfigError(
            f"a {unet['_class_name']} has no counterpart in diffusers, so it cannot be saved in "
            "that format: use save_pretrained, or train a UNet2D"
        )
    learned = unet["out_channels"] == 2 * unet["in_channels"]
    variance = process["variance_type"] or ("learned_range" if learned else "fixed_small")
    if learned and variance != "learned_range":
        raise ConfigError(
            f"variance_type {variance!r} of a network that predicts a variance cannot be told to "
            "diffusers, which would take it for colours: use 'learned_range'"
        )
    scheduler = scheduler_of(process, variance)
    height, width = process["image_size"]
    network = {key: unet[key] for key in UNET}
    network["sample_size"] = height if height == width else [height, width]
    for part in ("unet", "scheduler"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    weights = {key: tensor.contiguous() for key, tensor in weights.items()}
    write_durably(
        folder / "unet" / f"{WEIGHTS}.safetensors",
        lambda path: save_file(weights, path, metadata={"format": "pt"}),
    )
    _write(folder / "unet" / CONFIG, "UNet2DModel", network)
    _write(folder / "scheduler" / SCHEDULER, "DDPMScheduler", scheduler)
    parts = {"scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", "UNet2DModel"]}
    _write(folder / INDEX, "DDPMPipeline", parts)


def _folder_of_unet(source: Source) -> str | None:
    """The folder of the network, "" or "unet/"; None if this is no layout of diffusers."""
    for folder in ("", "unet/"):
        if not source.has(folder + CONFIG):
            continue
        found = read_object(source.fetch(folder + CONFIG))
        if "format_version" in found:
            return None  # ours, perhaps with an export beside it
        if "_diffusers_version" in found or found.get("_class_name") == "UNet2DModel":
            _check_class(source, found)
            _check_parts(source)
            return folder
    return None


def _check_class(source: Source, config: dict[str, Any]) -> None:
    name = config.get("_class_name")
    if name != "UNet2DModel":
        raise ConfigError(
            f"{source.name} holds a {shown(name)} of diffusers: only an unconditional UNet2DModel "
            "can be opened"
        )


def _check_parts(source: Source) -> None:
    """A pipeline of a UNet2DModel may also decode latents (LDMPipeline): another kind of model."""
    index = read_object(source.fetch(INDEX)) if source.has(INDEX) else {}
    parts = {key for key, value in index.items() if isinstance(value, list) and any(value)}
    others = sorted(parts - {"unet", "scheduler"})
    if others:
        raise ConfigError(
            f"{source.name} is a {shown(index.get('_class_name'))} with {shown(others)} beside "
            "its network: only a network and a scheduler, a DDPM of pixels, can be opened"
        )


def _unet_of(config: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a UNet2DModel, which are those of UNet2D; its constructor checks them."""
    given = {key: value for key, value in config.items() if not key.startswith("_")}
    unknown = sorted(given.keys() - UNET)
    if unknown:
        raise ConfigError(
            f"a UNet2DModel with {shown(unknown)} is not known here: remove that from its "
            f"{CONFIG} if it changes nothing, or install a newer ddpm_hub"
        )
    unset = {key for key in ("downsample_type", "upsample_type") if given.get(key, "") is None}
    return UNET | {key: value for key, value in given.items() if key not in unset}


def _weights_of(source: Source, folder: str, allow_pickle: bool) -> str:
    """The path of the weights: safetensors of any variant before a pickle."""
    stems = [f"{folder}{WEIGHTS}{variant}" for variant in VARIANTS]
    safe = [f"{stem}.safetensors" for stem in stems if source.has(f"{stem}.safetensors")]
    pickled = [f"{stem}.bin" for stem in stems if source.has(f"{stem}.bin")]
    if safe or (pickled and allow_pickle):
        return (safe or pickled)[0]
    if pickled:
        raise WeightsError(
            f"{source.name} holds its weights as a pickle alone ({pickled[0]}), which could run "
            "code: pass allow_pickle=True if you trust it, and only numbers will be read"
        )
    raise WeightsError(
        f"{source.name} holds no {folder}{WEIGHTS}.safetensors: it is no model, or one in shards, "
        "which is not read here"
    )


def _rename(names: list[str]) -> dict[str, str]:
    """Names in the file to names in a GaussianDiffusion around the network."""
    return {name: f"model.{_today(name)}" for name in names}


def _today(name: str) -> str:
    match = LEGACY_NAME.fullmatch(name)
    return f"{match[1]}.{LEGACY[match[2]]}.{match[3]}" if match else name


def _write(path: Path, name: str, config: dict[str, Any]) -> None:
    config = {"_class_name": name, "_diffusers_version": VERSION} | config
    write_text(path, json.dumps(config, indent=2, allow_nan=False) + "\n")
