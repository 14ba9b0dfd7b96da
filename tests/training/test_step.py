"""What single steps of a training draw, average and say."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ddpm.autoencoder import AutoencoderConfig
from ddpm.training import train
from ddpm.training.config import TrainingConfig
from ddpm.training.launcher import make_accelerator
from ddpm.training.signals import StopSignals
from ddpm.training.state import TrainingState
from ddpm.training.step import over_processes, train_step


class Dropping:
    """A weight and dropout after it, and which of a hundred numbers the dropout let through in each step."""

    def __init__(self):
        self.parts = {"net": torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Dropout(0.5))}
        self.passed = []

    def loss(self, part, images, randomness):
        answer = self.parts[part](images.new_ones(100, 1))
        self.passed.append((answer != 0).tolist())
        return answer.square().mean()


def test_dropout_is_a_function_of_seed_and_step():
    accelerator, passed = make_accelerator(Path("unused"), ()), []
    for seed, step in ((0, 0), (0, 1), (1, 0), (0, 0)):
        task, config = Dropping(), TrainingConfig(batch_size=2, seed=seed)
        state = TrainingState(task.parts, config, accelerator)
        images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8, device=accelerator.device)
        train_step(task, state, images, step, config, accelerator, StopSignals())
        passed += task.passed
    first, next_step, other_seed, again = passed
    assert first == again
    assert first not in (next_step, other_seed)


def test_averages_forget_the_random_start_as_their_docstring_says():
    """After steps 0 and 1 they have decays of 1 / 10 and 2 / 11, and follow the weights by the rest."""
    accelerator = make_accelerator(Path("unused"), ())
    task, config = Dropping(), TrainingConfig(batch_size=2, learning_rate=0.1, warmup=0)
    state = TrainingState(task.parts, config, accelerator)
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8, device=accelerator.device)
    wanted = {name: value.clone() for name, value in state.weights.items()}
    for step in range(2):
        train_step(task, state, images, step, config, accelerator, StopSignals())
        decay = (1 + step) / (10 + step)
        wanted = {name: decay * value + (1 - decay) * state.weights[name] for name, value in wanted.items()}
    for name, value in state.averages.of[0.999].items():
        assert torch.allclose(value, wanted[name], atol=1e-7), name


def test_a_checkpoint_has_the_mean_loss_since_the_one_before(tmp_path, images):
    config = TrainingConfig(steps=6, batch_size=4, warmup=2, checkpoint_every=3, precision="float32")
    train(AutoencoderConfig(base_channels=4), images, config, tmp_path, progress=False)
    losses = [json.loads(line)["loss_autoencoder"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    for last in (3, 6):
        manifest = json.loads((tmp_path / "checkpoints" / f"step-{last:08d}.json").read_text())
        assert manifest["loss"] == pytest.approx(sum(losses[last - 3 : last]) / 3)


def test_one_process_of_four_that_is_told_to_stop_stops_all():
    four = SimpleNamespace(reduce=lambda here, how: torch.tensor([2.0, 3.0, here[2].item() / 4]))
    loss, norm = torch.tensor(1.0), torch.tensor(1.0)
    assert over_processes(loss, norm, True, four) == (2.0, 3.0, True)
    assert over_processes(loss, norm, False, four) == (2.0, 3.0, False)


def test_a_run_records_which_images_it_learnt_from(tmp_path, images):
    config = TrainingConfig(steps=1, batch_size=4, checkpoint_every=1, precision="float32")
    train(AutoencoderConfig(base_channels=4), images, config, tmp_path, progress=False)
    record = json.loads((tmp_path / "config.json").read_text())
    assert record["data"] == {"name": images.name, "images": len(images), "image_shape": [1, 32, 32]}
