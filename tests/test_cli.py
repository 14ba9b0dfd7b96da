import math
import re
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image, ImageChops, ImageStat
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from ddpm import cli, pretrained
from ddpm.data import denormalise
from ddpm.noise import PerSampleNoise
from tests.forked import ended, fork

TRAIN = ["train", "--data", "fashion-mnist-embedded", "--steps", "4", "--batch-size", "2", "--checkpoint-every", "2"]


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "ddpm", *map(str, arguments)], capture_output=True, text=True)


def test_train_sample_evaluate(tmp_path):
    done = run(*TRAIN, "--base-channels", 32, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "model.safetensors", "config.json", "log.jsonl", "checkpoints", "samples", "tensorboard", ".lock",
    }  # fmt: skip
    out = tmp_path / "grid.png"
    done = run("sample", "--model", tmp_path / "run", "--n", 5, "--steps", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    assert Image.open(out).size == (3 * 34 + 2, 2 * 34 + 2)
    for name, n in (("film.gif", 4), ("film.webp", 17)):  # 17 are two chunks
        options = ["sample", "--model", tmp_path / "run", "--n", n, "--steps", 3, "--sampler", "heun", "--seed", 7]
        for path in (tmp_path / name, out):
            done = run(*options, "--out", path)
            assert done.returncode == 0, done.stderr
        film = Image.open(tmp_path / name)
        assert film.n_frames == 4  # the noise and three moves
        assert film.size[0] == 34 * math.ceil(math.sqrt(n)) + 2
        frames = []
        for i in range(4):
            film.seek(i)
            frames.append(film.convert("L"))
        noise = denormalise(PerSampleNoise(7)(torch.empty(n, 1, 32, 32)))
        first = to_pil_image(make_grid(noise, math.ceil(math.sqrt(n)))).convert("L")
        for frame, expected in ((frames[0], first), (frames[-1], Image.open(out).convert("L"))):
            distance = [ImageStat.Stat(ImageChops.difference(expected, f)).mean[0] for f in (frame, frames[1])]
            assert distance[0] < min(10, distance[1])  # not 0: a film is compressed
    done = run("evaluate", "--model", tmp_path / "run", "--n", 65, "--steps", 1)
    assert done.returncode == 0, done.stderr
    assert "ddim, eta 0, 1 steps, trailing grid, seed 0: Frechet distance" in done.stdout
    early = tmp_path / "run" / "checkpoints" / "step-00000002"
    for guide, options, weight in (("equal-diffusion", [], 1.6), (early, ["--weight", 2], 2)):
        done = run("evaluate", "--model", tmp_path / "run", "--n", 65, "--steps", 1, "--guide", guide, *options)
        assert done.returncode == 0, done.stderr
        assert f"trailing grid, guided by {guide} with weight {weight}, seed 0: Frechet distance" in done.stdout


def test_models_that_draw_in_one_call(tmp_path):
    for kind in ("vae", "autoencoder"):
        folder, out = tmp_path / kind, tmp_path / f"{kind}.png"
        done = run(*TRAIN, "--model", kind, "--base-channels", 8, "--latent-dim", 4, "--out", folder)
        assert done.returncode == 0, done.stderr
        done = run("sample", "--model", folder, "--n", 5, "--out", out)
        assert done.returncode == 0, done.stderr
        assert Image.open(out).size == (3 * 34 + 2, 2 * 34 + 2)
        assert ("no density of codes" in done.stderr) == (kind == "autoencoder")
    done = run("evaluate", "--model", tmp_path / "vae", "--n", 65)
    assert "one call, seed 0: Frechet distance" in done.stdout
    for arguments, words in (
        (["sample", "--out", tmp_path / "film.gif"], "it draws an image in one call, so --out must end in .png"),
        (["sample", "--steps", 20], "steps is 20; this model draws an image in one call"),
        (["sample", "--eta", 0.5], "eta is 0.5; this model draws an image in one call"),
        (["export", tmp_path / "there"], "diffusers has pipelines of diffusion models only"),
    ):
        done = run(*arguments, "--model", tmp_path / "vae")
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "there").exists()


def test_every_command_teaches():
    done = run("--help")
    assert all(command in done.stdout for command in ("train", "sample", "evaluate", "export", "chapters"))
    done = run("train", "--help")
    assert "resumes it" in done.stdout
    assert "[default: (5000)]" in done.stdout


def break_checkpoints(folder):
    for path in (folder / "checkpoints").glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*TRAIN, "--data", "minst", "--out", "RUN"], "data set is 'minst'; legal are fashion-mnist"),
        ([*TRAIN, "--data", "mnist", "--data-folder", "docs", "--out", "RUN"], "MNIST is not in docs"),
        ([*TRAIN, "--data", "folder:nowhere", "--out", "RUN"], "data is 'folder:nowhere'; there is no such folder"),
        ([*TRAIN, "--data", "folder:ddpm", "--out", "RUN"], "there is no picture in it, by the endings of the files'"),
        ([*TRAIN, "--data", "folder:book/assets", "--channels", 2, "--out", "RUN"], "channels is 2; pictures have 1"),
        ([*TRAIN, "--data", "folder:book/assets", "--image-size", 0, "--out", "RUN"], "image_size is 0"),
        ([*TRAIN, "--data", "folder:book/assets", "--image-size", 30, "--out", "RUN"], "28 or 32"),
        ([*TRAIN, "--image-size", 64, "--out", "RUN"], "image_size is 64; only pictures of --data folder:PATH"),
        ([*TRAIN, "--workers", -1, "--out", "RUN"], "greater than or equal to 0"),
        ([*TRAIN, "--ema", 0.9, "--ema", 1, "--out", "RUN"], "ema is (0.9, 1.0); legal is at least 0 and below 1"),
        ([*TRAIN, "--decay", "step", "--out", "RUN"], "decay is 'step'; legal is cosine, linear or constant"),
        ([*TRAIN, "--keep", 0, "--out", "RUN"], "keep is 0; legal is at least 1"),
        ([*TRAIN, "--track", "mlflow", "--out", "RUN"], "tracker is 'mlflow'; legal are tensorboard, wandb"),
        ([*TRAIN, "--config", "nowhere.toml", "--out", "RUN"], "config is 'nowhere.toml', which cannot be read"),
        ([*TRAIN, "--config", "README.md", "--out", "RUN"], "config is 'README.md', which cannot be read"),
        ([*TRAIN, "--config", "book/results/speed.json", "--out", "RUN"], "has no such setting"),
        ([*TRAIN, "--base-channels", 30, "--out", "RUN"], "base_channels is 30; it must be a multiple of 4"),
        ([*TRAIN, "--steps", 0, "--out", "RUN"], "steps is 0"),
        ([*TRAIN, "--target", "noise", "--out", "RUN"], "target is 'noise'; legal are eps, x0, v"),
        ([*TRAIN, "--times", "normal", "--out", "RUN"], "times is 'normal'; legal are uniform, lognormal"),
        (
            [*TRAIN, "--optimiser", "lion", "--out", "RUN"],
            "optimiser is 'lion'; legal is adamw, adam, sgd, rmsprop, muon",
        ),
        ([*TRAIN, "--model", "flow", "--out", "RUN"], "model is 'flow'; legal are diffusion, autoencoder, vae, gan"),
        ([*TRAIN, "--model", "gan", "--target", "v", "--out", "RUN"], "target is 'v'; model 'gan' has no such setting"),
        ([*TRAIN, "--latent-dim", 8, "--out", "RUN"], "latent_dim is 8; model 'diffusion' has no such setting"),
        ([*TRAIN, "--model", "vae", "--loss", "l1", "--out", "RUN"], "loss is 'l1'; legal are mse, bce"),
        ([*TRAIN, "--model", "gan", "--game", "chess", "--out", "RUN"], "game is 'chess'; legal are non-saturating"),
        ([*TRAIN, "--model", "gan", "--r1", "-1", "--out", "RUN"], "r1 is -1.0; it must be at least 0"),
        ([*TRAIN, "--model", "gan", "--init", "fashion-mnist", "--out", "RUN"], "do not fit this model"),
        ([*TRAIN, "--weighting", "bound", "--out", "RUN"], "the bound is a mean over uniform times"),
        ([*TRAIN, "--init", "nothing", "--out", "RUN"], "model is 'nothing'"),
        ([*TRAIN, "--init", "fashion-mnist", "--base-channels", 64, "--out", "RUN"], "do not fit this model"),
        (["sample", "--steps", 2000, "--out", "RUN.png"], "n is 2000 steps; legal are integers from 1 to T = 1000"),
        (["sample", "--sampler", "dim", "--out", "RUN.png"], "did you mean ddim?"),
        (["sample", "--sampler", "ancestral", "--eta", 1, "--out", "RUN.png"], "only ddim has it"),
        (["sample", "--model", "nowhere", "--out", "RUN.png"], "model is 'nowhere'; legal are equal-autoencoder"),
        (
            ["sample", "--sampler", "ancestral", "--variance", "huge", "--out", "RUN.png"],
            "variance is 'huge'; legal are",
        ),
        (["sample", "--variance", "large", "--out", "RUN.png"], "only ancestral has it"),
        (["sample", "--sampler", "ddmi", "--eta", 0.5, "--out", "RUN.png"], "did you mean ddim?"),
        (["sample", "--eta", 1.5, "--out", "RUN.png"], "eta is 1.5; it must be in [0, 1]"),
        (["sample", "--sampler", "ddpm", "--out", "RUN.png"], "did you mean ancestral?"),
        (["sample", "--spacing", "even", "--out", "RUN.png"], "spacing is 'even'"),
        (["sample", "--weight", 2, "--out", "RUN.png"], "weight is 2; it needs a --guide"),
        (["sample", "--guide", "equal-gan", "--out", "RUN.png"], "only diffusion models guide and are guided"),
        (["sample", "--guide", "equal-diffusion", "--weight", 0.5, "--out", "RUN.png"], "weight is 0.5; it must be"),
        (["sample", "--out", "RUN.jpg"], "must end in .png, .gif or .webp"),
        (["sample", "--out", "/dev/null/x.png"], "no file on the way to it"),
        (["sample", "--precision", "half", "--out", "RUN.png"], "precision is 'half'"),
        (["evaluate", "--n", 10], "n is 10"),
        (["round-trip", "--depth", 1001, "--out", "RUN.png"], "depth is 1001; legal are 1 to 1000"),
        (["round-trip", "--depth", 9, "--steps", 10, "--out", "RUN.png"], "steps is 10; legal are 1 to the depth, 9"),
        (["round-trip", "--invert", "--out", "RUN.png"], "sampler is 'ancestral'; with --invert legal are ddim and"),
        (["round-trip", "--invert", "--sampler", "ddim", "--eta", 1, "--out", "RUN.png"], "eta is 1.0; with --invert"),
        (["round-trip", "--spacing", "leading", "--out", "RUN.png"], "spacing is 'leading', whose grids begin below"),
        (["round-trip", "RUN.png", "--out", "RUN.png"], "which is one of the pictures"),
        (["round-trip", "--sampler", "heun", "--eta", 1, "--out", "RUN.png"], "only ddim has it"),
        (["round-trip", "--out", "RUN.gif"], "its name must end in .png"),
        (["round-trip", ".", "--out", "RUN.png"], ". is a folder; name the pictures in it"),
        (["round-trip", "nowhere.jpg", "--out", "RUN.png"], "there is no picture nowhere.jpg"),
        (["round-trip", "README.md", "--out", "RUN.png"], "README.md is no picture that can be read"),
        (["export", "--to", "onnx", "RUN"], "to is 'onnx'; legal is diffusers"),
        (["export", "--model", "nowhere", "RUN"], "model is 'nowhere'"),
        (["export", "."], "directory is '.', which is there already"),
        (["chapters", "--preset", "huge"], "preset is 'huge'; legal are cpu, gpu, smoke"),
        (["chapters", "--only", 9], "only is 9; legal are"),
        (["chapters", "-p", "sede=1"], "parameter is 'sede'; legal in"),
        (["chapters", "-p", "seed"], "parameter is 'seed'; it must be NAME=VALUE"),
        (["chapters", "--notebooks", "nowhere"], "notebooks is 'nowhere'"),
        (["train"], "--out"),
        (["sample", "--colour", 3], "--colour"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(arguments, message, tmp_path):
    (made := tmp_path / "made").mkdir()

    def program():
        sys.argv = ["ddpm", *(str(a).replace("RUN", str(made / "it")) for a in arguments)]
        cli.main()

    assert ended(fork(program, err=tmp_path / "err")) == 2
    said = (tmp_path / "err").read_text()
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert list(made.iterdir()) == []


def test_a_round_trip_of_ones_own_pictures(tmp_path):
    Image.new("RGB", (500, 333), "teal").save(tmp_path / "photo.jpg")
    Image.new("1", (50, 60), 1).save(tmp_path / "one-bit.png")
    out, pictures = tmp_path / "strip.png", [tmp_path / "photo.jpg", tmp_path / "one-bit.png"]
    done = run("round-trip", *pictures, "--depth", 300, "--steps", 3, "--sampler", "ddim", "--eta", 0.5, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "photo.jpg (500 x 333, RGB; made grey; cut to 333 x 333; shrunk to 32 x 32): PSNR" in done.stdout
    assert "noised in one shot to t = 300, back by ddim, eta 0.5, 3 steps, trailing grid, seed 0" in done.stdout
    assert re.search(r"mean of 2 +back +one-shot mean +random pair\nsquared error( +\d\.\d{3}){3}\n", done.stdout)
    out_width = 5 * (128 + 4) + 4
    assert Image.open(out).size == (out_width, 2 * (128 + 4) + 4)
    strips = {}
    for seed, chosen in ((0, pictures), (0, pictures[:1]), (1, pictures[:1])):
        arguments = ["--depth", 300, "--steps", 3, "--precision", "float32", "--seed", seed]
        done = run("round-trip", *chosen, *arguments, "--out", out)
        assert done.returncode == 0, done.stderr
        assert ("random pair" in done.stdout) == (len(chosen) == 2)
        strips[seed, len(chosen)] = Image.open(out).convert("L").crop((0, 0, out_width, 132))
    difference = {k: ImageStat.Stat(ImageChops.difference(strips[0, 1], v)).mean[0] for k, v in strips.items()}
    assert difference[0, 2] < 0.5 < 5 < difference[1, 1]  # a picture's noise is its own, and the seed's


def test_an_inverted_trip_on_the_command_line_brings_garments_back(tmp_path):
    errors = {}
    for options in ((), ("--invert",)):
        command = ["round-trip", "--sampler", "heun", "--steps", 6, "--depth", 500, "--spacing", "karras", *options]
        done = run(*command, "--out", tmp_path / "strip.png")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("a test image") == 10
        errors[options] = float(re.search(r"squared error +(\S+)", done.stdout)[1])
    assert errors["--invert",] < errors[()] / 5


def test_export_writes_a_pipeline_with_the_models_card(tmp_path):
    done = run("export", "--to", "diffusers", tmp_path / "pipeline")
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "pipeline" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: diffusers\n")
    assert pretrained.card("fashion-mnist") in card
    made = {str(path.relative_to(tmp_path / "pipeline")) for path in tmp_path.rglob("*") if path.is_file()}
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert made == {
        "README.md", "model_index.json", "scheduler/scheduler_config.json", "unet/config.json", weights
    }  # fmt: skip


def test_damaged_files_give_one_line_and_lose_nothing(tmp_path):
    folder = tmp_path / "run"
    assert run(*TRAIN, "--out", folder).returncode == 0
    break_checkpoints(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = run(*TRAIN, "--out", folder)
    assert done.returncode == 2
    assert "no checkpoint in" in done.stderr.splitlines()[-1]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    (folder / "model.safetensors").unlink()
    done = run("sample", "--model", folder, "--out", tmp_path / "x.png")
    assert done.returncode == 2
    assert "there is no weights file" in done.stderr
    shutil.copy(pretrained.MODELS / "fashion-mnist" / "config.json", folder)
    (folder / "model.safetensors").write_bytes(b"nonsense")
    done = run("sample", "--model", folder, "--out", tmp_path / "x.png")
    assert done.returncode == 2
    assert "damaged" in done.stderr
    assert not (tmp_path / "x.png").exists()
