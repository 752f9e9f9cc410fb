"""The Sample tab's endpoints, for scripts: /sample and /load_model.

In the room: their arguments and words, which `/gradio_api/info` shows. Not in the room: what may be
asked for (app/limits.py), how it is drawn (app/engine.py). No torch.
"""

from __future__ import annotations

from collections.abc import Iterator

from ddpm_hub.app import engine, limits, models
from ddpm_hub.app.tabs.common import sentences
from ddpm_hub.app.tabs.endpoint import endpoint

KEYS = ("index", "total", "t", "done", "seed", "steps_per_second", "x0", "x", "png")


def register() -> None:
    """Add the two endpoints to the Blocks around."""
    # Two at once, beside the page's lane: one may fetch its model, which holds up nobody, while
    # another draws. Whose turn it is to draw is app/lane.py's to say.
    endpoint(sample, "sample", concurrency_id="sample", concurrency_limit=2)
    endpoint(load_model, "load_model", concurrency_id="hub", concurrency_limit=8)


def sample(  # noqa: PLR0913  the endpoint's arguments
    model: str = "bundled",
    sampler: str = "ddim",
    steps: int = 50,
    eta: float | None = None,
    batch: int = 1,
    seed: int | None = None,
    spacing: str | None = None,
    bounds: str | None = None,
    variance: str | None = None,
    classes: int | str | None = None,
    guidance: float | None = None,
    runtime: str | None = None,
) -> Iterator[dict]:
    """Draw images from noise, one message for each step.

    Args:
        model: "bundled", a Hub repository, owner/name or owner/name@revision, or "job:KEY" of a
            training.
        sampler: ddpm, ddim, dpmpp_2m, dpmpp_2m_sde, heun or unipc.
        steps: network calls, 1 to the model's T.
        eta: noise of ddim and dpmpp_2m_sde, 0 (none) to 1; none: the sampler's own.
        batch: images drawn at once, 1 to 16.
        seed: the same seed draws the same images; none: a new one.
        spacing: which timesteps are visited: linspace, trailing, leading or logsnr.
        bounds: what happens to a predicted x0 outside [-1, 1]: clip, dynamic or none.
        variance: of a step of ddpm: fixed_small or fixed_large.
        classes: the number of a class for all images, or random (by the seed, one for each), of a
            model that knows classes; none: whatever comes.
        guidance: how much the class counts, 0 to 100: 1 (or none) as the model learned it.
        runtime: eager (or none): the network as it is, exactly; auto: the copy of it that is
            fastest on this machine, in bfloat16.

    Returns:
        {index, total, t, done, seed, steps_per_second, x0, x}; x0 (predicted clean images) and x
        (state after the step) are data URIs of the batch as a grid. The last also has png.
    """
    with sentences():
        request = limits.request(
            *(model, sampler, steps, eta, batch, seed, spacing, bounds, variance),
            *(classes, guidance, runtime),
        )
        for frame in engine.sample(request):
            yield {key: frame[key] for key in KEYS if key in frame}


def load_model(model: str = "bundled", revision: str | None = None) -> dict:
    """Load a model and say what it is.

    Args:
        model: "bundled", or a Hub repository, owner/name.
        revision: a branch, tag or commit of that repository; none: its default.

    Returns:
        {name, parameters, image_size, channels, timesteps, objective, schedule, source, card}.
    """
    with sentences():
        return models.model_card(model, revision)
