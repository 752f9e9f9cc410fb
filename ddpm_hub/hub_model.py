"""HubModel: a network that describes itself in `config.json` and lives in safetensors.

The base of `Unet` and `GaussianDiffusion`, and the home of huggingface_hub's mixin. The mixin's
own config is not used: it flattens nested modules away, fills what is missing with defaults and
loads whatever weights happen to fit. Ours is nested, versioned, validated before anything is
built, and strict. What a repo of another project looks like is not known here.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from safetensors.torch import save_file
from torch import nn
from torch.overrides import TorchFunctionMode

from ddpm_hub.card import CARD, of_folder, render
from ddpm_hub.config_file import CONFIG, FORMAT_VERSION
from ddpm_hub.errors import ConfigError
from ddpm_hub.files import write_durably, write_text
from ddpm_hub.hub import Pushed, check_repo_id, push_folder
from ddpm_hub.hub.sources import open_source
from ddpm_hub.interop import WEIGHTS, recognise
from ddpm_hub.version import __version__
from ddpm_hub.weights import apart, clean_state, fill

if TYPE_CHECKING:
    from typing_extensions import Self

WEIGHTS_BYTES = 16  # of a file, for each parameter at most: float64, and buffers as large again
HEADER_BYTES = 2**24
MAX_PARAMETERS = 2_000_000_000  # 8 GB of float32: ten times the largest DDPM on the Hub


class HubModel(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="ddpm_hub",
    pipeline_tag="unconditional-image-generation",
    license="apache-2.0",
    paper_url="https://arxiv.org/abs/2006.11239",
    tags=["ddpm", "diffusion", "pytorch"],
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

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Write config.json, model.safetensors and, if there is none yet, README.md to a folder.

        Each file is there whole or as it was before, whatever happens meanwhile. The arguments are
        those of huggingface_hub's mixin: with `push_to_hub` the model goes to `repo_id` as well
        (the folder's name under your account is not guessed), and the commit's URL is returned.
        Raises ConfigError for a network that cannot be described, HubError as `push_to_hub` does.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self._save_pretrained(folder)
        if not (folder / CARD).exists():
            write_text(folder / CARD, of_folder(folder, repo_id, **(model_card_kwargs or {})))
        if not push_to_hub:
            return None
        return self.push_to_hub(
            str(repo_id), model_card_kwargs=model_card_kwargs, **push_to_hub_kwargs
        )

    def push_to_hub(  # noqa: PLR0913  the Hub's arguments
        self,
        repo_id: str,
        *,
        private: bool = False,
        overwrite_card: bool = False,
        token: str | bool | None = None,
        branch: str | None = None,
        commit_message: str | None = None,
        model_card_kwargs: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
    ) -> Pushed:
        """Publish this model as `repo_id` ("user/name"), in one commit; its URL, a `Pushed`.

        The repo, and a `branch` other than main, are made if they are not there; `private` is for
        a new one. A README that is there stays as it is unless `overwrite_card`. A model that is
        there already, byte by byte, makes no commit. `config` is the mixin's, and not used: a
        model describes itself.

        Raises HubError: no right to write there, no network, no name of a repo; ConfigError for a
        network that cannot be described.
        """
        with tempfile.TemporaryDirectory() as folder:
            check_repo_id(repo_id)
            self.save_pretrained(folder, repo_id=repo_id, model_card_kwargs=model_card_kwargs)
            return push_folder(
                folder,
                repo_id,
                private=private,
                token=token,
                overwrite_card=overwrite_card,
                commit_message=commit_message or f"Upload {type(self).__name__} with ddpm_hub",
                revision=branch,
            )

    def generate_model_card(self, repo_id: str | None = None, **more: Any) -> ModelCard:
        """The card of this model alone, without what only a training's folder tells."""
        return ModelCard(render(self._described(), repo_id=repo_id, **more))

    def _described(self) -> dict[str, Any]:
        return {
            "_class_name": type(self).__name__,
            "format_version": FORMAT_VERSION,
            "ddpm_hub_version": __version__,
            **self.to_config(),
        }

    def _save_pretrained(self, save_directory: Path) -> None:
        text = json.dumps(self._described(), indent=2, allow_nan=False) + "\n"
        weights = apart(clean_state(self))
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
        layout: str | None = None,
        **overrides: Any,
    ) -> Self:
        """The model saved in a folder, in a Hub repo, or with this package (`"bundled"`).

        The layout is recognised by its content: ours, or diffusers' (`layout`: the one it has to
        be, "ddpm_hub" or "diffusers"). `allow_pickle` lets a diffusers repo without safetensors
        be read by `torch.load(weights_only=True)`.

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
        found = recognise(source, allow_pickle, layout)
        model = build_checked(cls, found.config, overrides)  # of no memory: is it possible at all?
        count = sum(parameter.numel() for parameter in model.parameters())
        weights = source.fetch(found.weights, WEIGHTS_BYTES * count + HEADER_BYTES)
        if strict:  # every number will come from the file: none is drawn at random before
            model = materialised(model, map_location)
        else:
            model = cls.from_config(found.config, **overrides).to(map_location)
        fill(model, weights, lambda names: cls._rename(found.rename(names)), strict=strict)
        return model.eval()


class Undrawn(TorchFunctionMode):
    """Inside, torch.nn.init leaves tensors as they are: on the meta device there are no numbers.

    There each draw goes through Python all the same, which is half of the time of building.
    """

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if getattr(function, "__module__", None) == nn.init.__name__:
            return args[0] if args else (kwargs or {})["tensor"]
        return function(*args, **(kwargs or {}))


def build_checked(cls: type[HubModel], config: dict, overrides: dict) -> HubModel:
    """Build on the meta device, which holds no numbers, and refuse what is absurdly large."""
    try:
        with torch.device("meta"), Undrawn():
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


def materialised(model: HubModel, device: str | torch.device) -> HubModel:
    """A model of the meta device with memory, whose numbers are whatever was there before.

    Module.to_empty, without the detour of torch.empty_like, which for meta tensors is Python's.
    """
    return model._apply(lambda t: torch.empty(t.shape, dtype=t.dtype, device=device))
