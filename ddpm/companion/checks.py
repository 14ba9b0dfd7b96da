"""Numbers that a notebook claims, checked where they are measured.

A check prints a line that is the same on every machine, for nbval to compare, and raises where the measurement lies
outside its tolerance. What was measured is kept beside it, for the verdicts and the chapter's last table.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from IPython.display import display

MIME = "application/vnd.ddpm.record+json"  # nbval skips it: measured values differ between machines


@dataclass(frozen=True)
class Measurement:
    """One checked number: what was claimed of it and what was measured."""

    name: str
    measured: float
    claim: str
    unit: str = ""

    def __str__(self) -> str:
        return f"{format_number(self.measured)}{' ' + self.unit if self.unit else ''}"


MEASURED: dict[str, Measurement] = {}
_enforced = True


def enforce(on: bool) -> None:
    """Whether a number outside its tolerance raises; the smoke tier, too small for any claim, turns it off."""
    global _enforced
    _enforced = on


def enforced() -> bool:
    """Whether checks raise in this tier."""
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
) -> None:
    """Claim that a measured number is `reference` within `tolerance`, or lies between two bounds.

    Prints one line that does not depend on the measurement. Raises `AssertionError` outside.
    """
    measured = float(measured)
    suffix = f" {unit}" if unit else ""
    if (reference is None) != (tolerance is None) or (reference is None and at_least is None and at_most is None):
        raise ValueError(f"check {name!r} needs a reference with a tolerance, or a bound")
    if reference is not None and tolerance is not None:
        low, high = reference - tolerance, reference + tolerance
        claim = f"{format_number(reference)} within {format_number(tolerance)}{suffix}"
    else:
        low = -math.inf if at_least is None else at_least
        high = math.inf if at_most is None else at_most
        bounds = [("at least", at_least), ("at most", at_most)]
        claim = ", ".join(f"{word} {format_number(bound)}" for word, bound in bounds if bound is not None) + suffix
    if _enforced and not low <= measured <= high:
        raise AssertionError(f"{name}: measured {measured:.6g}{suffix}, claimed {claim}")
    MEASURED[name] = Measurement(name, measured, claim, unit)
    print(f"{name}: {claim}: {'holds' if _enforced else 'not checked in this tier'}")


def check_exact(name: str, measured: Any, expected: Any) -> None:
    """Claim that something is exactly `expected` (a shape, a count, a list of times), and print it."""
    if measured != expected:
        raise AssertionError(f"{name}: measured {measured!r}, claimed exactly {expected!r}")
    if isinstance(measured, int | float) and not isinstance(measured, bool):
        MEASURED[name] = Measurement(name, float(measured), f"exactly {measured}")
    print(f"{name}: exactly {measured}")


def grade(name: str, answer: float | None, right: float, hints: Mapping[float, str]) -> None:
    """Tell a student at once whether an answer is right, and what a known wrong one has overlooked."""
    if answer is None:
        print(f"exercise, {name}: not written yet")
        return
    for wrong, hint in hints.items():
        if math.isclose(answer, wrong, rel_tol=1e-3):
            print(f"exercise, {name}: not yet. {hint}")
            return
    verdict = "right" if math.isclose(answer, right, rel_tol=1e-3) else "not yet, and none of the usual slips"
    print(f"exercise, {name}: {verdict}")


def record() -> None:
    """Show all that was measured so far as a table, with the values for the claims' ledger beside it."""
    rows = [f"| {m.name} | {m} | {m.claim} |" for m in MEASURED.values()]
    table = "\n".join(["| what | measured here | claimed |", "| --- | --- | --- |", *rows])
    data = {MIME: [asdict(m) for m in MEASURED.values()], "text/markdown": table, "text/plain": table}
    display(data, raw=True)


def read_record(notebook: dict[str, Any]) -> dict[str, Measurement]:
    """The measurements that an executed notebook recorded."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if MIME in output.get("data", {}):
                entries = output["data"][MIME]
                entries = (
                    json.loads("".join(entries))
                    if isinstance(entries, list) and entries and isinstance(entries[0], str)
                    else entries
                )
                return {entry["name"]: Measurement(**entry) for entry in entries}
    return {}


def format_number(value: float) -> str:
    """At most four digits, plainly where that is short."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"
