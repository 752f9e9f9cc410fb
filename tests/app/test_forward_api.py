"""`/forward` and `/schedule`: what a script meets, with gradio_client and without."""

import base64
import io
import json
import urllib.request

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from ddpm_hub.app import process
from ddpm_hub.data import fashion_mnist
from ddpm_hub.schedules import alpha_bar


@pytest.fixture(scope="module")
def client(server):
    return Client(server.url, verbose=False)


@pytest.fixture(scope="module")
def picture_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("forward") / "boot.png"
    pixels = fashion_mnist("test").images[22, 0].numpy()
    Image.fromarray(pixels).save(path)
    return path


def test_forward_takes_an_uploaded_file_or_a_data_uri_and_gives_eq_4(client, picture_file):
    asked = {"timesteps": 500, "schedule": "cosine", "t": 100}
    got = client.predict(image=handle_file(picture_file), **asked, api_name="/forward")
    expected = process.noised(process.small_picture(picture_file.read_bytes()), 500, "cosine", 100)
    assert set(got) == {"t", "alpha_bar", "snr_db", "image"}
    assert got["t"] == 100 and got["image"] == expected.image
    assert got["alpha_bar"] == pytest.approx(alpha_bar("cosine", 500)[100].item(), rel=1e-6)
    uri = "data:image/png;base64," + base64.b64encode(picture_file.read_bytes()).decode()
    assert client.predict(image=uri, **asked, api_name="/forward") == got
    drawn = Image.open(io.BytesIO(base64.b64decode(got["image"].split(",")[1])))
    assert drawn.format == "PNG" and drawn.mode == "L"


def test_schedule_gives_three_lists_of_length_t(client):
    got = client.predict(schedule="linear", timesteps=1000, api_name="/schedule")
    assert set(got) == {"beta", "alpha_bar", "snr_db"}
    assert (got["beta"][0], got["beta"][-1]) == pytest.approx((1e-4, 0.02))
    assert got["alpha_bar"] == pytest.approx(alpha_bar("linear", 1000).tolist(), rel=1e-6)
    assert len(got["snr_db"]) == 1000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"t": 1000}, ["t 1000", "999"]),
        ({"t": -1}, ["t -1", "0"]),
        ({"timesteps": 10**9}, ["timesteps 1000000000", "1000"]),
        ({"timesteps": 10, "t": 0}, ["timesteps 10", "20"]),
        ({"schedule": "quadratic"}, ["quadratic", "linear, cosine, sigmoid"]),
        ({"image": "/etc/passwd"}, ["handle_file"]),
        ({"image": {"path": "/etc/passwd"}}, ["handle_file"]),
        ({"image": {"path": "../../etc/passwd"}}, ["handle_file"]),
        ({"image": None}, ["handle_file"]),
        ({"image": "data:image/png;base64,AAAA"}, ["image"]),
        ({"image": "data:image/png;base64,!!"}, ["base64"]),
    ],
)
def test_a_bad_argument_is_refused_in_one_sentence(client, picture_file, change, words):
    uri = "data:image/png;base64," + base64.b64encode(picture_file.read_bytes()).decode()
    asked = {"image": uri, "timesteps": 1000, "schedule": "linear", "t": 5} | change
    with pytest.raises(AppError) as caught:
        client.predict(**asked, api_name="/forward")
    sentence = str(caught.value)
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence and "Traceback" not in sentence and "root:" not in sentence


@pytest.mark.parametrize("extra", [{}, {"is_stream": True}, {"url": "http://127.0.0.1:1/x.png"}])
def test_a_path_dressed_as_an_upload_is_refused(server, extra):
    dressed = {"path": __file__, **extra}
    dressed["meta"] = {"_type": "gradio.FileData"}
    answer = call_raw(server.url, [dressed, 100, "cosine", 1])
    assert answer.startswith("event: error")
    assert "we read" not in answer  # it was not even opened


def call_raw(url: str, data: list) -> str:
    """What /forward says to a script that does without gradio_client, which uploads by itself."""
    call = f"{url}/gradio_api/call/forward"
    request = urllib.request.Request(
        call, json.dumps({"data": data}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        event = json.load(response)["event_id"]
    with urllib.request.urlopen(f"{call}/{event}", timeout=20) as response:
        return response.read().decode()
