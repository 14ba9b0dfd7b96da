"""The interface of every sampler here: a `Denoiser` answers (x, t) with a `Prediction` and carries its schedule."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from ddpm.arguments import answer_like, check_labels, instance, labels_of, number
from ddpm.fast import computes_in_bfloat16, in_walk, prepared
from ddpm.schedule import NoiseSchedule
from ddpm.settings import PRECISIONS, Precision, integers, one_of
from ddpm.targets import TARGETS as TARGETS  # the names that stood here in version 0.1.0
from ddpm.targets import Prediction as Prediction
from ddpm.targets import Target as Target
from ddpm.targets import check_target
from ddpm.targets import prediction_of as prediction_of
from ddpm.targets import target_of as target_of
from ddpm.unet import UNet

__all__ = [
    "Clipped",
    "Conditional",
    "Denoiser",
    "Guided",
    "NetworkDenoiser",
    "Wrapper",
]


class Denoiser(ABC):
    """Anything that denoises: a network, an exact posterior mean, a wrapper around either.

    A subclass needs a `schedule` and `__call__`; the rest has defaults.

    Attributes:
        schedule: the noise schedule of the forward process that it undoes.
        device: where it computes.
        image_shape: shape of one sample, such as (channels, height, width); None where any shape will do.
        precision: "float32", or "auto" for bfloat16 where the device computes it in hardware.
        sixteen_bits: whether its weights were cast to sixteen bits, whatever the precision.
        n_labels: how many labels it was given, one for each sample; None where it takes any number of samples.
        distilled_for: the network calls it was distilled for, moves of DDIM on a "trailing" grid; None if it was not.
    """

    schedule: NoiseSchedule
    device: torch.device = torch.device("cpu")
    image_shape: tuple[int, ...] | None = None
    precision: Precision = "float32"
    sixteen_bits: bool = False
    n_labels: int | None = None
    distilled_for: int | None = None

    @abstractmethod
    def __call__(self, x: Tensor, t: float | Tensor) -> Prediction:
        """x_t (batch, ...) at time t (a number, or a tensor (batch,)) -> x0 and eps of the same shape."""

    def many_calls(self) -> AbstractContextManager[None]:
        """A context for a whole walk, in which many calls may share what each would otherwise do for itself."""
        return nullcontext()

    def of_samples(self, first: int, count: int) -> "Denoiser":
        """The denoiser of samples `first` to `first + count` of many, each with its own label if there are labels."""
        return self


class Conditional(Denoiser):
    """A denoiser that can be told the class of each sample. Untold, it is the denoiser of all classes together.

    Attributes:
        classes: the classes' names; a label is an index into them. Empty for a denoiser without classes.
        labels: int64 (1,) for all samples, or (n,) with one for each; None where no class is told.
    """

    classes: tuple[str, ...] = ()
    labels: Tensor | None = None

    def given(self, labels: int | str | Sequence[int | str] | Tensor | None) -> Self:
        """The denoiser of these classes: of p(x given its label) in place of p(x). It shares all else with this one.

        Args:
            labels: a class for all samples, or one for each, by name or number; None tells no class.

        Raises:
            TypeError: a label is neither a name nor a number.
            ValueError: there is no such class.
        """
        told = copy.copy(self)
        told.labels = None if labels is None else labels_of(labels, self.classes).to(self.device)
        return told

    @property
    def n_labels(self) -> int | None:  # type: ignore[override]
        """How many labels it was given, one for each sample; None where it takes any number of samples."""
        return None if self.labels is None or len(self.labels) == 1 else len(self.labels)

    def of_samples(self, first: int, count: int) -> Self:
        """The denoiser of samples `first` to `first + count`; those beyond the last label take that one."""
        if self.labels is None or self.n_labels is None:
            return self
        rows = torch.arange(first, first + count, dtype=torch.int64, device=self.labels.device)
        part = copy.copy(self)
        part.labels = self.labels[rows.clamp(max=self.n_labels - 1)]
        return part

    def labels_for(self, x: Tensor) -> Tensor | None:
        """The labels (batch,) of the samples x (batch, ...), on its device; None where no class is told."""
        if self.labels is None:
            return None
        check_labels(self.labels, len(x), len(self.classes) - 1)
        return self.labels.to(x.device).expand(len(x))


class NetworkDenoiser(Conditional):
    """A trained network as a `Denoiser`.

    Below time 1, where no network is trained, the density is taken to be as smooth as at time 1: there
    x / signal(t) has the score that the network sees in it at time 1. So eps and the step to x0 shrink to nothing as t
    goes to 0, whatever the target. Where the data's density is smooth over a width of sigma(1), this is right to second
    order in that width; finer detail, such as an image's grey levels, is not seen.

    Args:
        network: called with images and times t - 1 (batch,), diffusers' index; answers the target. One that was cast to
            another floating-point type computes in that.
        schedule: the schedule it was trained on.
        target: its prediction target: "eps", "x0", "v" or "flow".
        precision: of a network in float32: "float32", or "auto" for bfloat16 where this device computes it in hardware.
        image_shape: (channels, height, width) it was trained on, for those who sample from it.
        classes: names of the classes that it was trained with. Once `given` has told one, the network is called with
            labels (batch,), too.

    Raises:
        TypeError: `network` is no torch module, or `schedule` no `NoiseSchedule`.
        ValueError: another argument is not legal.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: NoiseSchedule,
        target: Target = "eps",
        precision: Precision = "float32",
        image_shape: tuple[int, int, int] | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        instance("network", network, nn.Module)
        self.classes = tuple(classes)
        self.schedule = instance("schedule", schedule, NoiseSchedule)
        self.target = check_target(target, schedule)
        self.precision = one_of("precision", precision, PRECISIONS)
        self.image_shape = None if image_shape is None else integers("image_shape", image_shape, at_least=1)
        if isinstance(network, UNet) and len(self.classes) != (network.config.classes or 0):
            raise ValueError(
                f"classes are {self.classes}; the network was made for {network.config.classes or 0} classes"
            )
        self.network = network.eval()

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where the network's weights are; the CPU if it has none."""
        weight = next(self.network.parameters(), None)
        return torch.device("cpu") if weight is None else weight.device

    @property
    def sixteen_bits(self) -> bool:  # type: ignore[override]
        """Whether the network was cast to sixteen bits."""
        return any(weight.dtype in (torch.float16, torch.bfloat16) for weight in self.network.parameters())

    def many_calls(self) -> AbstractContextManager[None]:
        """A context for a whole walk: weights become bfloat16 once, and a GPU's kernels are recorded once."""
        device = self.device
        in_bfloat16 = computes_in_bfloat16(self.precision, device)
        return prepared(self.network, in_bfloat16) if in_bfloat16 or device.type == "cuda" else nullcontext()

    def __call__(self, x: Tensor, t: float | Tensor) -> Prediction:
        self.schedule.check_time(t)
        if not isinstance(t, Tensor):
            return self._at(x, t) if t >= 1 else self._carried_down(x, t, 1)[1]
        if not t.is_floating_point():
            return self._at(x, t)
        at_t, below = self._carried_down(x, t.clamp(max=1), t.clamp(min=1))
        is_below = (t < 1).reshape(-1, *[1] * (x.ndim - 1))
        return Prediction(*(torch.where(is_below, b, a) for a, b in zip(at_t, below, strict=True)))

    def _at(self, x: Tensor, t: float | Tensor) -> Prediction:
        """What the network sees in x_t at times from 1 up."""
        signal, noise = self.schedule.coefficients(t, x)
        if isinstance(t, Tensor):
            times = t.to(x.device, torch.float32).expand(len(x))
        else:
            times = torch.full((len(x),), float(t), dtype=torch.float32, device=x.device)
        dtype = next(self.network.parameters(), x).dtype
        in_bfloat16 = dtype == torch.float32 and computes_in_bfloat16(self.precision, x.device)
        network = in_walk(self.network, in_bfloat16)
        with torch.autocast(x.device.type, torch.bfloat16) if in_bfloat16 else nullcontext():
            labels = self.labels_for(x)
            output = network(x.to(dtype), times - 1, *(() if labels is None else (labels,)))
        return prediction_of(self.target, answer_like("network", output, x).to(x.dtype), x, signal, noise)

    def _carried_down(self, x: Tensor, t: float | Tensor, lowest: float | Tensor) -> tuple[Prediction, Prediction]:
        """What the network sees, at times from 1 up, in x_t scaled to time 1; and what that says of x_t at t <= 1."""
        signal, noise = self.schedule.coefficients(t, x)
        signal_1, sigma_1 = self.schedule.signal(1), self.schedule.sigma(1)
        at_1 = self._at(x * (signal_1 / signal), lowest)
        eps = noise / signal / sigma_1 * at_1.eps  # the score of x / signal is -eps / sigma
        return at_1, prediction_of("eps", eps, x, signal, noise)


class Wrapper(Denoiser):
    """A denoiser around another one. It passes on what that one declares; a subclass says what it changes.

    Args:
        denoise: the denoiser inside.
    """

    def __init__(self, denoise: Denoiser) -> None:
        self.denoise = instance("denoise", denoise, Denoiser)
        self.schedule = denoise.schedule
        self.image_shape = denoise.image_shape
        self.distilled_for = denoise.distilled_for

    @property
    def precision(self) -> Precision:  # type: ignore[override]
        """The precision of the denoiser inside."""
        return self.denoise.precision

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
        x0 = self.denoise(x, t).x0.clamp(self.low, self.high)
        return prediction_of("x0", x0, x, *self.schedule.coefficients(t, x))


class Guided(Wrapper):
    """A denoiser pushed away from the prediction of a less informed one.

    Answers `weight` times the denoiser's x0 and eps less `weight` - 1 times the guide's. With
    `Guided(model.given(label), model.given(None), weight)` this is classifier-free guidance (Ho & Salimans 2022, eq. 6,
    whose w is `weight` - 1 here); with a model that was trained less it is autoguidance (Karras et al. 2024). A call
    makes two network calls; at a time outside the interval, given as a number, it makes one.

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
        if guide.schedule != denoise.schedule:
            raise ValueError(f"guide has the schedule {guide.schedule}; it must be the denoiser's, {denoise.schedule}")
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
        better = self.denoise(x, t)
        push = self._push(x, t)
        if isinstance(push, float) and push == 0:
            return better
        worse = self.guide(x, t)
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


def _interval(interval: Any) -> tuple[float, float]:
    """Two sigmas, the lower one first; the higher one may be infinite."""
    if not isinstance(interval, list | tuple) or len(interval) != 2:
        raise ValueError(f"interval is {interval!r}; it must be (low, high), two values of sigma")
    low, high = (number("interval", end) for end in interval)
    if not 0 <= low < high:
        raise ValueError(f"interval is {interval!r}; it must be two values of sigma from 0 up, the lower one first")
    return low, high
