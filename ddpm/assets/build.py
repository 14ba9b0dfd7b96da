"""How the files in this folder were made: `python -m ddpm.assets.build subset | features | moments`.

The feature network is frozen: running `features` again would give other weights, and would change every distance that
was ever printed. Its training is kept here as a record.
"""

import sys
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ddpm import data, files
from ddpm.metrics.features import FeatureNetwork
from ddpm.metrics.features import features as frozen_features
from ddpm.settings import one_of

__all__ = ["features", "main", "moments", "subset"]

EPOCHS, BATCH = 14, 128


def subset() -> None:
    """Save the first 1,000 train and 200 test images of every class, in the full set's order."""
    arrays: dict[str, Any] = {}
    sizes: tuple[tuple[data.Split, int], ...] = (("train", 1000), ("test", 200))
    for split, per_class in sizes:
        full = data.load("fashion-mnist", split)
        keep = np.sort(np.concatenate([np.flatnonzero(full.labels == c)[:per_class] for c in range(10)]))
        arrays[f"{split}_images"] = full.images[keep, 0, 2:-2, 2:-2].numpy()
        arrays[f"{split}_labels"] = full.labels[keep].numpy().astype(np.uint8)
    np.savez_compressed(data.ASSETS / "fashion-mnist-embedded.npz", **arrays)


def features() -> None:
    """Train the classifier on all 60,000 training images, whiten its features on them, and save it."""
    torch.manual_seed(0)
    train, test = data.load("fashion-mnist", "train"), data.load("fashion-mnist", "test")
    network = FeatureNetwork().to(memory_format=torch.channels_last)
    _train(network, train, test)
    _whiten(network, train)
    print(files.save_tensors(data.ASSETS / "features.safetensors", network.state_dict()))


def _train(network: FeatureNetwork, train: data.Dataset, test: data.Dataset) -> None:
    """Train a classifier by AdamW, and print its test accuracy after every epoch."""
    steps = EPOCHS * (len(train) // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps, pct_start=0.2)
    for epoch in range(EPOCHS):
        network.train()
        batches = torch.randperm(len(train))[: len(train) // BATCH * BATCH].split(BATCH)
        for index in tqdm(batches, desc=f"epoch {epoch + 1} of {EPOCHS}", mininterval=5):
            images = _augment(data.normalise(train.images[index]))
            with torch.autocast("cpu", torch.bfloat16):
                logits = network.logits(images.to(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), train.labels[index], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
        print(f"test accuracy {_accuracy(network, test):.4f}", flush=True)


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
    files.save_tensors(data.ASSETS / "moments.safetensors", tensors)


def _augment(images: Tensor) -> Tensor:
    """Shift a batch by up to two pixels, and flip about half of its images."""
    dx, dy = torch.randint(-2, 3, (2,)).tolist()
    images = torch.roll(images, (dx, dy), dims=(2, 3))
    flip = torch.rand(len(images)) < 0.5
    return torch.where(flip[:, None, None, None], images.flip(3), images)


def _accuracy(network: FeatureNetwork, test: data.Dataset) -> float:
    """The share of test images that the network classifies correctly."""
    network.eval()
    with torch.no_grad():
        chunks = [network.logits(data.normalise(images)).argmax(1) for images in test.images.split(500)]
    return (torch.cat(chunks) == test.labels).float().mean().item()


def main(name: str) -> None:
    """Make one of the files."""
    makers = {"subset": subset, "features": features, "moments": moments}
    makers[one_of("file", name, list(makers))]()


if __name__ == "__main__":
    main(sys.argv[1])
