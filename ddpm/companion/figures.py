"""One plotting style, rows of images, a UNet drawn to its sizes, and chains of networks."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ddpm.unet import UNet, UNetConfig, feature_maps

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito: colour-blind safe


def use_style() -> None:
    """Set matplotlib's style for every figure of the book: PNG on white, colour-blind safe, legible when small."""
    plt.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=COLOURS),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "figure.dpi": 110,
            "figure.figsize": (7, 3.6),
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "font.size": 11,
            "legend.frameon": False,
            "lines.linewidth": 2,
        }
    )


def image_rows(rows: Mapping[str, Tensor], titles: list[str] | None = None) -> Figure:
    """Rows of grey images (n, 1, h, w) in [-1, 1], each with its label on the left and the titles above the first."""
    columns, lines = max(len(images) for images in rows.values()), len(rows)
    side = 3 * max(images.shape[-1] for images in rows.values())  # whole pixels: sharp, and a small file
    margin, gap, above = 9 * max(map(len, rows)), 5, 25 if titles else 0
    width, height = margin + columns * (side + gap), above + lines * (side + gap)
    figure = plt.figure(figsize=(width / plt.rcParams["figure.dpi"], height / plt.rcParams["figure.dpi"]))
    for line, (label, images) in enumerate(rows.items()):
        for column, image in enumerate(images):
            left, bottom = margin + column * (side + gap), height - above - (line + 1) * (side + gap)
            axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
            _blank(axes)
            axes.imshow(image[0].float().cpu().numpy(), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
            if column == 0:
                axes.set_ylabel(label, rotation=0, ha="right", va="center")
            if line == 0 and titles:
                axes.set_title(titles[column], fontsize=10)
    return figure


def draw_unet(config: UNetConfig, image_size: int = 32) -> Figure:
    """A box a level, the way down on the left and the way up on the right, with a size on every arrow.

    A box is the higher the more pixels a side its map has and the wider the more channels, both by their logarithms. In
    it stands the map after the level's blocks, on the arrow away from it what is handed on, and on the arrows across
    the channels of the maps that the blocks on the way up are joined with. All of it is read off the network.
    """
    maps, handed_on = feature_maps(config, image_size), feature_maps(config, image_size, "resampled")
    levels = len(config.widths)
    left, right = 0.0, 1.2
    places = [(left, float(-i)) for i in range(levels)] + [((left + right) / 2, float(-levels))]
    places += [(right, float(-i)) for i in reversed(range(levels))]
    widths = _spread([row.channels for row in maps], 0.46, 0.66)
    heights = _spread([row.height for row in maps], 0.3, 0.6)
    figure, axes = plt.subplots(figsize=(5, 1.05 * (levels + 2)))
    _blank(axes)
    axes.set(xlim=(left - 0.45, right + 0.45), ylim=(-levels - 0.4, 1.2))

    for row, (x, y), width, height in zip(maps, places, widths, heights, strict=True):
        colour = COLOURS[("down", "middle", "up").index(row.role)]
        axes.add_patch(Rectangle((x - width / 2, y - height / 2), width, height, color=colour, alpha=0.25, lw=0))
        axes.text(x, y, _size(row.height, row.channels), ha="center", va="center")
    image = _size(image_size, config.channels)
    for x, word in ((left, "in"), (right, "out")):
        axes.text(x, 1, f"image {word}\n{image}", ha="center", va="center")

    stops = [(left, 1.0, 0.4), *((*place, h) for place, h in zip(places, heights, strict=True)), (right, 1.0, 0.4)]
    texts = [image, *(_size(row.height, row.channels) for row in handed_on)]
    for (x, y, height), (to_x, to_y, to_height), text in zip(stops[:-1], stops[1:], texts, strict=True):
        up = math.copysign(1, to_y - y)
        _arrow(axes, (x, y + up * height / 2), (to_x, to_y - up * to_height / 2), text, "right" if x > left else "left")
    for i, channels in enumerate(_skips(config)):
        y, here, there = places[i][1], widths[i], widths[-1 - i]
        _arrow(axes, (left + here / 2, y), (right - there / 2, y), ", ".join(map(str, channels)), "above")
    return figure


def draw_chains(chains: Mapping[str, Sequence[str | tuple[str, ...]]]) -> Figure:
    """Columns of what is handed on, as text, and of the networks that turn it into the next, lines in a box."""
    rows = max(len(chain) for chain in chains.values())
    figure, axes = plt.subplots(figsize=(1.3 * len(chains), 0.72 * rows + 0.4))
    _blank(axes)
    axes.set(xlim=(-0.5, len(chains) - 0.5), ylim=(0.6 - rows, 0.8))
    for x, (name, chain) in enumerate(chains.items()):
        axes.text(x, 0.6, name, ha="center", weight="bold")
        for i, stop in enumerate(chain):
            if not isinstance(stop, str):
                axes.add_patch(Rectangle((x - 0.46, -i - 0.27), 0.92, 0.54, color=COLOURS[0], alpha=0.25, lw=0))
            text = stop if isinstance(stop, str) else "\n".join(stop)
            axes.text(x, -i, text, ha="center", va="center", fontsize=9.5)
            if i:
                _arrow(axes, (x, 0.73 - i), (x, 0.27 - i), "", "right")
    figure.tight_layout(pad=0.3)
    return figure


def _skips(config: UNetConfig) -> list[list[int]]:
    """Of each level, finest first, the channels that its blocks on the way up get from the way down."""
    with torch.device("meta"):
        network = UNet(config)
    return [level.skip_channels for level in reversed(network.up)] if config.skips else []  # type: ignore[misc]


def _size(side: int, channels: int) -> str:
    return f"{side}² · {channels}"


def _spread(values: Sequence[int], least: float, most: float) -> list[float]:
    """Values between `least` and `most`, evenly by their logarithms."""
    low, high = math.log(min(values)), math.log(max(values))
    return [least + (most - least) * (math.log(v) - low) / (high - low or 1) for v in values]


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str, side: str) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "0.3", "shrinkA": 1, "shrinkB": 1})
    ha, dx = {"left": ("right", -0.04), "right": ("left", 0.04), "above": ("center", 0.0)}[side]
    va = "bottom" if side == "above" else "center" if start[0] == end[0] else "top"  # below one that slants
    axes.text((start[0] + end[0]) / 2 + dx, (start[1] + end[1]) / 2, text, ha=ha, va=va, fontsize=9.5, color="0.3")


def _blank(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
