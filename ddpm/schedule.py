"""The forward process q(x_t | x_0) = N(signal(t) x_0, noise(t)^2 I), and grids of times to walk it backwards::

    alpha_bar(t)     share of the clean image's variance left at time t: 1 at t = 0, nearly 0 at t = T
    signal(t)        sqrt(alpha_bar(t))
    noise(t)         sqrt(1 - alpha_bar(t))

(Ho et al. 2020, eq. 4). Time is real: between integers log alpha_bar is interpolated linearly. Where alpha_bar(T) is 0,
the signal falls to it linearly from time T - 1.

>>> f"{linear().signal(1000):.4f}"
'0.0064'
>>> linear().timesteps(4)
[1000, 750, 500, 250, 0]
"""

import math
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Real
from typing import overload

import numpy as np
import torch
from torch import Tensor

from ddpm.arguments import check_real, check_times, exact, float_tensor, instance
from ddpm.settings import SPACINGS, ScheduleName, Spacing, one_of, positive_int

__all__ = [
    "NOISE_ALONE", "SCHEDULES", "SPACINGS", "NoiseSchedule", "Spacing", "check_grid", "check_start", "cosine",
    "from_betas", "linear", "positive_int", "sigmoid", "zero_terminal_snr",
]  # fmt: skip

#: The sigma from which x counts as noise alone: Karras et al. (2022) begin at 80 for data of standard deviation 0.5.
NOISE_ALONE = 160.0


class NoiseSchedule:
    """A noise schedule given by its table of alpha_bar.

    Args:
        alpha_bar: T + 1 values, kept in float64; alpha_bar[0] is 1, the others decrease strictly. All are above 0 but
            the last, which may be 0: no signal is left at T then ("zero terminal SNR", Lin et al. 2024).

    Raises:
        ValueError: the table breaks one of these rules.
    """

    def __init__(self, alpha_bar: Tensor | Sequence[float] | np.ndarray) -> None:
        table = exact("alpha_bar", alpha_bar)
        if table.ndim != 1 or len(table) < 2:
            raise ValueError(f"alpha_bar has shape {tuple(table.shape)}; it must be a list of at least two values")
        if table[0] != 1:
            raise ValueError(f"alpha_bar[0] is {table[0].item()}; it must be 1 (time 0 is the clean image)")
        if not (table[-1] >= 0 and (table.diff() < 0).all()):
            raise ValueError("alpha_bar must decrease strictly and not fall below 0")
        self.alpha_bar = table
        self.T = len(table) - 1
        self._log_alpha_bar = table.log()
        self._log_alpha_bar_list: list[float] = self._log_alpha_bar.tolist()

    def __repr__(self) -> str:
        return f"NoiseSchedule(T={self.T}, alpha_bar_T={self.alpha_bar[-1].item():.4g})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoiseSchedule) and torch.equal(self.alpha_bar, other.alpha_bar)

    def __hash__(self) -> int:
        return hash(tuple(self._log_alpha_bar_list))

    @overload
    def log_alpha_bar(self, t: float) -> float: ...
    @overload
    def log_alpha_bar(self, t: Tensor) -> Tensor: ...
    def log_alpha_bar(self, t: float | Tensor) -> float | Tensor:
        """Log of alpha_bar at real times: a float for a float, a tensor (batch,) for times (batch,).

        The tensor is float64 on a CPU. Elsewhere it is float32 unless the times are float64: not every device has that.

        Raises:
            TypeError: t is neither a number nor a tensor.
            ValueError: a time is outside [0, T]. Times on a GPU are not checked.
        """
        check_real(t)
        if not isinstance(t, Tensor):
            if not 0 <= t <= self.T:
                raise ValueError(f"t is {t}; legal times are 0 to {self.T}")
            table, below = self._log_alpha_bar_list, min(int(t), self.T - 1)
            if table[below + 1] == -math.inf:
                return table[below] + 2 * math.log(self.T - t) if t < self.T else -math.inf
            return table[below] + (t - below) * (table[below + 1] - table[below])
        # Skipped on a GPU, where reading a value forces a synchronisation.
        if t.device.type == "cpu" and t.numel() and not (t.min() >= 0 and t.max() <= self.T):
            raise ValueError(f"t runs from {t.min().item()} to {t.max().item()}; legal times are 0 to {self.T}")
        in_float64 = t.device.type == "cpu" or t.dtype == torch.float64
        return self._interpolated(t, torch.float64 if in_float64 else torch.float32)

    def _interpolated(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        """Log of alpha_bar at times (batch,), computed in this type."""
        logs = self._log_alpha_bar.to(dtype).to(t.device)
        index = t.long().clamp(0, self.T - 1)
        fraction = t.to(dtype) - index
        between = torch.lerp(logs[index], logs[index + 1], fraction)
        if self._log_alpha_bar_list[-1] > -math.inf:
            return between
        return torch.where(index < self.T - 1, between, logs[index] + 2 * torch.log1p(-fraction))

    @overload
    def signal(self, t: float) -> float: ...
    @overload
    def signal(self, t: Tensor) -> Tensor: ...
    def signal(self, t: float | Tensor) -> float | Tensor:
        """sqrt(alpha_bar): a float for a float; (batch, 1, 1, 1) for times (batch,), to multiply images with."""
        log = self.log_alpha_bar(t)
        if isinstance(log, Tensor):
            return _per_image((log / 2).exp(), t)
        return math.exp(log / 2)

    @overload
    def noise(self, t: float) -> float: ...
    @overload
    def noise(self, t: Tensor) -> Tensor: ...
    def noise(self, t: float | Tensor) -> float | Tensor:
        """sqrt(1 - alpha_bar): a float for a float; (batch, 1, 1, 1) for times (batch,), to multiply images with."""
        log = self.log_alpha_bar(t)
        if isinstance(log, Tensor):
            return _per_image((0 - torch.expm1(log)).sqrt(), t)  # 0 - x, as -x is -0.0 at t = 0
        return math.sqrt(0 - math.expm1(log))

    def sigma(self, t: float) -> float:
        """noise / signal at a real time: the standard deviation of the noise after x_t is scaled to full contrast.

        It is infinite where no signal is left.
        """
        signal = self.signal(t)
        return self.noise(t) / signal if signal > 0 else math.inf

    def angle(self, t: float) -> float:
        """The angle phi with signal = cos phi and noise = sin phi at a real time: 0 at t = 0, about pi / 2 at T."""
        return math.atan2(self.noise(t), self.signal(t))

    def sigma_to_t(self, sigma: float) -> float:
        """The real time at which noise / signal is `sigma`: the inverse of `sigma`."""
        if self._log_alpha_bar_list[-1] == -math.inf and sigma > self.sigma(self.T - 1):
            return self.T - 1 / math.hypot(1, sigma) / self.signal(self.T - 1)
        # np.interp needs rising abscissae, so time is a function of -log alpha_bar = log(1 + sigma^2) here.
        logs = [-log for log in self._log_alpha_bar_list]
        return float(np.interp(np.log1p(np.square(sigma)), logs, np.arange(self.T + 1)))

    def beta(self, t: float, s: float) -> float:
        """1 - alpha_bar(t) / alpha_bar(s): the variance that the step from s up to t adds; beta_t where s = t - 1.

        Raises:
            ValueError: s is not below t.
        """
        if not s < t:
            raise ValueError(f"s is {s} and t is {t}; noise is added upward in time, s < t")
        return -math.expm1(self.log_alpha_bar(t) - self.log_alpha_bar(s))

    def posterior_std(self, t: float, s: float) -> float:
        """Standard deviation of q(x_s | x_t, x_0) for s < t (Song et al. 2021, eq. 16 with eta = 1)."""
        return self.noise(s) / self.noise(t) * math.sqrt(self.beta(t, s))

    def add_noise(self, x0: Tensor, t: float | Tensor, eps: Tensor) -> Tensor:
        """x_t = signal(t) x_0 + noise(t) eps in one shot (Ho et al. 2020, eq. 4), in x0's shape and dtype.

        Raises:
            TypeError: x0 is not float32 or float64.
            ValueError: t is neither a number nor one time for each image, or eps has another shape than x0.
        """
        signal, noise = self.coefficients(t, float_tensor("x0", x0))
        counts = {*instance("eps", eps, Tensor).shape[:1], len(x0)} - {1}  # one image goes with any number of noises
        if eps.ndim != x0.ndim or eps.shape[1:] != x0.shape[1:] or len(counts) > 1:
            raise ValueError(f"eps has shape {tuple(eps.shape)}; it must be x0's, {tuple(x0.shape)}")
        return signal * x0 + noise * eps

    def coefficients(self, t: float | Tensor, x: Tensor) -> tuple[float | Tensor, float | Tensor]:
        """(signal(t), noise(t)): floats for a float; for times (batch,), tensors that multiply x (batch, ...).

        The tensors have x's dtype and device, and as many axes as x.

        Raises:
            TypeError: x is not float32 or float64, or t is neither a number nor a tensor.
            ValueError: t is a tensor of another shape, or a time is outside [0, T].
        """
        float_tensor("x", x)
        check_times(t, x)
        if not isinstance(t, Tensor):
            return self.signal(t), self.noise(t)
        times = t.double() if x.dtype == torch.float64 else t
        log = self.log_alpha_bar(times).reshape(-1, *[1] * (x.ndim - 1))
        return (log / 2).exp().to(x), (0 - torch.expm1(log)).sqrt().to(x)

    def check_time(self, t: float | Tensor) -> None:
        """Raise `ValueError` unless 0 < t <= T: at time 0 there is no noise to predict and no score.

        Times on a GPU are not checked.
        """
        check_real(t)
        if isinstance(t, Tensor) and (t.device.type != "cpu" or not t.numel()):
            return  # on a GPU, reading a value forces a synchronisation
        low, high = (t.min().item(), t.max().item()) if isinstance(t, Tensor) else (t, t)
        if not (low > 0 and high <= self.T):
            raise ValueError(f"t is {t}; legal are times above 0 and up to {self.T}")

    def timesteps(self, n: int, spacing: Spacing = "trailing", start: int | None = None) -> Sequence[float]:
        """A strictly decreasing grid of n + 1 times for n moves; the last time is 0.

        Args:
            n: number of moves, 1 to `start`.
            spacing: how the times are chosen. "trailing" takes round(start k / n) for k = n, ..., 0. "leading" takes
                the multiples of start // n, plus 1, then 0; it may begin below start. "linspace" takes n integers
                spaced evenly from start to 1, then 0. "quadratic" takes the real times start (k / n)^2. "karras" takes
                the real times whose sigma is that of Karras et al. (2022), eq. 5 with rho = 7, from sigma(start) to
                sigma(1), then 0. A sigma(start) above 160 counts as 160, as x is noise alone from there up: half of a
                grid from 20,000, where the cosine schedule begins, would lie above it. The names of the first three are
                those of Lin et al. (2024), table 2.
            start: the time at which the walk begins, 1 to T; T if none is given.

        Raises:
            ValueError: an argument is not legal.
        """
        top = self.T if start is None else start
        is_number = isinstance(top, Real) and not isinstance(top, bool)
        if not is_number or not 1 <= top <= self.T or top != int(top):
            raise ValueError(f"start is {start!r}; legal are integers from 1 to T = {self.T}")
        if isinstance(n, bool) or not hasattr(n, "__index__") or not 1 <= n <= top:
            name = "T" if start is None else "start"
            raise ValueError(f"n is {n!r} steps; legal are integers from 1 to {name} = {top}")
        one_of("spacing", spacing, SPACINGS)
        if spacing == "trailing":
            return [round(top * k / n) for k in range(n, -1, -1)]
        if spacing == "leading":
            return [k * (top // n) + 1 for k in reversed(range(n))] + [0]
        if spacing == "linspace":
            return [round(time) for time in np.linspace(top, 1, n)] + [0]
        if spacing == "quadratic":
            return [top * (k / n) ** 2 for k in range(n, -1, -1)]
        highest = min(self.sigma(top), NOISE_ALONE)
        lowest = min(self.sigma(1), highest)
        sigma = np.linspace(highest ** (1 / 7), lowest ** (1 / 7), n) ** 7
        times = [self.sigma_to_t(each) for each in sigma.tolist()]
        return [top, *times[1:], 0]


def check_grid(timesteps: Sequence[float], schedule: NoiseSchedule) -> None:
    """Check that a grid decreases strictly from at most T to exactly 0.

    Raises:
        TypeError: `timesteps` is not a list of numbers.
        ValueError: the times do not decrease strictly, or do not run from at most T to 0.
    """
    if not isinstance(timesteps, Sequence | np.ndarray) or not all(isinstance(t, Real) for t in timesteps):
        raise TypeError(f"timesteps is {type(timesteps).__name__}; it must be a list of numbers")
    if len(timesteps) < 2 or timesteps[-1] != 0 or timesteps[0] > schedule.T:
        raise ValueError(
            f"timesteps run from {timesteps[:1]} to {timesteps[-1:]}; legal is from at most {schedule.T} to 0"
        )
    for t, s in pairwise(timesteps):
        if not t > s:
            raise ValueError(f"timesteps go from {t} to {s}; they must decrease strictly")


def check_start(timesteps: Sequence[float], schedule: NoiseSchedule) -> None:
    """Warn where a grid begins at a time whose states noise alone is not like, as some "leading" grids do."""
    left = schedule.signal(timesteps[0]) ** 2
    if left > 0.01:
        warnings.warn(
            f"timesteps begin at {timesteps[0]:g}, where {left:.0%} of the variance is still the image's: a walk from "
            "noise goes wrong there; take more steps or another spacing",
            stacklevel=3,
        )


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
        ValueError: T is 1, where these two are one time.
    """
    if schedule.T == 1:
        raise ValueError("T is 1; only a schedule of two steps or more can keep its signal at 1 and lose it at T")
    signal = schedule.alpha_bar.sqrt()
    first, last = signal[1], signal[-1]
    shifted = (signal[1:] - last) * (first / (first - last))
    return NoiseSchedule(torch.cat([signal[:1], shifted]).square())


#: The schedules by name.
SCHEDULES: dict[ScheduleName, Callable[[int], NoiseSchedule]] = {
    "linear": linear, "cosine": cosine, "sigmoid": sigmoid
}  # fmt: skip


def _from_alpha_bar(alpha_bar: Callable[[np.ndarray], np.ndarray], T: int) -> NoiseSchedule:
    """The schedule whose alpha_bar is this function of u = t / T, up to scale, with every beta at most 0.999."""
    values = alpha_bar(np.arange(positive_int("T", T) + 1) / T)
    return from_betas(np.minimum(1 - values[1:] / values[:-1], 0.999))


def from_betas(betas: np.ndarray) -> NoiseSchedule:
    """The schedule whose T steps add the variances `betas` (T,), from beta_1 to beta_T (Ho et al. 2020, eq. 2)."""
    return NoiseSchedule(np.concatenate([[1.0], np.cumprod(1 - betas)]))


def _per_image(value: Tensor, t: float | Tensor) -> Tensor:
    in_float64 = isinstance(t, Tensor) and t.dtype == torch.float64
    return value.to(torch.float64 if in_float64 else torch.float32).reshape(-1, 1, 1, 1)
