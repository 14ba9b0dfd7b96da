"""What is installed by the extra ddpm[train] alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

__all__ = ["check_installed", "needed"]


def check_installed() -> None:
    """Raise `ModuleNotFoundError` where accelerate, which every training needs, is not installed."""
    if find_spec("accelerate") is None:
        raise _missing("accelerate")


@contextmanager
def needed(package: str) -> Iterator[None]:
    """A context in which to import a package of the extra; where it is not installed, the error says what to install.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise _missing(package) from error


def _missing(package: str) -> ModuleNotFoundError:
    message = f"{package} is not installed; training needs: pip install 'ddpm[train]'"
    return ModuleNotFoundError(message, name=package)
