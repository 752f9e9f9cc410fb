"""Data sets of the Hugging Face Hub: small ones are read whole, large ones are streamed.

The only file that knows the `datasets` library, which it imports when it is first needed. Pictures
are never decoded by it, but by our own reader with the limits for what strangers made. Not in the
room: models of the Hub (hub_model.py) and where pixels go (store.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count as count_from
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from ddpm_hub import images
from ddpm_hub.data.imageset import ImageSet, ImageStream, Skipped
from ddpm_hub.data.store import Pictures, Progress, decode
from ddpm_hub.errors import DataError, shown
from ddpm_hub.images import Unreadable, read_pixels

STREAM_ABOVE = 4 * 2**30  # bytes of a data set's files that are fetched before training starts
SHUFFLED = 1000  # rows of a stream, still encoded, among which the next one is drawn
MAX_PIXELS = 50_000_000  # of a picture
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
ANSWER_SECONDS = 10


class Row(NamedTuple):
    """A picture as the library gives it, undecoded: {"bytes", "path"}, at least one of them."""

    picture: dict | None

    @property
    def name(self) -> str:
        """Its file's name, or one made of its bytes: the same in every epoch."""
        picture = self.picture or {}
        path = picture.get("path")
        return path.split("::")[0] if path else f"image {crc32(picture.get('bytes') or b''):08x}"


def read_hub(
    repo: str,
    image_size: tuple[int, int],
    channels: int,
    progress: Progress = True,
    token: str | bool | None = None,
) -> ImageSet | ImageStream:
    """The `train` split of a data set, else its first: the first image column, decoded.

    repo: "user/name". Raises DataError if `datasets` is not installed, or if the set is not there,
    cannot be reached, or has no images.
    """
    if not NAME.fullmatch(repo):
        raise DataError(f"{shown(repo)} is no data set of the Hub: write hub:user/name")
    if Path(repo).exists():  # the library would read it instead, whatever it holds
        raise DataError(
            f"a folder {repo!r} lies here and hides the data set of that name: give the folder "
            "itself, or start elsewhere"
        )
    library = _library(repo)
    shape = (channels, *image_size)
    with _in_words(repo), _bars(library, progress is True):
        builder = _builder(library, repo, token)
        if _bytes(builder, repo, token) > STREAM_ABOVE:
            return _streamed(library, builder, repo, shape)
        builder.download_and_prepare()
        return _whole(library, builder, repo, shape, progress)


def _library(repo: str) -> ModuleType:
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"hub:{repo} needs the datasets library: pip install 'ddpm-hub[datasets]'"
        ) from None
    return datasets


def _builder(library: ModuleType, repo: str, token: str | bool | None) -> Any:
    try:
        return library.load_dataset_builder(repo, token=token)
    except ValueError as error:
        if "Config name is missing" not in str(error):
            raise
        configs = library.get_dataset_config_names(repo, token=token)
        return library.load_dataset_builder(repo, configs[0], token=token)


def _bytes(builder: Any, repo: str, token: str | bool | None) -> float:
    """How large the set is: by its card, else by its files; infinite if nobody says."""
    size = builder.info.dataset_size or builder.info.download_size
    if size:
        return size
    from huggingface_hub import HfApi

    try:
        facts = HfApi(token=token).dataset_info(repo, files_metadata=True, timeout=ANSWER_SECONDS)
    except Exception:  # offline, say: no reason to stop, the set may be in the cache
        return float("inf")
    sizes = [file.size for file in facts.siblings or ()]
    return float("inf") if None in sizes else sum(sizes)


def _split(splits: dict[str, Any]) -> Any:
    return splits["train"] if "train" in splits else next(iter(splits.values()))


def _column(library: ModuleType, features: Any, repo: str) -> str:
    for name, feature in features.items():
        if isinstance(feature, library.Image):
            return name
    raise DataError(
        f"hub:{repo} has no column of images (only {', '.join(features)}): choose another data set"
    )


def _whole(
    library: ModuleType, builder: Any, repo: str, shape: tuple[int, int, int], progress: Progress
) -> ImageSet:
    table = _split(builder.as_dataset())
    column = _column(library, table.features, repo)
    rows = table.data.column(column)
    read = _reader(builder, repo, shape)

    def read_row(i: int) -> np.ndarray:
        return read(Row(rows[i].as_py()))

    # the fingerprint names the revision, the configuration and the split
    key = [repo, table.info.config_name, str(table.split), table._fingerprint, column]
    pixels, refused = decode(Pictures(range(len(rows)), read_row, lambda: key), shape, progress)
    skipped = tuple(Skipped(f"image {i}", why) for i, why in refused.items())
    if not len(pixels):
        why = skipped[0].why if skipped else "it is empty"
        raise DataError(f"hub:{repo} holds no image that can be read ({why}): choose another")
    labels, classes = _labels(library, table, refused)
    return ImageSet(pixels, repo, labels, classes, skipped)


def _labels(
    library: ModuleType, table: Any, refused: dict[int, str]
) -> tuple[Tensor | None, tuple[str, ...]]:
    """The first column of class labels, if there is one and it is known for every image."""
    for name, feature in table.features.items():
        if isinstance(feature, library.ClassLabel):
            values = table.data.column(name).to_pylist()
            labels = [label for i, label in enumerate(values) if i not in refused]
            if all(label is not None and label >= 0 for label in labels):
                return torch.tensor(labels), tuple(feature.names)
    return None, ()


def _streamed(
    library: ModuleType, builder: Any, repo: str, shape: tuple[int, int, int]
) -> ImageStream:
    if hasattr(builder.config, "decode_num_threads"):
        builder.config.decode_num_threads = 0  # else files are decoded there, whatever we ask for
    stream = _split(builder.as_streaming_dataset())
    if stream.features is None:  # not said by the card: look at the first rows
        stream = stream._resolve_features()
    column = _column(library, stream.features, repo)
    stream = stream.cast_column(column, library.Image(decode=False)).select_columns([column])

    def rows(seed: int, rank: int, size: int) -> Iterator[Row]:
        from datasets.distributed import split_dataset_by_node

        shuffled = stream.shuffle(seed=seed, buffer_size=SHUFFLED)
        mine = split_dataset_by_node(shuffled, rank=rank, world_size=size) if size > 1 else shuffled
        for epoch in count_from():
            mine.set_epoch(epoch)
            seen = False
            with _in_words(repo):
                for row in mine:
                    seen = True
                    yield Row(row[column])
            if not seen:
                raise DataError(f"hub:{repo} has no image for process {rank} of {size}: use fewer")

    return ImageStream(shape, repo, rows, _reader(builder, repo, shape))


def _reader(builder: Any, repo: str, shape: tuple[int, int, int]) -> Callable[[Row], np.ndarray]:
    channels, *size = shape

    def read(row: Row) -> np.ndarray:
        picture = row.picture or {}
        data = picture.get("bytes")
        if data is None:
            data = _fetched(builder, repo, picture.get("path"))
        return read_pixels(data, tuple(size), channels, MAX_PIXELS, images.FORMATS)

    return read


def _fetched(builder: Any, repo: str, path: str | None) -> bytes | Path:
    """What lies in the set's own files. A row could name any file of this computer, or any page."""
    from datasets import DownloadConfig
    from datasets.config import HF_DATASETS_CACHE
    from datasets.utils.file_utils import xopen
    from huggingface_hub.constants import HF_HUB_CACHE

    if not path:
        raise Unreadable("empty", "choose another data set")
    home = tuple(os.path.realpath(p) + os.sep for p in (HF_DATASETS_CACHE, HF_HUB_CACHE))
    if os.path.realpath(path).startswith(home):
        return Path(path)
    if not path.split("::")[-1].lower().startswith(f"hf://datasets/{repo.lower()}@"):
        raise Unreadable("only a link to somewhere else", "choose another data set")
    try:
        with xopen(path, "rb", download_config=DownloadConfig(token=builder.token)) as file:
            return file.read()
    except Exception as error:
        raise Unreadable(f"out of reach ({type(error).__name__})", "try again later") from None


@contextmanager
def _bars(library: ModuleType, wanted: bool) -> Iterator[None]:
    """The library draws bars of its own unless told not to."""
    if wanted or library.are_progress_bars_disabled():
        yield
        return
    library.disable_progress_bars()
    try:
        yield
    finally:
        library.enable_progress_bars()


@contextmanager
def _in_words(repo: str) -> Iterator[None]:
    """Whatever the library raises, as a DataError of one sentence."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(_sentence(repo, error)) from error


def _sentence(repo: str, error: BaseException) -> str:
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    causes = list(_chain(error))
    if any(isinstance(e, GatedRepoError) or "gated dataset" in str(e) for e in causes):
        return (
            f"hub:{repo} is gated: accept its terms at https://huggingface.co/datasets/{repo}, "
            "then log in with `hf auth login`"
        )
    if any(isinstance(e, DatasetNotFoundError | RepositoryNotFoundError) for e in causes):
        return (
            f"there is no data set {repo} on the Hub, or it is private: check the name, or log in "
            "with `hf auth login`"
        )
    if any(isinstance(e, ConnectionError) or _is_http(e) for e in causes):
        return f"hub:{repo} cannot be reached: check the connection, or give a folder"
    first = (str(error).splitlines() or [""])[0][:200]
    return f"hub:{repo} cannot be read ({type(error).__name__}: {first}): choose another data set"


def _is_http(error: BaseException) -> bool:
    """Of the client's own client, whose name has changed before: requests, httpx, httpx2."""
    return any(kind.__module__.startswith(("httpx", "requests")) for kind in type(error).__mro__)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
