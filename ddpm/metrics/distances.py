"""Distances of generated images to real ones, in the frozen features or in your own (Frechet and kernel distance)."""

import math
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ddpm import data
from ddpm.extras import needed
from ddpm.files import load_tensors
from ddpm.metrics.comparison import Distance as Distance  # which stood here in version 0.1.0
from ddpm.metrics.comparison import (
    bootstrap_sd,
    check_compared,
    compared,
    real_train,
    real_train_features,
)
from ddpm.metrics.features import (
    FEATURES,
    Features,
    check_images,
    check_real_images,
    feature_network,
    features_in_words,
    features_of,
)

with needed("torchmetrics"):
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import poly_mmd

__all__ = ["check_frechet", "frechet_distance", "kernel_distance"]

# The moments are frozen with the features.
MOMENTS_SHA256 = "4716e6ce9641023913c96d34286552149e6072fd0b0ea127b2343b04c4cba420"


def check_frechet(n: int) -> None:
    """Raise the error that `frechet_distance` of n images would raise, before hours are spent on drawing them.

    Raises:
        ValueError: too few or too many images, or frozen features that are damaged.
        FileNotFoundError: n is above 10,000, and the full Fashion-MNIST cannot be had.
    """
    if not FEATURES < n <= 60_000:
        legal = f"{FEATURES + 1} to 60,000: more than features, no more than real images"
        raise ValueError(f"n, the number of images, is {n}; legal are {legal}")
    real_train(n)
    _test_moments()
    feature_network()


def frechet_distance(
    images: Tensor, *, weights: str, real: Tensor | None = None, features: Features | None = None
) -> Distance:
    """Frechet distance (Heusel et al. 2017, eq. 6) of images to real ones: by default to Fashion-MNIST.

    torchmetrics computes it, for the spread 20 times more: with 2,048 features of your own that is minutes.

    Args:
        images: (n, 1, 32, 32) in about [-1, 1], n from 65 to 60,000. They are clipped to [-1, 1], as saved images would
            be, and compared with all 10,000 test images, through the frozen moments of these.
        weights: which weights made the images ("EMA", "last", "none"), for the record.
        real: images to compare with in place of the test images, from 65 up, such as training images that were held
            out: whoever chooses settings by the test images can no longer judge by them.
        features: a function of your own in place of the frozen network, which knows garments alone, such as a network
            without its head: images (batch, ...) -> features (batch, d), called as `ddpm.metrics.features.features_of`
            says. Then the images may have any shape, `real` must be given, and of both there must be more than d.

    Raises:
        ValueError: too few or too many images, images of another shape or dtype, or with values that are not finite; or
            the same of features of your own, or these without `real`.
        TypeError: images or `real` are no tensors, or `features` is no function that answers one.
        FileNotFoundError: there are more than 10,000 garments, and the full Fashion-MNIST cannot be had.
    """
    check_images("images", images, features)
    check_real_images(real, features)
    n = len(images)
    if features is None:
        check_frechet(n)
    generated = _more_than_features("images", features_of(images, features))
    others = _test_moments() if real is None else _moments_of(real, features)
    return Distance(
        value=_distance(generated, others),
        spread=bootstrap_sd(generated, lambda resampled: _distance(resampled, others)),
        generated=n,
        real=others.n,
        split="test" if real is None else "given",
        weights=weights,
        floor=_distance(real_train_features(n), others) if features is None else math.nan,
        features=features_in_words(features, generated.shape[1]),
    )


def _more_than_features(name: str, found: Tensor) -> Tensor:
    """Features (n, d) of images of this name; `ValueError` if n is not above d, where a covariance has no full rank."""
    n, d = found.shape
    if not n > d:
        raise ValueError(f"{name} are {n}; legal are {d + 1} and more: more than features")
    return found


def kernel_distance(
    images: Tensor, *, weights: str, real: Tensor | None = None, features: Features | None = None
) -> Distance:
    """Squared kernel distance (Bińkowski et al. 2018, eq. 4), times 1,000, of images to real ones.

    The estimate is unbiased: values for different n can be compared, and a value may be below 0 by chance. The kernel
    of d features is cubic, (x y / d + 1)^3. torchmetrics computes it.

    Args:
        images: (n, 1, 32, 32) in about [-1, 1], n from 65 to 2,000. They are clipped to [-1, 1] and compared with the
            first n of the 2,000 embedded test images.
        weights: which weights made the images, for the record.
        real: images to compare with in place of the test images, n or more.
        features: a function of your own, as `frechet_distance` takes it, with `real`. Then n is from 2 up.

    Raises:
        ValueError: too few or too many images, images of another shape or dtype, or with values that are not finite; or
            the same of features of your own, or these without `real`.
        TypeError: images or `real` are no tensors, or `features` is no function that answers one.
    """
    check_compared(images, real, features)
    generated, others, train = compared(images, real, features)
    others = others.double()

    def measure(some: Tensor) -> float:
        distance: float = 1000 * poly_mmd(others, some.double()).item()
        return distance

    return Distance(
        value=measure(generated),
        spread=bootstrap_sd(generated, measure),
        generated=len(generated),
        real=len(others),
        split="test" if real is None else "given",
        weights=weights,
        floor=math.nan if train is None else measure(train),
        features=features_in_words(features, generated.shape[1]),
        name="kernel distance x 1,000",
    )


class _Moments(NamedTuple):
    """Mean (d,) and covariance (d, d) of n images' features, in float64."""

    n: int
    mean: Tensor
    covariance: Tensor


@cache
def _test_moments() -> _Moments:
    stored = load_tensors(data.ASSETS / "moments.safetensors", MOMENTS_SHA256)
    return _Moments(int(stored["test.n"]), stored["test.mean"], stored["test.covariance"])


def _moments_of(real: Tensor, own: Features | None) -> _Moments:
    found = _more_than_features("real images", features_of(real, own)).double()
    return _Moments(len(found), found.mean(0), found.T.cov())


def _distance(generated: Tensor, others: _Moments) -> float:
    """Frechet distance of features (n, d) to others, of which it takes the moments."""
    alone: dict[str, Any] = {"sync_on_compute": False}  # other processes have the same images, not more of them
    n, mean, covariance = others
    with torch.device("cpu"):  # whatever torch's default is
        metric = FrechetInceptionDistance(feature=_Identity(len(mean)), reset_real_features=False, **alone)
        metric.set_dtype(torch.float64)
        metric.real_features_num_samples = torch.tensor(n)
        metric.real_features_sum = n * mean
        metric.real_features_cov_sum = (n - 1) * covariance + n * torch.outer(mean, mean)
        metric.update(generated.double(), real=False)
        distance: float = metric.compute().item()
    return distance


class _Identity(nn.Module):
    """A feature extractor for torchmetrics that returns its input, which is features already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, x: Tensor) -> Tensor:
        return x
