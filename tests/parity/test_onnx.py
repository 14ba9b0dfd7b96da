"""An exported network in onnxruntime against the network in torch."""

import json
from functools import cache

import numpy as np
import onnxruntime
import pytest
import torch

import ddpm
from ddpm.denoiser import NetworkDenoiser
from ddpm.interop import onnx
from ddpm.oracles import Gaussian
from ddpm.schedule import linear, straight
from ddpm.unet import UNet, UNetConfig

pytestmark = pytest.mark.long

SMALL = {
    "base_channels": 8,
    "head_channels": 8,
    "channel_multipliers": (1, 2),
    "blocks_per_level": 1,
    "attention_levels": (1,),
}
CLASSES = ("bag", "boot")
#: Settings of a network that is told classes, and of one that lacks every part that a network may lack.
TOLD = {"classes": CLASSES, "time_conditioning": "scale_shift"}
BARE = {"skips": False, "attention_levels": (), "middle_attention": False, "time_conditioning": "none"}


def denoiser(shape=(1, 8, 8), classes=(), **settings):
    torch.manual_seed(0)
    settings = SMALL | {"channels": shape[0], "classes": len(classes) or None} | settings
    return NetworkDenoiser(UNet(UNetConfig(**settings)), linear(), "v", "float32", shape, classes)


@cache
def exported(**settings):
    """A denoiser and its file, which takes seconds to make. No test may change the denoiser."""
    denoise = denoiser(**settings)
    return denoise, onnx.onnx_file(denoise)


def session(content):
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def largest_error(denoise, content, n):
    """Of the answers to n images, each at a time of its own."""
    x = torch.randn(n, *denoise.image_shape, generator=torch.Generator().manual_seed(1))
    index = torch.linspace(0, 999, n)
    inputs = {"x": x, "index": index}
    if denoise.classes:
        inputs["labels"] = torch.arange(n) % (len(denoise.classes) + 1)  # the last of them tells none
    with torch.no_grad():
        expected = denoise.network(*inputs.values())
    (found,) = session(content).run(["answer"], {name: value.numpy() for name, value in inputs.items()})
    return np.abs(found - expected.numpy()).max() / expected.abs().max().item()


@pytest.mark.parametrize(
    "settings",
    [{}, {"shape": (3, 8, 16)}, TOLD, BARE],
    ids=["plain", "colour, two sides", "classes", "without its parts"],
)
def test_any_number_of_images_has_the_networks_answer(settings):
    denoise, content = exported(**settings)
    for n in (1, 3):
        assert largest_error(denoise, content, n) < 1e-5


def test_the_axis_of_the_images_is_called_batch():
    one = session(exported(**TOLD)[1])
    shapes = {value.name: value.shape for value in (*one.get_inputs(), *one.get_outputs())}
    image = ["batch", 1, 8, 8]
    assert shapes == {"x": image, "index": ["batch"], "labels": ["batch"], "answer": image}


def test_the_shipped_model_is_exported(tmp_path):
    denoise = ddpm.load("fashion-mnist", "float32", device="cpu")
    onnx.export_onnx(denoise, tmp_path / "model.onnx")
    content = (tmp_path / "model.onnx").read_bytes()
    assert largest_error(denoise, content, 2) < 1e-5
    facts = session(content).get_modelmeta().custom_metadata_map
    assert json.loads(facts["target"]) == "v"
    assert json.loads(facts["alpha_bar"]) == denoise.schedule.alpha_bar.tolist()


def test_weights_that_float16_holds_are_stored_so_and_nothing_is_lost():
    denoise = denoiser(base_channels=32)
    denoise.network.half().float()
    content, weights = onnx.onnx_file(denoise), sum(weight.numel() for weight in denoise.network.parameters())
    assert len(content) < 2.5 * weights
    assert b".py" not in content  # nor where on this machine it was made
    assert largest_error(denoise, content, 2) < 1e-5


@pytest.mark.parametrize(("dtype", "settings"), [(torch.bfloat16, {}), (torch.float64, BARE)])
def test_an_export_leaves_the_network_as_it_is(dtype, settings):
    denoise = denoiser(**settings)
    denoise.network.to(dtype)
    onnx.onnx_file(denoise)
    assert {weight.dtype for weight in denoise.network.parameters()} == {dtype}


def test_weights_that_float16_does_not_hold_keep_float32():
    denoise, content = exported()
    assert len(content) > 4 * sum(weight.numel() for weight in denoise.network.parameters())


@pytest.mark.parametrize(
    ("denoise", "error", "message"),
    [
        (Gaussian(0.0, 1.0, linear()), TypeError, "denoise is Gaussian; it must be a ddpm.*.NetworkDenoiser"),
        (NetworkDenoiser(torch.nn.Identity(), linear()), ValueError, "denoise must know its image_shape"),
        (
            NetworkDenoiser(torch.nn.Identity(), straight(), "flow", image_shape=(1, 8, 8)),
            ValueError,
            "schedule is Straight.*; the file holds a table of alpha_bar, so it must keep the variance",
        ),
        (
            NetworkDenoiser(torch.nn.Identity(), linear(), image_shape=(1, 8, 8)),
            ValueError,
            "cannot be exported to ONNX",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_is_written(denoise, error, message, tmp_path):
    with pytest.raises(error, match=message):
        onnx.export_onnx(denoise, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_place_where_no_file_can_be_is_refused_before_the_network_is_traced(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "onnx_file", lambda denoise: pytest.fail("it traces the network"))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="^path is .*file"):
        onnx.export_onnx(denoiser(), tmp_path / "file" / "model.onnx")
