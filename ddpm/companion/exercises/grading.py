"""How the function of an exercise is judged: by what it answers at points that nobody knew when it was written.

A student's own copy fixes an argument of most exercises to a number that is drawn for this student: see `own_numbers`.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from ddpm.companion.answering import answer_of

__all__ = [
    "Answer", "Exercise", "Function", "agrees", "calls_of", "drawn", "judged", "mark", "own_numbers", "points_of",
]  # fmt: skip

Function = Callable[..., float]
Point = tuple[float, ...]
#: What a function answered: see `ddpm.companion.answering.answer_of`.
Answer = float | str | None


@dataclass(frozen=True)
class Exercise:
    """A function of numbers that a reader writes.

    Attributes:
        right: the function as it should be. The chapter gives it this name and these arguments.
        points: draws three lists of arguments, at which every slip below answers something else than it.
        slips: functions that are often written instead, by the hint that helps.
        own: the argument that a student's own copy fixes to a number of its own; None if it fixes none.
    """

    right: Function
    points: Callable[[Random], list[Point]]
    slips: Mapping[str, Function]
    own: str | None = None

    @property
    def arguments(self) -> list[str]:
        """Their names, in order."""
        return list(inspect.signature(self.right).parameters)


def drawn(*ranges: tuple[float, float]) -> Callable[[Random], list[Point]]:
    """Three points whose coordinates are drawn from these ranges, to two decimals."""
    return lambda random: [tuple(round(random.uniform(*ends), 2) for ends in ranges) for _ in range(3)]


def own_numbers(exercise: Exercise, seed: int) -> dict[str, float]:
    """The numbers that the copy of this seed fixes, by the argument's name: one or none."""
    if exercise.own is None:
        return {}
    return {exercise.own: exercise.points(Random(seed))[0][exercise.arguments.index(exercise.own)]}


def points_of(exercise: Exercise, seed: int, fixed: Mapping[str, float]) -> list[Point]:
    """Three lists of all arguments, of which some are fixed."""
    names = exercise.arguments
    return [
        tuple(fixed.get(name, value) for name, value in zip(names, point, strict=True))
        for point in exercise.points(Random(seed))
    ]


def calls_of(exercise: Exercise, seed: int, fixed: Mapping[str, float]) -> list[Point]:
    """Three lists of the arguments that a student's function takes: those that are not fixed."""
    names = exercise.arguments
    return [
        tuple(value for name, value in zip(names, point, strict=True) if name not in fixed)
        for point in points_of(exercise, seed, fixed)
    ]


def mark(exercise: Exercise, function: Function, seed: int, fixed: Mapping[str, float] | None = None) -> str:
    """Whether a function is right at all three points; if not, a hint or the first point at which it is wrong.

    Args:
        exercise: what was asked for.
        function: the student's, of the arguments that are not fixed.
        seed: of the points.
        fixed: the arguments that its copy fixes, by name.
    """
    fixed = fixed or {}
    answers = [answer_of(function, call) for call in calls_of(exercise, seed, fixed)]
    return judged(exercise, answers, seed, fixed)


def judged(exercise: Exercise, answers: Sequence[Answer], seed: int, fixed: Mapping[str, float]) -> str:
    """What is to be said of the answers at the three points: see `mark`."""
    calls, points = calls_of(exercise, seed, fixed), points_of(exercise, seed, fixed)
    numbers = []
    for call, answer in zip(calls, answers, strict=True):
        if answer is None:
            return "not written yet"
        if isinstance(answer, str):
            return f"not yet. {_written(exercise, call, fixed)} {answer}"
        numbers.append(answer)
    if agrees(exercise.right, numbers, points):
        return "right"
    for hint, slip in exercise.slips.items():
        if agrees(slip, numbers, points):
            return f"not yet. {hint}"
    for call, point, number in zip(calls, points, numbers, strict=True):
        right = exercise.right(*point)
        if not _close(number, right):
            size = "large" if number > right else "small"
            said = f"{_written(exercise, call, fixed)} is {number:.4g}, which is too {size}"
            return f"not yet, and none of the usual slips: {said}"
    raise AssertionError("the function is right at every point")


def agrees(function: Function, numbers: Sequence[float], points: Sequence[Point]) -> bool:
    """Whether a function of all arguments has these values at these points."""
    try:
        return all(_close(number, function(*point)) for number, point in zip(numbers, points, strict=True))
    except ArithmeticError:  # a slip has no value everywhere
        return False


def _written(exercise: Exercise, call: Sequence[float], fixed: Mapping[str, float]) -> str:
    """How a call is written, and what its copy fixes."""
    own = "".join(f" with {name} = {value:g}" for name, value in fixed.items())
    return f"{exercise.right.__name__}({', '.join(f'{value:g}' for value in call)}){own}"


def _close(answer: float, other: float) -> bool:
    return math.isclose(answer, other, rel_tol=1e-4, abs_tol=1e-9)
