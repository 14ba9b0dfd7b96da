import os
import re
from importlib import import_module

import pytest
from PIL import Image, ImageChops, ImageStat

import ddpm
from tests.cli.commands import alone, coloured, done, help_of, refusal

pytestmark = pytest.mark.long

ROW = (5 * (128 + 4) + 4, 128 + 4)  # five images of 32 pixels, four times enlarged, with four between them


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A colour photo and a smaller picture of one bit."""
    folder = tmp_path_factory.mktemp("pictures")
    Image.new("RGB", (500, 333), "teal").save(folder / "photo.jpg")
    Image.new("1", (50, 60), 1).save(folder / "one-bit.png")
    return [folder / "photo.jpg", folder / "one-bit.png"]


@pytest.fixture(scope="module")
def trip(pictures, tmp_path_factory):
    """What a trip of both pictures says, and the strip it draws."""
    out = tmp_path_factory.mktemp("trip") / "strip.png"
    options = ["--depth", 300, "--steps", 3, "--sampler", "ddim", "--eta", 0.5]
    return alone("round-trip", *pictures, *options, "--out", out).stdout, Image.open(out)


def test_it_says_what_was_done_to_a_picture_and_what_is_left_of_it(trip):
    assert "photo.jpg (500 x 333, RGB; made grey; cut to 333 x 333; shrunk to 32 x 32): PSNR" in trip[0]


def test_it_says_how_the_pictures_went(trip):
    how = "ddim, eta 0.5, 3 steps (3 network calls), trailing grid, seed 0"
    assert f"noised in one shot to t = 300, back by {how}" in trip[0]


def test_its_table_compares_with_the_mean_and_with_another_picture(trip):
    heads_and_errors = r"mean of 2 +back +one-shot mean +random pair\nsquared error( +\d\.\d{3}){3}\n"
    assert re.search(heads_and_errors, trip[0])


def test_its_strip_has_a_row_for_each_picture(trip):
    assert trip[1].size == (ROW[0], 2 * ROW[1] + 4)


def first_row(pictures, seed, out):
    """The photo's row of the strip, of a trip by ancestral sampling."""
    options = ["--depth", 300, "--steps", 3, "--precision", "float32", "--seed", seed]
    said = done("round-trip", *pictures, *options, "--out", out).stdout
    assert ("random pair" in said) == (len(pictures) == 2)  # a single picture has no other
    return Image.open(out).convert("L").crop((0, 0, *ROW))


def test_a_pictures_noise_is_its_own_and_the_seeds(pictures, tmp_path):
    alone, among, other = (
        first_row(chosen, seed, tmp_path / "strip.png")
        for chosen, seed in ((pictures[:1], 0), (pictures, 0), (pictures[:1], 1))
    )
    assert ImageStat.Stat(ImageChops.difference(alone, among)).mean[0] < 0.5  # of 255 grey levels
    assert ImageStat.Stat(ImageChops.difference(alone, other)).mean[0] > 5


def garments_error(folder, *options):
    """The squared error of the test images that stand in where no picture is named."""
    command = ["round-trip", "--sampler", "heun", "--steps", 6, "--depth", 500, "--spacing", "karras", *options]
    said = done(*command, "--out", folder / "strip.png").stdout
    assert said.count("a test image") == 10
    return float(re.search(r"squared error +(\S+)", said)[1])


def test_an_inverted_trip_brings_garments_back(tmp_path):
    assert garments_error(tmp_path, "--invert") < garments_error(tmp_path) / 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depth", 1001], "depth is 1001; legal are 1 to 1000"),
        (["--depth", 0], "depth is 0; legal are 1 to 1000"),
        (["--depth", 9, "--steps", 10], "steps is 10; legal are 1 to the depth, 9"),
        (["--invert"], "sampler is 'ancestral'; with --invert legal are ddim and heun"),
        (["--invert", "--sampler", "ddim", "--eta", 1], "eta is 1.0; with --invert it must be 0"),
        (["--spacing", "leading"], "begin below the depth; legal are trailing, linspace, quadratic, karras, log_snr"),
        (["--sampler", "heun", "--eta", 1], "eta is 1.0; it needs --sampler ddim, heun does not have it"),
        (["--sampler", "ddim", "--eta", 2], "eta is 2.0; it must be in [0, 1]"),
        (["--variance", "huge"], "variance is 'huge'; legal are small, large"),
        (["--seed", -1], "seed is -1; it must be an integer from 0 up"),
        (["n" * 300], "File name too long"),
        (["--model", "equal-gan"], "model is 'equal-gan'; only a diffusion model denoises"),
        (["RUN.png"], "which is one of the pictures; name another file"),
        (["."], ". is a folder; name the pictures in it"),
        (["nowhere.jpg"], "there is no picture nowhere.jpg"),
        (["README.md"], "README.md cannot be read as a picture"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(arguments, message, tmp_path):
    assert message in refusal(["round-trip", *arguments, "--out", "RUN.png"], tmp_path)


def test_a_picture_is_not_written_over_under_another_name(tmp_path):
    Image.new("L", (40, 40)).save(tmp_path / "photo.png")
    before = (tmp_path / "photo.png").read_bytes()
    os.link(tmp_path / "photo.png", tmp_path / "other.png")
    said = refusal(["round-trip", tmp_path / "photo.png", "--out", tmp_path / "other.png"], tmp_path)
    assert "which is one of the pictures; name another file" in said
    assert (tmp_path / "photo.png").read_bytes() == before


def test_a_model_of_other_images_needs_a_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(ddpm, "load", coloured)
    said = refusal(["round-trip", "--out", "RUN.png"], tmp_path)
    assert "IMAGE is not given; the test images are (1, 32, 32), this model's (3, 16, 16)" in said


def test_pictures_of_ones_own_are_not_said_to_be_garments(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(import_module("ddpm.cli.round_trip"), "say_data", lambda model: print(f"{model} on garments"))
    command = ["--depth", 300, "--steps", 1, "--out", tmp_path / "strip.png"]
    assert "fashion-mnist on garments" in done("round-trip", *command).stdout
    assert "on garments" not in done("round-trip", *pictures, *command).stdout


def test_a_student_that_is_asked_at_other_times_than_its_own_is_told_of(tmp_path):
    command = ["round-trip", "--model", "fashion-mnist-4-calls", "--sampler", "ddim", "--steps", 4]
    said = "fashion-mnist-4-calls was distilled for 4 moves of ddim from noise; here it is asked at other times"
    assert said in done(*command, "--depth", 500, "--out", tmp_path / "other.png").stderr
    assert said not in done(*command, "--depth", 1000, "--out", tmp_path / "own.png").stderr


def test_a_short_trip_makes_as_many_moves_as_there_are(tmp_path):
    said = done("round-trip", "--depth", 3, "--sampler", "ddim", "--out", tmp_path / "strip.png").stdout
    assert "up to" not in said
    assert "noised in one shot to t = 3, back by ddim, eta 0, 3 steps (3 network calls), " in said


def test_a_strip_is_a_png(tmp_path):
    assert "its name must end in .png" in refusal(["round-trip", "--out", "RUN.gif"], tmp_path)


def test_the_help_offers_the_spacings_that_a_round_trip_takes_and_no_other():
    said = " ".join(help_of("round-trip").split())
    assert "Spacing of the grid of times: trailing, linspace, quadratic, karras, log_snr." in said
