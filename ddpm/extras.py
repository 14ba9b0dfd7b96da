"""What is installed by the package's extras alone, and what is said where it is missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

__all__ = ["EXTRAS", "check_installed", "missing", "needed"]

#: The extra that installs each optional package.
EXTRAS = {
    "accelerate": "train", "filelock": "train", "tensorboard": "train", "timm": "train",
    "torchdiffeq": "evaluate", "torchmetrics": "evaluate",
    "diffusers": "diffusers", "onnx": "onnx", "onnxscript": "onnx",
    "ipykernel": "book", "jupyter_client": "book", "nbclient": "book", "papermill": "book",
}  # fmt: skip


def check_installed(package: str) -> None:
    """Raise `ModuleNotFoundError` where a package of an extra is not installed."""
    if find_spec(package) is None:
        raise missing(package)


@contextmanager
def needed(package: str) -> Iterator[None]:
    """A context in which to import a package of an extra; where it is not installed, the error says what to install.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise missing(package) from error


def missing(package: str) -> ModuleNotFoundError:
    """What is raised where a package of an extra is not installed: it says what to install."""
    message = f"{package} is not installed; this needs: pip install 'ddpm[{EXTRAS[package]}]'"
    return ModuleNotFoundError(message, name=package)
