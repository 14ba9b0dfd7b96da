"""How the files in this folder were made: `python -m ddpm.assets.build subset | features | moments | judge`.

Two networks are frozen: running `features` or `judge` again would give other weights, and would change every distance
or accuracy that was ever printed. Their training is kept here as a record.
"""

import hashlib
import io
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ddpm import data, files
from ddpm.fast import has_fast_bfloat16
from ddpm.metrics.features import FeatureNetwork
from ddpm.metrics.features import features as frozen_features
from ddpm.metrics.judge import ConvMixer

__all__ = ["features", "judge", "main", "moments", "subset"]

BATCH = 128


def subset() -> None:
    """Save the first 1,000 train and 200 test images of every class, in the full set's order.

    It prints the hash of each split's pixels, which `ddpm.data.sets` holds them to.
    """
    arrays: dict[str, Any] = {}
    sizes: tuple[tuple[data.Split, int], ...] = (("train", 1000), ("test", 200))
    for split, per_class in sizes:
        full = data.load("fashion-mnist", split)
        keep = np.sort(np.concatenate([np.flatnonzero(full.labels == c)[:per_class] for c in range(10)]))
        arrays[f"{split}_images"] = full.images[keep, 0, 2:-2, 2:-2].numpy()
        arrays[f"{split}_labels"] = full.labels[keep].numpy().astype(np.uint8)
        print(split, hashlib.sha256(arrays[f"{split}_images"].tobytes()).hexdigest())
    files.write_atomically(data.ASSETS / "fashion-mnist-embedded.npz", _archive(arrays))


def _archive(arrays: Mapping[str, Any]) -> bytes:
    """The arrays as `numpy.savez_compressed` stores them, but in LZMA: a seventh smaller, and `numpy.load` reads it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, array)
    return content.getvalue()


def features() -> None:
    """Train the classifier on all 60,000 training images, whiten its features on them, and save it."""
    torch.manual_seed(0)
    train, test = data.load("fashion-mnist", "train"), data.load("fashion-mnist", "test")
    network = FeatureNetwork().to(memory_format=torch.channels_last)
    _train(network, network.logits, train, test, epochs=14)
    _whiten(network, train)
    print(files.save_tensors(data.ASSETS / "features.safetensors", network.state_dict()))


def judge() -> None:
    """Train a classifier of another kind on the 10,000 test images, and save it."""
    torch.manual_seed(0)
    train, test = data.load("fashion-mnist", "test"), data.load("fashion-mnist-embedded", "train")
    network = ConvMixer().to(memory_format=torch.channels_last)
    _train(network, network, train, test, epochs=20)
    print(files.save_tensors(data.ASSETS / "judge.safetensors", network.state_dict()))


def _train(
    network: nn.Module, logits: Callable[[Tensor], Tensor], train: data.Dataset, test: data.Dataset, epochs: int
) -> None:
    """Train a classifier by AdamW, and print after every epoch its accuracy on images that it does not train on."""
    in_bfloat16 = has_fast_bfloat16(torch.device("cpu"))
    steps = epochs * (len(train) // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps, pct_start=0.2)
    for epoch in range(epochs):
        network.train()
        batches = torch.randperm(len(train))[: len(train) // BATCH * BATCH].split(BATCH)
        for index in tqdm(batches, desc=f"epoch {epoch + 1} of {epochs}", mininterval=5):
            images = _augment(data.normalise(train.images[index]))
            with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
                scores = logits(images.to(memory_format=torch.channels_last))
            loss = F.cross_entropy(scores.float(), train.labels[index], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
        network.eval()
        print(f"accuracy {_accuracy(logits, test):.4f}", flush=True)


def _whiten(network: FeatureNetwork, train: data.Dataset) -> None:
    """Set the mean and the whitening matrix of the features to those of the training images."""
    network.eval()
    with torch.no_grad():
        real = torch.cat([network(data.normalise(chunk)) for chunk in train.images.split(500)]).double()
    variance, axes = torch.linalg.eigh(torch.cov(real.T))
    network.get_buffer("mean").copy_(real.mean(0))
    network.get_buffer("whitening").copy_(axes @ torch.diag(variance.rsqrt()) @ axes.T)


def moments() -> None:
    """Save the mean and the covariance of the frozen features of all real images, for each split."""
    tensors: dict[str, Tensor] = {}
    splits: tuple[data.Split, ...] = ("train", "test")
    for split in splits:
        real = frozen_features(data.normalise(data.load("fashion-mnist", split).images)).double()
        tensors |= {
            f"{split}.n": torch.tensor(len(real)),
            f"{split}.mean": real.mean(0),
            f"{split}.covariance": real.T.cov(),
        }
    print(files.save_tensors(data.ASSETS / "moments.safetensors", tensors))


def _augment(images: Tensor) -> Tensor:
    """Shift a batch by up to two pixels, and flip about half of its images."""
    dx, dy = torch.randint(-2, 3, (2,)).tolist()
    images = torch.roll(images, (dx, dy), dims=(2, 3))
    flip = torch.rand(len(images)) < 0.5
    return torch.where(flip[:, None, None, None], images.flip(3), images)


def _accuracy(logits: Callable[[Tensor], Tensor], test: data.Dataset) -> float:
    """The share of images that a network with these class scores classifies correctly."""
    with torch.no_grad():
        chunks = [logits(data.normalise(images)).argmax(1) for images in test.images.split(500)]
    return (torch.cat(chunks) == test.labels).float().mean().item()


MAKERS: dict[str, Callable[[], None]] = {"subset": subset, "features": features, "moments": moments, "judge": judge}


def main(names: Sequence[str]) -> None:
    """Make the file that is named, or say which there are."""
    if len(names) != 1 or names[0] not in MAKERS:
        sys.exit(f"usage: python -m ddpm.assets.build {' | '.join(MAKERS)}")
    MAKERS[names[0]]()


if __name__ == "__main__":
    main(sys.argv[1:])
