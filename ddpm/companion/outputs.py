"""Bring the outputs of executed chapters back into the notebooks they were made from.

ddpm chapters --only 4                  # executes it, into _build/chapters/cpu
python -m ddpm.companion.outputs 4      # brings its outputs into notebooks/
python -m ddpm.companion.outputs --solutions    # executes the page of solutions, and brings in its outputs
"""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import nbformat
import typer

from ddpm.companion.chapters import find_chapters
from ddpm.companion.checkout import ROOT, run
from ddpm.companion.execution import Unfinished
from ddpm.companion.execution import executed as execute
from ddpm.companion.notebook import read_notebook
from ddpm.files import write_atomically

__all__ = ["with_outputs"]


def with_outputs(notebook: Any, executed: Any) -> Any:
    """The notebook with the outputs of an executed copy of it, cell by cell; all else stays as it is.

    Raises:
        ValueError: a cell of the copy has another source or none, has not run or has failed, or prints on stderr; or
            the copy was executed with other parameters, or from sources that were not committed.
    """
    _check_origin(notebook, executed)
    copies = {cell["id"]: cell for cell in executed["cells"]}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, start=1):
        copy = copies.get(cell["id"], {})
        if copy.get("source") != cell["source"]:
            raise ValueError(f"cell {cell['id']} is another one where it was executed; run the chapter again")
        if cell["source"].strip() and copy["execution_count"] is None:
            raise ValueError(f"cell {cell['id']} has not run; run the chapter again")
        for output in copy["outputs"]:
            if output["output_type"] == "error" or output.get("name") == "stderr":
                said = output.get("evalue") or output.get("text")
                raise ValueError(f"cell {cell['id']} has failed or warns ({said}); a chapter's cells do neither")
        cell["outputs"] = _numbered(_joined(copy["outputs"]), number)
        cell["execution_count"] = number
    return notebook


def _check_origin(notebook: Any, executed: Any) -> None:
    """Raise `ValueError` where a copy's outputs are not those of a commit, or of the notebook's own parameters."""
    own, injected = (_tagged(*pair) for pair in ((notebook, "parameters"), (executed, "injected-parameters")))
    others = [line for line in injected if line not in own and not line.startswith(("#", "device"))]
    if others:
        raise ValueError(f"it was executed with {', '.join(others)}; run it again with --preset cpu alone")
    if "-dirty" in json.dumps([cell.get("outputs") for cell in executed["cells"]]):
        raise ValueError("it was executed before its sources were committed; commit them, and run it with --force")


def _tagged(notebook: Any, tag: str) -> list[str]:
    """The lines of the cells that have a tag."""
    cells = [cell for cell in notebook["cells"] if tag in cell["metadata"].get("tags", [])]
    return [line for cell in cells for line in cell["source"].splitlines() if line]


def _joined(outputs: list[Any]) -> list[Any]:
    """Outputs in which what was printed in pieces, one right after the other, is one."""
    joined: list[Any] = []
    for output in outputs:
        if joined and output["output_type"] == joined[-1]["output_type"] == "stream":
            joined[-1]["text"] += output["text"]
        else:
            joined.append(output)
    return joined


def _numbered(outputs: list[Any], number: int) -> list[Any]:
    """Outputs whose results have the number of their cell, which papermill's own cell of parameters shifts."""
    for output in outputs:
        if output["output_type"] == "execute_result":
            output["execution_count"] = number
    return outputs


def main(
    chapter: Annotated[list[int] | None, typer.Argument(help="Numbers of the chapters; all if none is given.")] = None,
    executed: Annotated[Path, typer.Option(help="Folder of the executed chapters.")] = Path("_build/chapters/cpu"),
    notebooks: Annotated[Path, typer.Option(help="Folder of the chapters.")] = ROOT / "notebooks",
    solutions: Annotated[bool, typer.Option("--solutions", help="Execute the page of solutions instead.")] = False,
) -> None:
    """Bring the outputs of executed chapters back into notebooks/; then write the ledger again."""
    with tempfile.TemporaryDirectory() as folder:
        if solutions:
            paths, executed = [ROOT / "book" / "solutions.ipynb"], Path(folder)
            _execute(paths[0], executed)
        else:
            paths = find_chapters(notebooks, chapter or None)
        pairs = [(path, _brought(path, executed)) for path in paths]
    for path, notebook in pairs:
        write_atomically(path, (nbformat.writes(notebook).rstrip() + "\n").encode())
        typer.echo(path)


def _execute(path: Path, folder: Path) -> None:
    """Execute a notebook into a folder; raise `ValueError` where it does not come to its end."""
    try:
        execute(path, folder / path.name, {})
    except Unfinished as error:
        raise ValueError(f"{path.name} failed{error}") from error


def _brought(path: Path, executed: Path) -> Any:
    """A notebook with the outputs of its copy in a folder; a `ValueError` names the notebook."""
    if not (executed / path.name).is_file():
        raise ValueError(f"{executed / path.name} is not there; run ddpm chapters --only {int(path.name[:2])}")
    try:
        return with_outputs(read_notebook(path), read_notebook(executed / path.name))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


if __name__ == "__main__":
    run(main)
