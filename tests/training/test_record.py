import hashlib
import json
from dataclasses import asdict, dataclass, field, replace

import pytest
import torch

import ddpm
from ddpm import model_files
from ddpm.autoencoder import AutoencoderConfig
from ddpm.diffusion import DiffusionConfig
from ddpm.gan import GANConfig
from ddpm.training.config import TrainingConfig
from ddpm.training.record import default_record, difference, filled, record_of, upgraded, with_changes_on_the_way
from ddpm.unet import UNetConfig

DATA = {"name": "fashion-mnist", "images": 50, "image_shape": (1, 32, 32)}
MODEL = DiffusionConfig(UNetConfig(base_channels=8, head_channels=8))
CONFIG = TrainingConfig(steps=6, ema=(0.9, 0.99))

# A record.


def test_a_record_holds_the_kind_the_model_its_training_and_the_data():
    record = record_of(MODEL, CONFIG, DATA)
    assert list(record) == ["kind", "model", "training", "data"]
    assert record["kind"] == "diffusion"
    assert record["data"] == {"name": "fashion-mnist", "images": 50, "image_shape": [1, 32, 32]}


def test_a_record_is_what_json_gives_back():
    record = record_of(MODEL, CONFIG, DATA)
    assert json.loads(json.dumps(record)) == record
    assert record["training"]["ema"] == [0.9, 0.99]


def test_the_configurations_come_back_from_a_record():
    record = record_of(MODEL, CONFIG, DATA)
    assert DiffusionConfig(**record["model"]) == MODEL
    assert TrainingConfig(**record["training"]) == CONFIG


def test_how_many_checkpoints_are_kept_is_no_part_of_it():
    """It changes no result, so the same run may go on with another number."""
    assert record_of(MODEL, replace(CONFIG, keep=7), DATA) == record_of(MODEL, CONFIG, DATA)


def test_a_run_goes_on_in_other_pieces_and_with_nothing_else_changed():
    old, new = (record_of(MODEL, replace(CONFIG, micro_batch_size=size), DATA) for size in (4, None))
    assert old != new
    assert with_changes_on_the_way(old, new, step=1) == new
    assert with_changes_on_the_way(new, old, step=1) == old
    shorter = record_of(MODEL, replace(CONFIG, micro_batch_size=4, steps=3), DATA)
    assert difference(with_changes_on_the_way(shorter, new, step=1), new).startswith("steps is 3 there")


@pytest.mark.parametrize(
    ("decay", "step", "is_legal"), [("constant", 9, True), ("constant", 10, False), ("linear", 1, False)]
)
def test_a_run_of_a_constant_rate_gets_another_number_of_steps_which_are_still_to_come(decay, step, is_legal):
    old, new = (record_of(MODEL, replace(CONFIG, decay=decay, steps=steps), DATA) for steps in (20, 9))
    assert with_changes_on_the_way(old, new, step) == (new if is_legal else old)


def test_a_record_knows_the_weights_that_its_training_began_with(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    record = record_of(MODEL, CONFIG, DATA, tmp_path / "model.safetensors")
    assert record["init"] == hashlib.sha256(b"weights").hexdigest()


def test_the_defaults_are_those_of_the_configurations():
    record = default_record(AutoencoderConfig(latent_dim=5))
    assert AutoencoderConfig(**record["model"]) == AutoencoderConfig()
    assert TrainingConfig(**record["training"]) == TrainingConfig()


# Records that are older.


def test_settings_that_a_record_is_too_old_to_have_are_filled_in():
    old = {"model": {"unet": {"channels": 3}}, "data": 1}
    defaults = {"kind": "diffusion", "model": {"unet": {"channels": 1, "skips": True}, "T": 1000}}
    assert filled(old, defaults) == {
        "kind": "diffusion", "model": {"unet": {"channels": 3, "skips": True}, "T": 1000}, "data": 1
    }  # fmt: skip


def test_one_decay_in_a_list_is_that_decay():
    record = {"training": {"ema": [0.999], "seed": 0}}
    assert upgraded(record) == {"training": {"ema": 0.999, "seed": 0}}
    assert upgraded({"training": {"ema": [0.9, 0.99]}}) == {"training": {"ema": [0.9, 0.99]}}


def test_a_setting_without_a_default_is_in_no_default_record():
    @dataclass(frozen=True)
    class Mine:
        width: int
        depth: int = 2
        unet: UNetConfig = field(default_factory=UNetConfig)

    assert default_record(Mine(8))["model"] == {"depth": 2, "unet": default_record(MODEL)["model"]["unet"]}


def test_filling_in_leaves_the_old_record_alone():
    old = {"model": {"T": 5}}
    filled(old, {"model": {"T": 1000, "target": "eps"}})
    assert old == {"model": {"T": 5}}


def test_a_setting_that_had_another_name_gets_todays():
    record = {"model": {"T": 1000, "unet": {"time": "none", "skips": False}}, "training": {"seed": 0}}
    assert upgraded(record) == {
        "model": {"T": 1000, "unet": {"time_conditioning": "none", "skips": False}}, "training": {"seed": 0}
    }  # fmt: skip
    assert record["model"]["unet"] == {"time": "none", "skips": False}


@pytest.mark.parametrize(
    "record", [{}, {"model": None}, {"model": {"latent_dim": 4}}, {"model": {"unet": {"time_conditioning": "add"}}}]
)
def test_a_record_without_old_names_stays(record):
    assert upgraded(record) == record


# What differs.


def test_the_first_setting_that_differs_is_named_with_both_values():
    there, here = {"training": {"seed": 1, "steps": 5}}, {"training": {"seed": 0, "steps": 6}}
    assert difference(there, here) == "seed is 1 there and 0 here"


def test_a_setting_that_only_the_new_record_has_is_named():
    assert difference({"training": {}}, {"training": {}, "init": "ab"}) == "init is None there and ab here"


def test_a_part_that_is_of_another_form_is_shown_whole():
    assert (
        difference({"data": "mnist"}, {"data": {"name": "mnist"}}) == "data is mnist there and {'name': 'mnist'} here"
    )


def test_a_setting_that_only_the_old_record_has_is_gone():
    assert (
        difference({"training": {"seed": 0, "swing": 1}}, {"training": {"seed": 0}})
        == "swing is 1 there and not given here"
    )


# Records that are read.


def shipped(name):
    return json.loads((model_files.MODELS / name / "config.json").read_text(encoding="utf-8"))


def copy_of(name, record, folder):
    """The folder of a model that ships, with another record."""
    (folder / "model.safetensors").write_bytes((model_files.MODELS / name / "model.safetensors").read_bytes())
    (folder / "config.json").write_text(json.dumps(record))
    return folder


def as_version_0_1_wrote_it(record):
    record = json.loads(json.dumps(record))
    unet = record["model"]["unet"]
    unet["time"] = unet.pop("time_conditioning", None) or unet["time"]
    return record


@pytest.mark.parametrize("name", ["fashion-mnist", "equal-diffusion"])
def test_a_models_config_of_version_0_1_still_loads(name, tmp_path):
    folder = copy_of(name, as_version_0_1_wrote_it(shipped(name)), tmp_path)
    old, new = ddpm.load(folder, "float32", "cpu"), ddpm.load(name, "float32", "cpu")
    assert old.network.config == new.network.config
    weights = new.network.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in old.network.state_dict().items())


def test_a_models_config_without_a_kind_is_a_diffusion_models(tmp_path):
    record = shipped("fashion-mnist")
    record.pop("kind", None)
    assert ddpm.load(copy_of("fashion-mnist", record, tmp_path), device="cpu").image_shape == (1, 32, 32)


def test_a_model_of_an_unknown_kind_is_refused_by_its_name(tmp_path):
    folder = copy_of("fashion-mnist", shipped("fashion-mnist") | {"kind": "flow"}, tmp_path)
    with pytest.raises(ValueError, match="kind is 'flow'; legal are diffusion, autoencoder, gan"):
        ddpm.load(folder)


def test_defaults_are_those_by_which_older_records_are_completed():
    """A record older than a setting means the default that the setting began with, so no default may move."""
    model = {name: value for name, value in asdict(DiffusionConfig()).items() if name != "unet"}
    assert model == {
        "schedule": "linear", "T": 1000, "target": "eps", "weighting": "simple", "times": "uniform",
        "snr_gamma": 5.0, "log_sigma_mean": -0.9, "log_sigma_std": 1.2, "uniform_share": 0.0,
        "label_dropout": 0.1, "distilled_for": None, "distilled_from": None,
    }  # fmt: skip
    assert asdict(UNetConfig()) == {
        "channels": 1, "base_channels": 32, "channel_multipliers": (1, 2, 4), "blocks_per_level": 2,
        "attention_levels": (2,), "head_channels": 32, "dropout": 0.0, "middle_attention": True,
        "time_conditioning": "add", "resample_last": False, "up_width": "mirror", "skips": True,
        "classes": None,
    }  # fmt: skip
    autoencoder = {
        "image_shape": (1, 32, 32), "base_channels": 32, "channel_multipliers": (1, 2, 4), "latent_dim": 32,
    }  # fmt: skip
    assert asdict(AutoencoderConfig()) == autoencoder | {"variational": False, "loss": "mse", "beta": 1.0}
    gan = {"architecture": "convolutional", "game": "non-saturating", "r1": 1.0}
    assert asdict(GANConfig()) == autoencoder | gan
    assert asdict(TrainingConfig()) == {
        "steps": 5000, "batch_size": 64, "learning_rate": 1e-3, "warmup": 200, "decay": "cosine", "optimiser": "adamw",
        "momentum": 0.9, "weight_decay": 0.01, "clip": 1.0, "ema": 0.999, "seed": 0, "checkpoint_every": 500, "keep": 2,
        "precision": "auto", "threads": None, "micro_batch_size": None, "flip": False,
    }  # fmt: skip
