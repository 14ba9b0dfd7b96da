"""The exercises of the chapters: what a reader writes is called with numbers of its own, and answered at once."""

import re
from collections.abc import Callable

from ddpm.companion.exercises import flows, generative_models, guidance, round_trip, samplers, unet_dimensions
from ddpm.companion.exercises.blank_page import grade_model, said_of_model
from ddpm.companion.exercises.flow_loss import grade_flow_loss, said_of_flow_loss
from ddpm.companion.exercises.from_nothing import bumps_of_the_ring, grade_ddpm, said_of_ddpm, share_on_bumps
from ddpm.companion.exercises.grading import Exercise, Function, mark
from ddpm.companion.exercises.loss_with_labels import grade_loss_with_labels, said_of_loss_with_labels
from ddpm.companion.exercises.two_samplers import grade_samplers, said_of_samplers

__all__ = [
    "EXERCISES", "JUDGES", "Exercise", "bumps_of_the_ring", "grade", "grade_ddpm", "grade_flow_loss",
    "grade_loss_with_labels", "grade_model", "grade_samplers", "graded_in", "mark", "share_on_bumps",
]  # fmt: skip

#: Every exercise that is one function of numbers, by that function's name.
EXERCISES: dict[str, Exercise] = {
    exercise.right.__name__: exercise
    for chapter in (generative_models, unet_dimensions, round_trip, samplers, guidance, flows)
    for exercise in chapter.EXERCISES
}
#: What says of the functions of an exercise of `PRACTICALS` what is wrong, or "right", by the name of its grading.
JUDGES: dict[str, Callable[..., str]] = {
    "grade_ddpm": said_of_ddpm,
    "grade_model": said_of_model,
    "grade_samplers": said_of_samplers,
    "grade_loss_with_labels": said_of_loss_with_labels,
    "grade_flow_loss": said_of_flow_loss,
}


def graded_in(source: str) -> list[str]:
    """The names of the exercises that a chapter's code gives to `grade`, in order.

    Raises:
        ValueError: there is no exercise of a name.
    """
    names: list[str] = re.findall(r"^grade\((\w+)\)$", source, re.MULTILINE)
    if unknown := [name for name in names if name not in EXERCISES]:
        raise ValueError(f"exercise is {unknown[0]!r}, which ddpm.companion.exercises does not have")
    return names


def grade(function: Function, *, seed: int = 0, **own: float) -> None:
    """Tell a student whether a function of an exercise is right, and if not, what it may have overlooked.

    Args:
        function: the student's. Its name says which exercise it is of.
        seed: of the numbers that it is called with.
        own: the argument that a student's own copy fixes, with its number. The function does not take it.

    Raises:
        ValueError: there is no exercise of this name, or it fixes no such argument.
    """
    name = getattr(function, "__name__", None)
    if name not in EXERCISES:
        raise ValueError(f"function is {name or function!r}; legal are {', '.join(EXERCISES)}")
    exercise = EXERCISES[name]
    if wrong := [argument for argument in own if argument != exercise.own]:
        raise ValueError(f"{wrong[0]} is given; a copy of {name} fixes {exercise.own or 'no argument'}")
    print(f"exercise, {name}: {mark(exercise, function, seed, own)}")
