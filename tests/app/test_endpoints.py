"""The promised endpoints, all of them by keyword, and what the app says of them to a program."""

import json
import urllib.request

import pytest
from gradio_client import Client, handle_file
from PIL import Image

from ddpm_hub.data import fashion_mnist

ARGUMENTS = {  # /design/api.md
    "/sample": ["model", "sampler", "steps", "eta", "batch", "seed"],
    "/forward": ["image", "timesteps", "schedule", "t"],
    "/schedule": ["schedule", "timesteps"],
    "/load_model": ["model", "revision"],
    "/train_start": ["data", "preset", "steps", "seed"],
    "/train_status": ["job"],
    "/train_stop": ["job"],
    "/push": ["source", "repo_id", "private"],
}
KINDS = {"model": "str", "steps": "int", "eta": "float", "private": "bool", "t": "int"}


@pytest.fixture(scope="module")
def told(hub_server):
    """What /gradio_api/info says: {name: endpoint}."""
    with urllib.request.urlopen(hub_server.url + "/gradio_api/info", timeout=20) as answer:
        return json.load(answer)["named_endpoints"]


def test_there_are_these_endpoints_and_no_others(told):
    assert set(told) == set(ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_endpoint_documents_itself_with_names_types_and_words(told, name):
    parameters = told[name]["parameters"]
    names = [parameter["parameter_name"] for parameter in parameters]
    assert names[: len(ARGUMENTS[name])] == ARGUMENTS[name]
    assert len(told[name]["description"]) > 20
    for parameter in parameters:
        kind = parameter["python_type"]
        assert KINDS.get(parameter["parameter_name"], "") in kind["type"]
        assert len(kind["description"]) > 10, parameter
    (answer,) = told[name]["returns"]
    assert answer["python_type"]["type"].startswith("dict")
    assert len(answer["python_type"]["description"]) > 15


def test_every_endpoint_answers_by_keyword(hub_server, repos, tmp_path):
    client = Client(hub_server.url, verbose=False, oauth_token=repos.alice)
    asked = {"model": "bundled", "sampler": "ddim", "steps": 3, "eta": 0.5, "batch": 4, "seed": 1}
    frames = client.submit(**asked, api_name="/sample")
    frames.result(timeout=90)
    assert [frame["index"] for frame in frames.outputs()] == [0, 1, 2]
    path = tmp_path / "boot.png"
    Image.fromarray(fashion_mnist("test").images[22, 0].numpy()).save(path)
    noised = {"image": handle_file(path), "timesteps": 100, "schedule": "linear", "t": 9}
    assert client.predict(**noised, api_name="/forward")["t"] == 9
    curves = client.predict(schedule="cosine", timesteps=50, api_name="/schedule")
    assert len(curves["beta"]) == 50
    model = client.predict(model="alice/small", revision="main", api_name="/load_model")
    assert model["source"] == "hub"
    begun = {"data": "bundled", "preset": "tiny", "steps": 2, "seed": 3}
    job = client.predict(**begun, api_name="/train_start")["job"]
    assert client.predict(job=job, api_name="/train_status")["total"] == 2
    assert client.predict(job=job, api_name="/train_stop")["state"]
    pushed = {"source": "bundled", "repo_id": "alice/by-keyword", "private": True}
    assert "alice/by-keyword" in client.predict(**pushed, api_name="/push")["url"]
