"""Exact denoisers: distributions whose posterior mean, score and density at every time are known in closed form.

If x0 ~ N(m, s^2) then x_t ~ N(signal m, signal^2 s^2 + noise^2), and a mixture stays a mixture with the same weights.

>>> from ddpm.schedule import linear
>>> mixture = GaussianMixture([1, 1], [[-1.0], [1.0]], 0.1, linear())
>>> float(mixture(torch.zeros(1, 1), 500).x0)  # halfway between two equal bumps
0.0
"""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ddpm.arguments import check_finite, check_labels, check_times, exact, float_tensor, instance, number
from ddpm.denoiser import Conditional, Denoiser
from ddpm.schedule import NoiseSchedule
from ddpm.settings import integers, positive_int
from ddpm.shapes import flat, per_sample
from ddpm.targets import Prediction, prediction_of

__all__ = ["EmpiricalData", "Gaussian", "GaussianMixture", "Oracle"]


class Oracle(Denoiser):
    """A denoiser that knows its distribution: it also gives the score, the density and clean samples, all exactly."""

    @abstractmethod
    def score(self, x: Tensor, t: float | Tensor) -> Tensor:
        """The score, the gradient of log p_t at x (batch, ...), in x's shape."""

    @abstractmethod
    def log_density(self, x: Tensor, t: float | Tensor) -> Tensor:
        """log p_t(x) in nats, (batch,) for x (batch, ...)."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` clean samples (n, ...), drawn on the CPU."""


class GaussianMixture(Oracle, Conditional):
    """A mixture of isotropic Gaussians as a `Denoiser`. Its components are its classes.

    Args:
        weights: (components,), positive; they are normalised to sum to 1.
        means: (components, dimension).
        stds: standard deviations, 0 or more: one for all components, or (components,).
        schedule: the schedule of the forward process.

    Raises:
        ValueError: an argument has another shape or an illegal value.
    """

    def __init__(
        self,
        weights: Tensor | Sequence[float],
        means: Tensor | Sequence[Sequence[float]],
        stds: Tensor | Sequence[float] | float,
        schedule: NoiseSchedule,
    ) -> None:
        self.means, self.weights = exact("means", means), exact("weights", weights)
        if self.means.ndim != 2 or not len(self.means) or self.weights.shape != self.means.shape[:1]:
            raise ValueError(
                f"weights have shape {tuple(self.weights.shape)} and means {tuple(self.means.shape)}; "
                "they must be (components,) and (components, dimension)"
            )
        if not ((self.weights > 0) & self.weights.isfinite()).all():
            raise ValueError(f"weights are {self.weights.tolist()}; all must be above 0 and finite")
        if not self.means.isfinite().all():
            raise ValueError(f"means are {self.means.tolist()}; all must be finite")
        self.weights = self.weights / self.weights.sum()
        self.stds = exact("stds", stds)
        if self.stds.shape not in ((), (1,), self.weights.shape):
            raise ValueError(
                f"stds have shape {tuple(self.stds.shape)}; they must be one number, or one for each of "
                f"the {len(self.weights)} components"
            )
        self.stds = self.stds.expand(len(self.weights))
        if not ((self.stds >= 0) & self.stds.isfinite()).all():
            raise ValueError(f"stds are {self.stds.tolist()}; all must be at least 0 and finite")
        self.classes = tuple(str(label) for label in range(len(self.weights)))
        self._has_points = not (self.stds > 0).all()
        self.schedule = instance("schedule", schedule, NoiseSchedule)
        self.image_shape = (self.means.shape[1],)

    def _components(self, x: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What each component of p_t contributes at x (batch, dimension).

        Returns:
            log_joint: log of the component's weight times its density at x, (batch, components). Where labels are
                given, the labelled component has the weight 1 and the others have none.
            variance: the component's variance at t, (batch or 1, components).
            residual: x minus the component's mean at t, (batch, components, dimension).
            signal: signal(t), (batch or 1, 1).
        """
        if float_tensor("x", x).ndim != 2 or x.shape[1] != self.means.shape[1]:
            raise ValueError(f"x has shape {tuple(x.shape)}; it must be (batch, {self.means.shape[1]})")
        times = _times(t, x)
        if self._has_points and times.device.type == "cpu" and not (times > 0).all():
            raise ValueError(f"t is {t}; at time 0 a component with std 0 has no density")
        signal, noise = (value[:, None].to(x) for value in self.schedule.signal_and_noise(times))
        weights, means, stds = (v.to(x) for v in (self.weights, self.means, self.stds))
        variance = signal**2 * stds**2 + noise**2
        residual = x[:, None] - signal[:, :, None] * means
        exponent = -residual.square().sum(2) / (2 * variance) - x.shape[1] / 2 * torch.log(2 * math.pi * variance)
        log_weights = weights.log()
        if (labels := self.labels_for(x)) is not None:
            is_labelled = torch.arange(len(weights), dtype=torch.int64, device=x.device) == labels[:, None]
            log_weights = torch.zeros_like(exponent).masked_fill(~is_labelled, -math.inf)
        return log_weights + exponent, variance, residual, signal

    def __call__(self, x: Tensor, t: float | Tensor) -> Prediction:
        """The exact posterior means of x0 and eps, given x_t (batch, dimension)."""
        self.schedule.check_time(t)
        noise = self.schedule.coefficients(t, x)[1]
        log_joint, variance, residual, signal = self._components(x, t)
        share = log_joint.softmax(1)[:, :, None]
        gain = (signal * self.stds.to(x) ** 2 / variance)[:, :, None]
        x0 = (share * (self.means.to(x) + gain * residual)).sum(1)
        return Prediction(x0, noise * (share * residual / variance[:, :, None]).sum(1))

    def score(self, x: Tensor, t: float | Tensor) -> Tensor:
        """The score, the gradient of log p_t at x (batch, dimension), in x's shape."""
        log_joint, variance, residual, _ = self._components(x, t)
        return -(log_joint.softmax(1)[:, :, None] * residual / variance[:, :, None]).sum(1)

    def log_density(self, x: Tensor, t: float | Tensor) -> Tensor:
        """log p_t(x) in nats, (batch,) for x (batch, dimension)."""
        return self._components(x, t)[0].logsumexp(1)

    def responsibilities(self, x: Tensor, t: float | Tensor) -> Tensor:
        """p(component given x_t), (batch, components): the exact classifier of noisy points x (batch, dimension)."""
        return self._components(x, t)[0].softmax(1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` clean points (n, dimension), float64; where labels are given, of the labelled components."""
        if self.labels is None:
            chosen = torch.multinomial(self.weights, positive_int("n", n), replacement=True, generator=generator)
        else:
            check_labels(self.labels, positive_int("n", n), len(self.classes) - 1)
            chosen = self.labels.expand(n)
        normal = _randn((n, self.means.shape[1]), generator)
        return self.means[chosen] + self.stds[chosen, None] * normal


class Gaussian(Oracle):
    """N(mean, std^2 I) as a `Denoiser`, for points or images of any shape.

    Args:
        mean: a number, or a tensor of one sample's shape.
        std: standard deviation of every coordinate, above 0.
        schedule: the schedule of the forward process.

    Raises:
        ValueError: the mean is not finite, or `std` is not above 0 and finite.
    """

    def __init__(self, mean: float | Tensor, std: float, schedule: NoiseSchedule) -> None:
        self.std = number("std", std)
        if not 0 < self.std < math.inf:
            raise ValueError(f"std is {std}; it must be above 0 and finite")
        self.mean = exact("mean", mean)
        if not self.mean.isfinite().all():
            raise ValueError(f"mean is {self.mean.tolist()}; it must be finite")
        self.schedule = instance("schedule", schedule, NoiseSchedule)
        self.image_shape = tuple(self.mean.shape) or None  # a number is a mean for samples of any shape

    def __call__(self, x: Tensor, t: float | Tensor) -> Prediction:
        """The exact posterior means of x0 and eps, given x_t (batch, ...)."""
        self.schedule.check_time(t)
        signal, noise = self.schedule.coefficients(t, x)
        score = self.score(x, t)
        return Prediction(self.mean.to(x) - signal * self.std**2 * score, -noise * score)

    def score(self, x: Tensor, t: float | Tensor) -> Tensor:
        """The score, the gradient of log p_t at x (batch, ...), in x's shape."""
        residual, variance = self._residual(x, t)
        return -residual / variance

    def log_density(self, x: Tensor, t: float | Tensor) -> Tensor:
        """log p_t(x) in nats, (batch,) for x (batch, ...)."""
        residual, variance = self._residual(x, t)
        return -flat(residual**2 / variance + torch.log(2 * math.pi * variance)).sum(1) / 2

    def _residual(self, x: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """x minus the mean of x_t, and the variance of x_t."""
        if float_tensor("x", x).shape[1:] != self.mean.shape and self.mean.ndim:
            raise ValueError(f"x has shape {tuple(x.shape)}; the mean's is {tuple(self.mean.shape)}")
        signal, noise = self.schedule.coefficients(t, x)
        variance = torch.as_tensor(signal**2 * self.std**2 + noise**2, dtype=x.dtype, device=x.device)
        return x - signal * self.mean.to(x), variance

    def sample(self, n: int | Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """`n` clean samples, each of the mean's shape, float64; `n` may also be the whole shape (batch, ...)."""
        shape = integers("n", n, at_least=1) if isinstance(n, Sequence) else (positive_int("n", n), *self.mean.shape)
        return self.mean + self.std * _randn(shape, generator)


class EmpiricalData(Oracle):
    """The distribution that gives each of n images the probability 1 / n.

    It is the ideal denoiser of a training set, and it memorises that set. A batch is compared with the images in blocks
    of rows, so that 10,000 against 10,000 images of 32 x 32 stay under 2 GiB.

    Args:
        images: (n, ...), floating point, in [-1, 1]; they are kept on their own device, in float64 if that is a CPU or
            they are float64 already, and else in float32.
        schedule: the schedule of the forward process.

    Raises:
        TypeError: the images are no tensor, or `schedule` is no `NoiseSchedule`.
        ValueError: the images are not floating point and finite, or not of shape (n, ...) with n of at least 1.
    """

    ENTRIES = 2**24  # squared distances in one block

    def __init__(self, images: Tensor, schedule: NoiseSchedule) -> None:
        instance("images", images, Tensor)
        if images.ndim < 2 or not len(images) or not images.is_floating_point():
            raise ValueError(f"images are {images.dtype} of shape {tuple(images.shape)}; they must be floats (n, ...)")
        check_finite("images", images)
        self.image_shape: tuple[int, ...] = tuple(images.shape[1:])
        in_float64 = images.device.type == "cpu" or images.dtype == torch.float64
        self.images = images.flatten(1).to(torch.float64 if in_float64 else torch.float32, copy=True)
        self._squares = self.images.square().sum(1)
        self.schedule = instance("schedule", schedule, NoiseSchedule)

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The device of the images."""
        return self.images.device

    def _logits(self, x: Tensor, t: float | Tensor) -> Iterator[Tensor]:
        """Yields log N(x; signal x_i, noise^2 I) for every x and every image x_i, in blocks (rows, n)."""
        if tuple(float_tensor("x", x).shape[1:]) != self.image_shape:
            raise ValueError(f"x has shape {tuple(x.shape)}; it must be (batch, ...) of images {self.image_shape}")
        self.schedule.check_time(t)
        times = _times(t, x).expand(len(x))
        size = max(1, self.ENTRIES // len(self.images))
        for rows, when in zip(x.flatten(1).split(size), times.split(size), strict=True):
            rows = rows.to(self.images.dtype)
            signal, noise = (per_sample(c, rows).to(rows) for c in self.schedule.signal_and_noise(when))
            constant = rows.shape[1] * torch.log(2 * math.pi * noise**2)
            yield -(self._squared_distances(rows, signal) / noise**2 + constant) / 2

    def _squared_distances(self, rows: Tensor, signal: Tensor) -> Tensor:
        """The squared distance (rows, n) of every row (rows, dimension) to signal (rows, 1) times every image."""
        if self.images.dtype == torch.float64:
            products = rows @ self.images.T
            return rows.square().sum(1, keepdim=True) - 2 * signal * products + signal**2 * self._squares
        # In float32 this difference would lose its digits, so distances are taken, to the images themselves. Where next
        # to no signal is left, one in a million stands for it.
        signal = signal.clamp(min=1e-6)
        exactly = "donot_use_mm_for_euclid_dist"
        return (signal * torch.cdist(rows / signal, self.images, compute_mode=exactly)).square()

    def __call__(self, x: Tensor, t: float | Tensor) -> Prediction:
        """The exact posterior means of x0 and eps, given x_t (batch, ...): near images weigh more in x0."""
        x0 = torch.cat([logits.softmax(1) @ self.images for logits in self._logits(x, t)]).reshape(x.shape)
        prediction = prediction_of("x0", x0, x, *self.schedule.coefficients(t, x))
        return Prediction(x0.to(x.dtype), prediction.eps.to(x.dtype))

    def score(self, x: Tensor, t: float | Tensor) -> Tensor:
        """The score, the gradient of log p_t at x (batch, ...), in x's shape."""
        return -self(x, t).eps / self.schedule.coefficients(t, x)[1]

    def log_density(self, x: Tensor, t: float | Tensor) -> Tensor:
        """log p_t(x) in nats, (batch,), in the precision in which the images are kept."""
        sums = [logits.logsumexp(1) for logits in self._logits(x, t)]
        return torch.cat(sums) - math.log(len(self.images))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` of the images (n, ...) as they are kept, drawn with replacement."""
        chosen = torch.randint(len(self.images), (positive_int("n", n),), generator=generator, device="cpu")
        return self.images[chosen.to(self.device)].reshape(n, *self.image_shape)


def _times(t: float | Tensor, x: Tensor) -> Tensor:
    """Times (1,) or (batch,) for x (batch, ...), float64 on the CPU if t is a number, and where x is float64."""
    check_times(t, x)
    if not isinstance(t, Tensor):
        return exact("t", [t])
    return (t.double() if x.dtype == torch.float64 else t).reshape(-1)


def _randn(shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    return torch.randn(tuple(shape), dtype=torch.float64, device="cpu", generator=generator)
