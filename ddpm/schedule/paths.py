"""Schedules that are given by their two functions of time: the straight path, and noise that grows beside the image."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ddpm.arguments import number
from ddpm.schedule.table import NoiseSchedule, Number, check_sigma
from ddpm.settings import positive_int

__all__ = ["Exploding", "PathSchedule", "Straight"]


class PathSchedule(NoiseSchedule, ABC):
    """A schedule of two functions of a real time, which need not keep the variance.

    A subclass says what `signal_and_noise(t)` and its inverse `sigma_to_t(sigma)` are, and makes the table of its
    alpha_bar.
    """

    preserves_variance = False

    @abstractmethod
    def signal_and_noise(self, t: Number) -> tuple[Number, Number]:
        """(signal(t), noise(t)): floats for a float, tensors (batch,) for times (batch,)."""

    @abstractmethod
    def sigma_to_t(self, sigma: float) -> float:
        """The real time at which noise / signal is `sigma`, and T for one above sigma(T)."""

    def scale(self, t: float) -> float:
        """sqrt(signal^2 + noise^2), the standard deviation of x_t for data of variance 1."""
        return math.hypot(*self.signal_and_noise(t))

    def log_alpha_bar(self, t: Number) -> Number:
        """Log of signal^2 / (signal^2 + noise^2) at real times, as in `NoiseSchedule`."""
        signal, noise = self.signal_and_noise(t)
        if isinstance(signal, Tensor):
            return -torch.log1p((noise / signal).square())
        return -math.log1p((noise / signal) ** 2) if signal > 0 else -math.inf


class Straight(PathSchedule):
    """x_t = (1 - t / T) x_0 + (t / T) eps: every image goes to its noise in a straight line.

    It is the path of Liu et al. (2023), eq. 1, and of Lipman et al. (2023), eq. 20 with sigma_min = 0. In both, time
    runs the other way, from noise to data. At T no signal is left.
    """

    def __init__(self, T: int) -> None:
        times = torch.arange(positive_int("T", T) + 1, dtype=torch.float64, device="cpu") / T
        super().__init__((1 - times) ** 2 / ((1 - times) ** 2 + times**2))

    def signal_and_noise(self, t: Number) -> tuple[Number, Number]:
        """(1 - t / T, t / T)."""
        t = self._checked(t)
        return (self.T - t) / self.T, t / self.T  # exact also near T, in float32

    def sigma_to_t(self, sigma: float) -> float:
        """T sigma / (1 + sigma)."""
        check_sigma(sigma)
        return self.T / (1 + 1 / sigma) if sigma > 0 else 0.0


class Exploding(PathSchedule):
    """x_t = x_0 + sigma(t) eps: the signal stays, and the noise grows until x is noise alone.

    sigma grows geometrically from `lowest` at time 1 to `highest` at T (Y. Song et al. 2021, appendix C), and linearly
    from 0 at time 0 to time 1.
    """

    def __init__(self, T: int, lowest: float, highest: float) -> None:
        if positive_int("T", T) == 1:
            raise ValueError("T is 1; sigma needs two times or more to grow from lowest to highest")
        self.lowest, self.highest = number("lowest", lowest), number("highest", highest)
        if not 0 < lowest < highest < math.inf:
            raise ValueError(f"lowest is {lowest} and highest is {highest}; legal is 0 < lowest < highest, both finite")
        self._growth = math.log(highest / lowest) / (T - 1)  # of log sigma in a step
        above_0 = torch.arange(T, dtype=torch.float64, device="cpu")
        sigma = torch.cat([above_0[:1] * 0, lowest * torch.exp(self._growth * above_0)])
        alpha_bar = 1 / (1 + sigma**2)
        if not (alpha_bar.diff() < 0).all():
            raise ValueError(
                f"lowest is {lowest}, highest is {highest} and T is {T}; alpha_bar cannot tell these times apart in "
                "float64: take a larger lowest, a smaller highest or fewer times"
            )
        super().__init__(alpha_bar)

    def __repr__(self) -> str:
        return f"Exploding(T={self.T}, lowest={self.lowest:g}, highest={self.highest:g})"

    def signal_and_noise(self, t: Number) -> tuple[Number, Number]:
        """(1, sigma(t))."""
        t = self._checked(t)
        if isinstance(t, Tensor):
            growing = self.lowest * torch.exp(self._growth * (t - 1))
            return torch.ones_like(t), torch.where(t < 1, self.lowest * t, growing)
        return 1.0, self.lowest * (t if t < 1 else math.exp(self._growth * (t - 1)))

    def sigma_to_t(self, sigma: float) -> float:
        """The time at which the noise is `sigma`, and T for more than `highest`."""
        check_sigma(sigma)
        if sigma <= self.lowest:
            return sigma / self.lowest
        return min(1 + math.log(sigma / self.lowest) / self._growth, self.T)
