"""Precision and recall: the share of generated images that look real, and of real ones that the model might draw."""

import math
from numbers import Integral

import torch
from torch import Tensor

from ddpm.metrics.comparison import Distance, check_compared, compared
from ddpm.metrics.features import Features, features_in_words

__all__ = ["precision_and_recall"]


def precision_and_recall(
    images: Tensor,
    *,
    weights: str,
    neighbours: int = 3,
    real: Tensor | None = None,
    features: Features | None = None,
) -> tuple[Distance, Distance]:
    """Improved precision and recall (Kynkäänniemi et al. 2019, eq. 1 and 2), with binomial standard deviations.

    Precision is the share of generated images that lie in the manifold of the real ones; recall is the share of real
    images that lie in the manifold of the generated ones. The manifold of some images is the union of balls around
    them, each of which reaches to its image's k-th nearest neighbour.

    Args:
        images: (n, 1, 32, 32) in about [-1, 1], n from 65 to 2,000. They are clipped to [-1, 1] and compared with the
            first n of the 2,000 embedded test images. Both values depend on n.
        weights: which weights made the images, for the record.
        neighbours: k.
        real: images to compare with in place of the test images, n or more.
        features: a function of your own, as `frechet_distance` takes it, with `real`. Then n is from 2 up.

    Raises:
        ValueError: too few or too many images, images of another shape or dtype or with values that are not finite, or
            an illegal k; or the same of features of your own, or these without `real`.
        TypeError: images or `real` are no tensors, or `features` is no function that answers one.
    """
    check_compared(images, real, features)
    n = len(images)
    if not isinstance(neighbours, Integral) or not 1 <= neighbours < n:
        raise ValueError(f"neighbours is {neighbours}; legal are 1 to {n - 1}, one fewer than images")
    generated, others, train = compared(images, real, features)

    def described(name: str, value: float, ceiling: float) -> Distance:
        return Distance(
            value=value,
            spread=math.sqrt(value * (1 - value) / n),
            generated=n,
            real=n,
            split="test" if real is None else "given",
            weights=weights,
            floor=ceiling,
            features=features_in_words(features, generated.shape[1]),
            name=f"{name} ({neighbours} neighbours)",
            spread_is="binomial sd",
            floor_is="ceiling",
        )

    precision = _share_inside(generated, others, neighbours)
    recall = _share_inside(others, generated, neighbours)
    return (
        described("precision", precision, math.nan if train is None else _share_inside(train, others, neighbours)),
        described("recall", recall, math.nan if train is None else _share_inside(others, train, neighbours)),
    )


def _share_inside(points: Tensor, manifold: Tensor, neighbours: int) -> float:
    """Share of the points (n, d) that lie in the manifold of others (m, d)."""
    radius = torch.cdist(manifold, manifold).kthvalue(neighbours + 1, dim=1).values  # the nearest is the point itself
    return (torch.cdist(points, manifold) <= radius).any(dim=1).float().mean().item()
