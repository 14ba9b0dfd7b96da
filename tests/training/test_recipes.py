import math
import re
from dataclasses import asdict, fields, replace

import pytest
import torch

import ddpm
from ddpm import data
from ddpm.denoiser import NetworkDenoiser
from ddpm.files import read_json
from ddpm.model_files import MODELS
from ddpm.training import train
from ddpm.training.config import TrainingConfig
from ddpm.training.optimisers import OPTIMISERS, optimiser_of
from ddpm.training.recipes import OF_OPTIMISERS, RECIPES, check_optimiser_settings, recipe
from tests.folders import log_of
from tests.training.garments import first_images

pytestmark = pytest.mark.long

TINY = {"base_channels": 8, "steps": 4, "batch_size": 8, "checkpoint_every": 2}
LONGER = {"steps": 40, "batch_size": 32, "checkpoint_every": 40}  # enough to see the objective move
SHORT = {
    "diffusion": LONGER | {"base_channels": 32},
    "autoencoder": LONGER | {"warmup": 5},
    "vae": LONGER | {"warmup": 5},
    "gan": LONGER | {"warmup": 5},
}


@pytest.fixture(scope="module")
def images():
    return first_images(200)


@pytest.mark.parametrize(("name", "kind"), [("fashion-mnist", "diffusion"), ("equal-gan", "gan")])
def test_models_that_ship_were_trained_by_the_recipe(name, kind):
    """The others on equal terms were trained by the best settings of a trial: `tests/test_equal_terms.py`."""
    record = read_json(MODELS / name / "config.json")
    used = record["model"] | record["model"].get("unet", {}) | record["training"]
    model, training = recipe(kind)
    recommended = asdict(model) | asdict(model).get("unet", {}) | asdict(training)
    assert {setting: used[setting] for setting in RECIPES[kind]} == {
        setting: recommended[setting] for setting in RECIPES[kind]
    }


@pytest.mark.parametrize(
    ("kind", "part"), [("diffusion", "unet"), ("autoencoder", "autoencoder"), ("vae", "autoencoder")]
)
def test_what_a_network_minimises_falls(kind, part, tmp_path, images):
    model, training = recipe(kind, **TINY | SHORT[kind])
    train(model, images, training, tmp_path, progress=False)
    curve = [line[f"loss_{part}"] for line in log_of(tmp_path)]
    assert sum(curve[-10:]) / 10 < 0.7 * curve[0]


def test_a_gan_learns_where_garments_are_bright(tmp_path, images):
    model, training = recipe("gan", **TINY | SHORT["gan"])
    train(model, images, training, tmp_path, progress=False)
    players, untrained = ddpm.load(tmp_path, device="cpu"), model.network()
    mean = data.normalise(images.images).mean(0)
    off = [(ddpm.sample(each, 64).mean(0) - mean).square().mean() for each in (players, untrained)]
    assert off[0] < 0.5 * off[1]
    curve = [line["loss_discriminator"] for line in log_of(tmp_path)]
    assert curve[0] == pytest.approx(2 * math.log(2), abs=0.3)  # it cannot tell yet
    assert sum(curve[-10:]) / 10 < 2 * math.log(2)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("diffusion", {"head_channels": 8}), ("autoencoder", {"optimiser": "sgd"}), ("vae", {}),
        ("vae", {"loss": "bce", "optimiser": "rmsprop"}), ("vae", {"loss": "logistic", "beta": 2.0}),
        ("gan", {}), ("gan", {"game": "minimax", "r1": 0.0}),
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
    model, training = recipe("autoencoder", **TINY)
    train(model, images, training, tmp_path, progress=False)
    model, training = recipe("vae", **TINY)
    with pytest.raises(ValueError, match="variational is False there and True here"):
        train(model, images, training, tmp_path, progress=False)
    model, training = recipe("gan", **TINY)
    with pytest.raises(ValueError, match="kind is autoencoder there and gan here"):
        train(model, images, training, tmp_path, progress=False)


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("gan", "target"), ("diffusion", "game"), ("vae", "r1"), ("autoencoder", "dropout"), ("vae", "variational"),
        ("diffusion", "unet"), ("diffusion", "size"),
    ],
)  # fmt: skip
def test_a_setting_that_a_kind_does_not_have_is_refused(kind, setting):
    with pytest.raises(ValueError, match=f"{setting} is 0; model '{kind}' has no such setting"):
        recipe(kind, **{setting: 0})


def test_an_unknown_kind_is_refused_with_the_legal_ones():
    with pytest.raises(ValueError, match="model is 'flow'; legal are diffusion, autoencoder, vae, gan"):
        recipe("flow")


@pytest.mark.parametrize("kind", RECIPES)
def test_a_recipe_is_its_table_over_the_defaults(kind):
    model, training = recipe(kind)
    unet = getattr(model, "unet", None)
    for name, value in RECIPES[kind].items():
        (owner,) = [config for config in (training, model, unet) if hasattr(config, name)]
        assert getattr(owner, name) == value
    rest = {field.name for field in fields(training)} - RECIPES[kind].keys()
    assert all(getattr(training, name) == getattr(TrainingConfig(), name) for name in rest)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("name", OF_OPTIMISERS)
def test_a_setting_is_refused_where_the_optimiser_takes_none(name, optimiser):
    """It takes one where its own settings change with it."""
    made = [optimiser_of(optimiser, [torch.nn.Parameter(torch.ones(2, 2))], **{name: value}) for value in (0.25, 0.5)]
    own = [str({key: value for key, value in each.param_groups[0].items() if key != "params"}) for each in made]
    if own[0] != own[1]:
        check_optimiser_settings(optimiser, {name: 0.5})
        return
    with pytest.raises(ValueError, match=f"{name} is 0.5; of the optimisers only .* take one, not {optimiser}"):
        check_optimiser_settings(optimiser, {name: 0.5})


def test_what_is_asked_for_goes_before_the_recipe():
    model, training = recipe("diffusion", target="eps", dropout=0.1, learning_rate=0.5)
    assert (model.target, model.unet.dropout, training.learning_rate) == ("eps", 0.1, 0.5)


def test_the_kinds_of_autoencoder_differ_in_whether_they_are_variational():
    assert recipe("vae")[0] == replace(recipe("autoencoder")[0], variational=True)


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        ("diffusion", "base_chanels", "did you mean base_channels?"),
        ("diffusion", "in_channels", "did you mean channels?"),
        ("diffusion", "batchsize", "did you mean batch_size?"),
        ("gan", "image_size", "did you mean image_shape?"),
        ("vae", "lr", "did you mean learning_rate?"),
        ("vae", "patience", "legal are base_channels, batch_size, beta, channel_multipliers, checkpoint_every, clip, "),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_near_or_the_legal_names(kind, name, hint):
    with pytest.raises(ValueError, match=f"^{name} is 8; model '{kind}' has no such setting; {re.escape(hint)}"):
        recipe(kind, **{name: 8})


@pytest.mark.parametrize("name", ["image_size", "image_shape"])
def test_a_diffusion_model_takes_its_size_from_the_images(name):
    with pytest.raises(ValueError, match=f"^{name} is 32; .* has no such setting: the size is that of the images$"):
        recipe("diffusion", **{name: 32})


def test_the_names_offered_are_settings():
    with pytest.raises(ValueError, match="legal are") as refused:
        recipe("vae", patience=1)
    offered = str(refused.value).split("legal are ")[1].split(", ")
    assert {"unet", "variational", "kind", "image_shape"}.isdisjoint(offered)
    with pytest.raises(ValueError, match="legal are") as refused:
        recipe("diffusion", latent_dim=1)
    of_data_or_teacher = {"classes", "distilled_for", "distilled_from"}
    assert of_data_or_teacher.isdisjoint(str(refused.value).split("legal are ")[1].split(", "))
    assert {"latent_dim", "steps", "threads"} <= set(offered)
