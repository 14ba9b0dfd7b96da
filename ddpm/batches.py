"""Which images a training step sees, and how they come to the device."""

import signal
from collections.abc import Generator
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ddpm.data import Dataset
from ddpm.noise import mix
from ddpm.pictures import Pictures


def image_rows(seed: int, step: int, batch_size: int, n: int) -> Tensor:
    """Indices (batch_size,) of the images of a step: every image once an epoch, in an order of the epoch's own."""
    return torch.stack([_order(seed, i // n, n)[i % n] for i in range(step * batch_size, (step + 1) * batch_size)])


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(mix(2, seed, epoch)))


def batches(
    dataset: Dataset | Pictures,
    seed: int,
    steps: range,
    batch_size: int,
    part: slice,
    device: torch.device,
    workers: int,
) -> Generator[Tensor]:
    """The uint8 images of every step, on the device.

    Close it when it is not wanted any more: its workers do not hear SIGTERM, and a program waits for them.

    Args:
        dataset: a `Dataset` is held on the device; `Pictures` are read by `workers` while the device computes.
        seed: of the order.
        steps: numbers of the steps.
        batch_size: images a step, over all processes.
        part: of a batch, what this process takes.
        device: where the images are wanted.
        workers: processes that read pictures; 0 reads them between steps.
    """
    rows = (image_rows(seed, step, batch_size, len(dataset))[part] for step in steps)
    if isinstance(dataset, Dataset):
        images = dataset.images.to(device)
        for chosen in rows:
            yield images[chosen.to(device)]
        return
    loader: DataLoader[Tensor] = DataLoader(
        dataset,
        batch_sampler=(chosen.tolist() for chosen in rows),  # type: ignore[arg-type]
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=deaf,
        generator=torch.Generator(),
    )
    try:
        for batch in loader:
            yield batch.to(device, non_blocking=True)
    except (ValueError, FileNotFoundError) as error:  # a worker's, with its whole traceback in its text
        raise ValueError(str(error).splitlines()[-1]) from error


def deaf(_: int) -> None:
    """Leave Ctrl-C and SIGTERM, which reach the workers too, to the training; a worker ends when it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
