"""The marks of a class: what a hand-in is worth, the report that its student is given, and the table of all.

Whatever text comes from a hand-in is made harmless before it is written.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ddpm.companion.exercises import EXERCISES
from ddpm.companion.exercises.grading import agrees, own_numbers, points_of
from ddpm.companion.hand_in import seed_of

__all__ = ["TITLES", "Marked", "Result", "check_weights", "plain", "report", "table", "weights_of", "with_remarks"]

#: What the table and the reports call the exercises that are more than a function of numbers.
TITLES = {
    "grade_ddpm": "three_parts",
    "grade_model": "empty_page",
    "grade_samplers": "two_samplers",
    "grade_loss_with_labels": "loss_with_labels",
    "grade_flow_loss": "flow_loss",
}


@dataclass(frozen=True)
class Result:
    """An exercise's mark, 1 or 0, what there is to say of it, and what its function answered at its own points."""

    chapter: str
    exercise: str
    mark: int
    said: str
    numbers: list[float] | None = None


@dataclass(frozen=True)
class Marked:
    """What one hand-in is worth.

    Attributes:
        student: whose copies they are, as these say; None if they were made without --student.
        file: the name of the zip; where several have one name, after that of its folder.
        sha256: of the zip and of all that it was marked by: with the same one nothing is marked again.
        results: of every exercise.
        remarks: what a teacher should look at.
        notes: what its student should know, too: they are in the report.
    """

    student: str | None
    file: str
    sha256: str
    results: list[Result]
    remarks: list[str]
    notes: list[str]


def weights_of(pairs: Sequence[str]) -> dict[str, float]:
    """The weights of exercises that are given as NAME=NUMBER; `ValueError` where one is no such pair."""
    weights = {}
    for pair in pairs:
        name, _, weight = pair.partition("=")
        try:
            weights[name] = float(weight)
        except ValueError as error:
            raise ValueError(f"weight is {pair!r}; it must be NAME=NUMBER, such as empty_page=5") from error
    return weights


def check_weights(weights: Mapping[str, float], asked: Mapping[str, Sequence[str]]) -> None:
    """Raise `ValueError` unless these exercises are asked for, and their weights above 0."""
    names = _titles(asked)
    for name, weight in weights.items():
        if name not in names:
            raise ValueError(f"weight is given for {name!r}; legal here are {', '.join(names)}")
        if not 0 < weight < math.inf:
            raise ValueError(f"weight of {name} is {weight:g}; it must be finite and above 0")


def _titles(asked: Mapping[str, Sequence[str]]) -> list[str]:
    return [TITLES.get(name, name) for names in asked.values() for name in names]


def with_remarks(one: Marked, everyone: Sequence[Marked]) -> Marked:
    """A hand-in, with the remarks that need the whole class beside its own."""
    remarks = list(one.remarks)
    others = {other.student for other in everyone if other is not one and other.student is not None}
    if one.student in others:
        remarks.append(f"another hand-in is {one.student}'s, too")
    for result in one.results:
        exercise = EXERCISES.get(result.exercise)
        if result.mark or result.numbers is None or one.student is None or exercise is None or exercise.own is None:
            continue
        seed = seed_of(one.student)
        theirs = [
            other
            for other in sorted(others - {one.student})
            if agrees(exercise.right, result.numbers, points_of(exercise, seed, own_numbers(exercise, seed_of(other))))
        ]
        if theirs:
            remarks.append(f"{result.exercise} is right with the {exercise.own} of another copy: {', '.join(theirs)}")
    return replace(one, remarks=remarks)


def plain(text: str) -> str:
    """Text of a hand-in, fit for a file: one line, no letters that no encoding has, and not without end."""
    readable = text.encode("utf-8", "replace").decode()
    return " ".join("".join(letter if letter.isprintable() else " " for letter in readable).split())[:300]


def _in_a_cell(text: str) -> str:
    """Text as it is, in a cell of a Markdown table: nothing in it is a link, a picture or another cell."""
    return "`" + text.replace("`", "'").replace("|", "/") + "`" if text else ""


def _in_a_sheet(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def report(one: Marked, weights: Mapping[str, float] | None = None) -> str:
    """What a student is given back, Markdown; an exercise counts 1 where it has no weight."""
    weights = weights or {}
    right = sum(result.mark for result in one.results)
    said = f"{right} of {len(one.results)} exercises are right"
    if weights:
        most = sum(weights.get(result.exercise, 1) for result in one.results)
        said += f", {sum(_points(result, weights) for result in one.results):g} of {most:g} points"
    lines = [f"# {one.student or 'A hand-in without a name'}", ""]
    lines += [f"{said}, in {_in_a_cell(one.file)}.", ""]
    lines += [f"- {_in_a_cell(note)}" for note in one.notes] + ([""] if one.notes else [])
    lines += ["| chapter | exercise | mark | |", "| --- | --- | --- | --- |"]
    for r in one.results:
        exercise, points = _heading(r.exercise, weights), _points(r, weights)
        lines.append(f"| {r.chapter[:2]} | {exercise} | {points:g} | {_in_a_cell(r.said)} |")
    return "\n".join([*lines, ""])


def table(
    marked: Sequence[Marked], asked: Mapping[str, Sequence[str]], weights: Mapping[str, float] | None = None
) -> str:
    """The marks of a class, CSV: a line for each hand-in; an exercise counts 1 where it has no weight."""
    weights = weights or {}
    exercises = _titles(asked)
    headings = [_heading(name, weights) for name in exercises]
    most = sum(weights.get(name, 1) for name in exercises)
    text = io.StringIO()
    sheet = csv.writer(text, lineterminator="\n")
    sheet.writerow(["student_id", "file", *headings, "score", "max_score", "remarks"])
    for one in sorted(marked, key=lambda each: (each.student or "", each.file)):
        points = {result.exercise: _points(result, weights) for result in one.results}
        numbers = [f"{each:g}" for each in (*(points[name] for name in exercises), sum(points.values()), most)]
        remarks = _in_a_sheet("; ".join([*one.notes, *one.remarks]))
        sheet.writerow([_in_a_sheet(one.student or ""), _in_a_sheet(one.file), *numbers, remarks])
    return text.getvalue()


def _points(result: Result, weights: Mapping[str, float]) -> float:
    return result.mark * weights.get(result.exercise, 1)


def _heading(exercise: str, weights: Mapping[str, float]) -> str:
    """An exercise, and what it counts where it has a weight."""
    return f"{exercise} (of {weights[exercise]:g})" if exercise in weights else exercise
