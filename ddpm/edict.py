"""EDICT of Wallace et al. (2023): a sampler of a pair of states, each of whose moves has an exact inverse.

All are generators over any `Denoiser` that yield every pair (2, batch, ...), as the samplers yield every state;
arguments and errors are theirs. `ValueError` or `TypeError` is raised, too, where the moves of a pair cannot be undone:
`mixing` is not legal, or there is too little signal for the states' dtype where the grid begins.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ddpm.arguments import float_tensor, number
from ddpm.denoiser import Denoiser, schedule_of
from ddpm.grids import Grid, check_grid
from ddpm.samplers import Step, predict
from ddpm.schedule import NoiseSchedule

__all__ = ["coupled_round_trip", "edict", "invert_edict"]

#: The least signal up to which EDICT's moves can be undone in float32.
LEAST_SIGNAL = 1e-3


def edict(denoise: Denoiser, pair: Tensor, timesteps: Grid, *, mixing: float = 0.93) -> Iterator[Step]:
    """EDICT of Wallace et al. (2023), section 4: two states that denoise each other, so that every move has an exact
    inverse.

    The pair is (2, batch, ...), and its two states take turns in moving first. `mixing` is p, above 0 and at most 1. A
    move down draws the two together by p^2, so a move up drives them apart by 1 / p^2. At 0.93 that leaves room for
    about 100 moves; more moves need a p nearer 1.

    What rounding puts between the two grows by a few times (scale(t) / signal(t))^2 over the way down, less p^2 a move.
    At 0.93 a trip on the linear schedule comes back to 0.003 in float32. A p near 1 wants float64: at 1, in 100 moves,
    it is 1 away. Where the signal is below 0.001 of the scale, as it is at the end of the cosine and the sigmoid
    schedule, the pair must be float64.
    """
    schedule = schedule_of(denoise)
    timesteps = _grid_of_pair(pair, timesteps, schedule, mixing)
    if pair.ndim < 2 or len(pair) != 2:
        raise ValueError(f"pair has shape {tuple(pair.shape)}; it must be (2, batch, ...)")
    first, second = pair
    for t, s in pairwise(timesteps):
        a, b = _ddim_coefficients(schedule, t, s)
        prediction = predict(denoise, second, t)
        first = a * first + b * prediction.eps
        second = a * second + b * predict(denoise, first, t).eps
        first = mixing * first + (1 - mixing) * second
        second = mixing * second + (1 - mixing) * first
        first, second = second, first
        yield Step(torch.stack([first, second]), s, prediction)


def invert_edict(denoise: Denoiser, x0: Tensor, timesteps: Grid, *, mixing: float = 0.93) -> Iterator[Step]:
    """The moves of `edict` undone, last first (Wallace et al. 2023, section 4): from clean images, both states of the
    pair, to the pair (2, batch, ...) that `edict` takes back to them."""
    schedule = schedule_of(denoise)
    timesteps = _grid_of_pair(x0, timesteps, schedule, mixing)
    first = second = x0
    for s, t in pairwise(reversed(timesteps)):
        a, b = _ddim_coefficients(schedule, t, s)
        first, second = second, first
        second = (second - (1 - mixing) * first) / mixing
        first = (first - (1 - mixing) * second) / mixing
        second = (second - b * predict(denoise, first, t).eps) / a
        prediction = predict(denoise, second, t)
        first = (first - b * prediction.eps) / a
        yield Step(torch.stack([first, second]), t, prediction)


def coupled_round_trip(denoise: Denoiser, x0: Tensor, timesteps: Grid, *, mixing: float = 0.93) -> Iterator[Step]:
    """Walk clean images up by `invert_edict` and back by `edict`, yielding every pair: x0 again, up to rounding."""
    for step in invert_edict(denoise, x0, timesteps, mixing=mixing):
        yield step
    yield from edict(denoise, step.x, timesteps, mixing=mixing)


def _grid_of_pair(pair: Tensor, timesteps: Grid, schedule: NoiseSchedule, mixing: float) -> Sequence[float]:
    """The grid as `check_grid` gives it; `ValueError` or `TypeError` where the moves of a pair cannot be undone."""
    float_tensor("x0 or pair", pair)
    timesteps = check_grid(timesteps, schedule)
    if not 0 < number("mixing", mixing) <= 1:
        raise ValueError(f"mixing is {mixing}; it must be above 0 and at most 1")
    signal = schedule.signal(timesteps[0]) / schedule.scale(timesteps[0])
    if signal == 0:
        raise ValueError(f"timesteps begin at {timesteps[0]:g}, where no signal is left; EDICT needs some")
    if pair.dtype == torch.float32 and signal < LEAST_SIGNAL:
        raise TypeError(
            f"x0 or pair is torch.float32; up to a signal of {signal:.1e} EDICT must compute in float64, x0.double()"
        )
    return timesteps


def _ddim_coefficients(schedule: NoiseSchedule, t: float, s: float) -> tuple[float, float]:
    """a and b of a deterministic DDIM move x_s = a x_t + b eps (J. Song et al. 2021, eq. 12)."""
    a = schedule.signal(s) / schedule.signal(t)
    return a, schedule.noise(s) - a * schedule.noise(t)
