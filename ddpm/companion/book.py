"""Build the book: from chapters that were executed just now, or without the solutions of its exercises."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import nbformat
import typer

from ddpm.companion.checkout import ROOT, beside_package, run
from ddpm.companion.ledger import ledger
from ddpm.companion.notebook import read_notebook

__all__ = ["PAGES", "SOLUTIONS", "build", "main", "staged"]

#: The files and folders that the book is made of; its page of evidence shows tests.
PAGES = ("_config.yml", "_toc.yml", "CHANGELOG.md", "book", "notebooks", "tests")
#: The page of solutions, as the contents name it.
SOLUTIONS = "book/solutions"
#: What chapters and pages say of that page: a sentence of its own, or the end of one.
PROMISE = re.compile(
    r"\s*(?:\w+\s+)?[Ss]olutions\s+(?:of all chapters\s+)?stand\s+on\s+a\s+page\s+of\s+their\s+own\b[^.]*\."
    r"|,? and their solutions on a page of their own"
)


def staged(executed: Path | None, stage: Path, solutions: bool = True) -> Path:
    """Copy the book's pages into the folder `stage`, and return it.

    The ledger there has the numbers of the chapters that stand there.

    Args:
        executed: a folder of executed chapters, which replace the committed ones of the same name; None for no such.
        stage: the folder; what it held is deleted.
        solutions: whether to keep the page with the exercises' solutions, and what chapters and pages say of it.

    Raises:
        FileNotFoundError: the book's pages are not beside the package.
        ValueError: `executed` holds none of the book's chapters.
    """
    pages = [beside_package(name) for name in PAGES]
    if executed is not None and not any((executed / path.name).is_file() for path in _chapters(ROOT)):
        raise ValueError(f"executed is {str(executed)!r}; it must be a folder of executed chapters")
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    for page in pages:
        copy = shutil.copytree if page.is_dir() else shutil.copy
        copy(page, stage / page.name)
    if executed is not None:
        for chapter in _chapters(stage):
            if (executed / chapter.name).is_file():  # the others keep their committed outputs
                shutil.copy(executed / chapter.name, chapter)
        (stage / "book" / "ledger.md").write_text(ledger(stage), encoding="utf-8", newline="\n")
    if not solutions:
        _remove_solutions(stage)
    return stage


def _chapters(root: Path) -> list[Path]:
    return list((root / "notebooks").glob("*.ipynb"))


def _remove_solutions(stage: Path) -> None:
    """Remove the page of solutions, its line in the contents, and the sentences that promise it."""
    (stage / f"{SOLUTIONS}.ipynb").unlink()
    contents = stage / "_toc.yml"
    lines = contents.read_text(encoding="utf-8").splitlines(keepends=True)
    contents.write_text("".join(line for line in lines if SOLUTIONS not in line), encoding="utf-8")
    for page in (stage / "book").glob("*.md"):
        page.write_text(PROMISE.sub("", page.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
    for chapter in _chapters(stage):
        notebook = read_notebook(chapter)
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = PROMISE.sub("", cell["source"])
        nbformat.write(notebook, chapter)


def build(stage: Path, out: Path | None = None) -> Path:
    """Build the book from staged pages; returns the path of the first page.

    Args:
        stage: the folder of the pages.
        out: the folder that gets `_build/html`, from which the book that was there is deleted first; by default the
            stage.

    Raises:
        FileNotFoundError: jupyter-book is not installed beside this interpreter, nor found elsewhere.
        ValueError: jupyter-book has failed, and has said why.
    """
    tool = shutil.which("jupyter-book", path=str(Path(sys.executable).parent)) or shutil.which("jupyter-book")
    if tool is None:
        raise FileNotFoundError("jupyter-book is not installed; building needs: pip install 'ddpm[book]'")
    out = out or stage
    html = out / "_build" / "html"
    if html.exists():
        shutil.rmtree(html)  # no page of another book, such as one with solutions, is left there
    command = [tool, "build", str(stage), "--path-output", str(out), "-n", "-W", "--keep-going", "--quiet"]
    code = subprocess.run(command).returncode
    if code:
        raise ValueError(f"the book was not built: jupyter-book ended with exit code {code}")
    return html / "index.html"


def main(
    executed: Annotated[Path | None, typer.Argument(help="Folder of executed chapters.")] = None,
    solutions: Annotated[bool, typer.Option(help="Include the solutions of the exercises, or leave them out.")] = True,
) -> None:
    """Build the book, and print where it is: _build/stage/_build/html, or _build/html if no chapters are given.

    It is built from executed chapters, or else from the committed ones.
    """
    started = time.time()
    stage = staged(executed, ROOT / "_build" / "stage", solutions)
    page = build(stage, ROOT if executed is None else stage)
    print(f"the book: {page.relative_to(ROOT)}, built in {time.time() - started:.0f} s")


if __name__ == "__main__":
    run(main)
