"""Models on the Hub: opened at one commit and checked, published in one commit.

The real client, over HTTP, with a Hub on this machine, with Xet and without. What a Hub that fails
does is in test_hub_faults.py, what becomes of trainings in test_hub_runs.py. Over 300 lines: one
after the other, what people do with a repo, and what a repo may do to them.
"""

import json
import os
from pathlib import Path

import pytest
from hub_support import (
    DOWNLOAD,
    REPO,
    api,
    commits,
    machine,
    model,
    same,
    start,
)

from ddpm_hub import GaussianDiffusion, Unet, hub
from ddpm_hub.errors import ConfigError, DDPMHubError, HubError, WeightsError
from ddpm_hub.hub import client, repos, sources
from ddpm_hub.hub.cache import Cache

FILES = {".gitattributes", "README.md", "config.json", "model.safetensors"}
FIRST = "Upload GaussianDiffusion with ddpm_hub"
MINE = "---\nlicense: mit\n---\n# My own words\n"


@pytest.fixture
def there(server):
    """A model that alice published."""
    model().push_to_hub(REPO)
    server.clear()
    return server


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def opened(cache, repo=REPO, **where):
    return GaussianDiffusion.from_pretrained(repo, cache_dir=cache, **where)


def asked(server, method=""):
    return [record["line"] for record in server.log if record["line"].startswith(method)]


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}


# ---- there and back -----------------------------------------------------------------------------
ELSEWHERE = """
import json, sys, torch
from ddpm_hub import GaussianDiffusion
torch.set_num_threads(1)
there, here = (GaussianDiffusion.from_pretrained(where) for where in sys.argv[1:])
ours, theirs = here.state_dict(), there.state_dict()
drawn = [m.sample(2, seed=3, progress=False) for m in (here, there)]
print(json.dumps([
    ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours),
    here.to_config() == there.to_config(),
    torch.equal(*drawn),
]))
"""


def test_what_was_pushed_is_opened_elsewhere_weight_by_weight_and_pixel_by_pixel(
    xet, server, tmp_path
):
    model(seed=7).save_pretrained(tmp_path / "here")
    pushed = model(seed=7).push_to_hub(REPO)
    assert set(api(server).list_repo_files(REPO)) == FILES and commits(server) == [FIRST]
    assert pushed == pushed.url == f"{server.url}/{REPO}/commit/{pushed.commit}"
    equal, err = machine(ELSEWHERE, REPO, tmp_path / "here")
    assert equal == [True, True, True]
    assert err == ""  # no bar for what comes at once


def test_a_branch_a_tag_and_an_old_commit_open_what_they_name(xet, server, cache):
    old = model(seed=1).push_to_hub(REPO).commit
    api(server).create_tag(REPO, tag="v1.0")
    model(seed=2).push_to_hub(REPO)
    model(seed=3).push_to_hub(REPO, branch="try/this")
    for revision, seed in {old: 1, "v1.0": 1, None: 2, "main": 2, "try/this": 3}.items():
        assert same(opened(cache, revision=revision), model(seed=seed)), revision


def test_the_network_alone_is_published_and_opened(server, cache):
    model().model.push_to_hub("alice/net", commit_message="my net")
    assert commits(server, "alice/net") == ["my net"]
    assert same(Unet.from_pretrained("alice/net", cache_dir=cache), model().model)


def test_save_pretrained_with_push_to_hub_is_the_mixins(server, tmp_path, cache):
    url = model().save_pretrained(tmp_path / "here", push_to_hub=True, repo_id=REPO, private=True)
    assert url.startswith(f"{server.url}/{REPO}/commit/")
    assert api(server).model_info(REPO).private and same(opened(cache), model())


# ---- one commit, from the first request to the last ---------------------------------------------
def test_a_repo_that_changes_while_it_is_opened_is_opened_as_it_was(there, cache):
    repo = sources.Repo(REPO, cache_dir=cache)
    model(seed=9).push_to_hub(REPO)
    repo.fetch("model.safetensors")
    assert same(opened(cache, revision=repo.commit), model())


def test_a_cold_open_fetches_its_config_once_and_a_warm_one_asks_one_thing(there, cache):
    opened(cache)
    assert sum("config.json" in line for line in asked(there, "GET")) == 1
    there.clear()
    opened(cache)
    assert asked(there) == [f"GET /api/models/{REPO}/revision/main"]


def test_the_cache_is_the_clients_own(there, cache):
    opened(cache)
    found = api(there).hf_hub_download(REPO, "model.safetensors", cache_dir=cache)
    assert not any("/cdn/" in line or "/cas/xorb" in line for line in asked(there)[-1:])
    assert Path(found) == Cache(REPO, cache).path(Path(found).parent.name, "model.safetensors")


# ---- every byte counts --------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_one_wrong_bit_on_the_way_is_found_and_a_second_try_is_right(xet, name, there, cache):
    way = DOWNLOAD[xet] if name.endswith("safetensors") else "GET .*/resolve/.*/config.json"
    there.fault(way, "corrupt", times=10)
    with pytest.raises(HubError, match=rf"{name} of 'alice/model' arrived damaged: try again"):
        opened(cache)
    assert not any(path.name == name for path in files_in(cache).values())
    there.clear()
    assert same(opened(cache), model())


def test_one_wrong_bit_in_the_cache_is_found_and_the_file_is_fetched_again(xet, there, cache):
    opened(cache)
    path = sources.Repo(REPO, cache_dir=cache).fetch("model.safetensors").resolve()
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    with pytest.raises(
        HubError, match=r"model.safetensors .* is damaged in the cache: open it aga"
    ):
        opened(cache, local_files_only=True)
    assert same(opened(cache), model())
    assert sources.Repo(REPO, cache_dir=cache).fetch("model.safetensors").read_bytes() == whole


@pytest.mark.parametrize(("name", "error"), [("config.json", ConfigError), ("w", WeightsError)])
def test_what_is_too_large_is_refused_before_it_is_downloaded(name, error, there, cache):
    name = "model.safetensors" if name == "w" else name
    big = b" " * 70_000 if error is ConfigError else os.urandom(2**25)
    api(there).upload_file(path_or_fileobj=big, path_in_repo=name, repo_id=REPO)
    there.clear()
    with pytest.raises(error, match=rf"{name} of 'alice/model' has [\d,]+ bytes, over the limit"):
        opened(cache)
    assert not any(name in line for line in asked(there))


# ---- without a network --------------------------------------------------------------------------
def test_what_was_opened_once_opens_again_without_a_network(xet, there, cache):
    opened(cache)
    old = opened(cache, revision="main")
    there.__exit__()
    assert same(opened(cache), old) and same(opened(cache, local_files_only=True), old)
    with pytest.raises(
        HubError, match=r"could not be opened \(.*refused.*check the name and the n"
    ):
        opened(cache, revision="v2")
    with pytest.raises(HubError, match="'v2' is not in the cache: open it once with a network"):
        opened(cache, revision="v2", local_files_only=True)


OFFLINE = """
import json, sys
from ddpm_hub import GaussianDiffusion
from ddpm_hub.errors import HubError
def said(**where):
    try:
        GaussianDiffusion.from_pretrained(sys.argv[1], **where)
    except HubError as error:
        return str(error)
print(json.dumps([said(), said(token=False), said(revision="v2")]))
"""


def test_offline_mode_asks_nothing_and_opens_what_is_there(there, tmp_path):
    machine(OFFLINE, REPO)
    there.clear()
    (here, public, missing), _ = machine(OFFLINE, REPO, HF_HUB_OFFLINE="1")
    assert (here, public, asked(there)) == (None, None, [])
    assert "offline mode is on" in missing and "unset HF_HUB_OFFLINE" in missing


def test_offline_mode_gives_what_was_private_to_the_machines_own_user_alone(server, tmp_path):
    model().push_to_hub(REPO, private=True)
    machine(OFFLINE, REPO)
    (owner, stranger, _), _ = machine(OFFLINE, REPO, HF_HUB_OFFLINE="1")
    assert owner is None and "offline mode is on" in stranger


def test_a_branch_that_moved_is_not_opened_as_it_was_once_the_hub_says_so(there, cache):
    opened(cache)
    model(seed=2).push_to_hub(REPO)
    assert same(opened(cache), model(seed=2))
    there.__exit__()
    assert same(opened(cache), model(seed=2))


# ---- whose right --------------------------------------------------------------------------------
def test_a_private_repo_opens_with_its_owners_token_alone(xet, server, cache, monkeypatch):
    model().push_to_hub(REPO, private=True)
    mine, bobs = os.environ["HF_TOKEN"], server.add_token("bob")
    assert same(opened(cache), model()) and same(opened(cache, token=mine), model())
    for token in (False, bobs):
        with pytest.raises(HubError, match=r"does not exist, or is private.*hf auth login"):
            opened(cache, token=token)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="does not exist, or is private"):
        opened(cache)


def test_without_a_token_the_owners_is_sent_by_nobody(xet, there, cache):
    opened(cache, token=False)
    assert {record["auth"] for record in there.log} <= {False, "other"}  # the other is Xet's own


def test_what_was_private_is_not_given_to_strangers_when_the_hub_is_away(server, cache):
    model().push_to_hub(REPO, private=True)
    model().push_to_hub("alice/open")
    for repo in (REPO, "alice/open"):
        opened(cache, repo)
    server.fault("GET /api/models", "status:503", times=100)
    assert same(opened(cache), model()) and same(opened(cache, "alice/open", token=False), model())
    with pytest.raises(HubError, match="503"):
        opened(cache, token=False)


def test_a_gated_repo_says_where_to_ask_also_when_it_is_in_the_cache(xet, there, cache):
    opened(cache)
    api(there).update_repo_settings(REPO, gated="auto")
    for token in (False, there.add_token("bob")):
        with pytest.raises(HubError, match=f"it is gated.*ask for access at {there.url}/{REPO}"):
            opened(cache, token=token)
    assert same(opened(cache), model())


@pytest.mark.parametrize("token", ["", " ", "hf_x\ny", "hf_é", 3])
def test_what_is_no_token_is_a_sentence(token, server, cache):
    for call in (
        lambda: opened(cache, token=token),
        lambda: model().push_to_hub(REPO, token=token),
    ):
        with pytest.raises(HubError, match="token is empty, or no string of plain characters"):
            call()
    assert asked(server) == []


def test_a_token_that_is_required_and_not_there_or_expired_is_a_sentence(there, cache, monkeypatch):
    with pytest.raises(HubError, match=r"Invalid credentials.*hf auth login"):
        opened(cache, token="hf_expired")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="this machine has none: log in with hf auth login"):
        opened(cache, token=True)


def test_a_token_is_on_no_command_line_and_in_no_environment_of_the_child(there, cache):
    seen = []
    begin = client.subprocess.Popen

    def spy(command, **how):
        seen.append(json.dumps([command, how["env"]]))
        return begin(command, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.subprocess, "Popen", spy)
        opened(cache)
    assert len(seen) == 2 and not any(os.environ["HF_TOKEN"] in told for told in seen)


# ---- what is no model ---------------------------------------------------------------------------
HOSTILE = [
    "../../nowhere", "~/x", "alice/..", "a/b/c", "alice/model@main", "/nowhere", "a/" + "x" * 200,
    "alice/mo del", "alice/x?y", "http://x/y", "gpt2", "alice/\x00", ".x/y", "_a/b", "é/b",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_name_is_refused_before_any_request(name, server):
    with pytest.raises(
        HubError, match="is neither a folder nor a repo id: give a path that exists"
    ):
        GaussianDiffusion.from_pretrained(name)
    with pytest.raises(HubError, match="use user/name"):
        model().push_to_hub(name)
    assert asked(server) == []


@pytest.mark.parametrize("revision", ["../x", "a b", "/x", "x" * 300, "a//b", "-x", "a/../b", 3])
def test_what_is_no_revision_is_refused_before_any_request(revision, server, cache):
    with pytest.raises(HubError, match="is no revision: give a branch, a tag or a commit"):
        opened(cache, revision=revision)
    assert asked(server) == []


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [("dataset", {}, "is a data set"), ("space", {"space_sdk": "gradio"}, "is a Space")],
)
def test_a_repo_of_another_kind_is_said_to_be_one(kind, more, words, server, cache):
    api(server).create_repo("alice/other", repo_type=kind, **more)
    with pytest.raises(HubError, match=f"'alice/other' {words}, not a model"):
        opened(cache, "alice/other")


def test_what_is_not_there_is_named(there, cache):
    with pytest.raises(HubError, match=r"'alice/nothing' could not be opened \(it does not exist"):
        opened(cache, "alice/nothing")
    with pytest.raises(
        HubError, match=r"it has no revision 'v9'.*give a branch, a tag or a commit"
    ):
        opened(cache, revision="v9")
    api(there).create_repo("alice/empty")
    with pytest.raises(DDPMHubError, match=r"'alice/empty' holds no config\.json"):
        opened(cache, "alice/empty")


# ---- publishing ---------------------------------------------------------------------------------
def test_a_second_push_of_the_same_model_makes_no_commit(xet, server):
    first, second = model().push_to_hub(REPO), model().push_to_hub(REPO)
    assert first == second and first.commit == second.commit and commits(server) == [FIRST]
    assert model(seed=2).push_to_hub(REPO) != first and len(commits(server)) == 2


def test_a_card_that_somebody_edited_stays_until_it_is_told_to_go(server):
    model().push_to_hub(REPO)
    card = api(server).hf_hub_download(REPO, "README.md", local_dir=os.environ["HF_HOME"])
    made = Path(card).read_text()
    api(server).upload_file(path_or_fileobj=MINE.encode(), path_in_repo="README.md", repo_id=REPO)

    def now():
        return Path(api(server).hf_hub_download(REPO, "README.md", force_download=True)).read_text()

    model(seed=2).push_to_hub(REPO)
    assert now() == MINE
    model(seed=2).push_to_hub(REPO, overwrite_card=True)
    assert now() == made and f'from_pretrained("{REPO}")' in made
    model(seed=2, timesteps=10).push_to_hub(REPO)
    assert "`10`" in now()  # nobody edited it: it says what the model now is


def test_a_folder_is_pushed_without_its_checkpoints_and_whatever_else_lies_there(
    server, tmp_path, cache
):
    folder = tmp_path / "run"
    model().save_pretrained(folder)
    (folder / "checkpoints").mkdir()
    for name in ("checkpoints/step-00000001.safetensors", "notes.txt", "optimizer.bin", ".env"):
        (folder / name).write_text("mine")
    (folder / "training.json").write_text('{"step": 3}')
    (folder / "samples.png").write_bytes(b"\x89PNG")
    pushed = hub.push_folder(folder, REPO, commit_message="it is done")
    expected = FILES | {"training.json", "samples.png"}
    assert set(api(server).list_repo_files(REPO)) == expected and commits(server) == ["it is done"]
    assert pushed.commit == api(server).model_info(REPO).sha and same(opened(cache), model())
    assert "user/repo" in (folder / "README.md").read_text()  # the folder is as it was


def test_a_card_of_ones_own_in_the_folder_is_pushed_as_it_is(server, tmp_path):
    model().save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text(MINE)
    hub.push_folder(tmp_path, REPO)
    assert Path(api(server).hf_hub_download(REPO, "README.md")).read_text() == MINE


def test_a_card_that_names_the_repo_is_pushed_to_the_letter(server):
    model().push_to_hub(REPO, model_card_kwargs={"license": "mit"})
    assert "license: mit" in Path(api(server).hf_hub_download(REPO, "README.md")).read_text()


@pytest.mark.parametrize("name", ["README.md", "training.json"])
def test_a_folder_with_a_token_in_it_is_not_pushed(name, server, tmp_path):
    model().save_pretrained(tmp_path)
    for token in (os.environ["HF_TOKEN"], "hf_" + "aB" * 17, "hf_" + "a" * 34):
        (tmp_path / name).write_text(f'---\nlicense: mit\n---\n"key": "{token}"')
        with pytest.raises(HubError, match=f"{name} holds what looks like a token") as caught:
            hub.push_folder(tmp_path, REPO)
        assert token not in str(caught.value)
    assert asked(server) == []
    (tmp_path / name).write_text("---\nlicense: mit\n---\nhf_hub_download_and_other_names_of_code")
    hub.push_folder(tmp_path, REPO)


def test_a_folder_without_a_model_is_not_pushed(server, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(HubError, match="holds no model"):
            hub.push_folder(folder, REPO)
    assert asked(server) == []


def test_a_token_that_may_not_write_there_is_told_so(server):
    reader, bob = server.add_token("alice", role="read"), server.add_token("bob")
    model().push_to_hub(REPO)
    for token, repo in ((reader, REPO), (reader, "alice/new"), (bob, REPO), (bob, "alice/new")):
        with pytest.raises(HubError, match="use a token with the right to write there"):
            model(seed=2).push_to_hub(repo, token=token)
    for token in (False, "hf_expired"):
        with pytest.raises(HubError, match="log in with hf auth login"):
            model(seed=2).push_to_hub("alice/new", token=token)
    assert commits(server) == [FIRST]


def test_a_plan_that_does_not_cover_it_is_told_so(server):
    server.fault("POST /api/repos/create", "status:402", times=9)
    with pytest.raises(HubError, match="plan does not cover this"):
        model().push_to_hub(REPO)


def test_what_should_be_private_is_not_pushed_to_a_public_repo(there):
    with pytest.raises(HubError, match=r"it is there already, and public.*make it private"):
        model(seed=2).push_to_hub(REPO, private=True)
    assert commits(there) == [FIRST]


PUSHING = """
import json, sys
from ddpm_hub import hub
print(json.dumps([hub.push_folder(folder, sys.argv[1]).commit for folder in sys.argv[2:]]))
"""


def test_sixteen_that_push_at_once_lose_nothing(server, tmp_path):
    folders = [tmp_path / f"{i}" for i in range(16)]
    model().push_to_hub(REPO)
    for i, folder in enumerate(folders):
        model().save_pretrained(folder)
        (folder / "training.json").write_text(json.dumps({"step": i}))
    processes = [start(PUSHING, REPO, folder) for folder in folders]
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 16, answers
    made = {json.loads(out)[0] for out, _ in answers}
    assert len(made) == 16 and {c.commit_id for c in api(server).list_repo_commits(REPO)} >= made
    steps = {
        json.loads(
            Path(api(server).hf_hub_download(REPO, "training.json", revision=c)).read_text()
        )["step"]
        for c in made
    }
    assert steps == set(range(16))


def test_somebody_elses_commit_at_the_same_time_is_kept(there, monkeypatch):
    """It lands between the look at the branch and the commit: the first try is refused."""
    there.fault("POST .*/commit/main", "slow:1")
    with pytest.MonkeyPatch.context() as patch:
        listen = client._listen

        def meanwhile(*arguments):
            api(there).upload_file(path_or_fileobj=b"hi", path_in_repo="hi.txt", repo_id=REPO)
            return listen(*arguments)

        patch.setattr(client, "_listen", meanwhile)
        model(seed=2).push_to_hub(REPO)
    assert set(api(there).list_repo_files(REPO)) == FILES | {"hi.txt"}
    assert len(commits(there)) == 3


# ---- saving -------------------------------------------------------------------------------------
def test_a_save_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    model(seed=1).save_pretrained(tmp_path)
    before = {name: path.read_bytes() for name, path in files_in(tmp_path).items()}

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ddpm_hub.files.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        model(seed=2).save_pretrained(tmp_path)
    assert {name: path.read_bytes() for name, path in files_in(tmp_path).items()} == before


def test_a_card_that_lies_there_stays_when_the_model_is_saved_again(tmp_path):
    model().save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text(MINE)
    model(seed=2).save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == MINE


def test_names_and_revisions_that_the_hub_takes_are_taken():
    for name in ("google/ddpm-cifar10-32", "a/b", "a-b/c.d_e-f", "1/2"):
        assert repos.check_repo_id(name) == name
    for revision in ("main", "v1.0", "refs/pr/1", "feature/x_y-z", "a" * 40, "1.0+cpu"):
        assert repos.check_revision(revision) == revision
