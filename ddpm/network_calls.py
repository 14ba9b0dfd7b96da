"""What a walk costs: how many network calls a sampler makes on a grid."""

from typing import Any

import torch
from torch import Tensor

from ddpm.denoiser import Denoiser, Guided, Wrapper, schedule_of
from ddpm.grids import Grid
from ddpm.samplers import final
from ddpm.schedule import NoiseSchedule
from ddpm.targets import Prediction
from ddpm.walks import Sampler, sampler_named

__all__ = ["network_calls"]


def network_calls(denoise: Denoiser, sampler: str | Sampler, timesteps: Grid, **options: Any) -> int:
    """How many network calls each sample of a walk takes, those of guides included.

    They are counted: the sampler walks the grid once with a single number, and no network is asked.

    Args:
        denoise: of `Guided` every network counts, and in an interval only where it is asked.
        sampler: a name in `SAMPLERS`, or a function with the arguments of those in `ddpm.samplers`.
        timesteps: the grid of times.
        options: the sampler's own.
    """
    counting = _Counting(schedule_of(denoise))
    state = torch.zeros(1, 1, dtype=torch.float32, device="cpu")
    walk = sampler_named(sampler)(_counted(denoise, counting), state, timesteps, randn_like=torch.zeros_like, **options)
    final(walk)
    return counting.calls


class _Counting(Denoiser):
    """Stands in a network's place, and counts its calls."""

    def __init__(self, schedule: NoiseSchedule) -> None:
        self.schedule = schedule
        self.calls = 0

    def __call__(self, x: Tensor, t: float | Tensor) -> Prediction:
        self.calls += 1
        return Prediction(torch.zeros_like(x), torch.zeros_like(x))


def _counted(denoise: Denoiser, counting: _Counting) -> Denoiser:
    """A denoiser with another in the place of each of its networks."""
    if isinstance(denoise, Guided):
        better, guide = _counted(denoise.denoise, counting), _counted(denoise.guide, counting)
        return Guided(better, guide, denoise.weight, denoise.interval)
    return _counted(denoise.denoise, counting) if isinstance(denoise, Wrapper) else counting
