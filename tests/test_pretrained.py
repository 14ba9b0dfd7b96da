import json
import os
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ddpm
from ddpm import model_files, pretrained
from ddpm.autoencoder import AutoencoderConfig
from ddpm.diffusion import DiffusionConfig
from ddpm.files import save_tensors, write_json
from ddpm.gan import GANConfig
from ddpm.metrics import frechet_distance
from ddpm.metrics.features import classify
from ddpm.model_files import weights_file
from ddpm.schedule import cosine
from ddpm.training import TrainingConfig, train
from ddpm.training.preparation import initial_weights
from ddpm.training.run import Run
from ddpm.unet import UNetConfig
from tests.networks import SMALL_UNET
from tests.training.garments import first_images

OWN = DiffusionConfig(SMALL_UNET)


SMALL = {
    "diffusion": OWN,
    "classes": replace(OWN, unet=replace(OWN.unet, classes=2), target="v", schedule="cosine"),
    "student": replace(OWN, target="v", distilled_for=4, distilled_from=8),
    "vae": AutoencoderConfig(base_channels=4, latent_dim=4, variational=True),
    "gan": GANConfig(base_channels=4, latent_dim=4),
}


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(model_files.MODELS / "fashion-mnist", tmp_path / "run")
    return tmp_path / "run"


def write_run(folder, **changed):
    """A run's folder with random weights, a model 8 channels wide, and no hash of them."""
    folder.mkdir(exist_ok=True)
    data = {"name": "none", "images": 1, "image_shape": [1, 32, 32]}
    record = {"kind": "diffusion", "model": asdict(OWN), "training": {}, "data": data}
    write_json(folder / "config.json", record | changed)
    save_tensors(folder / "model.safetensors", OWN.network().state_dict())
    return folder


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The current folder, with a run in it whose folder has the name of a model that ships."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return write_run(tmp_path / "here" / "fashion-mnist")


def width(model):
    """How wide a model's first level is: 8 of one's own, 32 of the one that ships."""
    return model.network.conv_in.out_channels


@pytest.mark.long
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
    assert [model.precision for model in models] == ["float32", "auto", "auto"]
    states = [model.network.state_dict() for model in models]
    for state in states[1:]:
        assert all(torch.equal(value, states[0][name]) for name, value in state.items())
    x = torch.randn(2, 1, 32, 32)
    exact, fast = (model(x, 500).eps for model in models[:2])
    assert torch.allclose(exact, fast, atol=0.1)


def test_what_the_card_says_is_there():
    card = model_files.card("fashion-mnist")
    for fact in ("60,000", "batch", "EMA", "ddpm train", "Frechet distance", "floor", "linear"):
        assert fact in card


# Which model a name means.


PATHS = [
    "./fashion-mnist", "fashion-mnist/", "./fashion-mnist/", "../here/fashion-mnist", "link", Path("fashion-mnist"),
    Path("link"),
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_what_is_written_as_a_path_is_ones_own_model(path, own, capsys):
    Path("link").symlink_to("fashion-mnist")
    assert width(ddpm.load(path, device="cpu")) == 8
    assert width(ddpm.load(os.path.abspath(path), device="cpu")) == 8
    assert capsys.readouterr().err == ""


def test_a_bare_name_is_the_model_that_ships_and_says_so_beside_a_folder_of_the_name(own, capsys):
    assert width(ddpm.load("fashion-mnist", device="cpu")) == 32
    assert capsys.readouterr().err == (
        'model "fashion-mnist" is the one that ships; the folder of that name here is "./fashion-mnist"\n'
    )
    assert weights_file("model", "fashion-mnist") == model_files.MODELS / "fashion-mnist" / "model.safetensors"
    assert "is the one that ships" in capsys.readouterr().err
    shutil.rmtree(own)
    assert width(ddpm.load("fashion-mnist", device="cpu")) == 32
    assert capsys.readouterr().err == ""


def test_a_model_that_ships_is_no_other_folder_where_the_models_lie(monkeypatch, capsys):
    monkeypatch.chdir(model_files.MODELS)
    for path in ("fashion-mnist", "./fashion-mnist", Path("fashion-mnist")):
        assert width(ddpm.load(path, device="cpu")) == 32


@pytest.mark.parametrize(
    "path",
    [*PATHS[:5], Path("fashion-mnist"), "fashion-mnist\\", ".\\fashion-mnist", "Fashion-MNIST", " fashion-mnist"],
    ids=repr,
)
def test_a_path_without_a_folder_is_never_the_model_that_ships(path, own):
    shutil.rmtree(own)
    with pytest.raises(ValueError, match=f"^model is {re.escape(repr(str(path)))}; legal are equal-.*, or the folder"):
        ddpm.load(path)


@pytest.mark.parametrize(("folder", "path"), [(".", "."), (".", "./"), (".", Path()), ("checkpoints", "..")])
def test_the_current_folder_is_a_model(folder, path, own, monkeypatch):
    (own / "checkpoints").mkdir()
    monkeypatch.chdir(own / folder)
    assert width(ddpm.load(path, device="cpu")) == 8
    assert weights_file("model", path).samefile(own / "model.safetensors")


def test_the_home_is_written_as_a_wave_unless_a_folder_is_called_so(own, monkeypatch):
    monkeypatch.setenv("HOME", str(own.parent))
    assert width(ddpm.load("~/fashion-mnist", device="cpu")) == 8
    (own.parent / "~").mkdir()
    assert model_files.model_folder("~") == Path("~")


@pytest.mark.parametrize("path", ["", "dangling", "file", "nowhere/run", "a" * 5000, "\0", "~nobody-at-all", "step-1"])
def test_what_is_no_folder_is_refused_in_one_line(path, own):
    Path("dangling").symlink_to("nowhere")
    Path("file").touch()
    with pytest.raises(ValueError, match=f"^model is {re.escape(repr(path))}; legal are [^\n]*$"):
        ddpm.load(path)


@pytest.mark.parametrize("path", [None, 3, b"fashion-mnist"])
def test_what_is_no_name_is_refused_by_its_type(path):
    with pytest.raises(TypeError, match=f"^model is {path!r}; it must be a string or a path"):
        ddpm.load(path)


def test_a_folder_may_have_a_name_like_a_checkpoints(own):
    os.rename(own, "step-1.5")
    Path("step-1.json").write_text("{}")
    assert width(ddpm.load("step-1.5", device="cpu")) == 8


def test_a_training_starts_from_weights_that_are_there_and_from_no_checkpoint(own):
    (own / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no weights file fashion-mnist.model\.safetensors"):
        weights_file("model", "./fashion-mnist")
    (own / "checkpoints").mkdir()
    for name in ("json", "safetensors"):
        (own / "checkpoints" / f"step-00000007.{name}").touch()
        for path in (f"fashion-mnist/checkpoints/step-00000007{ending}" for ending in ("", f".{name}")):
            with pytest.raises(ValueError, match=f"^model is {path!r}, a checkpoint; name the folder of its run"):
                weights_file("model", path, or_file=True)


def test_a_training_starts_from_a_model_that_ships_by_its_name(tmp_path):
    config = TrainingConfig(steps=1, batch_size=4, learning_rate=1e-12, warmup=0)
    model = pretrained.facts("fashion-mnist").config
    train(model, first_images(8), config, tmp_path, init="fashion-mnist", progress=False)
    begun, ended = load_file(weights_file("model", "fashion-mnist")), load_file(tmp_path / "model.safetensors")
    assert all(torch.allclose(ended[name], value, atol=1e-6) for name, value in begun.items())


def test_a_training_may_start_from_a_file_of_weights_and_a_teacher_is_a_model(own):
    file = own / "model.safetensors"
    assert weights_file("init", file, or_file=True) == file
    for path in ("nowhere", "", "a" * 5000, "\0", "nowhere/run"):
        with pytest.raises(ValueError, match=f"^init is {re.escape(repr(path))}; legal are .* run, or a file like its"):
            weights_file("init", path, or_file=True)
    for path in (file, "nowhere"):
        with pytest.raises(ValueError, match="^teacher is .*; legal are equal-.*, or the folder of a training run$"):
            weights_file("teacher", path)
    with pytest.raises(TypeError, match="^init is 3; it must be a string or a path"):
        weights_file("init", 3, or_file=True)


# Files that are damaged, or another program's.


def test_unknown_and_damaged_models_are_refused(copy, tmp_path):
    with pytest.raises(
        ValueError,
        match="model is 'cifar'; legal are equal-autoencoder, .+, fashion-mnist, fashion-mnist-4-calls, "
        "fashion-mnist-classes, or the",
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "config.json is damaged: Expecting"),
        (b"[]", "config.json is damaged: it must hold an object"),
        (b"\xff\xfe{}", "config.json is damaged: .* can't decode"),
        (b'{"architectures": ["GPT2LMHeadModel"], "n_layer": 12}', "config.json is damaged or another program's"),
        (b'{"_class_name": "UNet2DModel", "sample_size": 32}', "config.json is damaged or another program's"),
        (b'{"model": "unet", "data": "cifar10"}', "config.json is damaged or another program's"),
    ],
)
def test_a_config_that_is_no_record_is_refused_in_one_line(content, message, own):
    (own / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"^fashion-mnist.{message}[^\n]*$"):
        ddpm.load("./fashion-mnist")


def of_unet(**changed):
    return asdict(OWN) | {"unet": asdict(OWN.unet) | changed}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "consistency"}, "kind is 'consistency'; legal are diffusion, autoencoder, gan"),
        ({"kind": ["diffusion"]}, r"kind is \['diffusion'\]; legal are"),
        ({"model": of_unet(depth=3)}, "unexpected keyword argument 'depth'"),
        ({"model": asdict(OWN) | {"flow": True}}, "unexpected keyword argument 'flow'"),
        ({"model": of_unet(base_channels=6)}, "base_channels is 6; it must be a multiple of 4"),
        ({"model": asdict(OWN) | {"schedule": "spiral"}}, "schedule is 'spiral'; legal are"),
        ({"kind": "gan"}, "unexpected keyword argument"),
        ({"data": {}}, "image_shape is None; it must be a list of integers"),
        ({"data": {"image_shape": [32, 32]}}, r"image_shape is \(32, 32\); it must be \(channels, height, width\)"),
        ({"data": {"image_shape": [1, 32.0, 32.0]}}, "image_shape is .*; it must be a list of integers"),
        ({"data": {"image_shape": [1, 30, 32]}}, "image height is 30; it must be a multiple of 4"),
        ({"data": {"image_shape": [3, 32, 32]}}, "channels is 1; the images have 3"),
        (
            {"data": {"image_shape": [1, 32, 32], "classes": ["bag", "coat"]}},
            r"classes are \['bag', 'coat'\]; the network was made for 0 classes",
        ),
    ],
)
def test_settings_that_are_not_legal_or_of_a_later_version_are_named(changed, message, own):
    write_run(own, **changed)
    with pytest.raises(ValueError, match=f"config.json is damaged, or a later version .*wrote it: .*{message}[^\n]*$"):
        ddpm.load(own)


def test_an_autoencoders_images_are_those_of_its_data(tmp_path):
    shutil.copytree(model_files.MODELS / "equal-vae", tmp_path / "run")
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    write_json(tmp_path / "run" / "config.json", record | {"data": record["data"] | {"image_shape": [1, 28, 28]}})
    with pytest.raises(ValueError, match=r"image_shape is \(1, 32, 32\); the images are \(1, 28, 28\)"):
        ddpm.load(tmp_path / "run")


def test_a_mark_that_windows_editors_put_before_a_file_is_no_damage(own):
    content = (own / "config.json").read_bytes()
    (own / "config.json").write_bytes(b"\xef\xbb\xbf" + content)
    assert width(ddpm.load(own, device="cpu")) == 8


FIRST = "conv_in.weight"
NAN = torch.tensor([1.0, float("nan")]).repeat(36).reshape(8, 1, 3, 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({FIRST: None}, "does not fit the model: it lacks conv_in.weight"),
        ({"conv_in.gain": torch.ones(1)}, "does not fit the model, which has no conv_in.gain"),
        (
            {FIRST: torch.ones(8, 3, 3, 3)},
            r"conv_in.weight is float32 \(8, 3, 3, 3\) there; it must be float32 \(8, 1, 3, 3\)",
        ),
        (
            {FIRST: torch.ones(8, 1, 3, 3, dtype=torch.int8)},
            r"conv_in.weight is int8 \(8, 1, 3, 3\) there; it must be float32 \(8, 1, 3, 3\)",
        ),
        ({FIRST: NAN}, "is damaged: conv_in.weight holds numbers that are not finite"),
        (
            {FIRST: torch.full((8, 1, 3, 3), 1e300, dtype=torch.float64)},
            "is damaged: conv_in.weight holds numbers that are not",
        ),
    ],
    ids=["lacking", "too many", "shape", "integers", "nan", "too large"],
)
def test_weights_of_another_model_or_with_nan_are_named(changed, message, own):
    weights = load_file(own / "model.safetensors") | changed
    save_tensors(own / "model.safetensors", {name: value for name, value in weights.items() if value is not None})
    with pytest.raises(ValueError, match=f"model.safetensors .*{message}"):
        ddpm.load(own)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_computed_with_in_float32(dtype, own):
    weights = {name: value.to(dtype) for name, value in load_file(own / "model.safetensors").items()}
    save_tensors(own / "model.safetensors", weights)
    for name, value in ddpm.load(own, device="cpu").network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, weights[name].float())


def test_a_pipeline_of_diffusers_is_told_from_a_run(own):
    (own / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match="is a pipeline of diffusers; ddpm.from_diffusers opens it in Python, and"):
        ddpm.load(own)


def test_a_model_is_read_while_a_training_publishes_another(own, monkeypatch):
    """A new record and new weights come after the old record was read, so that its hash is none of theirs."""
    record = json.loads((own / "config.json").read_text())
    run = Run(own / "run", record, record, keep=1)
    first, second = OWN.network().state_dict(), OWN.network().state_dict()
    run.publish(1, {0.999: first})
    read = pretrained.read_json

    def read_and_publish(path):
        monkeypatch.setattr(pretrained, "read_json", read)
        found = read(path)
        run.publish(2, {0.999: second})
        return found

    monkeypatch.setattr(pretrained, "read_json", read_and_publish)
    found = ddpm.load(own / "run", device="cpu").network.state_dict()
    assert torch.equal(found[FIRST], second[FIRST])
    assert not torch.equal(found[FIRST], first[FIRST])


def test_weights_other_than_the_records_are_refused(copy):
    weights = load_file(copy / "model.safetensors")
    save_tensors(copy / "model.safetensors", {name: -value for name, value in weights.items()})
    with pytest.raises(ValueError, match="is damaged or was replaced: its SHA-256 is not the one recorded"):
        ddpm.load(copy)


def test_a_model_is_whole_while_its_weights_are_being_replaced(copy):
    """A kill between the two: the record has the new hash, and the old one as that which is replaced."""
    record = json.loads((copy / "config.json").read_text())
    write_json(copy / "config.json", record | {"sha256": "0" * 64, "replaced": record["sha256"]})
    assert ddpm.load(copy).image_shape == (1, 32, 32)


@pytest.mark.parametrize("name", ["fashion-mnist", "equal-vae", "equal-gan"])
def test_a_loaded_model_is_ready_and_trains_no_further(name):
    model = ddpm.load(name, device="cpu")
    network = getattr(model, "network", model)
    assert not any(module.training for module in network.modules())
    assert not any(weight.requires_grad for weight in network.parameters())


def test_a_folder_without_a_card_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no card .*card.md; models that ship have one"):
        model_files.card(tmp_path)


# Models that another program trained.


@pytest.mark.parametrize("kind", SMALL)
def test_a_saved_network_is_a_model_like_any_runs(kind, tmp_path):
    config, classes = SMALL[kind], ("low", "high") if kind == "classes" else ()
    network = config.network().eval()
    ddpm.save(network, config, tmp_path / "mine", (1, 32, 32), classes)
    assert pretrained.facts(tmp_path / "mine") == (config, (1, 32, 32), classes, "")
    model = ddpm.load(tmp_path / "mine", "float32")
    loaded = model.network if isinstance(config, DiffusionConfig) else model
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name].cpu(), value), name
    assert getattr(model, "distilled_for", None) == getattr(config, "distilled_for", None)
    options = {} if kind in ("vae", "gan") else {"steps": 4}
    assert ddpm.sample(model, 2, chunk=2, progress=False, **options).shape == (2, 1, 32, 32)


@pytest.mark.parametrize("kind", ["diffusion", "vae", "gan"])
def test_a_training_starts_from_a_saved_network(kind, tmp_path):
    network = SMALL[kind].network()
    ddpm.save(network, SMALL[kind], tmp_path / "mine", (1, 32, 32))
    weights = initial_weights(SMALL[kind].task(), weights_file("model", tmp_path / "mine"))
    for name, value in network.state_dict().items():
        (own,) = [weights[key] for key in weights if key in (name, f"unet.{name}", f"autoencoder.{name}")]
        assert torch.equal(own, value), name


@pytest.mark.parametrize("kind", ["diffusion", "vae", "gan"])
def test_saving_leaves_torchs_random_numbers_as_they_are(kind, tmp_path):
    """A loop of one's own that saves on its way goes on as it would have without."""
    network, before = SMALL[kind].network(), torch.get_rng_state()
    ddpm.save(network, SMALL[kind], tmp_path / "mine", (1, 32, 32))
    if kind == "diffusion":
        ddpm.save(network, SMALL[kind], tmp_path / "other", (1, 32, 32), schedule=cosine())
    assert torch.equal(torch.get_rng_state(), before)
    if kind == "diffusion":
        assert ddpm.load(tmp_path / "other").schedule == cosine()


def test_a_network_is_not_saved_with_what_does_not_fit_it(tmp_path):
    network, there = OWN.network(), tmp_path / "there"
    there.mkdir()
    (there / "notes.txt").write_text("mine")
    wide = DiffusionConfig(UNetConfig(base_channels=16, head_channels=8, blocks_per_level=1))
    broken = OWN.network()
    torch.nn.init.constant_(broken.conv_in.bias, torch.nan)
    for arguments, error, message in (
        ((network, OWN.unet, "new", (1, 32, 32)), TypeError, "config is UNetConfig; legal are DiffusionConfig, "),
        (("weights.pt", OWN, "new", (1, 32, 32)), TypeError, "network is str; it must be a torch.nn"),
        ((network, wide, "new", (1, 32, 32)), ValueError, "network does not fit the model: "),
        ((broken, OWN, "new", (1, 32, 32)), ValueError, "network is damaged: conv_in.bias holds"),
        ((network, OWN, "new", (3, 32, 32)), ValueError, "channels is 1; the images have 3"),
        ((network, OWN, "new", (32, 32)), ValueError, r"^image_shape is \(32, 32\); it must be \(channels, height"),
        ((network, OWN, "new", (1, 32, 32), ["a", "b"]), ValueError, r"classes are \['a', 'b'\]; .* for 0 classes"),
        ((network, OWN, "new", (1, 32, 32), "ab"), TypeError, "classes is 'ab'; it must be a sequence of names"),
        (
            (network, OWN, "there", (1, 32, 32)),
            ValueError,
            "^folder is '.*there', which holds 'notes.txt'; it must be an empty folder or not",
        ),
    ):
        *first, folder, shape = arguments[:4]
        with pytest.raises(error, match=message):
            ddpm.save(*first, tmp_path / folder, shape, *arguments[4:])
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "notes.txt"]


def test_a_device_that_torch_does_not_know_is_refused_before_anything_is_read(tmp_path):
    for device in ("gpu", "cuda:99", "hpu", ""):
        with pytest.raises(
            ValueError, match=f"^device is '{device}', which torch does not find here; legal are auto and "
        ):
            ddpm.load(tmp_path / "nothing", device=device)
