"""The sizes of a UNet's feature maps, traced from the live network and by algebra, in four conventions.

>>> [(row.role, row.width, row.channels) for row in feature_maps(UNetConfig(base_channels=32), 32)][:4]
[('down', 32, 32), ('down', 16, 64), ('down', 8, 128), ('middle', 8, 128)]
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ddpm.arguments import instance
from ddpm.settings import one_of
from ddpm.unet.config import UNetConfig
from ddpm.unet.network import Level, UNet

__all__ = ["CONVENTIONS", "FeatureMap", "Report", "Role", "feature_maps", "receptive_field", "shapes"]

Report = Literal["block", "resampled"]
Role = Literal["down", "middle", "up"]


@dataclass(frozen=True)
class FeatureMap:
    """The feature map that a level of a UNet, or its middle, passes on.

    Attributes:
        name: name of the module in the network, such as "down.0".
        role: "down", "middle" or "up".
        height: height of the map, in its own pixels.
        width: width of the map, in its own pixels.
        channels: channels of the map.
        parameters: number of weights in the whole level, including its resampling.
        flops: floating-point operations of the level's convolutions and matrix products for one image; a multiplication
            and an addition count as two.
        receptive_field: side, in pixels of the image, of the square that one pixel of the map sees through convolutions
            (Araujo et al. 2019). Attention and GroupNorm see the whole map and are left out.
    """

    name: str
    role: Role
    height: int
    width: int
    channels: int
    parameters: int
    flops: int
    receptive_field: int


def feature_maps(
    config: UNetConfig | None = None, image_size: int | tuple[int, int] = 32, report: Report = "block"
) -> list[FeatureMap]:
    """The feature maps of a UNet, in the order in which they are computed: one for each level and one for the middle.

    They are read off a forward pass on torch's meta device, which computes shapes but no values, so that any size takes
    milliseconds and no memory.

    Args:
        config: the network's shape.
        image_size: height and width of the image, or the one number that is both.
        report: where a level is read. "block" reads it after its last block; "resampled" after its halving or doubling,
            where that comes last.

    Raises:
        ValueError: `report` is not legal, or the image does not fit the network; the message names the nearest sizes
            that do.
    """
    config = config if config is not None else UNetConfig()
    size = _checked(config, image_size, report)
    with torch.device("meta"):
        network = UNet(config)
        x, t = torch.empty(1, config.channels, *size, dtype=network.conv_in.weight.dtype), torch.empty(1)
    seen: dict[str, tuple[torch.Size, int]] = {}
    path: list[nn.Module] = []  # convolutions and doublings so far, along the longest path

    def follow(module: nn.Module, _: Any, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d | nn.Upsample):
            path.append(module)

    def read(name: str) -> Callable[..., None]:
        def note(module: nn.Module, _: Any, output: Tensor) -> None:
            seen[name] = output.shape, receptive_field(path)

        return note

    for module in network.modules():
        module.register_forward_hook(follow)
    for way, levels in (("down", network.down), ("up", network.up)):
        for i, level in enumerate(cast(list[Level], levels)):
            last = level.attentions[-1]
            if report == "resampled" and level.resample and not (way == "up" and config.resample_last):
                last = level.resample
            last.register_forward_hook(read(f"{way}.{i}"))
    network.middle_out.register_forward_hook(read("middle"))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x, t)

    flops = counter.get_flop_counts()
    middle = ["middle_in", "middle_attention", "middle_out"]
    rows = []
    for name, (shape, sees) in seen.items():
        parts = middle if name == "middle" else [name]
        weights = [p for part in parts for p in network.get_submodule(part).parameters()]
        work = sum(sum(flops.get(f"UNet.{part}", {}).values()) for part in parts)
        role = cast(Role, name.partition(".")[0])
        channels, height, width = shape[1:]
        rows.append(FeatureMap(name, role, height, width, channels, sum(p.numel() for p in weights), work, sees))
    return rows


def shapes(
    config: UNetConfig, image_size: int | tuple[int, int] = 32, report: Report = "block"
) -> list[tuple[Role, int, int, int]]:
    """The rows of `feature_maps` by algebra, as (role, height, width, channels): level n lies n halvings deep.

    A convolution of stride 2 over 3 x 3 pixels, padded by 1, halves an even size (Dumoulin & Visin 2016).
    """
    height, width = _checked(config, image_size, report)
    last = len(config.widths) - 1
    down = [n + (report == "resampled" and (n < last or config.resample_last)) for n in range(last + 1)]
    up = [n - (report == "resampled" and n > 0 and not config.resample_last) for n in range(last + 1)]
    rows: list[tuple[Role, int, int]] = [("down", *row) for row in zip(down, config.widths, strict=True)]
    rows += [("middle", last + config.resample_last, config.widths[-1])]
    rows += [("up", *row) for row in reversed(list(zip(up, config.up_widths, strict=True)))]
    return [(role, height >> halvings, width >> halvings, channels) for role, halvings, channels in rows]


def receptive_field(path: Sequence[nn.Module]) -> int:
    """Side, in pixels of the first map, of the square on which one pixel of the last map depends (Araujo et al. 2019).

    Behind a doubling the side differs from pixel to pixel; this is the largest.

    Args:
        path: the convolutions and doublings between the two maps, in order.
    """
    sides = []
    for pixel in range(2 ** sum(isinstance(module, nn.Upsample) for module in path)):
        low = high = pixel
        for module in reversed(path):
            if isinstance(module, nn.Conv2d):
                (kernel, _), (stride, _), (padding, _) = module.kernel_size, module.stride, cast(Any, module.padding)
                low, high = low * stride - padding, high * stride - padding + kernel - 1
            else:
                low, high = low // 2, high // 2
        sides.append(high - low + 1)
    return max(sides)


def _checked(config: UNetConfig, image_size: int | tuple[int, int], report: Report) -> tuple[int, int]:
    """Height and width of the image, once size and report are found legal."""
    instance("config", config, UNetConfig)
    one_of("report", report, ("block", "resampled"))
    return config.height_and_width(image_size)


_THREE_LEVELS = UNetConfig(channels=3, base_channels=128)

#: The four conventions of chapter 2, as arguments of `feature_maps`.
CONVENTIONS: dict[str, dict[str, Any]] = {
    # Ho et al. (2020): each level is read before it resamples; the last level does not resample
    "A": {"config": _THREE_LEVELS, "image_size": 256, "report": "block"},
    # every level resamples and is read after that; on the way up it takes the next finer level's width
    "B": {
        "config": replace(_THREE_LEVELS, resample_last=True, up_width="finer"),
        "image_size": 512,
        "report": "resampled",
    },
    # Ho et al. (2020), appendix B, LSUN at 256 pixels
    "C": {
        "config": replace(_THREE_LEVELS, channel_multipliers=(1, 1, 2, 2, 4, 4), attention_levels=(4,)),
        "image_size": 256,
        "report": "block",
    },
    # the network of A as diffusers reports it: the output of each of its blocks
    "D": {"config": _THREE_LEVELS, "image_size": 256, "report": "resampled"},
}
