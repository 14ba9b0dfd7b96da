"""A training's state on disk: a safetensors file, then a JSON manifest with its hash.

The manifest is written last, so a kill at any moment leaves the previous checkpoint as it was. It carries a hash of
itself, too, so that no part of a checkpoint can change unnoticed.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ddpm.files import load_tensors, save_tensors, write_json
from ddpm.messages import say
from ddpm.training.averages import average_in
from ddpm.training.record import upgraded

__all__ = [
    "Checkpoint", "best_checkpoint", "load_checkpoint", "newest_checkpoint", "prune", "save_checkpoint", "sealed"
]  # fmt: skip

VERSION = 2


class LaterVersion(ValueError):
    """A whole checkpoint that a later version of this package has written."""


class Checkpoint(NamedTuple):
    """A training's state after `step` steps."""

    step: int
    tensors: dict[str, Tensor]
    config: dict[str, Any]

    def average(self) -> dict[str, Tensor]:
        """The run's own averaged weights."""
        ema = self.config["training"]["ema"]
        return average_in(self.tensors, ema[0] if isinstance(ema, list) else ema)


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], config: Mapping[str, Any], loss: float | None = None
) -> None:
    """Save a training's state.

    Args:
        folder: folder of the checkpoints, each step-00000500.safetensors and .json.
        step: number of steps that the training has done.
        tensors: the training's state.
        config: the run's record: what is trained, and how.
        loss: mean training loss of the last `checkpoint_every` steps. The one with the smallest is the best; None
            never is.
    """
    path = _path(folder, step)
    manifest = {"version": VERSION, "step": step, "loss": loss, "config": dict(config)}
    sha256 = save_tensors(path.with_suffix(".safetensors"), tensors)
    write_json(path, sealed(manifest | {"sha256": sha256}))


def prune(folder: Path, step: int, keep: int) -> None:
    """Delete all checkpoints up to a step but the newest `keep` and the best, and tensors without a manifest.

    Checkpoints beyond the step are damaged, as the training would otherwise have gone on from them; they go, too.
    """
    manifests = sorted(folder.glob("step-*.json"), key=_by_step)
    sound = [path for path in manifests if _by_step(path) <= _by_step(_path(folder, step))]
    for path in {*manifests} - {*sound}:
        path.unlink()
    for path in {*sound} - {*sound[-keep:], best_checkpoint(folder)}:
        path.unlink()
    for path in folder.glob("step-*.safetensors"):
        if not path.with_suffix(".json").exists():
            path.unlink()


def best_checkpoint(folder: Path) -> Path | None:
    """The manifest with the least loss; None where none has one."""
    losses: dict[Path, float] = {}
    for path in folder.glob("step-*.json"):
        with suppress(ValueError, OSError):
            if (loss := _read(path)["loss"]) is not None:
                losses[path] = loss
    return min(losses, key=losses.__getitem__, default=None)


def load_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint of a manifest.

    Raises:
        ValueError: it is damaged, or another version of this package wrote it.
        FileNotFoundError: one of its two files is not there.
    """
    manifest = _read(path)
    tensors = load_tensors(path.with_suffix(".safetensors"), manifest["sha256"])
    return Checkpoint(manifest["step"], tensors, upgraded(manifest["config"]))


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint, or None where none was ever written.

    A damaged one is passed over, with one line that says so.

    Raises:
        ValueError: all are damaged, or a later version of this package has written one.
        OSError: one cannot be read now; that does not make it a damaged one.
    """
    problem: Exception | None = None
    for path in sorted(folder.glob("step-*.json"), key=_by_step, reverse=True):
        try:
            return load_checkpoint(path)
        except LaterVersion:
            raise
        except (ValueError, FileNotFoundError) as error:
            problem = error
            say(f"checkpoint {path.stem} is passed over: {error}")
    if problem is not None:
        raise ValueError(f"no checkpoint in {folder} can be read: {problem}")
    return None


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with the hash of its own content."""
    return {**manifest, "seal": hashlib.sha256(json.dumps(manifest).encode()).hexdigest()}


def _path(folder: Path, step: int) -> Path:
    """The manifest of a step."""
    return folder / f"step-{step:08d}.json"


def _by_step(path: Path) -> tuple[int, str]:
    """Orders manifests by their steps, also those of more than eight digits."""
    return len(path.stem), path.stem


def _read(path: Path) -> dict[str, Any]:
    try:
        manifest = dict(json.loads(path.read_bytes()))
        seal = manifest.pop("seal", None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    version = manifest.get("version")
    if isinstance(version, int) and version > VERSION and sealed(manifest)["seal"] == seal:
        raise LaterVersion(f"{path} has version {version}; this package reads {VERSION}")
    if version != VERSION:
        raise ValueError(f"{path} has version {version!r}; this package reads {VERSION}")
    if sealed(manifest)["seal"] != seal or path.name != _path(path.parent, manifest["step"]).name:
        raise ValueError(f"{path} is damaged or was changed: its hash is not the one it was written with")
    return manifest
