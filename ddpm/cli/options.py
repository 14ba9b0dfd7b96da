"""What several commands share: options, and what they say of a bad one."""

import os
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

ModelOption = Annotated[str, typer.Option("--model", help='A model that ships ("fashion-mnist") or a run\'s folder.')]
StepsOption = Annotated[
    int,
    typer.Option(
        "--steps",
        help="Moves of the sampler, 1 to the schedule's T: one network call each, in some more (two in heun and "
        "predictor_corrector, five in annealed_langevin).",
    ),
]
SamplerOption = Annotated[
    str,
    typer.Option(
        help="ddim, ancestral (DDPM's own), heun, dpm_solver_pp, annealed_langevin, predictor_corrector, "
        "flow_and_langevin; a wrong name is answered with all that there are."
    ),
]
EtaOption = Annotated[float, typer.Option(help="DDIM's randomness: 0 none, 1 that of ancestral sampling.")]
VarianceOption = Annotated[str, typer.Option(help="Of ancestral sampling: small (the posterior's) or large (beta).")]
SpacingOption = Annotated[str, typer.Option(help="Grid of times: trailing, leading, linspace, quadratic or karras.")]
GuideOption = Annotated[
    str | None,
    typer.Option(
        help='A worse model to be pushed away from, at a second call a move: "equal-diffusion", or of your own run an '
        "early checkpoint."
    ),
]
WeightOption = Annotated[float, typer.Option(help="With --guide: 1 is the model alone, more goes further off.")]
SeedOption = Annotated[int, typer.Option(help="Sample i of a seed is the same whatever --n is.")]
PrecisionOption = Annotated[str, typer.Option(help="auto: bfloat16 where the hardware has it; or float32.")]


def launched() -> tuple[bool, bool]:
    """Whether accelerate's launcher, or torchrun, started several processes, and whether this one speaks."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return False, True
    import torch
    from accelerate import PartialState

    patience = timedelta(hours=6)  # for the one that reads a folder before the others do
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=patience)  # each has its device now
    return True, state.is_main_process


def first() -> AbstractContextManager[None]:
    """A context that one process of each machine goes through before the others do."""
    if not launched()[0]:
        return nullcontext()
    from accelerate import PartialState

    return PartialState().local_main_process_first()


def leave() -> None:
    """Take leave of the other processes, if there are any."""
    if launched()[0]:
        from accelerate import PartialState

        PartialState().destroy_process_group()


def check_out(out: Path, *endings: str) -> None:
    """Raise `ValueError` unless a picture of one of these kinds can be written to `out`."""
    if out.suffix.lower() not in endings:
        legal = " or ".join(filter(None, [", ".join(endings[:-1]), endings[-1]]))
        raise ValueError(f"out is {str(out)!r}; its name must end in {legal}")
    if out.is_dir() or any(folder.exists() and not folder.is_dir() for folder in out.parents):
        raise ValueError(f"out is {str(out)!r}; there must be no folder of that name, and no file on the way to it")


def sampler_options(sampler: str, eta: float, variance: str) -> dict[str, Any]:
    """Those that are not the default, once it is clear that the sampler exists and has them."""
    from ddpm.sampling import sampler_named

    sampler_named(sampler)
    options = {}
    for name, value, default, owner in (("eta", eta, 0.0, "ddim"), ("variance", variance, "small", "ancestral")):
        if value != default:
            if sampler != owner:
                raise ValueError(f"{name} is {value}; only {owner} has it, {sampler} does not")
            options[name] = value
    return options


def how(sampler: str, eta: float, variance: str, steps: int, spacing: str) -> str:
    """A sampler and its settings, in words."""
    option = {"ddim": f", eta {eta:g}", "ancestral": f", {variance} variance"}.get(sampler, "")
    return f"{sampler}{option}, {steps} steps, {spacing} grid"
