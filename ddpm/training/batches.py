"""Which images a training step sees, and how they reach the device."""

import math
from collections.abc import Generator
from contextlib import closing
from functools import lru_cache

import torch
from torch import Tensor

from ddpm.data import Dataset
from ddpm.data.pictures import Pictures
from ddpm.data.workers import map_ahead
from ddpm.noise import ORDER, fold_in

__all__ = ["batches", "images_of_step", "labels_at"]


def images_of_step(seed: int, step: int, batch_size: int, n: int) -> Tensor:
    """Indices (batch_size,) of the images of a step: every image once an epoch, in an order of the epoch's own."""
    first, last = step * batch_size, (step + 1) * batch_size  # counted through all epochs
    epochs = range(first // n, math.ceil(last / n))
    return torch.cat([_order(seed, e, n)[max(0, first - e * n) : last - e * n] for e in epochs])


image_rows = images_of_step  # its name in version 0.1.0


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(fold_in(ORDER, seed, epoch))
    return torch.randperm(n, generator=generator, device="cpu")


def labels_at(dataset: Dataset | Pictures, seed: int, step: int, batch_size: int, rows: slice) -> Tensor:
    """The labels, int64 (images,), of the images that `batches` yields at a step."""
    return dataset.labels[images_of_step(seed, step, batch_size, len(dataset))[rows]].long()


def batches(
    dataset: Dataset | Pictures,
    seed: int,
    steps: range,
    batch_size: int,
    rows: slice,
    device: torch.device,
    workers: int,
) -> Generator[Tensor]:
    """The images of every step, on the device, as the data set holds them.

    Close the generator when the training ends, which ends its workers.

    Args:
        dataset: a `Dataset` is held on the device; `Pictures` are read by `workers` while the device computes.
        seed: seed of the images' order.
        steps: numbers of the steps.
        batch_size: images in a step, over all processes.
        rows: rows of the batch that this process takes.
        device: device that the images go to.
        workers: processes that read pictures; 0 reads them between steps.
    """
    indices = (images_of_step(seed, step, batch_size, len(dataset))[rows] for step in steps)
    if isinstance(dataset, Dataset):
        held = dataset.images.to(device)
        for chosen in indices:
            yield held[chosen.to(device)]
        return
    with closing(map_ahead(dataset.read, (chosen.tolist() for chosen in indices), workers)) as feed:
        try:
            for images in feed:
                yield torch.from_numpy(images).to(device)
        except (FileNotFoundError, ValueError) as error:  # gone, or damaged
            raise OSError(f"{error}; the last checkpoint stands, if there is one") from error
