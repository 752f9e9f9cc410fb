"""A Hub on this machine full of good and bad repos, an app that knows it, and the Hub tab's words.

The app runs with the token of `owner` in its environment, as a Space with a secret does: no visitor
may ever profit from it. Not in the room: tests.
"""

import io
import json
import pickle
from pathlib import Path

import torch
from huggingface_hub import HfApi
from local_hub import LocalHub
from PIL import Image

import ddpm_hub

GOLDEN = Path(__file__).parent / "golden"
PATIENCE = 60_000  # ms: the machine may be busy with other tests
CARD = """---
license: mit
---
# A card <img src=x onerror="document.title='pwned'">
<script>document.title='pwned'</script><iframe src="https://evil.example/frame"></iframe>
![a picture](https://evil.example/pixel.png) [a link](javascript:document.title='pwned')
${document.title='pwned'} {{ value }} </div></pre><svg onload="document.title='pwned'">
"""


class Canary:
    """A pickle that leaves a file behind when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def small(seed: int, **options) -> ddpm_hub.GaussianDiffusion:
    """An untrained model of coloured 16 x 16 images in 40 steps, of a few thousand weights."""
    torch.manual_seed(seed)
    network = ddpm_hub.Unet(dim=8, dim_mults=(1, 2), channels=3)
    settings = {"image_size": 16, "timesteps": 40, "beta_schedule": "linear"}
    return ddpm_hub.GaussianDiffusion(network, **settings | options).eval()


def png(side: int) -> bytes:
    """A black square."""
    stream = io.BytesIO()
    Image.new("L", (side, side)).save(stream, "PNG")
    return stream.getvalue()


class Repos:
    """The Hub's content, and the tokens of who is on it."""

    def __init__(self, hub: LocalHub, folder: Path) -> None:
        self.hub, self.folder = hub, folder
        self.canary = folder / "canary"
        self.alice, self.owner = hub.add_token("alice"), hub.add_token("owner")
        self.reader = hub.add_token("alice", role="read")
        self.commits: dict[str, list[str]] = {}
        self._good()
        self._bad()
        hub.clear()

    def api(self, token: str | None = None) -> HfApi:
        return HfApi(self.hub.url, token=token or self.alice)

    def put(self, repo_id: str, files: dict[str, bytes], private: bool = False) -> None:
        token = self.owner if repo_id.startswith("owner/") else self.alice
        api = self.api(token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        folder = self.folder / repo_id.replace("/", "-")
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        made = api.upload_folder(repo_id=repo_id, folder_path=folder)
        self.commits.setdefault(repo_id, []).append(made.oid)

    def files_of(self, diffusion) -> dict[str, bytes]:
        folder = self.folder / "saved"
        diffusion.save_pretrained(folder)
        return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}

    def _good(self) -> None:
        self.put("alice/small", self.files_of(small(1)))
        self.put("alice/small", self.files_of(small(2)) | {"samples.png": png(32)})
        self.put("alice/secret", self.files_of(small(3)), private=True)
        self.put("owner/secret", self.files_of(small(4)), private=True)
        self.put("alice/gated", self.files_of(small(5)))
        self.api().update_repo_settings("alice/gated", gated="manual")
        pipeline = GOLDEN / "diffusers_pipeline"
        paths = [p for p in pipeline.rglob("*") if p.suffix in (".json", ".safetensors")]
        self.put("alice/diffusers", {str(p.relative_to(pipeline)): p.read_bytes() for p in paths})
        bomb = {"samples.png": png(6000)}  # 36 million pixels in 100 kB
        hostile = self.files_of(small(6)) | {"README.md": CARD.encode()} | bomb
        self.put("alice/hostile", hostile)

    def _bad(self) -> None:
        good = self.files_of(small(7))
        weights, config = good["model.safetensors"], json.loads(good["config.json"])
        self.put("alice/broken", good | {"config.json": b"[" * 100_000})
        huge = config | {"unet": config["unet"] | {"dim": 2048, "dim_mults": [1, 2, 4, 8]}}
        self.put("alice/huge", good | {"config.json": json.dumps(huge).encode()})
        self.put("alice/empty", {"README.md": b"# nothing"})
        bad = pickle.dumps(Canary(self.canary))
        self.put("alice/pickles", {"config.json": good["config.json"], "pytorch_model.bin": bad})
        self.put("alice/cut", good | {"model.safetensors": weights[: len(weights) // 2]})
        self.put("alice/heavy", good)
        repo = self.hub.hub.store.repos["model/alice/heavy"]
        files = repo["commits"][repo["branches"]["main"]]["files"]
        files["model.safetensors"]["size"] = 40_000_000_000
        self.api().create_repo("alice/data", repo_type="dataset")


class Page:
    """The Hub tab of a visitor's page, in a visitor's words."""

    def __init__(self, visitor) -> None:
        self.visitor, self.page = visitor, visitor.page
        self.page.set_default_timeout(PATIENCE)
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.locator("#timeline .ddpm-tl").wait_for()
        self.go("Hub")
        self.page.locator("#hub-facts .hub-note").wait_for()

    def go(self, tab: str) -> None:
        self.page.get_by_role("tab", name=tab, exact=True).click()

    def fill(self, name: str, text: str) -> None:
        self.page.locator(f"#{name} input, #{name} textarea").first.fill(text)

    def give_token(self, token: str) -> None:
        self.fill("hub-token", token)

    def open(self, repo_id: str, revision: str = "") -> str:
        """Open a repo; what the page says of it."""
        self.fill("hub-repo", repo_id)
        self.fill("hub-revision", revision)
        self.page.locator("#hub-open-button").click()
        name = repo_id.removeprefix("https://huggingface.co/")
        self.page.locator("#hub-facts .wd-top").get_by_text(name, exact=True).wait_for()
        return self.page.locator("#hub-facts").inner_text()

    def refused(self, repo_id: str) -> str:
        """Open a repo that cannot be; the sentence that the page says."""
        self.fill("hub-repo", repo_id)
        self.page.locator("#hub-open-button").click()
        said = self.page.locator("#hub-status [data-kind=bad]")
        said.wait_for()
        return said.inner_text()

    def load(self) -> str:
        """Load what is open, and go to Sample; the chip of the model there."""
        self.page.locator("#hub-load").click()
        self.page.locator("#hub-draw").click()
        chip = self.page.locator("#model-chip")
        chip.get_by_text("@").or_(chip.get_by_text("private")).first.wait_for()
        return chip.inner_text()
