"""Points in the plane whose distribution can be seen at a glance."""

import numpy as np
import torch
from torch import Tensor

from ddpm.settings import non_negative_int, one_of

__all__ = ["TOYS", "toy"]

#: The distributions that `toy` knows by name.
TOYS = ("ring", "moons", "spiral", "checkerboard")


def toy(name: str, n: int, seed: int = 0) -> Tensor:
    """Draw `n` points (n, 2), float32, within about [-1, 1].

    Args:
        name: "ring" (eight Gaussians), "moons", "spiral" or "checkerboard".
        n: how many.
        seed: of the draws.

    Raises:
        ValueError: an unknown name, or `n` or `seed` is no integer from 0 up.
    """
    one_of("toy", name, TOYS)
    n = non_negative_int("n", n)
    rng = np.random.default_rng(non_negative_int("seed", seed))
    if name == "ring":
        angle = 2 * np.pi * rng.integers(8, size=n) / 8
        points = 0.8 * np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.04 * rng.standard_normal((n, 2))
    elif name == "moons":
        angle, lower = np.pi * rng.random(n), rng.integers(2, size=n)
        x = np.where(lower, 0.5 - np.cos(angle) / 2, np.cos(angle) / 2 - 0.25)
        points = np.stack(
            [x - 0.1, np.where(lower, 0.25, -0.25) + np.where(lower, -1, 1) * np.sin(angle) / 1.5], axis=1
        )
        points += 0.03 * rng.standard_normal((n, 2))
    elif name == "spiral":
        angle = 1.5 * np.pi * (1 + 2 * np.sqrt(rng.random(n)))
        points = (angle / (4.5 * np.pi))[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        points += 0.02 * rng.standard_normal((n, 2))
    else:
        column = rng.integers(4, size=n)
        row = 2 * rng.integers(2, size=n) + column % 2
        points = (np.stack([column, row], axis=1) + rng.random((n, 2))) / 2 - 1
    return torch.from_numpy(points.astype(np.float32))
