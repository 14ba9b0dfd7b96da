"""Many images as one picture, as torchvision's `make_grid` lays them out; or one by one in a file.

torchvision itself takes over a second to import, of the three in which `ddpm sample` draws 64 garments.
"""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

__all__ = ["npz_of", "picture_of", "zip_of"]


def picture_of(images: "Tensor", columns: int, padding: int = 2) -> "Image.Image":
    """So many images in a row, with black pixels around each; one image alone has none around it.

    Args:
        images: (n, channels, height, width), grey levels uint8, with one channel or three.
        columns: how many stand in a row.
        padding: how many pixels lie between two images.
    """
    from einops import rearrange
    from PIL import Image
    from torch.nn.functional import pad

    if len(images) == 1:
        sheet = images[0]
    else:
        columns = min(columns, len(images))
        tiles = pad(images, (padding, 0, padding, 0, 0, 0, 0, -len(images) % columns))  # and black ones in the last row
        sheet = rearrange(tiles, "(row column) c h w -> c (row h) (column w)", column=columns)
        sheet = pad(sheet, (0, padding, 0, padding))
    return Image.fromarray(sheet.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())


def zip_of(images: "Tensor") -> bytes:
    """A zip of the images (n, channels, height, width), uint8, as PNGs in colour, 00000.png and so on."""
    from zipfile import ZipFile

    buffer, digits = io.BytesIO(), max(5, len(str(len(images) - 1)))
    with ZipFile(buffer, "w") as archive:
        for i in range(len(images)):
            with archive.open(f"{i:0{digits}}.png", "w") as file:
                picture_of(images[i : i + 1], 1).save(file, "PNG")
    return buffer.getvalue()


def npz_of(images: "Tensor") -> bytes:
    """NumPy's file of the images (n, channels, height, width), uint8: one array (n, height, width, 3), in colour."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy())
    return buffer.getvalue()
