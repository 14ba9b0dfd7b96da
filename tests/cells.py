"""The cells of notebooks."""

import nbformat


def cells_of(notebook, kind=None):
    """The cells of a notebook's file, all of them or those of a kind: "code" or "markdown"."""
    cells = nbformat.read(notebook, as_version=4)["cells"]
    return [cell for cell in cells if kind in (None, cell["cell_type"])]


def tags(cell):
    """The tags of a cell."""
    return cell["metadata"].get("tags", [])
