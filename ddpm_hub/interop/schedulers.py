"""diffusers' scheduler_config.json as arguments of GaussianDiffusion, and back.

Of a scheduler only what its network was trained with matters: betas, objective, T, variance, clip.
How many steps its pipeline takes, and by which solver, is `sample`'s to choose: `sample(steps=50,
sampler="ddpm", spacing="leading")` is a DDPMPipeline's run. What would change the pictures and has
no counterpart here is refused by name.
"""

from __future__ import annotations

from typing import Any

from ddpm_hub.errors import ConfigError, check_bool, check_choice, check_float, shown

FILE = "scheduler_config.json"
PAPER = {"beta_start": 1e-4, "beta_end": 0.02}
STABLE = {"beta_start": 0.00085, "beta_end": 0.012}
# schedulers of a chain of T betas, with the ends of each that a file may leave out
SCHEDULERS = {
    "DDIMInverseScheduler": PAPER,
    "DDIMParallelScheduler": PAPER,
    "DDIMScheduler": PAPER,
    "DDPMParallelScheduler": PAPER,
    "DDPMScheduler": PAPER,
    "DEISMultistepScheduler": PAPER,
    "DPMSolverMultistepInverseScheduler": PAPER,
    "DPMSolverMultistepScheduler": PAPER,
    "DPMSolverSDEScheduler": STABLE,
    "DPMSolverSinglestepScheduler": PAPER,
    "EulerAncestralDiscreteScheduler": PAPER,
    "EulerDiscreteScheduler": PAPER,
    "HeunDiscreteScheduler": STABLE,
    "KDPM2AncestralDiscreteScheduler": STABLE,
    "KDPM2DiscreteScheduler": STABLE,
    "LMSDiscreteScheduler": PAPER,
    "PNDMScheduler": PAPER,
    "RePaintScheduler": PAPER,
    "SASolverScheduler": PAPER,
    "UniPCMultistepScheduler": PAPER,
}
# beta_schedule: our row of SCHEDULES with its options, beside the ends
BETAS = {
    "linear": ("linear", {"power": 1}),
    "scaled_linear": ("linear", {"power": 2}),
    "squaredcos_cap_v2": ("cosine", {"s": 0.008}),
    "sigmoid": ("sigmoid", {"start": -6, "end": 6, "tau": 1}),
}
DEFAULTS = {  # of our rows' options
    "linear": {"power": 1},
    "cosine": {"s": 0.008},
    "sigmoid": {"start": -3, "end": 3, "tau": 1},
}
OBJECTIVES = {"epsilon": "pred_noise", "sample": "pred_x0", "v_prediction": "pred_v"}
VARIANCES = {
    "fixed_small": "fixed_small",
    "fixed_small_log": "fixed_small",
    "fixed_large": "fixed_large",
    "fixed_large_log": "fixed_large",
    "learned_range": "learned_range",
}
READ = {
    "beta_end",
    "beta_schedule",
    "beta_start",
    "clip_sample",
    "clip_sample_range",
    "num_train_timesteps",
    "predict_epsilon",
    "prediction_type",
    "rescale_betas_zero_snr",
    "sample_max_value",
    "thresholding",
    "variance_type",
}
ONLY = {  # what is fixed here, and what another value would be
    "timestep_type": ("discrete", "a network of continuous time"),
    "trained_betas": (None, "a schedule without a formula"),
    "use_flow_sigmas": (False, "a flow, which is another process"),
}
SOLVERS_OWN = {  # how to sample, which is asked of `sample`; not what was trained
    "algorithm_type",
    "corrector_order",
    "disable_corrector",
    "dynamic_thresholding_ratio",
    "eta",
    "euler_at_final",
    "final_sigmas_type",
    "flow_shift",
    "interpolation_type",
    "lambda_min_clipped",
    "lower_order_final",
    "noise_sampler_seed",
    "predict_x0",
    "predictor_order",
    "set_alpha_to_one",
    "set_alpha_to_zero",
    "shift_terminal",
    "sigma_max",
    "sigma_min",
    "skip_prk_steps",
    "solver_order",
    "solver_p",
    "solver_type",
    "steps_offset",
    "tau_func",
    "tensor_format",
    "time_shift_type",
    "timestep_spacing",
    "use_beta_sigmas",
    "use_dynamic_shifting",
    "use_exponential_sigmas",
    "use_karras_sigmas",
    "use_lu_lambdas",
}


def process_of(scheduler: dict[str, Any]) -> dict[str, Any]:
    """The arguments of GaussianDiffusion, all but image_size, that a scheduler's config means.

    Raises ConfigError for what has no counterpart; whether numbers can be is for the constructor.
    """
    name = check_choice("scheduler", scheduler.get("_class_name"), SCHEDULERS)
    given = {key: value for key, value in scheduler.items() if not key.startswith("_")}
    _check_keys(given)
    given = {**SCHEDULERS[name], "num_train_timesteps": 1000, "beta_schedule": "linear"} | given
    epsilon = check_bool("predict_epsilon", given.get("predict_epsilon", True))  # before 2023
    kind = "epsilon" if epsilon else "sample"
    kind = check_choice("prediction_type", given.get("prediction_type", kind), OBJECTIVES)
    process = {
        "timesteps": given["num_train_timesteps"],
        **_schedule_of(given),
        "objective": OBJECTIVES[kind],
        "clip_x_start": _clip_of(given),
        "schedule_dtype": "float32",
        "rederive_pred_noise": False,
    }
    if given.get("variance_type") is not None:
        variance = check_choice("variance_type", given["variance_type"], VARIANCES)
        process["variance_type"] = VARIANCES[variance]
    if check_bool("rescale_betas_zero_snr", given.get("rescale_betas_zero_snr", False)):
        process["zero_terminal_snr"] = True
    return process


def scheduler_of(process: dict[str, Any], variance_type: str) -> dict[str, Any]:
    """The config of a DDPMScheduler for these arguments of GaussianDiffusion, all of them given.

    Raises ConfigError for what a DDPMPipeline cannot do.
    """
    if not process["auto_normalize"]:
        raise ConfigError(
            "auto_normalize=False has no counterpart in diffusers, whose pipeline maps what it "
            "made to [0, 1]: train with auto_normalize=True"
        )
    kinds = {ours: theirs for theirs, ours in OBJECTIVES.items()}
    return {
        "num_train_timesteps": process["timesteps"],
        **_betas_of(process),
        "trained_betas": None,
        "prediction_type": kinds[process["objective"]],
        "variance_type": variance_type,
        "clip_sample": process["clip_x_start"] is not False,
        "clip_sample_range": 1.0,
        "rescale_betas_zero_snr": process["zero_terminal_snr"],
        "thresholding": False,
        "timestep_spacing": "leading",
        "steps_offset": 0,
    }


def _check_keys(given: dict[str, Any]) -> None:
    unknown = sorted(given.keys() - READ - ONLY.keys() - SOLVERS_OWN)
    if unknown:
        raise ConfigError(
            f"{FILE} has {shown(unknown)}, which is not known here: remove it if it changes "
            "nothing, or install a newer ddpm_hub"
        )
    for key, (value, kind) in ONLY.items():
        if given.get(key, value) != value:
            raise ConfigError(
                f"{key} {shown(given[key])} in {FILE} is {kind}: only {value!r} can be opened"
            )


def _schedule_of(given: dict[str, Any]) -> dict[str, Any]:
    """beta_schedule and schedule_fn_kwargs; none of the latter for the paper's own schedule."""
    row, options = BETAS[check_choice("beta_schedule", given["beta_schedule"], BETAS)]
    ends = {key: given[key] for key in PAPER}
    if row == "cosine" or (options == {"power": 1} and _is_papers(ends, given)):
        return {"beta_schedule": row}
    return {"beta_schedule": row, "schedule_fn_kwargs": options | ends}


def _is_papers(ends: dict[str, Any], given: dict[str, Any]) -> bool:
    return ends == PAPER and given["num_train_timesteps"] == 1000


def _clip_of(given: dict[str, Any]) -> bool:
    """Whether the predicted x0 is held in [-1, 1]."""
    clip = check_bool("clip_sample", given.get("clip_sample", True))
    threshold = check_bool("thresholding", given.get("thresholding", False))
    # thresholding up to 1 is a clamp to [-1, 1]
    limit = "sample_max_value" if threshold else "clip_sample_range"
    if (clip or threshold) and given.get(limit, 1.0) != 1:
        value = check_float(limit, given[limit], 0, 1e9)
        raise ConfigError(
            f"{limit} {value:g} in {FILE} is not 1, and x0 is held in [-1, 1] here or not at all: "
            "set clip_sample and thresholding to false there, and bound it in sample()"
        )
    return clip or threshold


def _betas_of(process: dict[str, Any]) -> dict[str, Any]:
    name, given = process["beta_schedule"], process["schedule_fn_kwargs"] or {}
    options = DEFAULTS[name] | {key: value for key, value in given.items() if key not in PAPER}
    ends = {key: given.get(key) for key in PAPER}
    if name == "linear":  # scaled as `schedules.linear` scales what is not given
        scale = 1000 / process["timesteps"]
        ends = {key: scale * PAPER[key] if end is None else end for key, end in ends.items()}
    for theirs, row in BETAS.items():
        if row == (name, options) and (name == "cosine" or _are_betas(ends)):
            return {"beta_schedule": theirs} | (PAPER if name == "cosine" else ends)
    raise ConfigError(
        f"beta_schedule {name!r} with {shown(given)} has no counterpart in diffusers: it has "
        "'linear', and 'cosine' with its default options"
    )


def _are_betas(ends: dict[str, Any]) -> bool:
    return all(value is not None and value < 0.999 for value in ends.values())
