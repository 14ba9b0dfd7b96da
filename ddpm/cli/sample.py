"""`ddpm sample` and `ddpm evaluate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ddpm.cli.options import (
    EtaOption,
    GuideOption,
    ModelOption,
    PrecisionOption,
    SamplerOption,
    SeedOption,
    SpacingOption,
    StepsOption,
    VarianceOption,
    WeightOption,
    check_out,
    how,
    launched,
    sampler_options,
)

GARMENTS = (1, 32, 32)
WEIGHT = 1.6


def sample(
    out: Annotated[
        Path, typer.Option(help="Grid of the images (.png), or a film from noise to images (.gif, .webp).")
    ] = Path("samples.png"),
    model: ModelOption = "fashion-mnist",
    n: Annotated[int, typer.Option("--n", "-n", help="How many images.")] = 64,
    sampler: SamplerOption = "ddim",
    steps: StepsOption = 50,
    eta: EtaOption = 0.0,
    variance: VarianceOption = "small",
    spacing: SpacingOption = "trailing",
    guide: GuideOption = None,
    weight: WeightOption = WEIGHT,
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

    check_out(out, ".png", ".gif", ".webp")

    def grid(images: Tensor) -> Any:
        return to_pil_image(make_grid(images[:n], math.ceil(math.sqrt(n))))

    _, speaks = launched()
    states: list[Tensor] = []
    film: dict[str, Any] = (
        {} if out.suffix.lower() == ".png" else {"watch": lambda step: states.append(denormalise(step.x).cpu())}
    )
    images, _ = _draw(model, n, sampler, steps, eta, variance, spacing, guide, weight, seed, precision, **film)
    if not speaks:
        return
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


def evaluate(
    model: ModelOption = "fashion-mnist",
    n: Annotated[
        int, typer.Option("--n", "-n", help="Images to draw; distances at different n do not compare.")
    ] = 2000,
    sampler: SamplerOption = "ddim",
    steps: StepsOption = 50,
    eta: EtaOption = 0.0,
    variance: VarianceOption = "small",
    spacing: SpacingOption = "trailing",
    guide: GuideOption = None,
    weight: WeightOption = WEIGHT,
    seed: SeedOption = 0,
    precision: PrecisionOption = "auto",
) -> None:
    """Frechet distance of a model's images to Fashion-MNIST's test images, with its five facts."""
    from ddpm.features import FEATURES
    from ddpm.metrics import frechet_distance

    if n <= FEATURES:
        raise ValueError(f"n is {n}; a Frechet distance over {FEATURES} features needs more than that")
    images, drawn = _draw(
        model, n, sampler, steps, eta, variance, spacing, guide, weight, seed, precision, only=GARMENTS
    )
    if launched()[1]:
        typer.echo(f"{drawn}, seed {seed}: {frechet_distance(images, weights='EMA')}")


def _draw(
    model: str, n: int, sampler: str, steps: int, eta: float, variance: str, spacing: str, guide: str | None,
    weight: float, seed: int, precision: str, only: tuple[int, int, int] | None = None, **more: Any,
) -> tuple[Any, str]:  # fmt: skip
    import ddpm
    from ddpm.autoencoder import Autoencoder
    from ddpm.denoiser import Guided
    from ddpm.sampling import LatentModel

    more |= sampler_options(sampler, eta, variance) | {"distributed": launched()[0] and "watch" not in more}
    if guide is None and weight != WEIGHT:
        raise ValueError(f"weight is {weight:g}; it needs a --guide")
    trained = ddpm.load(model, precision)  # type: ignore[arg-type]
    latent = isinstance(trained, LatentModel)
    if only is not None and tuple(trained.image_shape or ()) != only:
        raise ValueError(f"model is {model!r}, which draws {trained.image_shape}; distances are to garments, {only}")
    if latent and "watch" in more:
        raise ValueError(
            f"model is {model!r}; it draws an image in one call, so --out must end in .png: there is no film"
        )
    if guide is not None:
        worse = ddpm.load(guide, precision)  # type: ignore[arg-type]
        if isinstance(trained, LatentModel) or isinstance(worse, LatentModel):
            raise ValueError(f"guide is {guide!r} and model {model!r}; only diffusion models guide and are guided")
        trained = Guided(trained, worse, weight)
    if type(trained) is Autoencoder:
        typer.echo("a plain autoencoder has no density of codes; they are drawn from N(0, I) all the same", err=True)
    images = ddpm.sample(trained, n, sampler, steps, seed, spacing=spacing, **more)  # type: ignore[arg-type]
    drawn = "one call" if latent else how(sampler, eta, variance, steps, spacing)
    return images, drawn if guide is None else f"{drawn}, guided by {guide} with weight {weight:g}"
