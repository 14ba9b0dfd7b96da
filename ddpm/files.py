"""Files that are complete or absent: written under another name, flushed to the disk, then renamed into place."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

__all__ = ["load_tensors", "save_tensors", "serialised", "write_atomically", "write_json"]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file, which appears under its name only when all of it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())


def serialised(tensors: Mapping[str, Tensor]) -> tuple[bytes, str]:
    """Tensors as the content of a safetensors file, and its SHA-256."""
    content = tensors_to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
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
