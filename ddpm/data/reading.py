"""Read one picture as people have it, of any size and colours."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

__all__ = ["Shape", "read_image"]

#: (channels, height, width) of an image.
Shape = tuple[int, int, int]

_GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B")  # Pillow's modes of pictures without colours


def read_image(path: str | Path, shape: Shape) -> tuple[Tensor, str]:
    """Read a picture of any size and colours as an image of a given shape.

    It is turned upright as its camera noted, laid on black where it is transparent, cut to the middle and shrunk. A
    smaller one is framed in black, as `load` does with garments.

    Args:
        path: a file that Pillow opens, of 8 or 16 bits.
        shape: (channels, height, width) of the image; 1 channel is grey, 3 are red, green and blue.

    Returns:
        The image, uint8 (channels, height, width), and in words what was done to the picture.

    Raises:
        ValueError: `path` is a folder or cannot be read as a picture, or `shape` has another number of channels.
        FileNotFoundError: there is no such file.
    """
    channels, height, width = shape
    if channels not in (1, 3):
        raise ValueError(f"shape is {shape}; pictures have 1 or 3 channels")
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder; name the pictures in it")
    mode = "L" if channels == 1 else "RGB"
    try:
        image, found = _open(path)
        recoloured = _recolouring(image.mode, mode)
        image, reduced = _to_8_bits(image)
        image, flattened = _without_transparency(image)
        image = image.convert(mode)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no picture {path}") from error
    except Exception as error:  # a decoder may raise anything at a damaged file
        raise ValueError(f"{path} cannot be read as a picture ({error})") from error
    image, shrunk = _cut_and_shrink(image, width, height)
    image, framed = _framed(image, width, height)
    pixels = torch.from_numpy(np.array(image).reshape(height, width, channels)).permute(2, 0, 1)
    return pixels, "; ".join([*found, *recoloured, *reduced, *flattened, *shrunk, *framed])


# The steps of `read_image`. Each returns the new picture, and in words what it did; no words if it did nothing.


def _open(path: str | Path) -> tuple[Image.Image, list[str]]:
    """The first frame of a file, upright."""
    with Image.open(path) as file:
        frames = getattr(file, "n_frames", 1)
        image = ImageOps.exif_transpose(file)
    words = [f"{image.width} x {image.height}, {image.mode}"]
    if frames > 1:
        words.append(f"the first of {frames} frames")
    return image, words


def _recolouring(mode: str, wanted: str) -> list[str]:
    """In words, what a conversion to the wanted mode, "L" or "RGB", does to the colours."""
    if mode == wanted or mode in _GREY_MODES:
        return []
    return ["made grey" if wanted == "L" else "made RGB"]


def _to_8_bits(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Grey levels of 16 bits as 8."""
    if not image.mode.startswith(("I", "F")):
        return image, []
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError("its values are not grey levels of 8 or 16 bits")
    return Image.fromarray((values / 257).round().astype(np.uint8)), ["16 bits made 8"]


def _without_transparency(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The picture on black."""
    if not image.has_transparency_data:
        return image, []
    image = image.convert("RGBA")
    black = Image.new("RGBA", image.size, "black")
    return Image.alpha_composite(black, image), ["laid on black"]


def _cut_and_shrink(image: Image.Image, width: int, height: int) -> tuple[Image.Image, list[str]]:
    """The middle of the picture in the proportions of width x height, where it is larger; shrunk to them."""
    words = []
    scale = max(1, min(image.width / width, image.height / height))
    cut_width, cut_height = min(image.width, round(scale * width)), min(image.height, round(scale * height))
    if (cut_width, cut_height) != image.size:
        left, top = (image.width - cut_width) // 2, (image.height - cut_height) // 2
        image = image.crop((left, top, left + cut_width, top + cut_height))
        words.append(f"cut to {cut_width} x {cut_height}")
    if scale > 1:
        image = image.resize((width, height), Image.Resampling.LANCZOS)
        words.append(f"shrunk to {width} x {height}")
    return image, words


def _framed(image: Image.Image, width: int, height: int) -> tuple[Image.Image, list[str]]:
    """The picture in the middle of a black one of width x height."""
    if image.size == (width, height):
        return image, []
    frame = Image.new(image.mode, (width, height))
    frame.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return frame, [f"framed to {width} x {height}"]
