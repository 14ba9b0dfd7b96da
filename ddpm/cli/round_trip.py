"""`ddpm round-trip`."""

from pathlib import Path
from typing import Annotated

import typer

from ddpm.cli.options import (
    EtaOption,
    ModelOption,
    PrecisionOption,
    SamplerOption,
    SeedOption,
    SpacingOption,
    VarianceOption,
    check_out,
    how,
    sampler_options,
)


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
    from ddpm.data import CLASSES, denormalise, load, normalise
    from ddpm.denoiser import NetworkDenoiser
    from ddpm.features import classify
    from ddpm.files import write_atomically
    from ddpm.noise import PerSample
    from ddpm.pictures import read_image
    from ddpm.round_trip import Ends, ends, inverted_round_trip
    from ddpm.round_trip import round_trip as there_and_back
    from ddpm.sampling import sampler_named, watched

    check_out(out, ".png")
    pictures = pictures or []
    if out.resolve() in [path.resolve() for path in pictures]:
        raise ValueError(f"out is {str(out)!r}, which is one of the pictures; name another file")
    options = sampler_options(sampler, eta, variance)
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
    typer.echo(f"\n{way} to t = {depth}, back by {how(sampler, eta, variance, steps, spacing)}{drawn}\n")
    typer.echo(f"{'mean of ' + str(len(names)):26}" + "".join(f"{column:>15}" for column in columns))
    for measure in columns["back"]:
        typer.echo(f"{measure:26}" + "".join(f"{column[measure]:15.3f}" for column in columns.values()))
    typer.echo(f"\noriginal, {'inverted' if invert else 'noised'}, one-shot mean, back, difference: {out}")
