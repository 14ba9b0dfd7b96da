"""How every command takes the name of a model, or the folder of one."""

import shutil

import pytest

from tests.cli.commands import TRAIN, forked

pytestmark = pytest.mark.long


def say(folder, *arguments):
    """What a command says on stderr, run in a folder; it must end well."""
    process = forked(*arguments, folder=folder)
    assert process.returncode == 0, process.stderr
    return process.stderr


@pytest.fixture
def here(trained, tmp_path):
    """A copy of a run's folder, which has the name of a model that ships."""
    shutil.copytree(trained, tmp_path / "fashion-mnist")
    return tmp_path / "fashion-mnist"


FEW = ("--n", 1, "--steps", 2)


def test_a_point_is_the_current_folder_in_every_option(here):
    say(here, "sample", "--model", ".", "--guide", ".", *FEW)
    say(here, "round-trip", "--model", ".", "--depth", 20, "--steps", 2)
    say(here, "export", "--model", ".", here.parent / "pipeline")
    say(here, *TRAIN, "--base-channels", 32, "--init", ".", "--out", here.parent / "second")
    for path in (here / "samples.png", here / "round-trip.png", here.parent / "pipeline" / "unet"):
        assert path.exists()
    assert (here.parent / "second" / "model.safetensors").exists()


def test_a_line_says_that_a_bare_name_is_not_the_folder_here(here):
    line = 'model "fashion-mnist" is the one that ships; the folder of that name here is "./fashion-mnist"'
    for model, guide, lines in (("./fashion-mnist", "fashion-mnist", 1), ("fashion-mnist/", "./fashion-mnist", 0)):
        assert say(here.parent, "sample", "--model", model, "--guide", guide, *FEW).count(line) == lines


def test_a_pipeline_is_exported_from_the_folder_that_was_meant(here):
    weights = []
    for name in ("fashion-mnist", "fashion-mnist/"):
        said = say(here.parent, "export", "--model", name, "pipeline")
        assert said.count("is the one that ships") == (name == "fashion-mnist")
        weights.append((here.parent / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes())
        shutil.rmtree(here.parent / "pipeline")
    assert weights[0] != weights[1]
