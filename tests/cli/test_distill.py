import pytest
from PIL import Image

import ddpm
from ddpm import distillation, pretrained
from ddpm.cli.distill import OPTIONS, DistillSettings
from ddpm.diffusion import DiffusionConfig
from ddpm.unet import UNetConfig
from tests.cli.commands import TRAIN, alone, done, forked, help_of, refusal

pytestmark = pytest.mark.long

DISTILL = (
    "distill", "--steps", 2, "--batch-size", 2, "--checkpoint-every", 2,
    "--calls", 2, "--teacher-calls", 8, "--threads", 1,
)  # fmt: skip


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """The folder of a student of two calls, and what the command said. No test may write into it."""
    folder = tmp_path_factory.mktemp("distill")
    done(*TRAIN, "--base-channels", 8, "--track", "none", "--no-samples", "--out", folder / "teacher")
    return folder / "run", alone(*DISTILL, folder / "teacher", "--out", folder / "run")


def test_it_says_which_student_it_is_and_where_the_student_is(student):
    folder, process = student
    assert f"student 1 of 2: 8 calls become 4, in {folder / 'teachers' / 'calls-4'}" in process.stdout
    assert f"student 2 of 2: 4 calls become 2, in {folder}\n" in process.stdout
    assert f"done: {folder / 'model.safetensors'} draws in 2 calls" in process.stdout
    assert Image.open(folder / "samples" / "step-00000002.png").size == (138, 138)


def test_the_same_command_again_changes_nothing(student):
    folder, _ = student
    before = (folder / "model.safetensors").read_bytes()
    done(*DISTILL, folder.parent / "teacher", "--out", folder)
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(("option", "drawn"), [("--samples", True), ("--no-samples", False)])
def test_students_draw_at_every_checkpoint_unless_they_are_told_not_to(option, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(distillation, "distill", lambda *_, picture, **__: print("pictures:", picture is not None))
    said = forked(*DISTILL, "fashion-mnist", "--data", "fashion-mnist-embedded", option, "--out", tmp_path / "run")
    assert f"pictures: {drawn}\n" in said.stdout, said


def test_a_student_draws_in_its_own_calls(student, tmp_path):
    folder, _ = student
    for name, steps in (("own", ()), ("two", ("--steps", 2)), ("many", ("--steps", 50))):
        done("sample", "--model", folder, "-n", 1, *steps, "--out", tmp_path / f"{name}.png")
    drawn = {path.stem: path.read_bytes() for path in tmp_path.glob("*.png")}
    assert drawn["own"] == drawn["two"] != drawn["many"]
    said = done("sample", "--model", folder, "-n", 1, "--steps", 1, "--out", tmp_path / "one.png").stderr
    assert "distilled for 2 moves of ddim on a trailing grid; 1 of ddim on a trailing grid may ask it at times" in said
    said = done("evaluate", "--model", folder, "-n", 65).stdout
    assert "ddim, eta 0, 2 steps (2 network calls), trailing grid" in said
    assert ddpm.load(folder).distilled_for == 2


def test_a_students_record_is_no_training_without_its_teacher(student, tmp_path):
    folder, _ = student
    arguments = ["train", "--config", folder / "config.json", "--init", folder, "--out", "RUN"]
    assert "distilled_for is 2; ddpm distill trains such a model, with its teacher" in refusal(arguments, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "ddpm: teacher is 'nowhere'; legal are equal-autoencoder"),
        (["equal-gan"], "teacher is 'equal-gan', 'gan'; only a diffusion model can be distilled"),
        (["fashion-mnist", "--calls", 0], "calls is 0; it must be an integer from 1 up"),
        (
            ["fashion-mnist", "--teacher-calls", 12],
            "teacher_calls is 12; with calls 4 and at_once 2 legal are 8, 16, 32, 64, 128, 256, 512 (T is 1000)",
        ),
        (["fashion-mnist", "--at-once", 3], "at_once is 3; it must be an even number"),
        (["fashion-mnist", "--data", "minst"], "data is 'minst'; legal are fashion-mnist"),
        (["fashion-mnist", "--data", "folder:nowhere"], "data is 'folder:nowhere'; there is no such folder"),
        (["fashion-mnist", "--momentum", 0.5], "momentum is 0.5; of the optimisers only adamw, adam, sgd take one"),
        (["fashion-mnist", "--learning-rate", 0], "learning_rate is 0.0; it must be a finite number above 0"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(arguments, message, tmp_path):
    assert message in refusal(["distill", *arguments, "--out", "RUN"], tmp_path)


def test_pictures_of_a_folder_are_squares_and_a_teacher_that_draws_none_is_told_so(tmp_path):
    config = DiffusionConfig(UNetConfig(base_channels=8, head_channels=8), target="v")
    pretrained.save(config.network(), config, tmp_path / "wide", (1, 16, 24))
    said = refusal(["distill", tmp_path / "wide", "--data", "folder:book/assets", "--out", "RUN"], tmp_path)
    assert f"teacher is '{tmp_path / 'wide'}', which draws images of 16 x 24; folder:PATH makes squares alone" in said


def test_the_help_names_its_own_defaults():
    said = " ".join(help_of("distill").split())
    for name in (*OPTIONS, *DistillSettings.__dataclass_fields__):
        assert f"--{name.replace('_', '-')} " in said
    assert "Number of optimiser steps. [default: (1500)]" in said
    assert "Peak learning rate, reached after the warm-up. [default: (0.0005)]" in said
