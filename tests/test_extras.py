"""What is said where an extra is not installed."""

import re
import subprocess
import sys
import tomllib

import pytest
import torch

import ddpm
from ddpm import cli
from ddpm.denoiser import NetworkDenoiser
from ddpm.extras import EXTRAS, needed
from ddpm.interop.onnx import export_onnx
from ddpm.likelihood import flow_nll
from ddpm.oracles import Gaussian
from ddpm.schedule import linear
from ddpm.training import recipe, train
from ddpm.training.launcher import make_accelerator
from ddpm.training.optimisers import optimiser_of
from ddpm.training.trackers import check_trackers
from tests.checkout import ROOT
from tests.training.garments import first_images


def test_training_asks_for_the_extra():
    program = "import sys; sys.modules['filelock'] = None; from ddpm.training import {}"
    asked, settings = (
        subprocess.run([sys.executable, "-c", program.format(name)], capture_output=True, text=True)
        for name in ("train", "TrainingConfig, recipe")
    )
    last_line = asked.stderr.splitlines()[-1]
    assert last_line == "ModuleNotFoundError: filelock is not installed; this needs: pip install 'ddpm[train]'"
    assert settings.returncode == 0, settings.stderr


def test_what_only_some_trainings_need_is_asked_for_by_them(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.optim.muon", None)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ModuleNotFoundError, match=r"^timm is not installed; this needs: pip install 'ddpm\[train\]'$"):
        optimiser_of("muon", [torch.nn.Parameter(torch.zeros(2, 2))])
    with pytest.raises(ModuleNotFoundError, match=r"^accelerate is not installed; this needs: pip install "):
        make_accelerator(tmp_path, ())
    with pytest.raises(ModuleNotFoundError, match=r"^accelerate is not installed; this needs: pip install "):
        ddpm.sample(Gaussian(0.0, 0.5, linear()), 2, shape=(2,), distributed=True)


def test_another_package_that_is_missing_keeps_its_own_message():
    with pytest.raises(ModuleNotFoundError, match="^No module named 'nothing_of_the_kind'$"), needed("filelock"):
        __import__("nothing_of_the_kind")


def test_the_extra_is_asked_for_before_its_parts(tmp_path, monkeypatch):
    """Who has installed none of it is not sent to a tracker first."""
    asked = "^accelerate is not installed; this needs: pip install 'ddpm\\[train\\]'$"
    model, training = recipe("autoencoder")
    images = first_images(2)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match=asked):
        train(model, images, training, tmp_path / "run", trackers=["tensorboard"])
    for command in (["train"], ["distill", "fashion-mnist"]):
        with pytest.raises(ModuleNotFoundError, match=asked):
            cli.app(
                [*command, "--data", "fashion-mnist-embedded", "--out", str(tmp_path / "run")], standalone_mode=False
            )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("package", "extra"),
    [("onnx", "onnx"), ("onnxscript", "onnx"), ("tensorboard", "train"), ("torchdiffeq", "evaluate")],
)
def test_what_other_extras_hold_is_asked_for_in_the_same_words(package, extra, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    denoise = NetworkDenoiser(torch.nn.Identity(), linear(), image_shape=(1, 4, 4))
    asking = {
        "onnx": lambda: export_onnx(denoise, tmp_path / "model.onnx"),
        "onnxscript": lambda: export_onnx(denoise, tmp_path / "model.onnx"),
        "tensorboard": lambda: check_trackers(["tensorboard"], tmp_path / "run"),
        "torchdiffeq": lambda: flow_nll(denoise, torch.zeros(1, 1, 4, 4)),
    }
    message = f"^{package} is not installed; this needs: pip install 'ddpm\\[{extra}\\]'$"
    with pytest.raises(ModuleNotFoundError, match=message):
        asking[package]()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["frechet_distance", "psnr"])
def test_measures_that_need_an_extra_ask_for_it(name):
    program = f"import sys; sys.modules['torchmetrics'] = None; from ddpm.metrics import {name}"
    asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    last_line = asked.stderr.splitlines()[-1]
    assert last_line == "ModuleNotFoundError: torchmetrics is not installed; this needs: pip install 'ddpm[evaluate]'"


def test_every_extra_that_installs_is_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in ("book", "diffusers", "evaluate", "onnx", "train"):
        wanted = {re.split("[^a-z0-9-]", each)[0] for each in project["optional-dependencies"][extra]}
        known = {package.replace("_", "-") for package in EXTRAS if EXTRAS[package] == extra}
        assert known <= wanted if extra == "book" else known == wanted, extra  # the book asks for its extra as a whole
