"""Find and read the chapters in what was handed in: a zip that `ddpm chapters --pack` has made, another, or a notebook.

What was handed in is not to be trusted: nothing of it is written anywhere, and of each file only so much is read.
"""

import json
import re
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import nbformat

from ddpm.companion.hand_in import MOST, MOST_OF_A_NOTEBOOK
from ddpm.companion.marks import plain

__all__ = ["Unreadable", "files_of_chapters", "read_chapter"]

#: Notebooks of other names than a chapter's that are opened to ask which chapter they are a copy of.
MOST_OTHERS = 20
#: Folders whose notebooks no student has written: those of macOS' zips and of JupyterLab.
NOT_WRITTEN = {"__MACOSX", ".ipynb_checkpoints"}


class Unreadable(Exception):
    """A hand-in, or a chapter of it, cannot be read; in words for its report."""


def files_of_chapters(path: Path, chapters: Collection[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The files in a hand-in that are each chapter, in whatever folders they lie, and what there is to say of others.

    A chapter is the file of its name. Where there is none, it is a file of another name that is a copy of it by its
    metadata. What `pack` has written into `executed` counts where there is nothing else of that name.

    Args:
        path: the hand-in.
        chapters: the names of all chapters, NN_name.ipynb.

    Raises:
        Unreadable: it is too large, or no zip.
    """
    files = [file for file in _files_in(path) if file.endswith(".ipynb") and not NOT_WRITTEN & {*_parts(file)}]
    names = {_parts(file)[-1] for file in files if "executed" not in _parts(file)}
    files = [file for file in files if "executed" not in _parts(file) or _parts(file)[-1] not in names]
    found = {chapter: [file for file in files if _parts(file)[-1] == chapter] for chapter in chapters}
    missing = [chapter for chapter in chapters if not found[chapter]]
    notes, unread = [], []
    for i, file in enumerate(file for file in files if _parts(file)[-1] not in found):
        chapter = _chapter_noted_in(path, file) if i < MOST_OTHERS else ""
        if chapter in missing:
            found[chapter].append(file)
            notes.append(plain(f"a copy of chapter {chapter[:2]} by another name: {file}"))
        else:
            unread.append(file)
    if unread:
        notes.append(plain(f"not read, as no chapter has this name: {', '.join(unread)}"))
    return found, notes


def _parts(file: str) -> list[str]:
    """A file's folders and its name; some programs write the separators of Windows into a zip."""
    return re.split(r"[/\\]", file)


def _files_in(path: Path) -> list[str]:
    """The names of the files in a zip; a notebook's own."""
    if path.stat().st_size > MOST:
        raise Unreadable("the zip is too large to be read")
    if _is_notebook(path):
        return [path.name]
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception as error:  # whatever reading a damaged zip runs into
        raise Unreadable(f"it is no zip, or a damaged one: {type(error).__name__}") from error


def _is_notebook(path: Path) -> bool:
    return path.suffix == ".ipynb"


def _chapter_noted_in(path: Path, file: str) -> str:
    """The chapter that a file is a copy of, as its metadata says; "" where that says nothing."""
    try:
        return str(json.loads(_content_of(path, file))["metadata"]["ddpm"]["chapter"])
    except Exception:  # it is no notebook, or none that `write_copies` has written
        return ""


def read_chapter(path: Path, files: Sequence[str]) -> Any:
    """A chapter of a hand-in.

    Args:
        path: the hand-in.
        files: those in it that are this chapter.

    Raises:
        Unreadable: there is none, there are several, or it cannot be read.
    """
    if not files:
        raise Unreadable("not handed in")
    if len(files) > 1:
        raise Unreadable(plain(f"is there more than once, and not read: {', '.join(files)}"))
    try:
        notebook = nbformat.reads(_content_of(path, files[0]).decode(), as_version=4)
        nbformat.validate(notebook)
    except Unreadable:
        raise
    except Exception as error:  # a damaged zip, a password, nbformat's own errors, JSON nested without end
        raise Unreadable(f"cannot be read: {type(error).__name__}") from error
    return notebook


def _content_of(path: Path, file: str) -> bytes:
    """A file of a hand-in. A damaged zip has errors of many kinds.

    Raises:
        Unreadable: the file is too large.
    """
    if _is_notebook(path):
        with path.open("rb") as opened:
            content = opened.read(MOST_OF_A_NOTEBOOK + 1)
    else:
        with zipfile.ZipFile(path) as archive, archive.open(file) as member:
            content = member.read(MOST_OF_A_NOTEBOOK + 1)
    if len(content) > MOST_OF_A_NOTEBOOK:
        raise Unreadable("is too large to be read")
    return content
