"""Trainings under the environment of accelerate's launcher, and beside an Accelerator that was made before."""

import json
from dataclasses import dataclass, replace

import accelerate
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import ParallelismConfig

import ddpm
from ddpm.files import load_tensors
from ddpm.training import recipe, train
from ddpm.training.config import TrainingConfig
from ddpm.training.launcher import compilation, make_accelerator
from tests.folders import contents, log_of

CONFIG = TrainingConfig(steps=2, batch_size=4, checkpoint_every=1, precision="float32")


@pytest.fixture(autouse=True)
def nothing_made_before():
    """accelerate keeps what the first Accelerator of a program was made with."""
    forget()
    yield
    forget()


def forget():
    AcceleratorState._reset_state()
    GradientState._reset_state()


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, x):
        return x + self.linear(x).tanh()


class Net(torch.nn.Module):
    """A layer, and two equal blocks, which may be compiled one by one."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(1, 8)
        self.blocks = torch.nn.ModuleList([Block(), Block()])

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return x


class Small:
    classes = None

    def __init__(self):
        self.parts = {"net": Net()}

    def loss(self, part, images, randomness):
        noise = randomness.normal(8).to(images.device)
        return (self.parts[part](images.mean((1, 2, 3))[:, None]) - noise).square().mean()


@dataclass
class SmallConfig:
    kind = "small"

    def check_images(self, shape):
        pass

    def task(self):
        return Small()


# What a training has settings of its own for.


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "micro_batch_size says how a batch is divided"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "auto", "micro_batch_size says"),
        ("ACCELERATE_MIXED_PRECISION", "fp16", "precision says what a training computes in"),
        ("ACCELERATE_MIXED_PRECISION", "fp8", "precision says what a training computes in"),
    ],
)
def test_a_request_that_is_not_used_changes_no_bit_and_is_said(name, value, why, tmp_path, images, monkeypatch, capsys):
    train(SmallConfig(), images, CONFIG, tmp_path / "plain", progress=False)
    forget()
    capsys.readouterr()
    monkeypatch.setenv(name, value)
    train(SmallConfig(), images, CONFIG, tmp_path / "launched", progress=False)
    said = capsys.readouterr().err
    assert said.startswith(f"{name} is {value!r} and is not used: {why}")
    assert len(said.splitlines()) == 1
    assert log_of(tmp_path / "launched") == log_of(tmp_path / "plain")
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "launched" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()


def test_only_the_main_process_says_what_is_not_used(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    for is_main, lines in ((True, 1), (False, 0)):
        monkeypatch.setattr(Accelerator, "is_main_process", is_main)
        make_accelerator(tmp_path, ())
        assert len(capsys.readouterr().err.splitlines()) == lines


@pytest.mark.parametrize(
    ("name", "value"), [("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1"), ("ACCELERATE_MIXED_PRECISION", "no")]
)
def test_what_a_launcher_always_says_is_not_remarked_upon(name, value, tmp_path, images, monkeypatch, capsys):
    monkeypatch.setenv(name, value)
    train(SmallConfig(), images, CONFIG, tmp_path, progress=False)
    assert capsys.readouterr().err == ""


# What is refused.


@pytest.mark.parametrize("value", ["true", "True", "1", "yes"])
@pytest.mark.parametrize("what", ["DEEPSPEED", "FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG"])
def test_what_spreads_a_network_over_devices_is_refused_before_anything_is_written(
    what, value, tmp_path, images, monkeypatch
):
    name = f"ACCELERATE_USE_{what}"
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"^{name} is {value!r}; it must be false, since a training here knows no "):
        train(SmallConfig(), images, CONFIG, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", ["false", "False", "0", ""])
def test_what_is_off_is_not_refused(value, monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", value)
    make_accelerator(tmp_path, ())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gradient_accumulation_steps": 4}, "gradient_accumulation_steps is 4 .*it must be 1"),
        ({"mixed_precision": "bf16"}, "mixed_precision is 'bf16' .*it must be 'no'"),
        ({"parallelism_config": ParallelismConfig()}, "(?s:parallelism_config is ParallelismConfig.*it must be None)"),
    ],
)
def test_an_accelerator_that_would_change_the_gradients_is_refused_and_left_as_it_is(options, words, tmp_path, images):
    before = Accelerator(cpu=True, **options)
    with pytest.raises(ValueError, match=f"^{words}"):
        train(SmallConfig(), images, CONFIG, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert before.gradient_accumulation_steps == options.get("gradient_accumulation_steps", 1)


def test_an_accelerator_in_the_midst_of_accumulating_is_refused(tmp_path, images):
    """The optimisers of all make no step then."""
    before = Accelerator(cpu=True)
    before.gradient_state._set_sync_gradients(False)
    with pytest.raises(ValueError, match=r"^sync_gradients is False .*it must be True"):
        train(SmallConfig(), images, CONFIG, tmp_path / "run")


def test_an_accelerator_that_changes_nothing_may_be_there(tmp_path, images):
    train(SmallConfig(), images, CONFIG, tmp_path / "alone", progress=False)
    forget()
    Accelerator(cpu=not torch.accelerator.is_available())
    train(SmallConfig(), images, CONFIG, tmp_path / "beside", progress=False)
    assert log_of(tmp_path / "beside") == log_of(tmp_path / "alone")


# Compilation.


@pytest.mark.parametrize(("backend", "legal"), [("tensorrt", "no, eager, aot_eager, .*inductor")])
def test_a_compiler_that_is_not_there_is_refused_before_anything_is_written(
    backend, legal, tmp_path, images, monkeypatch
):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", backend)
    with pytest.raises(ValueError, match=f"^ACCELERATE_DYNAMO_BACKEND is {backend!r}; legal are {legal}"):
        train(SmallConfig(), images, CONFIG, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_players_are_not_compiled(tmp_path, images, monkeypatch):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    model, config = recipe("gan", base_channels=8, latent_dim=4, steps=1, batch_size=2)
    with pytest.raises(ValueError, match=r"^ACCELERATE_DYNAMO_BACKEND is 'eager'; for a model of 2 networks it must "):
        train(model, images, config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_products_on_a_gpu_stay_as_exact_as_they_were(tmp_path, monkeypatch):
    """accelerate makes those of a compiled training TF32 where there is a GPU; here it does so without one."""
    before = torch.backends.cuda.matmul.allow_tf32

    def careless(**options):
        torch.backends.cuda.matmul.allow_tf32 = not before
        return Accelerator(**options)

    monkeypatch.setattr(accelerate, "Accelerator", careless)
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    make_accelerator(tmp_path, ())
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_without_a_compiler_nothing_is_said_of_one(tmp_path):
    assert compilation(make_accelerator(tmp_path, ()), 1) == {}


@pytest.mark.long
@pytest.mark.parametrize("regional", ["false", "true"])
def test_a_compiled_training_has_the_same_weights_by_the_same_names_and_says_so(
    regional, tmp_path, images, monkeypatch
):
    train(SmallConfig(), images, CONFIG, tmp_path / "plain", progress=False)
    forget()
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "AOT_EAGER")
    monkeypatch.setenv("ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION", regional)
    train(SmallConfig(), images, replace(CONFIG, steps=1), tmp_path / "compiled", progress=False)
    record = json.loads((tmp_path / "compiled" / "config.json").read_text())
    how = {"backend": "aot_eager", "mode": "default"}
    assert record["compiled"] == how | ({"use_regional_compilation": True} if regional == "true" else {})
    last = "checkpoints/step-00000001.safetensors"
    plain, compiled = (load_tensors(tmp_path / name / last) for name in ("plain", "compiled"))
    assert plain.keys() == compiled.keys()
    assert all(torch.allclose(plain[name], value, atol=1e-6) for name, value in compiled.items())


@pytest.mark.long
def test_a_compiled_run_goes_on_only_compiled_and_loads(tmp_path, images, monkeypatch):
    model, config = recipe("autoencoder", base_channels=8, latent_dim=4, steps=2, batch_size=2, checkpoint_every=1)
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")

    def interrupt(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, images, config, tmp_path, progress=False, on_step=interrupt)
    before = contents(tmp_path)
    monkeypatch.delenv("ACCELERATE_DYNAMO_BACKEND")
    forget()
    with pytest.raises(
        ValueError, match=r"holds another run \(compiled is {'backend': 'eager'.*} there and None here\)"
    ):
        train(model, images, config, tmp_path, progress=False)
    assert contents(tmp_path) == before
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    forget()
    train(model, images, config, tmp_path, progress=False)
    assert len(log_of(tmp_path)) == 2
    ddpm.load(tmp_path, device="cpu")
