"""What an argument of the mathematics may be: one way to check it, as `ddpm.settings` has one for settings.

>>> float_tensor("x", torch.zeros(2, dtype=torch.float16))
Traceback (most recent call last):
TypeError: x is torch.float16; it must be float32 or float64
"""

from collections.abc import Sequence
from numbers import Real
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

__all__ = [
    "answer_like", "check_finite", "check_real", "check_samples", "check_times", "exact", "float_tensor", "function",
    "instance", "number",
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
    """Numbers as float64 on the CPU, whatever device they are on and whatever torch's defaults are."""
    if isinstance(values, Tensor):
        values = values.cpu()  # some devices have no float64
        if values.is_complex():
            raise TypeError(f"{name} is {values.dtype}; it must be real")
    try:
        return torch.as_tensor(values, dtype=torch.float64, device="cpu")
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


def check_samples(name: str, x: Any, shape: Sequence[int], batch: int | None = None) -> None:
    """Raise `TypeError` or `ValueError` unless x holds samples of this shape, floating point `(batch, *shape)`."""
    if not instance(name, x, Tensor).is_floating_point():
        raise TypeError(f"{name} is {x.dtype}; it must be floating point")
    if not x.ndim or tuple(x.shape[1:]) != tuple(shape) or batch not in (None, len(x)):
        legal = ", ".join(map(str, ("batch" if batch is None else batch, *shape)))
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


def check_finite(name: str, values: Tensor) -> None:
    """Raise `ValueError` if any of the values is NaN or infinite. On a GPU this waits for the device."""
    if not values.isfinite().all():
        raise ValueError(f"{name} hold NaN or infinity; legal are finite values")


def answer_like(name: str, answer: Any, x: Tensor) -> Tensor:
    """`answer`, what the function called `name` makes of x, which must be a tensor of x's shape."""
    if not isinstance(answer, Tensor):
        raise TypeError(f"{name} answers {type(answer).__name__}; it must be a tensor like x")
    if answer.shape != x.shape:
        raise ValueError(f"{name} answers {tuple(answer.shape)} at x of shape {tuple(x.shape)}; they must be alike")
    return answer
