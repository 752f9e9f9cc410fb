"""Training runs on the Hub: pushed while they last, so that another machine can go on.

A Space's disk forgets; a repo does not. The model's own `push_to_hub` and `from_pretrained` are in
`hub_model.py`.
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

from ddpm_hub import checkpoint
from ddpm_hub.errors import HubError, shown

CARD = "README.md"
FILES = ("config.json", "model.safetensors", "samples.png", "training.json")


def push_run(results: str | Path, repo_id: str, step: int) -> str:
    """Upload a results folder's model, report and newest checkpoint in one commit; its URL.

    Earlier checkpoints leave the repo's newest commit; a README that is there stays as it is.
    Raises HubError: no such owner, no right to write, no network.
    """
    api, newest = HfApi(), checkpoint.newest(results)
    state = [f"{checkpoint.FOLDER}/{newest.name}"] if newest else []
    try:
        api.create_repo(repo_id, exist_ok=True)
        card = [] if api.file_exists(repo_id, CARD) else [CARD]
        done = api.upload_folder(
            repo_id=repo_id,
            folder_path=results,
            allow_patterns=[*FILES, *card, *state],
            delete_patterns=f"{checkpoint.FOLDER}/*",
            commit_message=f"Step {step}",
        )
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise HubError(
            f"{shown(repo_id)} could not be written ({_reason(error)}): check the name, the token "
            "(hf auth login) and the network"
        ) from error
    return done.commit_url


def fetch_checkpoint(repo_id: str, results: str | Path) -> Path | None:
    """Download the newest checkpoint of a repo into a results folder; None if there is none."""
    api = HfApi()
    try:
        names = [n for n in api.list_repo_files(repo_id) if n.startswith(f"{checkpoint.FOLDER}/")]
        steps = {n: checkpoint.NAME.fullmatch(Path(n).name) for n in names}
        found = sorted((int(match[1]), name) for name, match in steps.items() if match)
        if not found:
            return None
        return Path(api.hf_hub_download(repo_id, found[-1][1], local_dir=results))
    except RepositoryNotFoundError:
        return None  # the first push will create it
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise HubError(
            f"{shown(repo_id)} could not be looked at for a checkpoint ({_reason(error)}): check "
            "the name and the network, or train with resume=None"
        ) from error


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
