"""Read a notebook; what is none is named."""

from pathlib import Path
from typing import Any

import nbformat

__all__ = ["read_notebook"]


def read_notebook(path: Path) -> Any:
    """The notebook in a file, brought to version 4 of its format.

    Raises:
        ValueError: the file is no notebook, or one that is damaged.
        FileNotFoundError: there is no such file.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except FileNotFoundError:
        raise
    except Exception as error:  # nbformat's own kinds, and of a file of other JSON whatever its reading runs into
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} cannot be read as a notebook: {reason}") from error
    return notebook
