"""What a setting may be: the choices that have names, and one way to check a value.

Every configuration checks its values by these functions, so that a wrong one is refused in the same words everywhere:
one line with the name, the value and what is legal. This module imports no torch, so that the command line can list
every option at once.

>>> one_of("target", "noise", ("eps", "x0", "v"))
Traceback (most recent call last):
ValueError: target is 'noise'; legal are eps, x0, v
"""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin

__all__ = [
    "OPTIMISERS", "PRECISIONS", "SPACINGS", "TARGETS", "Optimiser", "Precision", "SamplerName", "ScheduleName",
    "Spacing", "Target", "check", "check_choices", "flag", "integers", "non_negative_int", "one_of", "positive_int",
    "real", "seed_number", "threads_number",
]  # fmt: skip

Precision = Literal["auto", "float32"]
Target = Literal["eps", "x0", "v", "flow"]
ScheduleName = Literal["linear", "cosine", "sigmoid", "linear_zero_snr", "straight"]
Spacing = Literal["trailing", "leading", "linspace", "quadratic", "karras", "log_snr"]
SamplerName = Literal[
    "ancestral",
    "ddim",
    "heun",
    "dpm_solver_pp",
    "annealed_langevin",
    "predictor_corrector",
    "flow_and_langevin",
]
Optimiser = Literal["adamw", "adam", "sgd", "rmsprop", "muon"]

#: Legal values of `precision`. "auto" is bfloat16 where the device computes it in hardware, else float32.
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
#: More threads than any machine's cores; torch ends a process that asks for many times as many.
MOST_THREADS = 4096
#: Prediction targets of a network.
TARGETS: tuple[Target, ...] = get_args(Target)
#: How a grid of times may be spaced.
SPACINGS: tuple[Spacing, ...] = get_args(Spacing)
#: The optimisers by name.
OPTIMISERS: tuple[Optimiser, ...] = get_args(Optimiser)


def check(config: Any, rule: Callable[..., Any], *names: str, **limits: Any) -> None:
    """Check attributes of a frozen configuration, and store what the rule makes of them.

    A rule turns numpy's numbers and JSON's lists into Python's numbers and tuples.

    Args:
        config: the configuration.
        rule: one of the functions below.
        names: the attributes to check.
        limits: further arguments of the rule.

    Raises:
        ValueError: an attribute is not legal.
    """
    for name in names:
        object.__setattr__(config, name, rule(name, getattr(config, name), **limits))


def check_choices(config: Any) -> None:
    """Check every attribute that is annotated as a `Literal`: only its values are legal.

    Raises:
        ValueError: an attribute has another value.
    """
    for field in fields(config):
        if get_origin(field.type) is Literal:
            one_of(field.name, getattr(config, field.name), get_args(field.type))


def one_of(name: str, value: Any, legal: Sequence[str]) -> Any:
    """`value`, which must be one of the `legal` names."""
    if not isinstance(value, str) or value not in legal:
        raise ValueError(f"{name} is {value!r}; legal are {', '.join(legal)}")
    return value


def flag(name: str, value: Any) -> bool:
    """`value`, Python's or numpy's, which must be True or False."""
    plain = value.item() if getattr(value, "shape", None) == () else value
    if not isinstance(plain, bool):
        raise ValueError(f"{name} is {value!r}; legal are True, False")
    return plain


def positive_int(name: str, value: Any) -> int:
    """`value` as an int; it must be an integer from 1 up."""
    if not _is_integer(value) or operator.index(value) < 1:
        raise ValueError(f"{name} is {value!r}; it must be an integer from 1 up")
    return operator.index(value)


def non_negative_int(name: str, value: Any) -> int:
    """`value` as an int; it must be an integer from 0 up."""
    if not _is_integer(value) or operator.index(value) < 0:
        raise ValueError(f"{name} is {value!r}; it must be an integer from 0 up")
    return operator.index(value)


def seed_number(name: str, value: Any) -> int:
    """`value` as an int; it must be an integer from 0 up and, as torch's generators ask, below 2**64."""
    seed = non_negative_int(name, value)
    if seed >= 2**64:
        raise ValueError(f"{name} is {seed}; it must be below 2**64, as torch's generators ask")
    return seed


def threads_number(name: str, value: Any) -> int:
    """`value` as an int; it must be a number of threads, from 1 to 4,096: a process of many more is killed."""
    threads = positive_int(name, value)
    if threads > MOST_THREADS:
        raise ValueError(f"{name} is {threads}; it must be an integer from 1 to {MOST_THREADS:,}")
    return threads


def integers(name: str, value: Any, *, at_least: int, unordered: bool = False) -> tuple[int, ...]:
    """`value` as a tuple; it must be a list or tuple (or a set, if `unordered`) of integers from `at_least` up."""
    listed = isinstance(value, list | tuple) or (unordered and isinstance(value, set | frozenset))
    if not listed or not all(_is_integer(item) and operator.index(item) >= at_least for item in value):
        raise ValueError(f"{name} is {value!r}; it must be a list of integers from {at_least} up")
    numbers = [operator.index(item) for item in value]
    return tuple(sorted(numbers) if isinstance(value, set | frozenset) else numbers)


def real(
    name: str,
    value: Any,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> float:
    """`value` as a Python number; it must be finite and within the limits."""
    if isinstance(value, bool) or not isinstance(value, Real) or not _within(value, at_least, above, at_most, below):
        limits = {"at least": at_least, "above": above, "at most": at_most, "below": below}
        words = [f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit)]
        raise ValueError(f"{name} is {value!r}; it must be a finite number {' and '.join(words)}".rstrip())
    return int(value) if isinstance(value, Integral) else float(value)


def _is_integer(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool)


def _within(value: Any, at_least: float, above: float, at_most: float, below: float) -> bool:
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False
    return finite and at_least <= value <= at_most and above < value < below
