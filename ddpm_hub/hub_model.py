"""HubModel: a network that describes itself in `config.json` and lives in safetensors.

The base of `Unet` and `GaussianDiffusion`, and the home of huggingface_hub's mixin. The mixin's
own config is not used: it flattens nested modules away, fills what is missing with defaults and
loads whatever weights happen to fit. Ours is nested, versioned, validated before anything is
built, and strict. What a repo of another project looks like is not known here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors.torch import save_file
from torch import nn

from ddpm_hub.config_file import CONFIG, FORMAT_VERSION
from ddpm_hub.errors import ConfigError
from ddpm_hub.files import write_durably, write_text
from ddpm_hub.interop import WEIGHTS, recognise
from ddpm_hub.sources import open_source
from ddpm_hub.version import __version__
from ddpm_hub.weights import clean_state, load_weights

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_PARAMETERS = 2_000_000_000  # 8 GB of float32: ten times the largest DDPM on the Hub

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

    @classmethod
    def _rename(cls, names: dict[str, str]) -> dict[str, str]:
        own = cls.rename_weights(list(names.values()))
        return {name: own[told] for name, told in names.items()}

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
    def from_pretrained(  # noqa: PLR0913  the Hub's arguments
        cls,
        repo_id_or_dir: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        map_location: str | torch.device = "cpu",
        strict: bool = True,
        allow_pickle: bool = False,
        **overrides: Any,
    ) -> Self:
        """The model saved in a folder, in a Hub repo, or with this package (`"bundled"`).

        The layout is recognised by its content: ours, or diffusers'. `allow_pickle` lets a
        diffusers repo without safetensors be read by `torch.load(weights_only=True)`.

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
        source = open_source(repo_id_or_dir, **where)
        layout = recognise(source, allow_pickle)
        build_checked(cls, layout.config, overrides)  # on no memory: is it possible at all?
        weights = source.fetch(layout.weights)
        model = cls.from_config(layout.config, **overrides)
        load_weights(model, weights, lambda names: cls._rename(layout.rename(names)), strict=strict)
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
