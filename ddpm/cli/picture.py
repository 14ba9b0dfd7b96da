"""Many images as one picture, as torchvision's `make_grid` lays them out.

torchvision itself takes over a second to import, of the three in which `ddpm sample` draws 64 garments.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

__all__ = ["picture_of"]


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
