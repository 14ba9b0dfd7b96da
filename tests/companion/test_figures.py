import re
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.text import Annotation

from ddpm.companion import draw_chains, draw_unet, image_rows, label_ends, sampler_looks, use_style
from ddpm.companion.figures import COLUMN
from ddpm.unet import CONVENTIONS, UNetConfig, feature_maps


def test_a_drawn_unet_shows_the_sizes_of_its_trace_and_follows_its_configuration():
    for config, size in (
        (CONVENTIONS["B"]["config"], 512),
        (UNetConfig(blocks_per_level=1, channel_multipliers=(1, 2), attention_levels=()), 32),
        (UNetConfig(skips=False), 64),
    ):
        figure = draw_unet(config, size)
        texts = [text.get_text() for text in figure.axes[0].texts]
        sizes = [text for text in texts if re.fullmatch(r"\d+² · \d+", text)]
        inside, handed_on = (feature_maps(config, size, report) for report in ("block", "resampled"))
        image = f"{size}² · {config.channels}"
        assert sorted(sizes) == sorted([*(f"{m.height}² · {m.channels}" for m in (*inside, *handed_on)), image])
        across = [text for text in texts if re.fullmatch(r"[\d, ]+", text)]
        assert len(across) == len(config.widths) * config.skips
        assert all(len(text.split(",")) == config.blocks_per_level + 1 for text in across)
    assert "512, 512, 256" in [text.get_text() for text in draw_unet(CONVENTIONS["B"]["config"], 512).axes[0].texts]


def test_drawn_chains_show_every_stop_and_a_box_around_networks():
    figure = draw_chains({"two": ["image", ("Encoder", "1,000"), "code"], "one": [("Judge",)]})
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts if text.get_text()] == [
        "two", "image", "Encoder\n1,000", "code", "one", "Judge",
    ]  # fmt: skip
    assert len(axes.patches) == 2


def test_black_and_white_of_a_picture_are_the_ends_of_its_range():
    figure = image_rows({"a row": torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8)})
    assert [axes.images[0].get_clim() for axes in figure.axes] == [(-1, 1), (-1, 1)]


@pytest.mark.parametrize(
    ("columns", "label"), [(1, "one"), (5, "a label of more than one line"), (12, "flow"), (30, "many")]
)
def test_rows_fit_a_pages_column_and_their_images_have_whole_pixels(columns, label):
    use_style()
    figure = image_rows({label: torch.zeros(columns, 1, 32, 32), "two": torch.zeros(1, 1, 32, 32)})
    figure.draw_without_rendering()
    outline = figure.get_tightbbox()
    assert outline.width <= COLUMN
    dots = [axes.get_window_extent().width * 2 for axes in figure.axes]
    assert all(side == pytest.approx(round(side / 32) * 32, abs=1e-6) for side in dots)
    assert min(dots) > 31


def test_a_skip_leads_across_at_its_own_level():
    (axes,) = draw_unet(UNetConfig(base_channels=8, head_channels=8)).axes
    arrows = [text for text in axes.texts if isinstance(text, Annotation)]
    across = [arrow for arrow in arrows if arrow.xy[1] == arrow.xyann[1]]
    assert [arrow.xy[1] for arrow in across] == [0, -1, -2]
    assert all(arrow.xyann[0] < arrow.xy[0] for arrow in across)


def test_a_sampler_looks_the_same_in_every_figure_and_its_variants_differ_by_their_dashes():
    few = sampler_looks(["DDIM", "ancestral"])
    many = sampler_looks(["ancestral", "Heun with churn", "Heun", "DDIM", "DPM-Solver++(2M)", "Heun, in sigma"])
    assert all(many[name] == look for name, look in few.items())
    heuns = [look for name, look in many.items() if name.startswith("Heun")]
    assert len({look["color"] for look in heuns}) == 1
    assert len({look["linestyle"] for look in heuns}) == 3
    assert len({(look["color"], look["marker"]) for look in many.values()}) == 4
    with pytest.raises(ValueError, match=r"name is 'Euler'; it must begin with one of ancestral, DDIM, Heun"):
        sampler_looks(["Euler"])


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_names_at_the_ends_of_lines_stand_in_the_order_of_the_ends_and_do_not_overlap(scale):
    use_style()
    figure, axes = plt.subplots()
    axes.set(xscale=scale, yscale=scale)
    for end, name in ((1.0, "low"), (9.0, "high"), (1.01, "nearly as low"), (1.02, "and a third")):
        axes.plot([1, 2, 4], [5, 4, end], label=name)
    axes.axhline(3)  # has no name
    axes.errorbar([1, 4], [2, 6], [0.1, 0.1], label="with bars")
    label_ends(axes, apart=14)
    figure.draw_without_rendering()
    names = [text for text in axes.texts if isinstance(text, Annotation)]
    assert [text.get_text() for text in names] == ["low", "nearly as low", "and a third", "with bars", "high"]
    boxes = [text.get_window_extent() for text in names]
    assert all(above.y0 > below.y1 for below, above in pairwise(boxes))
    assert all(box.x0 > axes.transData.transform((4, 1))[0] for box in boxes)
    assert figure.get_tightbbox().width <= COLUMN


def test_names_stand_where_lines_end_in_the_picture():
    figure, axes = plt.subplots()
    axes.set(xlim=(0, 100), ylim=(0, 10))
    axes.plot([10, 50, 60], [2, 4, np.nan], label="ends early")
    axes.axhline(8, label="level")
    axes.plot([], [], label="no points")
    axes.plot([1], [np.nan], label="no numbers")
    axes.axhspan(1, 2, label="band")
    axes.scatter([1], [5], label="points")
    label_ends(axes)
    figure.draw_without_rendering()
    starts = {text.get_text(): text.get_window_extent().x0 for text in axes.texts}
    gap = 8 * figure.dpi / 72
    ends = {"ends early": 50, "level": 100}
    assert starts.keys() == ends.keys()
    for name, x in ends.items():
        assert starts[name] == pytest.approx(axes.transData.transform((x, 0))[0] + gap, abs=2)
