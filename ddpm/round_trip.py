"""Noise an image and denoise it again: into the forward process in one shot, by inversion, or as a coupled pair.

All are generators over any `Denoiser` that yield every state, as the samplers do; arguments and errors are theirs.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ddpm._moved import noise_is_randn_like
from ddpm.arguments import float_tensor, number
from ddpm.denoiser import Denoiser, schedule_of
from ddpm.grids import Grid, check_grid
from ddpm.noise import RandnLike, drawn
from ddpm.samplers import Step, ancestral, ddim, heun, heun_correction, invert, predict, predict_below
from ddpm.sampling import Sampler, sampler_named
from ddpm.schedule import NoiseSchedule
from ddpm.settings import positive_int
from ddpm.targets import Prediction

__all__ = [
    "Ends", "coupled_round_trip", "cycles", "edict", "ends", "invert_edict", "invert_heun", "inverted_round_trip",
    "round_trip",
]  # fmt: skip

#: The least signal up to which EDICT's moves can be undone in float32.
LEAST_SIGNAL = 1e-3


class Ends(NamedTuple):
    """What a trip went to and came back with, each like its images."""

    noised: Tensor  # the state at the greatest depth
    one_shot: Tensor  # the x0 that the denoiser saw in it
    back: Tensor


def ends(steps: Iterator[Step]) -> Ends:
    """Walk a trip to its end, however it goes up, and keep its ends."""
    top = one_shot = None
    for step in steps:
        if top is None or step.t > top.t:
            top = step
        elif one_shot is None:
            one_shot = step.prediction.x0  # the first state on the way back carries what was seen at the top
    if top is None:
        raise ValueError("the trip has no steps left; make a new one")
    if one_shot is None:
        raise ValueError(f"the trip ends at time {step.t:g}; it must come back")
    return Ends(top.x, one_shot, step.x)


@noise_is_randn_like
def round_trip(
    denoise: Denoiser,
    x0: Tensor,
    timesteps: Grid,
    *,
    sampler: str | Sampler = ancestral,
    randn_like: RandnLike = torch.randn_like,
    **options: Any,
) -> Iterator[Step]:
    """Noise clean images to depth `timesteps[0]`, then walk the grid back to 0 (Meng et al. 2022, SDEdit).

    Yields the noised state first, with the true x0 and eps as its prediction, then every state of the sampler: a
    function with the arguments of those in `ddpm.samplers`, or its name in `ddpm.sampling.SAMPLERS`. It gets
    `randn_like` and `options`.
    `schedule.timesteps(n, start=depth)` makes grids that begin at a depth.
    """
    schedule, walk = schedule_of(denoise), sampler_named(sampler)
    timesteps = check_grid(timesteps, schedule)
    eps = drawn(randn_like, float_tensor("x0", x0))
    x = schedule.add_noise(x0, timesteps[0], eps)
    yield Step(x, timesteps[0], Prediction(x0, eps))
    yield from walk(denoise, x, timesteps, randn_like=randn_like, **options)


@noise_is_randn_like
def cycles(
    denoise: Denoiser,
    x0: Tensor,
    timesteps: Grid,
    count: int,
    *,
    sampler: str | Sampler = ancestral,
    randn_like: RandnLike = torch.randn_like,
    **options: Any,
) -> Iterator[Step]:
    """`count` round trips in a row, each from the image that the one before returned; yields the end of each.

    Its arguments are those of `round_trip`.

    With an exact denoiser, ancestral sampling and small steps this is Gibbs sampling, of a clean image and its noisy
    version in turn: the distribution of the data stays, the image does not.
    """
    for _ in range(positive_int("count", count)):
        for step in round_trip(denoise, x0, timesteps, sampler=sampler, randn_like=randn_like, **options):
            x0 = step.x
        yield step


def inverted_round_trip(denoise: Denoiser, x0: Tensor, timesteps: Grid, *, order: Literal[1, 2] = 1) -> Iterator[Step]:
    """Walk clean images up to `timesteps[0]` without drawing noise, and back, yielding every state.

    Up by `invert` and back by deterministic `ddim` (order 1), or up by `invert_heun` and back by `heun` (order 2).
    """
    if order not in (1, 2):
        raise ValueError(f"order is {order!r}; legal are 1 (DDIM) and 2 (Heun)")
    up, back = (invert, ddim) if order == 1 else (invert_heun, heun)
    for step in up(denoise, x0, timesteps):
        yield step
    yield from back(denoise, step.x, timesteps)


def invert_heun(denoise: Denoiser, x0: Tensor, timesteps: Grid) -> Iterator[Step]:
    """`invert` with the moves of `heun` in the angle, walked upward.

    The error of the noise that it finds is O(1 / N^2), down to the error of its first move, which is `invert`'s. That
    one is small on grids whose last time above 0 is small at every N ("karras", "linspace").
    """
    schedule = schedule_of(denoise)
    timesteps = check_grid(timesteps, schedule)
    x = x0
    for s, t in pairwise(reversed(timesteps)):
        prediction = predict_below(denoise, x, s, t)
        x = schedule.add_noise(prediction.x0, t, prediction.eps)
        if s > 0:
            x = x + heun_correction(schedule, prediction, predict(denoise, x, t), s, t)
        yield Step(x, t, prediction)


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
