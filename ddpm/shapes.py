"""A batch as rows, and one value a sample, whatever shape a sample has: images, points (batch, 2), numbers (batch,)."""

from torch import Tensor

__all__ = ["flat", "per_sample"]


def flat(x: Tensor) -> Tensor:
    """Samples (batch, ...) as rows (batch, dimensions); single numbers (batch,) have one dimension."""
    return x[:, None].flatten(1)


def per_sample(values: Tensor, x: Tensor) -> Tensor:
    """Values (batch,), one for each sample of x (batch, ...), in a shape that multiplies x."""
    return values.reshape(-1, *[1] * (x.ndim - 1))
