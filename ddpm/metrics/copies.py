"""Does a model draw new images, or copies of its training images?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm.metrics.comparison import bootstrap_sd, real_test_features
from ddpm.metrics.features import (
    FEATURES,
    Features,
    check_images,
    check_real_images,
    check_scale,
    features_in_words,
    features_of,
)

__all__ = ["Copying", "copying"]


@dataclass(frozen=True)
class Copying:
    """How often a generated image is nearer to the training images than a test image is.

    It is 0.5 if generated images are as new as unseen real ones, 1 if all are copies, and below 0.5 if they are far
    from any real image.

    Attributes:
        value: the share of pairs (generated image, test image) in which the generated image is the nearer one.
        spread: its standard deviation over other draws of the generated images.
        generated: number of generated images.
        test: number of test images.
        train: number of training images.
        weights: which weights made the images.
        features: in which images are near to each other, in words.
    """

    value: float
    spread: float
    generated: int
    test: int
    train: int
    weights: str
    features: str = features_in_words(None, FEATURES)

    def __str__(self) -> str:
        return (
            f"copying {self.value:.2f} (bootstrap sd {self.spread:.2f}; 0.5 is as new as test images, 1 all copies) in "
            f"{self.features}; {self.generated:,} generated and {self.test:,} test images, each against "
            f"the nearest of {self.train:,} training images; {self.weights} weights"
        )


def copying(
    images: Tensor,
    training_images: Tensor,
    *,
    weights: str,
    real: Tensor | None = None,
    features: Features | None = None,
) -> Copying:
    """Measure whether images are copies of training images, after the test of Meehan et al. (2020).

    Nearest neighbours are found in the frozen features, or in your own.

    Args:
        images: (n, 1, 32, 32) in about [-1, 1]. Compared with the 2,000 embedded test images.
        training_images: (m, 1, 32, 32) in [-1, 1], the images that the model was trained on.
        weights: which weights made the images, for the record.
        real: images to compare with in place of the test images, that the model was not trained on.
        features: a function of your own, as `frechet_distance` takes it, with `real`. Then images may have any shape.

    Raises:
        ValueError: there are no images, their shape or dtype is another one, or a value is not finite; or the same of
            features of your own, or these without `real`.
        TypeError: images are no tensor, or `features` is no function that answers one.
    """
    for name, given in (("images", images), ("training_images", training_images)):
        check_images(name, given, features)
    check_scale("training_images", training_images)
    check_real_images(real, features)
    train = features_of(training_images, features)
    of_test = _nearest(real_test_features() if real is None else features_of(real, features), train)
    of_generated = _nearest(features_of(images, features), train)

    def measure(of_generated: Tensor) -> float:
        return (of_generated[:, None] < of_test).float().mean().item()

    return Copying(
        value=measure(of_generated),
        spread=bootstrap_sd(of_generated, measure),
        generated=len(images),
        test=len(of_test),
        train=len(train),
        weights=weights,
        features=features_in_words(features, train.shape[1]),
    )


def _nearest(points: Tensor, others: Tensor) -> Tensor:
    """The distance (n,) of each of the points (n, d) to the nearest of the others (m, d)."""
    return torch.cat([torch.cdist(chunk, others).amin(dim=1) for chunk in points.split(500)])
