"""Mark what a class has handed in: the zips that `ddpm chapters --pack` makes, each in a sandbox of its own.

The marks and the sentences that a zip brings along are not read. Its functions are called again, at the points of the
student's own copy and at hidden ones, and what they answer is judged here, outside the sandbox.
"""

import hashlib
import inspect
import json
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ddpm import __version__
from ddpm.companion import answering, hand_in, sandbox, unpacking
from ddpm.companion.answering import PRACTICALS
from ddpm.companion.chapters import find_chapters
from ddpm.companion.exercises import EXERCISES, JUDGES, graded_in, grading, practicals
from ddpm.companion.exercises.grading import calls_of, judged, own_numbers
from ddpm.companion.hand_in import code_of, edition_of, noted_in, seed_of
from ddpm.companion.marks import TITLES, Marked, Result, check_weights, plain, report, table, with_remarks
from ddpm.companion.notebook import read_notebook
from ddpm.companion.sandbox import Limits, answers_of, check_sandbox
from ddpm.companion.unpacking import Unreadable, files_of_chapters, read_chapter
from ddpm.files import check_place, write_atomically

__all__ = ["asked_in", "mark_hand_ins"]


def asked_in(notebooks: Path, only: int | Collection[int] | None = None) -> dict[str, list[str]]:
    """The exercises of every chapter, by the name of its file.

    Raises:
        ValueError: there is no such chapter, one cannot be read, or one grades a function that is no exercise.
    """
    found = {}
    for chapter in find_chapters(notebooks, only):
        source = _code_of_exercises(read_notebook(chapter))
        found[chapter.name] = [*graded_in(source), *(name for name in PRACTICALS if f"\n{name}(" in source)]
    return found


def _code_of_exercises(notebook: Any) -> str:
    cells = [cell for cell in notebook["cells"] if "exercises" in cell["metadata"].get("tags", [])]
    return "\n".join(cell["source"] for cell in cells)


def mark_hand_ins(
    zips: Sequence[Path],
    out: Path,
    notebooks: Path,
    only: int | Collection[int] | None = None,
    limits: Limits | None = None,
    unsandboxed: bool = False,
    force: bool = False,
    weights: Mapping[str, float] | None = None,
) -> list[Marked]:
    """Mark hand-ins: a table of the class in `out`, and a report on each in the folder of that name beside it.

    Where several hand-ins have one name, those are called by their folders, too, in the table and among the reports.

    A hand-in that has a report already is not marked again unless it, the chapters, what judges it or the limits have
    changed since: a stopped marking goes on.

    Args:
        zips: the hand-ins; one may also be a notebook that is in no zip.
        out: the table (.csv): a line for each hand-in, a column for each exercise.
        notebooks: folder of the chapters, which say what was asked.
        only: number of the chapter to mark, or numbers of several; by default all.
        limits: what a notebook may take.
        unsandboxed: run what was handed in without a sandbox.
        force: mark again what has a report.
        weights: what exercises count, by the names of their columns in the table; by default each counts 1. With other
            weights nothing is marked again.

    Raises:
        ValueError: there is no hand-in, no sandbox or no chapter, two hand-ins of one name lie in folders of one name,
            there is no place for the table or a report, or a weight is not above 0 or of no exercise that is marked.
            Nothing that was handed in has run.
    """
    _check(zips, out)
    asked = asked_in(notebooks, only)
    check_weights(weights or {}, asked)
    chapters = [path.name for path in find_chapters(notebooks)]
    check_sandbox(unsandboxed)
    limits = limits or Limits()
    published = _published(notebooks, asked)
    by = json.dumps([__version__, chapters, asked, limits, unsandboxed, published, _code_of_marking()])
    reports = out.with_suffix("")
    marked = []
    names = _names_of(zips)
    for path, name in tqdm([*zip(zips, names, strict=True)], "marking", unit="hand-in"):
        record, sha256 = (reports / name).with_suffix(".json"), _hash_of(path, by)
        one = None if force else _kept(record, sha256)
        if one is None:
            one = _mark(path, name, sha256, asked, chapters, published, limits, unsandboxed)
            write_atomically(record, json.dumps(asdict(one), indent=1).encode())
        marked.append(one)
    marked = [with_remarks(one, marked) for one in marked]
    for name, one in zip(names, marked, strict=True):
        write_atomically((reports / name).with_suffix(".md"), report(one, weights).encode())
    write_atomically(out, table(marked, asked, weights).encode())
    return marked


def _check(zips: Sequence[Path], out: Path) -> None:
    """Raise `ValueError` unless these can be read, and their table and reports written."""
    if not zips:
        raise ValueError("there is no hand-in to mark; name the zips: ddpm chapters --mark hand-ins/*.zip")
    for path in zips:
        if not path.is_file() or not os.access(path, os.R_OK):
            raise ValueError(f"{str(path)!r} is no file that can be read; --mark takes the zips that --pack has made")
    if out.suffix.lower() != ".csv":
        raise ValueError(f"out is {str(out)!r}; the name of a table of marks must end in .csv")
    names = [str(Path(name).with_suffix("")) for name in _names_of(zips)]
    if twice := [name for name in names if [each.casefold() for each in names].count(name.casefold()) > 1]:
        raise ValueError(f"two hand-ins are called {twice[0]}; their reports would have one name")
    reports = [out.with_suffix("") / f"{name}{ending}" for name in names for ending in (".json", ".md")]
    for path in (out, *reports):
        if path.is_dir():
            raise ValueError(f"out is {str(out)!r}; there must be no folder {str(path)!r}")
    for path in (out, reports[0]):
        check_place("out", path)


def _names_of(zips: Sequence[Path]) -> list[str]:
    """The hand-ins' names: each its file's, after its folder's where reports would have one name."""
    stems = [path.stem.casefold() for path in zips]
    names = []
    for path, stem in zip(zips, stems, strict=True):
        folder = Path(os.path.abspath(path)).parent.name if stems.count(stem) > 1 else ""
        names.append(Path(folder, path.name).as_posix())
    return names


def _published(notebooks: Path, chapters: Iterable[str]) -> dict[str, list[str]]:
    """The code that stands in the cells of chapters: in a hand-in these cells are not the student's own."""
    return {name: code_of(read_notebook(notebooks / name)) for name in chapters}


def _code_of_marking() -> str:
    """What finds a hand-in's functions, calls them and judges their answers."""
    shared = {sys.modules[__name__], unpacking, answering, sandbox, hand_in, grading, practicals}
    judging = [*(each.right for each in EXERCISES.values()), *JUDGES.values()]
    of_exercises = {inspect.getmodule(each) for each in judging}
    return "".join(sorted(inspect.getsource(module) for module in shared | of_exercises if module is not None))


def _hash_of(path: Path, by: str) -> str:
    content = hashlib.sha256(by.encode())
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


def _mark(
    path: Path,
    name: str,
    sha256: str,
    asked: Mapping[str, Sequence[str]],
    chapters: Collection[str],
    published: Mapping[str, Sequence[str]],
    limits: Limits,
    unsandboxed: bool,
) -> Marked:
    """Mark one hand-in. Whatever is wrong with it costs its own marks."""
    try:
        files, notes = files_of_chapters(path, chapters)
    except Unreadable as error:
        nothing = [result for chapter in asked for result in _not_read(chapter, asked[chapter], error)]
        return Marked(None, plain(name), sha256, nothing, [], [str(error)])
    if not any(files[chapter] for chapter in asked):
        notes.append("it holds no chapter that was set")
    results: list[Result] = []
    students, remarks = set(), []
    for chapter, names in asked.items():
        try:
            notebook = read_chapter(path, files[chapter])
        except Unreadable as error:
            results += _not_read(chapter, names, error)
            notes += [f"chapter {chapter[:2]} {error}"] if files[chapter] else []
            continue
        notes += _notes_on(notebook, chapter, published[chapter])
        student = _student_of(notebook)
        students.add(student)
        if _is_graded_with_another_seed(notebook, student):
            remarks.append(f"chapter {chapter[:2]}'s exercises are graded with another seed than this copy's")
        cells = [(source, source not in published[chapter]) for source in code_of(notebook)]
        results += _results(chapter, names, cells, student, sha256, limits, unsandboxed)
    if len(students) > 1:
        remarks.append(f"its chapters are copies of several students: {', '.join(sorted(map(str, students)))}")
    if None in students:
        remarks.append("made without --student: its numbers are everybody's")
    named = [student for student in students if student is not None]
    return Marked(min(named, default=None), plain(name), sha256, results, remarks, notes)


def _not_read(chapter: str, names: Sequence[str], error: Unreadable) -> list[Result]:
    return [Result(chapter, TITLES.get(name, name), 0, str(error)) for name in names]


def _notes_on(notebook: Any, chapter: str, published: Sequence[str]) -> Iterator[str]:
    """What a teacher and its student should know of a chapter that was handed in."""
    if noted_in(notebook).get("copy of") not in (None, edition_of(published)):
        yield f"chapter {chapter[:2]} is a copy of another edition"
    if _preset_of(notebook) == "smoke":
        yield f"chapter {chapter[:2]} was run at smoke size"


def _preset_of(notebook: Any) -> Any:
    """The size that `pack` has run a copy at, as papermill notes it; None where it does not say."""
    found = notebook["metadata"]
    for name in ("papermill", "parameters", "preset"):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _is_graded_with_another_seed(notebook: Any, student: str | None) -> bool:
    """Whether a cell of exercises names a seed that is not this student's, as one from another student's copy does.

    The numbers in such a cell do not tell: its functions are called with those of the student's own copy.
    """
    named = re.findall(r"^grade\w*\(.*\bseed=(\d{1,9})\b", _code_of_exercises(notebook), re.MULTILINE)
    seeds = {int(seed) for seed in named}
    return not seeds <= ({seed_of(student)} if student is not None else set())


def _student_of(notebook: Any) -> str | None:
    """Whose copy a notebook says it is; None where it says nothing that can be."""
    student = noted_in(notebook).get("student")
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
    cells: list[tuple[str, bool]],
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
    own = {name: {} if student is None or name in PRACTICALS else own_numbers(EXERCISES[name], seed) for name in names}

    def calls(name: str) -> list[tuple[float, ...]] | None:
        if name in PRACTICALS:
            return None
        return [call for each in (seed, hidden) for call in calls_of(EXERCISES[name], each, own[name])]

    asked = {name: calls(name) for name in names}
    answers: dict[str, Any] = {}
    for practical in (False, True):  # in two sandboxes: where practicals are judged, the right functions can be read
        group = {name: given for name, given in asked.items() if (name in PRACTICALS) == practical}
        answers |= answers_of(cells, group, seed, own, limits, unsandboxed) if group else {}
    for name in names:
        answer = answers.get(name, "took too long, or ended the process it ran in")
        title = TITLES.get(name, name)
        if isinstance(answer, str):
            is_right = name in PRACTICALS and answer.startswith("right")
            said = answer if is_right or answer.startswith("not") else f"not yet. {title} {answer}"
            yield Result(chapter, title, int(is_right), plain(said))
        elif name in PRACTICALS or not _are_six_answers(answer):
            yield Result(chapter, title, 0, "not yet. What it answers is no answer.")
        else:
            at_own, at_hidden = answer[:3], answer[3:]
            said = judged(EXERCISES[name], at_own, seed, own[name])
            if said == "right" and judged(EXERCISES[name], at_hidden, hidden, own[name]) != "right":
                said = "not yet. It is right at the three points of its copy, and wrong at others."
            numbers = at_own if all(isinstance(each, float) for each in at_own) else None
            yield Result(chapter, title, int(said == "right"), plain(said), numbers)


def _are_six_answers(answer: Any) -> bool:
    """Whether this is what `calls` asks for, a list of six answers; the process that gave it is not to be trusted."""
    return isinstance(answer, list) and len(answer) == 6 and all(isinstance(a, float | str | None) for a in answer)
