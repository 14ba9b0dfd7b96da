"""Which walk `ddpm.sample` makes: a sampler by its name or as a function, its options, its steps and their grid."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from difflib import SequenceMatcher
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

from ddpm.denoiser import Denoiser
from ddpm.langevin import annealed_langevin, flow_and_langevin, predictor_corrector
from ddpm.samplers import Step, ancestral, ddim, dpm_solver_pp, heun
from ddpm.settings import SamplerName, Spacing, positive_int

__all__ = [
    "DEFAULT_WALK", "SAMPLERS", "Sampler", "Walk", "check_options", "check_student", "default_walk", "name_of",
    "sampler_named",
]  # fmt: skip

#: A function with the arguments of those in `ddpm.samplers`.
Sampler = Callable[..., Iterator[Step]]
#: The samplers by the names that `sample` takes.
SAMPLERS: dict[SamplerName, Sampler] = {
    "ancestral": ancestral,
    "ddim": ddim,
    "heun": heun,
    "dpm_solver_pp": dpm_solver_pp,
    "annealed_langevin": annealed_langevin,
    "predictor_corrector": predictor_corrector,
    "flow_and_langevin": flow_and_langevin,
}


class Walk(NamedTuple):
    """A sampler's name, how many moves it makes, and how the grid of their times is spaced."""

    sampler: str
    steps: int
    spacing: Spacing


#: Draws garments from the shipped model no worse than 50 steps of DDIM; ten steps of it do not (results of "samplers").
#: Another one changes what README, pages and chapters say of it: `tests/book/test_results.py` names them, and
#: `benchmarks/samplers.py`, `straight_path.py` and `speed.py` measure it.
DEFAULT_WALK = Walk("dpm_solver_pp", 12, "log_snr")
#: Names that other libraries use.
ALSO_CALLED = {"ddpm": "ancestral", "euler": "ddim", "dpm++": "dpm_solver_pp", "dpmpp_2m": "dpm_solver_pp"}
#: Options that other libraries have, and what does the same here.
OTHERS_OPTIONS = {
    **dict.fromkeys(("guidance", "guidance_scale"), "; ddpm.denoiser.Guided is a denoiser with guidance"),
    **dict.fromkeys(("labels", "label", "class_labels", "classes"), "; denoise.given(labels) is told its classes"),
    "batch_size": "; did you mean chunk, or n, which is how many samples are drawn?",
    "num_inference_steps": "; did you mean steps?",
}


def sampler_named(name: str | Sampler) -> Sampler:
    """The sampler of this name; a wrong one raises `ValueError` with the nearest right one. A function is its own."""
    if callable(name):
        return name
    if not isinstance(name, str):
        raise TypeError(f"sampler is {name!r}; it must be a function or a name: {', '.join(SAMPLERS)}")
    if name not in SAMPLERS:
        near = _nearest_sampler(name.lower())
        hint = f"; did you mean {near}?" if near is not None else ""
        raise ValueError(f"sampler is {name!r}; legal are {', '.join(SAMPLERS)}{hint}")
    return SAMPLERS[name]


def _nearest_sampler(name: str) -> str | None:
    """The sampler that a misspelt name means; where it is most like another library's name, with that in brackets."""
    if name in ALSO_CALLED:
        return ALSO_CALLED[name]
    begun = [known for known in SAMPLERS if known.startswith(name)]
    if len(name) > 1 and len(begun) == 1:
        return begun[0]
    likeness = {known: SequenceMatcher(None, known, name).ratio() for known in [*SAMPLERS, *ALSO_CALLED]}
    near = max(likeness, key=likeness.__getitem__)  # the first of equals, so a sampler's own name
    if likeness[near] < 0.5:
        return None
    return f"{ALSO_CALLED[near]} ({near})" if near in ALSO_CALLED else near


def default_walk(
    denoise: Denoiser, sampler: str | None = None, steps: int | None = None, spacing: Spacing | None = None
) -> Walk:
    """The walk of `sample`, with what is None filled in.

    Where no sampler is named it is `DEFAULT_WALK`, and DDIM for a student. A sampler that is named makes 50 moves on a
    trailing grid. A student makes as many as it was distilled for, by any sampler. No walk makes more moves than the
    schedule has times; where more are asked for, `ValueError`.
    """
    if denoise.distilled_for is not None:
        own = Walk(sampler or "ddim", denoise.distilled_for, "trailing")
    else:
        own = DEFAULT_WALK if sampler is None else Walk(sampler, 50, "trailing")
    T = denoise.schedule.T
    moves = min(own.steps, T) if steps is None else positive_int("steps", steps)
    if moves > T:
        raise ValueError(f"steps is {moves}; legal are integers from 1 to T = {T}")
    return Walk(own.sampler, moves, own.spacing if spacing is None else spacing)


def name_of(sampler: Sampler) -> str:
    """What a sampler that is given as a function is called."""
    while isinstance(sampler, partial):
        sampler = sampler.func
    return getattr(sampler, "__name__", type(sampler).__name__)


def check_options(name: str, sampler: Sampler, given: Mapping[str, Any]) -> None:
    """Raise `TypeError` where an option is given that the sampler does not have, and say whose it is."""
    legal = _options_of(sampler)
    for option in given:
        if legal is not None and option not in legal:
            owners = [other for other, theirs in SAMPLERS.items() if option in (_options_of(theirs) or ())]
            hint = f"; it is one of {', '.join(owners)}" if owners else OTHERS_OPTIONS.get(option, "")
            has = ", ".join(legal) if legal else "none"
            raise TypeError(f"{option} is no option of the sampler {name}, which has {has}{hint}")


def _options_of(sampler: Sampler) -> list[str] | None:
    """The names of a sampler's own options, which follow the denoiser, the state and the grid; None if it takes any."""
    options = list(signature(sampler).parameters.values())[3:]
    if any(each.kind is each.VAR_KEYWORD for each in options):
        return None
    return [each.name for each in options if each.name != "randn_like"]


def check_student(denoise: Denoiser, sampler: str, steps: int, spacing: str) -> None:
    """Warn where a student is asked at other times than those that it was distilled for."""
    own = denoise.distilled_for
    if own is not None and (sampler, steps, spacing) != ("ddim", own, "trailing"):
        warnings.warn(
            f"this model was distilled for {own} moves of ddim on a trailing grid; {steps} of {sampler} on a {spacing} "
            "grid may ask it at times that it never saw",
            stacklevel=4,  # of `sample`, behind torch's wrapper
        )
