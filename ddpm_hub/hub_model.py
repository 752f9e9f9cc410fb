"""HubModel: a network that describes itself in `config.json` and lives in safetensors.

The base of `Unet` and `GaussianDiffusion`, and the home of huggingface_hub's mixin. The mixin's
own config is not used: it flattens nested modules away, fills what is missing with defaults and
loads whatever weights happen to fit. Ours is nested, versioned, validated before anything is
built, and strict. What a repo of another project looks like is not known here.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ddpm_hub.config_file import CONFIG, FORMAT_VERSION, read_config
from ddpm_hub.errors import ConfigError, HubError, WeightsError, shown
from ddpm_hub.files import write_durably, write_text
from ddpm_hub.version import __version__

if TYPE_CHECKING:
    from typing_extensions import Self

WEIGHTS = "model.safetensors"
BUNDLED = Path(__file__).parent / "assets" / "bundled"
MAX_PARAMETERS = 2_000_000_000  # 8 GB of float32: ten times the largest DDPM on the Hub
FLOATS = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}  # safetensors' names

CARD = """---
{{ card_data }}
---

# {{ model_name | default("A denoising diffusion probabilistic model", true) }}

```python
from ddpm_hub import GaussianDiffusion

diffusion = GaussianDiffusion.from_pretrained("{{ repo_id | default("user/repo", true) }}")
images = diffusion.sample(batch_size=4, sampler="ddim", steps=25, output_type="pil")
```

Made with [ddpm_hub](https://pypi.org/project/ddpm-hub/), after
[Denoising Diffusion Probabilistic Models](https://arxiv.org/abs/2006.11239).
"""


class HubModel(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="ddpm_hub",
    pipeline_tag="unconditional-image-generation",
    license="apache-2.0",
    paper_url="https://arxiv.org/abs/2006.11239",
    tags=["ddpm", "diffusion", "pytorch"],
    model_card_template=CARD,
):
    """A module with `save_pretrained`, `from_pretrained` and `push_to_hub`.

    A subclass keeps its constructor's arguments in `self.config`, and says with `to_config` and
    `from_config` how they stand in the file and come back.
    """

    config: dict[str, Any]

    def to_config(self) -> dict[str, Any]:
        """The sections of `config.json` that rebuild this model, plain JSON values."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is described")

    @classmethod
    def from_config(cls, config: dict[str, Any], **overrides: Any) -> Self:
        """The model that `config`, as `to_config` wrote it, describes; weights at random."""
        raise NotImplementedError(f"{cls.__name__} does not say how it is built")

    @classmethod
    def rename_weights(cls, names: list[str]) -> dict[str, str]:
        """Which of the file's `names` this class takes, as {name in the file: own name}."""
        return {name: name for name in names}

    def _save_pretrained(self, save_directory: Path) -> None:
        config = {
            "_class_name": type(self).__name__,
            "format_version": FORMAT_VERSION,
            "ddpm_hub_version": __version__,
            **self.to_config(),
        }
        text = json.dumps(config, indent=2, allow_nan=False) + "\n"
        weights = {name: tensor.contiguous() for name, tensor in clean_state(self).items()}
        # replace, never overwrite: this model's own tensors may be mapped from the old file
        write_durably(
            save_directory / WEIGHTS,
            lambda path: save_file(weights, path, metadata={"format": "pt"}),
        )
        write_text(save_directory / CONFIG, text)

    @classmethod
    def from_pretrained(
        cls,
        repo_id_or_dir: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        map_location: str | torch.device = "cpu",
        strict: bool = True,
        **overrides: Any,
    ) -> Self:
        """The model saved in a folder, in a Hub repo, or with this package (`"bundled"`).

        In eval mode on `map_location`. `overrides` replace constructor arguments of the saved
        config. Raises ConfigError or WeightsError if the files are not what they should be
        (`strict=False` lets missing and surplus weights pass), HubError if they cannot be had.
        """
        where = {
            "revision": revision,
            "token": token,
            "cache_dir": cache_dir,
            "local_files_only": local_files_only,
        }
        config = read_config(find_file(repo_id_or_dir, CONFIG, **where))
        build_checked(cls, config, overrides)  # on no memory: is the config possible at all?
        weights = find_file(repo_id_or_dir, WEIGHTS, **where)
        model = cls.from_config(config, **overrides)
        load_weights(model, weights, strict=strict)
        return model.to(map_location).eval()


def build_checked(cls: type[HubModel], config: dict, overrides: dict) -> HubModel:
    """Build on the meta device, which holds no numbers, and refuse what is absurdly large."""
    try:
        with torch.device("meta"):
            model = cls.from_config(config, **overrides)
    except (RuntimeError, OverflowError, MemoryError) as error:  # sizes beyond 64 bits
        raise ConfigError(
            f"{CONFIG} describes a network that cannot be built ({error}): check its sizes"
        ) from error
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > MAX_PARAMETERS:
        raise ConfigError(
            f"{CONFIG} describes {count:,} parameters, over the limit of {MAX_PARAMETERS:,}: "
            "is this really a DDPM?"
        )
    return model


def load_weights(model: HubModel, path: Path, *, strict: bool = True) -> None:
    """Copy the tensors of a safetensors file into `model`, after checking all their headers."""
    own = clean_state(model)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = type(model).rename_weights(list(file.keys()))
            _check_names(set(names.values()), own, strict)
            for name, own_name in names.items():
                if own_name in own:
                    _check_header(file.get_slice(name), own_name, own[own_name])
            state = {o: file.get_tensor(n) for n, o in names.items() if o in own}
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{WEIGHTS} cannot be read ({error}): download or save it again"
        ) from error
    with torch.no_grad():
        for name, tensor in state.items():
            own[name].copy_(tensor)


def find_file(repo_id_or_dir: str | Path, name: str, **where: Any) -> Path:
    """The path of `name` in the bundled model, in a folder, or in a Hub repo (downloaded)."""
    if repo_id_or_dir == "bundled":
        return BUNDLED / name
    folder = Path(repo_id_or_dir)
    if os.path.isdir(folder):  # unlike Path.is_dir, False for a name too long to be one
        if not (folder / name).is_file():
            kind = ConfigError if name == CONFIG else WeightsError
            raise kind(f"{str(folder)!r} holds no {name}: is it a folder of save_pretrained?")
        return folder / name
    try:
        return Path(hf_hub_download(str(repo_id_or_dir), name, **where))
    except HFValidationError as error:
        raise HubError(
            f"{shown(str(repo_id_or_dir))} is neither a folder nor a repo id: "
            "give a path that exists, or user/name"
        ) from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"repository {str(repo_id_or_dir)!r} was not found, or is private or gated: check the "
            "name, or log in with a token that may read it"
        ) from error
    except EntryNotFoundError as error:
        raise HubError(f"{shown(str(repo_id_or_dir))} has no {name}: no ddpm_hub repo") from error
    except OSError as error:  # no network, time-outs, HTTP errors
        raise HubError(
            f"{shown(str(repo_id_or_dir))} could not be reached ({error}): try again"
        ) from error


def clean_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict under the names it has without torch.compile's wrapper."""
    return {k.replace("_orig_mod.", ""): v.detach() for k, v in module.state_dict().items()}


def _check_names(found: set[str], own: dict[str, Tensor], strict: bool) -> None:
    missing, surplus = sorted(own.keys() - found), sorted(found - own.keys())
    if strict and (missing or surplus):
        raise WeightsError(
            f"{WEIGHTS} does not belong to this {CONFIG}: {len(missing)} weights are missing "
            f"{shown(missing[:3])}, {len(surplus)} are not known {shown(surplus[:3])}"
        )


def _check_header(header: Any, name: str, own: Tensor) -> None:
    shape, dtype = tuple(header.get_shape()), str(header.get_dtype())
    if shape != tuple(own.shape) or dtype not in FLOATS:
        raise WeightsError(
            f"{WEIGHTS}: {name} is {dtype} {shape}, the config asks for floats "
            f"{tuple(own.shape)}: weights and config do not belong together"
        )
