"""The chapters of a folder, in order, and the parameters that each one has."""

import ast
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import papermill
import yaml

from ddpm.companion.notebook import read_notebook

__all__ = ["check_parameters", "defaults_of", "find_chapters", "parameters_of", "parse_parameters"]


def find_chapters(notebooks: Path, only: int | Collection[int] | None = None, name: str = "notebooks") -> list[Path]:
    """The chapters in a folder, NN_name.ipynb, in order.

    Args:
        notebooks: the folder.
        only: number of the chapter to find, or numbers of several; by default all.
        name: what an error message calls the folder.

    Raises:
        ValueError: there is no folder, no chapter in it, or none with one of these numbers, or `only` is empty.
    """
    if not notebooks.is_dir():
        advice = "; run this in the book's folder, or name its chapters with --notebooks" if name == "notebooks" else ""
        raise ValueError(f"{name} is {str(notebooks)!r}; it must be a folder of chapters{advice}")
    chapters = sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))
    if not chapters:
        raise ValueError(f"{name} is {str(notebooks)!r}; it holds no chapter NN_name.ipynb")
    numbers = [int(path.name[:2]) for path in chapters]
    if only is None:
        return chapters
    asked = [only] if isinstance(only, int) else list(only)
    unknown = [number for number in asked if number not in numbers]
    if unknown or not asked:
        raise ValueError(f"only is {unknown[0] if unknown else asked}; legal are {', '.join(map(str, numbers))}")
    return [path for path, number in zip(chapters, numbers, strict=True) if number in asked]


def parse_parameters(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse NAME=VALUE pairs; each value is read as YAML, so that numbers are numbers.

    Raises:
        ValueError: one of them is no such pair.
    """
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"parameter is {pair!r}; it must be NAME=VALUE")
        try:
            values[name] = yaml.safe_load(value)
            json.dumps(values[name])
        except (yaml.YAMLError, TypeError, ValueError) as error:
            legal = "VALUE must be a number, a text, true, false or a list of them, as in YAML"
            raise ValueError(f"parameter is {pair!r}; {legal}") from error
    return values


def check_parameters(notebook: Path, values: Mapping[str, Any]) -> None:
    """Check that a notebook has exactly one parameters cell, and that the cell names all `values`.

    papermill does not check this: it injects unknown parameters silently, at the top if there is no such cell.

    Raises:
        ValueError: it does not, or it is no notebook.
    """
    cells = read_notebook(notebook)["cells"]
    tagged = sum("parameters" in cell["metadata"].get("tags", []) for cell in cells)
    if tagged != 1:
        raise ValueError(f"{notebook.name} has {tagged} cells tagged parameters; it must have exactly one")
    known = parameters_of(notebook)
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"parameter is {unknown[0]!r}; legal in {notebook.name} are {', '.join(known)}")


def parameters_of(notebook: Path) -> dict[str, str]:
    """The parameters of a chapter: the source of each one's default, by name."""
    content = read_notebook(notebook)
    content["metadata"]["kernelspec"] = {"name": "python3", "language": "python"}  # it may have none of its own
    return {name: found["default"] for name, found in papermill.inspect_notebook(content).items()}


def defaults_of(notebook: Path) -> dict[str, Any]:
    """The values of a chapter's own parameters cell; what is no constant stays as it is written."""

    def value_of(source: str) -> Any:
        try:
            value = ast.literal_eval(source)
        except (ValueError, SyntaxError):
            return source
        return value if isinstance(value, str | int | float | bool | None) else source

    return {name: value_of(source) for name, source in parameters_of(notebook).items()}
