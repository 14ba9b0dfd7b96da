"""Makes every tagged cell of a chapter a target that other pages can link to: CHAPTER-TAG, in lower case."""

from pathlib import Path

from docutils import nodes


def note_cells(app, document):
    """Give the tagged cells of a page their ids, and register these as link targets."""
    chapter, labels = app.env.docname, app.env.get_domain("std")
    for cell in document.findall(nodes.container):
        for tag in (name.removeprefix("tag_") for name in cell["classes"] if name.startswith("tag_")):
            target = f"{Path(chapter).name}-{tag}".lower()
            if target not in cell.document.ids:  # the first of several cells with the same tag gets it
                cell["ids"].append(target)
                cell.document.ids[target] = cell
                labels.anonlabels[target] = chapter, target
                labels.labels[target] = chapter, target, tag


def setup(app):
    """Register `note_cells` with Sphinx."""
    app.connect("doctree-read", note_cells)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
