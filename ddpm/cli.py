"""The command line: `ddpm train | sample | evaluate | round-trip | export | chapters`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    help="Diffusion models, small and exact: train, sample, measure, export, run the book's chapters.",
)

ModelOption = Annotated[str, typer.Option("--model", help='A model that ships ("fashion-mnist") or a run\'s folder.')]
StepsOption = Annotated[
    int,
    typer.Option(
        "--steps",
        help="Moves of the sampler, 1 to the schedule's T: one network call each; two in heun and predictor_corrector, "
        "five in annealed_langevin.",
    ),
]
SamplerOption = Annotated[
    str,
    typer.Option(
        help="ddim, ancestral (DDPM's own), heun, dpm_solver_pp, annealed_langevin, predictor_corrector or "
        "flow_and_langevin."
    ),
]
EtaOption = Annotated[float, typer.Option(help="DDIM's randomness: 0 none, 1 that of ancestral sampling.")]
VarianceOption = Annotated[str, typer.Option(help="Of ancestral sampling: small (the posterior's) or large (beta).")]
SpacingOption = Annotated[str, typer.Option(help="Grid of times: trailing, leading, linspace, quadratic or karras.")]
SeedOption = Annotated[int, typer.Option(help="Sample i of a seed is the same whatever --n is.")]
PrecisionOption = Annotated[str, typer.Option(help="auto: bfloat16 where the hardware has it; or float32.")]


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="The run's folder. The same command again in the same folder resumes it.")],
    model: Annotated[str, typer.Option(help="diffusion, autoencoder, vae or gan.")] = "diffusion",
    data: Annotated[
        str, typer.Option(help="fashion-mnist (60,000 images) or fashion-mnist-embedded.")
    ] = "fashion-mnist",
    data_folder: Annotated[Path | None, typer.Option(help="Where the full set's IDX files lie.")] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 5000,
    batch_size: Annotated[int, typer.Option(help="Images a step, over all processes.")] = 64,
    base_channels: Annotated[int, typer.Option(help="Width of the network's first level, a multiple of 4.")] = 32,
    blocks_per_level: Annotated[
        int | None, typer.Option(help="Residual blocks a level on the UNet's way down.", show_default="1")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Noise schedule: linear, cosine or sigmoid.", show_default="linear")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="What a diffusion network says: eps, x0 or v.", show_default="v")
    ] = None,
    weighting: Annotated[
        str | None,
        typer.Option(
            help="Of squared errors: simple (all alike) or bound (the likelihood's; needs uniform times).",
            show_default="simple",
        ),
    ] = None,
    times: Annotated[
        str | None,
        typer.Option(
            help="How times are drawn: lognormal (log noise / signal near -0.9) or uniform.", show_default="lognormal"
        ),
    ] = None,
    uniform_share: Annotated[
        float | None,
        typer.Option(help="Of lognormal times, the share drawn uniformly: the noisiest need it.", show_default="0.1"),
    ] = None,
    latent_dim: Annotated[
        int | None, typer.Option(help="Numbers in an autoencoder's code or a GAN's noise.", show_default="32")
    ] = None,
    loss: Annotated[
        str | None, typer.Option(help="An autoencoder's, plain or variational: mse or bce.", show_default="mse")
    ] = None,
    game: Annotated[
        str | None, typer.Option(help="A GAN's: non-saturating or minimax.", show_default="non-saturating")
    ] = None,
    r1: Annotated[float | None, typer.Option(help="Weight of a GAN's gradient penalty.", show_default="1")] = None,
    optimiser: Annotated[
        str | None,
        typer.Option(help="muon, adamw, adam, sgd or rmsprop.", show_default="the model's: muon for diffusion"),
    ] = None,
    momentum: Annotated[
        float | None, typer.Option(help="Of adamw, adam (beta 1) and sgd.", show_default="0.9; a GAN's 0")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Its peak rate.", show_default="the model's: 2e-3 for diffusion")
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option(help="Steps to reach it; from there a cosine to 0.", show_default="200; 50 for diffusion"),
    ] = None,
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
    """Train a model, or go on where the run in --out stopped.

    The defaults are the recommended recipe of each kind (ddpm.recipes). The one of Ho et al. (2020) is --target eps
    --times uniform --optimiser adamw --learning-rate 1e-3 --warmup 200.
    """
    from ddpm import pretrained
    from ddpm.data import load
    from ddpm.recipes import recipe
    from ddpm.training import train as run

    settings = {
        "steps": steps, "batch_size": batch_size, "base_channels": base_channels, "blocks_per_level": blocks_per_level,
        "schedule": schedule, "target": target, "weighting": weighting, "times": times, "uniform_share": uniform_share,
        "latent_dim": latent_dim, "loss": loss, "game": game, "r1": r1, "optimiser": optimiser, "momentum": momentum,
        "learning_rate": learning_rate, "warmup": warmup, "ema": ema, "seed": seed,
        "checkpoint_every": checkpoint_every, "precision": precision,
    }  # fmt: skip
    chosen = recipe(model, **{name: value for name, value in settings.items() if value is not None})
    dataset = load(data, "train", data_folder)
    weights = pretrained.model_folder(init) / "model.safetensors" if init is not None else None
    run(chosen[0], dataset, chosen[1], out, init=weights)
    typer.echo(f"done: {out / 'model.safetensors'}")


@app.command()
def sample(
    out: Annotated[
        Path, typer.Option(help="Grid of the images (.png), or a film from noise to images (.gif, .webp).")
    ] = Path("samples.png"),
    model: ModelOption = "fashion-mnist",
    n: Annotated[int, typer.Option("--n", help="How many images.")] = 64,
    sampler: SamplerOption = "ddim",
    steps: StepsOption = 50,
    eta: EtaOption = 0.0,
    variance: VarianceOption = "small",
    spacing: SpacingOption = "trailing",
    seed: SeedOption = 0,
    precision: PrecisionOption = "auto",
) -> None:
    """Draw images and save them as one grid, or film their way from noise."""
    import io
    import math

    import torch
    from torch import Tensor
    from torchvision.transforms.functional import to_pil_image
    from torchvision.utils import make_grid

    from ddpm.data import denormalise
    from ddpm.files import write_atomically
    from ddpm.noise import PerSample

    _check_out(out, ".png", ".gif", ".webp")

    def grid(images: Tensor) -> Any:
        return to_pil_image(make_grid(images[:n], math.ceil(math.sqrt(n))))

    states: list[Tensor] = []
    film = {} if out.suffix.lower() == ".png" else {"watch": lambda step: states.append(denormalise(step.x).cpu())}
    images, _ = _draw(model, n, sampler, steps, eta, variance, spacing, seed, precision, **film)
    if film:
        each = len(states) // math.ceil(n / len(states[0]))  # states of one chunk of images
        shown = range(each - 1, -1, -math.ceil(each / 100))[::-1]
        noise = PerSample(seed)(torch.empty(n, *images.shape[1:]))  # where `ddpm.sample` begins
        first, *rest = [grid(denormalise(noise)), *(grid(torch.cat(states[i::each])) for i in shown)]
    else:
        first, rest = grid(denormalise(images).cpu()), []
    buffer = io.BytesIO()
    motion = {"save_all": True, "append_images": rest, "duration": [80] * len(rest) + [2000], "loop": 0} if rest else {}
    first.save(buffer, out.suffix[1:].upper(), **motion)
    write_atomically(out, buffer.getvalue())
    typer.echo(f"{n} images: {out}")


@app.command()
def evaluate(
    model: ModelOption = "fashion-mnist",
    n: Annotated[int, typer.Option("--n", help="Images to draw; distances at different n do not compare.")] = 2000,
    sampler: SamplerOption = "ddim",
    steps: StepsOption = 50,
    eta: EtaOption = 0.0,
    variance: VarianceOption = "small",
    spacing: SpacingOption = "trailing",
    seed: SeedOption = 0,
    precision: PrecisionOption = "auto",
) -> None:
    """Frechet distance of a model's images to Fashion-MNIST's test images, with its five facts."""
    from ddpm.features import FEATURES
    from ddpm.metrics import frechet_distance

    if n <= FEATURES:
        raise ValueError(f"n is {n}; a Frechet distance over {FEATURES} features needs more than that")
    images, how = _draw(model, n, sampler, steps, eta, variance, spacing, seed, precision)
    typer.echo(f"{how}, seed {seed}: {frechet_distance(images, weights='EMA')}")


@app.command("round-trip")
def round_trip(
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[IMAGE]...",
            help="Of any size and colours; without one, a test image of each class.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(help="A line of pictures (.png) for each: original, noised, one-shot mean, back, difference."),
    ] = Path("round-trip.png"),
    model: ModelOption = "fashion-mnist",
    depth: Annotated[int, typer.Option(help="Time up to which noise is added, 1 to the schedule's T.")] = 500,
    steps: Annotated[int, typer.Option(help="Moves on the way back, 1 to the depth.")] = 50,
    sampler: SamplerOption = "ancestral",
    invert: Annotated[
        bool, typer.Option("--invert", help="Go up without noise, by the sampler's own moves: ddim or heun.")
    ] = False,
    eta: EtaOption = 0.0,
    variance: VarianceOption = "small",
    spacing: SpacingOption = "trailing",
    seed: SeedOption = 0,
    precision: PrecisionOption = "auto",
) -> None:
    """Noise pictures, denoise them again, and say what is left of them.

    The shipped model knows garments, light on black; of other pictures it makes garments.
    """
    import io

    import torch
    from torchvision.transforms.functional import to_pil_image
    from torchvision.utils import make_grid
    from tqdm import tqdm

    import ddpm
    from ddpm import fidelity
    from ddpm.data import CLASSES, denormalise, load, normalise, read_image
    from ddpm.denoiser import NetworkDenoiser
    from ddpm.features import classify
    from ddpm.files import write_atomically
    from ddpm.noise import PerSample
    from ddpm.round_trip import Ends, ends, inverted_round_trip
    from ddpm.round_trip import round_trip as there_and_back
    from ddpm.sampling import sampler_named, watched

    _check_out(out, ".png")
    pictures = pictures or []
    if out.resolve() in [path.resolve() for path in pictures]:
        raise ValueError(f"out is {str(out)!r}, which is one of the pictures; name another file")
    options = _sampler_options(sampler, eta, variance)
    if invert and sampler not in ("ddim", "heun"):
        raise ValueError(f"sampler is {sampler!r}; with --invert legal are ddim and heun")
    if invert and options:
        raise ValueError(f"eta is {eta}; with --invert it must be 0")
    if spacing == "leading":
        raise ValueError("spacing is 'leading', whose grids begin below the depth; legal are all others")
    denoise = ddpm.load(model, precision)  # type: ignore[arg-type]
    if not isinstance(denoise, NetworkDenoiser) or denoise.image_shape is None:
        raise ValueError(f"model is {model!r}; only a diffusion model denoises")
    if not 1 <= depth <= denoise.schedule.T:
        raise ValueError(f"depth is {depth}; legal are 1 to {denoise.schedule.T}")
    if not 1 <= steps <= depth:
        raise ValueError(f"steps is {steps}; legal are 1 to the depth, {depth}")
    grid = denoise.schedule.timesteps(steps, spacing, start=depth)  # type: ignore[arg-type]
    if pictures:
        read = [read_image(path, denoise.image_shape) for path in pictures]
        images, words = torch.stack([image for image, _ in read]), [word for _, word in read]
        names = [path.name for path in pictures]
    elif denoise.image_shape != (1, 32, 32):
        raise ValueError(f"IMAGE is not given; the test images are (1, 32, 32), this model's {denoise.image_shape}")
    else:
        test = load("fashion-mnist-embedded", "test", quiet=True)
        names, words = list(CLASSES), ["a test image"] * len(CLASSES)
        images = torch.stack([test.images[test.labels == label][0] for label in range(len(CLASSES))])
    originals = normalise(images).to(denoise.device)

    trips: list[Ends] = []
    bar = tqdm(total=-(-len(names) // 16) * steps * (1 + invert), unit="step", desc=f"{sampler}-{steps}", delay=1)
    with torch.no_grad(), bar, denoise.many_calls():
        for first, x0 in zip(range(0, len(names), 16), originals.split(16), strict=True):
            if invert:
                walk = inverted_round_trip(denoise, x0, grid, order=1 if sampler == "ddim" else 2)
            else:
                noise = PerSample(seed, first)
                walk = there_and_back(denoise, x0, grid, sampler=sampler_named(sampler), noise=noise, **options)
            trips.append(ends(watched(walk, 0 if invert else depth, bar)))
    noised, one_shot, back = (torch.cat(part) for part in zip(*trips, strict=True))

    values = fidelity.fidelity(back, originals)
    looks = [classify(x.clamp(-1, 1)) for x in (originals, back)] if values.same_class is not None else []
    columns = fidelity.table(back, one_shot, originals)

    line = torch.stack([originals, noised, one_shot, back, back - originals], dim=1).flatten(0, 1)
    enlarged = denormalise(line).cpu().repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    buffer = io.BytesIO()
    to_pil_image(make_grid(enlarged, 5, padding=4)).save(buffer, "PNG")
    write_atomically(out, buffer.getvalue())

    for i, (name, word) in enumerate(zip(names, words, strict=True)):
        seen = "; looked like {}, looks like {}".format(*(CLASSES[look[i]] for look in looks)) if looks else ""
        typer.echo(f"{name} ({word}): PSNR {values.psnr[i]:.1f} dB, SSIM {values.ssim[i]:.2f}{seen}")
    way, drawn = ("up by inversion", "") if invert else ("noised in one shot", f", seed {seed}")
    typer.echo(f"\n{way} to t = {depth}, back by {_how(sampler, eta, variance, steps, spacing)}{drawn}\n")
    typer.echo(f"{'mean of ' + str(len(names)):26}" + "".join(f"{column:>15}" for column in columns))
    for measure in columns["back"]:
        typer.echo(f"{measure:26}" + "".join(f"{column[measure]:15.3f}" for column in columns.values()))
    typer.echo(f"\noriginal, {'inverted' if invert else 'noised'}, one-shot mean, back, difference: {out}")


@app.command()
def export(
    directory: Annotated[Path, typer.Argument(help="The folder to make.")],
    model: ModelOption = "fashion-mnist",
    to: Annotated[str, typer.Option(help="Whose format: diffusers.")] = "diffusers",
) -> None:
    """Write a trained model as a folder that another library opens, with a model card.

    diffusers opens it offline: DDIMPipeline.from_pretrained("DIRECTORY")
    """
    from ddpm import pretrained
    from ddpm.denoiser import NetworkDenoiser
    from ddpm.interop import export_diffusers

    if to != "diffusers":
        raise ValueError(f"to is {to!r}; legal is diffusers")
    described = (pretrained.model_folder(model) / "card.md").is_file()
    trained = pretrained.load(model)
    if not isinstance(trained, NetworkDenoiser):
        raise ValueError(f"model is {model!r}; diffusers has pipelines of diffusion models only")
    export_diffusers(trained, directory, pretrained.card(model) if described else "")
    typer.echo(f"done: {directory}")


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


def _check_out(out: Path, *endings: str) -> None:
    if out.suffix.lower() not in endings:
        legal = " or ".join(filter(None, [", ".join(endings[:-1]), endings[-1]]))
        raise ValueError(f"out is {str(out)!r}; its name must end in {legal}")
    if out.is_dir() or any(folder.exists() and not folder.is_dir() for folder in out.parents):
        raise ValueError(f"out is {str(out)!r}; there must be no folder of that name, and no file on the way to it")


def _draw(
    model: str, n: int, sampler: str, steps: int, eta: float, variance: str, spacing: str, seed: int, precision: str,
    **more: Any,
) -> tuple[Any, str]:  # fmt: skip
    import ddpm
    from ddpm.autoencoder import Autoencoder
    from ddpm.sampling import LatentModel

    more |= _sampler_options(sampler, eta, variance)
    trained = ddpm.load(model, precision)  # type: ignore[arg-type]
    latent = isinstance(trained, LatentModel)
    if latent and "watch" in more:
        raise ValueError(
            f"model is {model!r}; it draws an image in one call, so --out must end in .png: there is no film"
        )
    if type(trained) is Autoencoder:
        typer.echo("a plain autoencoder has no density of codes; they are drawn from N(0, I) all the same", err=True)
    images = ddpm.sample(trained, n, sampler, steps, seed, spacing=spacing, **more)  # type: ignore[arg-type]
    return images, "one call" if latent else _how(sampler, eta, variance, steps, spacing)


def _sampler_options(sampler: str, eta: float, variance: str) -> dict[str, Any]:
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


def _how(sampler: str, eta: float, variance: str, steps: int, spacing: str) -> str:
    option = {"ddim": f", eta {eta:g}", "ancestral": f", {variance} variance"}.get(sampler, "")
    return f"{sampler}{option}, {steps} steps, {spacing} grid"


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
