"""Build the book from chapters that were executed just now, instead of from the committed outputs."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from ddpm.companion.claims import ROOT

PAGES = ("_config.yml", "_toc.yml", "book", "notebooks", "tests")  # the page of the evidence shows tests


def build(executed: Path, stage: Path = ROOT / "_build" / "stage") -> Path:
    """Stage the book's pages with the executed chapters in place of the committed ones, and build it there.

    Returns the path of the first page.
    """
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    for name in PAGES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, stage / name)
    for chapter in (stage / "notebooks").glob("*.ipynb"):
        if (executed / chapter.name).is_file():  # the others keep their committed outputs
            shutil.copy(executed / chapter.name, chapter)
    tool = shutil.which("jupyter-book", path=str(Path(sys.executable).parent)) or "jupyter-book"
    command = [tool, "build", str(stage), "-n", "-W", "--keep-going", "--quiet"]
    subprocess.run(command, check=True)
    return stage / "_build" / "html" / "index.html"


def main() -> None:
    """Build from the folder of executed chapters given, and say where the book is and how long it took."""
    started = time.time()
    page = build(Path(sys.argv[1]))
    print(f"the book: {page.relative_to(ROOT)}, built in {time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
