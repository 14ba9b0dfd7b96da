"""A network of one's own in the UNet's place: trained, resumed, loaded, asked."""

import pytest
import torch
from torch import nn

import ddpm
from ddpm.data import load
from ddpm.diffusion import Diffusion, DiffusionConfig
from ddpm.files import load_tensors, read_json
from ddpm.training import train
from ddpm.training.config import TrainingConfig
from ddpm.unet import UNetConfig
from tests.cli.commands import refusal

SETTINGS = TrainingConfig(steps=2, batch_size=4, checkpoint_every=1, threads=1)


class Pixelwise(nn.Module):
    """Sees each pixel, the time, and the label where there are any, and nothing around it."""

    def __init__(self, classes=0, width=4):
        super().__init__()
        self.labels = nn.Embedding(classes + 1, 1) if classes else None
        self.layers = nn.Sequential(nn.Conv2d(2, width, 1), nn.SiLU(), nn.Conv2d(width, 1, 1))

    def forward(self, x, t, labels=None):
        told = (t / 1000)[:, None]
        if self.labels is not None:
            null = self.labels.num_embeddings - 1
            told = told + self.labels(torch.full((len(x),), null) if labels is None else labels)
        return self.layers(torch.cat([x, told[:, :, None, None].expand_as(x)], dim=1))


class Another(Pixelwise):
    """Of another name."""


def trained(folder, make, model=None, on_step=None, **settings):
    model = model or DiffusionConfig(target="v")
    images = load("fashion-mnist-embedded", "train", quiet=True)
    config = TrainingConfig(**(vars(SETTINGS) | settings))
    make_task = (lambda: Diffusion(model, make())) if make is not None else None
    train(model, images, config, folder, progress=False, make_task=make_task, on_step=on_step)
    return folder


def stop(line):
    raise InterruptedError(line["step"])


def test_a_network_of_ones_own_is_trained_and_loaded(tmp_path):
    folder = trained(tmp_path / "run", Pixelwise)
    assert read_json(folder / "config.json")["own_network"] == "Pixelwise"
    denoise = ddpm.load(folder, network=Pixelwise())
    weights = load_tensors(folder / "model.safetensors")
    assert {f"unet.{name}" for name in denoise.network.state_dict()} == set(weights)
    assert all(torch.equal(weights[f"unet.{name}"], value) for name, value in denoise.network.state_dict().items())
    assert not denoise.network.training
    assert not any(weight.requires_grad for weight in denoise.network.parameters())
    assert ddpm.sample(denoise, 2, steps=2, progress=False).shape == (2, 1, 32, 32)
    early = ddpm.load(folder / "checkpoints" / "step-00000001", network=Pixelwise())
    assert not torch.equal(early.network.layers[0].weight, denoise.network.layers[0].weight)


def test_its_run_goes_on_where_it_stopped_with_the_same_network_alone(tmp_path):
    whole, halted = trained(tmp_path / "whole", Pixelwise), tmp_path / "halted"
    with pytest.raises(InterruptedError):
        trained(halted, Pixelwise, on_step=stop)
    with pytest.raises(ValueError, match="own_network is Pixelwise there and Another here"):
        trained(halted, Another)
    with pytest.raises(ValueError, match="own_network is Pixelwise there and None here"):
        trained(halted, None)
    trained(halted, Pixelwise)
    once, twice = (load_tensors(run / "model.safetensors") for run in (whole, halted))
    assert all(torch.equal(once[name], twice[name]) for name in once)


def test_its_first_weights_follow_the_runs_seed(tmp_path):
    torch.manual_seed(5)
    one = trained(tmp_path / "one", Pixelwise)
    torch.manual_seed(6)
    same = trained(tmp_path / "same", Pixelwise)
    other = trained(tmp_path / "other", Pixelwise, seed=1)
    first, again, third = (load_tensors(run / "model.safetensors") for run in (one, same, other))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], third[name]) for name in first)


def test_it_is_told_labels_where_there_are_classes(tmp_path):
    model = DiffusionConfig(UNetConfig(classes=10), target="v")
    folder = trained(tmp_path / "run", lambda: Pixelwise(10), model)
    denoise = ddpm.load(folder, network=Pixelwise(10))
    assert "bag" in [name.lower() for name in denoise.classes]
    assert ddpm.sample(denoise, 2, steps=2, progress=False).shape == (2, 1, 32, 32)
    x = torch.randn(1, 1, 32, 32)
    assert torch.equal(denoise.given(None)(x, 500).eps, denoise(x, 500).eps)
    assert not torch.equal(denoise.given(0)(x, 500).eps, denoise.given(8)(x, 500).eps)


def test_a_network_is_given_to_load_where_and_only_where_there_is_one(tmp_path):
    folder = trained(tmp_path / "run", Pixelwise)
    with pytest.raises(
        ValueError, match=r"network is not given; .*config.json is of a run that .* Pixelwise: ddpm.load"
    ):
        ddpm.load(folder)
    with pytest.raises(ValueError, match="does not fit the model: layers.0.[a-z]+ is float32"):
        ddpm.load(folder, network=Pixelwise(width=5))
    with pytest.raises(TypeError, match="network is str; it must be a torch.nn.modules.module.Module"):
        ddpm.load(folder, network="Pixelwise")
    with pytest.raises(ValueError, match="network is given; .* is of a model without a network of its own"):
        ddpm.load("fashion-mnist", network=Pixelwise())
    with pytest.raises(TypeError, match="network is type; it must be a torch.nn.modules.module.Module"):
        Diffusion(DiffusionConfig(), Pixelwise)


@pytest.mark.long
@pytest.mark.parametrize(
    "command",
    [
        ("sample", "--out", "RUN.png", "--model"),
        ("evaluate", "--n", 65, "--model"),
        ("round-trip", "--out", "RUN.png", "--model"),
        ("export", "RUN.onnx", "--to", "onnx", "--model"),
        ("distill", "--out", "RUN"),
    ],
    ids=lambda command: command[0],
)
def test_commands_which_have_no_network_to_give_refuse_its_run(command, tmp_path):
    folder = trained(tmp_path / "run", Pixelwise)
    assert "network of its own, Pixelwise" in refusal([*command, folder], tmp_path)
