"""Chapters to hand in: copies with blanks, and what was made of them in one zip with its provenance."""

import ast
import hashlib
import io
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
        published = {"copy of": hashlib.sha256(chapter.read_bytes()).hexdigest(), "guess": _guess(notebook)}
        notebook["metadata"]["ddpm"] = published
        write_atomically(copy, nbformat.writes(notebook).encode())
    return copies


def blanked(source: str) -> str:
    """Python code without the bodies of its functions, but for their docstrings, and without checks of these."""
    lines = source.splitlines()
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.FunctionDef):
            says = ast.get_docstring(node) is not None
            first = node.body[0].end_lineno if says else node.body[0].lineno - 1
            lines[first : node.end_lineno] = [BLANK]
        elif ast.unparse(node).startswith("check("):  # it would fail where `grade` is patient
            del lines[node.lineno - 1 : node.end_lineno]
    return "\n".join(lines)


def pack(folder: Path, only: int | None = None, preset: str = "cpu") -> Path | None:
    """Execute the copies in a folder from top to bottom and put them into FOLDER.zip, with a provenance.json.

    The provenance holds of each chapter what `ddpm chapters` records (versions, device, date, parameters, what was
    measured), the hash of the chapter it is a copy of and of what is handed in, the prediction made at its head and
    the mark of every exercise. It records, and proves nothing to whoever distrusts the student.

    Returns:
        The zip; None where a chapter failed, which is printed.

    Raises:
        ValueError: the folder holds no chapter.
    """
    folder = folder.resolve()
    chapters = find_chapters(folder, only, "pack")
    executed = folder / "executed"
    if not run_chapters(folder, executed, preset, only, force=True):
        return None
    provenance: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    for chapter in chapters:
        finished = executed / preset / chapter.name
        notebook, files[chapter.name] = nbformat.read(finished, as_version=4), finished.read_bytes()
        record = json.loads((executed / preset / f"{chapter.stem}.json").read_text(encoding="utf-8"))
        del record["fingerprint"]
        published, guess = notebook["metadata"].get("ddpm", {}), _guess(notebook)
        provenance[chapter.stem] = {
            "prediction": guess if guess != published.get("guess") else f"{guess}, as published",
            "marks": _marks(notebook),
            "copy of": published.get("copy of"),
            "sha256": hashlib.sha256(files[chapter.name]).hexdigest(),
            **record,
        }
    target = folder.with_name(f"{folder.name}.zip")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr("provenance.json", json.dumps(provenance, indent=1))
    write_atomically(target, packed.getvalue())
    return target


def _marks(notebook: Any) -> dict[str, str]:
    """What `grade` said of every exercise."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    printed = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    lines = [line.removeprefix("exercise, ") for line in printed.splitlines() if line.startswith("exercise, ")]
    return {name: mark for name, _, mark in (line.partition(": ") for line in lines)}


def _guess(notebook: Any) -> str:
    """The prediction at a chapter's head, as it is written there."""
    sources = (cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    guesses = (source.partition("=")[2] for source in sources if source.startswith("my_guess = "))
    return next(guesses, "none").partition("#")[0].strip()
