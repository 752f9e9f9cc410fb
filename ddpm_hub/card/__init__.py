"""The model card: the README.md of a model's repo, made from its config and from its training.

In the room: what the card says, as text. What it does not know it does not say. Every word that
somebody else chose is quoted: it cannot become YAML, a link or HTML. Not in the room: what a run
reports (facts.py), the picture of the loss (curve.py), and when a card is written and pushed.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ddpm_hub.card.facts import (
    data_of,
    dataset_id,
    figures,
    is_number,
    is_repo_id,
    read_facts,
    record,
    training_rows,
)
from ddpm_hub.card.markdown import code, code_block, plain, section, table
from ddpm_hub.config_file import CONFIG, read_config
from ddpm_hub.errors import ConfigError, shown

CARD, SAMPLES, CURVE = "README.md", "samples.png", "loss.png"
PIPELINE = "unconditional-image-generation"
TAGS = ("ddpm", "diffusion", "pytorch")
STEPS = 20  # network calls in the example, of a sampler that needs no more
FEW = 5000  # images, below which networks of this kind are known to repeat their training set
COLOURS = {1: "grey", 3: "colour", 4: "colour and alpha"}
MARK = re.compile(r"\n<!-- card of ddpm_hub, (\w{16}): .*? -->\s*\Z")
NOBODY, NAMELESS = "user/repo", "A denoising diffusion model"
LICENSE = "apache-2.0"
FRONT = re.compile(r"---\n(.*?)\n---\n", re.S)

CITATION = """```bibtex
@inproceedings{ho2020denoising,
  title     = {Denoising Diffusion Probabilistic Models},
  author    = {Ho, Jonathan and Jain, Ajay and Abbeel, Pieter},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {33},
  year      = {2020},
  url       = {https://arxiv.org/abs/2006.11239}
}
```"""


def render(
    config: dict[str, Any],
    *,
    report: dict[str, Any] | None = None,
    repo_id: str | None = None,
    samples: bool = False,
    curve: bool = False,
    license: str = LICENSE,
    diffusers: bool = False,
) -> str:
    """The card as the text of README.md.

    config: config.json as a dict. report: training.json as a dict; under "evaluation" it may hold
    what `ddpm-hub eval --json` wrote. samples, curve: whether samples.png and loss.png lie beside
    the card. license: of the weights, an identifier of the Hub. diffusers: whether the repo also
    opens in diffusers. Raises ConfigError if `repo_id` is no name of a repo.
    """
    report, name = record(report), _checked(repo_id)
    data = _metadata(report, name, samples, license, diffusers)
    loss = f"\n\n![The loss by step, on a logarithmic axis]({CURVE})" if curve else ""
    rows = [(what, code(value)) for what, value in training_rows(report)]
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {name.split('/')[-1] if repo_id else NAMELESS}",
        _opening(config, report),
        "<Gallery />" if samples else "",
        section("Use it", _usage(config, name, diffusers)),
        section("Training", (table(rows) + loss).strip()),
        section("Evaluation", _evaluation(report)),
        section("Limits", _limits(report)),
        section("Citation", CITATION),
    ]
    return _marked("\n\n".join(part for part in parts if part) + "\n")


def of_folder(
    folder: str | Path, repo_id: str | None = None, config: dict | None = None, **more: Any
) -> str:
    """The card of a folder that `save_pretrained` or a training wrote, by what lies in it.

    `evaluation.json` there, as `ddpm-hub eval FOLDER --json` writes it, is taken into it; the
    licence is that of the card there, if there is one. config: in place of config.json. `more` are
    arguments of `render`.
    """
    folder = Path(folder)
    found = {
        "report": read_facts(folder),
        "samples": (folder / SAMPLES).is_file(),
        "curve": (folder / CURVE).is_file(),
        "diffusers": (folder / "model_index.json").is_file(),
        "license": license_of(folder / CARD) or LICENSE,
    }
    config = read_config(folder / CONFIG) if config is None else config
    return render(config, repo_id=repo_id, **found | more)


def license_of(path: Path) -> str | None:
    """The licence that a README states in its front matter; None if it does not say."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            front = FRONT.match(file.read(2**16))
    except OSError:
        return None
    found = re.search(r"^license: ([\w.-]+)$", front[1], re.M) if front else None
    return found[1] if found else None


def renamed(text: str, repo_id: str) -> str:
    """A card of nobody's repo under the name of a repo; any other card as it is."""
    if not is_generated(text):
        return text
    body = text[: MARK.search(text).start()].replace(f'"{NOBODY}"', f'"{_checked(repo_id)}"')
    return _marked(body.replace(f"# {NAMELESS}\n", f"# {repo_id.split('/')[-1]}\n"))


def is_generated(text: str) -> bool:
    """Whether a README is `render`'s, to the last letter: one that somebody edited is theirs."""
    text = text.replace("\r\n", "\n")
    found = MARK.search(text)
    return bool(found) and found[1] == _digest(text[: found.start()])


def _marked(text: str) -> str:
    what = "a push replaces it, unless somebody has edited it"
    return f"{text}\n<!-- card of ddpm_hub, {_digest(text)}: {what} -->\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.strip().encode()).hexdigest()[:16]


def _checked(repo_id: str | None) -> str:
    if repo_id is None:
        return NOBODY
    if not is_repo_id(repo_id):
        raise ConfigError(f"{shown(repo_id)} is no name of a repo: use user/name")
    return repo_id


def _metadata(
    report: dict, name: str, samples: bool, license: str, diffusers: bool
) -> ModelCardData:
    dataset = dataset_id(data_of(report)[0])
    results = _results(report, dataset)
    picture = {"text": "samples, drawn without a prompt", "output": {"url": SAMPLES}}
    return ModelCardData(
        library_name="ddpm_hub",
        license=plain(license),
        pipeline_tag=PIPELINE,
        tags=[*TAGS, *(["diffusers"] if diffusers else [])],
        datasets=[dataset] if dataset else None,
        eval_results=results or None,
        model_name=name.split("/")[-1] if results else None,
        **({"widget": [picture]} if samples else {}),
    )


def _results(report: dict, dataset: str | None) -> list[EvalResult]:
    """The figures of an evaluation as the Hub's model-index has them, protocol and all."""
    return [
        EvalResult(
            task_type=PIPELINE,
            dataset_type=dataset or "images",
            dataset_name=figure.data,
            metric_type=figure.kind,
            metric_name=figure.name,
            metric_value=round(figure.value, 4),
            metric_args=figure.protocol,
        )
        for figure in figures(report)
    ]


def _opening(config: dict, report: dict) -> str:
    net, diffusion = record(config.get("unet")), record(config.get("diffusion"))
    paper = "[Ho et al. 2020](https://arxiv.org/abs/2006.11239)"
    text = f"A denoising diffusion probabilistic model ({paper}) that draws {_images(config)}"
    text += f" out of noise.{_trained_on(report)}"
    facts = {
        "T": diffusion.get("timesteps"),
        "schedule": diffusion.get("beta_schedule"),
        "objective": diffusion.get("objective"),
        "network": net.get("_class_name"),
        "classes": net.get("num_classes"),
    }
    known = [f"{key} {code(value)}" for key, value in facts.items() if value is not None]
    return text + (f"\n\n{', '.join(known)}." if known else "")


def _images(config: dict) -> str:
    """Their colours and size, as far as the config says."""
    net, size = record(config.get("unet")), record(config.get("diffusion")).get("image_size")
    channels = net.get("channels", net.get("in_channels"))
    colours = COLOURS.get(channels, "") if is_number(channels) else ""
    sides = size if isinstance(size, list) else [size, size]
    shape = (
        f" of {code('{} x {}'.format(*sides))} pixels"
        if len(sides) == 2 and all(map(is_number, sides))
        else ""
    )
    return f"{colours} images{shape}".strip()


def _trained_on(report: dict) -> str:
    name, images = data_of(report)
    if not name:
        return ""
    count = f"{images:,} images of " if images else ""
    dataset = dataset_id(name)
    link = f"[{dataset}](https://huggingface.co/datasets/{dataset})" if dataset else code(name)
    return f" It was trained on {count}{link}."


def _usage(config: dict, name: str, diffusers: bool) -> str:
    net, diffusion = record(config.get("unet")), record(config.get("diffusion"))
    kind = net.get("_class_name") if not diffusion else "GaussianDiffusion"
    kind = kind if isinstance(kind, str) and kind.isidentifier() else "Unet"
    timesteps = diffusion.get("timesteps")
    steps = min(STEPS, timesteps) if is_number(timesteps) else STEPS
    classes = ", classes=0" if net.get("num_classes") else ""
    how = f'sampler="unipc", steps={steps}, seed=0{classes}, output_type="pil"'
    opened = f'{kind}.from_pretrained("{name}")'
    lines = [f"from ddpm_hub import {kind}  # pip install ddpm-hub", ""]
    if diffusion:
        lines += [f"diffusion = {opened}", f"images = diffusion.sample(batch_size=4, {how})"]
    else:
        lines += [f"network = {opened}  # called as network(x, t)"]
    also = "\n\nIn [diffusers](https://github.com/huggingface/diffusers):\n\n" + code_block(
        [
            "from diffusers import DDPMPipeline",
            "",
            f'pipeline = DDPMPipeline.from_pretrained("{name}")',
            "images = pipeline(batch_size=4).images",
        ]
    )
    return code_block(lines) + (also if diffusers else "")


def _evaluation(report: dict) -> str:
    rows = []
    for figure in figures(report):
        how = [
            f"{code(key.replace('_', ' '))} {code(value)}" for key, value in figure.protocol.items()
        ]
        rows.append((code(figure.name), f"{figure.value:.4g}", ", ".join(how)))
    return table(rows, ("Figure", "Value", "Measured with"))


def _limits(report: dict) -> str:
    images, lines = data_of(report)[1], []
    if images is not None and images < FEW:
        lines.append(
            f"- **It was trained on {images:,} images only.** Diffusion models memorise small sets "
            "([Somepalli et al. 2023](https://arxiv.org/abs/2212.03860)): expect samples that "
            "repeat training images, and do not take them for new ones."
        )
    lines += [
        "- It draws what its training images show, with their gaps and biases, at their size.",
        "- Nothing filters what it draws, and the licence of these weights changes no rights in "
        "the images that they were trained on.",
    ]
    if not report:
        lines.append("- How it was trained is not recorded here.")
    return "\n".join(lines)
