"""Build the book from chapters that were executed just now, or without the solutions of its exercises."""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import nbformat
import typer

from ddpm.companion.claims import ROOT

PAGES = (
    "_config.yml",
    "_toc.yml",
    "CHANGELOG.md",
    "book",
    "notebooks",
    "tests",
)  # the page of the evidence shows tests


def staged(executed: Path | None, stage: Path, solutions: bool = True) -> Path:
    """Put the book's pages together in a folder, which is returned.

    Args:
        executed: folder of chapters that take the place of the committed ones, if any.
        stage: the folder; what it held is deleted.
        solutions: whether the cells with the exercises' solutions are in it.
    """
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    for name in PAGES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, stage / name)
    for chapter in (stage / "notebooks").glob("*.ipynb"):
        if executed is not None and (executed / chapter.name).is_file():  # the others keep their committed outputs
            shutil.copy(executed / chapter.name, chapter)
        if not solutions:
            notebook = nbformat.read(chapter, as_version=4)
            notebook["cells"] = [c for c in notebook["cells"] if "solution" not in c["metadata"].get("tags", [])]
            nbformat.write(notebook, chapter)
    return stage


def build(stage: Path) -> Path:
    """Build the book from staged pages; returns the path of the first page."""
    tool = shutil.which("jupyter-book", path=str(Path(sys.executable).parent)) or "jupyter-book"
    command = [tool, "build", str(stage), "-n", "-W", "--keep-going", "--quiet"]
    subprocess.run(command, check=True)
    return stage / "_build" / "html" / "index.html"


def main(
    executed: Annotated[Path | None, typer.Argument(help="Folder of executed chapters.")] = None,
    solutions: Annotated[bool, typer.Option(help="With the solutions of the exercises, or without.")] = True,
) -> None:
    """Build the book from executed chapters, or from the committed ones, and say where it is."""
    started = time.time()
    page = build(staged(executed, ROOT / "_build" / "stage", solutions))
    print(f"the book: {page.relative_to(ROOT)}, built in {time.time() - started:.0f} s")


if __name__ == "__main__":
    typer.run(main)
