"""Says on each folded cell what is in it: the checks, the code of the figure, the claims, or other code."""

from docutils import nodes


def name_folds(app, document):
    """Replace the words "Show code cell source" of the folded cells of a page."""
    for cell in document.findall(nodes.container):
        if cell.get("nb_element") == "cell_code" and cell.get("hide_mode"):
            if cell["hide_mode"] == "input+output":
                cell["hide_mode"] = "all"  # one fold for both
            what = content(cell)
            cell["prompt_show"], cell["prompt_hide"] = f"Show {what}", f"Hide {what}"


def content(cell):
    """What is in a cell's fold."""
    code = cell.children[0].astext()
    if cell["hide_mode"] == "output":
        return "all numbers" if "record(" in code else "the output"
    if cell["hide_mode"] == "all" and "claims_table(" in code:
        return "the table of claims"
    checks = any(word in code for word in ("check(", "check_exact("))
    if any(cell.findall(nodes.image)):
        return "the code of the figure and its checks" if checks else "the code of the figure"
    return "the checks" if checks else "the code"


def setup(app):
    """Register `name_folds` with Sphinx."""
    app.connect("doctree-read", name_folds)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
