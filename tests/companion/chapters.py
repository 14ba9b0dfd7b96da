"""Small chapters for tests."""

import nbformat


def write(folder, number, *sources):
    """A chapter whose cells have these sources, after one of parameters; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = [nbformat.v4.new_code_cell('preset = "cpu"\nseed = 0', metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook.metadata["language_info"] = {"name": "python"}
    path = folder / f"{number:02}_chapter.ipynb"
    nbformat.write(notebook, path)
    return path
