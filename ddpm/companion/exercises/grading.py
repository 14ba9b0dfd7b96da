"""How the function of an exercise is judged: by what it answers at points that nobody knew when it was written."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

__all__ = ["Exercise", "Function", "drawn", "mark"]

Function = Callable[..., float]
Point = tuple[float, ...]


@dataclass(frozen=True)
class Exercise:
    """A function of numbers that a reader writes.

    Attributes:
        right: the function as it should be. The chapter gives it this name and these arguments.
        points: draws three lists of arguments, at which every slip below answers something else than it.
        slips: functions that are often written instead, by the hint that helps.
    """

    right: Function
    points: Callable[[Random], list[Point]]
    slips: Mapping[str, Function]


def drawn(*ranges: tuple[float, float]) -> Callable[[Random], list[Point]]:
    """Three points whose coordinates are drawn from these ranges, to two decimals."""
    return lambda random: [tuple(round(random.uniform(*ends), 2) for ends in ranges) for _ in range(3)]


def mark(exercise: Exercise, function: Function, seed: int) -> str:
    """Whether a function is right at all three points; if not, a hint or the first point at which it is wrong."""
    points = exercise.points(Random(seed))
    answers = []
    for point in points:
        call = _call(exercise, point)
        try:
            answer = function(*point)
            if answer is None:
                return "not written yet"
            answers.append(math.nan if isinstance(answer, complex) else float(answer))
        except Exception as error:  # whatever a student's code runs into
            return f"not yet. {call} raises {type(error).__name__}: {error}"
        if not math.isfinite(answers[-1]):
            return f"not yet. {call} is {answer}, and should be a finite number."

    def agrees(other: Function) -> bool:
        return all(_close(answer, other(*point)) for answer, point in zip(answers, points, strict=True))

    if agrees(exercise.right):
        return "right"
    for hint, slip in exercise.slips.items():
        if agrees(slip):
            return f"not yet. {hint}"
    return f"not yet, and none of the usual slips: {_first_wrong(exercise, points, answers)}"


def _call(exercise: Exercise, point: Point) -> str:
    """How the call at this point is written."""
    return f"{exercise.right.__name__}({', '.join(f'{value:g}' for value in point)})"


def _close(answer: float, other: float) -> bool:
    return math.isclose(answer, other, rel_tol=1e-4, abs_tol=1e-9)


def _first_wrong(exercise: Exercise, points: list[Point], answers: list[float]) -> str:
    for point, answer in zip(points, answers, strict=True):
        right = exercise.right(*point)
        if not _close(answer, right):
            return f"{_call(exercise, point)} is {answer:.4g}, which is too {'large' if answer > right else 'small'}"
    raise AssertionError("the function is right at every point")
