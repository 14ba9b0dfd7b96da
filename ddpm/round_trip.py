"""Noise an image and denoise it again: into the forward process in one shot, and back along any sampler."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ddpm.denoiser import Denoiser, Prediction
from ddpm.noise import Noise
from ddpm.samplers import Step, ancestral, ddim, invert
from ddpm.schedule import check_grid


def round_trip(
    denoise: Denoiser,
    x0: Tensor,
    timesteps: Sequence[float],
    *,
    sampler: Callable[..., Iterator[Step]] = ancestral,
    noise: Noise = torch.randn_like,
    **options: Any,
) -> Iterator[Step]:
    """Noise clean images to depth `timesteps[0]`, then walk the grid back to 0 (Meng et al. 2022, SDEdit).

    Yields the noised state first, with the true x0 and eps as its prediction, then every state of the sampler, which
    gets `noise` and `options`. `schedule.timesteps(n, start=depth)` makes grids that begin at a depth.
    """
    check_grid(timesteps, denoise.schedule)
    eps = noise(x0)
    x = denoise.schedule.add_noise(x0, timesteps[0], eps)
    yield Step(x, timesteps[0], Prediction(x0, eps))
    yield from sampler(denoise, x, timesteps, noise=noise, **options)


def inverted_round_trip(denoise: Denoiser, x0: Tensor, timesteps: Sequence[float]) -> Iterator[Step]:
    """Walk clean images up to `timesteps[0]` by `invert` and back by deterministic `ddim`, yielding every state."""
    step = None
    for step in invert(denoise, x0, timesteps):
        yield step
    if step is not None:
        yield from ddim(denoise, step.x, timesteps)
