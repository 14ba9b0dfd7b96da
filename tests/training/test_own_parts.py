"""A network, a schedule and a loss of one's own: trained with, resumed, loaded, asked."""

import json

import pytest
import torch
from torch import nn

import ddpm
from ddpm.autoencoder import AutoencoderConfig
from ddpm.data import load
from ddpm.denoiser import NetworkDenoiser
from ddpm.diffusion import Diffusion, DiffusionConfig
from ddpm.distillation import distill
from ddpm.files import load_tensors, read_json, write_json
from ddpm.own_parts import own_parts
from ddpm.schedule import NoiseSchedule, PathSchedule, exploding, linear
from ddpm.training import train
from ddpm.training.config import TrainingConfig
from ddpm.unet import UNetConfig
from tests.cli.commands import refusal

SMALL = UNetConfig(base_channels=4, channel_multipliers=(1,), blocks_per_level=1, attention_levels=(), head_channels=4)
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


class Tied(Pixelwise):
    """Two of its layers are one."""

    def __init__(self):
        super().__init__(width=2)
        self.layers = nn.Sequential(self.layers[0], nn.Conv2d(2, 2, 1), nn.SiLU(), nn.Conv2d(2, 2, 1), self.layers[2])
        self.layers[3].weight = self.layers[1].weight


class Another(Pixelwise):
    """Of another name."""


def trained(folder, make, model=None, on_step=None, schedule=None, task=Diffusion, init=None, **settings):
    """A run of a network that `make` makes, on a schedule, by the loss of a task; None is the package's own."""
    model = model or DiffusionConfig(SMALL, target="v")
    images = load("fashion-mnist-embedded", "train", quiet=True)
    config = TrainingConfig(**(vars(SETTINGS) | settings))
    is_own = make is not None or schedule is not None or task is not Diffusion
    make_task = (lambda: task(model, make and make(), schedule)) if is_own else None
    train(model, images, config, folder, progress=False, make_task=make_task, on_step=on_step, init=init)
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


def test_tied_weights_are_saved_and_come_back(tmp_path):
    folder = trained(tmp_path / "run", Tied, ema=0.5)
    weights = load_tensors(folder / "model.safetensors")
    assert torch.equal(weights["unet.layers.1.weight"], weights["unet.layers.3.weight"])
    layers = ddpm.load(folder, device="cpu", network=Tied()).network.layers
    assert torch.equal(layers[1].weight, weights["unet.layers.1.weight"])


# A schedule.

#: Lost to noise faster than the linear one, at every time.
FAST = NoiseSchedule(linear().alpha_bar ** 1.5)


class Fading(NoiseSchedule):
    """Code of one's own, which a record cannot hold."""

    def __init__(self, alpha_bar, power=2):
        super().__init__(alpha_bar)
        self.power = power

    def log_alpha_bar(self, t):
        return self.power * super().log_alpha_bar(t)


def test_a_schedule_of_ones_own_is_the_one_that_is_trained_on_and_loaded(tmp_path):
    folder = trained(tmp_path / "run", None, schedule=FAST)
    denoise = ddpm.load(folder)
    assert denoise.schedule == FAST
    assert denoise.schedule != linear()
    assert ddpm.load(folder, schedule=NoiseSchedule(FAST.alpha_bar)).schedule == FAST
    assert ddpm.load(folder / "checkpoints" / "step-00000001").schedule == FAST
    named = trained(tmp_path / "named", None)
    weights = [load_tensors(run / "model.safetensors")["unet.conv_out.bias"] for run in (folder, named)]
    assert not torch.equal(*weights)
    assert "own_schedule" not in read_json(named / "config.json")


def test_a_schedule_is_known_however_it_came_into_the_task(tmp_path):
    class Faster(DiffusionConfig):
        def noise_schedule(self):
            return FAST

    def with_another():
        task = Diffusion(DiffusionConfig(SMALL, target="v"))
        task.schedule = FAST
        return task

    overridden = trained(tmp_path / "overridden", None, Faster(SMALL, target="v"))
    images, model = load("fashion-mnist-embedded", "train", quiet=True), DiffusionConfig(SMALL, target="v")
    train(model, images, SETTINGS, tmp_path / "set", progress=False, make_task=with_another)
    for run in (overridden, tmp_path / "set"):
        assert ddpm.load(run).schedule == FAST


def test_its_weights_and_times_are_those_of_the_schedule():
    config = DiffusionConfig(SMALL, target="v", weighting="min_snr", times="lognormal")
    by_name, own = Diffusion(config), Diffusion(config, schedule=FAST)
    assert not torch.equal(by_name.loss_weights, own.loss_weights)
    assert not torch.equal(by_name.probabilities, own.probabilities)
    again = Diffusion(config, schedule=linear())
    assert torch.equal(by_name.loss_weights, again.loss_weights)
    assert again.own_schedule is None


def test_a_run_goes_on_with_the_same_schedule_alone(tmp_path):
    with pytest.raises(InterruptedError):
        trained(tmp_path / "run", None, schedule=FAST, on_step=stop)
    with pytest.raises(
        ValueError, match=r"own_schedule is \{'class': .*'alpha_bar': \[1.0, .* \.\.\. .*\]\} there and None"
    ):
        trained(tmp_path / "run", None)
    with pytest.raises(ValueError, match=r"alpha_bar is \[1.0, .* \.\.\. .*\] there and \[1.0, "):
        trained(tmp_path / "run", None, schedule=NoiseSchedule(linear().alpha_bar ** 2))
    trained(tmp_path / "run", None, schedule=FAST)
    assert ddpm.load(tmp_path / "run").schedule == FAST


def test_a_schedule_that_is_code_is_given_to_load_where_and_only_where_there_is_one(tmp_path):
    own = Fading(linear().alpha_bar)
    folder = trained(tmp_path / "run", None, schedule=own)
    assert ddpm.load(folder, schedule=own).schedule is own
    with pytest.raises(
        ValueError, match=r"schedule is not given; .* on a schedule that is code, Fading: ddpm.load takes it"
    ):
        ddpm.load(folder)
    for other in (Fading(FAST.alpha_bar), linear(), Fading(linear().alpha_bar, power=3)):
        with pytest.raises(ValueError, match=r"schedule is .*; .*config.json is of a run on another, Fading"):
            ddpm.load(folder, schedule=other)
    with pytest.raises(TypeError, match="schedule is str; it must be a ddpm.schedule.table.NoiseSchedule"):
        ddpm.load(folder, schedule="cosine")
    with pytest.raises(ValueError, match="schedule is given; .* is of a model without a schedule of its own"):
        ddpm.load("fashion-mnist", schedule=linear())
    with pytest.raises(ValueError, match=r"signal is \[1.0, .* there and \[1.0, .* here"):
        trained(tmp_path / "run", None, schedule=Fading(linear().alpha_bar, power=3))
    with pytest.raises(ValueError, match="teacher is '.*', on a schedule that is code, Fading; legal is one with"):
        distill(folder, load("fashion-mnist-embedded", "train", quiet=True), SETTINGS, tmp_path / "student", 8, 16)
    record = read_json(folder / "config.json")
    for damaged in ({"class": "NoiseSchedule", "alpha_bar": [1.0, 2.0]}, 3, "x", [1]):
        write_json(folder / "config.json", record | {"own_schedule": damaged})
        with pytest.raises(ValueError, match="config.json is damaged: its own_schedule is no table of alpha_bar"):
            ddpm.load(folder)
    with pytest.raises(ValueError, match="config.json is damaged: its own_schedule is no table of alpha_bar"):
        ddpm.load(folder, schedule=own)


def test_a_schedule_that_the_model_cannot_be_trained_on_is_refused_at_once():
    config = DiffusionConfig(SMALL, target="v")
    with pytest.raises(
        ValueError, match="schedule is NoiseSchedule.T=500.*; the configuration's T is 1000, and must be"
    ):
        Diffusion(config, schedule=linear(500))
    with pytest.raises(ValueError, match="target is 'v'; on the schedule Exploding.* legal are eps, x0"):
        Diffusion(config, schedule=exploding())
    with pytest.raises(TypeError, match="schedule is str"):
        Diffusion(config, schedule="cosine")
    ended = NoiseSchedule([*linear().alpha_bar[:-1].tolist(), 0.0])
    with pytest.raises(
        ValueError, match="weighting is 'min_snr', which is 0 at T; schedule NoiseSchedule.* has no signal there"
    ):
        Diffusion(DiffusionConfig(SMALL, target="v", weighting="min_snr"), schedule=ended)
    assert isinstance(exploding(), PathSchedule)
    assert Diffusion(DiffusionConfig(SMALL, target="x0"), schedule=exploding()).own_schedule == exploding()


def test_a_network_of_ones_own_loop_is_saved_with_its_schedule(tmp_path):
    config = DiffusionConfig(SMALL, target="v")
    network = config.network()
    ddpm.save(network, config, tmp_path / "saved", (1, 32, 32), schedule=FAST)
    loaded = ddpm.load(tmp_path / "saved", "float32")
    assert loaded.schedule == FAST
    x = torch.randn(1, 1, 32, 32)
    by_hand = NetworkDenoiser(network.eval(), FAST, "v", "float32", (1, 32, 32))
    assert torch.equal(loaded(x, 500).x0, by_hand(x, 500).x0)
    ddpm.save(network, config, tmp_path / "named", (1, 32, 32), schedule=linear())
    assert "own_schedule" not in read_json(tmp_path / "named" / "config.json")
    with pytest.raises(ValueError, match="the configuration's T is 1000"):
        ddpm.save(network, config, tmp_path / "short", (1, 32, 32), schedule=linear(500))
    code = AutoencoderConfig(base_channels=4, latent_dim=2)
    with pytest.raises(
        ValueError, match="schedule is given; only a diffusion model has one, and this is 'autoencoder'"
    ):
        ddpm.save(code.network(), code, tmp_path / "code", (1, 32, 32), schedule=FAST)


def test_a_student_learns_on_its_teachers_schedule(tmp_path):
    teacher = trained(tmp_path / "teacher", None, schedule=FAST)
    images = load("fashion-mnist-embedded", "train", quiet=True)
    distill(teacher, images, SETTINGS, tmp_path / "student", 8, 16, progress=False)
    assert ddpm.load(tmp_path / "student").schedule == FAST


# A loss.


class Threefold(Diffusion):
    """Another loss."""

    def loss(self, *args, **kwargs):
        return 3 * super().loss(*args, **kwargs)


class Middle(Diffusion):
    """Draws the middle times alone, and weighs the later of them more."""

    def __init__(self, config, network=None, schedule=None):
        super().__init__(config, network, schedule)
        self.probabilities = torch.zeros(1000, dtype=torch.float64)
        self.probabilities[399:600] = 1 / 201
        self.loss_weights = torch.linspace(0, 2, 1001, dtype=torch.float64)


def test_a_loss_of_ones_own_is_known_by_its_class_and_its_run_goes_on_with_it_alone(tmp_path):
    with pytest.raises(InterruptedError):
        trained(tmp_path / "run", None, task=Threefold, on_step=stop)
    with pytest.raises(ValueError, match="own_task is Threefold there and None here"):
        trained(tmp_path / "run", None)
    with pytest.raises(ValueError, match="own_task is Threefold there and Middle here"):
        trained(tmp_path / "run", None, task=Middle)
    trained(tmp_path / "run", None, task=Threefold)
    assert ddpm.load(tmp_path / "run").image_shape == (1, 32, 32)  # which no loss has a part in
    plain = trained(tmp_path / "plain", None)
    first = [
        json.loads((run / "log.jsonl").read_text().splitlines()[0])["loss_unet"] for run in (tmp_path / "run", plain)
    ]
    assert first[0] == pytest.approx(3 * first[1], rel=1e-5)


def test_times_and_weights_of_ones_own_are_those_of_the_loss(tmp_path):
    told = []

    class Watched(Pixelwise):
        def forward(self, x, t, labels=None):
            told.append(t)
            return super().forward(x, t, labels)

    trained(tmp_path / "run", Watched, task=Middle, steps=20)
    times = torch.cat(told)
    assert times.min() >= 399
    assert times.max() <= 599
    assert times.dtype == torch.float32  # as in sampling, where they need not be whole


def test_times_and_weights_that_cannot_be_are_refused_before_a_step(tmp_path):
    task = Diffusion(DiffusionConfig(SMALL, target="v", weighting="bound"))
    usual = {"probabilities": task.probabilities, "loss_weights": task.loss_weights}
    for name, value, said in (
        ("probabilities", usual["probabilities"] * 3, r"probabilities sum to 3; they must sum to 1"),
        ("probabilities", torch.full((1001,), 1 / 1001), r"probabilities have shape \(1001,\); it must be \(1000,\)"),
        ("probabilities", torch.linspace(-1, 1, 1000), "probabilities run from -1 to 1; legal is 0 and more, finite"),
        ("loss_weights", torch.ones(1000), r"loss_weights have shape \(1000,\); it must be \(1001,\)"),
        ("loss_weights", torch.full((1001,), torch.nan), "loss_weights run from nan to nan"),
    ):
        setattr(task, name, value)
        with pytest.raises(ValueError, match=said):
            task.check_probabilities_and_weights()
        setattr(task, name, usual[name])
    task.check_probabilities_and_weights()

    class Unfinished(Diffusion):
        def __init__(self, config, network=None, schedule=None):
            super().__init__(config, network, schedule)
            self.probabilities[333:667] *= 3

    with pytest.raises(ValueError, match="probabilities sum to 1.6.*; they must sum to 1"):
        trained(tmp_path / "run", None, task=Unfinished)
    assert not (tmp_path / "run").exists()


def test_a_model_of_ones_own_has_its_task_by_right(tmp_path):
    """Its task is no one's but its own, so there is nothing to write down."""

    class Own(DiffusionConfig):
        def task(self):
            return Threefold(self)

    folder = trained(tmp_path / "run", None, Own(SMALL, target="v"))
    assert "own_task" not in read_json(folder / "config.json")


def test_a_given_task_of_the_package_is_no_ones_own():
    config = DiffusionConfig(SMALL)
    assert own_parts(Diffusion(config), is_given=True) == {}
    assert set(own_parts(Diffusion(config, schedule=FAST), is_given=True)) == {"own_schedule"}


# From other weights.


def test_a_run_may_begin_with_the_weights_in_a_runs_folder(tmp_path):
    first = trained(tmp_path / "first", None)
    by_folder = trained(tmp_path / "by-folder", None, init=first)
    by_file = trained(tmp_path / "by-file", None, init=first / "model.safetensors")
    assert read_json(by_folder / "config.json")["init"] == read_json(by_file / "config.json")["init"]
    once, again = (load_tensors(run / "model.safetensors") for run in (by_folder, by_file))
    assert all(torch.equal(once[name], again[name]) for name in once)


# The command line.


@pytest.mark.parametrize(
    ("name", "own"),
    [("own_network", {"make": Pixelwise}), ("own_schedule", {"schedule": FAST}), ("own_task", {"task": Middle})],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_command_line_does_not_repeat_a_run_with_what_it_has_not(name, own, tmp_path):
    folder = trained(tmp_path / "run", **{"make": None} | own)
    said = refusal(["train", "--config", folder / "config.json", "--out", tmp_path / "again"], tmp_path)
    assert f"a run with an {name}, which only ddpm.training.train can have" in said
