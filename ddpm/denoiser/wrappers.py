"""Denoisers around other denoisers: one whose x0 is clipped, and one that is guided away from a lesser one."""

import copy
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Self, cast

import torch
from torch import Tensor

from ddpm.arguments import instance, number
from ddpm.denoiser.interface import Denoiser, answer_of, schedule_of
from ddpm.schedule import NoiseSchedule
from ddpm.settings import Precision
from ddpm.targets import Prediction, prediction_of

__all__ = ["Clipped", "Guided", "Wrapper"]


class Wrapper(Denoiser):
    """A denoiser around another one. It passes on what that one declares; a subclass says what it changes.

    Args:
        denoise: the denoiser inside.
    """

    def __init__(self, denoise: Denoiser) -> None:
        self.schedule = schedule_of(denoise)
        self.denoise = denoise
        self.image_shape = denoise.image_shape
        self.distilled_for = denoise.distilled_for

    @property
    def precision(self) -> Precision:  # type: ignore[override]
        """The precision of the denoiser inside."""
        return self.denoise.precision

    def in_bfloat16(self, device: torch.device) -> bool:
        """Whether the denoiser inside computes in bfloat16 on this device."""
        return self.denoise.in_bfloat16(device)

    @property
    def sixteen_bits(self) -> bool:  # type: ignore[override]
        """Whether the denoiser inside was cast to sixteen bits."""
        return self.denoise.sixteen_bits

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where the denoiser inside computes."""
        return self.denoise.device

    @property
    def n_labels(self) -> int | None:  # type: ignore[override]
        """How many labels the denoiser inside was given."""
        return self.denoise.n_labels

    def of_samples(self, first: int, count: int) -> Self:
        """The same around the denoiser of these samples."""
        if self.n_labels is None:
            return self
        part = copy.copy(self)
        part.denoise = self.denoise.of_samples(first, count)
        return part

    def many_calls(self) -> AbstractContextManager[None]:
        """A context for a whole walk, of the denoiser inside."""
        return self.denoise.many_calls()

    def __call__(self, x: Tensor, t: float | Tensor) -> Prediction:
        return self.denoise(x, t)


class Clipped(Wrapper):
    """A denoiser whose x0 is clipped to [low, high] and whose eps is made to agree with it."""

    def __init__(self, denoise: Denoiser, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__(denoise)
        self.low, self.high = number("low", low), number("high", high)
        if not self.low < self.high:
            raise ValueError(f"low is {low} and high is {high}; low must be below high")

    def __call__(self, x: Tensor, t: float | Tensor) -> Prediction:
        self.schedule.check_time(t)
        x0 = answer_of(self.denoise, x, t).x0.clamp(self.low, self.high)
        return prediction_of("x0", x0, x, *self.schedule.coefficients(t, x))


class Guided(Wrapper):
    """A denoiser pushed away from the prediction of a less informed one.

    Answers `weight` times the denoiser's x0 and eps less `weight` - 1 times the guide's. With
    `Guided(model.given(label), model.given(None), weight)` this is classifier-free guidance (Ho & Salimans 2022, eq. 6,
    whose w is `weight` - 1 here); with a model that was trained less it is autoguidance (Karras et al. 2024). A call
    makes two network calls. It makes one at weight 1, and at a time outside the interval that is given as a number.

    Args:
        denoise: the better denoiser.
        guide: a less informed one of the same data on the same schedule.
        weight: 1 is the better denoiser alone; more pushes further.
        interval: (low, high) guides only where low <= sigma <= high, sigma being noise / signal (Kynkäänniemi et al.
            2024); by default everywhere.
    """

    def __init__(
        self, denoise: Denoiser, guide: Denoiser, weight: float, interval: tuple[float, float] | None = None
    ) -> None:
        super().__init__(denoise)
        self.interval = None if interval is None else _interval(interval)
        self.guide = instance("guide", guide, Denoiser)
        self.weight = number("weight", weight)
        if not 1 <= self.weight < math.inf:
            raise ValueError(f"weight is {weight}; it must be finite and at least 1")
        if not _alike(schedule_of(guide), denoise.schedule):
            raise ValueError(f"guide has the schedule {guide.schedule}; it must be the denoiser's, {denoise.schedule}")
        if guide.distilled_for != denoise.distilled_for:
            raise ValueError(
                f"guide is {_student(guide)} and the denoiser {_student(denoise)}; they answer alike only where both "
                "were distilled for as many moves, or neither was"
            )
        labels = denoise.n_labels, guide.n_labels
        if None not in labels and labels[0] != labels[1]:
            raise ValueError(f"guide was given {labels[1]} labels; they must be as many as the denoiser's, {labels[0]}")
        shapes = denoise.image_shape, guide.image_shape
        if None not in shapes and shapes[0] != shapes[1]:
            raise ValueError(f"guide draws images of shape {shapes[1]}; they must be the denoiser's, {shapes[0]}")

    @property
    def precision(self) -> Precision:  # type: ignore[override]
        """The coarser precision of the two."""
        return "auto" if self.guide.precision == "auto" else self.denoise.precision

    def in_bfloat16(self, device: torch.device) -> bool:
        """Whether one of the two computes in bfloat16 on this device."""
        return self.denoise.in_bfloat16(device) or self.guide.in_bfloat16(device)

    @property
    def sixteen_bits(self) -> bool:  # type: ignore[override]
        """Whether one of the two was cast to sixteen bits."""
        return self.denoise.sixteen_bits or self.guide.sixteen_bits

    @contextmanager
    def many_calls(self) -> Iterator[None]:
        """A context for a whole walk, of both denoisers."""
        with self.denoise.many_calls(), self.guide.many_calls():
            yield

    @property
    def n_labels(self) -> int | None:  # type: ignore[override]
        """How many labels one of the two was given."""
        return self.guide.n_labels if self.denoise.n_labels is None else self.denoise.n_labels

    def of_samples(self, first: int, count: int) -> Self:
        """The same around both denoisers of these samples."""
        part = super().of_samples(first, count)
        if part is not self:
            part.guide = self.guide.of_samples(first, count)
        return part

    def __call__(self, x: Tensor, t: float | Tensor) -> Prediction:
        better = answer_of(self.denoise, x, t)
        push = self._push(x, t)
        if isinstance(push, float) and push == 0:
            return better
        worse = answer_of(self.guide, x, t)
        return Prediction(*(b + push * (b - w) for b, w in zip(better, worse, strict=True)))

    def _push(self, x: Tensor, t: float | Tensor) -> float | Tensor:
        """The weight less 1 within the interval, and 0 outside it; for several times a tensor that multiplies x."""
        push = float(self.weight - 1)
        if self.interval is None:
            return push
        low, high = self.interval
        if not isinstance(t, Tensor):
            return push if low <= self.schedule.sigma(t) <= high else 0.0
        signal, noise = self.schedule.coefficients(t, x)
        sigma = noise / signal
        inside = cast(Tensor, (low <= sigma) & (sigma <= high))
        return push * inside.to(x)


def _alike(a: NoiseSchedule, b: NoiseSchedule) -> bool:
    """Whether two schedules are the same up to rounding, as one that was read back from its betas is."""
    return type(a) is type(b) and a.T == b.T and torch.allclose(a.alpha_bar, b.alpha_bar, rtol=1e-9, atol=1e-15)


def _student(denoise: Denoiser) -> str:
    """Whether a denoiser is a student, in words."""
    return "no student" if denoise.distilled_for is None else f"a student of {denoise.distilled_for} moves"


def _interval(interval: Any) -> tuple[float, float]:
    """Two sigmas, the lower one first; the higher one may be infinite."""
    if not isinstance(interval, list | tuple) or len(interval) != 2:
        raise ValueError(f"interval is {interval!r}; it must be (low, high), two values of sigma")
    low, high = (number("interval", end) for end in interval)
    if not 0 <= low < high:
        raise ValueError(f"interval is {interval!r}; it must be two values of sigma from 0 up, the lower one first")
    return low, high
