"""What every denoiser gives, and what one gives that can be told the class of a sample."""

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Self

import torch
from torch import Tensor, nn

from ddpm.arguments import answer_like, check_labels, instance, labels_of
from ddpm.fast import computes_in_bfloat16
from ddpm.schedule import NoiseSchedule
from ddpm.settings import Precision
from ddpm.targets import Prediction

__all__ = ["Conditional", "Denoiser", "answer_of", "schedule_of"]


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
        """x_t (batch, ...) at time t (a number, or a tensor (batch,)) -> x0 and eps of the same shape and dtype."""

    def in_bfloat16(self, device: torch.device) -> bool:
        """Whether its convolutions and matrix products are bfloat16 on this device."""
        return computes_in_bfloat16(self.precision, device)

    def many_calls(self) -> AbstractContextManager[None]:
        """A context for a whole walk, in which many calls may share what each would otherwise do for itself."""
        return nullcontext()

    def of_samples(self, first: int, count: int) -> "Denoiser":
        """The denoiser of samples `first` to `first + count` of many, each with its own label if there are labels."""
        return self


def schedule_of(denoise: Denoiser) -> NoiseSchedule:
    """A denoiser's schedule; `TypeError` where it is no denoiser or has none."""
    must = f"denoise is {type(denoise).__name__}; it must be a ddpm.denoiser.interface.Denoiser"
    if isinstance(denoise, str | os.PathLike):
        raise TypeError(f"{must}: ddpm.load makes one of a name or a folder")
    if isinstance(denoise, nn.Module) and not isinstance(denoise, Denoiser) and not hasattr(denoise, "decode"):
        raise TypeError(f"{must}: ddpm.denoiser.NetworkDenoiser makes one of a network and its schedule")
    schedule = getattr(instance("denoise", denoise, Denoiser), "schedule", None)
    if not isinstance(schedule, NoiseSchedule):
        raise TypeError(
            f"{type(denoise).__name__}.schedule is {type(schedule).__name__}; a denoiser must have a NoiseSchedule, "
            "such as ddpm.schedule.linear()"
        )
    return schedule


def answer_of(denoise: Denoiser, x: Tensor, t: float | Tensor) -> Prediction:
    """What a denoiser answers at (x, t), x0 and eps in x's dtype.

    Raises:
        TypeError: that is no `Prediction` of floating-point tensors.
        ValueError: x0 or eps has another shape than x.
    """
    answer, name = denoise(x, t), type(denoise).__name__
    if not isinstance(answer, Prediction):
        raise TypeError(
            f"{name} answered {type(answer).__name__}; a denoiser must answer with a ddpm.targets.Prediction(x0, eps)"
        )
    x0, eps = (answer_like(f"{name}, for {part},", value, x) for part, value in answer._asdict().items())
    if not (x0.is_floating_point() and eps.is_floating_point()):
        raise TypeError(f"{name} answers x0 of {x0.dtype} and eps of {eps.dtype}; both must be floating point")
    return Prediction(x0.to(x.dtype), eps.to(x.dtype))


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
