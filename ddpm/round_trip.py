"""Noise an image and denoise it again: up by the forward process in one shot, or by inversion.

All are generators over any `Denoiser` that yield every state, as the samplers do; arguments and errors are theirs.
`ddpm.edict` has the trip of a coupled pair, which comes back to the image itself.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ddpm._moved import noise_is_randn_like
from ddpm.arguments import float_tensor
from ddpm.denoiser import Denoiser, schedule_of
from ddpm.edict import coupled_round_trip as coupled_round_trip  # the names that stood here in version 0.1.0
from ddpm.edict import edict as edict
from ddpm.edict import invert_edict as invert_edict
from ddpm.grids import Grid, check_grid
from ddpm.noise import RandnLike, drawn
from ddpm.samplers import Step, ancestral, ddim, heun, invert
from ddpm.samplers import invert_heun as invert_heun  # it stood here, too
from ddpm.settings import positive_int
from ddpm.targets import Prediction
from ddpm.walks import Sampler, sampler_named

__all__ = ["Ends", "cycles", "ends", "inverted_round_trip", "round_trip"]


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
    function with the arguments of those in `ddpm.samplers`, or its name in `ddpm.walks.SAMPLERS`. It gets
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
