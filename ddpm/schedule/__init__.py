"""Noise schedules: given by a table of alpha_bar, or by two functions of time, and those of the papers by name."""

from ddpm.grids import NOISE_ALONE as NOISE_ALONE  # the names that stood here in version 0.2.0
from ddpm.grids import SPACINGS as SPACINGS
from ddpm.grids import Spacing as Spacing
from ddpm.grids import check_grid as check_grid
from ddpm.grids import check_start as check_start
from ddpm.schedule.named import (
    SCHEDULES,
    cosine,
    exploding,
    from_betas,
    linear,
    linear_zero_snr,
    sigmoid,
    straight,
    zero_terminal_snr,
)  # fmt: skip
from ddpm.schedule.paths import Exploding, PathSchedule, Straight
from ddpm.schedule.table import NoiseSchedule

__all__ = [
    "SCHEDULES", "Exploding", "NoiseSchedule", "PathSchedule", "Straight", "cosine", "exploding", "from_betas",
    "linear", "linear_zero_snr", "sigmoid", "straight", "zero_terminal_snr",
]  # fmt: skip
