"""`ddpm distill`."""

from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ddpm.cli.launch import launched, may_be_stopped, one_process_first
from ddpm.cli.options import ThreadsOfRunOption
from ddpm.cli.settings import with_settings, with_tuples
from ddpm.settings import check, positive_int
from ddpm.training.config import TrainingConfig
from ddpm.training.recipes import DISTILLATION, check_optimiser_settings

__all__ = ["DistillSettings", "distill"]


@dataclass(frozen=True)
class DistillSettings:
    """What `ddpm distill` asks besides the settings of the students' training.

    Attributes:
        calls: network calls in which the last student draws an image.
        teacher_calls: calls of the first teacher: calls x at_once, calls x at_once x at_once, ... By default the first
            of these from 64 up, or as many as the teacher was itself distilled for.
        at_once: calls of a teacher that one call of its student replaces: 2, 4, 6, ...
        data: data set that the teacher was trained on, as in ddpm train; by default the one that its record names.
        data_folder: folder that holds the files of a named data set.
        workers: processes that read pictures of folder:PATH while the device computes.
        samples: draw sixteen images at every checkpoint, into the student's folder.
    """

    calls: int = 4
    teacher_calls: int | None = None
    at_once: int = 2
    data: str | None = None
    data_folder: str | None = None
    workers: int = 2
    samples: bool = True

    def __post_init__(self) -> None:
        check(self, positive_int, "calls", "at_once")
        if self.teacher_calls is not None:
            check(self, positive_int, "teacher_calls")


#: The settings of every student's training that are options.
OPTIONS = (
    "steps", "batch_size", "micro_batch_size", "flip", "optimiser", "momentum", "weight_decay", "clip",
    "learning_rate", "warmup", "decay", "ema", "seed", "checkpoint_every", "keep", "precision",
)  # fmt: skip


@with_settings(DistillSettings, OPTIONS, DISTILLATION)
def distill(
    teacher: Annotated[str, typer.Argument(help='A diffusion model that ships ("fashion-mnist") or a run\'s folder.')],
    out: Annotated[
        Path, typer.Option(help="The last student's folder. The same command again in the same folder resumes it.")
    ],
    threads: ThreadsOfRunOption = None,
    **settings: Any,  # the options that `with_settings` makes; None where one is not given
) -> None:
    """Make a model that draws in few network calls from one that needs many, or go on where that stopped.

    Progressive distillation (Salimans & Ho 2022): a student learns to do in one call what the teacher does in two, or
    in --at-once, and becomes the teacher of the next. Every student is a training of --steps steps, each of which asks
    the teacher that many times and the student once. ddpm sample --model OUT then draws in so many calls by itself.
    """
    given = {name: value for name, value in {**settings, "threads": threads}.items() if value is not None}
    own = {field.name for field in fields(DistillSettings)} & given.keys()
    job = DistillSettings(**{name: given.pop(name) for name in own})
    training = TrainingConfig(**DISTILLATION | with_tuples(given))
    check_optimiser_settings(training.optimiser, given)

    from ddpm import distillation
    from ddpm.cli.job import JobSettings, draw_progress, load_data
    from ddpm.extras import check_installed
    from ddpm.files import check_place, expanded

    check_installed("accelerate")
    is_main = launched().is_main
    facts = distillation.teacher_named(teacher)
    # refused before the images are read
    distillation.moves_of_students(facts.config, job.calls, job.teacher_calls, job.at_once)
    data = job.data or facts.data
    if not data:
        raise ValueError(f"data is not given; the record of teacher {teacher!r} names none: name it with --data")
    if job.data is None and data.startswith("folder:"):
        raise ValueError(f"data is not given; teacher {teacher!r} learnt {data}: name these pictures with --data")
    channels, size, width = facts.image_shape
    if data.startswith("folder:") and width != size:
        raise ValueError(
            f"teacher is {teacher!r}, which draws images of {size} x {width}; folder:PATH makes squares alone"
        )
    of_folder: dict[str, Any] = {"image_size": size, "channels": channels} if data.startswith("folder:") else {}
    out = expanded(out)
    if is_main:
        check_place("out", out / "config.json")
    with one_process_first():
        where = JobSettings(data=data, data_folder=job.data_folder, workers=job.workers, **of_folder)
        dataset = load_data(where, quiet=not is_main, check_shape=facts.config.check_images)
    with may_be_stopped():
        distillation.distill(
            teacher, dataset, training, out, job.calls, job.teacher_calls, job.at_once, progress=is_main,
            workers=job.workers, picture=partial(draw_progress, dataset=dataset) if job.samples else None,
        )  # fmt: skip
        if is_main:
            typer.echo(f"done: {out / 'model.safetensors'} draws in {job.calls} calls")
