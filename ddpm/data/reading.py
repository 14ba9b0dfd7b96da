"""Read one picture as people have it, of any size and colours."""

import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from ddpm.messages import in_a_line
from ddpm.settings import integers

__all__ = ["Picture", "Shape", "check_picture_shape", "read_image", "read_picture"]

#: (channels, height, width) of an image.
Shape = tuple[int, int, int]

_GREY_MODES = ("1", "L", "LA")  # Pillow's modes of pictures without colours
_UPRIGHT = {  # how a camera was held, as it notes it (EXIF 2.32, tag 0x0112), and what undoes it
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WHITES = {  # levels that may be white in a file of more than 8 bits
    1: "real levels up to 1 made 8 bits",
    255: "8 bits in a deeper file kept",
    4095: "12 bits made 8",
    65535: "16 bits made 8",
}


class Picture(NamedTuple):
    """An image, and what was done to the picture that it was."""

    #: uint8 (channels, height, width).
    pixels: Tensor
    #: What was done.
    words: list[str]
    #: Those of the words that rest on a guess.
    guesses: list[str]


def read_image(path: str | Path, shape: Shape) -> tuple[Tensor, str]:
    """Read a picture of any size and colours as an image of a given shape.

    It is turned upright as its camera noted, laid on black where it is transparent, cut to the middle and shrunk. A
    smaller one is framed in black, as `load` does with garments.

    Files of more than 8 bits seldom say which grey level is white. It is taken to be 255, 4095 or 65535: the least that
    no level of the picture is above. Real levels may lie in [0, 1], too.

    Args:
        path: a file that Pillow opens.
        shape: (channels, height, width) of the image; 1 channel is grey, 3 are red, green and blue.

    Returns:
        The image, uint8 (channels, height, width), and in words what was done to the picture.

    Raises:
        TypeError: `path` is no name of a file.
        ValueError: `path` is a folder or cannot be read as a picture, or `shape` is no shape of a picture.
        FileNotFoundError: there is no such file.
    """
    picture = read_picture(path, shape)
    return picture.pixels, "; ".join(picture.words)


def read_picture(path: str | Path, shape: Shape) -> Picture:
    """Read a picture as `read_image` does; here the words come one by one."""
    channels, height, width = check_picture_shape(shape)
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path is {path!r}; it must be the name of a file")
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder; name the pictures in it")
    mode = "L" if channels == 1 else "RGB"
    try:
        with warnings.catch_warnings(action="ignore"):  # Pillow's, of a camera's notes that are damaged
            image, found, guesses = _open(path)
        recoloured = _recolouring(image.mode, mode)
        image, flattened = _without_transparency(image)
        image = image.convert(mode)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no picture {path}") from error
    except Exception as error:  # a decoder may raise anything at a damaged file
        raise ValueError(f"{path} cannot be read as a picture ({in_a_line(error)})") from error
    image, shrunk = _cut_and_shrink(image, width, height)
    image, framed = _framed(image, width, height)
    pixels = torch.from_numpy(np.array(image).reshape(height, width, channels)).permute(2, 0, 1)
    return Picture(pixels, [*found, *recoloured, *guesses, *flattened, *shrunk, *framed], guesses)


def check_picture_shape(shape: Any) -> Shape:
    """`shape`, which must be (channels, height, width) with 1 or 3 channels, as a tuple of Python's integers."""
    numbers = integers("shape", shape, at_least=1)
    if len(numbers) != 3:
        raise ValueError(f"shape is {shape}; it must be (channels, height, width)")
    channels, height, width = numbers
    if channels not in (1, 3):
        raise ValueError(f"shape is {shape}, where channels is {channels}; pictures have 1 or 3 channels")
    return channels, height, width


# The steps of `read_picture`. Each returns the new picture, and in words what it did; no words if it did nothing.


def _open(path: str | Path) -> tuple[Image.Image, list[str], list[str]]:
    """The first frame of a file, upright and of 8 bits; in words, what was found, and what was guessed."""
    with Image.open(path) as file:
        frames = 1 if file.format == "JPEG" else _frames(path)
        deep_colours = ";16" in str(file.tile) and not file.mode.startswith("I")
        file.load()
        if deep_colours:
            _check_deep_colours(file)
        image, reduced = _to_8_bits(file)
        image, turned = _turned(image, _orientation(file))
    words = [f"{image.width} x {image.height}, {file.mode}"]
    if frames > 1:
        words.append(f"the first of {frames} frames")
    return image, words, [*reduced, *turned]


def _frames(path: str | Path) -> int:
    """How many pictures a file holds, as far as can be told; it is opened anew, as counting moves to other pictures."""
    with Image.open(path) as file:
        try:
            return int(getattr(file, "n_frames", 1))
        except Exception:  # a later one is damaged
            return 1


def _orientation(file: Image.Image) -> Any:
    """What a file notes as its orientation: 1 if it notes none, and None if its notes are damaged."""
    try:
        return file.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow may raise anything there
        return None


def _turned(image: Image.Image, orientation: Any) -> tuple[Image.Image, list[str]]:
    """The picture upright."""
    if not isinstance(orientation, int) or orientation not in _UPRIGHT:
        return image, ["not turned, as its orientation is illegible"]
    method = _UPRIGHT[orientation]
    return (image if method is None else image.transpose(method)), []


def _recolouring(mode: str, wanted: str) -> list[str]:
    """In words, what a conversion to the wanted mode, "L" or "RGB", does to the colours."""
    if mode == wanted or mode in _GREY_MODES:
        return []
    return ["made grey" if wanted == "L" else "made RGB"]


def _to_8_bits(file: Image.Image) -> tuple[Image.Image, list[str]]:
    """Grey levels of more bits as 8, and white as the largest."""
    if not file.mode.startswith(("I", "F")):
        return file, []
    levels = np.asarray(file, dtype=np.float64)
    has_12_bits = _tag(file, ExifTags.Base.BitsPerSample) == (12,)
    white = 4095 if has_12_bits else _white(levels, real=file.mode == "F")
    if _tag(file, ExifTags.Base.PhotometricInterpretation) == 0:
        levels = white - levels
    return Image.fromarray((levels / (white / 255)).round().clip(0, 255).astype(np.uint8)), [_WHITES[white]]


def _tag(file: Image.Image, number: int) -> Any:
    """What a TIFF file says under a number; None if it says nothing or is another file."""
    return getattr(file, "tag_v2", {}).get(number)


def _white(levels: np.ndarray, *, real: bool) -> int:
    """The level of white in a picture whose levels are integers, or `real` and perhaps a little beyond their range."""
    low, high = float(levels.min()), float(levels.max())
    whites, slack = [255, 4095, 65535], 0.0
    if real:
        slack = 0.01
        if high < 16:
            whites = [1] if high > 0 else []
    for white in whites:
        if -slack * white <= low and high <= (1 + slack) * white:
            return white
    legal = "not grey levels of 8 or 16 bits, nor real ones from 0 to 1"
    raise ValueError(f"its values lie in [{low:g}, {high:g}] and are {legal}")


def _check_deep_colours(file: Image.Image) -> None:
    """Raise `ValueError` if colours of 16 bits keep to the lowest 12: Pillow reads the highest 8, nearly black."""
    extrema: Any = file.getextrema()
    bands = [extrema] if len(file.getbands()) == 1 else extrema
    if max(high for band, (_, high) in zip(file.getbands(), bands, strict=True) if band != "A") < 16:
        raise ValueError(
            "its colours use 12 of their 16 bits at most; Pillow reads the highest 8, which are nearly black"
        )


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
