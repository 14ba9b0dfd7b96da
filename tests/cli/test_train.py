import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import ddpm
from ddpm.autoencoder import AutoencoderConfig
from ddpm.cli.config_file import settings_of
from ddpm.cli.job import JobSettings, draw_progress
from ddpm.cli.train import job_of
from ddpm.data import Dataset, normalise
from ddpm.training import train
from ddpm.training.recipes import recipe
from tests.cli.commands import TRAIN, alone, done, forked, refusal
from tests.folders import contents
from tests.training.garments import first_images

pytestmark = pytest.mark.long

# What a training leaves behind, and what it finds.


def test_a_run_leaves_its_files(trained):
    assert {path.name for path in trained.iterdir()} == {
        "model.safetensors", "config.json", "log.jsonl", "checkpoints", "samples", "tensorboard", ".lock",
    }  # fmt: skip


def test_a_run_keeps_the_threads_that_it_is_told(tmp_path):
    command = [*TRAIN, "--steps", 1, "--batch-size", 1, "--base-channels", 8, "--no-samples", "--track", "none"]
    said = alone(*command, "--threads", 2, "--out", tmp_path / "run").stdout
    assert re.search(r"^training on \w+ in \w+, one process, 2 threads$", said, re.MULTILINE)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["training"]["threads"] == 2
    again = forked(*command, "--threads", 1, "--out", tmp_path / "run")
    assert again.returncode == 2
    assert "holds another run (threads is 2 there and 1 here)" in again.stderr.splitlines()[-1]


def test_a_run_whose_checkpoints_are_all_damaged_is_refused_and_left_alone(trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    for path in folder.glob("checkpoints/*.safetensors"):
        path.write_bytes(path.read_bytes()[:1000])
    before = contents(folder)
    process = forked(*TRAIN, "--base-channels", 32, "--out", folder)
    assert process.returncode == 2
    assert "no checkpoint in" in process.stderr.splitlines()[-1]
    assert contents(folder) == before


# Bad input.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--conditional", "--model", "gan"], "conditional is True; model 'gan' is told no classes, only diffusion is"),
        (["--label-dropout", 0.2], "label_dropout is 0.2; it needs --conditional, which tells labels"),
        (["--data", "minst"], "data is 'minst'; legal are fashion-mnist, fashion-mnist-embedded, mnist, kmnist, "),
        (["--data", "minst"], "cifar10, cifar100, folder:PATH"),
        (["--data", "mnist", "--data-folder", "docs"], "MNIST is not in docs"),
        (["--data", "book/assets"], "data is 'book/assets', which is a folder; did you mean folder:book/assets?"),
        (["--data", "folder:nowhere"], "data is 'folder:nowhere'; there is no such folder"),
        (["--data", "folder:ddpm"], "there is no picture in it, by the endings of the files'"),
        (["--data", "folder:ddpm", "--data-folder", "docs"], "data_folder is 'docs'; data is 'folder:ddpm', which"),
        (["--data", "folder:book/assets", "--channels", 2], "channels is 2; pictures have 1 or 3"),
        (["--data", "folder:book/assets", "--image-size", 0], "image_size is 0; it must be an integer from 1 up"),
        (["--data", "folder:book/assets", "--image-size", 30], "28 or 32"),
        (["--image-size", 64], "image_size is 64; only pictures of --data folder:PATH are brought to it"),
        (["--workers", -1], "workers is -1; it must be an integer from 0 up"),
        (["--track", "mlflow"], "tracker is 'mlflow'; legal are tensorboard, wandb; for none, --track none"),
    ],
)
def test_a_job_that_cannot_be_done_gives_one_line_and_exit_code_2(arguments, message, tmp_path):
    assert message in refusal([*TRAIN, *arguments, "--out", "RUN"], tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", 0], "steps is 0; it must be an integer from 1 up"),
        (["--batch-size", -4], "batch_size is -4; it must be an integer from 1 up"),
        (["--checkpoint-every", 0], "checkpoint_every is 0; it must be an integer from 1 up"),
        (["--keep", 0], "keep is 0; it must be an integer from 1 up"),
        (["--warmup", -1], "warmup is -1; it must be an integer from 0 up"),
        (["--seed", -1], "seed is -1; it must be an integer from 0 up"),
        (["--learning-rate", "nan"], "learning_rate is nan; it must be a finite number above 0"),
        (["--momentum", 1], "momentum is 1.0; it must be a finite number at least 0 and below 1"),
        (["--weight-decay", -0.1], "weight_decay is -0.1; it must be a finite number at least 0"),
        (["--clip", 0], "clip is 0.0; it must be a finite number above 0"),
        (["--ema", 0.9, "--ema", 1], "ema is (0.9, 1.0); it must be at least 0 and below 1, or several such decays"),
        (["--decay", "step"], "decay is 'step'; legal are cosine, linear, constant"),
        (["--optimiser", "lion"], "optimiser is 'lion'; legal are adamw, adam, sgd, rmsprop, muon"),
        (["--precision", "half"], "precision is 'half'; legal are auto, float32"),
        (["--seed", 2**64], "seed is 18446744073709551616; it must be below 2**64"),
    ],
)
def test_a_wrong_setting_of_a_training_gives_one_line_and_exit_code_2(arguments, message, tmp_path):
    assert message in refusal([*TRAIN, *arguments, "--out", "RUN"], tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "flow"], "model is 'flow'; legal are diffusion, autoencoder, vae, gan"),
        (["--base-channels", 30], "base_channels is 30; it must be a multiple of 4"),
        (["--schedule", "flat"], "schedule is 'flat'; legal are linear, cosine, sigmoid"),
        (["--target", "noise"], "target is 'noise'; legal are eps, x0, v"),
        (
            ["--schedule", "straight"],
            "target is 'v'; on the schedule Straight(T=1000, alpha_bar_T=0) legal are x0, flow",
        ),
        (["--schedule", "linear_zero_snr", "--target", "eps"], "target is 'eps'; on the schedule"),
        (["--target", "flow"], "target is 'flow'; on the schedule"),
        (["--times", "normal"], "times is 'normal'; legal are uniform, lognormal"),
        (["--log-sigma-std", 0], "log_sigma_std is 0.0; it must be a finite number above 0"),
        (["--uniform-share", 1.5], "uniform_share is 1.5; it must be a finite number at least 0 and at most 1"),
        (["--weighting", "bound"], "the bound is a mean over uniform times"),
        (["--weighting", "min_snr", "--schedule", "linear_zero_snr"], "weighting is 'min_snr', which is 0 at T"),
        (["--snr-gamma", 0], "snr_gamma is 0.0; it must be a finite number above 0"),
        (["--micro-batch-size", 0], "micro_batch_size is 0; it must be an integer from 1 up"),
        (["--latent-dim", 8], "latent_dim is 8; model 'diffusion' has no such setting"),
        (["--model", "vae", "--loss", "l1"], "loss is 'l1'; legal are mse, bce"),
        (["--model", "gan", "--target", "v"], "target is 'v'; model 'gan' has no such setting"),
        (["--model", "gan", "--game", "chess"], "game is 'chess'; legal are non-saturating, minimax"),
        (["--model", "gan", "--r1", -1], "r1 is -1.0; it must be a finite number at least 0"),
        (["--model", "gan", "--init", "fashion-mnist"], "does not fit the model: it lacks discriminator."),
        (["--init", "nothing"], "init is 'nothing'; legal are equal-autoencoder"),
        (["--init", "fashion-mnist", "--base-channels", 64], "does not fit the model: unet."),
    ],
)
def test_a_wrong_setting_of_a_model_gives_one_line_and_exit_code_2(arguments, message, tmp_path):
    assert message in refusal([*TRAIN, *arguments, "--out", "RUN"], tmp_path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.toml", "config is 'nowhere.toml', which cannot be read"),
        ("README.md", "config is 'README.md', which cannot be read"),
        ("book/results/speed.json", "has no such setting"),
    ],
)
def test_a_file_of_no_settings_gives_one_line_and_exit_code_2(path, message, tmp_path):
    assert message in refusal([*TRAIN, "--config", path, "--out", "RUN"], tmp_path)


def test_a_file_cannot_say_the_shape_of_the_images(tmp_path):
    (tmp_path / "settings.toml").write_text("image_shape = [3, 64, 64]\n")
    said = refusal([*TRAIN, "--model", "vae", "--config", tmp_path / "settings.toml", "--out", "RUN"], tmp_path)
    assert "image_shape is (3, 64, 64); the data says it" in said


def test_a_model_for_large_pictures_is_refused_for_small_ones_alone(tmp_path):
    """Six levels halve a picture six times, for which 32 pixels are too few."""
    (tmp_path / "six.toml").write_text("channel_multipliers = [1, 1, 1, 1, 1, 1]\nbase_channels = 8\n")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in "ab":
        Image.new("RGB", (64, 64)).save(pictures / f"{name}.png")
    command = ["train", "--model", "vae", "--config", tmp_path / "six.toml", "--data", f"folder:{pictures}"]
    assert "height is 32; it must be a multiple of 64" in refusal([*command, "--out", "RUN"], tmp_path)
    small = ["--image-size", 64, "--steps", 1, "--batch-size", 2, "--track", "none", "--no-samples"]
    done(*command, *small, "--out", tmp_path / "run")
    assert ddpm.load(tmp_path / "run").config.image_shape == (3, 64, 64)


def test_a_wrong_type_in_a_file_gives_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "settings.toml").write_text('learning-rate = "fast"\n')
    said = refusal([*TRAIN, "--config", tmp_path / "settings.toml", "--out", "RUN"], tmp_path)
    assert "learning_rate is 'fast'; it must be a finite number above 0" in said


def test_a_place_where_nothing_can_be_written_gives_one_line_and_exit_code_2(tmp_path):
    said = refusal([*TRAIN, "--data", "folder:book/assets", "--out", "README.md/run"], tmp_path)
    assert "out is 'README.md/run/config.json', where no file can be written: Not a directory" in said


def test_a_folder_whose_name_is_no_text_is_refused_before_the_images_are_read(tmp_path):
    said = refusal([*TRAIN, "--data", "mnist", "--data-folder", "docs", "--out", "RUN\udcff"], tmp_path)
    assert r"\udcff'; tensorboard needs a path that is text in UTF-8, and --track none (in Python no trackers)" in said


def test_out_is_required(tmp_path):
    assert "--out" in refusal(["train"], tmp_path)


# Settings from a file.


def test_settings_come_from_toml_with_the_names_of_the_options(tmp_path):
    (tmp_path / "settings.toml").write_text('batch-size = 8\nema = [0.9, 0.99]\ntarget = "v"\n')
    assert settings_of(tmp_path / "settings.toml") == {"batch_size": 8, "ema": (0.9, 0.99), "target": "v"}


def test_a_file_lies_in_the_home_where_no_shell_says_so(tmp_path, monkeypatch):
    """No shell expands the ~ of `--config=~/settings.toml`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "settings.toml").write_text("steps = 8\n")
    assert settings_of(Path("~/settings.toml")) == {"steps": 8}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("batch-size = 8\nbatch_size = 16\n", "batch_size"),
        ('time = "add"\ntime-conditioning = "scale_shift"\n', "time_conditioning"),
    ],
)
def test_a_setting_that_a_file_gives_twice_is_refused(text, name, tmp_path):
    (tmp_path / "settings.toml").write_text(text)
    with pytest.raises(ValueError, match=f"which gives {name} twice, by two of its names$"):
        settings_of(tmp_path / "settings.toml")


@pytest.mark.parametrize("name", ["settings.toml", "settings.TOML", "settings.json"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_may_begin_with_a_byte_order_mark_and_hold_any_letters(name, mark, tmp_path):
    """Windows' Notepad writes one."""
    settings = {"json": '{"data": "folder:Grüße"}'}.get(name.rpartition(".")[2], 'data = "folder:Grüße"')
    (tmp_path / name).write_bytes(mark + settings.encode())
    assert settings_of(tmp_path / name) == {"data": "folder:Grüße"}


def test_a_file_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "settings.toml").write_bytes("steps = 1".encode("utf-16"))
    with pytest.raises(ValueError, match=r"^config is '.*settings.toml', .* its encoding must be UTF-8$"):
        settings_of(tmp_path / "settings.toml")


@pytest.mark.parametrize(
    "record",
    [
        {"model": {}, "training": {}, "data": {}},
        {"model": {}, "training": {}},
        {"model": {}, "training": {}, "data": []},
        {"kind": "vae", "model": {}, "training": [], "data": {"name": "mnist", "image_shape": [1, 32, 32]}},
        {"model": {}, "training": {}, "data": {"name": 3}},
        {"model": {"unet": 3}, "training": {}, "data": {"name": "mnist", "image_shape": [1, 32, 32]}},
        {"model": {}, "training": {}, "data": {"name": "mnist", "image_shape": 3}},
    ],
)
def test_a_record_that_is_damaged_is_refused_in_one_line(record, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"^config is '.*config.json', a run's record that is damaged: .*$"):
        settings_of(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps = 1e2", "steps is 100.0; it must be an integer from 1 up"),
        ("seed = 0.5", "seed is 0.5; it must be an integer from 0 up"),
        ("learning-rate = inf", "learning_rate is inf; it must be a finite number above 0"),
        ("ema = [0.9, nan]", r"ema is \(0.9, nan\); it must be at least 0 and below 1"),
        ("precision = 2020-01-01", "precision is datetime.date.*; legal are auto, float32"),
        ('skips = "no"', "skips is 'no'; legal are True, False"),
        ("channel-multipliers = 4", "channel_multipliers is 4; it must be a list of integers from 1 up"),
        ("threads = 0", "threads is 0; it must be an integer from 1 up"),
        ('kind = "vae"', "kind is 'vae'; model 'diffusion' has no such setting"),
        ('"größe" = 3', "größe is 3; model 'diffusion' has no such setting"),
    ],
)
def test_a_wrong_value_in_a_file_is_refused_by_its_name(text, words, tmp_path):
    (tmp_path / "settings.toml").write_text(text, encoding="utf-8")
    job, chosen = job_of(settings_of(tmp_path / "settings.toml"))
    with pytest.raises(ValueError, match=f"^{words}"):
        recipe(job.model, **chosen)


def test_a_record_leaves_the_threads_to_the_machine(trained):
    assert json.loads((trained / "config.json").read_text())["training"]["threads"] >= 1
    assert "threads" not in settings_of(trained / "config.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("samples", "no"), ("workers", 1.5), ("data_folder", 3), ("init", 3), ("image_size", 32.0),
        ("channels", "3"), ("track", 3), ("track", (3,)),
    ],
)  # fmt: skip
def test_a_jobs_own_setting_of_a_wrong_type_is_refused_by_its_name(name, value):
    with pytest.raises(ValueError, match=f"^{name} is {re.escape(repr(value))}"):
        JobSettings(**{name: value})


def test_a_file_may_have_a_settings_name_of_version_0_1(tmp_path):
    (tmp_path / "settings.toml").write_text('time = "scale_shift"\n')
    assert settings_of(tmp_path / "settings.toml") == {"time_conditioning": "scale_shift"}


def test_a_file_that_holds_no_names_is_refused(tmp_path):
    (tmp_path / "settings.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="it must hold names and values"):
        settings_of(tmp_path / "settings.json")


def test_an_option_overrides_the_file(tmp_path):
    (tmp_path / "settings.toml").write_text("steps = 0\nwarmup = -1\n")
    said = refusal([*TRAIN, "--config", tmp_path / "settings.toml", "--out", "RUN"], tmp_path)  # TRAIN has 4 steps
    assert "warmup is -1" in said


TINY = {"base_channels": 8, "steps": 4, "batch_size": 8, "checkpoint_every": 2}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("diffusion", {"channel_multipliers": (1, 2), "attention_levels": (1,), "head_channels": 8, "ema": (0.9, 0.5)}),
        ("autoencoder", {"loss": "bce"}), ("vae", {"loss": "logistic", "beta": 0.5}), ("gan", {"game": "minimax"}),
    ],
)  # fmt: skip
def test_a_runs_own_record_repeats_its_settings(kind, changes, tmp_path):
    model, training = recipe(kind, **changes, **TINY)
    images = first_images(50)
    train(model, images, training, tmp_path, progress=False)
    settings = settings_of(tmp_path / "config.json")
    assert settings.pop("data") == images.name
    assert recipe(settings.pop("model"), **settings) == (model, training)


def test_the_record_of_a_run_on_a_folder_wants_its_data_named(tmp_path):
    model, training = recipe("gan", **TINY)
    train(model, replace(first_images(50), name="folder:mine@0123"), training, tmp_path, progress=False)
    with pytest.raises(ValueError, match="a run that began with pictures of a folder; name them with --data"):
        settings_of(tmp_path / "config.json")
    settings = settings_of(tmp_path / "config.json", {"data": "folder:others"})
    assert (settings["channels"], settings["image_size"]) == (1, 32)
    named = settings_of(tmp_path / "config.json", {"data": "cifar10"})  # whose images have a shape of their own
    assert not {"channels", "image_size"} & named.keys()


def test_the_record_of_a_run_from_other_weights_wants_them_named(tmp_path):
    model, training = recipe("vae", **TINY)
    train(model, first_images(50), training, tmp_path / "first", progress=False)
    init = tmp_path / "first" / "model.safetensors"
    train(model, first_images(50), training, tmp_path / "second", init=init, progress=False)
    with pytest.raises(ValueError, match="a run that began with other weights; name them with --init"):
        settings_of(tmp_path / "second" / "config.json")
    assert "init" not in settings_of(tmp_path / "second" / "config.json", {"init": "gan"})


def test_a_record_of_version_0_1_repeats_its_settings(trained, tmp_path):
    record = json.loads((trained / "config.json").read_text())
    record["model"]["unet"]["time"] = record["model"]["unet"].pop("time_conditioning")  # its name then
    (tmp_path / "config.json").write_text(json.dumps(record))
    assert settings_of(tmp_path / "config.json") == settings_of(trained / "config.json")


# Classes.


@pytest.mark.parametrize(
    ("names", "found"),
    [(["0.png", "1.png"], "no classes"), (["train/0.png", "train/deep/1.png"], "one class, 'train'")],
)
def test_classes_are_two_subfolders_or_more(tmp_path, names, found):
    for name in names:
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 32)).save(tmp_path / "pictures" / name)
    command = ["train", "--conditional", "--data", f"folder:{tmp_path / 'pictures'}", "--out", "RUN"]
    assert f"has {found}; two or more subfolders must hold all pictures" in refusal(command, tmp_path)


def test_the_number_of_classes_is_no_setting(tmp_path):
    (tmp_path / "some.toml").write_text("classes = 5\n")
    said = refusal(["train", "--config", tmp_path / "some.toml", "--out", "RUN"], tmp_path)
    assert "classes is 5; the data says how many, and --conditional tells them" in said


# The picture of how far a training is.


def greys(picture):
    """The grey level in the middle of each of the sixteen images of 8 x 8 pixels, row by row."""
    assert picture.size == (4 * 10 + 2, 4 * 10 + 2)
    return [picture.getpixel((6 + 10 * (i % 4), 6 + 10 * (i // 4)))[0] for i in range(16)]


def test_a_plain_autoencoder_shows_images_each_with_its_reconstruction_beside_it(tmp_path, monkeypatch):
    model = AutoencoderConfig(variational=False, image_shape=(1, 8, 8), base_channels=8).network()
    monkeypatch.setattr(model, "encode", lambda x: 2 * x)
    monkeypatch.setattr(model, "decode", lambda code: -code / 2)  # so that black comes back white
    monkeypatch.setattr(ddpm, "load", lambda _: model)
    images = torch.arange(0, 200, 20, dtype=torch.uint8)[:, None, None, None].expand(10, 1, 8, 8)
    shown = greys(draw_progress(tmp_path, Dataset("ten", "train", images, torch.zeros(10, dtype=torch.int64), "here")))
    assert shown == [grey for i in range(8) for grey in (20 * i, 255 - 20 * i)]


def test_a_model_that_knows_classes_shows_them_in_turn(tmp_path, monkeypatch):
    """Of a model that draws a class as a grey level, and white where it was told none."""

    class Greys:
        classes = ("black", "dark", "grey")

        def __init__(self, labels=None):
            self.labels = labels

        def given(self, labels):
            return Greys(labels)

    def drawn(model, n, **_):
        levels = torch.full((n,), 255) if model.labels is None else 50 * torch.tensor(model.labels)
        return normalise(levels.to(torch.uint8))[:, None, None, None].expand(n, 1, 8, 8)

    monkeypatch.setattr(ddpm, "load", lambda _: Greys())
    monkeypatch.setattr(ddpm, "sample", drawn)
    assert greys(draw_progress(tmp_path, None)) == [50 * (i % 3) for i in range(16)]
