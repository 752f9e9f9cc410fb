"""Data sets of the Hub, by the real `datasets` library from a Hub on this machine.

One program reads them all: the library asks for the Hub's address once, when it is imported.
"""

import io
import json
import os
import subprocess
import sys
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as parquet
import pytest
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
from local_hub import LocalHub
from PIL import Image

from ddpm_hub.data import load_data
from ddpm_hub.data.imageset import ImageStream
from ddpm_hub.errors import DataError
from ddpm_hub.images import Unreadable

PROGRAM = """
import json, logging, os, sys, warnings
from itertools import islice
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
from ddpm_hub.data import hub, load_data
from ddpm_hub.data.imageset import ImageSet

told = {}

def read(key, source, **options):
    try:
        told[key] = facts(load_data(source, (8, 8), 3, **options))
    except Exception as error:
        told[key] = {"error": f"{type(error).__name__}: {error}"}

def facts(found):
    if isinstance(found, ImageSet):
        return {"greys": found.images[:, 0, 4, 4].tolist(), "shape": list(found.images.shape),
                "labels": None if found.labels is None else found.labels.tolist(),
                "classes": found.classes, "name": found.name, "notes": found.notes()}
    def first(count, *where):
        return [int(image[0, 4, 4]) for image in islice(found.images(*where), count)]
    return {"shape": list(found.shape), "whole": first(72), "again": first(72),
            "from 30": first(10, 0, 1, 30), "ranks": [first(36, rank, 2) for rank in (0, 1)],
            "rank 1 from 20": first(5, 1, 2, 20), "notes": found.notes()}

for key in ("pics", "folder", "words", "gated", "missing"):
    read(key, f"hub:alice/{key}", progress=False)
import datasets, huggingface_hub
datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0  # 5 s after every reader, for old pyarrows
hub.STREAM_ABOVE = 0
for key in ("folder", "large", "words"):
    read({"folder": "files", "words": "streamed words"}.get(key, key), f"hub:alice/{key}",
         progress=False)
os.makedirs("alice/hidden")
read("hidden", "hub:alice/hidden")
import datasets, huggingface_hub
datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
read("offline", "hub:alice/new")
hub.STREAM_ABOVE = 10**9
read("again", "hub:alice/pics")
sys.modules["datasets"] = None  # as an import finds it where it is not installed
read("no library", "hub:alice/pics")
print(json.dumps(told))
"""


def png(grey: int, size=(12, 10)) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, grey).save(buffer, "PNG")
    return buffer.getvalue()


def table(pictures: list[dict], **columns) -> bytes:
    """A parquet file as the library writes it, the pictures exactly as they are given."""
    features = Features(
        {name: ClassLabel(names=["dark", "light"]) for name in columns} | {"img": ImageFeature()}
    )
    made = Dataset.from_dict(columns | {"img": pictures}, features=features)
    buffer = io.BytesIO()
    parquet.write_table(made.data.table, buffer)
    return buffer.getvalue()


def inline(greys) -> list[dict]:
    return [{"bytes": png(grey), "path": None} for grey in greys]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the program says of each data set."""
    here = tmp_path_factory.mktemp("hub")
    (here / "private.png").write_bytes(png(77))
    pics = inline(range(0, 200, 10))
    pics[3]["bytes"] = b"no picture"
    pics[5] = {"bytes": None, "path": str(here / "private.png")}
    pics[6] = {"bytes": None, "path": "https://example.com/a.png"}
    large = inline(range(36))
    large[7]["bytes"] = b"no picture"
    contents = {
        "pics": {"data/train.parquet": table(pics, label=[i // 10 for i in range(20)])},
        "folder": {f"{s}/{g}.png": png(g) for s, g in (("train", 9), ("train", 3), ("test", 1))},
        "large": {f"data/train-{i}.parquet": table(large[i * 9 : i * 9 + 9]) for i in range(4)},
        "words": {"train.csv": b"a,b\n1,2\n"},
        "gated": {"train/1.png": png(1)},
    }
    with LocalHub() as hub:
        api = HfApi(endpoint=hub.url, token=hub.add_token("alice"))
        for name, files in contents.items():
            publish(api, f"alice/{name}", files)
        api.update_repo_settings("alice/gated", repo_type="dataset", gated="manual")
        environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(here / "home")}
        environment |= {"PYTHONPATH": str(Path(__file__).parents[2])}
        environment.pop("HF_TOKEN", None)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=environment,
            cwd=here,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"stderr": done.stderr}


def publish(api, repo, files):
    api.create_repo(repo, repo_type="dataset")
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    disable_progress_bars()
    api.create_commit(repo, operations, commit_message="first", repo_type="dataset")
    enable_progress_bars()


def test_a_small_set_is_read_whole_with_its_labels(told):
    pics = told["pics"]
    kept = [i for i in range(20) if i not in (3, 5, 6)]
    assert pics["shape"] == [17, 3, 8, 8] and pics["name"] == "alice/pics"
    assert pics["greys"] == [10 * i for i in kept]
    assert pics["labels"] == [i // 10 for i in kept] and pics["classes"] == ["dark", "light"]


def test_a_set_of_files_is_its_train_split(told):
    assert told["folder"]["greys"] == [3, 9]


def test_what_was_read_once_is_found_without_a_connection(told):
    assert told["again"] == told["pics"]


def test_what_cannot_be_read_is_named(told):
    assert "1 file was skipped, not an image we read: image 3." in told["pics"]["notes"]


def test_a_row_cannot_point_to_a_file_of_this_computer_or_to_a_web_page(told):
    link = "2 files were skipped, only a link to somewhere else: image 5, image 6."
    assert link in told["pics"]["notes"] and 77 not in told["pics"]["greys"]


def test_a_large_set_is_a_stream_that_never_ends(told):
    large = told["large"]
    assert large["shape"] == [3, 8, 8]
    epochs = large["whole"][:36], large["whole"][36:]
    for epoch in epochs:
        assert set(epoch) == set(range(36)) - {7}  # and one twice: row 7 cannot be read
    assert epochs[0] != epochs[1] and sorted(epochs[0]) != epochs[0]
    assert [note.partition(":")[0] for note in large["notes"]] == [
        "1 file was skipped, not an image we read"
    ]


def test_a_stream_is_a_function_of_where_it_starts(told):
    large = told["large"]
    assert large["again"] == large["whole"]
    assert large["from 30"] == large["whole"][30:40]
    assert large["rank 1 from 20"] == large["ranks"][1][20:25]


def test_two_processes_share_a_stream(told):
    one, two = (set(seen[:18]) for seen in told["large"]["ranks"])
    assert one | two == set(range(36)) - {7} and not one & two


def test_files_are_streamed_too_and_decoded_by_our_reader(told):
    assert set(told["files"]["whole"]) == {3, 9}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("words", "no column of images (only a, b)"),
        ("streamed words", "no column of images (only a, b)"),
        ("gated", "is gated: accept its terms at https://huggingface.co/datasets/alice/gated"),
        ("missing", "there is no data set alice/missing on the Hub, or it is private"),
        ("hidden", "a folder 'alice/hidden' lies here"),
        ("offline", "cannot be reached"),
        ("no library", "needs the datasets library: pip install 'ddpm-hub[datasets]'"),
    ],
)
def test_what_goes_wrong_is_a_sentence(told, name, words):
    error = told[name]["error"]
    assert error.startswith("DataError: ") and words in error and "\n" not in error


def test_no_bar_is_drawn_where_none_is_wanted(told):
    assert "%|" not in told["stderr"]


@pytest.mark.parametrize("name", ["", "pics", "/etc/passwd", "../..", "a/b/c", "a/..", "a/b?c"])
def test_only_names_of_the_hub_are_taken(name):
    with pytest.raises(DataError, match="is no data set of the Hub: write hub:user/name"):
        load_data(f"hub:{name}")


def stream_of(values) -> ImageStream:
    """A stream of 1 x 1 x 1 images; None cannot be read."""

    class Row(NamedTuple):
        value: int | None
        name: str

    def read(row):
        if row.value is None:
            raise Unreadable("torn", "glue it")
        return np.full((1, 1, 1), row.value, np.uint8)

    rows = [Row(value, f"row {i}") for i, value in enumerate(values)]
    return ImageStream((1, 1, 1), "rows", lambda seed, rank, size: cycle(rows), read)


def test_an_unreadable_row_of_a_stream_is_replaced_by_the_next_good_one():
    stream = stream_of([1, None, None, 4, 5, None])
    whole = [int(x) for x in islice(stream.images(), 12)]
    assert whole == [1, 4, 4, 4, 5, 1, 1, 4, 4, 4, 5, 1]
    for start in range(12):
        assert [int(x) for x in islice(stream.images(start=start), 12 - start)] == whole[start:]
    assert stream.notes() == ["3 files were skipped, torn: row 1, row 2, row 5."]


def test_a_stream_of_nothing_but_unreadable_rows_gives_up():
    with pytest.raises(DataError, match=r"1000 images in a row cannot be read \(torn\)"):
        next(stream_of([None]).images())
