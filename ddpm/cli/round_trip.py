"""`ddpm round-trip`."""

import io
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ddpm.cli.options import (
    GARMENTS,
    SAMPLER_HELP,
    EtaOption,
    ModelOption,
    PrecisionOption,
    SeedOption,
    ThreadsOption,
    VarianceOption,
    check_out,
    how,
    sampler_options,
    say_data,
    say_where,
)
from ddpm.cli.picture import picture_of
from ddpm.settings import SPACINGS, non_negative_int

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm.denoiser import NetworkDenoiser
    from ddpm.schedule import NoiseSchedule

__all__ = ["round_trip"]

LEGAL_SPACINGS = [each for each in SPACINGS if each != "leading"]  # its grids begin below the depth
FRESH = 1_000_000  # `ddpm sample` draws image i from the noise numbered i, and up to so many


def round_trip(
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[IMAGE]...",
            help="Pictures of any size and colours; without one, a test image of each class.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(help="File (.png) with a row for each: original, noised, one-shot mean, back, difference."),
    ] = Path("round-trip.png"),
    model: ModelOption = "fashion-mnist",
    depth: Annotated[int, typer.Option(help="Time up to which noise is added, 1 to the schedule's T.")] = 500,
    steps: Annotated[
        int | None, typer.Option(help="Moves on the way back, 1 to the depth; by default 50, or as many as there are.")
    ] = None,
    sampler: Annotated[str, typer.Option(help=SAMPLER_HELP)] = "ancestral",
    invert: Annotated[
        bool, typer.Option("--invert", help="Go up without noise, by the sampler's own moves: ddim or heun.")
    ] = False,
    eta: EtaOption = 0.0,
    variance: VarianceOption = "small",
    spacing: Annotated[
        str, typer.Option(help=f"Spacing of the grid of times: {', '.join(LEGAL_SPACINGS)}.")
    ] = "trailing",
    seed: SeedOption = 0,
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Noise pictures, denoise them again, and say what is left of them.

    The shipped model knows garments, light on black; it makes garments of other pictures, too.
    """
    from ddpm.files import expanded, write_atomically
    from ddpm.network_calls import network_calls
    from ddpm.threads import choose_threads

    choose_threads(threads)
    import_module("ddpm.metrics.fidelity")  # which fails here, before the walk, where the extra is not installed
    out = expanded(out)
    check_out(out, ".png")
    pictures = pictures or []
    if any(_is_same(out, path) for path in pictures):
        raise ValueError(f"out is {str(out)!r}, which is one of the pictures; name another file")
    non_negative_int("seed", seed)
    options = sampler_options(sampler, eta, variance)
    _check_way(sampler, invert, eta, options, spacing)
    denoise = _denoiser(model, precision)
    steps = min(50, depth) if steps is None else steps
    grid = _grid(denoise.schedule, depth, steps, spacing)
    moves = denoise.distilled_for
    if moves is not None and (sampler, grid) != ("ddim", denoise.schedule.timesteps(moves)):
        typer.echo(
            f"{model} was distilled for {moves} moves of ddim from noise; here it is asked at other times", err=True
        )
    names, words, images = _read(pictures, denoise.image_shape)
    say_where("round trip", denoise.device)
    if not pictures:
        say_data(model)
    trip = _trip(denoise, images, grid, sampler, invert, seed, options)
    write_atomically(out, _strip(trip))

    for line in _lines_of_pictures(names, words, trip):
        typer.echo(line)
    way, drawn = ("up by inversion", "") if invert else ("noised in one shot", f", seed {seed}")
    calls = network_calls(denoise, sampler, grid, **options)
    typer.echo(f"\n{way} to t = {depth}, back by {how(sampler, steps, spacing, eta, variance, calls)}{drawn}\n")
    for line in _table(trip):
        typer.echo(line)
    typer.echo(f"\noriginal, {'inverted' if invert else 'noised'}, one-shot mean, back, difference: {out}")


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths mean one file, as "Photo.png" and "photo.png" do on some systems."""
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))


class Trip(NamedTuple):
    """Images (n, channels, height, width) on their way: in [-1, 1] where they are clean."""

    originals: "Tensor"
    noised: "Tensor"
    one_shot: "Tensor"
    back: "Tensor"


def _check_way(sampler: str, invert: bool, eta: float, options: dict[str, Any], spacing: str) -> None:
    """Raise `ValueError` where options do not go together."""
    if invert and sampler not in ("ddim", "heun"):
        raise ValueError(f"sampler is {sampler!r}; with --invert legal are ddim and heun")
    if invert and options:
        raise ValueError(f"eta is {eta}; with --invert it must be 0")
    if spacing == "leading":
        legal = ", ".join(LEGAL_SPACINGS)
        raise ValueError(f"spacing is 'leading', whose grids begin below the depth; legal are {legal}")


def _denoiser(model: str, precision: str) -> "NetworkDenoiser":
    import ddpm
    from ddpm.denoiser import NetworkDenoiser

    denoise = ddpm.load(model, precision)  # type: ignore[arg-type]
    if not isinstance(denoise, NetworkDenoiser) or denoise.image_shape is None:
        raise ValueError(f"model is {model!r}; only a diffusion model denoises")
    return denoise


def _grid(schedule: "NoiseSchedule", depth: int, steps: int, spacing: str) -> Sequence[float]:
    """The times of the way back."""
    if not 1 <= depth <= schedule.T:
        raise ValueError(f"depth is {depth}; legal are 1 to {schedule.T}")
    if not 1 <= steps <= depth:
        raise ValueError(f"steps is {steps}; legal are 1 to the depth, {depth}")
    return schedule.timesteps(steps, spacing, start=depth)  # type: ignore[arg-type]


def _read(pictures: list[Path], shape: Any) -> "tuple[list[str], list[str], Tensor]":
    """Names of the pictures, what was done to each, and all of them in [-1, 1]; by default a garment of each class."""
    import torch

    from ddpm.data import CLASSES, load, normalise
    from ddpm.data.reading import read_image

    if pictures:
        images, words = zip(*(read_image(path, shape) for path in pictures), strict=True)
        return [path.name for path in pictures], list(words), normalise(torch.stack(images))
    if shape != GARMENTS:
        raise ValueError(f"IMAGE is not given; the test images are {GARMENTS}, this model's {shape}")
    test = load("fashion-mnist-embedded", "test", quiet=True)
    first_of_each = torch.stack([test.images[test.labels == label][0] for label in range(len(CLASSES))])
    return list(CLASSES), ["a test image"] * len(CLASSES), normalise(first_of_each)


def _trip(
    denoise: "NetworkDenoiser",
    images: "Tensor",
    grid: Sequence[float],
    sampler: str,
    invert: bool,
    seed: int,
    options: dict[str, Any],
) -> Trip:
    """Walk all images up and back, sixteen at a time."""
    import torch
    from tqdm import tqdm

    from ddpm.noise import PerSampleNoise
    from ddpm.round_trip import ends, inverted_round_trip
    from ddpm.round_trip import round_trip as there_and_back
    from ddpm.sampling import watched

    originals = images.to(denoise.device)
    chunks, moves = originals.split(16), len(grid) - 1
    parts = []
    bar = tqdm(total=len(chunks) * moves * (1 + invert), unit="step", desc=f"{sampler}-{moves}", delay=1)
    with torch.no_grad(), bar, denoise.many_calls():
        for i, x0 in enumerate(chunks):
            if invert:
                walk = inverted_round_trip(denoise, x0, grid, order=1 if sampler == "ddim" else 2)
            else:
                walk = there_and_back(
                    denoise,
                    x0,
                    grid,
                    sampler=sampler,
                    randn_like=PerSampleNoise(seed, FRESH + 16 * i),
                    **options,
                )
            parts.append(ends(watched(walk, 0 if invert else grid[0], bar)))
    return Trip(originals, *(torch.cat(part) for part in zip(*parts, strict=True)))


def _strip(trip: Trip) -> bytes:
    """A PNG file with a line for each image: original, noised, one-shot mean, back, difference."""
    import torch

    from ddpm.data import denormalise

    line = torch.stack([*trip, trip.back - trip.originals], dim=1).flatten(0, 1)
    enlarged = denormalise(line).cpu().repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    buffer = io.BytesIO()
    picture_of(enlarged, 5, padding=4).save(buffer, "PNG")
    return buffer.getvalue()


def _lines_of_pictures(names: list[str], words: list[str], trip: Trip) -> Iterator[str]:
    """A line for each picture: what was done to it, and what it kept."""
    from ddpm.data import CLASSES
    from ddpm.metrics.features import classify
    from ddpm.metrics.fidelity import fidelity

    kept = fidelity(trip.back, trip.originals)
    if kept.same_class is not None:
        before, after = (classify(x.clamp(-1, 1)).tolist() for x in (trip.originals, trip.back))
    for i, (name, word) in enumerate(zip(names, words, strict=True)):
        line = f"{name} ({word}): PSNR {kept.psnr[i]:.1f} dB, SSIM {kept.ssim[i]:.2f}"
        if kept.same_class is not None:
            line += f"; looked like {CLASSES[before[i]]}, looks like {CLASSES[after[i]]}"
        yield line


def _table(trip: Trip) -> Iterator[str]:
    """The lines of a table: a row a measure, a column for each pair of images that is compared."""
    from ddpm.metrics.fidelity import table

    columns = table(trip.back, trip.one_shot, trip.originals)
    yield f"{'mean of ' + str(len(trip.originals)):26}" + "".join(f"{column:>15}" for column in columns)
    for measure in columns["back"]:
        yield f"{measure:26}" + "".join(f"{column[measure]:15.3f}" for column in columns.values())
