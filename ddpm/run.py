"""A training run's folder.

model.safetensors (averaged weights) and config.json, which `ddpm.load` reads; ema-0.9999/, the same of every further
average; log.jsonl, a line a step; checkpoints/, from which it goes on; samples/, pictures of its progress.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ddpm import files
from ddpm.checkpoint import best_checkpoint, newest_checkpoint, prune, save_checkpoint

Averages = Mapping[float, Mapping[str, Tensor]]


class Run:
    """What one run has written so far, and the way to write more of it.

    Args:
        folder: the run's.
        record: all that decides what is trained, as JSON; the folder must not hold a run of another one.
        defaults: the same of a run that says nothing, for records older than a setting.

    Raises:
        ValueError: the folder holds another run, or a model without a checkpoint to go on from.
    """

    def __init__(self, folder: Path, record: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self.folder = folder
        self.record = json.loads(json.dumps(record))  # tuples become lists, as they are when read back
        self.found = newest_checkpoint(folder / "checkpoints")
        if self.found is not None:
            old = _filled(self.found.config, json.loads(json.dumps(defaults)))
            if old != self.record:
                difference = _difference(old, self.record)
                raise ValueError(f"{folder} holds another run ({difference}); name a new folder or its options")
        elif (folder / "model.safetensors").exists():
            raise ValueError(f"{folder} holds a trained model and no checkpoint to go on from; name a new folder")

    def shorten_log(self) -> list[dict[str, Any]]:
        """Cut what a killed run logged beyond its checkpoint; the lines that stay."""
        path, start = self.folder / "log.jsonl", self.found.step if self.found else 0
        whole = path.read_bytes().splitlines(keepends=True)[:start] if start and path.exists() else []
        files.write_atomically(path, b"".join(whole))
        return [json.loads(line) for line in whole]

    def log(self, line: Mapping[str, Any]) -> None:
        """Add a step's line."""
        with _named(f"the log of step {line['step']}"), open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def save(self, step: int, state: Mapping[str, Tensor], averages: Averages, loss: float | None, keep: int) -> None:
        """Write a checkpoint, see `save_checkpoint`, and what follows from it."""
        with _named(f"the checkpoint of step {step}"):
            save_checkpoint(self.folder / "checkpoints", step, state, self.record, loss)
            self.publish(step, averages, keep)

    def publish(self, step: int, averages: Averages, keep: int) -> None:
        """Delete old checkpoints, and write the averages where `ddpm.load` finds them; the first is the run's own."""
        prune(self.folder / "checkpoints", keep)
        best = best_checkpoint(self.folder / "checkpoints")
        facts = {"step": step} | ({"best": best.stem} if best else {})
        for i, (decay, average) in enumerate(averages.items()):
            folder = self.folder / f"ema-{decay:g}" if i else self.folder
            sha256 = files.save_tensors(folder / "model.safetensors", average)
            files.write_json(folder / "config.json", self.record | facts | {"average": decay, "sha256": sha256})

    def show(self, image: Image.Image, step: int, trackers: Sequence[Any]) -> None:
        """Write a picture of what the model draws after a step, and give it to accelerate's trackers."""
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        files.write_atomically(self.folder / "samples" / f"step-{step:08d}.png", buffer.getvalue())
        for tracker in trackers:
            way = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"samples": np.asarray(image.convert("RGB"))[None]}, step, **way)


@contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(f"{what} could not be written ({error}); the last checkpoint stands") from error


def _filled(old: Any, defaults: Any) -> Any:
    """A record with the defaults of the settings that it is too old to have."""
    return old if not isinstance(defaults, dict) else old | {k: _filled(old.get(k, v), v) for k, v in defaults.items()}


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The first setting in which two records differ."""
    for key, value in new.items():
        if old.get(key) != value:
            nested = isinstance(value, dict) and isinstance(old.get(key), dict)
            return _difference(old[key], value) if nested else f"{key} is {old.get(key)} there and {value} here"
    return "it has settings that are gone"
