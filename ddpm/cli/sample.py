"""`ddpm sample` and `ddpm evaluate`."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ddpm.cli.options import (
    ClassOption,
    EtaOption,
    GuidanceOption,
    GuideOption,
    IntervalOption,
    ModelOption,
    PrecisionOption,
    SamplerOption,
    SeedOption,
    SpacingOption,
    StepsOption,
    ThreadsOption,
    VarianceOption,
    WeightOption,
    check_out,
    how,
    launched,
    sampler_options,
    say_where,
)
from ddpm.cli.picture import picture_of
from ddpm.settings import non_negative_int

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

__all__ = ["evaluate", "sample"]

GARMENTS = (1, 32, 32)
WEIGHT = 1.6
MOST = 1_000_000  # images in one grid


class Walking(NamedTuple):
    """The options of the walk from noise, as given."""

    sampler: str | None
    steps: int | None
    eta: float
    variance: str
    spacing: Any


class Guiding(NamedTuple):
    """The options of what is drawn and how it is pushed there."""

    labels: list[int]
    guidance: float
    interval: tuple[float, float] | None
    guide: str | None
    weight: float


def sample(
    out: Annotated[
        Path, typer.Option(help="Grid of the images (.png), or a film from noise to images (.gif, .webp).")
    ] = Path("samples.png"),
    model: ModelOption = "fashion-mnist",
    n: Annotated[
        int | None,
        typer.Option(
            "--n", "-n", help="How many images (64 by default); with several classes, of each (8 by default)."
        ),
    ] = None,
    classes: ClassOption = None,
    guidance: GuidanceOption = 1.0,
    guidance_interval: IntervalOption = None,
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    eta: EtaOption = 0.0,
    variance: VarianceOption = "small",
    spacing: SpacingOption = None,
    guide: GuideOption = None,
    weight: WeightOption = WEIGHT,
    seed: SeedOption = 0,
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Draw images and save them as one grid, or film their way from noise."""
    import ddpm
    from ddpm.data import denormalise
    from ddpm.files import write_atomically
    from ddpm.threads import choose_threads

    choose_threads(threads)
    check_out(out, ".png", ".gif", ".webp")
    if guidance != 1 and not classes:
        raise ValueError(f"guidance is {guidance:g}; it needs a --class")
    if guidance < 1:
        raise ValueError(f"guidance is {guidance:g}; it must be at least 1, which is none")
    trained = _load(model, precision)
    rows = _labels(model, trained, classes or [])
    columns = n if n is not None else 64 if len(rows) < 2 else 8
    n = columns * max(1, len(rows))
    if not 1 <= n <= MOST:
        raise ValueError(f"n is {columns}; legal are 1 to {MOST // max(1, len(rows)):,} images of each in a grid")
    labels = [label for label in rows for _ in range(columns)]
    is_film = out.suffix.lower() != ".png"
    states: list[Tensor] = []
    watch: dict[str, Any] = {"watch": lambda step: states.append(denormalise(step.x).cpu())} if is_film else {}
    walking = Walking(sampler, steps, eta, variance, spacing)
    guiding = Guiding(labels, guidance, guidance_interval, guide, weight)
    trained, options, _ = _prepared(trained, model, walking, guiding, seed, precision, **watch)
    say_where("sampling", trained.device)
    images = ddpm.sample(trained, n, sampler, steps, seed, **options)
    _, is_main = launched()
    if not is_main:
        return
    frames = _frames(states, n, seed) if is_film else [denormalise(images).cpu()]
    width = columns if len(rows) > 1 else math.ceil(math.sqrt(n))
    write_atomically(out, _encoded([picture_of(frame[:n], width) for frame in frames], out.suffix[1:].upper()))
    typer.echo(f"{n} images: {out}")


def _frames(states: "list[Tensor]", n: int, seed: int) -> "list[Tensor]":
    """Up to 101 moments of a walk, each of all n images: the noise where it begins, then states to the last.

    The states come chunk by chunk, and all chunks have equally many.
    """
    import torch

    from ddpm.data import denormalise
    from ddpm.noise import PerSampleNoise

    each = len(states) // math.ceil(n / len(states[0]))
    shown = reversed(range(each - 1, -1, -math.ceil(each / 100)))
    noise = PerSampleNoise(seed)(torch.empty(n, *states[0].shape[1:], dtype=torch.float32, device="cpu"))
    return [denormalise(noise), *(torch.cat(states[i::each]) for i in shown)]


def _load(model: str, precision: str) -> Any:
    """A trained model, on the device that a launcher gave this process."""
    import ddpm

    launched()
    return ddpm.load(model, precision)  # type: ignore[arg-type]


def _labels(model: str, trained: Any, names: Sequence[str]) -> list[int]:
    """The labels of the classes that are named, or of "all"; `ValueError` unless the model has them."""
    from ddpm.arguments import labels_of

    known = getattr(trained, "classes", ())
    if names and not known:
        raise ValueError(
            f"class is {names[0]!r}; model {model!r} knows no classes; fashion-mnist-classes, which ships, does, and "
            "so does what ddpm train --conditional makes"
        )
    if list(names) == ["all"]:
        return list(range(len(known)))
    numbers_are_names = any(name.isdecimal() for name in known)
    numbers = [int(name) if name.isdecimal() and not numbers_are_names else name for name in names]
    return [] if not numbers else [int(label) for label in labels_of(numbers, known)]


def _encoded(frames: "list[Image.Image]", kind: str) -> bytes:
    """A picture's file, or a film's: four seconds or more, and then the last frame for two."""
    first, *others = frames
    buffer = io.BytesIO()
    if others:
        pause = max(80, 4000 // len(others))  # milliseconds
        first.save(buffer, kind, save_all=True, append_images=others, duration=[pause] * len(others) + [2000], loop=0)
    else:
        first.save(buffer, kind)
    return buffer.getvalue()


def evaluate(
    model: ModelOption = "fashion-mnist",
    n: Annotated[
        int, typer.Option("--n", "-n", help="Images to draw; distances at different n do not compare.")
    ] = 2000,
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    eta: EtaOption = 0.0,
    variance: VarianceOption = "small",
    spacing: SpacingOption = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            help="Tell a model with classes one of them after the other, with this weight of guidance: 1 is none. By "
            "default none is told."
        ),
    ] = None,
    guidance_interval: IntervalOption = None,
    guide: GuideOption = None,
    weight: WeightOption = WEIGHT,
    seed: SeedOption = 0,
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Frechet distance of a model's images to Fashion-MNIST's test images, with the context needed to read it."""
    import ddpm
    from ddpm.metrics import frechet_distance
    from ddpm.metrics.distances import check_frechet
    from ddpm.threads import choose_threads

    choose_threads(threads)
    trained = _load(model, precision)
    classes = len(getattr(trained, "classes", ()))
    if guidance is not None and not classes:
        raise ValueError(f"guidance is {guidance:g}; model {model!r} was trained without classes")
    labels = [i % classes for i in range(n)] if guidance is not None else []
    walking = Walking(sampler, steps, eta, variance, spacing)
    guiding = Guiding(labels, 1.0 if guidance is None else guidance, guidance_interval, guide, weight)
    trained, options, drawn = _prepared(trained, model, walking, guiding, seed, precision, only=GARMENTS)
    _, is_main = launched()
    if is_main:
        check_frechet(n)
    say_where("sampling", trained.device)
    images = ddpm.sample(trained, n, sampler, steps, seed, **options)
    if is_main:
        typer.echo(f"{drawn}, seed {seed}: {frechet_distance(images, weights='EMA')}")


def _prepared(
    trained: Any,
    model: str,
    walking: Walking,
    guiding: Guiding,
    seed: int,
    precision: str,
    only: tuple[int, int, int] | None = None,
    **options: Any,
) -> tuple[Any, dict[str, Any], str]:
    """What draws images, the further options of `ddpm.sample`, and in words how they are drawn.

    Raises:
        ValueError: something is wrong, or does not go together.
    """
    from ddpm.autoencoder import Autoencoder
    from ddpm.grids import check_start
    from ddpm.sampling import LatentModel, default_walk, refuse_walk

    distributed, _ = launched()
    sampler, steps, eta, variance, spacing = walking
    non_negative_int("seed", seed)
    if guiding.guide is None and guiding.weight != WEIGHT:
        raise ValueError(f"weight is {guiding.weight:g}; it needs a --guide")
    latent = isinstance(trained, LatentModel)
    if only is not None and tuple(trained.image_shape or ()) != only:
        raise ValueError(f"model is {model!r}, which draws {trained.image_shape}; distances are to garments, {only}")
    if latent and "watch" in options:
        raise ValueError(
            f"model is {model!r}; it draws an image in one call, so --out must end in .png: there is no film"
        )
    kind = type(trained)
    trained, pushed = _guided(trained, model, guiding, precision)
    if latent:
        refuse_walk({"sampler": sampler, "steps": steps, "spacing": spacing, **sampler_options(None, eta, variance)})
        drawn = "one call"
    else:
        walk = default_walk(trained, sampler, steps, spacing)
        options |= {"spacing": spacing, **sampler_options(walk.sampler, eta, variance)}
        check_start(trained.schedule.timesteps(walk.steps, walk.spacing), trained.schedule)
        drawn = how(*walk, eta, variance)
    if kind is Autoencoder:
        typer.echo("a plain autoencoder has no density of codes; they are drawn from N(0, I) all the same", err=True)
    options |= {"distributed": distributed and "watch" not in options}
    return trained, options, drawn + pushed


def _guided(trained: Any, model: str, guiding: Guiding, precision: str) -> tuple[Any, str]:
    """A model that is told these labels and is guided, and in words by what.

    Raises:
        ValueError: it cannot be guided so.
    """
    from ddpm.denoiser import Guided
    from ddpm.sampling import LatentModel

    labels, guidance, interval, guide, weight = guiding
    if interval is not None and guidance == 1 and guide is None:
        raise ValueError(f"guidance_interval is {interval}; it needs a --guidance above 1, or a --guide")
    told = trained.given(labels) if labels else trained
    within = f" for sigma from {interval[0]:g} to {interval[1]:g}" if interval is not None else ""
    pushed = ", told the classes" if labels else ""
    if guidance != 1:
        told = Guided(told, trained.given(None), guidance, interval)
        pushed += f" with guidance {guidance:g}{within}"
    if guide is not None:
        try:
            worse = _load(guide, precision)
        except ValueError as error:
            raise ValueError(str(error).replace("model is", "guide is", 1)) from error
        if isinstance(trained, LatentModel) or isinstance(worse, LatentModel):
            raise ValueError(f"guide is {guide!r} and model {model!r}; only diffusion models guide and are guided")
        if labels and worse.classes and worse.classes != trained.classes:
            raise ValueError(f"guide is {guide!r}, which knows other classes than model {model!r}")
        told = Guided(told, worse.given(labels) if labels and worse.classes else worse, weight, interval)
        pushed += f", guided by {guide} with weight {weight:g}{within}"
    return told, pushed
