"""Mark what a class has handed in: the zips that `ddpm chapters --pack` makes, each in a sandbox of its own.

The marks and the sentences that a zip brings along are not read. Its functions are called again, at the points of the
student's own copy and at hidden ones, and what they answer is judged here, outside the sandbox.
"""

import csv
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nbformat
from tqdm import tqdm

from ddpm.companion.answering import TRAINED
from ddpm.companion.exercises import EXERCISES
from ddpm.companion.exercises.grading import agrees, calls_of, judged, own_numbers, points_of
from ddpm.companion.hand_in import seed_of
from ddpm.companion.notebook import read_notebook
from ddpm.companion.runner import find_chapters
from ddpm.companion.sandbox import Limits, answers_of, check_sandbox
from ddpm.files import check_place, write_atomically

__all__ = ["Marked", "Result", "asked_in", "mark_hand_ins"]

#: Bytes of a hand-in that are read at most, and of one notebook in it.
MOST, MOST_OF_A_NOTEBOOK = 2**30, 2**27
#: What the table and the reports call the exercises that train a model.
TITLES = {"grade_ddpm": "three_parts", "grade_model": "empty_page"}


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
        file: the name of the zip.
        sha256: of the zip and of what it was marked by: with the same one nothing is marked again.
        results: of every exercise.
        remarks: what a teacher should look at.
    """

    student: str | None
    file: str
    sha256: str
    results: list[Result]
    remarks: list[str]


def asked_in(notebooks: Path, only: int | None = None) -> dict[str, list[str]]:
    """The exercises of every chapter, by the name of its file.

    Raises:
        ValueError: there is no such chapter, or one cannot be read.
    """
    found = {}
    for chapter in find_chapters(notebooks, only):
        cells = [cell for cell in read_notebook(chapter)["cells"] if "exercises" in cell["metadata"].get("tags", [])]
        source = "\n".join(cell["source"] for cell in cells)
        numbers = re.findall(r"^grade\((\w+)\)$", source, re.MULTILINE)
        found[chapter.name] = [*numbers, *(name for name in TRAINED if f"\n{name}(" in source)]
    return found


def mark_hand_ins(
    zips: Sequence[Path],
    out: Path,
    notebooks: Path,
    only: int | None = None,
    limits: Limits | None = None,
    unsandboxed: bool = False,
) -> list[Marked]:
    """Mark hand-ins: a table of the class in `out`, and a report on each in the folder of that name beside it.

    A hand-in that has a report already, and has not changed since, is not marked again: a stopped marking goes on.

    Args:
        zips: the hand-ins.
        out: the table (.csv): a line for each hand-in, a column for each exercise.
        notebooks: folder of the chapters, which say what was asked.
        only: number of the one chapter to mark.
        limits: what a notebook may take.
        unsandboxed: run what was handed in without a sandbox.

    Raises:
        ValueError: there is no hand-in, no sandbox or no chapter, two hand-ins have one name, or there is no place for
            the table. Nothing has run.
    """
    if not zips:
        raise ValueError("there is no hand-in to mark; name the zips: ddpm chapters --mark hand-ins/*.zip")
    for path in zips:
        if not path.is_file():
            raise ValueError(f"{path} is not there, or no file; --mark takes the zips that --pack has made")
    if out.suffix.lower() != ".csv":
        raise ValueError(f"out is {str(out)!r}; the name of a table of marks must end in .csv")
    names = [path.stem for path in zips]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two hand-ins are called {twice[0]}; their reports would have one name")
    asked = asked_in(notebooks, only)
    reports = out.with_suffix("")
    for path in (out, reports / "report.md"):
        check_place("out", path)
    check_sandbox(unsandboxed)

    marked = []
    for path in tqdm(zips, "marking", unit="hand-in"):
        record = reports / f"{path.stem}.json"
        one = _kept(record, _hash_of(path, asked))
        if one is None:
            one = _mark(path, asked, limits or Limits(), unsandboxed)
            write_atomically(record, json.dumps(asdict(one), indent=1).encode())
        marked.append(one)
    marked = [_with_remarks(one, marked) for one in marked]
    for path, one in zip(zips, marked, strict=True):
        write_atomically(reports / f"{path.stem}.md", _report(one).encode())
    write_atomically(out, _table(marked, asked).encode())
    return marked


def _hash_of(path: Path, asked: Mapping[str, Sequence[str]]) -> str:
    content = hashlib.sha256(json.dumps(asked).encode())
    with path.open("rb") as file:
        while part := file.read(2**20):
            content.update(part)
    return content.hexdigest()


def _kept(record: Path, sha256: str) -> Marked | None:
    """What was marked before, if it was the same."""
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        if known["sha256"] != sha256:
            return None
        return Marked(**known | {"results": [Result(**each) for each in known["results"]]})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _mark(path: Path, asked: Mapping[str, Sequence[str]], limits: Limits, unsandboxed: bool) -> Marked:
    """Mark one hand-in. Whatever is wrong with it costs its own marks."""
    sha256 = _hash_of(path, asked)
    results, students, remarks = [], set(), []
    for chapter, names in asked.items():
        try:
            notebook = _notebook_in(path, chapter)
        except ValueError as error:
            results += [Result(chapter, name, 0, str(error)) for name in names]
            continue
        student = _student_of(notebook)
        students.add(student)
        cells = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
        results += _results(chapter, names, cells, student, sha256, limits, unsandboxed)
    if len(students) > 1:
        remarks.append(f"its chapters are copies of several students: {', '.join(sorted(map(str, students)))}")
    if None in students:
        remarks.append("made without --student: its numbers are everybody's")
    return Marked(min(students, key=str, default=None), path.name, sha256, results, remarks)


def _notebook_in(path: Path, chapter: str) -> Any:
    """A chapter in a zip; `ValueError`, in words for a report, if it is not there or cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = {each.filename: each for each in archive.infolist()}
            if chapter not in files:
                raise ValueError("not handed in")
            if files[chapter].file_size > MOST_OF_A_NOTEBOOK or path.stat().st_size > MOST:
                raise ValueError("the notebook is too large to be read")
            with archive.open(files[chapter]) as file:
                content = file.read(MOST_OF_A_NOTEBOOK)
        notebook = nbformat.reads(content.decode(), as_version=4)
        nbformat.validate(notebook)
    except ValueError as error:
        known = str(error) if str(error).startswith(("not handed in", "the notebook is")) else ""
        raise ValueError(known or "the notebook cannot be read") from error
    except Exception as error:  # a damaged zip, a password, nbformat's own errors, JSON nested without end
        raise ValueError(f"it cannot be read: {type(error).__name__}") from error
    return notebook


def _student_of(notebook: Any) -> str | None:
    """Whose copy a notebook says it is; None where it says nothing that can be."""
    published = notebook["metadata"].get("ddpm", {})
    student = published.get("student") if isinstance(published, dict) else None
    if not isinstance(student, str):
        return None
    try:
        seed_of(student)
    except ValueError:
        return None
    return student


def _results(
    chapter: str,
    names: Sequence[str],
    cells: list[str],
    student: str | None,
    sha256: str,
    limits: Limits,
    unsandboxed: bool,
) -> Iterator[Result]:
    """The results of a chapter's exercises: right is what is right at the copy's points and at hidden ones.

    The hidden points come from the hash of what was handed in: who writes the functions cannot know them.
    """
    seed = 0 if student is None else seed_of(student)
    hidden = int(sha256[:8], 16)
    own = {name: {} if student is None or name in TRAINED else own_numbers(EXERCISES[name], seed) for name in names}

    def calls(name: str) -> list[tuple[float, ...]] | None:
        if name in TRAINED:
            return None
        return [call for each in (seed, hidden) for call in calls_of(EXERCISES[name], each, own[name])]

    answers = answers_of(cells, {name: calls(name) for name in names}, seed, limits, unsandboxed)
    for name in names:
        answer = answers.get(name, "took too long, or ended the process it ran in")
        title = TITLES.get(name, name)
        if isinstance(answer, str):
            is_right = name in TRAINED and answer.startswith("right")
            yield Result(chapter, title, int(is_right), answer if name in TRAINED else f"not yet. {title} {answer}")
        elif name in TRAINED or not _are_answers(answer, 6):
            yield Result(chapter, title, 0, "not yet. What it answers is no answer.")
        else:
            said = judged(EXERCISES[name], answer[:3], seed, own[name])
            if said == "right" and judged(EXERCISES[name], answer[3:], hidden, own[name]) != "right":
                said = "not yet. It is right at the three points of its copy, and wrong at others."
            numbers = answer[:3] if all(isinstance(each, float) for each in answer[:3]) else None
            yield Result(chapter, title, int(said == "right"), said, numbers)


def _are_answers(answer: Any, number: int) -> bool:
    """Whether this is a list of so many answers; the process that gave it is not to be trusted."""
    return isinstance(answer, list) and len(answer) == number and all(isinstance(a, float | str | None) for a in answer)


def _with_remarks(one: Marked, everyone: Sequence[Marked]) -> Marked:
    """A hand-in's remarks with those that need the whole class."""
    remarks = list(one.remarks)
    others = {other.student for other in everyone if other is not one} - {None}
    if one.student in others:
        remarks.append(f"another hand-in is {one.student}'s, too")
    for result in one.results:
        exercise = EXERCISES.get(result.exercise)
        if result.mark or result.numbers is None or one.student is None or exercise is None or exercise.own is None:
            continue
        seed = seed_of(one.student)
        for other in sorted(str(each) for each in others - {one.student}):
            theirs = own_numbers(exercise, seed_of(other))
            if theirs != own_numbers(exercise, seed) and agrees(
                exercise.right, result.numbers, points_of(exercise, seed, theirs)
            ):
                remarks.append(f"{result.exercise} is right with the {exercise.own} of {other}'s copy")
    return Marked(**{**one.__dict__, "remarks": remarks})


def _report(one: Marked) -> str:
    """What a student is given back, Markdown."""
    total = sum(result.mark for result in one.results)
    lines = [f"# {one.student or one.file}", "", f"{total} of {len(one.results)} exercises are right ({one.file}).", ""]
    lines += ["| chapter | exercise | mark | |", "| --- | --- | --- | --- |"]
    for each in one.results:
        said = re.sub(r"\s+", " ", each.said)[:300].replace("|", "\\|")
        lines.append(f"| {each.chapter[:2]} | {each.exercise} | {each.mark} | {said} |")
    return "\n".join([*lines, ""])


def _table(marked: Sequence[Marked], asked: Mapping[str, Sequence[str]]) -> str:
    """The marks of a class, CSV: a line for each hand-in."""
    exercises = [TITLES.get(name, name) for names in asked.values() for name in names]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["student_id", "file", *exercises, "score", "max_score", "remarks"])
    for one in sorted(marked, key=lambda each: (each.student or "", each.file)):
        marks = {result.exercise: result.mark for result in one.results}
        row = [one.student or "", one.file, *(marks[name] for name in exercises)]
        table.writerow([*row, sum(marks.values()), len(exercises), "; ".join(one.remarks)])
    return text.getvalue()
