"""Noise schedules and prediction targets, converted to and from diffusers' schedulers."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ddpm.denoiser import NetworkDenoiser
from ddpm.interop.weights import diffusers_library
from ddpm.messages import first_line
from ddpm.schedule import NoiseSchedule, cosine, from_betas, zero_terminal_snr
from ddpm.settings import Target, one_of

if TYPE_CHECKING:
    from diffusers import DDPMScheduler

__all__ = [
    "PREDICTION_TYPES", "check_table", "make_scheduler", "schedule_of_scheduler", "scheduler_from",
    "target_of_scheduler",
]  # fmt: skip

#: What diffusers calls each prediction target.
PREDICTION_TYPES: dict[Target, str] = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}

_BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace", "exp")


def make_scheduler(denoise: NetworkDenoiser) -> "DDPMScheduler":
    """diffusers' scheduler for a denoiser's noise schedule and prediction target.

    Raises:
        ValueError: diffusers has no such target, or the schedule does not keep the variance.
        ModuleNotFoundError: diffusers is not installed.
    """
    if not denoise.schedule.preserves_variance:
        raise ValueError(f"schedule is {denoise.schedule}; diffusers' DDPMScheduler needs one that keeps the variance")
    one_of("target", denoise.target, list(PREDICTION_TYPES))
    alpha_bar = denoise.schedule.alpha_bar
    scheduler: DDPMScheduler = diffusers_library().DDPMScheduler(
        num_train_timesteps=denoise.schedule.T,
        trained_betas=(1 - alpha_bar[1:] / alpha_bar[:-1]).tolist(),
        prediction_type=PREDICTION_TYPES[denoise.target],
        clip_sample=False,  # the default clips x0 to [-1, 1] in every step
        timestep_spacing="trailing",  # the default never visits T
    )
    return scheduler


def scheduler_from(config: Mapping[str, Any], kind: str, file: Path) -> Any:
    """diffusers' scheduler of a configuration, with the defaults of its class for what is not in it.

    Args:
        config: what the file says.
        kind: the name of its class, as the pipeline has it.
        file: where the configuration stands, for messages.

    Raises:
        ValueError: it is no scheduler with a table of betas, or diffusers makes none of this configuration.
    """
    diffusers = diffusers_library()
    scheduler_class = getattr(diffusers, kind, None)
    if not (isinstance(scheduler_class, type) and issubclass(scheduler_class, diffusers.SchedulerMixin)):
        raise ValueError(f"scheduler is {kind!r} beside {file}; this version of diffusers has none of that name")
    if config.get("trained_betas") is None and "beta_schedule" in config:
        one_of(f"beta_schedule in {file}", config["beta_schedule"], _BETA_SCHEDULES)
    try:
        scheduler = scheduler_class.from_config(config)  # type: ignore[attr-defined]
    except Exception as error:  # whatever a damaged configuration brings about
        raise ValueError(f"{file} makes no {kind}: {first_line(error)}") from error
    check_table(scheduler, kind, file)
    return scheduler


def check_table(scheduler: Any, kind: str, file: Path) -> None:
    """Raise `ValueError` unless a scheduler of this class has a table of betas."""
    if not isinstance(getattr(scheduler, "alphas_cumprod", None), torch.Tensor):
        raise ValueError(f"scheduler is {kind!r} ({file}); only one with a table of betas has a noise schedule")


def target_of_scheduler(scheduler: Any, file: Path) -> Target:
    """The prediction target of a scheduler.

    Raises:
        ValueError: a denoiser has no such target.
    """
    targets = {prediction_type: target for target, prediction_type in PREDICTION_TYPES.items()}
    prediction_type = scheduler.config.get("prediction_type", "epsilon")
    return targets[one_of(f"prediction_type in {file}", prediction_type, list(targets))]


def schedule_of_scheduler(scheduler: Any, file: Path) -> NoiseSchedule:
    """The noise schedule of a scheduler, computed in float64 where it is a formula.

    Raises:
        ValueError: no `NoiseSchedule` has its table of alpha_bar.
    """
    T, found = scheduler.config.num_train_timesteps, len(scheduler.alphas_cumprod)
    if found != T:
        raise ValueError(f"{file} has {found} betas, and num_train_timesteps is {T}")
    rescaled = bool(scheduler.config.get("rescale_betas_zero_snr"))
    try:
        schedule = zero_terminal_snr(_schedule(scheduler)) if rescaled else _schedule(scheduler)
    except ValueError as error:
        raise ValueError(f"{file} is no noise schedule: {error}") from error
    ours, theirs = schedule.alpha_bar[1:], scheduler.alphas_cumprod.cpu().double()  # products of float32 numbers
    smallest = 1e-6 if rescaled else 0.0  # some of diffusers' classes put a small number in place of the last 0
    if not torch.allclose(ours, theirs, rtol=0.01, atol=smallest):
        raise ValueError(f"{file} changes the table of its {scheduler.config.get('beta_schedule')} schedule")
    return schedule


def _schedule(scheduler: Any) -> NoiseSchedule:
    config = scheduler.config
    T, start, end = config.num_train_timesteps, config.get("beta_start"), config.get("beta_end")
    if config.get("trained_betas") is not None:
        return from_betas(np.asarray(config.trained_betas, dtype=np.float64))
    kind = config.get("beta_schedule")
    if kind == "linear":
        return from_betas(np.linspace(start, end, T))
    if kind == "scaled_linear":
        return from_betas(np.linspace(start**0.5, end**0.5, T) ** 2)
    if kind == "sigmoid":
        return from_betas(start + (end - start) / (1 + np.exp(-np.linspace(-6, 6, T))))
    if kind == "squaredcos_cap_v2":
        return cosine(T)
    return from_betas(scheduler.betas.cpu().double().numpy())
