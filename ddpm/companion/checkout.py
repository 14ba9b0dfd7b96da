"""Where the book's files are, and how programs that need them begin.

They are beside the package, in a checkout or a bundle. An installed wheel has none of them.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import typer

__all__ = ["ROOT", "beside_package", "run"]

#: The folder that holds the package: the root of a checkout.
ROOT = Path(__file__).parents[2]


def beside_package(name: str, root: Path = ROOT) -> Path:
    """The path of one of the book's files or folders, such as "book/claims.yml".

    Raises:
        FileNotFoundError: it is not there.
    """
    path = root / name
    if not path.exists():
        raise FileNotFoundError(
            f"{name} is not beside the package; the companion's claims and results need a checkout of the book"
        )
    return path


def run(main: Callable[..., None]) -> None:
    """Run one of the companion's programs; where there is no checkout, or bad input, it ends in a line that says so."""
    try:
        typer.run(main)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
