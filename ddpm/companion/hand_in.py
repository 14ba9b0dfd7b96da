"""Chapters to hand in: copies to work in, and the student's work on them in one zip with its provenance."""

import ast
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat

from ddpm.companion.chapters import find_chapters
from ddpm.companion.exercises import EXERCISES, graded_in
from ddpm.companion.exercises.grading import own_numbers
from ddpm.companion.notebook import read_notebook
from ddpm.companion.runner import run_chapters
from ddpm.files import check_place, write_atomically

__all__ = ["MOST", "MOST_OF_A_NOTEBOOK", "code_of", "edition_of", "noted_in", "pack", "seed_of", "write_copies"]

#: Bytes of a hand-in that whoever marks it reads at most, and of one notebook in it: a chapter is 1 MiB.
MOST, MOST_OF_A_NOTEBOOK = 2**28, 2**24


def seed_of(student: str) -> int:
    """The seed of a student's numbers.

    Raises:
        ValueError: the name is not legal: it stands in code, in a table and in a heading.
    """
    if not re.fullmatch(r"\w[\w.-]{0,63}", student):
        raise ValueError(
            f"student is {student!r}; legal are up to 64 letters, digits, dots, - and _, no dot or - first"
        )
    return int(hashlib.sha256(student.encode()).hexdigest()[:6], 16)


def code_of(notebook: Any) -> list[str]:
    """The code of a notebook's cells."""
    return [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]


def edition_of(code: Sequence[str]) -> str:
    """The hash of a chapter's code, which stays the same where the chapter is run again or its prose is mended."""
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def write_copies(
    notebooks: Path, folder: Path, only: int | Collection[int] | None = None, student: str | None = None
) -> list[Path]:
    """Copy chapters into a folder, without outputs. Their exercises are blanks, as they are in the chapters.

    The captions of figures, which only the built book shows, stand in cells of their own.

    Args:
        notebooks: folder of the chapters, NN_name.ipynb.
        folder: where the copies go; it is made if it is not there.
        only: number of the chapter to copy, or numbers of several; by default all.
        student: whose copies they are: a number or a name. Their exercises then have numbers of their own, which this
            draws, and `ddpm.companion.marking` knows them by it.

    Raises:
        ValueError: there is no such chapter, it cannot be read, there is a copy already, the folder cannot be
            written to, or the student's name is not legal: it stands in code, in a table and in a heading. Nothing was
            written.
        OSError: a copy could not be written, as where the disk is full. None of the copies is left.
    """
    if student is not None:
        seed_of(student)
    chapters = find_chapters(notebooks, only)
    copies = [folder / chapter.name for chapter in chapters]
    if there := [copy for copy in copies if copy.exists()]:
        raise ValueError(f"hand-in is {str(folder)!r}; {there[0].name} is there already and may hold your work")
    contents = [nbformat.writes(_copy_of(chapter, student)).encode() for chapter in chapters]
    for copy in copies:
        check_place("hand-in", copy)
    is_new = not folder.exists()
    try:
        for copy, content in zip(copies, contents, strict=True):
            write_atomically(copy, content)
    except BaseException:
        for copy in copies:
            copy.unlink(missing_ok=True)
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise
    return copies


def _copy_of(chapter: Path, student: str | None) -> Any:
    """A chapter's notebook without outputs; its metadata says which chapter it is a copy of, and whose."""
    notebook = read_notebook(chapter)
    published = {"chapter": chapter.name, "copy of": edition_of(code_of(notebook)), "guess": _guess(notebook)}
    cells, notebook["cells"] = notebook["cells"], []
    for cell in cells:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
        if student is not None and "exercises" in cell["metadata"].get("tags", []):
            cell["source"] = _with_own_numbers(cell["source"], student)
        elif student is not None and cell["cell_type"] == "markdown":
            cell["source"] = _of_fewer_arguments(cell["source"])
        notebook["cells"] += [cell, *_caption_below(cell)]
    notebook["metadata"]["ddpm"] = published | ({} if student is None else {"student": student})
    return notebook


def _caption_below(cell: Any) -> list[Any]:
    """A cell with the caption of this cell's figure, if it has one."""
    caption = cell["metadata"].get("mystnb", {}).get("figure", {}).get("caption")
    if caption is None:
        return []
    name = {"id": f"{cell['id']}-caption"} if "id" in cell else {}  # cells have names since version 4.5
    return [nbformat.from_dict({"cell_type": "markdown", "metadata": {}, "source": f"*{caption}*", **name})]


def _of_fewer_arguments(source: str) -> str:
    """Markdown that names the functions of exercises as a student's copy has them, and says where the number is."""
    for name, exercise in EXERCISES.items():
        if exercise.own is not None:
            others = ", ".join(each for each in exercise.arguments if each != exercise.own)
            own = f"(the number `{exercise.own}` is your own, and stands above the function)"
            source = re.sub(rf"`{name}\([^`]*\)`", f"`{name}({others})` {own}", source)
    return source


def _with_own_numbers(source: str, student: str) -> str:
    """A cell of exercises as this student gets it: most functions lose an argument, which is a number instead."""
    seed = seed_of(student)
    source = source.replace("seed=seed", f"seed={seed}")
    for name in graded_in(source):
        graded = f"grade({name}, seed={seed}"
        for argument, value in own_numbers(EXERCISES[name], seed).items():
            others = ", ".join(each for each in EXERCISES[name].arguments if each != argument)
            own = f"{argument} = {value:g}  # the copy of {student} has a number of its own here"
            source = re.sub(rf"^def {name}\(.*\):", f"{own}\n\n\ndef {name}({others}):", source, flags=re.MULTILINE)
            graded += f", {argument}={argument}"
        source = source.replace(f"grade({name})", f"{graded})")
    return source


def pack(
    folder: Path, only: int | Collection[int] | None = None, preset: str = "cpu", threads: int | None = None
) -> Path | None:
    """Execute the copies in a folder from top to bottom and put them into FOLDER.zip, with a provenance.json.

    For each chapter the provenance holds what `ddpm chapters` records (versions, device, date, parameters,
    measurements), the hashes of the code of the chapter it is a copy of (`edition_of`) and of the file handed in, the
    prediction at its head and the mark of every exercise. It is a record, and no proof to someone who distrusts the
    student.

    Args:
        folder: the student's copies.
        only: number of the chapter to pack, or numbers of several; by default all.
        preset: "cpu", "gpu" or "smoke".
        threads: threads of the CPU to compute with; by default as many as there are free cores.

    Returns:
        The zip; None if a chapter failed, in which case the error is printed.

    Raises:
        ValueError: the folder holds no chapter, two of one number, or a copy under another name than its chapter's, or
            a chapter cannot be read, or the zip cannot be written: nothing has run. Or a chapter that has run is larger
            than what is marked: there is no zip.
    """
    folder = folder.resolve()
    chapters = find_chapters(folder, only, "pack")
    _check_names(folder, chapters)
    executed, target = folder / "executed", folder.parent / f"{folder.name}.zip"
    for path in (executed / preset / "chapter", target):
        check_place("pack", path)
    if target.is_dir():
        raise ValueError(f"pack is {str(folder)!r}; there must be no folder {target.name} beside it")
    if not run_chapters(folder, executed, preset, only, force=True, threads=threads):
        return None
    finished = [executed / preset / chapter.name for chapter in chapters]
    for path in finished:
        if path.stat().st_size > MOST_OF_A_NOTEBOOK:
            raise ValueError(
                f"pack is {str(folder)!r}; with its outputs {path.name} has {path.stat().st_size / 2**20:.0f} MiB, and "
                f"whoever marks it reads {MOST_OF_A_NOTEBOOK / 2**20:.0f} at most: let its cells show less"
            )
    files = {path.name: path.read_bytes() for path in finished}
    provenance = {path.stem: _provenance(path) for path in finished}
    files["provenance.json"] = json.dumps(provenance, indent=1).encode()
    write_atomically(target, _zipped(files))
    return target


def _check_names(folder: Path, chapters: Sequence[Path]) -> None:
    """Raise `ValueError` where two notebooks have one number, or a copy another name than its chapter."""
    for one, other in pairwise(chapters):
        if one.name[:2] == other.name[:2]:
            raise ValueError(
                f"pack is {str(folder)!r}; {one.name} and {other.name} have one number: move one of them elsewhere"
            )
    for path in sorted(folder.glob("*.ipynb")):
        if (chapter := _chapter_of(path)) != path.name:
            raise ValueError(
                f"pack is {str(folder)!r}; {path.name} is a copy of {chapter}: give it that name, or move it elsewhere"
            )


def _chapter_of(path: Path) -> str:
    """The name of the chapter that a notebook is a copy of; its own name where it does not say."""
    with suppress(ValueError):  # it cannot be read; if it is to be run, the run says so
        chapter = noted_in(read_notebook(path)).get("chapter")
        return chapter if isinstance(chapter, str) else path.name
    return path.name


def noted_in(notebook: Any) -> dict[str, Any]:
    """What `write_copies` has noted in a copy's metadata; {} where there is none of it, or something else."""
    noted = notebook["metadata"].get("ddpm")
    return noted if isinstance(noted, dict) else {}


def _provenance(finished: Path) -> dict[str, Any]:
    """What provenance.json says about one executed chapter."""
    notebook = read_notebook(finished)
    record = json.loads(finished.with_suffix(".json").read_text(encoding="utf-8"))
    del record["fingerprint"]
    published = noted_in(notebook)
    guess = _guess(notebook)
    return {
        "prediction": guess if guess != published.get("guess") else f"{guess}, as published",
        "marks": _marks(notebook),
        "copy of": published.get("copy of"),
        "sha256": hashlib.sha256(finished.read_bytes()).hexdigest(),
        **record,
    }


def _zipped(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def _marks(notebook: Any) -> dict[str, str]:
    """What `grade` printed about each exercise, by the exercise's name."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    printed = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    lines = [line.removeprefix("exercise, ") for line in printed.splitlines() if line.startswith("exercise, ")]
    return {name: mark for name, _, mark in (line.partition(": ") for line in lines)}


def _guess(notebook: Any) -> str:
    """The prediction at a chapter's head, as it is written there; the last one, where there are several."""
    guess = "none"
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        with suppress(SyntaxError, ValueError):
            for code in ast.parse(cell["source"]).body:
                if not isinstance(code, ast.Assign | ast.AnnAssign) or code.value is None:
                    continue
                targets = code.targets if isinstance(code, ast.Assign) else [code.target]
                if any(isinstance(target, ast.Name) and target.id == "my_guess" for target in targets):
                    guess = ast.get_source_segment(cell["source"], code.value) or guess
    return guess
