"""Files that are whole or not there: safetensors beside a small JSON manifest that holds their hash.

Both are written under another name, flushed to the disk and renamed into place, the manifest last: a kill at any
moment leaves the previous checkpoint as it was.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor
from tqdm import tqdm

KEEP = 2


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that appears under its name only when all of it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    with open(beside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Save tensors as safetensors, atomically; returns the file's SHA-256."""
    content = tensors_to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def load_tensors(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated or not safetensors, or its SHA-256 is not the one given.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    content = path.read_bytes()
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path} is damaged or was replaced: its SHA-256 is not the one recorded when it was written")
    try:
        return tensors_from_bytes(content)
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file ({error})") from error


def save_checkpoint(folder: Path, step: int, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Save a training's state after `step` steps, then delete all checkpoints but the newest `KEEP`."""
    path = folder / f"step-{step:08d}.safetensors"
    sha256 = save_tensors(path, tensors)
    write_json(path.with_suffix(".json"), {"step": step, "sha256": sha256, "config": dict(config)})
    for manifest in sorted(folder.glob("step-*.json"))[:-KEEP]:
        manifest.unlink()
        manifest.with_suffix(".safetensors").unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
    """(step, tensors, config) of the newest whole checkpoint, or None where none was ever written.

    A damaged one is passed over, said in one line. Raises `ValueError` when all are damaged.
    """
    manifests = sorted(folder.glob("step-*.json"), reverse=True)
    problem: Exception | None = None
    for path in manifests:
        try:
            manifest = json.loads(path.read_text())
            return (
                manifest["step"],
                load_tensors(path.with_suffix(".safetensors"), manifest["sha256"]),
                manifest["config"],
            )
        except (ValueError, KeyError, FileNotFoundError) as error:
            problem = error
            tqdm.write(f"checkpoint {path.stem} is passed over: {error}")
    if problem is not None:
        raise ValueError(f"no checkpoint in {folder} is whole: {problem}")
    return None


def flatten_optimiser(name: str, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's state as named tensors: `name.index.key`."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    states = [optimiser.state[parameter] for parameter in parameters]
    return {f"{name}.{index}.{key}": value for index, state in enumerate(states) for key, value in state.items()}


def restore_optimiser(name: str, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser back what `flatten_optimiser` made of it."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(parameters):
        prefix = f"{name}.{index}."
        for label in (label for label in tensors if label.startswith(prefix)):
            value = tensors[label].to(parameter.device)
            if value.shape == parameter.shape:
                # Fused optimisers pair values by their place in memory, so the weight's own layout matters.
                value = torch.empty_like(parameter, requires_grad=False).copy_(value)
            optimiser.state[parameter][label.removeprefix(prefix)] = value
