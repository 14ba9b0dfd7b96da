"""One training step of any model: what a model gives, its losses, and how its parts' weights move."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ddpm.data import normalise
from ddpm.fast import computes_in_bfloat16
from ddpm.noise import DROPOUT, StepRandomness, fold_in
from ddpm.training.config import TrainingConfig
from ddpm.training.launcher import rows_of_this_process
from ddpm.training.signals import StopSignals
from ddpm.training.state import TrainingState

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["StepResult", "Task", "train_step"]


class Task(Protocol):
    """A model in training.

    Attributes:
        parts: one network, or two of a GAN; stepped in this order, each by its own optimiser.
        classes: how many classes there are, where its loss is told each image's label; else None.
    """

    parts: dict[str, nn.Module]
    classes: int | None

    def loss(self, part: str, images: Tensor, randomness: StepRandomness, *labels: Tensor) -> Tensor:
        """The scalar loss that a part minimises on a batch; earlier parts have already taken their step.

        Images are in [-1, 1], or as the data set's floats are.

        Where a batch is computed in pieces it is called for each of them: the loss of a batch must be the mean of its
        images' losses, ask every piece's randomness for the same in turn, and change nothing but gradients.
        """
        ...


class MicroBatch(NamedTuple):
    """Images that are computed with at once, and what belongs to them.

    Attributes:
        randomness: the random numbers of these images, which are rows of the step's batch.
        images: (images, channels, height, width), float32: in [-1, 1], or as the data set's floats are.
        labels: what the loss is told besides: nothing, or the labels (images,).
        share: which part of the process's batch they are.
    """

    randomness: StepRandomness
    images: Tensor
    labels: tuple[Tensor, ...]
    share: float


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
    """One step of every part on this process's images (batch, channels, height, width), uint8 or float32.

    Labels (batch,) are given to a task with classes alone.
    """
    torch.manual_seed(fold_in(DROPOUT, config.seed, step, accelerator.process_index))
    pieces = micro_batches(images, step, config, accelerator, labels)
    line: dict[str, Any] = {"step": step + 1, "rate": config.rate(step)}
    stop_requested = False
    for name, part in task.parts.items():
        state.zero_grad()
        loss = add_gradients(task, name, pieces, config, accelerator)
        grad_norm = accelerator.clip_grad_norm_(part.parameters(), config.clip)
        mean_loss, mean_norm, stop_requested = over_processes(loss, grad_norm, signals.name is not None, accelerator)
        check_loss_finite(name, step, mean_loss, mean_norm)
        state.step(name, config.rate(step))
        line |= {f"loss_{name}": mean_loss, f"gradient_{name}": mean_norm}
    state.averages.update(state.weights, step)
    return StepResult(line, stop_requested)


def micro_batches(
    images: Tensor, step: int, config: TrainingConfig, accelerator: "Accelerator", labels: Tensor | None
) -> list[MicroBatch]:
    """What this process computes a step with: all of its images, or pieces of at most `micro_batch_size`."""
    rows = rows_of_this_process(config.batch_size, accelerator)
    randomness = StepRandomness(config.seed, step, config.batch_size, rows.start, len(images))
    if images.dtype == torch.uint8:
        images = normalise(images)
    if config.flip:
        is_flipped = (randomness.uniform() < 0.5).to(images.device)
        images = torch.where(is_flipped[:, None, None, None], images.flip(-1), images)
    size = config.micro_batch_size or len(images)
    tensors = (images,) if labels is None else (images, labels)
    pieces = zip(randomness.split(size), *(tensor.split(size) for tensor in tensors), strict=True)
    return [MicroBatch(own, some, tuple(told), len(some) / len(images)) for own, some, *told in pieces]


def add_gradients(
    task: Task, name: str, pieces: Sequence[MicroBatch], config: TrainingConfig, accelerator: "Accelerator"
) -> Tensor:
    """The loss of a part on all pieces together; its gradient is added to that of the weights, piece by piece."""
    device = accelerator.device
    in_bfloat16 = computes_in_bfloat16(config.precision, device)
    losses = []
    for piece in pieces:
        is_last = piece is pieces[-1]  # only then do processes exchange their gradients
        with nullcontext() if is_last else accelerator.no_sync(task.parts[name]):
            with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16):
                loss = piece.share * scalar_loss(name, task.loss(name, piece.images, piece.randomness, *piece.labels))
            accelerator.backward(loss)
        losses.append(loss.detach())
    return torch.stack(losses).sum()


def scalar_loss(part: str, answer: Any) -> Tensor:
    """What a task answers for the loss of a part; `TypeError` unless it is a scalar tensor with a gradient."""
    legal = "it must be a scalar tensor with a gradient"
    if not isinstance(answer, Tensor):
        raise TypeError(f"the loss of {part} is {type(answer).__name__}; {legal}")
    if answer.numel() != 1:
        raise TypeError(f"the loss of {part} has shape {tuple(answer.shape)}; {legal}")
    if not answer.requires_grad:
        raise TypeError(f"the loss of {part} has no gradient; {legal}")
    return answer


def over_processes(
    loss: Tensor, grad_norm: Tensor, stop: bool, accelerator: "Accelerator"
) -> tuple[float, float, bool]:
    """Mean loss, mean gradient norm, and whether any process was asked to stop.

    A step waits for its device only here.
    """
    here = torch.stack([loss, grad_norm, loss.new_tensor(stop)])
    mean_loss, mean_norm, share_stopping = accelerator.reduce(here, "mean").tolist()
    return mean_loss, mean_norm, share_stopping > 0


def check_loss_finite(part: str, step: int, loss: float, grad_norm: float) -> None:
    """Raise `FloatingPointError` unless both are finite, before the part's weights are touched."""
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise FloatingPointError(
            f"{part} has loss {loss} and gradient norm {grad_norm} at step {step + 1}; "
            "its weights are not touched, the last checkpoint stands, if there is one"
        )
