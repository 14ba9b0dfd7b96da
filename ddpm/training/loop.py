"""The training loop of every model, on accelerate.

Every random number but dropout's is a function of (seed, step, row of the global batch). A run that was resumed, or
spread over processes, therefore sees the same numbers.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from tqdm import tqdm

from ddpm import files
from ddpm.arguments import instance
from ddpm.data import Dataset
from ddpm.data.pictures import Pictures
from ddpm.extras import check_installed
from ddpm.fast import computes_in_bfloat16
from ddpm.messages import counted, say
from ddpm.model_files import weights_file
from ddpm.threads import computing_with
from ddpm.training.batches import batches
from ddpm.training.config import TrainingConfig
from ddpm.training.launcher import make_accelerator, rows_of_this_process
from ddpm.training.preparation import (
    check_arguments,
    first_step,
    initial_weights,
    labels_of_steps,
    run_of,
    task_of,
    threads_of,
)
from ddpm.training.signals import Stopped, StopSignals
from ddpm.training.state import TrainingState
from ddpm.training.step import Task, train_step
from ddpm.training.trackers import Trackers, check_trackers

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["train"]


@contextmanager
def own_defaults() -> Iterator[None]:
    """A block under torch's own defaults, float32 on the CPU, as weights and optimisers follow whatever they are."""
    kept, device = torch.get_default_dtype(), torch.get_default_device()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu") if device.type != "cpu" else nullcontext():
            yield
    finally:
        torch.set_default_dtype(kept)


@own_defaults()
def train(
    model: Any,
    dataset: Dataset | Pictures,
    config: TrainingConfig,
    out: str | Path,
    *,
    init: str | Path | None = None,
    progress: bool = True,
    workers: int = 0,
    trackers: Sequence[str] = (),
    picture: Callable[[Path], Image.Image] | None = None,
    on_step: Callable[[Mapping[str, Any]], None] | None = None,
    make_task: Callable[[], Any] | None = None,
) -> None:
    """Train to the end of `config.steps`, or go on where a run of the same configuration in `out` stopped.

    SIGTERM or Ctrl-C is heard at the end of a step: the run saves itself and raises `Stopped`. The process is left with
    torch's own random generator seeded, and with the number of threads that the run has chosen.

    Args:
        model: what to train: a `ddpm.diffusion.DiffusionConfig`, `ddpm.autoencoder.AutoencoderConfig` or
            `ddpm.gan.GANConfig`, or another dataclass that has a `kind`, a `check_images(shape)` that raises
            `ValueError` where it takes no such images, and a `task()` that makes a `Task` with random weights.
        dataset: the images to train on: a `ddpm.data.Dataset`, or what `ddpm.data.pictures.load_folder` returns.
        config: how to train.
        out: the run's folder, see `ddpm.training.run`.
        init: the weights to start from, instead of random ones: the name of a model that ships, a run's folder, or a
            file like its model.safetensors; no checkpoint. A model with classes may start from one without.
        progress: show a bar with an estimate of the time left.
        workers: processes that read `Pictures` while the device computes.
        trackers: accelerate's "tensorboard" (into out/tensorboard) and "wandb"; the log is written in any case.
        picture: called with `out` after every checkpoint; the picture it draws goes to out/samples and the trackers.
        on_step: called after every step, with the step's line of the log.
        make_task: makes the `Task` to step, in place of `model.task`: a `ddpm.diffusion.Diffusion` with a network or
            a schedule of your own, or a class of your own with another loss. The run's record knows the schedule, and
            of a network and of a class the name.

    Raises:
        TypeError: `model`, `dataset`, `config`, `trackers`, `picture`, `on_step` or `make_task` is something else; or,
            in the first step, the task's loss is no scalar tensor with a gradient, or, after a checkpoint, `picture`
            makes no picture.
        ModuleNotFoundError: the extra ddpm[train] is not installed.
        ValueError: `out` holds another run, or another process trains in it, or nothing can be written there; the
            images or `init` do not fit the model; accelerate's launcher wants what is not done here (see
            `ddpm.training.launcher`). Nothing is written.
        FloatingPointError: the loss is no longer finite; the last checkpoint stands, if there is one.
        FileNotFoundError: the folder `init` holds no weights.
        OSError: a checkpoint, the log or a tracker's log cannot be written, a picture has gone or is damaged, or one of
            the `workers` was killed; the last checkpoint stands, if there is one.
        Stopped: a signal came; the same call goes on from there.
    """
    check_arguments(model, dataset, config, workers, picture=picture, on_step=on_step)
    check_installed("accelerate")
    out, init = files.expanded(out), None if init is None else weights_file("init", init, or_file=True)
    check_trackers(trackers, out)
    model.check_images(dataset.shape)
    torch.manual_seed(config.seed)  # the initial weights
    task = task_of(model, make_task)
    weights = initial_weights(task, init) if init is not None else None
    accelerator = make_accelerator(out, trackers)
    is_main, device = accelerator.is_main_process, accelerator.device
    rows = rows_of_this_process(config.batch_size, accelerator)
    run = run_of(model, task, dataset, config, out, init, accelerator, make_task is not None)
    start = first_step(run, accelerator)
    threads = threads_of(run, start < config.steps, accelerator)
    state = TrainingState(task.parts, config, accelerator, weights)
    if run.found is not None:
        state.restore(run.found.tensors)
        run.found = None  # free the memory

    recent: deque[dict[str, Any]] = deque(maxlen=min(config.checkpoint_every, config.steps))  # lines of the log
    steps = range(start, config.steps)
    labels_by_step = labels_of_steps(task, dataset, config, steps, rows, device)
    feed = batches(dataset, config.seed, steps, config.batch_size, rows, device, workers)
    watchers = Trackers(accelerator, trackers, out, run.record)
    lock = run.locked() if is_main else nullcontext()
    with lock, computing_with(threads), StopSignals() as signals, closing(feed):
        if is_main:
            if progress:
                say(describe(config, accelerator, threads))
            recent.extend(run.resume(start, config.steps, state.averages.of))
        with (
            watchers.recording(start),
            tqdm(steps, initial=start, total=config.steps, unit="step", disable=not (progress and is_main)) as bar,
        ):
            for step, images, labels in zip(bar, feed, labels_by_step, strict=True):
                line, stop_requested = train_step(task, state, images, step, config, accelerator, signals, labels)
                is_last = step + 1 == config.steps
                is_due = is_last or (step + 1) % config.checkpoint_every == 0
                if is_main:
                    run.log(line)
                    recent.append(line)
                    show_on_bar(line, bar, config.batch_size)
                    if is_due or stop_requested:
                        loss = recent_loss(recent, task) if is_due else None
                        run.save(step + 1, state.tensors(), state.averages.of, loss)
                    if is_due and picture is not None:
                        watchers.show(instance("picture's answer", picture(out), Image.Image), step + 1)
                    watchers.log(line)
                if on_step is not None:
                    on_step(line)
                if stop_requested or (is_last and signals.name is not None):
                    signal = signals.name or "a signal to another process"
                    raise Stopped(f"stopped by {signal} after step {step + 1} of {config.steps}, and saved in {out}")
    accelerator.wait_for_everyone()  # and not `end_training`, after which these processes could not train again


def describe(config: TrainingConfig, accelerator: "Accelerator", threads: int) -> str:
    """Where and how a training computes, in one line."""
    processes = f"{accelerator.num_processes} processes" if accelerator.num_processes > 1 else "one process"
    number = "bfloat16" if computes_in_bfloat16(config.precision, accelerator.device) else "float32"
    return f"training on {accelerator.device.type} in {number}, {processes}, {counted(threads, 'thread')}"


def show_on_bar(line: Mapping[str, Any], bar: "tqdm[int]", batch_size: int) -> None:
    """Put a step's losses and the images a second on the bar."""
    losses = {key: f"{value:.4f}" for key, value in line.items() if key.startswith("loss")}
    images_a_second = (bar.format_dict["rate"] or 0) * batch_size
    bar.set_postfix(losses | {"images/s": f"{images_a_second:.0f}"}, refresh=False)


def recent_loss(lines: Sequence[Mapping[str, Any]], task: Task) -> float | None:
    """The mean loss of these lines, which tells the best checkpoint; None for two players, whose losses tell little."""
    if len(task.parts) > 1:
        return None
    (name,) = task.parts
    return fmean(line[f"loss_{name}"] for line in lines)
