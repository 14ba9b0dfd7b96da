"""What a training settles before its first step: its weights, its run, the step to go on from, and its threads."""

from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ddpm import files
from ddpm.arguments import function, instance
from ddpm.autoencoder import AutoencoderConfig
from ddpm.data import Dataset
from ddpm.data.pictures import Pictures
from ddpm.diffusion import Diffusion
from ddpm.own_parts import own_parts
from ddpm.settings import non_negative_int
from ddpm.threads import choose_threads
from ddpm.training.batches import labels_at
from ddpm.training.config import TrainingConfig
from ddpm.training.launcher import compilation
from ddpm.training.record import default_record, record_of
from ddpm.training.run import Run
from ddpm.training.step import Task

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = [
    "check_arguments",
    "first_step",
    "initial_weights",
    "labels_of_steps",
    "run_of",
    "task_of",
    "threads_of",
]


def check_arguments(model: Any, dataset: Any, config: Any, workers: Any, **functions: Any) -> None:
    """Raise `TypeError` unless these say what is trained, on which images, and how, and functions are some, or None.

    `ValueError` where the model cannot be trained on a batch in pieces, or `workers` is no number of processes.
    """
    if isinstance(model, type):
        raise TypeError(f"model is the class {model.__name__}; it must be an object of it, such as {model.__name__}()")
    for name in ("kind", "check_images", "task"):
        if not hasattr(model, name):
            raise TypeError(
                f"model is {type(model).__name__}, which has no {name}; it must be a DiffusionConfig, an "
                "AutoencoderConfig or a GANConfig, or have what they have"
            )
    if not is_dataclass(model):
        raise TypeError(f"model is {type(model).__name__}, which is no dataclass; a run's record lists its fields")
    if not isinstance(dataset, Dataset | Pictures):
        raise TypeError(
            f"dataset is {type(dataset).__name__}; it must be a ddpm.data.Dataset, or what "
            "ddpm.data.pictures.load_folder returns"
        )
    instance("config", config, TrainingConfig)
    non_negative_int("workers", workers)
    for name, value in functions.items():
        if value is not None:
            function(name, value)
    in_pieces = config.micro_batch_size is not None
    if in_pieces and isinstance(model, AutoencoderConfig) and model.variational and model.loss == "mse":
        raise ValueError(
            f"micro_batch_size is {config.micro_batch_size}; a VAE with loss mse needs its batch whole, from which its "
            "sigma is made"
        )


def task_of(model: Any, make_task: Callable[[], Any] | None) -> Any:
    """The task to step, as `make_task` makes it, or else `model.task`; `TypeError` where the former makes none."""
    if make_task is None:
        return model.task()
    legal = "it must be a function that returns a task, such as lambda: Diffusion(model, network)"
    if isinstance(make_task, nn.Module) or not callable(make_task):
        raise TypeError(f"make_task is {type(make_task).__name__}; {legal}")
    task = make_task()
    for name in ("parts", "classes", "loss"):
        if not hasattr(task, name):
            raise TypeError(f"make_task returns {type(task).__name__}, which has no {name}; {legal}")
    return task


def initial_weights(task: Task, init: Path) -> dict[str, Tensor]:
    """The weights in a file like model.safetensors; raises `ValueError` unless they fit the task's networks.

    Where the file's network was told no classes and the task's is, the embeddings of the labels are new.
    """
    wanted = {f"{part}.{key}": value for part, net in task.parts.items() for key, value in net.state_dict().items()}
    of_labels = {name: value.clone() for name, value in wanted.items() if name.endswith(".labels.weight")}
    weights = of_labels | files.load_tensors(init)
    files.check_weights(init, weights, wanted)
    return weights


def labels_of_steps(
    task: Task, dataset: Dataset | Pictures, config: TrainingConfig, steps: range, rows: slice, device: torch.device
) -> Iterator[Tensor | None]:
    """The labels of every step's images, or None for a task without classes.

    Raises:
        ValueError: the images have not as many classes as the task.
    """
    if task.classes is None:
        return repeat(None, len(steps))
    if task.classes != len(dataset.classes):
        raise ValueError(f"classes is {task.classes}; the images of {dataset.name} have {len(dataset.classes)} classes")
    return (labels_at(dataset, config.seed, step, config.batch_size, rows).to(device) for step in steps)


def run_of(
    model: Any,
    task: Task,
    dataset: Dataset | Pictures,
    config: TrainingConfig,
    out: Path,
    init: Path | None,
    accelerator: "Accelerator",
    is_given: bool,
) -> Run:
    """The run of a training, whose task the user has given or not.

    Raises:
        ValueError: `out` holds another run, or a diffusion task's times cannot be drawn or weighed.
    """
    if isinstance(task, Diffusion):
        task.check_probabilities_and_weights()
    data = _data_record(dataset, with_classes=task.classes is not None)
    record = record_of(model, config, data, init, compilation(accelerator, len(task.parts)), own_parts(task, is_given))
    return Run(out, record, default_record(model), config.keep, dataset.former_names)


def _data_record(dataset: Dataset | Pictures, with_classes: bool) -> dict[str, Any]:
    """What a record says of the images: their name, number and shape, and the classes where the model is told them.

    A `Dataset` is also known by the SHA-256 of its images and of the labels that are used, as it may be a part of the
    one that had its name. `Pictures` may be too many to be read; their name stands for their contents.
    """
    data = {"name": dataset.name, "images": len(dataset), "image_shape": dataset.shape}
    if with_classes:
        data["classes"] = dataset.classes
    if isinstance(dataset, Dataset):
        data["images_sha256"] = dataset.sha256(with_labels=with_classes)
    return data


def first_step(run: Run, accelerator: "Accelerator") -> int:
    """The step to go on from; `ValueError` unless all processes found the same one."""
    start = run.found.step if run.found else 0
    starts = accelerator.gather(torch.tensor([start], device=accelerator.device)).tolist()
    if len(set(starts)) > 1:
        raise ValueError(
            f"out is {str(run.folder)!r}; the processes find steps {starts} there: all must see one folder"
        )
    return start


def threads_of(run: Run, begins: bool, accelerator: "Accelerator") -> int:
    """The threads of the CPU that every process computes with: the run's own number, or one that is chosen now.

    Args:
        run: where the number stands, and where a chosen one is written down.
        begins: whether there are steps to do; otherwise nothing is computed with a chosen number.
        accelerator: accelerate's, whose processes all take the smallest choice.
    """
    training = run.record["training"]
    own = choose_threads() if training["threads"] is None else training["threads"]
    threads = int(accelerator.gather(torch.tensor([own], device=accelerator.device)).min())
    if begins:
        training["threads"] = threads
    return threads
