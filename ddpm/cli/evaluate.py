"""`ddpm evaluate`."""

from typing import Annotated

import typer

from ddpm.cli.drawing import WEIGHT, Guiding, Walking, load_model, prepared
from ddpm.cli.launch import launched
from ddpm.cli.options import (
    GARMENTS,
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
    say_data,
    say_where,
)

__all__ = ["evaluate"]


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
            help="Tell a model with classes one of them after the other, with this weight of guidance: 1 is none; more "
            "costs a second network call for each. By default none is told."
        ),
    ] = None,
    guidance_interval: IntervalOption = None,
    guide: GuideOption = None,
    weight: WeightOption = WEIGHT,
    seed: SeedOption = 0,
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Frechet distance of a model's images to Fashion-MNIST's test images, with the context needed to read it.

    Of a model that is told the classes of Fashion-MNIST, also the share of images in which a second classifier sees the
    class that was told. In Python, ddpm.metrics.frechet_distance takes real images and features of your own.
    """
    import torch

    import ddpm
    from ddpm.data.sets import CLASSES
    from ddpm.metrics import accuracy, frechet_distance
    from ddpm.metrics.distances import check_frechet
    from ddpm.threads import choose_threads

    choose_threads(threads)
    trained = load_model(model, precision)
    classes = trained.classes
    if guidance is not None and not classes:
        raise ValueError(f"guidance is {guidance:g}; model {model!r} was trained without classes")
    is_main = launched().is_main
    if is_main:
        check_frechet(n)
    labels = [i % len(classes) for i in range(n)] if guidance is not None else []
    walking = Walking(sampler, steps, eta, variance, spacing)
    guiding = Guiding(labels, 1.0 if guidance is None else guidance, guidance_interval, guide, weight)
    trained, options, drawn = prepared(trained, model, walking, guiding, seed, precision, only=GARMENTS)
    say_where("sampling", trained.device)
    say_data(model)
    images = ddpm.sample(trained, n, sampler, steps, seed, **options)
    if is_main:
        typer.echo(f"{drawn}, seed {seed}: {frechet_distance(images, weights='EMA')}")
        if labels and tuple(classes) == CLASSES:  # the judge knows garments
            right = accuracy(images, torch.tensor(labels, device="cpu"))
            typer.echo(f"in {right:.1%} of them a second frozen classifier sees the class that was told")
