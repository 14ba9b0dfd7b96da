"""Images and 2-D points: where they come from, and the one place where they are scaled.

Images are held as uint8 (n, channels, 32, 32) and become float32 in [-1, 1] through `normalise` alone.
"""

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

ASSETS = Path(__file__).parent / "assets"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist

Split = Literal["train", "test"]
NAMES = ("fashion-mnist", "fashion-mnist-embedded")
TOYS = ("ring", "moons", "spiral", "checkerboard")
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
    """Load a data set of images, 28 x 28 padded with black to 32 x 32.

    Args:
        name: "fashion-mnist" (60,000 train and 10,000 test images) or "fashion-mnist-embedded" (10,000 and 2,000 of
            them, the first 1,000 and 200 of every class, shipped with the package).
        split: "train" or "test".
        folder: where the full set's four IDX files lie (gzipped or not). Without it: Debian's package
            dataset-fashion-mnist if installed, else a copy in the user's cache, downloaded once by torchvision.
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
    else:
        place = _full_set_folder(folder)
        source = str(place)
        pixels = _read_idx(place, f"{_IDX_PREFIX[split]}-images-idx3-ubyte")
        labels = _read_idx(place, f"{_IDX_PREFIX[split]}-labels-idx1-ubyte")
    if hashlib.sha256(pixels.tobytes()).hexdigest() != _SHA256[name, split]:
        raise ValueError(f"the {split} images in {source} are not those of {name}: their SHA-256 differs")
    if not quiet:
        tqdm.write(f"{name} {split}: {len(labels):,} images, {source}")
    padded = np.pad(pixels.reshape(-1, 28, 28), ((0, 0), (2, 2), (2, 2)))
    return Dataset(name, split, torch.from_numpy(padded)[:, None], torch.from_numpy(labels.astype(np.int64)), source)


def _full_set_folder(folder: str | Path | None) -> Path:
    if folder is not None:
        return Path(folder)
    if DEBIAN_FOLDER.is_dir():
        return DEBIAN_FOLDER
    from torchvision.datasets import FashionMNIST

    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ddpm"
    try:
        FashionMNIST(str(cache), download=True)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"Fashion-MNIST could not be downloaded to {cache} ({error}); name a folder with its IDX files, "
            'install Debian\'s dataset-fashion-mnist, or use "fashion-mnist-embedded"'
        ) from error
    return cache / "FashionMNIST" / "raw"


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


def read_image(path: str | Path, shape: tuple[int, int, int]) -> tuple[Tensor, str]:
    """A picture of any size and colours as uint8 (channels, height, width), and in words what was done to it.

    It is turned as its camera noted, laid on black where it is transparent, cut to its middle and shrunk; a smaller one
    is framed in black, as `load` does with garments.

    Args:
        path: any file that Pillow opens, of 8 or 16 bits.
        shape: what a model takes; 1 channel is grey, 3 are red, green and blue.

    Raises:
        ValueError: a folder, a file that is no whole picture, another number of channels.
        FileNotFoundError: there is no such file.
    """
    channels, height, width = shape
    if channels not in (1, 3):
        raise ValueError(f"shape is {shape}; pictures have 1 or 3 channels")
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder; name the pictures in it")
    mode = "L" if channels == 1 else "RGB"
    try:
        with Image.open(path) as file:
            frames, image = getattr(file, "n_frames", 1), ImageOps.exif_transpose(file)
        words = [f"{image.width} x {image.height}, {image.mode}"]
        if frames > 1:
            words.append(f"the first of {frames} frames")
        if image.mode not in ("1", "LA", "I", "I;16", "I;16B", "L", mode):
            words.append("made grey" if channels == 1 else "made RGB")
        if image.mode.startswith(("I", "F")):
            values = np.asarray(image)
            if image.mode == "F" or values.min() < 0 or values.max() > 65535:
                raise ValueError("its values are no grey levels of 8 or 16 bits")
            image = Image.fromarray((values / 257).round().astype(np.uint8))
            words.append("16 bits made 8")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
            words.append("laid on black")
        image = image.convert(mode)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no picture {path}") from error
    except Exception as error:  # a decoder may raise anything where a file is damaged
        raise ValueError(f"{path} is no picture that can be read ({error})") from error
    scale = max(1, min(image.width / width, image.height / height))
    cut = (min(image.width, round(scale * width)), min(image.height, round(scale * height)))
    if cut != image.size:
        words.append("cut to {} x {}".format(*cut))
        left, top = (image.width - cut[0]) // 2, (image.height - cut[1]) // 2
        image = image.crop((left, top, left + cut[0], top + cut[1]))
    if scale > 1:
        image = image.resize((width, height), Image.Resampling.LANCZOS)
        words.append(f"shrunk to {width} x {height}")
    elif image.size != (width, height):
        frame = Image.new(mode, (width, height))
        frame.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        image = frame
        words.append(f"framed to {width} x {height}")
    return torch.from_numpy(np.array(image).reshape(height, width, channels)).permute(2, 0, 1), "; ".join(words)


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
