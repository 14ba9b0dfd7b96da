"""The book's plotting style, and its drawings: rows of images, a UNet with its sizes, and chains of networks."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, cast

import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from ddpm.unet import UNet, UNetConfig, feature_maps
from ddpm.unet.network import UpLevel
from ddpm.unet.sizes import FeatureMap

__all__ = ["COLOURS", "GUESS", "draw_chains", "draw_unet", "image_rows", "label_ends", "sampler_looks", "use_style"]

#: The colours of lines and boxes, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito

#: How a line of the reader's own guess is drawn, in every figure.
GUESS = {"color": "black", "linestyle": ":", "label": "your guess"}

#: The marker of each sampler, by how its name begins; its colour stands at the same place in `COLOURS`.
_MARKERS = {"ancestral": "o", "DDIM": "s", "Heun": "^", "DPM-Solver++": "D", "flow": "v", "predictor-corrector": "P"}

#: The width of the book's column, in inches: no figure of the book is wider, so that no page shrinks its letters.
COLUMN = 7.0
_PIXELS = 96  # of a page in an inch
_SHARPNESS = 2  # dots of a figure in a page's pixel, as screens have that are sharp
_LARGEST = 192  # dots of the side of an image in a row

_LEFT, _RIGHT = 0.0, 1.2  # x of the boxes in `draw_unet`: of the way down, of the way up


def use_style() -> None:
    """Set matplotlib's style for every figure of the book: white, safe for colour-blind readers, as wide as the column.

    In a notebook a figure has two dots in each pixel of the page, so that it is sharp on a sharp screen.
    """
    plt.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=COLOURS),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "axes.titlesize": "medium",
            "figure.constrained_layout.use": True,
            "figure.dpi": _PIXELS,
            "figure.figsize": (COLUMN, 3.2),
            "figure.facecolor": "white",
            "savefig.dpi": _SHARPNESS * _PIXELS,
            "savefig.facecolor": "white",
            "savefig.pad_inches": 0.02,
            "font.size": 10,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
        }
    )
    if get_ipython() is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("retina")  # type: ignore[no-untyped-call]


def sampler_looks(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Of each sampler its curve's `color`, `marker` and `linestyle`. The first two are its own in every figure.

    Samplers whose names begin alike, such as "Heun" and "Heun with churn", are drawn in one colour. The first of them
    is solid, so the plain one is named first, and the others have dashes of their own.

    Raises:
        ValueError: a name begins like no sampler that has a look.
    """
    looks: dict[str, dict[str, str]] = {}
    variants = {kind: iter(("-", "--", ":", "-.")) for kind in _MARKERS}
    for name in names:
        kind = next((kind for kind in _MARKERS if name.startswith(kind)), None)
        if kind is None:
            raise ValueError(f"name is {name!r}; it must begin with one of {', '.join(_MARKERS)}")
        colour = COLOURS[list(_MARKERS).index(kind)]
        looks[name] = {"color": colour, "marker": _MARKERS[kind], "linestyle": next(variants[kind])}
    return looks


def label_ends(axes: Axes, apart: float = 12) -> None:
    """Write the name of each labelled line at its right end, where a legend would send the eye away and back.

    The right end is the last point that is finite. A line without one gets no name, nor does what is no line.

    Args:
        axes: their limits and scales must be set. They need room on the right, which the figure's layout makes.
        apart: least distance from one name to the next, in points.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # so that the ends are where the layout puts them
    ends = []
    for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
        line = handle[0] if isinstance(handle, tuple) else handle  # with error bars
        if not isinstance(line, Line2D):
            continue
        points = np.asarray(line.get_xydata(), dtype=float)
        points = points[np.isfinite(points).all(axis=1)]
        if len(points):
            coords = line.get_transform()  # those of an axhline are not the data's
            ends.append((coords.transform(points[-1])[1] * 72 / figure.dpi, tuple(points[-1]), name, coords))
    last = -math.inf
    for height, end, name, coords in sorted(ends, key=lambda each: each[:3]):
        last = max(height, last + apart)
        axes.annotate(
            name, end, (8, last - height), xycoords=coords, textcoords="offset points", va="center", fontsize=9,
            annotation_clip=True,
        )  # fmt: skip


def image_rows(rows: Mapping[str, Tensor], titles: Sequence[str] | None = None) -> Figure:
    """Draw rows of grey images, as large as the column allows. They are wider where a pixel would have no dot.

    Args:
        rows: the label of each row, which stands on its left, and its images (n, 1, h, w) in [-1, 1].
        titles: one for each column, above the first row.
    """
    labels = [textwrap.fill(label, 16) for label in rows]
    heads = [textwrap.fill(title, 9) for title in titles or ()]
    columns, pixels = max(map(len, rows.values())), max(images.shape[-1] for images in rows.values())
    # In dots. Each pixel of an image has a whole number of them: it is sharp, and the file is small.
    gap, margin = 8, 16 + 15 * max(len(line) for label in labels for line in label.splitlines())
    above = 28 * max((head.count("\n") + 1 for head in heads), default=0)
    inch = _SHARPNESS * _PIXELS
    room = (COLUMN * inch - margin) / columns - gap
    side = pixels * max(1, int(min(room, _LARGEST) / pixels))
    width, height = margin + columns * (side + gap), above + len(rows) * (side + gap)
    figure = plt.figure(figsize=(width / inch, height / inch), layout="none")
    for line, (label, images) in enumerate(zip(labels, rows.values(), strict=True)):
        for column, image in enumerate(images):
            left, bottom = margin + column * (side + gap), height - above - (line + 1) * (side + gap)
            axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
            _blank(axes)
            axes.imshow(image[0].float().cpu().numpy(), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
            if column == 0:
                axes.set_ylabel(label, rotation=0, ha="right", va="center")
            if line == 0 and heads:
                axes.set_title(heads[column], fontsize=9)
    return figure


class _Box(NamedTuple):
    """A box around its centre (x, y)."""

    x: float
    y: float
    width: float
    height: float


def draw_unet(config: UNetConfig, image_size: int = 32) -> Figure:
    """Draw a UNet: a box for each level, the way down on the left, the way up on the right, and sizes at the arrows.

    A box is higher for more pixels a side and wider for more channels, both on a logarithmic scale. Inside a box is the
    size of the map after the level's blocks. At the arrow out of a box is the size of what it hands on, and at the
    arrows across are the channels of the maps that the blocks on the way up are joined with. Everything is read off the
    network.

    Raises:
        ValueError: the image does not fit the network.
    """
    levels = len(config.widths)
    maps = feature_maps(config, image_size)
    boxes = _boxes(maps, levels)
    figure, axes = plt.subplots(figsize=(6, 1.05 * (levels + 2)), layout="constrained")
    _blank(axes)
    axes.set(xlim=(_LEFT - 0.45, _RIGHT + 0.45), ylim=(-levels - 0.4, 1.2))
    for row, box in zip(maps, boxes, strict=True):
        _draw_box(axes, row, box)
    image = _size(image_size, config.channels)
    for x, word in ((_LEFT, "in"), (_RIGHT, "out")):
        axes.text(x, 1, f"image {word}\n{image}", ha="center", va="center")
    handed_on = [_size(row.height, row.channels) for row in feature_maps(config, image_size, "resampled")]
    _draw_arrows_along(axes, boxes, [image, *handed_on])
    _draw_arrows_across(axes, boxes, _skips(config))
    return figure


def _boxes(maps: Sequence[FeatureMap], levels: int) -> list[_Box]:
    """A box for each feature map: down the left side, the middle below, and up the right side."""
    places = [(_LEFT, float(-level)) for level in range(levels)]
    places += [((_LEFT + _RIGHT) / 2, float(-levels))]
    places += [(_RIGHT, float(-level)) for level in reversed(range(levels))]
    widths = _spread([row.channels for row in maps], 0.46, 0.66)
    heights = _spread([row.height for row in maps], 0.3, 0.6)
    return [_Box(*place, width, height) for place, width, height in zip(places, widths, heights, strict=True)]


def _draw_box(axes: Axes, row: FeatureMap, box: _Box) -> None:
    colour = COLOURS[("down", "middle", "up").index(row.role)]
    corner = box.x - box.width / 2, box.y - box.height / 2
    axes.add_patch(Rectangle(corner, box.width, box.height, color=colour, alpha=0.25, lw=0))
    axes.text(box.x, box.y, _size(row.height, row.channels), ha="center", va="center")


def _draw_arrows_along(axes: Axes, boxes: Sequence[_Box], texts: Sequence[str]) -> None:
    """Arrows from the image through all boxes, in the order of computation, to the image."""
    stops = [_Box(_LEFT, 1.0, 0.0, 0.4), *boxes, _Box(_RIGHT, 1.0, 0.0, 0.4)]
    for here, there, text in zip(stops[:-1], stops[1:], texts, strict=True):
        up = math.copysign(1, there.y - here.y)
        start = here.x, here.y + up * here.height / 2
        end = there.x, there.y - up * there.height / 2
        _arrow(axes, start, end, text, "right" if here.x > _LEFT else "left")


def _draw_arrows_across(axes: Axes, boxes: Sequence[_Box], skips: Sequence[Sequence[int]]) -> None:
    """An arrow at each level from the way down to the way up, with the channels of its skip connections."""
    for level, channels in enumerate(skips):
        here, there = boxes[level], boxes[-1 - level]
        start = here.x + here.width / 2, here.y
        end = there.x - there.width / 2, there.y
        _arrow(axes, start, end, ", ".join(map(str, channels)), "above")


def draw_chains(chains: Mapping[str, Sequence[str | tuple[str, ...]]]) -> Figure:
    """Draw chains of networks, one in a column.

    Args:
        chains: the title of each chain, and its stops from top to bottom: a string is what is handed on, and is drawn
            as text; a tuple is a network, and is drawn as a box with these lines.
    """
    rows = max(len(chain) for chain in chains.values())
    figure, axes = plt.subplots(figsize=(1.6 * len(chains), 0.7 * rows + 0.4), layout="constrained")
    _blank(axes)
    axes.set(xlim=(-0.5, len(chains) - 0.5), ylim=(0.6 - rows, 0.8))
    for x, (name, chain) in enumerate(chains.items()):
        axes.text(x, 0.6, name, ha="center", weight="bold")
        for i, stop in enumerate(chain):
            if not isinstance(stop, str):
                axes.add_patch(Rectangle((x - 0.46, -i - 0.27), 0.92, 0.54, color=COLOURS[0], alpha=0.25, lw=0))
            text = stop if isinstance(stop, str) else "\n".join(stop)
            axes.text(x, -i, text, ha="center", va="center")
            if i:
                _arrow(axes, (x, 0.73 - i), (x, 0.27 - i), "", "right")
    return figure


def _skips(config: UNetConfig) -> list[list[int]]:
    """For each level, finest first: the channels that its blocks on the way up get from the way down."""
    if not config.skips:
        return []
    with torch.device("meta"):
        network = UNet(config)
    return [cast(UpLevel, level).skip_channels for level in reversed(network.up)]


def _size(side: int, channels: int) -> str:
    return f"{side}² · {channels}"


def _spread(values: Sequence[int], least: float, most: float) -> list[float]:
    """Map the values to `least`..`most`, linearly in their logarithms."""
    low, high = math.log(min(values)), math.log(max(values))
    return [least + (most - least) * (math.log(v) - low) / (high - low or 1) for v in values]


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str, side: str) -> None:
    """An arrow with a text on one side of its middle: "left", "right" or "above"."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "0.3", "shrinkA": 1, "shrinkB": 1})
    ha, dx, dy = {"left": ("right", -0.04, 0), "right": ("left", 0.04, 0), "above": ("center", 0, 0.03)}[side]
    if side == "above":
        va = "bottom"
    elif start[0] == end[0]:
        va = "center"
    else:  # below an arrow that slants
        va = "top"
    axes.text((start[0] + end[0]) / 2 + dx, (start[1] + end[1]) / 2 + dy, text, ha=ha, va=va, fontsize=9, color="0.3")


def _blank(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
