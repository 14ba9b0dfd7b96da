import inspect
import json
import math
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import pytest
import torch

from ddpm import data, langevin, samplers, sampling
from ddpm.diffusion import Diffusion, DiffusionConfig, time_probabilities
from ddpm.files import load_tensors
from ddpm.noise import StepRandomness
from ddpm.schedule import linear
from ddpm.training import checkpoint, train
from ddpm.training.averages import average_decay
from ddpm.training.batches import image_rows
from ddpm.training.config import TrainingConfig
from ddpm.unet import UNetConfig

MODEL = DiffusionConfig(UNetConfig(base_channels=8, head_channels=8, blocks_per_level=1))
CONFIG = TrainingConfig(steps=6, batch_size=4, warmup=2, checkpoint_every=2)


@pytest.fixture(scope="module")
def images():
    full = data.load("fashion-mnist-embedded", "train", quiet=True)
    return replace(full, images=full.images[:50], labels=full.labels[:50])


def test_a_kill_loses_nothing_but_the_steps_since_the_checkpoint(tmp_path):
    """SIGKILL a real training process in its midst, resume it, and compare every bit with an uninterrupted one."""
    command = [
        sys.executable, "-m", "ddpm", "train", "--data", "fashion-mnist-embedded", "--steps", "60", "--batch-size", "4",
        "--base-channels", "32", "--checkpoint-every", "5", "--out",
    ]  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}  # a GPU's kernels need not repeat their bits
    subprocess.run([*command, str(whole)], check=True, capture_output=True, env=environment)
    process = subprocess.Popen(
        [*command, str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    deadline = time.time() + 240
    while not list(killed.glob("checkpoints/*.json")) and process.poll() is None and time.time() < deadline:
        time.sleep(0.002)
    process.kill()
    assert process.wait() != 0, "the run ended before it could be killed"
    assert len((killed / "log.jsonl").read_text().splitlines()) < 60
    resumed = subprocess.run([*command, str(killed)], check=True, capture_output=True, text=True, env=environment)
    assert "resumed from step" in resumed.stdout + resumed.stderr
    for name in ("model.safetensors", "log.jsonl", "config.json", "checkpoints/step-00000060.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_finished_run_is_left_alone_and_another_command_is_refused(tmp_path, images):
    train(MODEL, images, CONFIG, tmp_path, progress=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    train(MODEL, images, CONFIG, tmp_path, progress=False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    with pytest.raises(ValueError, match="learning_rate is 0.001 there and 0.002 here"):
        train(MODEL, images, replace(CONFIG, learning_rate=0.002), tmp_path, progress=False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_loss_falls_and_every_step_is_logged(tmp_path, images):
    config = replace(CONFIG, steps=60, batch_size=16, learning_rate=4e-3, checkpoint_every=60)
    train(MODEL, images, config, tmp_path, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 61))
    losses = [line["loss_unet"] for line in lines]
    assert losses[0] == pytest.approx(1, abs=0.1)  # a new network answers zero, and eps has variance 1
    assert sum(losses[-10:]) / 10 < 0.8


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


def test_muon_moves_matrices_by_orthogonal_steps_and_resumes_to_the_same_bits(tmp_path, images):
    config = replace(CONFIG, optimiser="muon")
    train(MODEL, images, config, tmp_path / "whole", progress=False)

    def interrupt(line):
        if line["step"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(MODEL, images, config, tmp_path / "cut", progress=False, on_step=interrupt)
    train(MODEL, images, config, tmp_path / "cut", progress=False)
    for name in ("model.safetensors", "log.jsonl", "checkpoints/step-00000006.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name

    before, after = (
        load_tensors(tmp_path / "whole" / "checkpoints" / f"step-0000000{step}.safetensors") for step in (4, 6)
    )
    moved = {
        key: after[f"weights.unet.{key}"] - before[f"weights.unet.{key}"]
        for key in ("down.0.blocks.0.conv2.weight", "up.2.blocks.0.conv1.weight")
    }
    for change in moved.values():
        values = torch.linalg.svdvals(change.flatten(1))
        assert values.min() > 0.5 * values.max()  # AdamW's steps have 0.15 and 0.03 there


def test_times_are_drawn_as_configured():
    """Against the densities themselves: uniform, and N(-0.9, 1.2^2) over log sigma."""
    schedule, draws = linear(), StepRandomness(0, 0, 20_000)
    uniform = time_probabilities(DiffusionConfig())
    assert torch.allclose(uniform, torch.full((1000,), 1e-3, dtype=torch.float64), rtol=1e-12)
    task = replace(MODEL, times="lognormal").task()
    t = 1 + torch.searchsorted(task.below, draws.stratified(), right=True)
    assert t.min() >= 1
    assert t.max() <= 1000
    log_sigma = torch.tensor([schedule.sigma(k) for k in t.tolist()]).log()
    assert log_sigma.median() == pytest.approx(-0.9, abs=0.01)
    assert torch.quantile(log_sigma, 0.8413) == pytest.approx(0.3, abs=0.02)
    assert torch.quantile(log_sigma, 0.1587) == pytest.approx(-2.1, abs=0.04)
    probabilities = time_probabilities(replace(MODEL, times="lognormal"))
    assert probabilities.min() > 0
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    assert probabilities[900:].sum() < 2e-5  # where sampling begins, a tenth of all times
    mixed = time_probabilities(replace(MODEL, times="lognormal", uniform_share=0.1))
    assert torch.allclose(mixed, 0.9 * probabilities + 0.1 * uniform, rtol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"times": "normal"}, "times is 'normal'; legal are uniform, lognormal"),
        ({"times": "lognormal", "weighting": "bound"}, "the bound is a mean over uniform times"),
        ({"log_sigma_std": 0}, "log_sigma_std is 0"),
        ({"uniform_share": 1.5}, "uniform_share is 1.5"),
    ],
)
def test_illegal_times_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        replace(MODEL, **settings)


def test_a_finished_run_whose_model_was_lost_is_mended(tmp_path, images):
    train(MODEL, images, CONFIG, tmp_path, progress=False)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:100])
    train(MODEL, images, CONFIG, tmp_path, progress=False)
    assert (tmp_path / "model.safetensors").read_bytes() == whole


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


def test_training_runs_no_sampler(tmp_path, images, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("training called a sampler")

    for module in (samplers, langevin, sampling):
        for name, value in vars(module).copy().items():
            if inspect.isfunction(value):
                monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(sampling, "SAMPLERS", dict.fromkeys(sampling.SAMPLERS, refuse))
    with pytest.raises(AssertionError, match="called a sampler"):
        samplers.ddim(None, None, None)
    train(MODEL, images, replace(CONFIG, steps=2), tmp_path)
    assert (tmp_path / "model.safetensors").exists()


def test_parts_do_not_leak_gradients_into_each_other(tmp_path, images):
    """Two parts, the second's loss running through the first, against the same steps by hand."""

    class Pair:
        def __init__(self):
            torch.manual_seed(0)
            self.parts = {"a": torch.nn.Linear(1, 1), "b": torch.nn.Linear(1, 1)}

        def check_images(self, shape):
            pass

        def loss(self, part, images, randomness):
            x = images.mean((1, 2, 3))[:, None]
            if part == "a":
                return self.parts["a"](x).square().mean()
            return (self.parts["a"](self.parts["b"](x)) - 1).square().mean()

    @dataclass
    class PairConfig:
        kind = "pair"

        def task(self):
            return Pair()

    config = replace(CONFIG, steps=3, clip=1e9)
    train(PairConfig(), images, config, tmp_path, progress=False)
    by_hand = Pair()
    optimisers = {k: torch.optim.AdamW(p.parameters(), weight_decay=0.01) for k, p in by_hand.parts.items()}
    for step in range(3):
        rows = image_rows(0, step, 4, len(images))
        for name, part in by_hand.parts.items():
            loss = by_hand.loss(name, data.normalise(images.images[rows]), None)
            parameters = list(part.parameters())
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = gradient
            optimisers[name].param_groups[0]["lr"] = config.rate(step)
            optimisers[name].step()
    last = load_tensors(tmp_path / "checkpoints" / "step-00000003.safetensors")
    for name, part in by_hand.parts.items():
        assert torch.allclose(last[f"weights.{name}.weight"], part.weight, atol=1e-3)


def test_draws_do_not_depend_on_the_number_of_processes():
    whole = StepRandomness(3, 7, 8)
    t, eps = whole.stratified(), whole.normal(2, 2)
    parts = [StepRandomness(3, 7, 8, first, 4) for first in (0, 4)]
    assert torch.equal(torch.cat([part.stratified() for part in parts]), t)
    assert torch.equal(torch.cat([part.normal(2, 2) for part in parts]), eps)
    assert not torch.equal(StepRandomness(3, 8, 8).stratified(), t)
    assert ((t * 8).long() == torch.arange(8)).all()


def test_times_are_integers_from_1_to_T():
    seen = []

    class Network(torch.nn.Module):
        def forward(self, x, t):
            seen.append(t)
            return x

    task = Diffusion(MODEL)
    task.parts["unet"] = Network()
    for step in range(200):
        task.loss("unet", torch.zeros(64, 1, 4, 4), StepRandomness(0, step, 64))
    times = 1 + torch.cat(seen)
    assert (times.min(), times.max()) == (1, 1000)
    assert times.double().mean().item() == pytest.approx(500.5, abs=1)


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
def test_a_perfect_network_has_no_loss(target):
    images, schedule = torch.full((16, 1, 4, 4), 0.5), linear()
    task = Diffusion(replace(MODEL, target=target))

    class Perfect(torch.nn.Module):
        def forward(self, x, t):
            signal, noise = schedule.signal(t + 1), schedule.noise(t + 1)
            eps = (x - signal * images) / noise
            return {"eps": eps, "x0": images, "v": signal * eps - noise * images}[target]

    task.parts["unet"] = Perfect()
    loss = task.loss("unet", images, StepRandomness(0, 0, 16))
    assert loss < 1e-8


def test_every_image_is_seen_once_an_epoch():
    rows = torch.cat([image_rows(0, step, 8, 50) for step in range(25)])
    for epoch in rows.split(50):
        assert epoch.sort().values.tolist() == list(range(50))
    assert not torch.equal(rows[:50], rows[50:100])


def test_rate_warms_up_and_falls_to_zero():
    config = TrainingConfig(steps=1000, warmup=100, learning_rate=1.0)
    assert config.rate(0) == pytest.approx(0.01)
    assert config.rate(99) == config.rate(100) == 1
    assert config.rate(550) == pytest.approx(0.5)
    assert config.rate(999) < 1e-5
    falling, constant = replace(config, decay="linear"), replace(config, decay="constant")
    assert falling.rate(550) == pytest.approx(0.5)
    assert falling.rate(1000) == 0
    assert (constant.rate(0), constant.rate(999)) == (pytest.approx(0.01), 1)
    assert average_decay(0.999, 0) == pytest.approx(0.1)
    assert average_decay(0.999, 10**6) == 0.999


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0}, {"steps": "5"}, {"optimiser": 3}, {"decay": "step"}, {"keep": 0}, {"batch_size": -1},
        {"ema": 1.0}, {"ema": (0.9, 0.9)}, {"ema": ()}, {"clip": 0}, {"seed": -1}, {"precision": "half"},
    ],
)  # fmt: skip
def test_an_illegal_option_is_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        TrainingConfig(**options)


def test_images_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, images):
    small = replace(images, images=images.images[..., 2:-1, 2:-1])
    with pytest.raises(ValueError, match="28 or 32"):
        train(MODEL, small, CONFIG, tmp_path / "run")
    with pytest.raises(ValueError, match="channels is 3"):
        train(replace(MODEL, unet=replace(MODEL.unet, channels=3)), images, CONFIG, tmp_path / "run")
    assert not (tmp_path / "run").exists()
