import inspect
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import ddpm
from ddpm import data, langevin, samplers, sampling, threads, walks
from ddpm.autoencoder import AutoencoderConfig
from ddpm.diffusion import Diffusion, DiffusionConfig
from ddpm.files import load_tensors, save_tensors
from ddpm.threads import choose_threads
from ddpm.training import checkpoint, run, trackers, train
from ddpm.training.batches import images_of_step
from ddpm.training.config import TrainingConfig
from ddpm.training.launcher import make_accelerator, rows_of_this_process
from ddpm.training.loop import show_on_bar
from ddpm.training.preparation import threads_of
from ddpm.training.recipes import recipe
from ddpm.training.signals import Stopped, StopSignals
from ddpm.training.state import TrainingState
from ddpm.training.step import train_step
from tests.folders import contents, log_of
from tests.networks import SMALL_UNET

MODEL = DiffusionConfig(SMALL_UNET)
CONFIG = TrainingConfig(steps=6, batch_size=4, warmup=2, checkpoint_every=2)


# One step.


def step_once(config, images, signals=None):
    """The result of one step from random weights, and how far every weight moved."""
    torch.manual_seed(0)
    task, accelerator = MODEL.task(), make_accelerator(Path("unused"), ())
    state = TrainingState(task.parts, config, accelerator)
    before = {name: value.clone() for name, value in state.weights.items()}
    batch = images.images[:4].to(accelerator.device)
    result = train_step(task, state, batch, 0, config, accelerator, signals or StopSignals())
    return result, {name: value - before[name] for name, value in state.weights.items()}


def test_a_step_measures_its_loss_and_the_gradient_before_it_is_clipped(images):
    result, _ = step_once(replace(CONFIG, clip=1e-6), images)
    assert list(result.line) == ["step", "rate", "loss_unet", "gradient_unet"]
    assert (result.line["step"], result.line["rate"]) == (1, CONFIG.rate(0))
    assert result.line["loss_unet"] == pytest.approx(1, abs=0.1)  # a new network answers zero, and eps has variance 1
    assert result.line["gradient_unet"] > 1e-3


def test_plain_gradient_descent_steps_as_far_as_the_clipped_norm(images):
    _, moved = step_once(replace(CONFIG, optimiser="sgd", clip=1e-3, learning_rate=2.0, warmup=0), images)
    length = sum(change.square().sum().item() for change in moved.values()) ** 0.5
    assert length == pytest.approx(2.0 * 1e-3, rel=1e-2)


def test_a_step_says_that_it_was_told_to_stop(images):
    told = StopSignals()
    told.name = "SIGTERM"
    assert step_once(CONFIG, images, told)[0].stop_requested
    assert not step_once(CONFIG, images)[0].stop_requested


def test_processes_share_a_batch_in_equal_parts():
    second_of_four = SimpleNamespace(num_processes=4, process_index=1)
    assert rows_of_this_process(8, second_of_four) == slice(2, 4)
    with pytest.raises(ValueError, match="batch_size is 6; it must be a multiple of the 4 processes"):
        rows_of_this_process(6, second_of_four)


# A whole training.


def test_on_step_is_called_after_every_step_with_its_line_of_the_log(tmp_path, images):
    calls = []
    train(MODEL, images, CONFIG, tmp_path, progress=False, on_step=lambda line: calls.append((line, log_of(tmp_path))))
    whole = log_of(tmp_path)
    assert [line for line, _ in calls] == whole
    assert [log for _, log in calls] == [whole[:k] for k in range(1, 7)]  # it was written by then


def test_the_bar_shows_the_losses_and_the_images_a_second():
    shown = []
    bar = SimpleNamespace(format_dict={"rate": 2.5}, set_postfix=lambda values, refresh: shown.append(values))
    show_on_bar({"step": 3, "rate": 0.1, "loss_a": 0.25, "loss_b": 1.0, "gradient_a": 7.0}, bar, 32)
    bar.format_dict["rate"] = None  # as before the first step
    show_on_bar({"step": 1, "loss_a": 2.0}, bar, 32)
    assert shown == [{"loss_a": "0.2500", "loss_b": "1.0000", "images/s": "80"}, {"loss_a": "2.0000", "images/s": "0"}]


def test_the_loss_falls_and_every_step_is_logged(tmp_path, images):
    config = replace(CONFIG, steps=60, batch_size=16, learning_rate=4e-3, checkpoint_every=60)
    train(MODEL, images, config, tmp_path, progress=False)
    lines = log_of(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 61))
    losses = [line["loss_unet"] for line in lines]
    assert losses[0] == pytest.approx(1, abs=0.1)  # a new network answers zero, and eps has variance 1
    assert sum(losses[-10:]) / 10 < 0.8


def test_training_runs_no_sampler(tmp_path, images, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("training called a sampler")

    for module in (samplers, langevin, sampling):
        for name, value in vars(module).copy().items():
            if inspect.isfunction(value):
                monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(walks, "SAMPLERS", dict.fromkeys(walks.SAMPLERS, refuse))
    with pytest.raises(AssertionError, match="called a sampler"):
        samplers.ddim(None, None, None)
    train(MODEL, images, replace(CONFIG, steps=2), tmp_path)
    assert (tmp_path / "model.safetensors").exists()


def test_images_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, images):
    small = replace(images, images=images.images[..., 2:-1, 2:-1])
    with pytest.raises(ValueError, match="28 or 32"):
        train(MODEL, small, CONFIG, tmp_path / "run")
    with pytest.raises(ValueError, match="channels is 3"):
        train(replace(MODEL, unet=replace(MODEL.unet, channels=3)), images, CONFIG, tmp_path / "run")
    assert not (tmp_path / "run").exists()


CONDITIONAL = replace(MODEL, unet=replace(MODEL.unet, classes=10))


def test_a_conditional_run_is_told_the_labels_of_the_images_it_sees(tmp_path, images, monkeypatch):
    told, loss = [], Diffusion.loss

    def watched(self, part, batch, randomness, labels):
        told.append((batch, labels))
        return loss(self, part, batch, randomness, labels)

    monkeypatch.setattr(Diffusion, "loss", watched)
    train(CONDITIONAL, images, CONFIG, tmp_path / "run", progress=False)
    for step, (batch, labels) in enumerate(told):
        seen = images_of_step(CONFIG.seed, step, CONFIG.batch_size, len(images))
        assert torch.equal(batch.cpu(), data.normalise(images.images[seen]))
        assert torch.equal(labels.cpu(), images.labels[seen])


def test_a_conditional_model_comes_back_with_the_names_of_its_classes(tmp_path, images):
    train(CONDITIONAL, images, CONFIG, tmp_path / "run", progress=False)
    denoise = ddpm.load(tmp_path / "run", "float32", "cpu")
    assert denoise.classes == data.CLASSES
    x = torch.randn(1, 1, 32, 32)
    assert not torch.equal(denoise.given("ankle boot")(x, 300).x0, denoise.given("bag")(x, 300).x0)
    assert not torch.equal(denoise.given("ankle boot")(x, 300).x0, denoise(x, 300).x0)
    assert ddpm.load(tmp_path / "run" / "checkpoints" / "step-00000004", "float32", "cpu").classes == data.CLASSES


def test_a_conditional_run_goes_on_to_the_same_bits(tmp_path, images):
    class Enough(Exception):
        pass

    def stop_after_three(line):
        if line["step"] == 3:
            raise Enough

    train(CONDITIONAL, images, CONFIG, tmp_path / "whole", progress=False)
    with pytest.raises(Enough):
        train(CONDITIONAL, images, CONFIG, tmp_path / "run", progress=False, on_step=stop_after_three)
    train(CONDITIONAL, images, CONFIG, tmp_path / "run", progress=False)
    whole, again = (load_tensors(tmp_path / name / "model.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_as_many_classes_as_the_images_have_or_nothing_is_written(tmp_path, images):
    model = replace(MODEL, unet=replace(MODEL.unet, classes=3))
    with pytest.raises(ValueError, match="classes is 3; the images of fashion-mnist-embedded have 10 classes"):
        train(model, images, CONFIG, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_parts_do_not_leak_gradients_into_each_other(tmp_path, images):
    """Two parts, the second's loss running through the first, against the same steps by hand."""

    class Pair:
        classes = None

        def __init__(self):
            torch.manual_seed(0)
            self.parts = {"a": torch.nn.Linear(1, 1), "b": torch.nn.Linear(1, 1)}

        def loss(self, part, images, randomness):
            x = images.mean((1, 2, 3))[:, None]
            if part == "a":
                return self.parts["a"](x).square().mean()
            return (self.parts["a"](self.parts["b"](x)) - 1).square().mean()

    @dataclass
    class PairConfig:
        kind = "pair"

        def check_images(self, shape):
            pass

        def task(self):
            return Pair()

    config = replace(CONFIG, steps=3, clip=1e9)
    train(PairConfig(), images, config, tmp_path, progress=False)
    by_hand = Pair()
    optimisers = {k: torch.optim.AdamW(p.parameters(), weight_decay=0.01) for k, p in by_hand.parts.items()}
    for step in range(3):
        rows = images_of_step(0, step, 4, len(images))
        for name, part in by_hand.parts.items():
            loss = by_hand.loss(name, data.normalise(images.images[rows]), None)
            parameters = list(part.parameters())
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = gradient
            optimisers[name].param_groups[0]["lr"] = config.rate(step)
            optimisers[name].step()
    last = load_tensors(tmp_path / "checkpoints" / "step-00000003.safetensors")
    for name, part in by_hand.parts.items():
        assert torch.allclose(last[f"weights.{name}.weight"], part.weight, atol=1e-5)  # a step is 1e-3 long


def assert_finite_weights_of_step(run, step):
    assert json.loads((run / "config.json").read_text())["step"] == step
    assert all(torch.isfinite(value).all() for value in load_tensors(run / "model.safetensors").values())


def with_losses(change):
    """The model's configuration, whose task's k-th loss is `change(loss, k)`, k = 1, 2, ..."""

    class Changed(Diffusion):
        calls = 0

        def loss(self, part, images, randomness):
            self.calls += 1
            return change(super().loss(part, images, randomness), self.calls)

    class ChangedConfig(DiffusionConfig):
        def task(self):
            return Changed(self)

    return ChangedConfig(MODEL.unet)


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched(tmp_path, images):
    model = with_losses(lambda loss, k: loss * (math.nan if k == 5 else 1))
    with pytest.raises(FloatingPointError, match="loss nan .* at step 5"):
        train(model, images, CONFIG, tmp_path, progress=False)
    assert_finite_weights_of_step(tmp_path, 4)


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_touched(tmp_path, images):
    def change(loss, k):
        if k == 4:
            loss.register_hook(lambda gradient: gradient * math.inf)
        return loss

    with pytest.raises(FloatingPointError, match="at step 4"):
        train(with_losses(change), images, CONFIG, tmp_path, progress=False)
    assert_finite_weights_of_step(tmp_path, 2)


# Going on.


@pytest.mark.long
def test_a_kill_loses_nothing_but_the_steps_since_the_checkpoint(tmp_path):
    """SIGKILL the command in its midst, resume it, and compare every bit with an uninterrupted one.

    Unlike those of test_survival.py it draws pictures and writes for TensorBoard.
    """
    command = [
        sys.executable, "-m", "ddpm", "train", "--data", "fashion-mnist-embedded", "--steps", "60", "--batch-size", "4",
        "--base-channels", "8", "--checkpoint-every", "20", "--out",
    ]  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, str(whole)], check=True, capture_output=True)
    process = subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 240
    while not list(killed.glob("checkpoints/*.json")) and process.poll() is None and time.time() < deadline:
        time.sleep(0.002)
    process.kill()
    assert process.wait() != 0, "the run ended before it could be killed"
    assert len((killed / "log.jsonl").read_text().splitlines()) < 60
    resumed = subprocess.run([*command, str(killed)], check=True, capture_output=True, text=True)
    assert "resumed from step" in resumed.stdout + resumed.stderr
    for name in ("model.safetensors", "log.jsonl", "config.json", "checkpoints/step-00000060.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_finished_run_is_left_alone_and_another_command_is_refused(tmp_path, images):
    train(MODEL, images, CONFIG, tmp_path, progress=False)
    before = contents(tmp_path)
    train(MODEL, images, CONFIG, tmp_path, progress=False)
    assert contents(tmp_path) == before
    with pytest.raises(ValueError, match="learning_rate is 0.001 there and 0.002 here"):
        train(MODEL, images, replace(CONFIG, learning_rate=0.002), tmp_path, progress=False)
    assert contents(tmp_path) == before


def test_a_run_goes_on_with_a_batch_in_other_pieces(tmp_path, images):
    """As a machine with less memory needs it; the record says how it goes on."""
    plain = replace(CONFIG, precision="float32", optimiser="sgd", learning_rate=0.01)
    train(MODEL, images, plain, tmp_path / "whole", progress=False)
    stop_at_3 = {"on_step": lambda line: line["step"] == 3 and os.kill(os.getpid(), signal.SIGTERM)}
    with pytest.raises(Stopped):
        train(MODEL, images, plain, tmp_path / "pieces", progress=False, **stop_at_3)
    train(MODEL, images, replace(plain, micro_batch_size=1), tmp_path / "pieces", progress=False)
    configs = [json.loads((tmp_path / run / "config.json").read_text()) for run in ("whole", "pieces")]
    assert configs[0].pop("sha256") != configs[1].pop("sha256")  # sums in another order
    assert configs[1]["training"].pop("micro_batch_size") == 1
    assert configs[0]["training"].pop("micro_batch_size") is None
    assert configs[0] == configs[1]
    losses = [[line["loss_unet"] for line in log_of(tmp_path / run)] for run in ("whole", "pieces")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_run_of_a_constant_rate_becomes_one_that_was_longer_from_the_start(tmp_path, images):
    constant = replace(CONFIG, decay="constant")
    train(MODEL, images, constant, tmp_path / "whole", progress=False)
    for steps in (3, constant.steps):
        train(MODEL, images, replace(constant, steps=steps), tmp_path / "longer", progress=False)
    for name in ("model.safetensors", "config.json", "log.jsonl"):
        assert (tmp_path / "longer" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_vae_whose_sigma_is_of_the_batch_is_not_trained_in_pieces(tmp_path, images):
    in_pieces = replace(CONFIG, micro_batch_size=2)
    model = AutoencoderConfig(base_channels=8, variational=True)
    with pytest.raises(ValueError, match="micro_batch_size is 2; a VAE with loss mse needs its batch whole"):
        train(model, images, in_pieces, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    train(replace(model, loss="logistic"), images, replace(in_pieces, steps=1), tmp_path / "run", progress=False)


def test_muon_resumes_to_the_same_bits(tmp_path, images, capsys):
    config = replace(CONFIG, optimiser="muon")
    train(MODEL, images, config, tmp_path / "whole", progress=False)

    def interrupt(line):
        if line["step"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(MODEL, images, config, tmp_path / "cut", progress=False, on_step=interrupt)
    capsys.readouterr()
    train(MODEL, images, config, tmp_path / "cut")
    bar = capsys.readouterr().err
    assert " 4/6 " in bar
    assert "0/6 " not in bar
    assert " 6/6 " in bar
    for name in ("model.safetensors", "log.jsonl", "checkpoints/step-00000006.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_muon_moves_matrices_by_orthogonal_steps(tmp_path, images):
    train(MODEL, images, replace(CONFIG, optimiser="muon"), tmp_path, progress=False)
    before, after = (load_tensors(tmp_path / "checkpoints" / f"step-0000000{step}.safetensors") for step in (4, 6))
    for key in ("weights.unet.down.0.blocks.0.conv2.weight", "weights.unet.up.2.blocks.0.conv1.weight"):
        values = torch.linalg.svdvals((after[key] - before[key]).flatten(1))
        assert values.min() > 0.5 * values.max()  # AdamW's steps have 0.15 and 0.03 there


def test_a_finished_run_whose_model_was_lost_is_mended(tmp_path, images):
    train(MODEL, images, CONFIG, tmp_path, progress=False)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:100])
    train(MODEL, images, CONFIG, tmp_path, progress=False)
    assert (tmp_path / "model.safetensors").read_bytes() == whole


def test_a_folder_where_nothing_can_be_written_is_refused_at_once(tmp_path, images):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        with pytest.raises(ValueError, match=f"^out is '{place}', where nothing can be written: "):
            train(MODEL, images, CONFIG, place, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_training_that_is_refused_has_no_bar(tmp_path, images, monkeypatch, capsys):
    monkeypatch.setattr(run, "PATIENCE", 0.1)
    with FileLock(tmp_path / ".lock"), pytest.raises(ValueError, match="is being trained in by another process"):
        train(MODEL, images, CONFIG, tmp_path)
    assert capsys.readouterr().err == ""


def test_a_damaged_log_is_refused_before_anything_is_written(tmp_path, images, capsys):
    train(MODEL, images, CONFIG, tmp_path, progress=False, trackers=["tensorboard"])
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"loss": 5}\n')
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"log.jsonl is damaged: line 2 has no step$"):
        train(MODEL, images, CONFIG, tmp_path, trackers=["tensorboard"])
    assert capsys.readouterr().err == ""
    assert contents(tmp_path) == before


def test_tensorboard_needs_a_path_of_text(tmp_path, images):
    message = r"out is '.*run\\udcff'; tensorboard needs a path that is text in UTF-8, and --track none .* without it$"
    with pytest.raises(ValueError, match=message):
        train(MODEL, images, CONFIG, tmp_path / "run\udcff", progress=False, trackers=["tensorboard"])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_in_one_line_though_tensorboard_writes_in_a_thread(tmp_path, images, monkeypatch):
    """Files may grow as large as the log's first lines are; afterwards the same call goes on."""
    said = []
    monkeypatch.setattr(threading, "excepthook", said.append)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit, what in ((10, "tensorboard's log"), (200, "tensorboard's log of step 1")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(OSError, match=rf"^{what} could not be written \(.*\); there is no checkpoint yet$"):
                train(MODEL, images, CONFIG, tmp_path, progress=False, trackers=["tensorboard"])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert said == []
    train(MODEL, images, CONFIG, tmp_path, progress=False, trackers=["tensorboard"])
    assert [line["step"] for line in log_of(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_a_trained_model_without_checkpoints_is_not_overwritten(tmp_path, images):
    train(MODEL, images, CONFIG, tmp_path, progress=False)
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(ValueError, match="holds a trained model"):
        train(MODEL, images, CONFIG, tmp_path, progress=False)


def test_training_can_start_from_given_weights_and_knows_which(tmp_path, images):
    train(MODEL, images, CONFIG, tmp_path / "first", progress=False)
    init = tmp_path / "first" / "model.safetensors"
    tiny = replace(CONFIG, steps=1, learning_rate=1e-12, checkpoint_every=1)
    train(MODEL, images, tiny, tmp_path / "second", init=init, progress=False)
    first, second = load_tensors(init), load_tensors(tmp_path / "second" / "model.safetensors")
    assert all(torch.allclose(second[name], value, atol=1e-6) for name, value in first.items())
    with pytest.raises(ValueError, match="holds another run"):
        train(MODEL, images, tiny, tmp_path / "second", progress=False)


def test_a_model_with_classes_may_start_from_one_without(tmp_path, images):
    train(MODEL, images, CONFIG, tmp_path / "first", progress=False)
    init = tmp_path / "first" / "model.safetensors"
    tiny = replace(CONFIG, steps=1, learning_rate=1e-12, checkpoint_every=1)
    train(CONDITIONAL, images, tiny, tmp_path / "second", init=init, progress=False)
    first, second = load_tensors(init), load_tensors(tmp_path / "second" / "model.safetensors")
    assert all(torch.allclose(second[name], value, atol=1e-6) for name, value in first.items())
    table = second["unet.labels.weight"]
    assert table[:-1].std().item() == pytest.approx(1, rel=0.2)
    assert table[-1].abs().max() < 1e-6  # untold, it begins as the model without classes
    again = tmp_path / "second" / "model.safetensors"
    train(CONDITIONAL, images, tiny, tmp_path / "from conditional", init=again, progress=False)
    third = load_tensors(tmp_path / "from conditional" / "model.safetensors")
    assert torch.allclose(third["unet.labels.weight"], second["unet.labels.weight"], atol=1e-6)
    with pytest.raises(ValueError, match="does not fit the model, which has no unet.labels.weight"):
        train(MODEL, images, tiny, tmp_path / "third", init=tmp_path / "second" / "model.safetensors", progress=False)


def test_weights_to_start_from_that_are_not_finite_are_refused_before_a_run_begins(tmp_path, images):
    train(MODEL, images, CONFIG, tmp_path / "first", progress=False)
    init = tmp_path / "first" / "model.safetensors"
    weights = load_tensors(init)
    weights[next(iter(weights))].view(-1)[0] = math.nan
    save_tensors(init, weights)
    with pytest.raises(ValueError, match=f"{init} is damaged: .* holds numbers that are not finite"):
        train(MODEL, images, CONFIG, tmp_path / "second", init=init, progress=False)
    assert not (tmp_path / "second" / "config.json").exists()


def test_a_run_older_than_a_setting_goes_on_with_its_default(tmp_path, images):
    train(MODEL, images, CONFIG, tmp_path, progress=False)
    for path in [*tmp_path.glob("checkpoints/*.json"), tmp_path / "config.json"]:
        record = json.loads(path.read_text())
        model = record.get("config", record)["model"]
        del model["weighting"], model["unet"]["skips"]
        model["unet"]["time"] = model["unet"].pop("time_conditioning")  # its name in version 0.1.0
        del record.get("config", record)["kind"], record.get("config", record)["training"]["momentum"]
        if record.pop("seal", None):
            record = checkpoint.sealed(record)
        path.write_text(json.dumps(record))
    train(MODEL, images, CONFIG, tmp_path, progress=False)
    with pytest.raises(ValueError, match="weighting is simple there and bound here"):
        train(replace(MODEL, weighting="bound"), images, CONFIG, tmp_path, progress=False)


# Its threads.


@pytest.fixture
def threads_of_its_own():
    """Torch's number and the process's choice, back after the test."""
    before = torch.get_num_threads(), threads._choice
    yield
    torch.set_num_threads(before[0])
    threads._choice = before[1]


def recorded_threads(run):
    checkpoints = [json.loads(path.read_text())["config"] for path in run.glob("checkpoints/*.json")]
    return {record["training"]["threads"] for record in [*checkpoints, json.loads((run / "config.json").read_text())]}


@dataclass
class TinyConfig:
    """Of a layer so small that it is computed by one thread, whatever their number is."""

    kind = "tiny"

    def check_images(self, shape):
        pass

    def task(self):
        parts = {"net": torch.nn.Linear(1, 1)}
        return SimpleNamespace(
            parts=parts,
            classes=None,
            loss=lambda part, images, _: parts[part](images.mean((1, 2, 3))[:, None]).square().mean(),
        )


def train_watched(config, images, out, stop_after=None, **options):
    """Train, and return the numbers of threads that its steps ran with."""
    seen = set()

    def watch(line):
        seen.add(torch.get_num_threads())
        if line["step"] == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) if stop_after else nullcontext():
        train(TinyConfig(), images, config, out, progress=False, on_step=watch, **options)
    return seen


def test_a_run_computes_with_the_threads_it_is_told_and_records_them(tmp_path, images, threads_of_its_own):
    choose_threads(1)
    assert train_watched(replace(CONFIG, threads=2), images, tmp_path) == {2}
    assert recorded_threads(tmp_path) == {2}
    assert torch.get_num_threads() == choose_threads() == 1


def test_a_run_that_is_told_no_number_takes_the_process_choice_and_records_it(tmp_path, images, threads_of_its_own):
    choose_threads(3)
    assert train_watched(CONFIG, images, tmp_path) == {3}
    assert recorded_threads(tmp_path) == {3}


def test_a_run_goes_on_with_the_threads_it_began_with(tmp_path, images, threads_of_its_own):
    """Whatever is free now: to the same bits."""
    choose_threads(2)
    train_watched(CONFIG, images, tmp_path / "whole")
    train_watched(CONFIG, images, tmp_path / "cut", stop_after=4)
    choose_threads(1)
    assert train_watched(CONFIG, images, tmp_path / "cut") == {2}
    for name in ("model.safetensors", "config.json", "log.jsonl", "checkpoints/step-00000006.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_run_refuses_another_number_of_threads(tmp_path, images, threads_of_its_own):
    config = replace(CONFIG, threads=2)
    train_watched(config, images, tmp_path, stop_after=4)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"holds another run \(threads is 2 there and 1 here\)"):
        train(TinyConfig(), images, replace(config, threads=1), tmp_path, progress=False)
    assert contents(tmp_path) == before
    assert train_watched(config, images, tmp_path) == {2}


def forget_threads(run):
    """Make a run one that was recorded before there was such a setting."""
    for path in [*run.glob("checkpoints/*.json"), run / "config.json"]:
        record = json.loads(path.read_text())
        del record.get("config", record)["training"]["threads"]
        path.write_text(json.dumps(checkpoint.sealed(record) if record.pop("seal", None) else record))


@pytest.mark.parametrize(("asked", "expected"), [(None, 1), (2, 2)])
def test_a_run_older_than_the_setting_goes_on_and_records_it_from_there(
    asked, expected, tmp_path, images, threads_of_its_own
):
    choose_threads(1)
    train_watched(CONFIG, images, tmp_path, stop_after=4)
    forget_threads(tmp_path)
    assert train_watched(replace(CONFIG, threads=asked), images, tmp_path) == {expected}
    assert json.loads((tmp_path / "config.json").read_text())["training"]["threads"] == expected


def test_a_finished_run_older_than_the_setting_says_no_number(tmp_path, images, threads_of_its_own):
    """None of its steps was made with the number of now."""
    train_watched(CONFIG, images, tmp_path)
    forget_threads(tmp_path)
    train_watched(CONFIG, images, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["training"]["threads"] is None


def test_the_processes_of_a_launcher_compute_with_the_same_number(threads_of_its_own):
    choose_threads(3)
    here = SimpleNamespace(device="cpu", gather=lambda own: torch.cat([own, torch.tensor([2])]))  # of another process
    run = SimpleNamespace(record={"training": {"threads": None}})
    assert threads_of(run, True, here) == run.record["training"]["threads"] == 2


@pytest.mark.parametrize(("number", "words"), [(1, "1 thread"), (2, "2 threads")])
def test_the_first_line_says_where_and_how_a_training_computes(
    number, words, tmp_path, images, capsys, threads_of_its_own
):
    config = replace(CONFIG, steps=1, precision="float32", threads=number)
    train(TinyConfig(), images, config, tmp_path)
    device = make_accelerator(tmp_path, ()).device.type
    assert capsys.readouterr().out.splitlines()[0] == f"training on {device} in float32, one process, {words}"


# What is kept, and watched.


def test_the_newest_and_the_best_checkpoints_are_kept_and_load_as_models(tmp_path, images):
    config = replace(
        CONFIG, steps=30, batch_size=2, checkpoint_every=3, keep=3, decay="constant", momentum=0.95, optimiser="muon",
        ema=(0.99, 0.9),
    )  # fmt: skip
    train(MODEL, images, config, tmp_path, progress=False)
    losses = [line["loss_unet"] for line in log_of(tmp_path)]
    means = {step: sum(losses[step - 3 : step]) / 3 for step in range(3, 31, 3)}
    best = min(means, key=means.get)
    kept = {int(path.stem[5:]) for path in tmp_path.glob("checkpoints/*.json")}
    assert kept == {24, 27, 30, best}
    record = json.loads((tmp_path / "config.json").read_text())
    assert record["best"] == f"step-{best:08d}"
    found = checkpoint.load_checkpoint(tmp_path / "checkpoints" / f"{record['best']}.json")
    model = ddpm.load(tmp_path / "checkpoints" / record["best"], device="cpu")
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, found.tensors[f"average-0.99.unet.{name}"])


def test_the_best_of_two_players_is_not_told_by_their_losses(tmp_path, images):
    model, config = recipe("gan", base_channels=8, latent_dim=4, steps=4, batch_size=2, checkpoint_every=1)
    train(model, images, config, tmp_path, progress=False)
    assert {path.stem for path in tmp_path.glob("checkpoints/*.json")} == {"step-00000003", "step-00000004"}
    assert "best" not in json.loads((tmp_path / "config.json").read_text())


def test_every_average_is_a_model_and_the_longer_one_lags(tmp_path, images):
    """An average of decay d weighs step k of n by (1 - d) d^(n - k), once the warm-up is over: here in three steps."""
    config = replace(CONFIG, steps=8, checkpoint_every=1, keep=8, ema=(0.3, 0.05), optimiser="sgd")
    train(MODEL, images, config, tmp_path, progress=False)
    steps = [load_tensors(tmp_path / "checkpoints" / f"step-{k:08d}.safetensors") for k in range(1, 9)]
    name, lags = "unet.conv_in.weight", []
    for decay, folder in ((0.3, tmp_path), (0.05, tmp_path / "ema-0.05")):
        expected = steps[0][f"average-{decay:g}.{name}"]
        for k, step in enumerate(steps[1:], start=1):
            d = min(decay, (1 + k) / (10 + k))
            expected = d * expected + (1 - d) * step[f"weights.{name}"]
        average = ddpm.load(folder, device="cpu").network.state_dict()[name.removeprefix("unet.")]
        assert torch.allclose(average, expected, atol=1e-6)
        lags.append((average - steps[-1][f"weights.{name}"]).norm().item())
    assert lags[0] > 2 * lags[1] > 0


def test_what_happens_is_watched_and_a_resumed_run_overwrites_what_it_repeats(tmp_path, images):
    """TensorBoard's own reader finds every step once, and the pictures."""
    seen = []

    def picture(folder):
        seen.append(json.loads((folder / "config.json").read_text())["step"])
        return Image.new("L", (7, 5), 40 * len(seen))

    watching = {"trackers": ["tensorboard"], "picture": picture, "progress": False}
    config = replace(CONFIG, checkpoint_every=3)
    train(MODEL, images, config, tmp_path, **watching)
    for path in tmp_path.glob("checkpoints/step-00000006*"):
        path.unlink()  # as if it had been killed after step 5
    train(MODEL, images, config, tmp_path, **watching)
    assert seen == [3, 6, 6]
    assert Image.open(tmp_path / "samples" / "step-00000006.png").getpixel((0, 0)) == 120
    events = EventAccumulator(str(tmp_path / "tensorboard" / "ddpm")).Reload()
    for name in ("loss_unet", "gradient_unet", "rate"):
        shown = {event.step: event.value for event in events.Scalars(name)}
        assert shown == pytest.approx({line["step"]: line[name] for line in log_of(tmp_path)})
        assert len(events.Scalars(name)) == 6
    assert {event.step for event in events.Images("samples")} == {3, 6}


def test_a_tracker_that_is_unknown_or_not_installed_is_refused_before_anything_is_written(
    tmp_path, images, monkeypatch
):
    with pytest.raises(ValueError, match="tracker is 'mlflow'; legal are tensorboard, wandb"):
        train(MODEL, images, CONFIG, tmp_path / "run", trackers=["mlflow"])
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="tracker is 'wandb', which is not installed: pip install wandb"):
        train(MODEL, images, CONFIG, tmp_path / "run", trackers=["wandb"])
    assert not (tmp_path / "run").exists()


def test_a_run_may_be_in_the_home(tmp_path, images, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    train(MODEL, images, replace(CONFIG, steps=1), "~/run", progress=False)
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert not (tmp_path / "~").exists()


def test_a_long_run_begins_at_once(tmp_path, images):
    """Neither the log's last lines nor the labels of all steps are made room for beforehand."""

    def stop(line):
        raise KeyboardInterrupt

    endless = replace(CONFIG, steps=10**12, checkpoint_every=10**30)
    with pytest.raises(KeyboardInterrupt):
        train(MODEL, images, endless, tmp_path / "run", progress=False, on_step=stop)


def test_settings_in_the_wrong_place_are_named(tmp_path, images):
    with pytest.raises(TypeError, match="^model is TrainingConfig, which has no kind; it must be a DiffusionConfig"):
        train(CONFIG, images, MODEL, tmp_path / "run")
    with pytest.raises(TypeError, match="^model is UNetConfig, which has no kind; "):
        train(MODEL.unet, images, CONFIG, tmp_path / "run")
    with pytest.raises(TypeError, match=r"^config is dict; it must be a ddpm\.training\.config\.TrainingConfig$"):
        train(MODEL, images, {"steps": 3}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", [torch.rand(8, 1, 32, 32), np.zeros((8, 1, 32, 32), np.uint8), "garments", CONFIG])
def test_what_is_no_data_set_is_named(tmp_path, given):
    message = f"^dataset is {type(given).__name__}; it must be a ddpm.data.Dataset, or what .*load_folder returns$"
    with pytest.raises(TypeError, match=message):
        train(MODEL, given, CONFIG, tmp_path / "run")
    assert not (tmp_path / "run").exists()
