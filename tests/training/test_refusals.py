"""Arguments of a training that are something else are named in one line, and a loss that is none, too."""

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn

from ddpm.data import Dataset, load
from ddpm.diffusion import Diffusion, DiffusionConfig
from ddpm.training import train
from ddpm.training.checkpoint import sealed
from ddpm.training.config import TrainingConfig
from ddpm.training.recipes import recipe
from ddpm.unet import UNetConfig
from tests.networks import SMALL_UNET

MODEL = DiffusionConfig(SMALL_UNET)
CONFIG = TrainingConfig(steps=1, batch_size=2, threads=1)


def few(name="mine"):
    return Dataset(name, "train", torch.arange(2 * 32 * 32).reshape(2, 1, 32, 32).byte(), torch.zeros(2).long(), "here")


def of_loss(answer):
    """Makes a task whose loss is changed by `answer`."""

    class Own(Diffusion):
        def loss(self, *arguments):
            return answer(super().loss(*arguments))

    return lambda: Own(MODEL)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"picture": "x"}, "picture is str; it must be a function"),
        ({"on_step": "print"}, "on_step is str; it must be a function"),
        ({"trackers": "tensorboard"}, r"trackers is 'tensorboard'; it must be a list of names, such as"),
        ({"trackers": None}, r"trackers is None; it must be a list of names, such as"),
        ({"make_task": lambda: nn.Conv2d(1, 1, 1)}, "make_task returns Conv2d, which has no parts; it must be a"),
        ({"make_task": nn.Conv2d(1, 1, 1)}, "make_task is Conv2d; it must be a function that returns a task"),
        ({"make_task": Diffusion(MODEL)}, r"make_task is Diffusion; it must be .* lambda: Diffusion\(model, network\)"),
    ],
)  # fmt: skip
def test_what_is_no_function_or_makes_no_task_is_refused_before_anything_is_written(tmp_path, given, message):
    with pytest.raises(TypeError, match=message):
        train(MODEL, few(), CONFIG, tmp_path / "run", progress=False, **given)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [-1, 1.5, None])
def test_a_number_of_workers_that_is_none_is_refused_whatever_the_images_are(tmp_path, workers):
    with pytest.raises(ValueError, match=f"^workers is {workers}; it must be an integer from 0 up$"):
        train(MODEL, few(), CONFIG, tmp_path / "run", progress=False, workers=workers)
    assert not (tmp_path / "run").exists()


def test_a_model_whose_fields_no_record_can_list_is_refused(tmp_path):
    class Own:
        kind, check_images, task = "own", print, print

    with pytest.raises(TypeError, match="^model is the class DiffusionConfig; it must be an object of it, such as"):
        train(DiffusionConfig, few(), CONFIG, tmp_path / "run", progress=False)
    with pytest.raises(TypeError, match="^model is Own, which is no dataclass; a run's record lists its fields$"):
        train(Own(), few(), CONFIG, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda loss: loss.item(), "the loss of unet is float; it must be a scalar tensor with a gradient"),
        (lambda loss: loss.detach(), "the loss of unet has no gradient; it must be"),
        (lambda loss: loss.expand(2), r"the loss of unet has shape \(2,\); it must be"),
    ],
)
def test_a_loss_must_be_a_scalar_tensor_with_a_gradient(tmp_path, answer, message):
    with pytest.raises(TypeError, match=message):
        train(MODEL, few(), CONFIG, tmp_path, progress=False, make_task=of_loss(answer))


def test_a_picture_that_is_none_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"picture's answer is NoneType; it must be a PIL\.Image\.Image"):
        train(MODEL, few(), CONFIG, tmp_path, progress=False, picture=lambda folder: None)


def test_a_run_of_other_data_says_data_and_what_init_begins(tmp_path):
    train(MODEL, few(), CONFIG, tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"\(data is mine there and yours here\).* and a new optimiser"):
        train(MODEL, few("yours"), CONFIG, tmp_path, progress=False)


@pytest.mark.parametrize("conditional", [False, True])
def test_a_run_knows_the_users_own_images_by_their_pixels(tmp_path, conditional):
    """And by their labels, where the model is told these."""
    model = DiffusionConfig(replace(SMALL_UNET, classes=2 if conditional else None))
    mine = replace(few(), labels=torch.tensor([0, 1]), classes=("one", "other"))
    brighter, otherwise_labelled = replace(mine, images=mine.images + 1), replace(mine, labels=mine.labels.flip(0))
    train(model, mine, CONFIG, tmp_path, progress=False)
    train(model, replace(mine, images=mine.images.clone(), source="elsewhere"), CONFIG, tmp_path, progress=False)
    for other, is_refused in ((brighter, True), (otherwise_labelled, conditional)):
        with pytest.raises(ValueError, match="images_sha256 is .* there and .* here") if is_refused else nullcontext():
            train(model, other, CONFIG, tmp_path, progress=False)


def test_a_part_of_a_named_data_set_is_told_from_another_part_of_as_many(tmp_path):
    full = load("fashion-mnist-embedded", "test", quiet=True)
    first, second = (replace(full, images=full.images[some], labels=full.labels[some]) for some in ([0, 1], [2, 3]))
    train(MODEL, first, CONFIG, tmp_path, progress=False)
    with pytest.raises(ValueError, match="images_sha256 is .* there and .* here"):
        train(MODEL, second, CONFIG, tmp_path, progress=False)


def test_a_run_of_an_earlier_version_which_knew_no_pixels_goes_on_with_images_of_that_name(tmp_path):
    train(MODEL, few(), CONFIG, tmp_path, progress=False)
    (manifest,) = tmp_path.glob("checkpoints/*.json")
    old = json.loads(manifest.read_text())
    del old["seal"], old["config"]["data"]["images_sha256"]
    manifest.write_text(json.dumps(sealed(old)))
    train(MODEL, few(), CONFIG, tmp_path, progress=False)
    with pytest.raises(ValueError, match="data is mine there and others here"):
        train(MODEL, few("others"), CONFIG, tmp_path, progress=False)


def test_a_default_that_does_not_fit_is_told_from_what_was_given():
    with pytest.raises(ValueError, match=r"attention_levels is \(2,\) unless given; legal levels are 0 to 1"):
        recipe("diffusion", channel_multipliers=[1, 2])
    with pytest.raises(ValueError, match=r"attention_levels is \(3,\); legal levels are 0 to 1"):
        UNetConfig(channel_multipliers=(1, 2), attention_levels=(3,))
