"""Chapters to hand in: copies with blanks, and what was made of them in one zip with its provenance."""

import ast
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import nbformat

from ddpm.companion.runner import find_chapters, run_chapters
from ddpm.files import write_atomically

BLANK = "    ...  # write me"


def write_copies(notebooks: Path, folder: Path, only: int | None = None) -> list[Path]:
    """Copy chapters into a folder, without outputs and with blanks for their solutions.

    Args:
        notebooks: folder of the chapters, NN_name.ipynb.
        folder: where the copies go; made if it is not there.
        only: number of the one chapter to copy.

    Raises:
        ValueError: no such chapter, or a copy is there already. Nothing was written.
    """
    chapters = find_chapters(notebooks, only)
    copies = [folder / chapter.name for chapter in chapters]
    if there := [copy for copy in copies if copy.exists()]:
        raise ValueError(f"hand-in is {str(folder)!r}; {there[0].name} lies there already and may hold your work")
    for chapter, copy in zip(chapters, copies, strict=True):
        notebook = nbformat.read(chapter, as_version=4)
        for cell in (cell for cell in notebook["cells"] if cell["cell_type"] == "code"):
            cell["outputs"], cell["execution_count"] = [], None
            tags = cell["metadata"].get("tags", [])
            if "solution" in tags:
                cell["source"] = blanked(cell["source"])
                cell["metadata"]["tags"] = [tag for tag in tags if tag != "hide-input"]
        notebook["metadata"]["ddpm"] = {"copy of": hashlib.sha256(chapter.read_bytes()).hexdigest()}
        write_atomically(copy, nbformat.writes(notebook).encode())
    return copies


def blanked(source: str) -> str:
    """Python code with the bodies of its functions, but for their docstrings, taken out."""
    lines = source.splitlines()
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    for function in reversed(functions):
        says = ast.get_docstring(function) is not None
        first = function.body[0].end_lineno if says else function.body[0].lineno - 1
        lines[first : function.end_lineno] = [BLANK]
    return "\n".join(lines)


def pack(folder: Path, only: int | None = None, preset: str = "cpu") -> Path | None:
    """Execute the copies in a folder from top to bottom and put them into FOLDER.zip, with a provenance.json.

    The provenance holds of each chapter what `ddpm chapters` records (versions, device, date, parameters, what was
    measured), the hash of the chapter it is a copy of and of what is handed in, the prediction made at its head and
    the mark of every exercise.

    Returns:
        The zip; None where a chapter failed, which is printed.

    Raises:
        ValueError: the folder holds no chapter.
    """
    executed = folder / "executed"
    if not run_chapters(folder, executed, preset, only):
        return None
    provenance: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    for chapter in find_chapters(folder, only):
        finished = executed / preset / chapter.name
        notebook, files[chapter.name] = nbformat.read(finished, as_version=4), finished.read_bytes()
        record = json.loads((executed / preset / f"{chapter.stem}.json").read_text(encoding="utf-8"))
        del record["fingerprint"]
        hashes = notebook["metadata"].get("ddpm", {}) | {"sha256": hashlib.sha256(files[chapter.name]).hexdigest()}
        own = {"prediction": _prediction(notebook), "marks": _marks(notebook)}
        provenance[chapter.stem] = own | hashes | record
    target = folder.with_name(f"{folder.name}.zip")
    partial = target.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr("provenance.json", json.dumps(provenance, indent=1))
    partial.replace(target)
    return target


def _marks(notebook: Any) -> dict[str, str]:
    """What `grade` said of every exercise."""
    cells = [cell for cell in notebook["cells"] if "solution" in cell["metadata"].get("tags", [])]
    texts = [output.get("text", "") for cell in cells for output in cell["outputs"]]
    lines = [line.partition(": ") for line in "".join(texts).splitlines()]
    return {name: mark for name, colon, mark in lines if colon}


def _prediction(notebook: Any) -> str:
    """What the student guessed before running the chapter, as it was written."""
    sources = (cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    guesses = (source.partition("=")[2] for source in sources if source.startswith("my_guess = "))
    return next(guesses, "none").partition("#")[0].strip()
