"""Files that are complete or absent: written under another name, flushed to the disk, then renamed into place."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

__all__ = [
    "check_file_finite", "check_place", "check_weights", "expanded", "load_tensors", "new_folder", "read_json",
    "save_tensors", "serialised", "write_atomically", "write_json",
]  # fmt: skip


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path, where "~" at its beginning is the home unless something is called so."""
    return Path(path) if os.path.exists(path) else Path(os.path.expanduser(path))


def check_place(name: str, path: Path) -> None:
    """Raise `ValueError` unless a new file can be written to `path`, whose folders need not exist yet.

    It tries, in a folder of its own that is gone afterwards: what a system forbids is known to the system alone.

    Args:
        name: what an error message calls the path.
        path: where the file will be.
    """
    try:
        existing = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
        with tempfile.TemporaryDirectory(prefix=".", dir=existing) as trial:
            beside = Path(trial, path.absolute().relative_to(existing))
            beside.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(beside, b"")
    except OSError as error:
        raise ValueError(f"{name} is {str(path)!r}, where no file can be written: {error.strerror}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file, which appears under its name only when all of it is on the disk.

    Raises:
        OSError: it cannot be written, as where the disk is full; the message names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """The names and values of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))  # Windows' editors put a mark at the beginning
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it must hold an object of names and values")
    return values


@contextmanager
def new_folder(name: str, path: Path) -> Iterator[Path]:
    """A context in which to write a folder that is complete or absent.

    It yields another folder, whose content is at `path` when the context has ended well. Otherwise nothing of it is
    left, nor of the folders on the way that had to be made.

    Args:
        name: what an error message calls the path.
        path: a folder that is empty or not there yet.

    Raises:
        ValueError: it holds something, is no folder, or cannot be written into.
    """
    _check_is_free(name, path)
    is_there = os.path.isdir(path)
    place = path if is_there else path.parent  # an empty folder may be somebody's current one, so it stays itself
    missing = [folder for folder in (place, *place.parents) if not os.path.exists(folder)]
    unfinished = place / f".{path.name}.{os.getpid()}.part"
    try:
        _make_folder(name, unfinished, path)
        yield unfinished
        _flush(unfinished)
        if is_there:
            _move(list(unfinished.iterdir()), path)
            unfinished.rmdir()
        else:
            os.replace(unfinished, path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise


def _check_is_free(name: str, path: Path) -> None:
    legal = "it must be an empty folder or not there yet"
    if os.path.isdir(path):
        try:
            first = next(path.iterdir(), None)
        except OSError as error:
            raise _unusable(name, path, error) from error
        if first is not None:
            raise ValueError(f"{name} is {str(path)!r}, which holds {first.name!r}; {legal}")
    elif os.path.lexists(path):
        raise ValueError(f"{name} is {str(path)!r}, which is no folder; {legal}")


def _make_folder(name: str, folder: Path, path: Path) -> None:
    """Make an empty folder and those on the way to it."""
    try:
        shutil.rmtree(folder, ignore_errors=True)  # left by a process of the same number that was killed
        folder.mkdir(parents=True)
    except OSError as error:
        raise _unusable(name, path, error) from error


def _unusable(name: str, path: Path, error: OSError) -> ValueError:
    return ValueError(f"{name} is {str(path)!r}, where no files can be written: {error.strerror}")


def _flush(folder: Path) -> None:
    """Wait until every file in a folder is on the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())


def _move(parts: Sequence[Path], folder: Path) -> None:
    """Move files and folders into a folder; where that ends halfway, they go back."""
    try:
        for part in parts:
            os.replace(part, folder / part.name)
    except BaseException:
        for part in parts:
            if not part.exists():
                os.replace(folder / part.name, part)
        raise


def serialised(tensors: Mapping[str, Tensor]) -> tuple[bytes, str]:
    """Tensors as the content of a safetensors file, and its SHA-256."""
    apart: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        memory = value.untyped_storage().data_ptr()
        apart[name] = value.clone() if memory in seen else value  # safetensors refuses tied weights, which share it
        seen.add(memory)
    content = tensors_to_bytes(apart)
    return content, hashlib.sha256(content).hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Save tensors as safetensors, atomically; returns the file's SHA-256."""
    content, sha256 = serialised(tensors)
    write_atomically(path, content)
    return sha256


def load_tensors(path: Path, *sha256: str) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated or not safetensors, or its SHA-256 is none of those given.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    content = path.read_bytes()
    if sha256 and hashlib.sha256(content).hexdigest() not in sha256:
        raise ValueError(f"{path} is damaged or was replaced: its SHA-256 is not the one recorded when it was written")
    try:
        return tensors_from_bytes(content)
    except SafetensorError as error:
        raise ValueError(f"{path} is an incomplete safetensors file ({error})") from error


def check_weights(path: Path, weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Check that the weights in a file are those that a network wants: by name, shape and kind, and finite.

    Args:
        path: the file, for the message.
        weights: its tensors. Any floating point will do, since a network converts it to its own.
        wanted: the network's own tensors.

    Raises:
        ValueError: they are not; the message names the first that is not.
    """
    for name in wanted:
        if name not in weights:
            raise ValueError(f"{path} does not fit the model: it lacks {name}")
    for name in sorted(weights):  # safetensors knows no order
        if name not in wanted:
            raise ValueError(f"{path} does not fit the model, which has no {name}")
    for name, own in wanted.items():
        value = weights[name]
        if value.shape != own.shape or value.is_floating_point() != own.is_floating_point():
            raise ValueError(
                f"{path} does not fit the model: {name} is {_described(value)} there; it must be {_described(own)}"
            )
    check_file_finite(path, {name: value.to(wanted[name].dtype) for name, value in weights.items()})


def check_file_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise `ValueError`, with the path in it, unless every number of these tensors is finite."""
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise ValueError(f"{path} is damaged: {name} holds numbers that are not finite")


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
