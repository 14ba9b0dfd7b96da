"""The images, and the trainings on them."""

import itertools
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

import ddpm
from ddpm.companion.long_runs import run_folder
from ddpm.data import Dataset, load, normalise
from ddpm.training import train
from ddpm.training.recipes import recipe
from equal_terms.terms import BATCH, KINDS

HELD_OUT = 2000


@cache
def embedded(split: Literal["train", "test"]) -> Dataset:
    """The images that everything here is trained on, or judged by."""
    return load("fashion-mnist-embedded", split, quiet=True)


def part(chosen: slice) -> Dataset:
    """Some of the training images."""
    return replace(embedded("train"), images=embedded("train").images[chosen], labels=embedded("train").labels[chosen])


def held_out() -> Tensor:
    """The training images that trials do not see, in [-1, 1]."""
    return normalise(part(slice(-HELD_OUT, None)).images)


def judges(n: int) -> Tensor:
    """The first n test images in [-1, 1]."""
    return normalise(embedded("test").images[:n])


#: For a full training, for trials, and for the control.
SETS = {"all": slice(None), "without the held out": slice(-HELD_OUT), "a hundredth": slice(None, None, 100)}


@dataclass(frozen=True)
class Run:
    """One training: a kind of model, its own settings, and how long, on what and from which seed it is trained."""

    kind: str
    settings: dict[str, Any] = field(hash=False)
    steps: int
    seed: int = 0
    data: str = "all"

    def folder(self, runs: Path) -> Path:
        """Where it is kept: the same for the same training."""
        words = [self.kind, *itertools.chain(*self.settings.items()), self.steps, "steps", self.data, "seed", self.seed]
        return run_folder(runs, *words)

    def images(self) -> Dataset:
        """Those that it is trained on."""
        return part(SETS[self.data])

    def trained(self, runs: Path) -> Any:
        """Train it, or resume its training, and load the model. A thirtieth of its steps is warm-up."""
        kind = KINDS[self.kind]
        length = {"steps": self.steps, "warmup": max(1, self.steps // 30), "seed": self.seed, "batch_size": BATCH}
        model, training = recipe(kind.recipe, **kind.fixed | self.settings | length)
        train(model, self.images(), training, self.folder(runs))
        return ddpm.load(self.folder(runs))
