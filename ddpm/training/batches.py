"""Which images a training step sees, and how they reach the device."""

import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ddpm.data import Dataset
from ddpm.data.pictures import Pictures
from ddpm.noise import ORDER, fold_in

__all__ = ["batches", "image_rows"]


def image_rows(seed: int, step: int, batch_size: int, n: int) -> Tensor:
    """Indices (batch_size,) of the images of a step: every image once an epoch, in an order of the epoch's own."""
    return torch.stack([_order(seed, i // n, n)[i % n] for i in range(step * batch_size, (step + 1) * batch_size)])


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(fold_in(ORDER, seed, epoch)))


def batches(
    dataset: Dataset | Pictures,
    seed: int,
    steps: range,
    batch_size: int,
    rows: slice,
    device: torch.device,
    workers: int,
) -> Generator[Tensor]:
    """The uint8 images of every step, on the device.

    Close the generator when the training ends: its workers ignore SIGTERM, and the program waits for them.

    Args:
        dataset: a `Dataset` is held on the device; `Pictures` are read by `workers` while the device computes.
        seed: seed of the images' order.
        steps: numbers of the steps.
        batch_size: images in a step, over all processes.
        rows: rows of the batch that this process takes.
        device: device that the images go to.
        workers: processes that read pictures; 0 reads them between steps.
    """
    indices = (image_rows(seed, step, batch_size, len(dataset))[rows] for step in steps)
    if isinstance(dataset, Dataset):
        images = dataset.images.to(device)
        for chosen in indices:
            yield images[chosen.to(device)]
        return
    loader: DataLoader[Tensor] = DataLoader(
        dataset,
        batch_sampler=(chosen.tolist() for chosen in indices),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=ignore_signals,
        generator=torch.Generator(),
    )
    with held_signals():
        iterator = iter(loader)
    try:
        for batch in iterator:
            yield batch.to(device, non_blocking=True)
    except (ValueError, FileNotFoundError) as error:
        last_line = str(error).splitlines()[-1]  # a worker's error has its whole traceback in its text
        raise ValueError(last_line.removeprefix(f"{type(error).__name__}: ")) from error
    finally:
        if workers > 0:
            # At once: an exception's traceback would keep the workers, which ignore SIGTERM, and the program with them.
            iterator._shutdown_workers()  # type: ignore[attr-defined]


@contextmanager
def held_signals() -> Iterator[None]:
    """A context in which Ctrl-C and SIGTERM wait, here and in the processes that begin in it, until they are ignored.

    A worker could be ended by them before `ignore_signals`, and the training with it.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals(_: int) -> None:
    """Leave Ctrl-C and SIGTERM, which reach workers too, to the training; a worker ends when the training does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
