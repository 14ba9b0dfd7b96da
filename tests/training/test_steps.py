"""What single steps of a training draw."""

from pathlib import Path

import torch

from ddpm.training.config import TrainingConfig
from ddpm.training.loop import make_accelerator, train_step
from ddpm.training.signals import StopSignals
from ddpm.training.state import TrainingState


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
