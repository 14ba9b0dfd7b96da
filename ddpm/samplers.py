"""Samplers as pure generators: each walks a grid of times with a `Denoiser` and yields every state.

All share one signature. `timesteps` decreases strictly and ends in 0 (`NoiseSchedule.timesteps` makes such grids);
`noise(x)` returns standard normal like x. The state keeps the dtype and device of the x it was given.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm.denoiser import Denoiser, Prediction, prediction_of
from ddpm.noise import Noise, PerSample
from ddpm.schedule import Spacing, check_grid


class Step(NamedTuple):
    """A state x at time t, and the prediction with which it was reached."""

    x: Tensor
    t: float
    prediction: Prediction


def ancestral(
    denoise: Denoiser,
    x: Tensor,
    timesteps: Sequence[float],
    *,
    variance: Literal["small", "large"] = "small",
    noise: Noise = torch.randn_like,
) -> Iterator[Step]:
    """Ancestral sampling of Ho et al. (2020), algorithm 2, over any grid; the last move adds no noise.

    `variance` is the posterior's ("small") or the forward step's ("large"), section 3.2.
    """
    schedule = denoise.schedule
    check_grid(timesteps, schedule)
    if variance not in ("small", "large"):
        raise ValueError(f"variance is {variance!r}; legal are small, large")
    for t, s in pairwise(timesteps):
        prediction = denoise(x, t)
        kept = schedule.signal(t) / schedule.signal(s)  # sqrt(alpha) of the move
        beta = -math.expm1(schedule.log_alpha_bar(t) - schedule.log_alpha_bar(s))
        mean = schedule.signal(s) * beta * prediction.x0 + kept * schedule.noise(s) ** 2 * x
        x = mean / schedule.noise(t) ** 2  # eq. 7
        if s > 0:
            std = schedule.posterior_std(t, s) if variance == "small" else math.sqrt(beta)
            x = x + std * noise(x)
        yield Step(x, s, prediction)


def ddim(
    denoise: Denoiser, x: Tensor, timesteps: Sequence[float], *, eta: float = 0.0, noise: Noise = torch.randn_like
) -> Iterator[Step]:
    """DDIM of Song et al. (2021): deterministic at `eta` 0, ancestral sampling with the small variance at 1."""
    schedule = denoise.schedule
    check_grid(timesteps, schedule)
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}; it must be in [0, 1]")
    for t, s in pairwise(timesteps):
        prediction = denoise(x, t)
        std = eta * schedule.posterior_std(t, s)  # eq. 16
        direction = math.sqrt(schedule.noise(s) ** 2 - std**2) * prediction.eps
        x = schedule.signal(s) * prediction.x0 + direction  # eq. 12
        if std > 0:
            x = x + std * noise(x)
        yield Step(x, s, prediction)


def invert(denoise: Denoiser, x0: Tensor, timesteps: Sequence[float]) -> Iterator[Step]:
    """DDIM walked upward: from a clean x0 to the noise that `ddim` takes back to it, up to the size of the steps.

    Takes the same descending grid as `ddim`. Each move uses the noise seen at its lower end, at time 1 where that end
    is 0; nothing is clipped.
    """
    schedule = denoise.schedule
    check_grid(timesteps, schedule)
    x = x0
    for s, t in pairwise(reversed(timesteps)):
        eps = denoise(x, max(s, 1)).eps
        prediction = prediction_of("eps", eps, x, schedule.signal(s), schedule.noise(s))
        x = schedule.signal(t) * prediction.x0 + schedule.noise(t) * eps
        yield Step(x, t, prediction)


def final(steps: Iterator[Step]) -> Tensor:
    """Run a sampler to its end and return its last x."""
    x = None
    for step in steps:
        x = step.x
    if x is None:
        raise ValueError("the sampler has no steps left; make a new one")
    return x


SAMPLERS: dict[str, Callable[..., Iterator[Step]]] = {"ancestral": ancestral, "ddim": ddim}


def nearest_sampler(name: str) -> Callable[..., Iterator[Step]]:
    """The sampler of this name; a wrong one raises `ValueError` with the nearest right one."""
    if name not in SAMPLERS:
        near = get_close_matches(name, SAMPLERS, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"sampler is {name!r}; legal are {', '.join(SAMPLERS)}{hint}")
    return SAMPLERS[name]


@torch.no_grad()
def sample(
    denoise: Denoiser,
    n: int,
    sampler: str = "ddim",
    steps: int = 50,
    seed: int = 0,
    *,
    spacing: Spacing = "trailing",
    shape: Sequence[int] | None = None,
    chunk: int | None = None,
    progress: bool = True,
    **options: Any,
) -> Tensor:
    """Draw `n` samples in one call.

    Args:
        denoise: what to sample from.
        n: how many.
        sampler: a name of `SAMPLERS`.
        steps: moves of the sampler, 1 to T.
        seed: sample i of a seed is the same, bit for bit, whatever `n` is, on the same machine and chunk.
        spacing: of the grid, see `NoiseSchedule.timesteps`.
        shape: of one sample; where it is not given, the image shape the denoiser was trained on.
        chunk: samples denoised together (the last chunk is filled up); 16 on a CPU and 256 on a GPU by default.
        progress: show a bar with an estimate of the time left.
        options: the sampler's own, such as `eta` for ddim.

    Returns:
        (n, *shape), float32, on the denoiser's device; images lie in about [-1, 1] and are not clipped.
    """
    walk = nearest_sampler(sampler)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"n is {n!r}; it must be an integer from 1 up")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk is {chunk}; it must be at least 1")
    shape = shape or getattr(denoise, "image_shape", None)
    if shape is None:
        raise ValueError("shape is not given, and this denoiser does not know the shape of one sample")
    timesteps = denoise.schedule.timesteps(steps, spacing)
    device = torch.device(getattr(denoise, "device", "cpu"))
    chunk = chunk or (16 if device.type == "cpu" else 256)
    samples = []
    with tqdm(total=-(-n // chunk) * steps, unit="step", desc=f"{sampler}-{steps}", disable=not progress) as bar:
        for first in range(0, n, chunk):
            noise = PerSample(seed, first)
            x = noise(torch.empty(chunk, *shape, device=device))
            for step in walk(denoise, x, timesteps, noise=noise, **options):
                x = step.x
                bar.update()
            samples.append(x[: n - first])
    return torch.cat(samples)
