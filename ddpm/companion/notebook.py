"""Read a notebook, where what is none is named; and make its figures small."""

import base64
import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image

from ddpm.messages import first_line

__all__ = ["read_notebook", "shrink_figures"]

#: What base64 and Pillow raise where bytes are no picture, or one too large to be read.
NO_PICTURE = (ValueError, OSError, SyntaxError, Image.DecompressionBombError)


def read_notebook(path: Path) -> Any:
    """The notebook in a file, brought to version 4 of its format.

    Raises:
        ValueError: the file is no notebook, or one that is damaged.
        FileNotFoundError: there is no such file.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except FileNotFoundError:
        raise
    except Exception as error:  # nbformat's own kinds, and of a file of other JSON whatever its reading runs into
        raise ValueError(f"{path} cannot be read as a notebook: {first_line(error)}") from error
    return notebook


def shrink_figures(notebook: Any) -> None:
    """Bring a notebook's figures to 128 colours: they take less than half the bytes, and the eye sees no difference.

    What can be seen through or moves stays as it is, and so does what is no picture.
    """
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                with suppress(*NO_PICTURE):
                    small = _with_few_colours(base64.b64decode(data["image/png"]))
                    data["image/png"] = base64.b64encode(small).decode()


def _with_few_colours(png: bytes) -> bytes:
    """A picture with a palette that keeps each colour close, also a rare one.

    A round of k-means moves each colour of the palette to the mean of those it stands for: else lines change theirs.
    """
    picture = Image.open(io.BytesIO(png))
    if picture.mode.startswith("I"):  # sixteen bits would be cut to eight
        return png
    if _is_see_through(picture) or getattr(picture, "is_animated", False):
        return png
    file = io.BytesIO()
    palette = picture.convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    palette.save(file, "PNG", optimize=True)
    return file.getvalue()


def _is_see_through(picture: Image.Image) -> bool:
    """Whether a picture can be seen through anywhere."""
    veiled = "A" in picture.getbands() and picture.getchannel("A").getextrema() != (255, 255)
    return veiled or "transparency" in picture.info
