"""The command line: `ddpm train | sample | evaluate | chapters`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    help="Diffusion models, small and exact: train one, sample from it, measure it, run the book's chapters.",
)

ModelOption = Annotated[str, typer.Option("--model", help='A model that ships ("fashion-mnist") or a run\'s folder.')]
StepsOption = Annotated[
    int, typer.Option("--steps", help="Moves of the sampler, 1 to 1000: the network calls an image.")
]
SamplerOption = Annotated[str, typer.Option(help="ddim (deterministic at --eta 0) or ancestral (DDPM's own).")]
EtaOption = Annotated[float, typer.Option(help="DDIM's randomness: 0 none, 1 that of ancestral sampling.")]
SpacingOption = Annotated[str, typer.Option(help="Grid of times: trailing, leading, linspace, quadratic or karras.")]
SeedOption = Annotated[int, typer.Option(help="Sample i of a seed is the same whatever --n is.")]
PrecisionOption = Annotated[str, typer.Option(help="auto: bfloat16 where the hardware has it; or float32.")]


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="The run's folder. The same command again in the same folder resumes it.")],
    data: Annotated[
        str, typer.Option(help="fashion-mnist (60,000 images) or fashion-mnist-embedded.")
    ] = "fashion-mnist",
    data_folder: Annotated[Path | None, typer.Option(help="Where the full set's IDX files lie.")] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 5000,
    batch_size: Annotated[int, typer.Option(help="Images a step, over all processes.")] = 64,
    base_channels: Annotated[int, typer.Option(help="Width of the UNet's first level, a multiple of 4.")] = 32,
    blocks_per_level: Annotated[int, typer.Option(help="Residual blocks a level on the way down.")] = 1,
    schedule: Annotated[str, typer.Option(help="Noise schedule: linear, cosine or sigmoid.")] = "linear",
    target: Annotated[str, typer.Option(help="What the network says: eps, x0 or v.")] = "eps",
    learning_rate: Annotated[float, typer.Option(help="AdamW's peak rate.")] = 1e-3,
    warmup: Annotated[int, typer.Option(help="Steps to reach it; from there a cosine to 0.")] = 200,
    ema: Annotated[float, typer.Option(help="Decay of the averaged weights, which are the ones kept.")] = 0.999,
    seed: Annotated[int, typer.Option(help="Of weights, order of images, times and noise.")] = 0,
    checkpoint_every: Annotated[
        int, typer.Option(help="Steps between checkpoints; a killed run loses at most these.")
    ] = 500,
    precision: PrecisionOption = "auto",
    init: Annotated[
        str | None, typer.Option(help="Start from this model's weights (a name or a run's folder).")
    ] = None,
) -> None:
    """Train a diffusion model, or go on where the run in --out stopped."""
    from ddpm import pretrained
    from ddpm.data import load
    from ddpm.diffusion import DiffusionConfig
    from ddpm.training import TrainingConfig
    from ddpm.training import train as run
    from ddpm.unet import UNetConfig

    network = UNetConfig(base_channels=base_channels, blocks_per_level=blocks_per_level)
    model = DiffusionConfig(network, schedule, target=target)  # type: ignore[arg-type]
    config = TrainingConfig(
        steps=steps, batch_size=batch_size, learning_rate=learning_rate, warmup=warmup, ema=ema, seed=seed,
        checkpoint_every=checkpoint_every, precision=precision,  # type: ignore[arg-type]
    )  # fmt: skip
    dataset = load(data, "train", data_folder)
    weights = pretrained.model_folder(init) / "model.safetensors" if init is not None else None
    run(model, dataset, config, out, init=weights)
    typer.echo(f"done: {out / 'model.safetensors'}")


@app.command()
def sample(
    out: Annotated[Path, typer.Option(help="PNG file of the grid.")] = Path("samples.png"),
    model: ModelOption = "fashion-mnist",
    n: Annotated[int, typer.Option("--n", help="How many images.")] = 64,
    sampler: SamplerOption = "ddim",
    steps: StepsOption = 50,
    eta: EtaOption = 0.0,
    spacing: SpacingOption = "trailing",
    seed: SeedOption = 0,
    precision: PrecisionOption = "auto",
) -> None:
    """Draw images and save them as one grid."""
    import io
    import math

    from torchvision.utils import save_image

    import ddpm
    from ddpm.files import write_atomically

    if out.suffix.lower() != ".png":
        raise ValueError(f"out is {str(out)!r}; its name must end in .png")
    denoise = ddpm.load(model, precision)  # type: ignore[arg-type]
    images = ddpm.sample(denoise, n, sampler, steps, seed, spacing=spacing, **_options(sampler, eta))  # type: ignore[arg-type]
    png = io.BytesIO()
    save_image(images, png, format="png", nrow=math.ceil(math.sqrt(n)), normalize=True, value_range=(-1, 1))
    write_atomically(out, png.getvalue())
    typer.echo(f"{n} images: {out}")


@app.command()
def evaluate(
    model: ModelOption = "fashion-mnist",
    n: Annotated[int, typer.Option("--n", help="Images to draw; distances at different n do not compare.")] = 2000,
    sampler: SamplerOption = "ddim",
    steps: StepsOption = 50,
    eta: EtaOption = 0.0,
    spacing: SpacingOption = "trailing",
    seed: SeedOption = 0,
    precision: PrecisionOption = "auto",
) -> None:
    """Frechet distance of a model's images to Fashion-MNIST's test images, with its five facts."""
    import ddpm
    from ddpm.metrics import FEATURES, frechet_distance

    if n <= FEATURES:
        raise ValueError(f"n is {n}; a Frechet distance over {FEATURES} features needs more than that")
    denoise = ddpm.load(model, precision)  # type: ignore[arg-type]
    images = ddpm.sample(denoise, n, sampler, steps, seed, spacing=spacing, **_options(sampler, eta))  # type: ignore[arg-type]
    typer.echo(f"{sampler}, {steps} steps, {spacing} grid, seed {seed}: {frechet_distance(images, weights='EMA')}")


@app.command()
def chapters(
    preset: Annotated[str, typer.Option(help="cpu (a minute a chapter), gpu (full size) or smoke (seconds).")] = "cpu",
    only: Annotated[int | None, typer.Option(help="Number of the one chapter to run.")] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="NAME=VALUE for the notebook.")
    ] = None,
    notebooks: Annotated[Path, typer.Option(help="Folder of the chapters.")] = Path("notebooks"),
    out: Annotated[Path, typer.Option(help="Where the executed chapters go.")] = Path("_build/chapters"),
    force: Annotated[bool, typer.Option(help="Run chapters that are finished and unchanged, too.")] = False,
) -> None:
    """Execute the book's chapters, one at a time; finished, unchanged ones are skipped."""
    from ddpm.companion import runner

    if not runner.run_chapters(notebooks, out, preset, only, runner.parse_parameters(parameter or []), force):
        raise typer.Exit(1)


def _options(sampler: str, eta: float) -> dict[str, float]:
    if sampler == "ddim":
        return {"eta": eta}
    if eta:
        raise ValueError(f"eta is {eta}; only ddim has it, {sampler} does not")
    return {}


UsageError: Any = typer.BadParameter.__base__  # typer carries a click of its own, whose names it does not export


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 bad input (one line on stderr), 1 anything else."""
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False))
    except UsageError as error:
        _stop(error, 2)
    except typer.Abort:
        sys.exit(1)
    except (ValueError, TypeError, FileNotFoundError) as error:
        _stop(error, 2)
    except (OSError, FloatingPointError) as error:
        _stop(error, 1)


def _stop(error: Exception, code: int) -> None:
    text = error.format_message() if isinstance(error, UsageError) else str(error)
    print("ddpm: " + (text or type(error).__name__).splitlines()[0], file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
