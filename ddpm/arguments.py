"""What an argument of the mathematics may be: one way to check it, as `ddpm.settings` has one for settings.

>>> float_tensor("x", torch.zeros(2, dtype=torch.float16))
Traceback (most recent call last):
TypeError: x is torch.float16; it must be float32 or float64
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

__all__ = [
    "answer_like", "check_finite", "check_labels", "check_real", "check_samples", "check_times", "class_names", "exact",
    "float_tensor", "function", "instance", "labels_of", "number",
]  # fmt: skip

Value = TypeVar("Value")


def instance(name: str, value: Value, kind: type[Any]) -> Value:
    """`value`, which must be of this class."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {type(value).__name__}; it must be a {kind.__module__}.{kind.__qualname__}")
    return value


def function(name: str, value: Value) -> Value:
    """`value`, which must be a function or another callable."""
    if not callable(value):
        raise TypeError(f"{name} is {type(value).__name__}; it must be a function")
    return value


def number(name: str, value: Any) -> float:
    """`value`, which must be a real number, also one of numpy or in a tensor; it may be NaN or infinite."""
    if isinstance(value, Tensor) and not value.ndim:
        value = value.item()
    if not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}; it must be a number")
    return cast(float, value)


def exact(name: str, values: Any) -> Tensor:
    """A copy of numbers as float64 on the CPU, whatever device they are on and whatever torch's defaults are."""
    if isinstance(values, Tensor):
        values = values.cpu()  # some devices have no float64
        if values.is_complex():
            raise TypeError(f"{name} is {values.dtype}; it must be real")
    try:
        return torch.as_tensor(values, dtype=torch.float64, device="cpu").clone()  # whoever has them may change them
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} is {values!r}; it must be a number, or numbers in rows of one length") from error


def float_tensor(name: str, value: Any) -> Tensor:
    """`value`, which must be a tensor (batch, ...) of float32 or float64.

    Sixteen bits are too few for the state of a walk: twenty steps in bfloat16 are off by 0.18 in every pixel.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} is {type(value).__name__}; it must be a tensor of float32 or float64")
    if value.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} is {value.dtype}; it must be float32 or float64")
    if not value.ndim:
        raise ValueError(f"{name} has shape (); it must be (batch, ...)")
    return value


def check_samples(name: str, x: Any, shape: Sequence[int] | None = None, batch: int | None = None) -> None:
    """Raise `TypeError` or `ValueError` unless x holds samples of this shape, or of any: floating `(batch, *shape)`."""
    instance(name, x, Tensor)
    if not x.is_floating_point():
        raise TypeError(f"{name} is {x.dtype}; it must be floating point")
    if not x.ndim or (shape is not None and tuple(x.shape[1:]) != tuple(shape)) or batch not in (None, len(x)):
        others = ("...",) if shape is None else shape
        legal = ", ".join(map(str, ("batch" if batch is None else batch, *others)))
        raise ValueError(f"{name} has shape {tuple(x.shape)}; it must be ({legal})")


def check_real(t: float | Tensor) -> None:
    """Raise `TypeError` unless t is a real number, or a tensor of them."""
    if not isinstance(t, Tensor):
        number("t", t)
    elif t.is_complex() or t.dtype == torch.bool:
        raise TypeError(f"t is {t.dtype}; it must be a number, or a tensor of them")


def check_times(t: float | Tensor, x: Tensor) -> None:
    """Raise `TypeError` or `ValueError` unless t is a number, or a tensor with one for each image of x (batch, ...)."""
    check_real(t)
    if isinstance(t, Tensor) and t.shape not in ((), (1,), x.shape[:1]):
        raise ValueError(f"t has shape {tuple(t.shape)}; it must be a number, or a time for each image, ({len(x)},)")


def class_names(classes: Any) -> tuple[str, ...]:
    """The names of classes, as a tuple; `TypeError` where they are no names, or one text, whose letters are none."""
    names = tuple(classes) if isinstance(classes, Iterable) and not isinstance(classes, str) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise TypeError(f"classes is {classes!r}; it must be a sequence of names")
    return names


def labels_of(labels: Any, classes: Sequence[str]) -> Tensor:
    """Labels, int64 (n,) on the CPU, of classes that are given by their names or numbers.

    Args:
        labels: a class, or several: a list of them, or an integer tensor or array (n,).
        classes: the names of all classes.

    Raises:
        TypeError: what is given is neither a name nor a number, nor several of them.
        ValueError: there are no classes, or no class of this name or number; the message has the nearest name.
    """
    if not classes:
        raise ValueError(f"labels are {labels!r}; this denoiser was made without classes and takes none")
    if hasattr(labels, "tolist"):  # of torch or numpy
        labels = labels.tolist()
    several = labels if isinstance(labels, Sequence) and not isinstance(labels, str) else [labels]
    if not several:
        raise ValueError("labels are empty; there must be one for all samples, or one for each")
    return torch.tensor([_label(label, classes) for label in several], dtype=torch.int64, device="cpu")


def _label(label: Any, classes: Sequence[str]) -> int:
    """The number of a class that is given by its name, in any case, or by its number."""
    if isinstance(label, str):
        if label in classes:
            return list(classes).index(label)
        by_name = {name.lower(): number for number, name in enumerate(classes)}
        if label.lower() in by_name:
            return by_name[label.lower()]
        near = get_close_matches(label.lower(), by_name, n=1, cutoff=0.4)
        hint = f"; did you mean {classes[by_name[near[0]]]!r}?" if near else ""
        raise ValueError(f"class is {label!r}; legal are {', '.join(classes)}{hint}")
    if isinstance(label, bool) or not isinstance(label, Integral):
        raise TypeError(f"class is {label!r}; it must be a class's name or number")
    if int(label) not in range(len(classes)):
        raise ValueError(f"class is {label}; legal are 0 to {len(classes) - 1}")
    return int(label)


def check_labels(labels: Tensor, batch: int, highest: int) -> None:
    """Raise `TypeError` or `ValueError` unless these are integers from 0 to `highest`: one for all, or for each sample.

    Labels on a GPU, or of a network that is being compiled, are not read.
    """
    if instance("labels", labels, Tensor).dtype not in (torch.int32, torch.int64):
        raise TypeError(f"labels are {labels.dtype}; they must be integers")
    if labels.shape not in ((1,), (batch,)):
        raise ValueError(f"labels have shape {tuple(labels.shape)}; it must be one for each sample, ({batch},)")
    if labels.device.type != "cpu" or torch.compiler.is_compiling():
        return
    if len(labels) and not 0 <= labels.min() <= labels.max() <= highest:
        raise ValueError(f"labels are {labels.tolist()}; legal are 0 to {highest}")


def check_finite(name: str, values: Tensor) -> None:
    """Raise `ValueError` if any of the values is NaN or infinite. On a GPU this waits for the device."""
    if not values.isfinite().all():
        raise ValueError(f"{name} hold NaN or infinity; legal are finite values")


def answer_like(name: str, answer: Any, x: Tensor) -> Tensor:
    """`answer`, what the function called `name` makes of x, which must be a tensor of x's shape."""
    if not isinstance(answer, Tensor):
        is_of_diffusers = isinstance(getattr(answer, "sample", None), Tensor)
        instead = ", such as its .sample; ddpm.from_diffusers takes a whole pipeline" if is_of_diffusers else ""
        raise TypeError(f"{name} answers {type(answer).__name__}; it must be a tensor like x{instead}")
    if answer.shape != x.shape:
        raise ValueError(f"{name} answers {tuple(answer.shape)} at x of shape {tuple(x.shape)}; they must be alike")
    return answer
