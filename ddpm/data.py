"""Images and 2-D points: where they come from, and the one place where they are scaled.

Images are held as uint8 (n, channels, height, width) and become float32 in [-1, 1] through `normalise` alone.

>>> normalise(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)).tolist()
[[[[-1.0, 1.0]]]]
"""

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

ASSETS = Path(__file__).parent / "assets"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist

Split = Literal["train", "test"]
TORCHVISION = {"mnist": "MNIST", "kmnist": "KMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}  # its classes
#: The data sets that `load` knows by name.
NAMES = ("fashion-mnist", "fashion-mnist-embedded", *TORCHVISION)
TOYS = ("ring", "moons", "spiral", "checkerboard")
#: The ten classes of Fashion-MNIST, by label.
CLASSES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"
)  # fmt: skip

_IDX_PREFIX = {"train": "train", "test": "t10k"}
_SHA256 = {  # of the 28 x 28 pixels, uncompressed
    ("fashion-mnist", "train"): "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
    ("fashion-mnist", "test"): "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
    ("fashion-mnist-embedded", "train"): "e1427044c614fabc29feeff0f27e6b68f88a9ee2f2cfe7d783b9157159864883",
    ("fashion-mnist-embedded", "test"): "96315b1732ab731e68b8def3c284f34b605f7deb7a61e683c7d786265c827c83",
}


@dataclass(frozen=True)
class Dataset:
    """Images uint8 (n, channels, height, width), labels int64 (n,), and where they were read from."""

    name: str
    split: str
    images: Tensor
    labels: Tensor
    source: str

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return tuple(self.images.shape[1:])  # type: ignore[return-value]


def normalise(images: Tensor) -> Tensor:
    """uint8 images -> float32 in [-1, 1]."""
    if images.dtype != torch.uint8:
        raise TypeError(f"images are {images.dtype}; normalise takes torch.uint8 (grey levels 0 to 255)")
    return images.float() / 127.5 - 1


def check_range(images: Tensor) -> None:
    """Raise `ValueError` unless all values lie in [-1, 1]; on a GPU, which would have to wait, look at none."""
    if images.device.type != "cpu":
        return
    low, high = (value.item() for value in images.aminmax())
    if not (low >= -1 and high <= 1):
        raise ValueError(f"images lie in [{low:g}, {high:g}]; legal is [-1, 1], as `normalise` makes them")


def denormalise(x: Tensor) -> Tensor:
    """Images in [-1, 1] -> uint8, rounded to the nearest grey level and clipped."""
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}; denormalise takes floating-point images in [-1, 1]")
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def load(name: str, split: Split = "train", folder: str | Path | None = None, *, quiet: bool = False) -> Dataset:
    """Load a data set of images 32 x 32; of 28 x 28 they are padded with black.

    Args:
        name: "fashion-mnist" (60,000 train and 10,000 test images); "fashion-mnist-embedded" (10,000 and 2,000 of
            them, the first 1,000 and 200 of every class, shipped with the package); or torchvision's "mnist", "kmnist",
            "cifar10" and "cifar100".
        split: "train" or "test".
        folder: where the files lie: Fashion-MNIST's four IDX files (gzipped or not), or what torchvision keeps in its
            `root`. Without it: for Fashion-MNIST Debian's package dataset-fashion-mnist if installed; else a copy in
            the user's cache, downloaded once by torchvision.
        quiet: do not print where the images came from.

    Raises:
        ValueError: an unknown name or split, or files that are not Fashion-MNIST's.
        FileNotFoundError: a folder without the files.
    """
    if name not in NAMES:
        raise ValueError(f"data set is {name!r}; legal are {', '.join(NAMES)}")
    if split not in _IDX_PREFIX:
        raise ValueError(f"split is {split!r}; legal are train, test")
    if name == "fashion-mnist-embedded":
        source = "embedded in the package"
        with np.load(ASSETS / "fashion-mnist-embedded.npz") as file:
            pixels, labels = file[f"{split}_images"], file[f"{split}_labels"]
    elif name in TORCHVISION:
        return _torchvision_set(name, split, folder, quiet)
    else:
        place = Path(folder) if folder is not None else _fashion_mnist_folder()
        source = str(place)
        pixels = _read_idx(place, f"{_IDX_PREFIX[split]}-images-idx3-ubyte")
        labels = _read_idx(place, f"{_IDX_PREFIX[split]}-labels-idx1-ubyte")
    if hashlib.sha256(pixels.tobytes()).hexdigest() != _SHA256[name, split]:
        raise ValueError(f"the {split} images in {source} are not those of {name}: their SHA-256 differs")
    if not quiet:
        tqdm.write(f"{name} {split}: {len(labels):,} images, {source}")
    padded = np.pad(pixels.reshape(-1, 28, 28), ((0, 0), (2, 2), (2, 2)))
    return Dataset(name, split, torch.from_numpy(padded)[:, None], torch.from_numpy(labels.astype(np.int64)), source)


def cache_folder() -> Path:
    """Where this package keeps what it can fetch or find out again."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ddpm"


def _fashion_mnist_folder() -> Path:
    if DEBIAN_FOLDER.is_dir():
        return DEBIAN_FOLDER
    instead = "name a folder with its IDX files, install Debian's dataset-fashion-mnist"
    _torchvision("FashionMNIST", "train", None, f'{instead}, or use "fashion-mnist-embedded"')
    return cache_folder() / "FashionMNIST" / "raw"


def _torchvision_set(name: str, split: Split, folder: str | Path | None, quiet: bool) -> Dataset:
    found = _torchvision(TORCHVISION[name], split, folder, "name the folder that holds torchvision's copy")
    images = torch.as_tensor(found.data)
    images = images.permute(0, 3, 1, 2).contiguous() if images.ndim == 4 else F.pad(images[:, None], (2, 2, 2, 2))
    if not quiet:
        tqdm.write(f"{name} {split}: {len(images):,} images, {found.root}")
    return Dataset(name, split, images, torch.as_tensor(found.targets), str(found.root))


def _torchvision(what: str, split: Split, folder: str | Path | None, instead: str) -> Any:
    from torchvision import datasets

    root = cache_folder() if folder is None else Path(folder)
    try:
        return getattr(datasets, what)(str(root), train=split == "train", download=folder is None)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise FileNotFoundError(f"{what} is not in {root}, or could not be downloaded ({reason}); {instead}") from error


def _read_idx(folder: Path, name: str) -> np.ndarray:
    """The bytes of an IDX file (a big-endian header of 4 bytes and 4 a dimension, then the values)."""
    for path, opener in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
        if path.is_file():
            try:
                with opener(path, "rb") as file:
                    content = file.read()
                return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * content[3])
            except (EOFError, IndexError, ValueError, gzip.BadGzipFile, zlib.error) as error:
                raise ValueError(f"{path} is damaged: {error}") from error
    raise FileNotFoundError(f"{folder} holds neither {name} nor {name}.gz")


def toy(name: str, n: int, seed: int = 0) -> Tensor:
    """`n` points (n, 2), float32, within about [-1, 1]: "ring" (eight Gaussians), "moons", "spiral", "checkerboard"."""
    if name not in TOYS:
        raise ValueError(f"toy is {name!r}; legal are {', '.join(TOYS)}")
    rng = np.random.default_rng(seed)
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
