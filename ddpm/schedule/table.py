"""The forward process q(x_t | x_0) = N(signal(t) x_0, noise(t)^2 I): a schedule is these two functions of a real time.

A `NoiseSchedule` keeps the variance of data whose variance is 1, and is a table of ::

    alpha_bar[t]     share of the clean image's variance left at time t: 1 at t = 0, nearly 0 at t = T
    signal(t)        sqrt(alpha_bar[t])
    noise(t)         sqrt(1 - alpha_bar[t])

(Ho et al. 2020, eq. 4). Between integers `log_alpha_bar` is interpolated linearly; where alpha_bar[T] is 0, the signal
falls to it linearly from time T - 1. `Straight` and `Exploding` are schedules of other functions. At times of equal
noise / signal the states of two schedules differ by a factor alone: with scale^2 = signal^2 + noise^2, x_t / scale is
a state of the schedule alpha_bar = signal^2 / scale^2 (Kingma et al. 2021, section 5.1).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ddpm.arguments import check_real, check_times, exact, float_tensor, instance, number
from ddpm.grids import Spacing, timesteps
from ddpm.shapes import per_sample

__all__ = ["NoiseSchedule", "check_sigma"]

Number = TypeVar("Number", float, Tensor)


class NoiseSchedule:
    """A noise schedule. This class keeps the variance and is given by its table of alpha_bar; `PathSchedule` need not.

    Attributes:
        preserves_variance: whether signal^2 + noise^2 is 1 at every time.
        T: the last time, an integer.
        alpha_bar: the table, float64 (T + 1,); of any schedule signal^2 / (signal^2 + noise^2) at times 0 to T.

    Args:
        alpha_bar: T + 1 values, kept in float64; alpha_bar[0] is 1, the others decrease strictly. All are above 0 but
            the last, which may be 0: no signal is left at T then ("zero terminal SNR", Lin et al. 2024).

    Raises:
        ValueError: the table breaks one of these rules.
    """

    preserves_variance = True

    def __init__(self, alpha_bar: Tensor | Sequence[float] | np.ndarray) -> None:
        table = exact("alpha_bar", alpha_bar)
        if table.ndim != 1 or len(table) < 2:
            raise ValueError(f"alpha_bar has shape {tuple(table.shape)}; it must be a list of at least two values")
        if table[0] != 1:
            raise ValueError(f"alpha_bar[0] is {table[0].item()}; it must be 1 (time 0 is the clean image)")
        for t, (before, value) in enumerate(pairwise(table.tolist()), start=1):
            if not 0 <= value < before:
                raise ValueError(
                    f"alpha_bar[{t}] is {value} after {before}; it must decrease strictly and not fall below 0"
                )
        self.alpha_bar = table
        self.T = len(table) - 1
        self._log_alpha_bar = table.log()
        self._log_alpha_bar_list: list[float] = self._log_alpha_bar.tolist()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(T={self.T}, alpha_bar_T={self.alpha_bar[-1].item():.4g})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and torch.equal(self.alpha_bar, other.alpha_bar)

    def __hash__(self) -> int:
        return hash((type(self), tuple(self._log_alpha_bar_list)))

    def log_alpha_bar(self, t: Number) -> Number:
        """Log of alpha_bar at real times: a float for a float, a tensor (batch,) for times (batch,).

        The tensor is float64 on a CPU. Elsewhere it is float32 unless the times are float64: not every device has that.

        Raises:
            TypeError: t is neither a number nor a tensor.
            ValueError: a time is outside [0, T]. Times on a GPU are not checked.
        """
        t = self._checked(t)
        if isinstance(t, Tensor):
            return self._interpolated(t)
        table, below = self._log_alpha_bar_list, min(int(t), self.T - 1)
        if table[below + 1] == -math.inf:
            return table[below] + 2 * math.log(self.T - t) if t < self.T else -math.inf
        return table[below] + (t - below) * (table[below + 1] - table[below])

    def _checked(self, t: Number) -> Number:
        """A time, or times in the type that they are computed in, which must be in [0, T]."""
        check_real(t)
        if not isinstance(t, Tensor):
            if not 0 <= t <= self.T:
                raise ValueError(f"t is {t}; legal times are 0 to {self.T}")
            return t
        # Skipped on a GPU, where reading a value forces a synchronisation.
        if t.device.type == "cpu" and t.numel() and not (t.min() >= 0 and t.max() <= self.T):
            raise ValueError(f"t runs from {t.min().item()} to {t.max().item()}; legal times are 0 to {self.T}")
        return t.to(torch.float64 if t.device.type == "cpu" or t.dtype == torch.float64 else torch.float32)

    def _interpolated(self, t: Tensor) -> Tensor:
        """Log of alpha_bar at times (batch,), in their type."""
        logs = self._log_alpha_bar.to(t.dtype).to(t.device)
        index = t.long().clamp(0, self.T - 1)
        fraction = t - index
        between = torch.lerp(logs[index], logs[index + 1], fraction)
        if self._log_alpha_bar_list[-1] > -math.inf:
            return between
        return torch.where(index < self.T - 1, between, logs[index] + 2 * torch.log1p(-fraction))

    def signal_and_noise(self, t: Number) -> tuple[Number, Number]:
        """(signal(t), noise(t)): floats for a float, tensors (batch,) for times (batch,)."""
        log = self.log_alpha_bar(t)
        if isinstance(log, Tensor):
            return (log / 2).exp(), (0 - torch.expm1(log)).sqrt()  # 0 - x, as -x is -0.0 at t = 0
        return math.exp(log / 2), math.sqrt(0 - math.expm1(log))

    def scale(self, t: float) -> float:
        """sqrt(signal^2 + noise^2), the standard deviation of x_t for data of variance 1: 1 at every time here."""
        self._checked(t)
        return 1.0

    def signal(self, t: Number) -> Number:
        """What multiplies x_0: a float for a float; (batch, 1, 1, 1) for times (batch,), to multiply images with.

        Samples of any other shape take `coefficients`.
        """
        return _per_image(self.signal_and_noise(t)[0], t)

    def noise(self, t: Number) -> Number:
        """What multiplies eps: a float for a float; (batch, 1, 1, 1) for times (batch,), to multiply images with.

        Samples of any other shape take `coefficients`.
        """
        return _per_image(self.signal_and_noise(t)[1], t)

    def sigma(self, t: float) -> float:
        """noise / signal at a real time: the standard deviation of the noise after x_t is scaled to full contrast.

        It is infinite where no signal is left.
        """
        signal, noise = self.signal_and_noise(t)
        return noise / signal if signal > 0 else math.inf

    def log_snr(self, t: float) -> float:
        """log(signal^2 / noise^2), on which all schedules agree (Kingma et al. 2021): inf at 0, -inf without signal."""
        sigma = self.sigma(t)
        return -2 * math.log(sigma) if sigma > 0 else math.inf

    def angle(self, t: float) -> float:
        """The angle phi with tan phi = noise / signal at a real time: 0 at t = 0, about pi / 2 at T."""
        signal, noise = self.signal_and_noise(t)
        return math.atan2(noise, signal)

    def sigma_to_t(self, sigma: float) -> float:
        """The real time at which noise / signal is `sigma`: the inverse of `sigma`, and T for one above sigma(T)."""
        check_sigma(sigma)
        if self._log_alpha_bar_list[-1] == -math.inf and sigma > self.sigma(self.T - 1):
            return self.T - 1 / math.hypot(1, sigma) / self.signal(self.T - 1)
        # np.interp needs rising abscissae, so time is a function of -log alpha_bar = log(1 + sigma^2) here.
        logs = [-log for log in self._log_alpha_bar_list]
        return float(np.interp(np.log1p(np.square(min(sigma, 1e150))), logs, np.arange(self.T + 1)))

    def log_snr_to_t(self, log_snr: float) -> float:
        """The real time of this log SNR: the inverse of `log_snr`."""
        sigma = math.exp(min(-number("log_snr", log_snr) / 2, 350))  # the square of exp(355) is beyond every float
        return self.sigma_to_t(sigma)

    def beta(self, t: float, s: float) -> float:
        """noise(t)^2 - (signal(t) noise(s) / signal(s))^2: the variance that the step from s up to t adds.

        Where the variance is preserved, that is 1 - alpha_bar[t] / alpha_bar[s], at times between whole ones by
        `log_alpha_bar`, and beta_t where s = t - 1.

        Raises:
            ValueError: s is not below t.
        """
        if not s < t:
            raise ValueError(f"s is {s} and t is {t}; noise is added upward in time, s < t")
        return -math.expm1(self.log_alpha_bar(t) - self.log_alpha_bar(s)) * self.scale(t) ** 2

    def posterior_std(self, t: float, s: float) -> float:
        """Standard deviation of q(x_s | x_t, x_0) for s < t (J. Song et al. 2021, eq. 16 with eta = 1)."""
        return self.noise(s) / self.noise(t) * math.sqrt(self.beta(t, s))

    def add_noise(self, x0: Tensor, t: float | Tensor, eps: Tensor) -> Tensor:
        """x_t = signal(t) x_0 + noise(t) eps in one shot (Ho et al. 2020, eq. 4), in x0's dtype and the shape of both.

        Raises:
            TypeError: x0 is not float32 or float64.
            ValueError: t is neither a number nor one time for each image, or eps has another shape than x0. Only
                the number may differ, where one of the two is 1.
        """
        signal, noise = self.coefficients(t, float_tensor("x0", x0))
        alike = instance("eps", eps, Tensor).ndim == x0.ndim and eps.shape[1:] == x0.shape[1:]
        if not alike or (len(eps) != len(x0) and 1 not in (len(eps), len(x0))):
            raise ValueError(f"eps has shape {tuple(eps.shape)}; it must be x0's, {tuple(x0.shape)}")
        return signal * x0 + noise * eps.to(x0)

    def coefficients(self, t: float | Tensor, x: Tensor) -> tuple[float | Tensor, float | Tensor]:
        """What `signal_and_noise` gives, but that the tensors of times (batch,) multiply x (batch, ...).

        The tensors have x's dtype and device, and as many axes as x.

        Raises:
            TypeError: x is not float32 or float64, or t is neither a number nor a tensor.
            ValueError: t is a tensor of another shape, or a time is outside [0, T].
        """
        float_tensor("x", x)
        check_times(t, x)
        if not isinstance(t, Tensor):
            return self.signal_and_noise(t)
        signal, noise = self.signal_and_noise(t.double() if x.dtype == torch.float64 else t)
        return per_sample(signal, x).to(x), per_sample(noise, x).to(x)

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
        """A grid of n + 1 times from `start`, or from T, down to 0: see `ddpm.grids.timesteps`."""
        return timesteps(self, n, spacing, start)


def check_sigma(sigma: float) -> None:
    """Raise `ValueError` unless sigma, noise / signal, is 0 or more."""
    if not number("sigma", sigma) >= 0:
        raise ValueError(f"sigma is {sigma}; it must be at least 0")


def _per_image(value: Number, t: Number) -> Number:
    """A number as it is; values (batch,) as (batch, 1, 1, 1), float64 where the times are, and else float32."""
    if not isinstance(value, Tensor):
        return value
    return value.to(torch.float64 if t.dtype == torch.float64 else torch.float32).reshape(-1, 1, 1, 1)
