"""The training loop of every model, on accelerate. A model's `Task` says what its losses are.

Every random number but dropout's is a function of (seed, step, row of the global batch). A run that was resumed, or
spread over processes, therefore sees the same numbers.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from ddpm import files
from ddpm.data import Dataset, normalise
from ddpm.data.pictures import Pictures
from ddpm.fast import computes_in_bfloat16
from ddpm.messages import say
from ddpm.noise import DROPOUT, StepRandomness, fold_in
from ddpm.threads import choose_threads, computing_with, in_words
from ddpm.training.batches import batches, labels_at
from ddpm.training.config import TrainingConfig
from ddpm.training.launcher import compilation, make_accelerator, rows_of_this_process
from ddpm.training.record import default_record, record_of
from ddpm.training.run import Run
from ddpm.training.signals import Stopped, StopSignals
from ddpm.training.state import TrainingState

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["StepResult", "Task", "train", "train_step"]

TRACKERS = ("tensorboard", "wandb")


class Task(Protocol):
    """A model in training. One with `classes` that is not None is told each image's label, as `Diffusion` is."""

    parts: dict[str, nn.Module]  # one network, or two of a GAN; stepped in this order, each by its own optimiser

    def check_images(self, shape: Sequence[int]) -> None:
        """Raise `ValueError` unless the model takes images of this shape."""
        ...

    def loss(self, part: str, images: Tensor, randomness: StepRandomness, *labels: Tensor) -> Tensor:
        """The scalar loss that a part minimises on a batch in [-1, 1]; earlier parts have already taken their step."""
        ...


class StepResult(NamedTuple):
    """What a training step measured: its line of the log, and whether any process was asked to stop."""

    line: dict[str, Any]
    stop_requested: bool


def train_step(
    task: Task,
    state: TrainingState,
    images: Tensor,
    step: int,
    config: TrainingConfig,
    accelerator: "Accelerator",
    signals: StopSignals,
    labels: Tensor | None = None,
) -> StepResult:
    """One step of every part on this process's images, uint8 (batch, channels, height, width).

    Labels (batch,) are given to a task with classes alone.
    """
    told = () if labels is None else (labels,)
    device = accelerator.device
    in_bfloat16 = computes_in_bfloat16(config.precision, device)
    rows = rows_of_this_process(config.batch_size, accelerator)
    randomness = StepRandomness(config.seed, step, config.batch_size, rows.start, len(images))
    torch.manual_seed(fold_in(DROPOUT, config.seed, step, accelerator.process_index))
    images = normalise(images)
    line: dict[str, Any] = {"step": step + 1, "rate": config.rate(step)}
    stop_requested = False
    for name, part in task.parts.items():
        with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16):
            loss = task.loss(name, images, randomness, *told)
        state.zero_grad()
        accelerator.backward(loss)
        grad_norm = accelerator.clip_grad_norm_(part.parameters(), config.clip)
        mean_loss, mean_norm, stop_requested = over_processes(loss, grad_norm, signals.name is not None, accelerator)
        check_finite(name, step, mean_loss, mean_norm)
        state.step(name, config.rate(step))
        line |= {f"loss_{name}": mean_loss, f"gradient_{name}": mean_norm}
    state.averages.update(state.weights, step)
    return StepResult(line, stop_requested)


def over_processes(
    loss: Tensor, grad_norm: Tensor, stop: bool, accelerator: "Accelerator"
) -> tuple[float, float, bool]:
    """Mean loss, mean gradient norm, and whether any process was asked to stop.

    A step waits for its device only here.
    """
    here = torch.stack([loss.detach(), grad_norm.detach(), loss.new_tensor(stop)])
    mean_loss, mean_norm, share_stopping = accelerator.reduce(here, "mean").tolist()
    return mean_loss, mean_norm, share_stopping > 0


def check_finite(part: str, step: int, loss: float, grad_norm: float) -> None:
    """Raise `FloatingPointError` unless both are finite, before the part's weights are touched."""
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise FloatingPointError(
            f"{part} has loss {loss} and gradient norm {grad_norm} at step {step + 1}; "
            "its weights are not touched, the last checkpoint stands"
        )


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

    SIGTERM or Ctrl-C is heard at the end of a step: the run saves itself and raises `Stopped`.

    Args:
        model: what to train: a `DiffusionConfig`, `AutoencoderConfig` or `GANConfig`, or another dataclass that has a
            `kind` and whose `task()` makes a `Task` with random weights.
        dataset: the images to train on.
        config: how to train.
        out: the run's folder, see `ddpm.training.run`.
        init: a file like model.safetensors with the weights to start from, instead of random ones. A model with classes
            may start from one without.
        progress: show a bar with an estimate of the time left.
        workers: processes that read `Pictures` while the device computes.
        trackers: accelerate's "tensorboard" (into out/tensorboard) and "wandb"; the log is written in any case.
        picture: called with `out` after every checkpoint; the picture it draws goes to out/samples and the trackers.
        on_step: called after every step, with the step's line of the log.
        make_task: makes the `Task` to step, in place of `model.task`. The run's record knows nothing of it.

    Raises:
        ValueError: `out` holds another run, or another process trains in it, or nothing can be written there; the
            images or `init` do not fit the model; accelerate's launcher wants what is not done here (see
            `ddpm.training.launcher`). Nothing is written.
        FloatingPointError: the loss is no longer finite; the last checkpoint stands.
        OSError: a checkpoint or the log cannot be written, or one of the `workers` was killed; the last checkpoint
            stands.
        Stopped: a signal came; the same call goes on from there.
    """
    check_trackers(trackers)
    out = Path(out)
    torch.manual_seed(config.seed)  # the initial weights
    task = (make_task or model.task)()
    task.check_images(dataset.shape)
    weights = initial_weights(task, Path(init)) if init is not None else None
    accelerator = make_accelerator(out, trackers)
    is_main, device = accelerator.is_main_process, accelerator.device
    rows = rows_of_this_process(config.batch_size, accelerator)
    run = run_of(model, task, dataset, config, out, init, accelerator)
    start = first_step(run, accelerator)
    threads = threads_of(run, start < config.steps, accelerator)
    state = TrainingState(task.parts, config, accelerator, weights)
    if run.found is not None:
        state.restore(run.found.tensors)
        run.found = None  # free the memory

    recent: deque[dict[str, Any]] = deque(maxlen=config.checkpoint_every)  # lines of the log
    steps = range(start, config.steps)
    told = labels_told(task, dataset, config, steps, rows, device)
    feed = batches(dataset, config.seed, steps, config.batch_size, rows, device, workers)
    bar = tqdm(steps, initial=start, total=config.steps, unit="step", disable=not (progress and is_main))
    lock = run.locked() if is_main else nullcontext()
    watching = run.tracked(accelerator, trackers, start)
    with lock, computing_with(threads), StopSignals() as signals, watching, bar, closing(feed):
        if is_main:
            if progress:
                say(describe(config, accelerator, threads))
            recent.extend(run.resume(start, config.steps, state.averages.of))
        for step, images, labels in zip(bar, feed, told, strict=True):
            line, stop_requested = train_step(task, state, images, step, config, accelerator, signals, labels)
            is_last = step + 1 == config.steps
            is_due = is_last or (step + 1) % config.checkpoint_every == 0
            if is_main:
                run.log(line)
                recent.append(line)
                show_on_bar(line, bar, config.batch_size)
                if is_due or stop_requested:
                    loss = loss_since_checkpoint(recent, task) if is_due else None
                    run.save(step + 1, state.tensors(), state.averages.of, loss)
                if is_due and picture is not None:
                    run.show(picture(out), step + 1, accelerator.trackers)
            accelerator.log({key: value for key, value in line.items() if key != "step"}, step + 1)
            if on_step is not None:
                on_step(line)
            if stop_requested or (is_last and signals.name is not None):
                signal = signals.name or "a signal to another process"
                raise Stopped(f"stopped by {signal} after step {step + 1} of {config.steps}, and saved in {out}")
    accelerator.wait_for_everyone()  # and not `end_training`, after which these processes could not train again


def initial_weights(task: Task, init: Path) -> dict[str, Tensor]:
    """The weights in a file like model.safetensors; raises `ValueError` unless they fit the task's networks.

    Where the file's network was told no classes and the task's is, the embeddings of the labels are new.
    """
    wanted = {f"{part}.{key}": value for part, net in task.parts.items() for key, value in net.state_dict().items()}
    of_labels = {name: value.clone() for name, value in wanted.items() if name.endswith(".labels.weight")}
    weights = of_labels | files.load_tensors(init)
    files.check_weights(init, weights, wanted)
    return weights


def labels_told(
    task: Task, dataset: Dataset | Pictures, config: TrainingConfig, steps: range, rows: slice, device: torch.device
) -> Iterator[Tensor | None]:
    """The labels of every step's images, or None for a task without classes.

    Raises:
        ValueError: the images have not as many classes as the task.
    """
    classes = getattr(task, "classes", None)
    if classes is None:
        return iter([None] * len(steps))
    if classes != len(dataset.classes):
        raise ValueError(f"classes is {classes}; the images of {dataset.name} have {len(dataset.classes)} classes")
    return (labels_at(dataset, config.seed, step, config.batch_size, rows).to(device) for step in steps)


def check_trackers(trackers: Sequence[str]) -> None:
    """Raise `ValueError` unless all are known and installed."""
    for tracker in trackers:
        if tracker not in TRACKERS:
            raise ValueError(f"tracker is {tracker!r}; legal are {', '.join(TRACKERS)}")
        if find_spec(tracker) is None:
            raise ValueError(f"tracker is {tracker!r}, which is not installed: pip install {tracker}")


def run_of(
    model: Any,
    task: Task,
    dataset: Dataset | Pictures,
    config: TrainingConfig,
    out: Path,
    init: str | Path | None,
    accelerator: "Accelerator",
) -> Run:
    """The run of a training; `ValueError` if `out` holds another."""
    data = {"name": dataset.name, "images": len(dataset), "image_shape": dataset.shape}
    if getattr(task, "classes", None) is not None:
        data["classes"] = dataset.classes
    record = record_of(model, config, data, init, compilation(accelerator, len(task.parts)))
    return Run(out, record, default_record(model), config.keep, dataset.former_names)


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


def describe(config: TrainingConfig, accelerator: "Accelerator", threads: int) -> str:
    """Where and how a training computes, in one line."""
    processes = f"{accelerator.num_processes} processes" if accelerator.num_processes > 1 else "one process"
    number = "bfloat16" if computes_in_bfloat16(config.precision, accelerator.device) else "float32"
    return f"training on {accelerator.device.type} in {number}, {processes}, {in_words(threads)}"


def show_on_bar(line: Mapping[str, Any], bar: "tqdm[int]", batch_size: int) -> None:
    """Put a step's losses and the images a second on the bar."""
    losses = {key: f"{value:.4f}" for key, value in line.items() if key.startswith("loss")}
    images_a_second = (bar.format_dict["rate"] or 0) * batch_size
    bar.set_postfix(losses | {"images/s": f"{images_a_second:.0f}"}, refresh=False)


def loss_since_checkpoint(lines: Sequence[Mapping[str, Any]], task: Task) -> float | None:
    """The mean loss of these lines, which tells the best checkpoint; None for two players, whose losses tell little."""
    if len(task.parts) > 1:
        return None
    (name,) = task.parts
    return fmean(line[f"loss_{name}"] for line in lines)
