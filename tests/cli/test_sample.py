import json
import math
import shutil
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageSequence, ImageStat
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

import ddpm
from ddpm import model_files
from ddpm.cli.sample import _check_film, sample
from ddpm.data import CLASSES, denormalise
from ddpm.denoiser import Guided
from ddpm.diffusion import DiffusionConfig
from ddpm.noise import PerSampleNoise
from ddpm.unet import UNetConfig
from tests.cli.commands import TRAIN, alone, coloured, done, refusal

pytestmark = pytest.mark.long

TWO_ROWS_OF_THREE = (3 * 34 + 2, 2 * 34 + 2)  # images of 32 pixels, with two between them


def test_a_grid_of_the_images(trained, tmp_path):
    said = alone("sample", "--model", trained, "--n", 5, "--steps", 2, "--out", tmp_path / "grid.png").stdout
    how = "dpm_solver_pp, 2 steps (2 network calls), log_snr grid, seed 0"
    assert said == f"5 images, {how}: {tmp_path / 'grid.png'}\n"
    assert Image.open(tmp_path / "grid.png").size == TWO_ROWS_OF_THREE


def test_as_many_images_are_denoised_together_as_asked_for(trained, tmp_path, monkeypatch, capsys):
    asked, draw = [], ddpm.sample
    monkeypatch.setattr(
        "ddpm.sample", lambda *given, **options: asked.append(options["chunk"]) or draw(*given, **options)
    )
    for chunk in (None, 1):
        sample(tmp_path / "one.png", str(trained), n=1, steps=1, chunk=chunk)
    assert asked == [None, 1]
    assert "chunk is" not in capsys.readouterr().err
    sample(tmp_path / "one.png", str(trained), n=1, steps=1, chunk=2)
    assert "chunk is 2 and n 1: 2 images are computed, as a chunk is filled up" in capsys.readouterr().err


@pytest.mark.parametrize("in_colour", [False, True])
def test_each_image_is_by_itself_in_a_zip_and_in_an_array(in_colour, trained, tmp_path, monkeypatch):
    if in_colour:
        one = coloured()
        monkeypatch.setattr("ddpm.load", lambda *_, **__: one)
    for name in ("each.zip", "each.npz", "grid.png"):
        sample(tmp_path / name, str(trained), n=3, steps=2)
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    side = (len(grid) - 6) // 2  # two rows, with two pixels around each image
    images = [grid[y : y + side, x : x + side] for y, x in ((2, 2), (2, side + 4), (side + 4, 2))]
    assert not in_colour or np.ptp(images[0], axis=-1).any()
    array = np.load(tmp_path / "each.npz")["arr_0"]
    assert (array.dtype, array.shape) == (np.uint8, (3, side, side, 3))
    with ZipFile(tmp_path / "each.zip") as archive:
        assert archive.namelist() == ["00000.png", "00001.png", "00002.png"]
        for name, image, same in zip(archive.namelist(), images, array, strict=True):
            assert np.array_equal(np.asarray(Image.open(archive.open(name))), image)
            assert np.array_equal(same, image)


@pytest.fixture(scope="module", params=[("film.gif", 4), ("film.webp", 17)], ids=["gif", "webp"])  # 17 are two chunks
def film(request, trained, tmp_path_factory):
    """How many images a film shows, its frames, and the grid of the same images."""
    (name, n), folder = request.param, tmp_path_factory.mktemp("film")
    # By a sampler that draws noise: two states that look alike are one frame of a WebP, which is shown for longer.
    command = ["sample", "--model", trained, "--n", n, "--steps", 3, "--sampler", "ancestral", "--seed", 7]
    for path in (folder / name, folder / "grid.png"):
        done(*command, "--out", path)
    frames, times = [], []
    for frame in ImageSequence.Iterator(Image.open(folder / name)):
        frames.append(frame.convert("L"))
        times.append(frame.info["duration"])
    assert sum(times) == pytest.approx(6000, abs=30)  # milliseconds, however few frames there are
    return n, frames, Image.open(folder / "grid.png").convert("L")


def apart(one, other):
    """The mean difference of two pictures, in grey levels."""
    return ImageStat.Stat(ImageChops.difference(one, other)).mean[0]


def test_a_film_shows_the_noise_and_every_move(film):
    n, frames, _ = film
    assert len(frames) == 1 + 3
    assert frames[0].size[0] == 34 * math.ceil(math.sqrt(n)) + 2


@pytest.mark.parametrize(
    ("film", "arguments", "message"),
    [
        (
            "RUN.gif",
            ["--n", 2000],
            "n is 2000; a film .gif has at most 65,535 pixels in a direction, so legal are 1 to 1,927 images",
        ),
        (
            "RUN.webp",
            ["--n", 500],
            "n is 500; a film .webp has at most 16,383 pixels in a direction, so legal are 1 to 481 images",
        ),
    ],
)
def test_a_film_larger_than_its_format_is_refused_at_once(conditional, film, arguments, message, tmp_path):
    command = ["sample", "--model", conditional, "--class", "bag", "--class", "shirt", *arguments, "--out", film]
    assert message in refusal(command, tmp_path)


def test_a_film_of_more_classes_than_its_format_has_rows_is_refused():
    with pytest.raises(ValueError, match="classes are 600; a film .webp of these images has at most 481 rows"):
        _check_film(Path("film.webp"), (1, 32, 32), 1, 600)


def test_a_film_begins_with_the_noise(film):
    n, frames, _ = film
    noise = denormalise(PerSampleNoise(7)(torch.empty(n, 1, 32, 32)))
    expected = to_pil_image(make_grid(noise, math.ceil(math.sqrt(n)))).convert("L")
    assert apart(frames[0], expected) < min(10, apart(frames[1], expected))  # not 0: a film is compressed


def test_a_film_ends_with_the_images(film):
    _, frames, grid = film
    assert apart(frames[-1], grid) < min(10, apart(frames[1], grid))


def test_a_vae_draws_its_images_in_one_call(vae, tmp_path):
    process = done("sample", "--model", vae, "--n", 5, "--out", tmp_path / "grid.png")
    assert Image.open(tmp_path / "grid.png").size == TWO_ROWS_OF_THREE
    assert "no density of codes" not in process.stderr


def test_a_plain_autoencoder_draws_and_says_that_it_has_no_density(tmp_path):
    folder, out = tmp_path / "run", tmp_path / "grid.png"
    done(*TRAIN, "--model", "autoencoder", "--base-channels", 8, "--latent-dim", 4, "--out", folder)
    process = done("sample", "--model", folder, "--n", 5, "--out", out)
    assert Image.open(out).size == TWO_ROWS_OF_THREE
    said = "ddpm: a plain autoencoder has no density of codes; they are drawn from N(0, I) all the same"
    assert said in process.stderr.splitlines()
    assert "UserWarning" not in process.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--out", "RUN.gif"],
            "in one call, so there is no film: --out must end in .png, .zip or .npz",
        ),
        (["--out", "RUN.png", "--steps", 20], "steps is 20; this model draws an image in one call"),
        (["--out", "RUN.png", "--eta", 0.5], "eta is 0.5; this model draws an image in one call"),
    ],
)
def test_a_model_that_draws_in_one_call_takes_no_sampler(arguments, message, vae, tmp_path):
    assert message in refusal(["sample", "--model", vae, *arguments], tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", 2000], "steps is 2000; legal are integers from 1 to T = 1000"),
        (["--n", 0], "n is 0; legal are 1 to 1,000,000 images in a grid"),
        (["--n", 1_000_001], "n is 1000001; legal are 1 to 1,000,000 images in a grid"),
        (["--n", 10**30], "legal are 1 to 1,000,000 images in a grid"),
        (["--seed", -1], "seed is -1; it must be an integer from 0 up"),
        (["--sampler", "dim"], "did you mean ddim?"),
        (["--sampler", "ddmi", "--eta", 0.5], "did you mean ddim?"),
        (["--sampler", "ddpm"], "did you mean ancestral?"),
        (["--sampler", "ancestral", "--eta", 1], "eta is 1.0; it needs --sampler ddim, ancestral does not have it"),
        (["--eta", 1.5], "eta is 1.5; it must be in [0, 1]"),
        (["--eta", "nan"], "eta is nan; it must be in [0, 1]"),
        (["--sampler", "ancestral", "--variance", "huge"], "variance is 'huge'; legal are small, large"),
        (["--variance", "large"], "variance is large; it needs --sampler ancestral, dpm_solver_pp does not have it"),
        (["--spacing", "even"], "spacing is 'even'; legal are trailing, leading, linspace, quadratic, karras"),
        (["--model", "nowhere"], "model is 'nowhere'; legal are equal-autoencoder"),
        (["--weight", 2], "weight is 2; it needs a --guide"),
        (["--guide", "nowhere"], "guide is 'nowhere'; legal are equal-autoencoder"),
        (["--guide", "equal-gan"], "only diffusion models guide and are guided"),
        (["--guide", "equal-diffusion", "--weight", 0.5], "weight is 0.5; it must be finite and at least 1"),
        (["--precision", "half"], "precision is 'half'; legal are auto, float32"),
        (["--chunk", 0], "chunk is 0; it must be an integer from 1 up"),
        (["--colour", 3], "--colour"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(arguments, message, tmp_path):
    assert message in refusal(["sample", *arguments, "--out", "RUN.png"], tmp_path)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("RUN.jpg", "its name must end in .png or .gif or .webp or .zip or .npz"),
        ("/dev/null/x.png", "where no file can be written: Not a directory"),
        ("RUN" + "n" * 300 + ".png", "where no file can be written: File name too long"),
    ],
)
def test_a_place_that_no_picture_can_go_to_is_refused(out, message, tmp_path):
    assert message in refusal(["sample", "--out", out], tmp_path)


def test_a_folder_in_the_pictures_place_is_refused(tmp_path):
    (tmp_path / "folder.png").mkdir()
    said = refusal(["sample", "--out", tmp_path / "folder.png"], tmp_path)
    assert "there must be no folder of that name" in said


def test_a_run_without_its_weights_is_refused(trained, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_bytes((trained / "config.json").read_bytes())
    said = refusal(["sample", "--model", tmp_path / "run", "--out", "RUN.png"], tmp_path)
    assert "there is no weights file" in said


def test_damaged_weights_are_refused(tmp_path):
    (tmp_path / "run").mkdir()
    config = model_files.MODELS / "fashion-mnist" / "config.json"
    (tmp_path / "run" / "config.json").write_bytes(config.read_bytes())
    (tmp_path / "run" / "model.safetensors").write_bytes(b"nonsense")
    said = refusal(["sample", "--model", tmp_path / "run", "--out", "RUN.png"], tmp_path)
    assert "damaged" in said


def test_a_model_of_what_is_no_picture_is_refused(tmp_path):
    config = DiffusionConfig(UNetConfig(channels=4, base_channels=4, head_channels=4))
    ddpm.save(config.network(), config, tmp_path / "latents", (4, 8, 8))
    said = refusal(["sample", "--model", tmp_path / "latents", "--out", "RUN.png"], tmp_path)
    assert "which draws (4, 8, 8); a picture has 1 or 3 channels: ddpm.sample draws it in Python" in said


# Classes.


@pytest.mark.parametrize(
    ("arguments", "n", "size"),
    [
        (["--class", "ankle boot", "--n", 5], 5, (3, 2)),
        (["--class", "bag", "--class", "3", "--n", 4], 8, (4, 2)),
        (["--class", "all", "--guidance", 2, "--guidance-interval", 0.5, 3], 80, (8, 10)),
    ],
)
def test_several_classes_have_a_row_each(conditional, tmp_path, arguments, n, size):
    said = done("sample", "--model", conditional, "--steps", 1, *arguments, "--out", tmp_path / "grid.png").stdout
    assert said.startswith(f"{n} images, dpm_solver_pp, 1 step (1 network call), log_snr grid, told the classes")
    assert said.endswith(f", seed 0: {tmp_path / 'grid.png'}\n")
    assert Image.open(tmp_path / "grid.png").size == tuple(34 * side + 2 for side in size)


def test_a_row_is_of_its_class_and_guided(conditional, tmp_path):
    command = ["--class", "bag", "--class", "dress", "--n", 2, "--guidance", 3, "--steps", 2]
    done("sample", "--model", conditional, *command, "--precision", "float32", "--out", tmp_path / "grid.png")
    denoise = ddpm.load(conditional, "float32", "cpu")
    labels = ["bag", "bag", "dress", "dress"]
    guided = Guided(denoise.given(labels), denoise.given(None), 3)
    images = denormalise(ddpm.sample(guided, 4, steps=2, progress=False))
    assert apart(Image.open(tmp_path / "grid.png"), to_pil_image(make_grid(images, 2))) < 0.5


@pytest.mark.parametrize("guide", ["equal-diffusion", "fashion-mnist-classes"])
def test_a_worse_model_guides_one_that_is_told_a_class_and_is_told_it_too_if_it_knows_classes(
    conditional, tmp_path, guide
):
    command = ["--class", "bag", "--n", 2, "--guide", guide, "--weight", 2, "--steps", 2]
    done("sample", "--model", conditional, *command, "--precision", "float32", "--out", tmp_path / "grid.png")
    told = ddpm.load(conditional, "float32", "cpu").given(["bag", "bag"])
    worse = ddpm.load(guide, "float32", "cpu")
    grids = [
        to_pil_image(make_grid(denormalise(ddpm.sample(Guided(told, by, 2), 2, steps=2, progress=False)), 2))
        for by in ((worse.given(["bag", "bag"]), worse) if worse.classes else (worse, told))  # the second is a rival
    ]
    drawn = Image.open(tmp_path / "grid.png")
    assert apart(drawn, grids[0]) < 0.5
    assert apart(drawn, grids[1]) > 5


def test_a_guide_that_knows_other_classes_is_refused(conditional, tmp_path):
    other = shutil.copytree(conditional, tmp_path / "other")
    record = json.loads((other / "config.json").read_text())
    record["data"]["classes"] = record["data"]["classes"][::-1]
    (other / "config.json").write_text(json.dumps(record))
    said = refusal(["sample", "--model", conditional, "--class", "bag", "--guide", other, "--out", "RUN.png"], tmp_path)
    assert f"guide is '{other}', which knows other classes than model '{conditional}'" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--class", "ankel boot"], "did you mean 'ankle boot'?"),
        (["--class", "11"], "class is 11; legal are 0 to 9"),
        (["--guidance", 2], "guidance is 2; it needs a --class"),
        (["--class", "bag", "--guidance", 0.5], "guidance is 0.5; it must be finite and at least 1, which is none"),
        (["--class", "all", "--n", 200_000], "n is 200000; legal are 1 to 100,000 images of each class in a grid"),
        (["--class", "bag", "--guidance-interval", 1, 2], "it needs a --guidance above 1, or a --guide"),
        (["--class", "bag", "--guidance", 2, "--guidance-interval", 2, 1], "interval is (2.0, 1.0); it must be two"),
    ],
)
def test_wrong_classes_and_guidance_are_refused(conditional, tmp_path, arguments, message):
    command = ["sample", "--model", conditional, "--out", "RUN.png", *arguments]
    assert message in refusal(command, tmp_path)


def test_a_model_without_classes_draws_none_by_name(trained, tmp_path):
    said = refusal(["sample", "--model", trained, "--class", "bag", "--out", "RUN.png"], tmp_path)
    assert "knows no classes; fashion-mnist-classes, which ships, does, and so does what ddpm train" in said
    assert "ddpm train --conditional makes" in said


def test_a_conditional_run_is_trained_again_from_its_record(conditional, tmp_path):
    command = ["train", "--config", conditional / "config.json", "--steps", 1, "--track", "none", "--no-samples"]
    done(*command, "--out", tmp_path / "again")
    assert ddpm.load(tmp_path / "again").classes == CLASSES


def test_one_image_is_one(tmp_path):
    said = done("sample", "--n", 1, "--steps", 1, "--out", tmp_path / "one.png").stdout
    how = "dpm_solver_pp, 1 step (1 network call), log_snr grid, seed 0"
    assert said == f"1 image, {how}: {tmp_path / 'one.png'}\n"
