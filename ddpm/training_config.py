"""How a model is trained: the settings, and the learning rate of every step."""

import math
from dataclasses import dataclass
from typing import Literal

from ddpm.optimisers import OPTIMISERS


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        steps: optimiser steps.
        batch_size: images a step, over all processes.
        learning_rate: peak rate, reached after `warmup` steps.
        warmup: steps over which the rate rises.
        decay: of the rate after that: "cosine" or "linear" to 0 at the end, or "constant".
        optimiser: "adamw", "adam", "sgd", "rmsprop" or "muon"; what each does with the next two, `optimiser_of` says.
        momentum: of gradients; 0 or more and below 1.
        weight_decay: decoupled, per step and rate.
        clip: largest norm of the gradient.
        ema: decay of the averaged weights, which starts at (1 + step) / (10 + step); several make several averages,
            of which the first is the run's own.
        seed: of the initial weights, the order of the images and every draw.
        checkpoint_every: steps between checkpoints.
        keep: how many of the newest checkpoints are kept, besides the one with the least loss.
        precision: "auto" (bfloat16 where the device computes it in hardware) or "float32".
    """

    steps: int = 5000
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup: int = 200
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    optimiser: Literal["adamw", "adam", "sgd", "rmsprop", "muon"] = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float | tuple[float, ...] = 0.999
    seed: int = 0
    checkpoint_every: int = 500
    keep: int = 2
    precision: Literal["auto", "float32"] = "auto"

    def __post_init__(self) -> None:
        for names, legal, holds in (
            (("steps", "batch_size", "checkpoint_every", "keep"), "at least 1", lambda value: value >= 1),
            (("warmup", "seed", "weight_decay"), "at least 0", lambda value: value >= 0),
            (("learning_rate", "clip"), "above 0", lambda value: value > 0),
            (("momentum",), "at least 0 and below 1", lambda value: 0 <= value < 1),
            (("optimiser",), ", ".join(OPTIMISERS), lambda value: value in OPTIMISERS),
            (("decay",), "cosine, linear or constant", lambda value: value in ("cosine", "linear", "constant")),
            (("precision",), "auto or float32", lambda value: value in ("auto", "float32")),
        ):
            for name in names:
                value = getattr(self, name)
                word_for_number_or_reverse = isinstance(value, str) != isinstance(getattr(type(self), name), str)
                if word_for_number_or_reverse or not holds(value):
                    raise ValueError(f"{name} is {value!r}; legal is {legal}")
        if not self.emas or len(set(self.emas)) < len(self.emas) or not all(0 <= decay < 1 for decay in self.emas):
            raise ValueError(f"ema is {self.ema!r}; legal is at least 0 and below 1, or several such, all different")

    @property
    def emas(self) -> tuple[float, ...]:
        """The decay of every average."""
        return (self.ema,) if isinstance(self.ema, int | float) else tuple(self.ema)

    def rate(self, step: int) -> float:
        """Learning rate of step 0, 1, ..."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        left = {"cosine": (1 + math.cos(math.pi * share)) / 2, "linear": 1 - share, "constant": 1}
        return self.learning_rate * left[self.decay]
