"""The time that sampling and training spend around the network."""

import math
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

import ddpm
from ddpm.data import load
from ddpm.diffusion import DiffusionConfig
from ddpm.fast import Recorded
from ddpm.training import train
from ddpm.training.config import TrainingConfig
from ddpm.unet import UNet, UNetConfig
from race.networks import ON_GPU, wait


class Stopwatch:
    """Sums the time spent inside watched functions, and keeps the times of the first entry and the last exit."""

    def __init__(self) -> None:
        self.inside, self.first, self.last = 0.0, math.inf, 0.0

    def on(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that its time is counted."""

        def watched(*inputs: Any, **named: Any) -> Any:
            start = time.perf_counter()
            output = function(*inputs, **named)
            wait()
            self.first, self.last = min(self.first, start), time.perf_counter()
            self.inside += self.last - start
            return output

        return watched

    @property
    def outside(self) -> float:
        """Share of the time between the first entry and the last exit that was spent in no watched function."""
        return round(1 - self.inside / (self.last - self.first), 4)


def loop_share(steps: int = 40) -> dict[str, float]:
    """Share of the wall time outside network, backward pass, clipping and optimiser, in sampling and in training."""
    denoise, sampling, training = ddpm.load("fashion-mnist"), Stopwatch(), Stopwatch()
    # what a walk calls: on a GPU the network's kernels are recorded, and in a recording nothing may wait
    network, call = (Recorded, "__call__") if ON_GPU else (UNet, "forward")
    with patch.object(network, call, sampling.on(getattr(network, call))):
        ddpm.sample(denoise, 64, "ddim", chunk=64, progress=False)
    config, dataset = DiffusionConfig(UNetConfig(blocks_per_level=1)), load("fashion-mnist-embedded", quiet=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(UNet, "forward", training.on(UNet.forward)),
        patch.object(Tensor, "backward", training.on(Tensor.backward)),
        patch.object(nn.utils, "clip_grad_norm_", training.on(nn.utils.clip_grad_norm_)),
        patch.object(torch.optim.AdamW, "step", training.on(torch.optim.AdamW.step)),
    ):
        train(config, dataset, TrainingConfig(steps=steps), folder, progress=False)
    return {"sampling": sampling.outside, "training": training.outside}
