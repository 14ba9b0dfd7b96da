"""`ddpm train`."""

from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ddpm.cli.config_file import settings_of
from ddpm.cli.job import JobSettings, Shape, draw_progress, load_data
from ddpm.cli.launch import launched, may_be_stopped, one_process_first
from ddpm.cli.options import ThreadsOfRunOption
from ddpm.cli.settings import with_settings, with_tuples

__all__ = ["train"]

#: The settings of models and trainings that are options; all others can stand in a file for --config.
OPTIONS = (
    "steps", "batch_size", "micro_batch_size", "flip", "base_channels", "blocks_per_level", "schedule", "target",
    "weighting", "snr_gamma", "times", "log_sigma_mean", "log_sigma_std", "uniform_share", "label_dropout",
    "latent_dim", "loss", "game", "r1",
    "optimiser", "momentum", "weight_decay", "clip", "learning_rate", "warmup", "decay",
    "ema", "seed", "checkpoint_every", "keep", "precision",
)  # fmt: skip


@with_settings(JobSettings, OPTIONS)
def train(
    out: Annotated[Path, typer.Option(help="The run's folder. The same command again in the same folder resumes it.")],
    config: Annotated[
        Path | None,
        typer.Option(
            help="Read settings from a file: another run's config.json, or a .toml or .json file with the names of "
            "these options and any other setting of the model. Options on the command line override it."
        ),
    ] = None,
    threads: ThreadsOfRunOption = None,
    **settings: Any,  # the options that `with_settings` makes; None where one is not given
) -> None:
    """Train a model, or go on where the run in --out stopped.

    The defaults are the recommended recipe for each kind of model (ddpm.training.recipes). The recipe of Ho et al.
    (2020) is --target eps --times uniform --optimiser adamw --learning-rate 1e-3 --warmup 200.

    Ctrl-C or SIGTERM saves the run and ends it; a kill loses the steps since the last checkpoint. On several GPUs or
    machines: accelerate launch -m ddpm train ...
    """
    from ddpm.training.recipes import check_optimiser_settings, recipe

    is_main = launched().is_main
    given = {name: value for name, value in {**settings, "threads": threads}.items() if value is not None}
    in_file = settings_of(config, given) if config is not None else {}
    job, chosen = job_of(in_file | given)
    refuse_what_is_no_option(chosen)
    if "label_dropout" in given and not job.conditional:
        raise ValueError(f"label_dropout is {given['label_dropout']:g}; it needs --conditional, which tells labels")
    of_data = {} if job.model == "diffusion" else {"image_shape": (1, job.size, job.size)}
    _, training = recipe(job.model, **chosen | of_data)  # refuses wrong ones before torch is loaded and images are read
    check_optimiser_settings(training.optimiser, given)

    from ddpm.extras import check_installed
    from ddpm.files import check_place, expanded
    from ddpm.model_files import weights_file
    from ddpm.training import loop
    from ddpm.training.trackers import check_trackers

    out = expanded(out)
    check_installed("accelerate")
    check_trackers(job.trackers, out)
    weights = weights_file("init", job.init, or_file=True) if job.init is not None else None
    if is_main:
        check_place("out", out / "config.json")  # before a long reading

    def configs_for(shape: Shape, classes: int | None) -> tuple[Any, Any]:
        of_network = {"channels": shape[0], "classes": classes}
        return recipe(job.model, **chosen | (of_network if job.model == "diffusion" else {"image_shape": shape}))

    def check_shape(shape: Shape) -> None:
        configs_for(shape, 2 if job.conditional else None)[0].check_images(shape)

    with one_process_first():
        dataset = load_data(job, quiet=not is_main, check_shape=check_shape)
    if job.conditional and len(dataset.classes) < 2:
        found = f"one class, {dataset.classes[0]!r}" if dataset.classes else "no classes"
        raise ValueError(f"conditional is True; {job.data} has {found}; two or more subfolders must hold all pictures")
    model, training = configs_for(dataset.shape, len(dataset.classes) if job.conditional else None)

    picture = partial(draw_progress, dataset=dataset) if job.samples else None
    with may_be_stopped():
        loop.train(
            model, dataset, training, out,
            init=weights, workers=job.workers, trackers=job.trackers, picture=picture,
        )  # fmt: skip
        if is_main:
            typer.echo(f"done: {out / 'model.safetensors'}")


def refuse_what_is_no_option(settings: dict[str, Any]) -> None:
    """Raise `ValueError` where a file sets what the data or a teacher says."""
    if "image_shape" in settings:
        raise ValueError(
            f"image_shape is {settings['image_shape']}; the data says it, and --image-size and --channels for pictures"
        )
    if "classes" in settings:
        raise ValueError(f"classes is {settings['classes']}; the data says how many, and --conditional tells them")
    if settings.get("distilled_for") is not None:
        raise ValueError(
            f"distilled_for is {settings['distilled_for']}; ddpm distill trains such a model, with its teacher"
        )


def job_of(settings: dict[str, Any]) -> tuple[JobSettings, dict[str, Any]]:
    """The job's own settings, and the others: those of the model and of its training."""
    own = {field.name: settings[field.name] for field in fields(JobSettings) if field.name in settings}
    others = {name: value for name, value in settings.items() if name not in own}
    return JobSettings(**own), with_tuples(others)
