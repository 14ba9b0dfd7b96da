"""What stands beside an executed chapter: what it was made with, and a hash by which a second run is spared."""

import hashlib
import json
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import ddpm
from ddpm.companion.notebook import read_notebook
from ddpm.companion.provenance import commit
from ddpm.fast import chosen_device
from ddpm.files import read_json
from ddpm.messages import counted

__all__ = ["fingerprint_of", "made_with", "recorded"]

#: The folder of this package.
PACKAGE = Path(__file__).parents[1]


def fingerprint_of(notebook: Path, values: Mapping[str, Any]) -> str:
    """Hash of everything that a chapter's result depends on."""
    digest = hashlib.sha256(json.dumps([values, _versions(), torch.cuda.is_available()], sort_keys=True).encode())
    for cell in read_notebook(notebook)["cells"]:
        digest.update(json.dumps([cell["cell_type"], cell["source"], cell["metadata"]], sort_keys=True).encode())
    book = PACKAGE.parent / "book"
    files = [*PACKAGE.rglob("*"), book / "claims.yml", *book.glob("results/*.json")]
    for path in sorted(p for p in files if p.is_file() and "__pycache__" not in p.parts):
        digest.update(str(path.relative_to(PACKAGE.parent)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "ddpm": ddpm.__version__,
    }


def made_with(values: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """A chapter's parameters, and the machine, the day, the commit and the versions that it is executed with."""
    device = chosen_device(str(values.get("device", "auto")))
    cuda = device.type == "cuda"
    return {
        "parameters": dict(values),
        "device": torch.cuda.get_device_name(device) if cuda else f"{platform.machine()}, {counted(threads, 'thread')}",
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "versions": _versions(),
    }


def recorded(result: Path) -> dict[str, Any]:
    """The JSON file of a chapter that ran before; empty if there is none, or if it is damaged."""
    try:
        return read_json(result)
    except (FileNotFoundError, ValueError):
        return {}
