"""Build the book: from chapters that were executed just now, or without the solutions of its exercises."""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import nbformat
import typer

from ddpm.companion.checkout import ROOT, beside_package

__all__ = ["PAGES", "build", "main", "staged"]

#: The files and folders that the book is made of; its page of evidence shows tests.
PAGES = ("_config.yml", "_toc.yml", "CHANGELOG.md", "book", "notebooks", "tests")


def staged(executed: Path | None, stage: Path, solutions: bool = True) -> Path:
    """Copy the book's pages into the folder `stage`, and return it.

    Args:
        executed: a folder of executed chapters, which replace the committed ones of the same name; None for no such.
        stage: the folder; what it held is deleted.
        solutions: whether to keep the cells with the exercises' solutions.

    Raises:
        FileNotFoundError: the book's pages are not beside the package.
    """
    pages = [beside_package(name) for name in PAGES]
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    for page in pages:
        copy = shutil.copytree if page.is_dir() else shutil.copy
        copy(page, stage / page.name)
    for chapter in (stage / "notebooks").glob("*.ipynb"):
        if executed is not None and (executed / chapter.name).is_file():  # the others keep their committed outputs
            shutil.copy(executed / chapter.name, chapter)
        if not solutions:
            _remove_solutions(chapter)
    return stage


def _remove_solutions(chapter: Path) -> None:
    notebook = nbformat.read(chapter, as_version=4)
    notebook["cells"] = [cell for cell in notebook["cells"] if "solution" not in cell["metadata"].get("tags", [])]
    nbformat.write(notebook, chapter)


def build(stage: Path) -> Path:
    """Build the book from staged pages; returns the path of the first page."""
    tool = shutil.which("jupyter-book", path=str(Path(sys.executable).parent)) or "jupyter-book"
    command = [tool, "build", str(stage), "-n", "-W", "--keep-going", "--quiet"]
    subprocess.run(command, check=True)
    return stage / "_build" / "html" / "index.html"


def main(
    executed: Annotated[Path | None, typer.Argument(help="Folder of executed chapters.")] = None,
    solutions: Annotated[bool, typer.Option(help="Include the solutions of the exercises, or leave them out.")] = True,
) -> None:
    """Build the book from executed chapters, or from the committed ones, and print where it is."""
    started = time.time()
    page = build(staged(executed, ROOT / "_build" / "stage", solutions))
    print(f"the book: {page.relative_to(ROOT)}, built in {time.time() - started:.0f} s")


if __name__ == "__main__":
    try:
        typer.run(main)
    except FileNotFoundError as error:  # no checkout
        sys.exit(str(error))
