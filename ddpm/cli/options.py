"""What several commands share: options, the checks of them, and the lines that say what was chosen."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from ddpm.cli.launch import launched
from ddpm.messages import counted
from ddpm.settings import SPACINGS, SamplerName, one_of

if TYPE_CHECKING:
    import torch

__all__ = [
    "GARMENTS",
    "SAMPLER_HELP",
    "EtaOption",
    "GuideOption",
    "IntervalOption",
    "ModelOption",
    "PrecisionOption",
    "SamplerOption",
    "SeedOption",
    "SpacingOption",
    "StepsOption",
    "ThreadsOfRunOption",
    "ThreadsOption",
    "VarianceOption",
    "WeightOption",
    "check_out",
    "how",
    "sampler_options",
    "say_data",
    "say_where",
]

GARMENTS = (1, 32, 32)  # the shape of Fashion-MNIST's images
ModelOption = Annotated[str, typer.Option("--model", help='A model that ships ("fashion-mnist") or a run\'s folder.')]
StepsOption = Annotated[
    int | None,
    typer.Option(
        "--steps",
        help="Moves of the sampler, 1 to the schedule's T; by default 12 where no sampler is named, else 50; a student "
        "makes as many as it was distilled for. "
        "A move is one network call, but two in heun and predictor_corrector and five in annealed_langevin; "
        "guidance and a guide add one each, within their interval. How many an image took is printed.",
    ),
]
SAMPLER_HELP = f"Sampler: {', '.join(get_args(SamplerName))}. The sampler of the DDPM paper is ancestral."
SamplerOption = Annotated[
    str | None,
    typer.Option(help=f"{SAMPLER_HELP} By default dpm_solver_pp; ddim for a student."),
]
EtaOption = Annotated[float, typer.Option(help="Randomness of ddim: 0 has none, 1 is ancestral sampling.")]
VarianceOption = Annotated[
    str, typer.Option(help="Variance of ancestral sampling: small (the posterior's) or large (beta).")
]
SpacingOption = Annotated[
    str | None,
    typer.Option(
        help=f"Spacing of the grid of times: {', '.join(SPACINGS)}. By default trailing; log_snr where no sampler is "
        "named, but for a student."
    ),
]
GuideOption = Annotated[
    str | None,
    typer.Option(
        help="Push samples away from this worse model, which costs a second network call in every move: "
        '"equal-diffusion", or an early checkpoint of your own run.'
    ),
]
WeightOption = Annotated[
    float, typer.Option(help="Weight of the guidance with --guide: 1 is the model alone, more pushes further.")
]
IntervalOption = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LOW HIGH",
        help="Guide only between these two values of sigma = noise / signal, which runs from 0 to about 157 on the "
        "linear schedule.",
    ),
]
SeedOption = Annotated[int, typer.Option(help="Seed of the noise. The same seed draws the same noise again.")]
PrecisionOption = Annotated[str, typer.Option(help="auto (bfloat16 where the hardware has it) or float32.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", help="Threads of the CPU to compute with; by default as many as there are free cores."),
]
ThreadsOfRunOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        help="Threads of the CPU to compute with; by default as many as the run began with, and as there are free "
        "cores when a new one begins.",
    ),
]


def check_out(out: Path, *endings: str) -> None:
    """Raise `ValueError` unless a file with one of these endings can be written to `out`."""
    from ddpm.files import check_place

    if out.suffix.lower() not in endings:
        raise ValueError(f"out is {str(out)!r}; its name must end in {' or '.join(endings)}")
    check_place("out", out)
    if out.is_dir():
        raise ValueError(f"out is {str(out)!r}; there must be no folder of that name")


def sampler_options(sampler: str | None, eta: float, variance: str) -> dict[str, Any]:
    """The options that differ from their defaults; `ValueError` unless legal, and the sampler, if any, has them."""
    one_of("variance", variance, ("small", "large"))
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}; it must be in [0, 1]")
    if sampler is not None and sampler not in get_args(SamplerName):
        from ddpm.walks import sampler_named  # which knows other libraries' names, too

        sampler_named(sampler)
    options = {}
    for name, value, default, owner in (("eta", eta, 0.0, "ddim"), ("variance", variance, "small", "ancestral")):
        if value != default:
            if sampler not in (None, owner):
                raise ValueError(f"{name} is {value}; it needs --sampler {owner}, {sampler} does not have it")
            options[name] = value
    return options


def how(sampler: str, steps: int, spacing: str, eta: float, variance: str, calls: int) -> str:
    """A sampler, its settings and the network calls that each image takes, in words."""
    option = {"ddim": f", eta {eta:g}", "ancestral": f", {variance} variance"}.get(sampler, "")
    return f"{sampler}{option}, {counted(steps, 'step')} ({counted(calls, 'network call')}), {spacing} grid"


def say_data(model: str) -> None:
    """Say in a line on stderr where a model learnt other images than the garments that it is measured with."""
    from ddpm import model_files, pretrained

    if model_files.model_folder(model).parent == model_files.MODELS:
        return  # what ships learnt garments
    data = pretrained.facts(model).data
    if launched().is_main and data and not data.startswith("fashion-mnist"):
        typer.echo(f"{model} learnt {data}; it is measured with garments of Fashion-MNIST all the same", err=True)


def say_where(doing: str, device: "torch.device") -> None:
    """Say in a line on stderr where something is computed, and with how many threads."""
    import torch

    if launched().is_main:
        typer.echo(f"{doing} on {device.type}, {counted(torch.get_num_threads(), 'thread')}", err=True)
