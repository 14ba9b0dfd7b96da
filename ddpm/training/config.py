"""How a model is trained: the settings, and the learning rate of every step."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from ddpm.settings import (
    Optimiser,
    Precision,
    check,
    check_choices,
    flag,
    non_negative_int,
    positive_int,
    real,
    seed_number,
    threads_number,
)  # fmt: skip

__all__ = ["TrainingConfig"]


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        steps: number of optimiser steps.
        batch_size: images in a step, over all processes.
        micro_batch_size: at most so many images are computed with at once, by each process; None is all of them. The
            gradients of a larger batch are summed (gradient accumulation): less memory, the same step up to rounding
            (with dropout, other masks). A VAE with mse needs its batch whole.
        flip: mirror each image, left to right, with probability 1/2, drawn anew in every step. Not for what a mirror
            makes another thing, such as digits and shoes that all point one way.
        learning_rate: peak learning rate, reached after the warm-up.
        warmup: number of warm-up steps, over which the learning rate rises.
        decay: decay of the learning rate after the warm-up: cosine or linear (to 0 after the last step), or constant. A
            run of a constant rate goes on with more steps, as if it had been as long from the start.
        optimiser: name of the optimiser: muon, adamw, adam, sgd or rmsprop (see ddpm.training.optimisers).
        momentum: decay of the gradient's average: beta 1 of adamw and adam, the momentum of sgd.
        weight_decay: decoupled weight decay of adamw and muon.
        clip: largest norm of the gradient; a longer one is scaled down to it.
        ema: decay of the averaged weights, which the finished model uses. It warms up as (1 + step) / (10 + step).
            Several decays make several averages, of which the first is the run's own model.
        seed: seed of the initial weights, the order of the images, the times and the noise.
        checkpoint_every: steps between checkpoints; a killed run loses at most this many.
        keep: number of newest checkpoints that are kept, besides the one with the smallest loss.
        precision: arithmetic: auto (bfloat16 where the device computes it in hardware) or float32.
        threads: threads of the CPU to compute with. None is the number that the run began with, and in a new run as
            many as there are free cores (see ddpm.threads). The run's record has the number, as the bits depend on it.
    """

    steps: int = 5000
    batch_size: int = 64
    micro_batch_size: int | None = None
    flip: bool = False
    learning_rate: float = 1e-3
    warmup: int = 200
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    optimiser: Optimiser = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float | tuple[float, ...] = 0.999
    seed: int = 0
    checkpoint_every: int = 500
    keep: int = 2
    precision: Precision = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        check(self, positive_int, "steps", "batch_size", "checkpoint_every", "keep")
        check(self, non_negative_int, "warmup")
        check(self, seed_number, "seed")
        check(self, flag, "flip")
        if self.micro_batch_size is not None:
            check(self, positive_int, "micro_batch_size")
        if self.threads is not None:
            check(self, threads_number, "threads")
        check(self, real, "learning_rate", "clip", above=0)
        check(self, real, "momentum", at_least=0, below=1)
        check(self, real, "weight_decay", at_least=0)
        check_choices(self)
        check(self, _decays, "ema")

    @property
    def emas(self) -> tuple[float, ...]:
        """The decay of every average."""
        return self.ema if isinstance(self.ema, tuple) else (self.ema,)

    def rate(self, step: int) -> float:
        """Learning rate of step 0, 1, ..."""
        if step < self.warmup:  # linear warm-up
            return self.learning_rate * (step + 1) / self.warmup
        share = (step - self.warmup) / max(1, self.steps - self.warmup)  # of the decay that is over
        factor = {"cosine": (1 + math.cos(math.pi * share)) / 2, "linear": 1 - share, "constant": 1}
        return self.learning_rate * factor[self.decay]


def _decays(name: str, value: Any) -> float | tuple[float, ...]:
    """`value` as a decay, or as a tuple of several different ones."""
    several = isinstance(value, list | tuple)
    try:
        decays = tuple(float(real(name, item, at_least=0, below=1)) for item in (value if several else [value]))
    except ValueError:
        decays = ()
    if not decays or len(set(decays)) < len(decays):
        raise ValueError(
            f"{name} is {value!r}; it must be at least 0 and below 1, or several such decays, all different"
        )
    return decays if len(decays) > 1 else decays[0]
