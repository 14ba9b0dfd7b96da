"""Grids of times to walk a forward process backwards: how they are spaced, and what is a legal one.

>>> from ddpm.schedule import linear
>>> timesteps(linear(), 4)
[1000, 750, 500, 250, 0]
"""

import math
import warnings
from collections.abc import Sequence
from itertools import pairwise
from numbers import Real
from typing import Protocol

import numpy as np
from torch import Tensor

from ddpm.settings import SPACINGS, Spacing, one_of

__all__ = ["NOISE_ALONE", "SPACINGS", "Grid", "HasNoise", "Spacing", "check_grid", "check_start", "timesteps"]

#: Times for a walk, strictly decreasing and ending in 0: a list of numbers, or a 1-D array or tensor of them.
Grid = Sequence[float] | np.ndarray | Tensor

#: From this sigma on x counts as noise alone. Karras et al. (2022) begin at 80 for data of standard deviation 0.5.
NOISE_ALONE = 160.0


class HasNoise(Protocol):
    """What a grid needs of a noise schedule: see `ddpm.schedule.NoiseSchedule`."""

    T: int

    def sigma(self, t: float) -> float:
        """noise / signal at a time."""
        ...

    def sigma_to_t(self, sigma: float) -> float:
        """The time at which noise / signal is `sigma`."""
        ...


def timesteps(schedule: HasNoise, n: int, spacing: Spacing = "trailing", start: int | None = None) -> Sequence[float]:
    """A strictly decreasing grid of n + 1 times for n moves; the last time is 0.

    Args:
        schedule: the schedule of the forward process.
        n: number of moves, 1 to `start`.
        spacing: how the times are chosen. "trailing" takes round(start k / n) for k = n, ..., 0. "leading" takes the
            multiples of start // n, plus 1, then 0; it may begin below start. "linspace" takes n integers spaced evenly
            from start to 1, then 0. "quadratic" takes the real times start (k / n)^2. "karras" takes the real times
            whose sigma is that of Karras et al. (2022), eq. 5 with rho = 7, from sigma(start) to sigma(1), then 0;
            "log_snr" takes those whose log SNR is spaced evenly between the same two, then 0. For these two, a
            sigma(start) above 160 counts as 160, as x is noise alone from there up: half of a grid from 20,000, where
            the cosine schedule begins, would lie above it. The names of the first three are those of Lin et al.
            (2024), table 2.
        start: the time at which the walk begins, 1 to T; T if none is given.

    Raises:
        ValueError: an argument is not legal.
    """
    top = schedule.T if start is None else start
    is_number = isinstance(top, Real) and not isinstance(top, bool)
    if not is_number or not 1 <= top <= schedule.T or top != int(top):
        raise ValueError(f"start is {start!r}; legal are integers from 1 to T = {schedule.T}")
    if isinstance(n, bool) or not hasattr(n, "__index__") or not 1 <= n <= top:
        name = "T" if start is None else "start"
        raise ValueError(f"n, the number of steps, is {n!r}; legal are integers from 1 to {name} = {top}")
    one_of("spacing", spacing, SPACINGS)
    if spacing == "trailing":
        return [round(top * k / n) for k in range(n, -1, -1)]
    if spacing == "leading":
        return [k * (top // n) + 1 for k in reversed(range(n))] + [0]
    if spacing == "linspace":
        return [round(time) for time in np.linspace(top, 1, n)] + [0]
    if spacing == "quadratic":
        return [top * (k / n) ** 2 for k in range(n, -1, -1)]
    return [top, *_spaced_in_sigma(schedule, n, spacing, top)[1:], 0]


def _spaced_in_sigma(schedule: HasNoise, n: int, spacing: Spacing, top: float) -> list[float]:
    """The n times of a "karras" or "log_snr" grid from sigma(top), or from noise alone, to sigma(1)."""
    highest = min(schedule.sigma(top), NOISE_ALONE)
    lowest = min(schedule.sigma(1), highest)
    if n > 1 and not lowest < highest:
        raise ValueError(
            f"spacing is {spacing!r}, and sigma is {schedule.sigma(1):g} at time 1 already: x is noise alone from "
            f"{NOISE_ALONE:g} up; take another spacing"
        )
    if spacing == "karras":
        sigma = np.linspace(highest ** (1 / 7), lowest ** (1 / 7), n) ** 7
    else:
        sigma = np.exp(np.linspace(math.log(highest), math.log(lowest), n))
    return [schedule.sigma_to_t(each) for each in sigma.tolist()]


def check_grid(timesteps: Grid, schedule: HasNoise) -> Sequence[float]:
    """A grid that decreases strictly from at most T to exactly 0, as Python numbers where it was an array or a tensor.

    Raises:
        TypeError: `timesteps` is not a list of numbers, nor an array or a tensor (n + 1,) of them.
        ValueError: the times do not decrease strictly, or do not run from at most T to 0.
    """
    grid = timesteps.tolist() if isinstance(timesteps, np.ndarray | Tensor) else timesteps
    if not isinstance(grid, Sequence) or not all(isinstance(t, Real) and not isinstance(t, bool) for t in grid):
        raise TypeError(f"timesteps is {type(timesteps).__name__}; it must be a list of numbers, or a 1-D tensor")
    if len(grid) < 2:
        raise ValueError(f"timesteps has {len(grid)} entries; it must have at least 2, the last of them 0")
    if grid[-1] != 0 or grid[0] > schedule.T:
        raise ValueError(f"timesteps run from {grid[0]} to {grid[-1]}; legal is from at most {schedule.T} to 0")
    for t, s in pairwise(grid):
        if not t > s:
            raise ValueError(f"timesteps go from {t} to {s}; they must decrease strictly")
    return grid


def check_start(timesteps: Sequence[float], schedule: HasNoise) -> None:
    """Warn where a grid begins at a time whose states noise alone is not like, as some "leading" grids do."""
    left = 1 / (1 + schedule.sigma(timesteps[0]) ** 2)
    if left > 0.01:
        warnings.warn(
            f"timesteps begin at {timesteps[0]:g}, where {left:.0%} of the variance is still the image's: a walk from "
            "noise goes wrong there; take more steps or another spacing",
            stacklevel=4,  # of `sample`, behind torch's wrapper
        )
