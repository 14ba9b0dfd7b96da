"""What generated images are worth: distances in the frozen features.

A figure comes with what it means nothing without.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from ddpm import data
from ddpm.features import FEATURES, FEATURES_SHA256, features
from ddpm.files import load_tensors

# Frozen with the features.
MOMENTS_SHA256 = "4716e6ce9641023913c96d34286552149e6072fd0b0ea127b2343b04c4cba420"


@dataclass(frozen=True)
class Distance:
    """A comparison of images with real ones, what it means nothing without, and how far another draw would move it."""

    value: float
    spread: float  # standard deviation over other draws of the generated images
    generated: int
    real: int
    split: str
    weights: str
    floor: float  # the same of as many real training images: a perfect model's
    name: str = "Frechet distance"

    def __str__(self) -> str:
        perfect = "floor" if "distance" in self.name else "ceiling"
        return (
            f"{self.name} {self.value:.2f} (bootstrap sd {self.spread:.2f}) in features {FEATURES_SHA256[:8]} "
            f"(frozen classifier, 64, whitened); {self.generated:,} generated against {self.real:,} real {self.split} "
            f"images; {self.weights} weights; {perfect}, {self.generated:,} real train images against the same: "
            f"{self.floor:.2f}"
        )


def frechet_distance(images: Tensor, *, weights: str) -> Distance:
    """Frechet distance (Heusel et al. 2017, eq. 6) of images to Fashion-MNIST in the frozen features.

    Computed by torchmetrics.

    Args:
        images: (n, 1, 32, 32) in about [-1, 1], n from 65 to 60,000; clipped to [-1, 1], as a saved image would be.
            Compared with all 10,000 test images, through their frozen moments.
        weights: which weights made the images ("EMA", "last", "none"), for the record.
    """
    n = len(images)
    if not FEATURES < n <= 60_000:
        raise ValueError(
            f"images are {n}; legal are {FEATURES + 1} to 60,000: more than features, no more than real ones"
        )
    generated, floor = features(images.clamp(-1, 1)), _distance(_train_features(n))
    real = int(_moments()["test.n"])
    return Distance(
        _distance(generated), _bootstrap_sd(generated, _distance), n, real, "test", weights, floor
    )  # fmt: skip


def _bootstrap_sd(generated: Tensor, measure: Callable[[Tensor], float]) -> float:
    n, generator = len(generated), torch.Generator().manual_seed(0)
    draws = [measure(generated[torch.randint(n, (n,), generator=generator)]) for _ in range(20)]
    return torch.tensor(draws).std().item()


@lru_cache(maxsize=4)
def _train_features(n: int) -> Tensor:
    """Features (n, 64) of n real training images."""
    train = data.load("fashion-mnist-embedded" if n <= 10_000 else "fashion-mnist", "train", quiet=True).images
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:n]
    return features(data.normalise(train[chosen]))


@cache
def _test_features() -> Tensor:
    """Features (2,000, 64) of the embedded test images."""
    return features(data.normalise(data.load("fashion-mnist-embedded", "test", quiet=True).images))


def _legal_count(images: Tensor) -> int:
    n, most = len(images), len(_test_features())
    if not FEATURES < n <= most:
        raise ValueError(f"images are {n}; legal are {FEATURES + 1} to {most:,}: no more than the embedded test images")
    return n


def kernel_distance(images: Tensor, *, weights: str) -> Distance:
    """Squared kernel distance (Binkowski et al. 2018, eq. 4), times 1,000, of images to Fashion-MNIST.

    Unbiased, so that it can be compared at different n, and below 0 by chance; the cubic kernel (x y / 64 + 1)^3,
    computed by torchmetrics.

    Args:
        images: (n, 1, 32, 32) in about [-1, 1], n from 65 to 2,000. Compared with the first n of the 2,000 embedded
            test images.
        weights: which weights made the images, for the record.
    """
    n = _legal_count(images)
    real, generated = _test_features()[:n].double(), features(images.clamp(-1, 1)).double()

    def measure(generated: Tensor) -> float:
        return 1000 * poly_mmd(real, generated).item()

    return Distance(
        measure(generated), _bootstrap_sd(generated, measure), n, n, "test", weights,
        measure(_train_features(n).double()), "kernel distance x 1,000",
    )  # fmt: skip


def precision_and_recall(images: Tensor, *, weights: str, neighbours: int = 3) -> tuple[Distance, Distance]:
    """Improved precision and recall (Kynkäänniemi et al. 2019, eq. 1 and 2), with binomial standard deviations.

    Precision is the share of generated images that lie in the real manifold, recall the share of real ones that lie in
    the generated one; a manifold is the balls around its images that reach to their k-th nearest neighbour.

    Args:
        images: (n, 1, 32, 32) in about [-1, 1], n from 65 to 2,000. Compared with the first n of the 2,000 embedded
            test images: both figures depend on n.
        weights: which weights made the images, for the record.
        neighbours: k.
    """
    n = _legal_count(images)
    if not 1 <= neighbours < n:
        raise ValueError(f"neighbours is {neighbours}; legal are 1 to {n - 1}, one fewer than images")
    real, generated, train = _test_features()[:n], features(images.clamp(-1, 1)), _train_features(n)

    def figure(name: str, value: float, ceiling: float) -> Distance:
        spread = math.sqrt(value * (1 - value) / n)
        return Distance(value, spread, n, n, "test", weights, ceiling, f"{name} ({neighbours} neighbours)")

    return (
        figure("precision", _share_inside(generated, real, neighbours), _share_inside(train, real, neighbours)),
        figure("recall", _share_inside(real, generated, neighbours), _share_inside(real, train, neighbours)),
    )


def _share_inside(points: Tensor, manifold: Tensor, neighbours: int) -> float:
    """Share of points (n, d) within the k-th nearest neighbour's distance of some point of the manifold (m, d)."""
    radius = torch.cdist(manifold, manifold).kthvalue(neighbours + 1, dim=1).values  # the nearest is the point itself
    return (torch.cdist(points, manifold) <= radius).any(dim=1).float().mean().item()


@dataclass(frozen=True)
class Copying:
    """How often a generated image lies nearer to the training images than a test image does, with what it depends on.

    0.5 where generated images are as new as unseen real ones, 1 where all are copies, below 0.5 where they are far from
    any real image.
    """

    value: float
    spread: float  # standard deviation over other draws of the generated images
    generated: int
    test: int
    train: int
    weights: str

    def __str__(self) -> str:
        return (
            f"copying {self.value:.2f} (bootstrap sd {self.spread:.2f}; 0.5 is as new as test images, 1 all copies) in "
            f"features {FEATURES_SHA256[:8]}; {self.generated:,} generated and {self.test:,} test images, each against "
            f"the nearest of {self.train:,} training images; {self.weights} weights"
        )


def copying(images: Tensor, training_images: Tensor, *, weights: str) -> Copying:
    """Whether images are copies of training images, after the test of Meehan et al. (2020).

    Nearest neighbours are found in the features.

    Args:
        images: (n, 1, 32, 32) in about [-1, 1]. Compared with the 2,000 embedded test images.
        training_images: (m, 1, 32, 32) in [-1, 1], those that the model was trained on.
        weights: which weights made the images, for the record.
    """
    for name, count in (("images", len(images)), ("training_images", len(training_images))):
        if not count:
            raise ValueError(f"{name} are 0; legal is at least 1")
    known = features(training_images)
    of_test, of_generated = _nearest(_test_features(), known), _nearest(features(images.clamp(-1, 1)), known)

    def measure(of_generated: Tensor) -> float:
        return (of_generated[:, None] < of_test).float().mean().item()

    return Copying(
        measure(of_generated), _bootstrap_sd(of_generated, measure), len(images), len(of_test), len(known), weights
    )


def _nearest(points: Tensor, others: Tensor) -> Tensor:
    """(n,) distances of points (n, d) to the nearest of the others (m, d)."""
    return torch.cat([torch.cdist(chunk, others).amin(dim=1) for chunk in points.split(500)])


@cache
def _moments() -> dict[str, Tensor]:
    return load_tensors(data.ASSETS / "moments.safetensors", MOMENTS_SHA256)


def _distance(generated: Tensor) -> float:
    alone: dict[str, Any] = {"sync_on_compute": False}  # other processes have the same images, not more of them
    metric = FrechetInceptionDistance(feature=_Identity(), reset_real_features=False, **alone).set_dtype(torch.float64)
    n, mean, covariance = (_moments()[f"test.{name}"] for name in ("n", "mean", "covariance"))
    metric.real_features_num_samples = n
    metric.real_features_sum = n * mean
    metric.real_features_cov_sum = (n - 1) * covariance + n * torch.outer(mean, mean)
    metric.update(generated.double(), real=False)
    return metric.compute().item()


class _Identity(nn.Module):
    """torchmetrics' feature extractor, for features that are extracted already."""

    num_features = FEATURES

    def forward(self, x: Tensor) -> Tensor:
        return x
