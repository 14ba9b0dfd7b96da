"""What is installed by the extra ddpm[train] alone."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needed"]


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
        message = f"{package} is not installed; training needs: pip install 'ddpm[train]'"
        raise ModuleNotFoundError(message, name=package) from error
