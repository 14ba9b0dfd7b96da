"""Checks of the numbers that a notebook claims, made where they are measured.

A check raises an error if the measurement lies outside its tolerance. It has a rival: what would have been measured if
the claim were false. A rival that passes too raises an error as well, since then the measurement says nothing. What a
check prints can be compared on every machine: nbval takes out the numbers before " (claimed:" and " (must not hold)". A
check also keeps the measurement, for the verdicts and the chapter's last table.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from IPython.display import display

__all__ = [
    "MEASURED", "MIME", "Measurement", "check", "check_exact", "enforce", "enforced", "format_number",
    "read_gpu_memory", "read_record", "record",
]  # fmt: skip

#: The type of a record among a cell's outputs. nbval does not compare it: measured values differ between machines.
MIME = "application/vnd.ddpm.record+json"
#: The type, beside it, of the most memory of a GPU that a notebook used.
GPU_MEMORY = "application/vnd.ddpm.gpu-memory+json"


@dataclass(frozen=True)
class Measurement:
    """One checked number.

    Attributes:
        name: what was measured.
        measured: its value.
        claim: what is claimed of it, in words.
        unit: its unit.
        rivals: the values that it would have if the claim were false, by what each of them is.
        no_rival: why there is none.
    """

    name: str
    measured: float
    claim: str
    unit: str = ""
    rivals: dict[str, float] = field(default_factory=dict)
    no_rival: str = ""

    def __str__(self) -> str:
        return f"{format_number(self.measured)} {self.unit}".rstrip()

    @property
    def against(self) -> str:
        """What the rivals measured, or why there is none; empty where neither is said."""
        return "; ".join(f"{what}: {format_number(value)}" for what, value in self.rivals.items()) or self.no_rival


#: Everything that this process has measured, by name.
MEASURED: dict[str, Measurement] = {}
_enforced = True


def enforce(on: bool) -> None:
    """Set whether a number outside its tolerance raises an error. The smoke tier is too small for any claim."""
    global _enforced
    _enforced = on


def enforced() -> bool:
    """Whether checks raise errors in this tier."""
    return _enforced


def check(
    name: str,
    measured: float,
    reference: float | None = None,
    tolerance: float | None = None,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    unit: str = "",
    rival: Mapping[str, float] | None = None,
    no_rival: str = "",
) -> None:
    """Claim that a measured number is `reference` within `tolerance`, or lies between two bounds.

    Args:
        name: what is measured.
        measured: its value.
        reference: the value that is claimed.
        tolerance: how far the measured value may be off.
        at_least: the least value that is claimed.
        at_most: the largest.
        unit: of all of these numbers.
        rival: what would have been measured if the claim were false, by what it is: {"uniform attention": 0.72}. Each
            is computed where the measurement is.
        no_rival: why the check has none, such as an identity that holds to rounding.

    Raises:
        AssertionError: the measurement lies outside, or a rival inside.
        ValueError: there is neither a reference with a tolerance nor a bound, or both of them; or both a rival and a
            reason for none; or a rival is NaN, which every bound would refuse.
    """
    measured, rivals = float(measured), {what: float(value) for what, value in (rival or {}).items()}
    suffix = f" {unit}" if unit else ""
    low, high, claim = _bounds(name, reference, tolerance, at_least, at_most, suffix)
    _check_rivals(name, rivals, no_rival)
    if _enforced and not low <= measured <= high:
        raise AssertionError(f"{name}: measured {measured:.6g}{suffix}, claimed {claim}")
    for what, value in rivals.items():
        if _enforced and low <= value <= high:
            raise AssertionError(f"{name}: measured {value:.6g} for the rival, {what}, too: claimed {claim}")
    MEASURED[name] = Measurement(name, measured, claim, unit, rivals, no_rival)
    if not _enforced:
        print(f"{name}: {claim}: not checked in this tier")
    elif not rivals:
        print(f"{name}: {claim}: holds")
    else:
        print(f"{name}: {format_number(measured)} (claimed: {claim})")
        for what, value in rivals.items():
            print(f"  {what}: {format_number(value)} (must not hold)")


def _bounds(
    name: str,
    reference: float | None,
    tolerance: float | None,
    at_least: float | None,
    at_most: float | None,
    suffix: str,
) -> tuple[float, float, str]:
    """The least and the largest value that is claimed, and the claim in words."""
    has_reference, has_bound = reference is not None, at_least is not None or at_most is not None
    if (reference is None) != (tolerance is None) or has_reference == has_bound:
        raise ValueError(f"check {name!r} needs either a reference with a tolerance, or bounds")
    if reference is not None and tolerance is not None:
        claim = f"{format_number(reference)} within {format_number(tolerance)}{suffix}"
        return reference - tolerance, reference + tolerance, claim
    bounds = [("at least", at_least), ("at most", at_most)]
    claim = ", ".join(f"{word} {format_number(bound)}" for word, bound in bounds if bound is not None) + suffix
    return -math.inf if at_least is None else at_least, math.inf if at_most is None else at_most, claim


def _check_rivals(name: str, rivals: Mapping[str, float], no_rival: str) -> None:
    if rivals and no_rival:
        raise ValueError(f"check {name!r} has a rival and says why it has none")
    for what, value in rivals.items():
        if math.isnan(value):
            raise ValueError(f"check {name!r}: the rival, {what}, is no number")


def check_exact(name: str, measured: Any, expected: Any) -> None:
    """Claim that something is exactly `expected` (a shape, a count, a list of times), and print it.

    Raises:
        AssertionError: it is something else.
    """
    if measured != expected:
        raise AssertionError(f"{name}: measured {measured!r}, claimed exactly {expected!r}")
    if isinstance(measured, int | float) and not isinstance(measured, bool):
        MEASURED[name] = Measurement(name, float(measured), f"exactly {measured}")
    print(f"{name}: exactly {measured}")


def record() -> None:
    """Show a table of everything measured so far; the output also holds the values, for the claims' ledger.

    Where a GPU was used, it also holds the most memory there, in MiB.
    """
    rows = [f"| {m.name} | {m} | {m.claim} | {m.against} |" for m in MEASURED.values()]
    table = "\n".join(["| what | measured here | claimed | held against |", "| --- | --- | --- | --- |", *rows])
    data: dict[str, Any] = {MIME: [asdict(m) for m in MEASURED.values()], "text/markdown": table, "text/plain": table}
    if torch.cuda.is_initialized():
        data[GPU_MEMORY] = {"MiB": torch.cuda.max_memory_allocated() // 2**20}
    display(data, raw=True)


def read_gpu_memory(notebook: Mapping[str, Any]) -> int | None:
    """The most memory of a GPU that an executed notebook recorded, in MiB; None if it recorded none."""
    memory = _first_output(notebook, GPU_MEMORY)
    return None if memory is None else int(memory["MiB"])


def read_record(notebook: Mapping[str, Any]) -> dict[str, Measurement]:
    """The measurements that an executed notebook recorded, by name; empty if it recorded none."""
    return {entry["name"]: Measurement(**entry) for entry in _first_output(notebook, MIME) or []}


def _first_output(notebook: Mapping[str, Any], kind: str) -> Any:
    """What a notebook's first output of this type holds; None if it has none."""
    outputs = (output.get("data", {}) for cell in notebook["cells"] for output in cell.get("outputs", []))
    return next((data[kind] for data in outputs if kind in data), None)


def format_number(value: float) -> str:
    """A number to at most four digits, in scientific notation only where it is very large or very small."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"
