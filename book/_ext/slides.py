"""Writes a deck of slides for each chapter beside the book, with reveal.js, which shows them.

The decks are made by `ddpm.companion.slides`; the page `book/slides.md` leads to them.
"""

import shutil
from pathlib import Path

from ddpm.companion.slides import write_decks

HERE = Path(__file__).parent
FILES = [HERE / "reveal.js" / name for name in ("reveal.js", "reveal.css", "notes.js")]
FILES += [HERE.parent / "_static" / name for name in ("slides.js", "slides.css")]


def write(app, exception):
    """Write the decks once the pages are there."""
    if exception is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir) / "slides"
    write_decks(Path(app.srcdir) / "notebooks", folder)
    for file in FILES:
        shutil.copy(file, folder)


def setup(app):
    """Register with Sphinx."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
