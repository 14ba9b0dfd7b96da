"""The schedules of the papers, by name, and how one is made of betas or cut off from its signal.

>>> f"{linear().signal(1000):.4f}"
'0.0064'
>>> linear().timesteps(4)
[1000, 750, 500, 250, 0]
>>> straight().signal(250), straight().noise(250)
(0.75, 0.25)
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ddpm.arguments import exact
from ddpm.grids import NOISE_ALONE
from ddpm.schedule.paths import Exploding, Straight
from ddpm.schedule.table import NoiseSchedule
from ddpm.settings import ScheduleName, positive_int

__all__ = [
    "SCHEDULES", "cosine", "exploding", "from_betas", "linear", "linear_zero_snr", "sigmoid", "straight",
    "zero_terminal_snr",
]  # fmt: skip


def linear(T: int = 1000) -> NoiseSchedule:
    """Ho et al. (2020): beta rises from 1e-4 to 0.02 at T = 1000; for another T both are scaled by 1000 / T.

    The scaling keeps x_T almost pure noise.

    Raises:
        ValueError: T is below 21, so that the last beta would reach 1.
    """
    last = 0.02 * 1000 / positive_int("T", T)
    if last >= 1:
        raise ValueError(f"T is {T}; the linear schedule needs T of at least 21 (its last beta would be {last:.3g})")
    return from_betas(np.linspace(1e-4 * 1000 / T, last, T))


def cosine(T: int = 1000) -> NoiseSchedule:
    """Nichol & Dhariwal (2021), eq. 17, with offset 0.008 and every beta at most 0.999."""
    return _from_alpha_bar(lambda u: np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2, T)


def sigmoid(T: int = 1000) -> NoiseSchedule:
    """Jabri et al. (2022), with start -3, end 3, temperature 1 and every beta at most 0.999."""
    return _from_alpha_bar(lambda u: 1 / (1 + np.exp(6 * u - 3)) - 1 / (1 + np.exp(3)), T)


def zero_terminal_snr(schedule: NoiseSchedule) -> NoiseSchedule:
    """The schedule with its signal shifted to be 0 at T and scaled to stay as it is at 1: Lin et al. (2024), alg. 1.

    A network on it must predict x0 or v, as at T the noise says nothing of the image.

    Raises:
        ValueError: T is 1, where these two are one time; or the schedule does not keep the variance.
    """
    if not schedule.preserves_variance:
        raise ValueError(f"schedule is {schedule}; it must be one that keeps the variance")
    if schedule.T == 1:
        raise ValueError("T is 1; only a schedule of two steps or more can keep its signal at 1 and lose it at T")
    signal = schedule.alpha_bar.sqrt()
    first, last = signal[1], signal[-1]
    shifted = (signal[1:] - last) * (first / (first - last))
    return NoiseSchedule(torch.cat([signal[:1], shifted]).square())


def straight(T: int = 1000) -> Straight:
    """The straight path x_t = (1 - t / T) x_0 + (t / T) eps of flow matching and rectified flows."""
    return Straight(T)


def exploding(T: int = 1000, lowest: float = 0.01, highest: float = NOISE_ALONE) -> Exploding:
    """x_t = x_0 + sigma(t) eps, with sigma from `lowest` at time 1 to `highest` at T in equal factors."""
    return Exploding(T, lowest, highest)


def linear_zero_snr(T: int = 1000) -> NoiseSchedule:
    """`linear` without any signal left at T, after Lin et al. (2024), algorithm 1."""
    return zero_terminal_snr(linear(T))


#: The schedules that a network is trained on, by name.
SCHEDULES: dict[ScheduleName, Callable[[int], NoiseSchedule]] = {
    "linear": linear, "cosine": cosine, "sigmoid": sigmoid, "linear_zero_snr": linear_zero_snr, "straight": straight
}  # fmt: skip


def _from_alpha_bar(alpha_bar: Callable[[np.ndarray], np.ndarray], T: int) -> NoiseSchedule:
    """The schedule whose alpha_bar is this function of u = t / T, up to scale, with every beta at most 0.999."""
    values = alpha_bar(np.arange(positive_int("T", T) + 1) / T)
    return from_betas(np.minimum(1 - values[1:] / values[:-1], 0.999))


def from_betas(betas: Tensor | Sequence[float] | np.ndarray) -> NoiseSchedule:
    """The schedule whose T steps add the variances `betas` (T,), from beta_1 to beta_T (Ho et al. 2020, eq. 2).

    Raises:
        TypeError: these are no numbers.
        ValueError: one is not above 0 and below 1; the last may be 1, which leaves no signal at T.
    """
    values = exact("betas", betas).numpy()
    if values.ndim != 1 or not len(values):
        raise ValueError(f"betas have shape {values.shape}; they must be a list of at least one value")
    for i, beta in enumerate(values):
        if not (0 < beta < 1 or (beta == 1 and i == len(values) - 1)):
            raise ValueError(f"betas[{i}] is {beta}; each must be above 0 and below 1 (the last may be 1)")
    return NoiseSchedule(np.concatenate([[1.0], np.cumprod(1 - values)]))
