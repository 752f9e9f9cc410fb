"""The Space: its README against the project's pins, and its deployment to a Hub on this machine.

The command runs as a process, with the real client, with Xet and without. Over 300 lines: what is
staged, what is asked of the Hub and what then runs are one deployment.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi, SpaceCard
from packaging.requirements import Requirement

from ddpm_hub.errors import ConfigError, HubError
from ddpm_hub.hub import space

ROOT = Path(__file__).parent.parent
CARD = ROOT / "space_config" / "README.md"
FACTS = yaml.safe_load(CARD.read_text(encoding="utf-8").split("---\n")[1])
NAME = "alice/demo"
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
WORKFLOW = ROOT / ".github" / "workflows" / "space.yml"


def api(server):
    return HfApi(server.url, token=os.environ["HF_TOKEN"])


def command(*words, program=("-m", "ddpm_hub", "space")):
    return subprocess.run(
        [sys.executable, *program, *words], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def commits(server, name=NAME):
    return [c.title for c in api(server).list_repo_commits(name, repo_type="space")]


def repo(server, name=NAME):
    return server.hub.store.repos[server.hub.store.key("space", name)]


def sentence(done, code):
    """The one line on stderr of a command that failed with that exit code."""
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("ddpm-hub: ")
    return line


def test_the_front_matter_names_what_a_space_of_gradio_needs():
    assert FACTS["sdk"] == "gradio"
    assert {FACTS["colorFrom"], FACTS["colorTo"]} <= COLOURS
    assert len(FACTS["emoji"]) <= 2 and FACTS["title"]
    assert len(FACTS["short_description"]) <= 60
    assert FACTS["suggested_hardware"] in space.HARDWARE
    assert (ROOT / FACTS["app_file"]).is_file()
    assert f'license = "{FACTS["license"]}"' in (ROOT / "pyproject.toml").read_text().lower()


def test_the_gradio_of_the_space_is_the_one_that_is_tested_and_within_what_is_required():
    assert FACTS["sdk_version"] == metadata.version("gradio")
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    (wanted,) = [Requirement(line) for line in lines if line.startswith("gradio")]
    assert FACTS["sdk_version"] in wanted.specifier


def test_the_python_of_the_space_is_a_string_one_that_ci_tests_and_new_enough_for_gradios_pandas():
    assert isinstance(FACTS["python_version"], str)  # 3.10 would be 3.1
    assert tuple(map(int, FACTS["python_version"].split("."))) >= (3, 11)
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert FACTS["python_version"] in ci["jobs"]["test"]["strategy"]["matrix"]["python"]


def test_signing_in_asks_for_nothing_but_the_repos_that_the_space_itself_makes():
    assert FACTS["hf_oauth"] is True
    assert FACTS["hf_oauth_scopes"] == ["contribute-repos"]
    assert FACTS["hf_oauth_expiration_minutes"] <= 480


def test_the_workflow_holds_no_secret_pins_by_commit_and_runs_only_when_somebody_means_it():
    text = WORKFLOW.read_text()
    told = yaml.safe_load(text)
    assert set(told[True]) == {"push", "workflow_dispatch"}  # YAML reads `on` as True
    assert set(told[True]["push"]) == {"tags"}
    job = told["jobs"]["deploy"]
    assert job["permissions"] == {"contents": "read", "id-token": "write"}
    assert job["env"]["HF_OIDC_RESOURCE"].startswith("spaces/")
    assert "secrets." not in text and "HF_TOKEN" not in text
    uses = [step["uses"] for step in job["steps"] if "uses" in step]
    assert uses and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", name) for name in uses)
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert not any("${{" in run for run in runs)
    assert runs[-1].split()[:2] == ["python", "space_config/deploy.py"]


def test_a_stage_holds_the_package_whole_and_nothing_that_grew_beside_it():
    files = space.stage().files
    assert {"app.py", "requirements.txt", "LICENSE"} <= files.keys()
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "ddpm_hub"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    package = {name for name in files if name.startswith("ddpm_hub/")}
    assert package == {name for name in listed if (ROOT / name).is_file()}
    assert "ddpm_hub/assets/fashion_mnist.npz.xz" in package


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A small checkout in place of this one."""
    root = tmp_path / "checkout"
    (root / "ddpm_hub" / "__pycache__").mkdir(parents=True)
    (root / "space_config").mkdir()
    for name in ("app.py", "requirements.txt", "LICENSE", "space_config/README.md"):
        shutil.copy(ROOT / name, root / name)
    for name in ("model.py", "__pycache__/model.cpython-312.pyc", ".model.py.7.tmp"):
        (root / "ddpm_hub" / name).write_text("x = 1\n")
    monkeypatch.setattr(space, "PACKAGE", root / "ddpm_hub")
    return root


def test_caches_and_half_written_files_are_not_staged(checkout):
    (checkout / ".git").mkdir()
    (checkout / ".git" / "config").write_text("secret")
    staged = space.stage()
    assert set(staged.files) == {"app.py", "requirements.txt", "LICENSE", "ddpm_hub/model.py"}
    assert staged.readme == CARD.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["ddpm_hub/model.py", "space_config/README.md"])
def test_a_token_in_a_file_is_refused_by_the_name_of_the_file(name, checkout):
    with (checkout / name).open("a") as file:
        file.write("# hf_" + "Ab3" * 12)
    with pytest.raises(HubError, match=rf"{name}.*token.*revoke it"):
        space.stage()


def test_without_a_checkout_or_a_wheels_files_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(space, "PACKAGE", tmp_path / "ddpm_hub")
    monkeypatch.setattr(metadata, "files", lambda name: None)
    with pytest.raises(HubError, match=r"space_config/README.md is neither.*use a checkout"):
        space.stage()


def test_a_wheel_carries_what_a_space_needs_beside_the_package(tmp_path, monkeypatch):
    """As pip lays them out: the package in site-packages, the rest under share/."""
    share = tmp_path / "share" / "ddpm_hub"
    (share / "space_config").mkdir(parents=True)
    project = (ROOT / "pyproject.toml").read_text().split("[tool.setuptools.data-files]")[1]
    names = re.findall(r'^"(share/[\w/]+)" = \[(.+)\]$', project, re.M)
    carried = {name: folder for folder, list_ in names for name in re.findall(r'"(.+?)"', list_)}
    assert set(carried) == {*space.BESIDE, space.CARD}
    for name, folder in carried.items():
        shutil.copy(ROOT / name, tmp_path / folder / Path(name).name)

    class File(type(Path())):
        def locate(self):
            return tmp_path / self

    found = [File(p.relative_to(tmp_path)) for p in share.rglob("*") if p.is_file()]
    package = tmp_path / "site-packages" / "ddpm_hub"
    shutil.copytree(ROOT / "ddpm_hub" / "cli", package / "cli")
    monkeypatch.setattr(space, "PACKAGE", package)
    monkeypatch.setattr(metadata, "files", lambda name: found)
    files = space.stage().files
    assert {"app.py", "requirements.txt", "LICENSE", "ddpm_hub/cli/space.py"} <= files.keys()


def test_a_model_and_its_hardware_stand_in_the_front_matter():
    readme = space.stage(space.Wishes(model="alice/garments", hardware="l4x1")).readme
    data = SpaceCard(readme).data
    assert data.models == ["alice/garments"]
    assert data["preload_from_hub"] == ["alice/garments config.json,model.safetensors"]
    assert data["suggested_hardware"] == "l4x1"
    rest = {k: v for k, v in data.to_dict().items() if k in FACTS} | {"suggested_hardware": 0}
    assert rest == FACTS | {"suggested_hardware": 0}
    assert readme.split("---\n", 2)[2] == CARD.read_text(encoding="utf-8").split("---\n", 2)[2]


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"hardware": "h100"}, "unknown hardware 'h100': choose one of cpu-basic"),
        ({"hardware": "zero-a10g"}, "unknown hardware"),
        ({"sleep": -5}, "sleep -5"),
        ({"model": "../etc"}, "is no name of a repo"),
        ({"model": "alice/a\nsdk: docker"}, "is no name of a repo"),
        ({"bucket": "runs"}, "does not say whose repo it is"),
    ],
)
def test_a_wish_that_cannot_be_is_a_sentence(wish, says):
    with pytest.raises((ConfigError, HubError), match=says):
        space.Wishes(**wish)


def test_paid_hardware_rests_after_an_hour_unless_told_otherwise():
    assert space.Wishes(hardware="t4-small").seconds == 3600
    assert space.Wishes(hardware="t4-small", sleep=0).seconds == -1
    assert space.Wishes(hardware="cpu-basic").seconds is None
    assert space.Wishes(sleep=5).seconds == 300


def test_the_demo_is_told_of_its_model_and_its_bucket_only_if_there_is_one():
    assert space.Wishes().variables == {}
    assert space.Wishes(model="a/b").variables == {"DDPM_HUB_MODEL": "a/b"}
    assert space.Wishes(bucket="a/b").variables == {"DDPM_HUB_RUNS": "/data/runs"}


@pytest.mark.parametrize(("name", "first"), [("a/b", "a/b"), ("<b>/../x", "google/")])
def test_the_demo_suggests_the_model_that_its_space_is_about_first(name, first, monkeypatch):
    monkeypatch.setenv("DDPM_HUB_MODEL", name)
    done = command(program=("-c", "from ddpm_hub.app.tabs.hub import KNOWN; print(KNOWN[0])"))
    assert done.stdout.startswith(first), done.stderr


def test_a_dry_run_shows_readme_files_and_settings_without_network_or_token(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody is there
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    words = ("--model", "alice/garments", "--hardware", "t4-small", "--bucket", "alice/runs")
    done = command("deploy", NAME, *words, "--dry-run")
    assert done.returncode == 0, done.stderr
    sizes = space.stage(space.Wishes(model="alice/garments", hardware="t4-small")).sizes()
    listed = {
        n: int(s.replace(",", "")) for s, n in re.findall(r"^ *([\d,]+)  (\S+)$", done.stdout, re.M)
    }
    assert listed == sizes
    assert f"{sum(sizes.values()):,}  bytes in {len(sizes)} files" in done.stdout
    for words in ("- alice/garments config.json", "DDPM_HUB_RUNS  /data/runs", "after 60 minutes"):
        assert words in done.stdout


def test_deploying_loads_neither_torch_nor_gradio():
    program = (
        "import sys; sys.argv = ['ddpm-hub', 'space', 'deploy', 'a/b', '--dry-run']\n"
        "import runpy\n"
        "try: runpy.run_module('ddpm_hub', run_name='__main__')\n"
        "finally: print('loaded:', *{'torch', 'gradio', 'numpy'} & sys.modules.keys())"
    )
    done = command(program=("-c", program))
    assert done.stdout.splitlines()[-1] == "loaded:", done.stderr


def test_a_space_is_created_and_deployed_in_one_commit_and_a_second_time_in_none(server, xet):
    done = command("deploy", NAME)
    assert done.returncode == 0, done.stderr
    assert f"{server.url}/spaces/{NAME}: commit" in done.stdout
    info = api(server).space_info(NAME, files_metadata=True)
    assert info.sdk == "gradio" and not info.private
    assert info.card_data.to_dict().items() >= {"sdk_version": FACTS["sdk_version"]}.items()
    assert commits(server) == ["Deploy with ddpm_hub", "initial commit"]
    sizes = {f.rfilename: f.size for f in info.siblings if f.rfilename != ".gitattributes"}
    assert sizes == space.stage().sizes()
    again = command("deploy", NAME)
    assert again.returncode == 0 and "nothing to do since commit" in again.stdout
    assert len(commits(server)) == 2


def test_the_thin_script_deploys_the_same(server):
    done = command(NAME, program=("space_config/deploy.py",))
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in command("deploy", NAME).stdout


def test_what_is_no_longer_here_is_gone_from_the_space_and_the_hubs_own_file_stays(server, xet):
    space.deploy(NAME)
    api(server).upload_file(
        path_or_fileobj=b"old", path_in_repo="ddpm_hub/old.py", repo_id=NAME, repo_type="space"
    )
    assert space.deploy(NAME).changed
    files = set(api(server).list_repo_files(NAME, repo_type="space"))
    assert files == {".gitattributes", *space.stage().sizes()}


def test_hardware_sleep_bucket_and_model_reach_a_new_space_and_one_that_is_there(server, tmp_path):
    api(server).create_repo("alice/garments")
    shutil.copytree(ROOT / "ddpm_hub" / "assets" / "bundled", tmp_path / "model")
    api(server).upload_folder(repo_id="alice/garments", folder_path=tmp_path / "model")
    wishes = space.Wishes("alice/garments", "t4-small", bucket="alice/runs", private=True)
    space.deploy("alice/new", wishes)
    space.deploy("alice/old")
    assert space.deploy("alice/old", wishes).changed  # its front matter
    for name in ("alice/new", "alice/old"):
        runtime = api(server).get_space_runtime(name)
        assert (runtime.hardware, runtime.sleep_time) == ("t4-small", 3600)
        (volume,) = runtime.volumes
        assert (volume.type, volume.source, volume.mount_path) == ("bucket", "alice/runs", "/data")
        assert repo(server, name)["variables"] == {
            "DDPM_HUB_MODEL": "alice/garments",
            "DDPM_HUB_RUNS": "/data/runs",
        }
    assert repo(server, "alice/new")["private"] and not repo(server, "alice/old")["private"]
    server.clear()
    assert not space.deploy("alice/old", wishes).changed
    sent = [line["line"] for line in server.log]
    assert [line for line in sent if not line.startswith("GET ")] == []  # each restarts the Space


def test_a_model_that_visitors_could_not_open_is_refused_before_anything_is_made(server):
    api(server).create_repo("alice/secret", private=True)
    api(server).create_repo("alice/empty")
    for model, says in (
        ("alice/secret", "does not exist, or is private"),
        ("alice/empty", "safet"),
    ):
        assert says in sentence(command("deploy", NAME, "--model", model), 1)
    assert server.hub.store.key("space", NAME) not in server.hub.store.repos


def test_a_plan_that_does_not_cover_it_is_a_sentence_that_names_paid_hardware(server):
    server.fault("POST /api/repos/create", "status:402", times=9)
    assert "--hardware t4-small" in sentence(command("deploy", NAME), 1)


@pytest.mark.parametrize("role", ["read", "nobody"])
def test_who_may_not_write_is_told_so(role, server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", server.add_token("bob", "read") if role == "read" else "hf_no")
    line = sentence(command("deploy", NAME), 1)
    assert "could not be deployed" in line and "hf auth login" in line


@pytest.mark.parametrize("fault", ["status:503", "truncate:0"])
def test_a_commit_that_fails_or_whose_answer_is_lost_is_made_once(fault, server, xet):
    space.deploy(NAME)
    (head,) = commits(server)[:1]
    api(server).upload_file(
        path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=NAME, repo_type="space"
    )
    server.fault(f"POST /api/spaces/{NAME}/commit", fault)
    assert space.deploy(NAME).changed
    assert commits(server)[0] == head and len(commits(server)) == 4


@pytest.mark.parametrize(
    "request_",
    [
        "GET /api/spaces/alice/demo",
        "POST /api/repos/create",
        "POST .*/preupload/",
        "POST .*/commit/",
    ],
)
def test_a_hub_that_fails_once_is_asked_again(request_, server):
    server.fault(request_, "status:503")
    assert space.deploy(NAME).changed and len(commits(server)) == 2
    assert any(line["fault"] for line in server.log)


def test_a_hub_that_fails_for_ever_is_a_sentence_before_a_minute_is_over(server):
    server.fault("GET /api/spaces/", "status:503", times=999)
    begun = time.monotonic()
    with pytest.raises(HubError, match="alice/demo' could not be deployed"):
        space.deploy(NAME)
    assert time.monotonic() - begun < 60


def test_the_status_tells_stage_hardware_address_and_what_went_wrong(server):
    space.deploy(NAME)
    repo(server)["trouble"] = {
        "stage": "RUNTIME_ERROR",
        "errorMessage": "Exit code: 1\nImportError \x1b[31m hf_" + "a" * 34,
    }
    done = command("status", NAME)
    assert done.returncode == 0, done.stderr
    for words in (f"{server.url}/spaces/{NAME}", "alice-demo", "RUNTIME_ERROR", "cpu-basic"):
        assert words in done.stdout
    assert "Exit code: 1 ImportError" in done.stdout
    assert "\x1b" not in done.stdout and "hf_a" not in done.stdout


def test_the_status_of_a_space_that_is_not_there_is_a_sentence(server):
    assert "could not be looked at" in sentence(command("status", "alice/nowhere"), 1)
    assert "does not say whose repo it is" in sentence(command("status", "alice"), 1)


def test_what_is_deployed_starts_by_itself_in_a_clean_folder(server, tmp_path):
    space.deploy(NAME)
    folder = tmp_path / "space"
    api(server).snapshot_download(NAME, repo_type="space", local_dir=folder)
    page = folder / "ddpm_hub" / "app" / "__init__.py"
    page.write_text(page.read_text().replace('title="ddpm_hub: ', 'title="from the Space: '))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "HF_TOKEN")}
    environment |= {"GRADIO_SERVER_PORT": str(port), "DDPM_HUB_RUNS": str(tmp_path / "runs")}
    with (tmp_path / "log").open("w") as log:
        app = subprocess.Popen(
            [sys.executable, "app.py"], cwd=folder, env=environment, stdout=log, stderr=log
        )
        try:
            config = answer(f"http://127.0.0.1:{port}/config", app)
        finally:
            app.kill()
            app.wait()
    assert "from the Space: " in config, (tmp_path / "log").read_text()


def answer(url, process, seconds=90):
    """What is at `url` as soon as it is there; "" if the process ends before."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                return reply.read().decode()
        except OSError:
            time.sleep(0.3)
    return ""


# ---- what the demo says of its hardware ---------------------------------------------------------
@pytest.fixture
def hardware(monkeypatch):
    """`hardware(kind, space)`: the demo is on such a machine."""
    from ddpm_hub.app import machine

    def choose(kind, name=NAME):
        monkeypatch.setattr(machine, "kind", lambda: kind)
        monkeypatch.delenv("SPACE_ID", raising=False)
        if name:
            monkeypatch.setenv("SPACE_ID", name)

    return choose


def test_a_copy_is_offered_on_spaces_without_a_gpu_of_their_own_and_nowhere_else(hardware):
    from ddpm_hub.app.tabs import duplicate

    link = f'href="https://huggingface.co/spaces/{NAME}?duplicate=true" target="_blank"'
    hardware("cpu")
    assert "No GPU here" in duplicate.offer() and link in duplicate.offer()
    hardware("ZeroGPU")
    assert "45 s at a time" in duplicate.offer() and link in duplicate.offer()
    hardware("cuda")
    assert duplicate.offer() is None and duplicate.note() is None
    hardware("cpu", None)
    assert duplicate.offer() is None
    hardware("cpu", 'a/b"><script>')
    assert "<script>" not in duplicate.offer() and '"><' not in duplicate.offer()


def test_the_front_matter_can_be_met_by_zerogpu():
    major, minor = map(int, FACTS["python_version"].split("."))
    assert (major, minor) in ((3, 10), (3, 12))  # all that it has
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    (torch,) = [Requirement(line) for line in lines if line.startswith("torch")]
    assert "2.10.0" in torch.specifier and "2.11.0" in torch.specifier
    assert not [line for line in lines if line.startswith("spaces")]  # the builder brings it
