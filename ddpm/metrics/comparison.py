"""What generated images are compared with, and the report of a measure: with the context needed to read it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ddpm import data
from ddpm.metrics.features import FEATURES, Features, check_images, check_real_images, features_in_words, features_of
from ddpm.metrics.features import features as frozen_features

__all__ = [
    "Compared", "Distance", "bootstrap_sd", "check_compared", "compared", "real_test_features", "real_train",
    "real_train_features",
]  # fmt: skip


@dataclass(frozen=True)
class Distance:
    """A comparison of generated images with real ones, with the context needed to read it.

    Attributes:
        value: the distance, or the precision or recall.
        spread: its standard deviation over other draws of the generated images.
        generated: number of generated images.
        real: number of real images.
        split: of the real images.
        weights: which weights made the generated images.
        floor: the value for as many real training images, which is that of a perfect model; nan in features of your
            own. There, measure real images that are not among the others, as many as were generated.
        name: what is measured.
        spread_is: how the spread was found.
        features: in which it was measured, in words.
        floor_is: what `floor` is for this measure: a "floor" where less is better, a "ceiling" where more is.
    """

    value: float
    spread: float
    generated: int
    real: int
    split: str
    weights: str
    floor: float
    name: str = "Frechet distance"
    spread_is: str = "bootstrap sd"
    features: str = features_in_words(None, FEATURES)
    floor_is: Literal["floor", "ceiling"] = "floor"

    def __str__(self) -> str:
        measured = (
            f"{self.name} {self.value:.2f} ({self.spread_is} {self.spread:.2f}) in {self.features}; "
            f"{self.generated:,} generated against {self.real:,} real {self.split} images; {self.weights} weights"
        )
        if math.isnan(self.floor):
            return measured
        return f"{measured}; {self.floor_is}, {self.generated:,} real train images against the same: {self.floor:.2f}"


def bootstrap_sd(generated: Tensor, measure: Callable[[Tensor], float]) -> float:
    """Standard deviation of a measure over 20 resamples, with replacement, of the generated images' values (n, ...)."""
    n, generator = len(generated), torch.Generator("cpu").manual_seed(0)
    chosen = (torch.randint(n, (n,), generator=generator, device="cpu") for _ in range(20))
    draws = [measure(generated[rows]) for rows in chosen]
    return torch.tensor(draws, dtype=torch.float32, device="cpu").std().item()


def real_train(n: int) -> Tensor:
    """The training images that n real ones are taken from, uint8; up to 10,000 are taken from the embedded ones."""
    return data.load("fashion-mnist-embedded" if n <= 10_000 else "fashion-mnist", "train", quiet=True).images


@lru_cache(maxsize=4)
def real_train_features(n: int) -> Tensor:
    """Features (n, 64) of n real training images."""
    train = real_train(n)
    return frozen_features(data.normalise(train[_drawn(n, len(train))]))


def _drawn(n: int, of: int) -> Tensor:
    """The rows (n,) of so many images, drawn without replacement, always the same."""
    return torch.randperm(of, generator=torch.Generator("cpu").manual_seed(0), device="cpu")[:n]


@cache
def real_test_features() -> Tensor:
    """Features (2,000, 64) of the embedded test images."""
    return frozen_features(data.normalise(_real_test()))


def _real_test() -> Tensor:
    """The embedded test images, uint8."""
    return data.load("fashion-mnist-embedded", "test", quiet=True).images


class Compared(NamedTuple):
    """Features (n, d) of as many generated, real and real training images; `train` is None in features of your own."""

    generated: Tensor
    real: Tensor
    train: Tensor | None


def check_compared(images: Tensor, real: Tensor | None, own: Features | None) -> None:
    """Check what `compared` compares, before any features are computed.

    Raises:
        ValueError: too few images, more than real ones, or what `check_images` and `check_real_images` raise.
        TypeError: what these raise.
    """
    check_images("images", images, own)
    check_real_images(real, own)
    least = FEATURES + 1 if own is None else 2
    n, most = len(images), len(_real_test() if real is None else real)
    if not least <= n <= most:
        raise ValueError(f"images are {n}; legal are {least} to {most:,}: no more than real images")


def compared(images: Tensor, real: Tensor | None, own: Features | None) -> Compared:
    """Features of n images and of n real ones, by default of the first embedded test images.

    Of real images of one's own, which may lie class by class, n are drawn. All are checked (`check_compared`).

    Raises:
        ValueError, TypeError: what `features_of` raises.
    """
    n = len(images)
    return Compared(
        generated=features_of(images, own),
        real=real_test_features()[:n] if real is None else features_of(real[_drawn(n, len(real))], own),
        train=real_train_features(n) if own is None else None,
    )
