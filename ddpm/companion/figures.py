"""One plotting style, and rows of images."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

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
    columns = max(len(images) for images in rows.values())
    figure, grid = plt.subplots(len(rows), columns, figsize=(0.85 * columns + 1.2, 0.9 * len(rows)), squeeze=False)
    for line, (label, images) in zip(grid, rows.items(), strict=True):
        for column, axes in enumerate(line):
            _blank(axes)
            if column < len(images):
                axes.imshow(images[column, 0].float().cpu().numpy(), cmap="gray", vmin=-1, vmax=1)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    for axes, title in zip(grid[0], titles or [], strict=False):
        axes.set_title(title, fontsize=10)
    figure.tight_layout(pad=0.3)
    return figure


def _blank(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
