"""Bring the outputs of executed chapters back into the notebooks they were made from.

    ddpm chapters --only 4                          # executes it, into _build/chapters/cpu
    python -m ddpm.companion.outputs 4              # brings its outputs into notebooks/
    python -m ddpm.companion.outputs --solutions    # executes the page of solutions, and brings in its outputs

Where one notebook is refused, none is written.
"""

import tempfile
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import nbformat
import typer

from ddpm.companion.chapter_record import recorded
from ddpm.companion.chapters import defaults_of, find_chapters
from ddpm.companion.checkout import ROOT, run
from ddpm.companion.execution import Unfinished
from ddpm.companion.execution import executed as execute
from ddpm.companion.notebook import read_notebook
from ddpm.files import write_atomically

__all__ = ["executed_copy", "with_outputs"]

NO_CELL: dict[str, Any] = {"id": None, "source": None}  # where one of two notebooks has no more


def with_outputs(notebook: Any, executed: Any) -> Any:
    """The notebook with the outputs of an executed copy of it, cell by cell; all else stays as it is.

    Raises:
        ValueError: a cell of the copy has another source or none, has not run or has failed, or prints on stderr.
    """
    pairs = zip_longest(_code(notebook), _code(executed), fillvalue=NO_CELL)
    for number, (cell, copy) in enumerate(pairs, start=1):
        if (copy["id"], copy["source"]) != (cell["id"], cell["source"]):
            raise ValueError(f"code cell {number} is another one where it was executed; run the chapter again")
        if cell["source"].strip() and copy["execution_count"] is None:
            raise ValueError(f"cell {cell['id']} has not run; run the chapter again")
        for output in copy["outputs"]:
            if output["output_type"] == "error" or output.get("name") == "stderr":
                said = output.get("evalue") or output.get("text")
                raise ValueError(f"cell {cell['id']} has failed or warns ({said}); a chapter's cells do neither")
        cell["outputs"] = _numbered(_joined(copy["outputs"]), number)
        cell["execution_count"] = number
    return notebook


def _code(notebook: Any) -> list[Any]:
    """The cells of code, but the one that papermill has added."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [cell for cell in code if "injected-parameters" not in cell["metadata"].get("tags", [])]


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


def executed_copy(chapter: Path, folder: Path) -> Any:
    """The copy of a chapter that `ddpm chapters` has executed into a folder.

    Raises:
        ValueError: there is none, or it was executed with other parameters than the chapter's own, or before the
            sources were committed.
    """
    made = recorded(folder / f"{chapter.stem}.json")
    if not made:
        raise ValueError(f"{folder} holds no {chapter.name} that has run to its end; run ddpm chapters")
    if made["parameters"] != (own := defaults_of(chapter)):
        raise ValueError(f"{chapter.name} was executed with {made['parameters']}; its own parameters are {own}")
    if made["commit"].endswith("-dirty"):
        raise ValueError(
            f"{chapter.name} was executed before its sources were committed; commit, and run it with --force"
        )
    return read_notebook(folder / chapter.name)


def _just_executed(page: Path) -> Any:
    """A copy of a notebook without parameters that is executed now; `ValueError` where it does not come to its end."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return execute(page, Path(folder) / page.name, {})
        except Unfinished as error:
            raise ValueError(f"{page.name} failed{error}") from error


def main(
    chapter: Annotated[list[int] | None, typer.Argument(help="Numbers of the chapters; all if none is given.")] = None,
    executed: Annotated[Path, typer.Option(help="Folder of the executed chapters.")] = Path("_build/chapters/cpu"),
    notebooks: Annotated[Path, typer.Option(help="Folder of the chapters.")] = ROOT / "notebooks",
    solutions: Annotated[bool, typer.Option("--solutions", help="Execute the page of solutions instead.")] = False,
) -> None:
    """Bring the outputs of executed chapters back into notebooks/; then write the ledger again."""
    paths = [ROOT / "book" / "solutions.ipynb"] if solutions else find_chapters(notebooks, chapter or None)
    copies = (_just_executed(path) if solutions else executed_copy(path, executed) for path in paths)
    pairs = [(path, with_outputs(read_notebook(path), copy)) for path, copy in zip(paths, copies, strict=True)]
    for path, notebook in pairs:  # only where none is refused
        write_atomically(path, (nbformat.writes(notebook).rstrip() + "\n").encode())
        typer.echo(path)


if __name__ == "__main__":
    run(main)
