import base64
import io
import json

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from PIL import Image, ImageColor, ImageDraw

from ddpm.companion import use_style
from ddpm.companion.figures import COLOURS
from ddpm.companion.notebook import read_notebook, shrink_figures
from tests.companion.chapters import write


def test_a_notebook_of_an_old_version_is_brought_to_the_fourth(tmp_path):
    cell = {"cell_type": "code", "input": "a = 1", "language": "python", "outputs": [], "metadata": {}}
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": [cell]}]}
    (tmp_path / "old.ipynb").write_text(json.dumps(old))
    notebook = read_notebook(tmp_path / "old.ipynb")
    assert notebook["nbformat"] == 4
    assert [cell["source"] for cell in notebook["cells"]] == ["a = 1"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "<<<<<<< ours\n" + text,
        lambda text: text.replace('"nbformat"', '<<<<<<< ours\n "nbformat"'),
        lambda text: text[:200],
        lambda _: "",
        lambda _: "[]",
        lambda _: "null",
        lambda _: "{}",
        lambda text: text.replace('"nbformat": 4', '"nbformat": 5'),
        lambda text: text.replace('"cells"', '"sells"'),
        lambda text: text.replace('"source"', '"sauce"'),
        lambda text: text.encode("utf-16"),
    ],
)
def test_what_is_no_notebook_is_named_in_one_line(change, tmp_path):
    path = write(tmp_path, 1, "1")
    content = change(path.read_text())
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"01_chapter\.ipynb cannot be read as a notebook: .+") as error:
        read_notebook(path)
    assert "\n" not in str(error.value)


def test_a_notebook_that_is_not_there_is_no_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_notebook(tmp_path / "none.ipynb")


def test_a_folder_is_no_notebook(tmp_path):
    with pytest.raises(ValueError, match="cannot be read as a notebook"):
        read_notebook(tmp_path)


def test_a_sound_notebook_comes_as_it_is(tmp_path):
    path = write(tmp_path, 1, "1")
    assert read_notebook(path) == nbformat.read(path, as_version=4)


def with_output(data):
    output = nbformat.v4.new_output("display_data", {"image/png": data})
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[output])])


def png_of(picture, **options):
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


HALF_CLEAR = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
HALF_CLEAR.paste((200, 30, 30, 255), (0, 0, 4, 8))
FRAMES = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]


@pytest.mark.parametrize(
    "png",
    [
        png_of(HALF_CLEAR),
        png_of(HALF_CLEAR.convert("LA")),
        png_of(HALF_CLEAR.convert("P"), transparency=0),
        png_of(FRAMES[0], transparency=(255, 0, 0)),
        png_of(FRAMES[0], save_all=True, append_images=FRAMES[1:]),
        png_of(Image.linear_gradient("L").convert("I").point(lambda grey: 257 * grey).convert("I;16")),
    ],
    ids=["RGBA", "LA", "palette", "one colour", "a film", "sixteen bits"],
)
def test_a_picture_that_can_be_seen_through_or_moves_or_is_finer_stays_as_it_is(png):
    notebook = with_output(base64.b64encode(png).decode())
    shrink_figures(notebook)
    assert base64.b64decode(notebook["cells"][0]["outputs"][0]["data"]["image/png"]) == png


PNG = base64.b64encode(png_of(Image.effect_noise((40, 40), 50))).decode()


@pytest.mark.parametrize("data", ["abc", "", "not base64, and no picture", "Grün", PNG[:-200], PNG[:60]])
def test_what_is_no_picture_stays_as_it_is(data):
    notebook = with_output(data)
    shrink_figures(notebook)
    assert notebook["cells"][0]["outputs"][0]["data"]["image/png"] == data


def test_a_picture_too_large_to_be_read_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    notebook = with_output(PNG)
    shrink_figures(notebook)
    assert notebook["cells"][0]["outputs"][0]["data"]["image/png"] == PNG


def test_figures_become_small_and_keep_even_a_rare_colour():
    figure = Image.linear_gradient("L").resize((400, 300)).convert("RGBA")
    figure.putpixel((7, 7), (200, 30, 30, 255))
    ImageDraw.Draw(figure).line((0, 0, 399, 299), (31, 119, 180, 255))
    file = io.BytesIO()
    figure.save(file, "PNG")
    outputs = [
        nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(file.getvalue()).decode() + "\n"}),
        nbformat.v4.new_output("stream", text="0.5"),
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# A"), nbformat.v4.new_code_cell("1", outputs=outputs)]
    )
    shrink_figures(notebook)
    nbformat.validate(notebook)
    png = base64.b64decode(notebook["cells"][1]["outputs"][0]["data"]["image/png"])
    small = Image.open(io.BytesIO(png))
    assert small.mode == "P"
    assert len(png) < 0.6 * len(file.getvalue())
    off = np.abs(np.asarray(small.convert("RGB"), int) - np.asarray(figure.convert("RGB"), int))
    assert off.max() <= 16  # of 255


def test_the_lines_of_a_plot_keep_their_colours():
    use_style()
    figure, axes = plt.subplots(figsize=(7, 5))
    for i, colour in enumerate(COLOURS):
        axes.plot([0, 1, 2], [i, i + 1, i + 0.5], color=colour, marker="osv^DP"[i], label=colour)
    axes.legend()
    drawn = io.BytesIO()
    figure.savefig(drawn)
    plt.close(figure)
    notebook = with_output(base64.b64encode(drawn.getvalue()).decode())
    shrink_figures(notebook)
    small = base64.b64decode(notebook["cells"][0]["outputs"][0]["data"]["image/png"])
    before, after = (np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int) for png in (drawn.getvalue(), small))
    for colour in COLOURS:
        of_line = (before == np.asarray(ImageColor.getrgb(colour))).all(axis=2)
        assert of_line.any()
        assert np.abs(before[of_line] - after[of_line]).max() <= 1
