import json
import shutil

import pytest
import torch

import ddpm
from ddpm import pretrained
from ddpm.metrics import frechet_distance
from ddpm.metrics.features import classify


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(pretrained.MODELS / "fashion-mnist", tmp_path / "run")
    return tmp_path / "run"


def test_the_shipped_model_makes_garments():
    model = ddpm.load("fashion-mnist")
    assert model.image_shape == (1, 32, 32)
    images = ddpm.sample(model, 96, steps=10, progress=False)
    assert images.shape == (96, 1, 32, 32)
    assert len(classify(images).unique()) >= 7
    noise = torch.randn(96, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(images, weights="EMA").value < frechet_distance(noise, weights="none").value / 4


def test_both_precisions_and_a_path_load_the_same_weights(copy):
    models = [
        ddpm.load(*choice, device="cpu") for choice in (("fashion-mnist", "float32"), ("fashion-mnist",), (copy,))
    ]
    states = [model.network.state_dict() for model in models]
    for state in states[1:]:
        assert all(torch.equal(value, states[0][name]) for name, value in state.items())
    x = torch.randn(2, 1, 32, 32)
    exact, fast = (model(x, 500).eps for model in models[:2])
    assert torch.allclose(exact, fast, atol=0.1)


def test_what_the_card_says_is_there():
    card = pretrained.card("fashion-mnist")
    for fact in ("60,000", "batch", "EMA", "ddpm train", "Frechet distance", "floor", "linear"):
        assert fact in card


def test_unknown_and_damaged_models_are_refused(copy, tmp_path):
    with pytest.raises(
        ValueError,
        match="model is 'cifar'; legal are equal-autoencoder, .+, fashion-mnist, or the folder",
    ):
        ddpm.load("cifar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no config.json"):
        ddpm.load(tmp_path / "empty")
    weights = copy / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    with pytest.raises(ValueError, match="damaged"):
        ddpm.load(copy)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="there is no weights file"):
        ddpm.load(copy)
    weights.write_bytes(content)
    record = json.loads((copy / "config.json").read_text())
    record["model"]["depth"] = 3
    (copy / "config.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"config.json is damaged.*depth"):
        ddpm.load(copy)
