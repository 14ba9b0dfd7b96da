"""`ddpm sample`."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddpm.cli.drawing import WEIGHT, Guiding, Walking, load_model, prepared
from ddpm.cli.launch import launched
from ddpm.cli.options import (
    EtaOption,
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
    say_where,
)
from ddpm.cli.picture import npz_of, picture_of, zip_of
from ddpm.messages import counted
from ddpm.settings import positive_int

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

__all__ = ["sample"]

MOST = 1_000_000  # images in one grid
WIDEST = {".gif": 65_535, ".webp": 16_383}  # pixels that a film's format can have in a direction
EACH = {".zip": zip_of, ".npz": npz_of}  # formats in which each image is by itself


def sample(
    out: Annotated[
        Path,
        typer.Option(
            help="Grid of the images (.png), a film from noise to images (.gif, .webp), or each image by itself: PNGs "
            "(.zip) or an array (n, height, width, 3) of uint8 (.npz)."
        ),
    ] = Path("samples.png"),
    model: ModelOption = "fashion-mnist",
    n: Annotated[
        int | None,
        typer.Option(
            "--n", "-n", help="How many images (64 by default); with several classes, of each (8 by default)."
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help='Draw this class, by name ("ankle boot") or number, of a model that was trained with --conditional. '
            'Give the option several times for several classes, or "all": each has a row of its own.',
        ),
    ] = None,
    guidance: Annotated[
        float,
        typer.Option(
            help="Weight of classifier-free guidance with --class: 1 is none; 2 pushes samples away from those of all "
            "classes together, at a second network call for each."
        ),
    ] = 1.0,
    guidance_interval: IntervalOption = None,
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    eta: EtaOption = 0.0,
    variance: VarianceOption = "small",
    spacing: SpacingOption = None,
    guide: GuideOption = None,
    weight: WeightOption = WEIGHT,
    seed: SeedOption = 0,
    chunk: Annotated[
        int | None,
        typer.Option(
            help="How many images are denoised together; by default 16 of 32 x 32 on a CPU, and 256 on a GPU. The last "
            "chunk is filled up, so a single image is drawn fastest with 1. Another number rounds otherwise: in "
            "bfloat16 single pixels differ by some grey levels."
        ),
    ] = None,
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Draw images and save them as one grid or one by one, or film their way from noise."""
    import ddpm
    from ddpm.data import denormalise
    from ddpm.files import expanded, write_atomically
    from ddpm.threads import choose_threads

    choose_threads(threads)
    out = expanded(out)
    check_out(out, ".png", *WIDEST, *EACH)
    if chunk is not None:
        positive_int("chunk", chunk)
    if guidance != 1 and not classes:
        raise ValueError(f"guidance is {guidance:g}; it needs a --class")
    trained = load_model(model, precision)
    _check_channels(model, trained.image_shape)
    rows = _labels(model, trained, classes or [])
    several = len(rows) > 1
    each = n if n is not None else 8 if several else 64
    n = each * max(1, len(rows))
    if not 1 <= n <= MOST:
        most = f"{MOST // max(1, len(rows)):,}"
        of_each = " of each class" if several else ""
        raise ValueError(f"n is {each}; legal are 1 to {most} images{of_each} in a grid")
    labels = [label for label in rows for _ in range(each)]
    width = each if several else math.ceil(math.sqrt(n))
    is_film = out.suffix.lower() in WIDEST
    if is_film:
        _check_film(out, trained.image_shape, each, len(rows))
    states: list[Tensor] = []
    watch = (lambda step: states.append(denormalise(step.x).cpu())) if is_film else None
    walking = Walking(sampler, steps, eta, variance, spacing)
    guiding = Guiding(labels, guidance, guidance_interval, guide, weight)
    trained, options, drawn = prepared(trained, model, walking, guiding, seed, precision, watch=watch)
    say_where("sampling", trained.device)
    if chunk is not None and chunk > n and launched().is_main:
        typer.echo(f"chunk is {chunk} and n {n}: {chunk} images are computed, as a chunk is filled up", err=True)
    images = ddpm.sample(trained, n, sampler, steps, seed, chunk=chunk, **options)
    if not launched().is_main:
        return
    frames = _frames(states, n, seed) if is_film else [denormalise(images).cpu()]
    if pack := EACH.get(out.suffix.lower()):
        write_atomically(out, pack(frames[-1]))
    else:
        write_atomically(out, _encoded([picture_of(frame[:n], width) for frame in frames], out.suffix[1:].upper()))
    typer.echo(f"{counted(n, 'image')}, {drawn}, seed {seed}: {out}")


def _check_channels(model: str, shape: tuple[int, int, int]) -> None:
    """Raise `ValueError` where what the model draws, such as latents, is no picture."""
    if shape[0] not in (1, 3):
        raise ValueError(
            f"model is {model!r}, which draws {shape}; a picture has 1 or 3 channels: ddpm.sample draws it in Python"
        )


def _check_film(out: Path, shape: tuple[int, int, int], n: int, rows: int) -> None:
    """Raise `ValueError` where n images of each class, a row for each of several, are more than the format takes."""
    widest = WIDEST[out.suffix.lower()]
    down, across = ((widest - 2) // (side + 2) for side in shape[1:])  # as `picture_of` lays them out
    if rows > down:
        raise ValueError(f"classes are {rows}; a film {out.suffix} of these images has at most {down:,} rows")
    most = across if rows > 1 else min(down, across) ** 2
    of_each = " of each class" if rows > 1 else ""
    if n > most:
        raise ValueError(
            f"n is {n}; a film {out.suffix} has at most {widest:,} pixels in a direction, so legal are 1 to {most:,} "
            f"images{of_each}"
        )


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


def _labels(model: str, trained: Any, names: Sequence[str]) -> list[int]:
    """The labels of the classes that are named, or of "all"; `ValueError` unless the model has them."""
    from ddpm.arguments import labels_of

    known = trained.classes
    if names and not known:
        raise ValueError(
            f"class is {names[0]!r}; model {model!r} knows no classes; fashion-mnist-classes, which ships, does, and "
            "so does what ddpm train --conditional makes"
        )
    if list(names) == ["all"]:
        return list(range(len(known)))
    lower = {name.lower() for name in known}
    for name in names:
        parts = [part.strip().lower() for part in name.split(",")]
        if name not in known and len(parts) > 1 and all(part in lower or part.isdecimal() for part in parts):
            raise ValueError(f"class is {name!r}; give --class once for each")
    numbers_are_names = any(name.isdecimal() for name in known)
    numbers = [int(name) if name.isdecimal() and not numbers_are_names else name for name in names]
    return labels_of(numbers, known).tolist() if numbers else []


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
