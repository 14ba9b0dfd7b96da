"""A training's state on disk: safetensors beside a JSON manifest with their hash, which is written last.

A kill at any moment leaves the previous checkpoint as it was.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm.files import load_tensors, save_tensors, write_json

KEEP = 2


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
            manifest = json.loads(path.read_text(encoding="utf-8"))
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
    return {
        f"{name}.{index}.{key}": value
        for index, state in enumerate(states)
        for key, value in state.items()
        if isinstance(value, Tensor)  # what else an optimiser keeps follows from the parameters
    }


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
