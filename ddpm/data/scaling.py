"""The one place where images are scaled: grey levels uint8 to float32 in [-1, 1], and back.

>>> normalise(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)).tolist()
[[[[-1.0, 1.0]]]]
"""

import torch
from torch import Tensor

__all__ = ["check_range", "denormalise", "normalise"]


def normalise(images: Tensor) -> Tensor:
    """Grey levels uint8, any shape -> float32 in [-1, 1].

    Raises:
        TypeError: the images are no tensor of uint8.
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"images are {type(images).__name__}; normalise takes a tensor of torch.uint8")
    if images.dtype != torch.uint8:
        raise TypeError(f"images are {images.dtype}; normalise takes torch.uint8 (grey levels 0 to 255)")
    return images.float() / 127.5 - 1


def check_range(images: Tensor) -> None:
    """Raise `ValueError` unless all values lie in [-1, 1]. On a GPU nothing is checked."""
    if images.device.type != "cpu" or not images.numel():
        return  # on another device reading a value forces a synchronisation
    low, high = (value.item() for value in images.aminmax())
    if not (low >= -1 and high <= 1):
        raise ValueError(f"images lie in [{low:g}, {high:g}]; legal is [-1, 1], as `normalise` makes them")


def denormalise(x: Tensor) -> Tensor:
    """Images in [-1, 1], any shape -> grey levels uint8, rounded to the nearest and clipped.

    Raises:
        TypeError: the images are not floating point.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x is {type(x).__name__}; denormalise takes a tensor of images in [-1, 1]")
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}; denormalise takes floating-point images in [-1, 1]")
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
