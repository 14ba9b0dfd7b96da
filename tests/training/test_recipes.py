import inspect
import json
import math
from dataclasses import fields, replace

import pytest
import torch

import ddpm
from ddpm import cli, data
from ddpm.cli.train import OPTIONS, JobSettings, settings_of
from ddpm.denoiser import NetworkDenoiser
from ddpm.training import train
from ddpm.training.recipes import RECIPES, recipe

TINY = {"base_channels": 8, "steps": 4, "batch_size": 8, "checkpoint_every": 2}
SHORT = {  # enough to see the objective move
    "diffusion": {"base_channels": 32, "steps": 40, "learning_rate": 2e-3},
    "autoencoder": {"steps": 40, "warmup": 5},
    "vae": {"steps": 40, "warmup": 5},
    "gan": {"steps": 40, "warmup": 5},
}


@pytest.fixture(scope="module")
def images():
    full = data.load("fashion-mnist-embedded", "train", quiet=True)
    return replace(full, images=full.images[:200], labels=full.labels[:200])


def losses(folder, name):
    return [json.loads(line)[f"loss_{name}"] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", RECIPES)
def test_every_kind_learns_what_it_is_trained_for(kind, tmp_path, images):
    model, training = recipe(kind, **{**TINY, **SHORT[kind], "batch_size": 32, "checkpoint_every": 40})
    train(model, images, training, tmp_path, progress=False)
    if kind == "gan":
        assert losses(tmp_path, "discriminator")[0] == pytest.approx(2 * math.log(2), abs=0.3)
        players, untrained = ddpm.load(tmp_path, device="cpu"), model.network()
        mean = data.normalise(images.images).mean(0)
        off = [(ddpm.sample(each, 64).mean(0) - mean).square().mean() for each in (players, untrained)]
        assert off[0] < 0.5 * off[1]  # it has learnt where garments are bright
        assert sum(losses(tmp_path, "discriminator")[-10:]) / 10 < 2 * math.log(2)
    else:
        curve = losses(tmp_path, {"diffusion": "unet"}.get(kind, "autoencoder"))
        assert sum(curve[-10:]) / 10 < 0.7 * curve[0]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("diffusion", {"head_channels": 8}), ("autoencoder", {"optimiser": "sgd"}), ("vae", {}),
        ("vae", {"loss": "bce", "optimiser": "rmsprop"}), ("gan", {}), ("gan", {"game": "minimax", "r1": 0.0}),
    ],
)  # fmt: skip
def test_every_kind_resumes_to_the_same_bits_and_samples(kind, changes, tmp_path, images):
    model, training = recipe(kind, **changes, **TINY)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(model, images, training, whole, progress=False)
    train(model, images, training, cut, progress=False)
    for path in [*cut.glob("checkpoints/step-00000004*"), cut / "model.safetensors"]:
        path.unlink()  # as if it had been killed after step 2
    train(model, images, training, cut, progress=False)
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert (cut / "log.jsonl").read_bytes() == (whole / "log.jsonl").read_bytes()
    trained = ddpm.load(whole, "float32", "cpu")
    steps = {"steps": 2} if isinstance(trained, NetworkDenoiser) else {}
    few, many = (ddpm.sample(trained, n, seed=1, chunk=4, progress=False, **steps) for n in (3, 5))
    assert few.shape == (3, 1, 32, 32)
    assert torch.equal(few, many[:3])


def test_a_run_of_one_kind_is_not_gone_on_with_as_another(tmp_path, images):
    train(*(recipe("autoencoder", **TINY)[0], images, recipe("autoencoder", **TINY)[1]), tmp_path, progress=False)
    model, training = recipe("vae", **TINY)
    with pytest.raises(ValueError, match="variational is False there and True here"):
        train(model, images, training, tmp_path, progress=False)
    model, training = recipe("gan", **TINY)
    with pytest.raises(ValueError, match="kind is autoencoder there and gan here"):
        train(model, images, training, tmp_path, progress=False)


def test_one_call_has_no_sampler():
    model = recipe("vae")[0].network()
    for name, value in {"sampler": "heun", "steps": 20, "spacing": "karras", "eta": 1.0, "shape": (1, 32, 32)}.items():
        with pytest.raises(ValueError, match=f"{name} is .*; this model draws an image in one call"):
            ddpm.sample(model, 2, **{name: value})
    with pytest.raises(ValueError, match="chunk is 0"):
        ddpm.sample(model, 2, chunk=0)


def test_a_setting_of_another_kind_is_refused():
    for kind, setting in (
        ("gan", "target"),
        ("diffusion", "game"),
        ("vae", "r1"),
        ("autoencoder", "dropout"),
        ("vae", "variational"),
    ):
        with pytest.raises(ValueError, match=f"{setting} is 0; model '{kind}' has no such setting"):
            recipe(kind, **{setting: 0})
    with pytest.raises(ValueError, match="model is 'flow'; legal are diffusion, autoencoder, vae, gan"):
        recipe("flow")


OPTIONS_OF_TRAIN = inspect.signature(cli.train).parameters


def option(name):
    (found,) = [o for o in OPTIONS_OF_TRAIN[name].annotation.__metadata__ if hasattr(o, "show_default")]
    return found


def value(kind, name):
    model, training = recipe(kind)
    for config in (training, model, getattr(model, "unet", None)):
        if hasattr(config, name):
            return getattr(config, name)
    return None


@pytest.mark.parametrize("name", OPTIONS)
def test_the_help_of_train_names_the_default_of_every_kind(name):
    """As `recipe` gives it: the usual one first, then those of the kinds that differ."""
    usual, *others = option(name).show_default.split("; ")
    of_kind = {other.partition(" for ")[2]: other.partition(" for ")[0] for other in others}
    kinds = [kind for kind in RECIPES if value(kind, name) is not None]
    assert kinds
    assert set(of_kind) <= set(kinds)
    for kind in kinds:
        shown, default = of_kind.get(kind, usual), value(kind, name)
        assert (float(shown) if isinstance(default, int | float) else shown) == default


def test_the_help_of_train_says_what_every_option_is():
    for field in fields(JobSettings):
        default = field.default if isinstance(field.default, tuple) else (field.default,)
        assert option(field.name).show_default == (", ".join(map(str, default)) if default != (None,) else False)
    for name in (*OPTIONS, *(field.name for field in fields(JobSettings))):
        assert option(name).help[0].isupper()
        assert option(name).help.endswith(".")


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("diffusion", {"channel_multipliers": (1, 2), "attention_levels": (1,), "head_channels": 8, "ema": (0.9, 0.5)}),
        ("autoencoder", {"loss": "bce"}), ("vae", {}), ("gan", {"game": "minimax"}),
    ],
)  # fmt: skip
def test_a_runs_own_record_repeats_its_settings(kind, changes, tmp_path, images):
    model, training = recipe(kind, **changes, **TINY)
    train(model, images, training, tmp_path, progress=False)
    settings = settings_of(tmp_path / "config.json")
    assert settings.pop("data") == images.name
    again = recipe(settings.pop("model"), **settings)
    assert again == (model, training)


def test_a_record_of_what_cannot_be_repeated_says_so(tmp_path, images):
    model, training = recipe("gan", **TINY)
    train(model, replace(images, name="folder:mine@0123"), training, tmp_path, progress=False)
    with pytest.raises(ValueError, match="a run that began with pictures from a folder; name them with --data"):
        settings_of(tmp_path / "config.json")
    settings = settings_of(tmp_path / "config.json", {"data"})
    assert (settings["channels"], settings["image_size"]) == (1, 32)
    train(model, images, training, tmp_path / "second", progress=False, init=tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="a run that began with other weights; name them with --init"):
        settings_of(tmp_path / "second" / "config.json")


def test_a_run_of_an_unknown_kind_is_refused_by_its_name(tmp_path, images):
    model, training = recipe("vae", **TINY)
    train(model, images, training, tmp_path, progress=False)
    record = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(record | {"kind": "flow"}))
    with pytest.raises(ValueError, match="kind is 'flow'; legal are diffusion, autoencoder, gan"):
        ddpm.load(tmp_path)
