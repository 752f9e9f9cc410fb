"""A run's settings outside the app: as a link, as words, inside a picture, and back again.

In the room: which settings determine a run, written as a query string and read from one or from a
picture that exports.py made. What is read comes from strangers: it is checked here and refused in
one sentence. Not in the room: the form that is set (tabs/history.py), the list of past runs
(widgets/history). No torch, no gradio here.
"""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

from ddpm_hub import SAMPLERS, images
from ddpm_hub.app import limits, models, runs
from ddpm_hub.errors import ConfigError, DataError, DDPMHubError, HubError, check_choice
from ddpm_hub.samplers import default_eta
from ddpm_hub.spacings import SPACINGS

SAMPLER, STEPS, BATCH = "unipc", 25, 4  # where a link leaves them open
MAX_LINK = 1000  # characters: the longest that is made here has about 300
MAX_PICTURE_BYTES = 6_000_000  # of what somebody gives back; a grid of 1024 x 1024 has three
KEYS = {  # of a link -> fields of limits.Request
    "seed": "seed",
    "sampler": "sampler",
    "steps": "steps",
    "eta": "eta",
    "n": "batch",
    "spacing": "spacing",
    "bounds": "bounds",
    "variance": "variance",
    "classes": "classes",
    "guidance": "guidance",
    "runtime": "runtime",
}
USUAL = {  # not written
    "spacing": "linspace",
    "bounds": "clip",
    "variance": "fixed_small",
    "runtime": "eager",
}
VARIANCES = ("fixed_small", "fixed_large")
ALL_KEYS = ("repo", "rev", *KEYS)
PRIVATE = (
    "this run's model was a training on this server, or private, so neither a link nor a picture "
    "says which: load the model in its tab, then set the seed"
)
MIDWAY = (
    "this run began in a picture or in another run, not in noise, so its settings alone do not "
    "bring it back"
)
FOREIGN = (
    "this picture carries no settings of ours: give a file that was downloaded here, as it is "
    "(messengers and editors take them out)"
)


# ---- out ----------------------------------------------------------------------------------------
def link(request: limits.Request) -> str:
    """`?repo=...&seed=...`, from which `from_link` makes the same request.

    Empty for the model of a training here and for a private one: their names are keys.
    """
    if ":" in request.model:
        return ""
    repo, _, revision = request.model.partition("@")
    values = {} if repo == "bundled" else {"repo": repo} | ({"rev": revision} if revision else {})
    for key, field in KEYS.items():
        value = getattr(request, field)
        if value is not None and value != USUAL.get(field):
            values[key] = str(value).removesuffix(".0")
    return "?" + urlencode(values, safe="/")


def describe(query: object) -> dict[str, Any] | None:
    """For the history: {run} -> {link, why, facts: {name: text}}; None if it is not kept.

    `why` is the sentence that stands where there is no link.
    """
    run = runs.STORE.get(query.get("run")) if isinstance(query, dict) else None
    if run is None:
        return None
    made = "" if midway(run) else link(run.request)
    why = "" if made else sentence(MIDWAY if midway(run) else PRIVATE)
    return {"link": made, "why": why, "facts": facts(run)}


def facts(run: runs.Run) -> dict[str, str]:
    """A run's settings as people read them, without any key; only what was chosen."""
    asked = run.request
    rows = {
        "model": models.title_of(asked.model),
        "sampler": asked.sampler,
        "steps": run.meta()["total"],
        "eta": asked.eta,
        "images": asked.batch,
        "seed": asked.seed,
        **{name: getattr(asked, name) for name in (*USUAL, "classes", "guidance")},
    }
    rows["begins"] = "midway" if midway(run) else None
    return {name: str(value)[:80] for name, value in rows.items() if value is not None}


def midway(run: runs.Run) -> bool:
    """Whether it began in a state that somebody had, and not in noise."""
    return run.plan.start is not None or bool(run.plan.turns)


# ---- in -----------------------------------------------------------------------------------------
def from_link(query: object) -> limits.Request:
    """The request that a link asks for. What it leaves out is None, or a new seed.

    Raises DDPMHubError, a sentence: too long, a value out of range, no name of a repository.
    """
    if not isinstance(query, str) or len(query) > MAX_LINK:
        raise ConfigError(f"this link has more than {MAX_LINK} characters: copy it again")
    try:
        pairs = parse_qsl(query.removeprefix("?"), max_num_fields=50)
    except ValueError:
        raise ConfigError("this link has more than 50 parts: copy it again") from None
    said = {key: text for key, text in pairs if key in ALL_KEYS}
    values = {field: _number(field, said[key]) for key, field in KEYS.items() if key in said}
    if "batch" not in values:
        values["batch"] = BATCH
    return _checked(_model(said.get("repo"), said.get("rev")), values)


def from_picture(data: bytes) -> limits.Request:
    """The request that drew a picture of ours, from what is written in it.

    Raises DDPMHubError, a sentence: no picture, none of ours, edited, or of a model without name.
    """
    if len(data) > MAX_PICTURE_BYTES:
        raise DataError(
            f"the picture has {len(data):,} bytes, more than {MAX_PICTURE_BYTES:,}: give the PNG "
            "that was downloaded here"
        )
    metadata = images.read_metadata(data)
    if not metadata:
        raise DataError(FOREIGN)
    model = metadata.get("model")
    if model in map(models.public_name, ("job:", "opened:")):
        raise HubError(PRIVATE)
    repo, _, revision = model.partition("@") if isinstance(model, str) else ("", "", "")
    if metadata.get("batch") is None:
        raise DataError("this picture does not say how many images were drawn: it was edited")
    if metadata.get("midway"):
        raise DataError(MIDWAY)
    values = {field: metadata.get(field) for field in KEYS.values()}
    return _checked(_model(None if repo == "bundled" else repo, revision), values)


def read(query: object) -> dict[str, str]:
    """For the history: {picture: base64} -> {link} or {error}, a sentence."""
    text = query.get("picture") if isinstance(query, dict) else None
    try:
        if not isinstance(text, str) or len(text) > MAX_PICTURE_BYTES * 4 / 3 + 4:
            raise DataError(f"a picture of at most {MAX_PICTURE_BYTES:,} bytes is wanted")
        return {"link": link(from_picture(base64.b64decode(text, validate=True)))}
    except DDPMHubError as error:
        return {"error": sentence(error)}
    except ValueError:  # not base64
        return {"error": "The picture did not arrive whole: give it again."}


def complete(request: limits.Request, card: dict[str, Any]) -> limits.Request:
    """The request as the form would send it: the model by its exact name, nothing left open.

    card: `models.model_card` of its model. Raises ConfigError for more steps than the model has.
    """
    total, sampler = card["timesteps"], request.sampler or SAMPLER
    if (request.steps or 1) > total:
        raise ConfigError(
            f"steps {request.steps} is more than the {total} of this model: the link or picture "
            "belongs to another one, or was edited"
        )
    eta = default_eta(sampler)
    return request._replace(
        model=models.exact_name(request.model),
        sampler=sampler,
        steps=request.steps or min(STEPS, total),
        eta=None if eta is None else eta if request.eta is None else request.eta,
        spacing=request.spacing or USUAL["spacing"],
        bounds=request.bounds or USUAL["bounds"],
        runtime=request.runtime or USUAL["runtime"],
        variance=(request.variance or USUAL["variance"]) if sampler == "ddpm" else None,
    )


def sentence(said: object) -> str:
    """An error of ours as it stands alone on the page."""
    text = str(said)
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")


def _checked(model: str, values: dict[str, Any]) -> limits.Request:
    """limits.request, and the names that it leaves to the library."""
    for name, known in (("sampler", SAMPLERS), ("spacing", SPACINGS), ("variance", VARIANCES)):
        if values.get(name) is not None:
            check_choice(name, values[name], known)
    return limits.request(model, **{name: values.get(name) for name in KEYS.values()})


def _model(repo: object, revision: object) -> str:
    if repo is None:
        return "bundled"
    name, revision = limits.repo_name(repo), limits.revision_name(revision)
    return f"{name}@{revision}" if revision else name


def _number(field: str, text: str) -> object:
    """What a link's text says, as JSON would: the checks then refuse what is no number."""
    if field in ("seed", "steps", "batch", "classes") and re.fullmatch(r"[0-9]{1,16}", text):
        return int(text)
    if field in ("eta", "guidance") and re.fullmatch(r"[0-9]{0,3}\.?[0-9]{1,20}", text):
        return float(text)
    return text
