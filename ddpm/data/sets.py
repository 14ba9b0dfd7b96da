"""The data sets that have names: where their images come from, and how they are read.

Images are uint8 (n, channels, height, width); `ddpm.data.scaling` brings them to [-1, 1].
"""

import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ddpm.arguments import check_finite, class_names
from ddpm.files import expanded
from ddpm.messages import in_a_line, say
from ddpm.settings import one_of

__all__ = ["ASSETS", "CLASSES", "DEBIAN_FOLDER", "NAMES", "Dataset", "Split", "cache_folder", "load"]

#: Folder of the files that ship with the package.
ASSETS = Path(__file__).parents[1] / "assets"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist

Split = Literal["train", "test"]
TORCHVISION = {"mnist": "MNIST", "kmnist": "KMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}  # its classes
#: The data sets that `load` knows by name.
NAMES = ("fashion-mnist", "fashion-mnist-embedded", *TORCHVISION)
#: The ten classes of Fashion-MNIST, by label.
CLASSES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"
)  # fmt: skip

_IDX_OF_BYTES = b"\0\0\x08"  # how such a file begins
_IDX_PREFIX = {"train": "train", "test": "t10k"}
_SHA256 = {  # of the 28 x 28 pixels, uncompressed
    ("fashion-mnist", "train"): "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
    ("fashion-mnist", "test"): "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
    ("fashion-mnist-embedded", "train"): "e1427044c614fabc29feeff0f27e6b68f88a9ee2f2cfe7d783b9157159864883",
    ("fashion-mnist-embedded", "test"): "96315b1732ab731e68b8def3c284f34b605f7deb7a61e683c7d786265c827c83",
}


@dataclass(frozen=True, eq=False)  # comparing tensors answers a tensor
class Dataset:
    """The images of one split of a data set. `dataset[i]` is an image and its label, as torch's data sets have it.

    Attributes:
        name: of the data set.
        split: "train" or "test".
        images: (n, channels, height, width): grey levels uint8, which training brings to [-1, 1]; or float32, such as
            latents, which are learnt as they are.
        labels: int64 (n,).
        source: where the images were read from, for people.
        former_names: other names that records of the same data have.
        classes: names of the classes, by label; empty where the images have none.

    Raises:
        TypeError: images or labels are no tensors, the images neither uint8 nor float32, or the classes are no names.
        ValueError: there is no image, they have another number of axes, or the labels are not as many; or images of
            float32 are not finite, all from 0 up, or carry a gradient.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    source: str
    former_names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("images", "labels"):
            if not isinstance(value := getattr(self, name), Tensor):
                raise TypeError(f"{name} are {type(value).__name__}; they must be a tensor")
        if self.images.dtype not in (torch.uint8, torch.float32):
            raise TypeError(
                f"images are {self.images.dtype}; they must be torch.uint8 (grey levels 0 to 255), "
                "or torch.float32 where they are to be learnt as they are"
            )
        shape = tuple(self.images.shape)
        if len(shape) != 4 or not all(shape):
            raise ValueError(f"images have shape {shape}; it must be (n, channels, height, width), none of them 0")
        if self.images.is_floating_point():
            check_scaled(self.images)
        if self.images.requires_grad:
            raise ValueError("images carry a gradient, as of a network that has coded them; give images.detach()")
        if self.labels.shape != shape[:1]:
            raise ValueError(
                f"labels have shape {tuple(self.labels.shape)}; it must be ({len(self)},), one for each image"
            )
        object.__setattr__(self, "classes", class_names(self.classes))  # a tuple, whatever it was
        check_labels_of_classes(self.labels, self.classes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.images[i], self.labels[i]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return tuple(self.images.shape[1:])  # type: ignore[return-value]

    def sha256(self, with_labels: bool) -> str:
        """The SHA-256 of all pixels in the images' order, and of the labels behind them if these count, in hex."""
        digest = hashlib.sha256()
        for piece in (*self.images.split(1000), *([self.labels] if with_labels else [])):
            digest.update(piece.cpu().contiguous().numpy())
        return digest.hexdigest()


def check_scaled(images: Tensor) -> None:
    """Raise `ValueError` unless these floats are finite and lie around 0, which grey levels do not."""
    check_finite("images", images)
    low, high = (value.item() for value in images.aminmax())
    if low >= 0:
        raise ValueError(
            f"images are floats from {low:g} to {high:g}; floats are learnt as they are and must lie around 0: "
            "bring grey levels to [-1, 1], or make them torch.uint8 (0 to 255)"
        )


def check_labels_of_classes(labels: Tensor, classes: Sequence[str]) -> None:
    """Where there are classes, raise `TypeError` or `ValueError` unless labels are integers, each the number of one."""
    if classes and (labels.is_floating_point() or labels.dtype == torch.bool):
        raise TypeError(f"labels are {labels.dtype}; they must be integers")
    if classes and not 0 <= labels.min() <= labels.max() < len(classes):
        low, high = labels.min().item(), labels.max().item()
        raise ValueError(f"labels are from {low} to {high}; legal are 0 to {len(classes) - 1}, one for each class")


def load(name: str, split: Split = "train", folder: str | Path | None = None, *, quiet: bool = False) -> Dataset:
    """Load a data set of 32 x 32 images; images of 28 x 28 are padded with black.

    Args:
        name: "fashion-mnist" (60,000 train and 10,000 test images); "fashion-mnist-embedded" (10,000 and 2,000 of
            them, the first 1,000 and 200 of every class, which ship with the package); or torchvision's "mnist",
            "kmnist", "cifar10" and "cifar100".
        split: "train" or "test".
        folder: the folder with the files: Fashion-MNIST's four IDX files (gzipped or not), or what torchvision keeps in
            its `root`. If it is None, Fashion-MNIST is read from Debian's package dataset-fashion-mnist if that is
            installed; everything else is read from the user's cache, to which torchvision downloads it once.
        quiet: do not print where the images came from.

    Raises:
        TypeError: `folder` is no name of a folder.
        ValueError: an unknown name or split, or files that are damaged or not the data set's.
        FileNotFoundError: the folder holds no such files, or they could not be downloaded.
    """
    if isinstance(name, str) and name.startswith("folder:"):
        raise ValueError(f"data set is {name!r}; pictures of a folder are loaded by ddpm.data.pictures.load_folder")
    one_of("data set", name, NAMES)
    one_of("split", split, list(_IDX_PREFIX))
    if not isinstance(folder, str | os.PathLike | None):
        raise TypeError(f"folder is {folder!r}; it must be the name of a folder")
    if name in TORCHVISION:
        return _torchvision_set(name, split, folder, quiet)
    if name == "fashion-mnist-embedded":
        if folder is not None:
            raise ValueError(f"folder is {str(folder)!r}; {name} is in the package and has none")
        source = "embedded in the package"
        pixels, labels = _embedded(split)
    else:
        place = expanded(folder) if folder is not None else _fashion_mnist_folder()
        source = str(place)
        pixels = _read_idx(place, f"{_IDX_PREFIX[split]}-images-idx3-ubyte")
        labels = _read_idx(place, f"{_IDX_PREFIX[split]}-labels-idx1-ubyte")
    if hashlib.sha256(pixels.tobytes()).hexdigest() != _SHA256[name, split]:
        raise ValueError(f"the {split} images in {source} are not those of {name}: their SHA-256 differs")
    if len(labels) != pixels.size // 28**2 or labels.max() >= len(CLASSES):
        raise ValueError(f"the {split} labels in {source} are not those of {name}: they must be as many, from 0 to 9")
    if not quiet:
        say(f"{name} {split}: {len(labels):,} images, {source}")
    padded = np.pad(pixels.reshape(-1, 28, 28), ((0, 0), (2, 2), (2, 2)))
    images, numbers = torch.from_numpy(padded)[:, None], torch.from_numpy(labels.astype(np.int64))
    return Dataset(name, split, images, numbers, source, classes=CLASSES)


def cache_folder() -> Path:
    """Where this package keeps what it can fetch or compute again.

    It is the user's cache, `XDG_CACHE_HOME` or ~/.cache; where there is no such folder and none can be made, as in a
    container of a user without a home, it lies in the system's folder for temporary files.
    """
    places = [os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")]  # "~" stays where no home is known
    folders = [Path(place, "ddpm") for place in places if os.path.isabs(place)]  # others are void, says XDG
    user = os.getuid() if hasattr(os, "getuid") else 0  # Windows has no such number
    temporary = Path(os.environ.get("TMPDIR") or "/tmp", f"ddpm-{user}")
    return next((folder for folder in folders if _is_or_can_be_made(folder)), temporary)


def _is_or_can_be_made(folder: Path) -> bool:
    if os.path.isdir(folder):
        return True
    existing = next((parent for parent in folder.parents if os.path.lexists(parent)), "")
    return os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK)


def _fashion_mnist_folder() -> Path:
    """The folder with Fashion-MNIST's IDX files; they are downloaded if need be."""
    if DEBIAN_FOLDER.is_dir():
        return DEBIAN_FOLDER
    instead = "name a folder with its IDX files, install Debian's dataset-fashion-mnist"
    _torchvision("FashionMNIST", "train", None, f'{instead}, or use "fashion-mnist-embedded"')
    return cache_folder() / "FashionMNIST" / "raw"


@cache
def _embedded(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 (n, 28, 28) and labels uint8 (n,) of the embedded images, unpacked once; nobody writes to them."""
    with np.load(ASSETS / "fashion-mnist-embedded.npz") as file:
        return file[f"{split}_images"], file[f"{split}_labels"]


def _torchvision_set(name: str, split: Split, folder: str | Path | None, quiet: bool) -> Dataset:
    found = _torchvision(TORCHVISION[name], split, folder, "name the folder that holds torchvision's copy")
    images = torch.as_tensor(found.data, device="cpu")
    images = images.permute(0, 3, 1, 2).contiguous() if images.ndim == 4 else F.pad(images[:, None], (2, 2, 2, 2))
    if not quiet:
        say(f"{name} {split}: {len(images):,} images, {found.root}")
    classes = tuple(str(name).split(" - ")[0] for name in found.classes)  # of mnist "0 - zero" and so on
    return Dataset(name, split, images, torch.as_tensor(found.targets, device="cpu"), str(found.root), classes=classes)


def _torchvision(what: str, split: Split, folder: str | Path | None, instead: str) -> Any:
    """One of torchvision's data sets; an error says what to do `instead`."""
    from torchvision import datasets

    root = cache_folder() if folder is None else Path(folder)
    try:
        return getattr(datasets, what)(str(root), train=split == "train", download=folder is None)
    except (OSError, RuntimeError) as error:
        reason = in_a_line(error)
        raise FileNotFoundError(f"{what} is not in {root}, or could not be downloaded ({reason}); {instead}") from error
    except Exception as error:  # its readers may raise anything at a damaged file
        raise ValueError(f"{what} in {root} is damaged ({in_a_line(error)}); {instead}") from error


def _read_idx(folder: Path, name: str) -> np.ndarray:
    """The values of an IDX file, after its header of 4 bytes and 4 more for each dimension; gzipped or not.

    The header's fourth byte is the number of dimensions, and their sizes follow: http://yann.lecun.com/exdb/mnist.
    """
    for path, opener in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
        if os.path.isfile(path):
            try:
                with opener(path, "rb") as file:
                    content = file.read()
            except (EOFError, OSError, zlib.error) as error:
                raise ValueError(f"{path} is damaged: {error}") from error
            header = 4 + 4 * int.from_bytes(content[3:4])
            if content[:3] != _IDX_OF_BYTES or len(content) < header:
                raise ValueError(f"{path} is damaged: it does not begin with the header of an IDX file of bytes")
            promised = header + math.prod(int.from_bytes(content[i : i + 4]) for i in range(4, header, 4))
            if len(content) != promised:
                raise ValueError(
                    f"{path} is damaged: it holds {len(content):,} bytes where its header promises {promised:,}"
                )
            return np.frombuffer(content, dtype=np.uint8, offset=header)
    raise FileNotFoundError(f"{folder} holds neither {name} nor {name}.gz")
