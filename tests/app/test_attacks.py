"""The 26 attacks of the security table, as real requests against a running app, row by row.

The app has its owner's token in its environment, as a Space with a secret does, and a Hub on this
machine that notes who asks for what. What a row's attack is, its test's name says; other files have
more on some of them: opening and pushing (test_hub_tab, test_push), files (tests/data, tests/fuzz).

Long, since the table is.
"""

import asyncio
import http.client
import http.server
import io
import json
import re
import subprocess
import threading
import time
import zipfile
import zlib
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from crowd import API, Guest, endpoints, everybody, resident, sampling, waited_for
from packaging.version import Version
from PIL import Image

ROOT = Path(__file__).parents[2]
PLANTED = "hf_" + "PlantedSecret0123456789abcdefXYZ"  # in two parts: row 24 greps this file, too
MB = 1_000_000
PASSWD = "root:x:"
OVER = ("done", "stopped", "error")
COMPARE = [None, ["ddpm", "ddim"], 50, 4, 7]  # what the form of the Lab's first tool sends


class Attacker:
    """Requests to the app by name of endpoint or handler."""

    def __init__(self, server) -> None:
        self.server, self.url = server, server.url
        self.http = httpx.Client(base_url=server.url, timeout=60)
        self.numbers = endpoints(server.url)

    def call(self, name: str, *data, session: str | None = None):
        """Through the queue, as a page does it, whether the endpoint is public or not."""

        async def play():
            async with Guest(self.url, session=session) as guest:
                return await guest.run(self.numbers[name], list(data))

        return waited_for(play())

    def wait_for_training(self, job: str) -> None:
        """Until it is over: it takes memory and time from what is measured next."""
        while self.call("train_status", job).end["output"]["data"][0]["state"] not in OVER:
            time.sleep(0.2)

    def said(self, name: str, *data, **options) -> str:
        """The sentence in which it was refused; fails if it was not."""
        run = self.call(name, *data, **options)
        assert not run.done, run.end
        output = run.end.get("output") or {}
        return str(output.get("error") or run.end.get("detail") or "")

    def raw(self, path: str, **headers) -> tuple[int, bytes, dict]:
        """A path that no client tidies up."""
        line = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=20)
        line.putrequest("GET", path, skip_host=False)
        for name, value in headers.items():
            line.putheader(name, value)
        line.endheaders()
        answer = line.getresponse()
        seen = answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
        line.close()
        return seen

    def upload(self, *files: tuple[str, bytes]) -> httpx.Response:
        return self.http.post(
            f"{API}/upload", files=[("files", (name, content)) for name, content in files]
        )

    def file(self, name: str, content: bytes) -> dict:
        """An upload as a component's value."""
        (path,) = self.upload((name, content)).json()
        return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}


@pytest.fixture(scope="module")
def attack(hub_server):
    return Attacker(hub_server)


@pytest.fixture(scope="module")
def canary():
    """A server on this machine that nobody should ever ask; what came."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_error(404)

        do_POST = do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()


def test_row_1_no_file_of_the_machine_is_served(attack):
    paths = ["/etc/passwd", "/proc/self/environ", "%2e%2e/%2e%2e/etc/passwd", "app.py"]
    paths += ["//etc/passwd", "ddpm_hub/app/gate.py", "C:\\windows\\win.ini"]
    for prefix in ("/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/", "/assets/"):
        for path in paths:
            status, body, _ = attack.raw(prefix + path)
            assert status in (400, 403, 404, 422), (prefix + path, status)
            assert PASSWD.encode() not in body and b"HF_TOKEN" not in body


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "app.py"])
def test_row_2_a_component_reads_no_path_that_a_caller_wrote(attack, path):
    told = {"path": path, "meta": {"_type": "gradio.FileData"}}
    for name, data in {
        "forward": [told, 100, "linear", 0],
        "take_upload": [told],
        "_take_files": [[told], "tiny", "New weights", None],
    }.items():
        run = attack.call(name, *data)
        assert not run.done and PASSWD not in json.dumps(run.end)
    assert PASSWD not in json.dumps(attack.call("forward", path, 100, "linear", 0).end)


def test_row_3_the_server_asks_no_server_that_a_caller_names(attack, canary):
    address, seen = canary
    for url in (f"{address}/x.png", "http://169.254.169.254/latest/meta-data/"):
        for told in ({"url": url}, {"path": url}, {"path": "x.png", "url": url}):
            value = told | {"meta": {"_type": "gradio.FileData"}}
            assert not attack.call("forward", value, 100, "linear", 0).done
            assert not attack.call("take_upload", value).done
        assert not attack.call("load_model", url, None).done
        assert attack.raw(f"/gradio_api/file={url}")[0] in (302, 400, 403, 404)
        assert attack.raw(f"/gradio_api/proxy={url}")[0] == 404
    assert seen == []


@pytest.mark.parametrize("origin", ["null", "https://evil.com", "http://localhost.evil.com"])
def test_row_4_no_other_site_may_read_the_answers(attack, origin):
    for path in ("/config", "/gradio_api/info", "/"):
        headers = attack.http.get(path, headers={"Origin": origin}).headers
        assert "access-control-allow-origin" not in headers
    told = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    answer = attack.http.options(f"{API}/queue/join", headers=told)
    assert answer.headers.get("access-control-allow-origin") not in ("*", origin)


@pytest.mark.parametrize("name", ["x.html", "x.svg", "x.xml", "x.js"])
def test_row_5_an_upload_is_never_a_page_of_this_site(attack, name):
    (path,) = attack.upload((name, b"<svg onload='alert(1)'/><script>alert(1)</script>")).json()
    answer = attack.http.get(f"{API}/file={path}")
    if answer.status_code == 200:
        assert "attachment" in answer.headers["content-disposition"]
        assert "html" not in answer.headers["content-type"]


def test_row_5_what_a_repo_says_is_shown_as_text(attack):
    run = attack.call("_open", "alice/hostile", "", "")
    assert run.done
    shown = " ".join(value for value in run.end["output"]["data"] if isinstance(value, str))
    assert "&lt;script&gt;" in shown
    for tag in ("<script", "<iframe", "<img src=x", "<svg onload"):
        assert tag not in shown


def test_row_6_the_login_leads_nowhere_else(attack):
    for path in ("/login/callback", "/login/huggingface", "/logout", "/login"):
        for target in ("////evil.com", "https://evil.com", "/\\evil.com"):
            answer = attack.http.get(path, params={"_target_url": target})
            assert "evil.com" not in answer.headers.get("location", "")


def test_row_7_a_private_handler_checks_whose_right_it_is_itself(attack, repos):
    repos.hub.clear()
    assert "token" in attack.said(
        "push", "bundled", "owner/taken", False
    )  # the owner's is in the environment
    run = attack.call(
        "_push", "bundled", "owner/taken", "mit", False, False, "# card", "# card", ""
    )
    assert "token" in json.dumps(run.answers)
    assert not [r for r in repos.hub.log if r["line"].startswith(("POST", "PUT"))]
    for name in ("_stop_1", "_pause"):  # trainings are known to who started them
        answer = attack.http.post(
            f"{API}/run/predict",
            json={"fn_index": attack.numbers[name].id, "data": ["0" * 16, []], "session_hash": "x"},
        )
        assert answer.status_code == 200
    for name in ("train_stop", "train_status"):
        assert "training" in attack.said(name, "0" * 16)


def test_row_7_there_is_no_way_around_the_queue(attack):
    body = {"data": sampling(), "session_hash": "around"}
    for path in ("run/sample", "api/sample", "run/predict"):
        number = {"fn_index": attack.numbers["sample"].id} if path.endswith("predict") else {}
        answer = attack.http.post(f"{API}/{path}", json=body | number)
        assert answer.status_code in (404, 422), path


# ---- 8 to 10: what is uploaded ------------------------------------------------------------------
def test_row_8_an_upload_without_end_is_refused_before_it_is_read(attack):
    line = http.client.HTTPConnection(urlsplit(attack.url).netloc, timeout=20)
    line.putrequest("POST", f"{API}/upload")
    line.putheader("Content-Type", "multipart/form-data; boundary=x")
    line.putheader("Content-Length", str(300 * MB))
    line.endheaders()
    answer = line.getresponse()
    assert answer.status == 413 and b"64 MB" in answer.read()
    line.close()
    assert attack.upload(("a.png", b"x" * 6 * MB)).status_code == 413


def test_row_8_many_files_of_the_largest_size_do_not_pass_in_one_request(attack):
    before = folder_bytes(attack.server)
    piece = b"x" * (49 * MB // 10)
    answer = attack.upload(*((f"{n}.png", piece) for n in range(20)))
    assert answer.status_code == 413 and "fewer files" in answer.json()["detail"]
    assert folder_bytes(attack.server) - before < MB


def test_row_8_a_length_that_is_not_told_is_counted(attack):
    def body():
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        for n in range(20):
            yield b"%d" % n * (4 * MB)
            yield b'\r\n--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'

    told = {"Content-Type": "multipart/form-data; boundary=x"}
    try:
        answer = attack.http.post(f"{API}/upload", content=body(), headers=told)
    except httpx.TransportError:
        return  # the server hung up while we were still sending
    assert answer.status_code == 413


def folder_bytes(server) -> int:
    folder = server.runs.parent / "gradio"
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_row_9_a_picture_of_a_hundred_million_pixels_is_refused_before_it_is_decoded(attack):
    stream = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(stream, "PNG")
    assert stream.tell() < 200_000
    before = resident(attack.server.process.pid)
    bomb = attack.file("bomb.png", stream.getvalue())
    assert "pixels" in attack.said("forward", bomb, 100, "linear", 0)
    shown = json.dumps(attack.call("take_upload", bomb).end)
    assert "pixels" in shown
    assert "pixels" in json.dumps(attack.call("_take_files", [bomb], "tiny", "New weights").end)
    assert resident(attack.server.process.pid) - before < 200 * MB


def fits() -> bytes:
    cards = ("SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   = 2")
    cards += ("NAXIS1  =               100000", "NAXIS2  =               100000", "END")
    return "".join(card.ljust(80) for card in cards).encode().ljust(2880) + zlib.compress(b"")


def gd() -> bytes:
    return b"\xff\xfe" + b"\xff\xff\xff\xff" + b"\x01" + b"\xff" * 64


def zip_bomb() -> bytes:
    """300 MB of zeros in 300 kB."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.png", "b.png", "c.png"):
            archive.writestr(name, bytes(100 * MB))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content"), [("x.png", fits), ("x.webp", gd), ("x.zip", zip_bomb)]
)
def test_row_10_other_bombs_are_refused_in_a_sentence(attack, name, content):
    before = resident(attack.server.process.pid)
    bomb = attack.file(name, content())
    run = attack.call("_take_files", [bomb], "tiny", "New weights")
    _, card = run.end["output"]["data"]
    assert re.search(r"unpacks to|no image|none|cannot|not a", card), card
    assert "img" not in card
    if not name.endswith(".zip"):
        assert len(attack.said("forward", bomb, 100, "linear", 0)) > 20
    assert resident(attack.server.process.pid) - before < 200 * MB


# ---- 11 to 13: what is asked for ----------------------------------------------------------------
def test_row_11_one_session_has_two_places_and_nobody_else_meets_a_full_queue(attack):
    async def play():
        async with Guest(attack.url, "127.0.0.7") as greedy, Guest(attack.url) as other:
            number = attack.numbers["sample"]
            joins = [await greedy.join(number, sampling(500, n)) for n in range(30)]
            form = await greedy.run(attack.numbers["prepare"], COMPARE)
            light = await other.run(attack.numbers["schedule"], ["linear", 100])
            drawn = await other.run(number, sampling(2))
            return [answer.status_code for answer in joins], joins[-1].json(), form, light, drawn

    statuses, refusal, form, light, drawn = waited_for(play())
    assert "one waits" in form.end["output"]["error"]  # the page says so before it makes a run
    assert statuses == [200, 200] + [429] * 28
    assert "one waits" in refusal["detail"]
    assert light.done and drawn.done


def test_row_11_new_sessions_of_one_address_have_an_end_too(attack):
    async def play():
        number = attack.numbers["sample"]

        async def join() -> int:
            async with Guest(attack.url, "127.0.0.8") as guest:
                return (await guest.join(number, sampling(500))).status_code

        statuses = await everybody(join() for _ in range(40))
        async with Guest(attack.url, "127.0.0.9") as other:  # is next, not the thirty-third
            return statuses, await other.run(number, sampling(2))

    statuses, drawn = waited_for(play())
    assert 32 <= statuses.count(200) < 40 and set(statuses) == {200, 429}
    assert drawn.done


def test_row_12_what_nobody_listens_to_ends(attack):
    async def play():
        async with Guest(attack.url, "127.0.0.10") as absent:
            for n in range(2):
                answer = await absent.join(attack.numbers["sample"], sampling(1000, n, 16))
                assert answer.status_code == 200
            await asyncio.sleep(8)
            return await absent.join(attack.numbers["sample"], sampling(1000))

    assert waited_for(play()).status_code == 200  # both places are free again


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (2, 1e308), (2, -5), (2, "2"), (2, 0), (2, True), (2, 2.5), (4, 10**9), (4, -1), (4, "x"),
        (3, 7), (3, "nan"), (1, "../../etc/passwd"), (1, {"a": 1}), (5, -1), (5, 2**70),
        (0, "../../etc/passwd"), (0, ["bundled"]),
    ],
)  # fmt: skip
def test_row_13_values_out_of_range_are_refused_in_a_sentence(attack, place, value):
    data = sampling()
    data[place] = value
    assert len(attack.said("sample", *data)) > 20
    assert PASSWD not in attack.server.log()


@pytest.mark.parametrize(
    "asked", [("/etc", "tiny", 1), ("bundled", "../../x", 1), ("bundled", "tiny", 10**9)]
)
def test_row_13_no_training_is_longer_or_of_other_things_than_may_be(attack, asked):
    assert len(attack.said("train_start", *asked, 0)) > 20


# ---- 14 to 17: whose training, what is loaded ---------------------------------------------------
def test_row_14_a_stranger_can_neither_see_end_nor_publish_a_training(attack):
    (answer,) = attack.call("train_start", "bundled", "tiny", 3, 0).end["output"]["data"]
    job = answer["job"]
    assert re.fullmatch("[0-9a-f]{16}", job)  # 64 random bits are the right to it
    near = f"{int(job, 16) ^ 1:016x}"
    for name in ("train_stop", "train_status"):
        for guess in (near, "../" + job, "*", "", None, {"job": job}):
            assert not attack.call(name, guess).done
    assert not attack.call("push", f"job:{job}", "alice/stolen", False).done
    assert not attack.call("sample", f"job:{near}", "ddim", 2, 0.0, 1, 1).done
    assert job not in attack.http.get("/config").text
    attack.wait_for_training(job)


def test_row_15_no_pickle_is_read(attack, repos):
    assert "pickle" in attack.said("load_model", "alice/pickles", None)
    assert not repos.canary.exists()


@pytest.mark.parametrize("name", ["alice/broken", "alice/huge", "alice/empty"])
def test_row_16_a_hostile_config_is_refused_before_anything_is_built(attack, name):
    before = resident(attack.server.process.pid)
    assert len(attack.said("load_model", name, None)) > 20
    assert resident(attack.server.process.pid) - before < 50 * MB


@pytest.mark.parametrize("name", ["alice/cut", "alice/heavy"])
def test_row_17_hostile_weights_are_refused_in_a_sentence(attack, name):
    assert re.search("safetensors|MB", attack.said("load_model", name, None))


# ---- 18 to 22: whose token ----------------------------------------------------------------------
def test_row_18_the_owner_s_token_opens_nothing_and_writes_nothing_for_a_visitor(attack, repos):
    repos.hub.clear()
    assert "private" in attack.said("load_model", "owner/secret", None)
    assert not attack.call("sample", "owner/secret", "ddim", 2, 0.0, 1, 1).done
    shown = attack.call("_open", "owner/secret", "", "")
    assert "hub-said" in json.dumps(shown.end) or "private" in json.dumps(shown.end)
    assert "token" in attack.said("push", "bundled", "owner/mine", False)
    assert repos.hub.log and {request["auth"] for request in repos.hub.log} == {False}
    assert not repos.api(repos.owner).repo_exists("owner/mine")


def test_row_19_what_a_token_opened_is_nobody_else_s(attack, repos):
    run = attack.call("_open", "alice/secret", "", repos.alice, session="alicespage")
    assert "not public" in json.dumps(run.end)
    loaded = attack.call("_load", None, repos.alice, session="alicespage")
    key = re.search(r"opened:[0-9a-f]{32}", json.dumps(loaded.end))
    assert loaded.done
    repos.hub.clear()
    for name in ("alice/secret", f"alice/secret@{repos.commits['alice/secret'][-1]}"):
        assert "private" in attack.said("load_model", name, None)
        assert not attack.call("sample", name, "ddim", 2, 0.0, 1, 1).done
    assert not attack.call("load_model", "opened:" + "0" * 32, None).done
    home = attack.server.runs.parent
    assert not [p for p in home.rglob("*") if "alice--secret" in p.name and any(p.rglob("blobs/*"))]
    assert key is None or key[0] not in attack.http.get("/config").text
    assert {request["auth"] for request in repos.hub.log} <= {False}


@pytest.mark.parametrize(
    "name",
    ["/data", "~/x", "../..", "tests/app", "a/b?x", "a/" + "b" * 200, "a/b/c", "https://x/y/z", ""],
)
def test_row_20_a_repo_s_name_is_never_a_path(attack, repos, name):
    repos.hub.clear()
    assert "owner/name" in attack.said("load_model", name, None)
    assert repos.hub.log == []


def test_row_21_without_a_right_of_one_s_own_nothing_is_pushed(attack, repos):
    tokens = {"none": None, "empty": "", "read": repos.reader, "expired": "hf_" + "e" * 34}
    repos.hub.clear()
    for name, token in tokens.items():
        for target in ("alice/pushed", "owner/pushed"):
            body = {"data": ["bundled", target, False], "oauth_token": token}
            event = attack.http.post(f"{API}/call/push", json=body).json()["event_id"]
            with attack.http.stream("GET", f"{API}/call/push/{event}") as answer:
                said = "".join(answer.iter_text())
            assert "event: error" in said, (name, said)
            assert not token or token not in said
    other = {"data": ["bundled", "owner/pushed", False], "oauth_token": repos.alice}
    event = attack.http.post(f"{API}/call/push", json=other).json()["event_id"]
    with attack.http.stream("GET", f"{API}/call/push/{event}") as answer:
        assert "event: error" in "".join(answer.iter_text())
    assert not [r for r in repos.hub.log if r["line"].startswith(("POST", "PUT"))]


def test_row_22_outside_a_space_nobody_is_offered_the_machine_s_login(attack):
    config = attack.http.get("/config").json()
    assert "loginbutton" not in {c["type"].lower() for c in config["components"]}
    assert attack.http.get("/login/huggingface", follow_redirects=False).status_code in (404, 405)


# ---- 23 to 26: leaks and supplies ---------------------------------------------------------------
def test_row_23_a_secret_in_an_exception_reaches_neither_log_nor_visitor(serve):
    server = serve(program="tests/raising_app.py", PLANTED=PLANTED, HF_TOKEN=PLANTED)
    attack, told = Attacker(server), []
    for name in attack.numbers:
        run = attack.call(name)
        assert not run.done
        told.append(json.dumps(run.end))
    for path in ("/config", "/gradio_api/info", "/openapi.json", "/monitoring", "/"):
        told.append(attack.http.get(path).text)
    for component in attack.http.get("/config").json()["components"]:
        for name in ("frames", "export", "read", "describe", "_device_line"):
            body = {"component_id": component["id"], "fn_name": name, "data": {}}
            if component["type"] == "html":
                sent = body | {"session_hash": "x"}
                told.append(httpx.post(f"{server.url}{API}/component_server", json=sent).text)
    log = server.log()
    assert log.count("RuntimeError") > 50 and "***" in log and "printed:" in log
    assert "logged:" in log
    for text in (*told, log):
        assert PLANTED[3:] not in text


def test_row_24_no_file_of_the_project_holds_a_token_and_none_is_pushed(attack, repos):
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    pattern = re.compile(rb"hf_[A-Za-z0-9]{34}\b")
    assert [n for n in files if (p := ROOT / n).is_file() and pattern.search(p.read_bytes())] == []
    card = f"# mine\n{PLANTED}\n"
    data = ["bundled", "alice/planted", "mit", False, True, card, "", repos.alice]
    run = attack.call("_push", *data)
    assert "looks like a token" in json.dumps(run.answers)
    assert not repos.api().repo_exists("alice/planted")


def test_row_25_nothing_is_flagged_and_no_workflow_runs_strangers_code_with_rights(attack):
    assert "flag" not in {d["api_name"] for d in attack.http.get("/config").json()["dependencies"]}
    assert "/flag" not in attack.http.get(f"{API}/info").json()["named_endpoints"]
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        text = path.read_text()
        assert "pull_request_target" not in yaml.safe_load(text)[True]
        assert "github.event." not in text


def test_row_26_the_versions_are_those_in_which_the_known_flaws_are_mended():
    """pip-audit needs PyPI's database: a workflow runs it weekly; the table's flaws are here."""
    mended = {"gradio": "6.31", "pillow": "12.3", "torch": "2.10", "safetensors": "0.8"}
    lines = (ROOT / "requirements.txt").read_text()
    for name, version in mended.items():
        assert Version(metadata.version(name)) >= Version(version)
        assert Version(re.search(rf"^{name}>=([\d.]+)", lines, re.M)[1]) >= Version(version)
    audit = yaml.safe_load((ROOT / ".github" / "workflows" / "audit.yml").read_text())
    assert audit[True]["schedule"] and audit["permissions"] == {"contents": "read"}
    assert any("pip-audit" in step.get("run", "") for step in audit["jobs"]["audit"]["steps"])
