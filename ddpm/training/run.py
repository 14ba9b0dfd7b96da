"""A training run's folder.

It holds

- model.safetensors, the averaged weights, and config.json, which `ddpm.load` reads;
- a folder such as ema-0.9999/ with the same two files for every further average;
- log.jsonl with a line for each step;
- checkpoints/, from which the run resumes;
- samples/ and tensorboard/, to watch the run.
"""

import errno
import hashlib
import json
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from ddpm import files
from ddpm.extras import needed
from ddpm.messages import say
from ddpm.training.checkpoint import best_checkpoint, newest_checkpoint, prune, save_checkpoint
from ddpm.training.record import difference, filled, settled, with_changes_on_the_way, with_todays_data

with needed("filelock"):
    from filelock import FileLock, Timeout

__all__ = ["Run", "writing"]

HALF_WRITTEN = re.compile(r"(model\.safetensors|config\.json|log\.jsonl|wandb-id|step-\d{8,}\.\w+)\.\d+\.part")
PATIENCE = 15  # seconds to wait for the lock: a killed process and its workers take a while to exit
#: How a file system says that it has no locks: s3fs, 9p, NFS without a lock daemon.
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
AveragesByDecay = Mapping[float, Mapping[str, Tensor]]


class Run:
    """Reads what a run has written to its folder so far, and writes more.

    A write that fails raises `OSError`, and the message says what could not be written.

    Args:
        folder: the run's folder.
        record: the run's record (see `ddpm.training.record`); a folder that holds a run with another record is refused.
            A number of threads that one of the two leaves open is the other's.
        defaults: the record of a run with every setting at its default; it completes records older than a setting.
        keep: how many of the newest checkpoints to keep.
        former_names: what earlier versions called the data of this record.

    Attributes:
        found: the checkpoint to resume from, if there is one.
        record: the run's record, with what `found` says of the threads if they were left open.

    Raises:
        ValueError: the folder holds another run, a model without a checkpoint to resume from, or another program's
            files of these names.
    """

    def __init__(
        self,
        folder: Path,
        record: dict[str, Any],
        defaults: Mapping[str, Any],
        keep: int,
        former_names: Collection[str] = (),
    ) -> None:
        self.folder, self.keep, self.record = folder, keep, record
        self._seen = sorted(folder.glob("checkpoints/*.json"))
        self.found = newest_checkpoint(folder / "checkpoints")
        if self.found is not None:
            old = filled(self.found.config, defaults)
            old = with_changes_on_the_way(old, record, self.found.step)
            old = with_todays_data(old, record, former_names)
            self.record = settled(record, old)
            if (old := settled(old, record)) != self.record:
                raise ValueError(
                    f"{folder} holds another run ({difference(old, dict.fromkeys(old) | self.record)}); "
                    "name a new folder, or use that run's options; --init (in Python init) begins a new run with its "
                    "weights, and a new optimiser and schedule of its learning rate"
                )
        elif (folder / "model.safetensors").exists():
            raise ValueError(f"{folder} holds a trained model and no checkpoint to resume from; name a new folder")
        elif (folder / "config.json").exists() or not _is_a_runs_log(folder / "log.jsonl"):
            raise ValueError(f"{folder} holds another program's config.json or log.jsonl; name a new folder")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """A context in which no other process writes into the folder; it first deletes half-written files.

        On a file system without locks it says so and goes on.

        Raises:
            ValueError: another process trains in the folder, or has done so since this object was made; or nothing can
                be written there.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self.folder, error) from error
        with _held(self.folder / ".lock"):
            if sorted(self.folder.glob("checkpoints/*.json")) != self._seen:
                raise ValueError(f"{self.folder}: another process has just trained in it; start again to go on")
            for path in [*self.folder.glob("*.part"), *self.folder.glob("*/*.part")]:
                if HALF_WRITTEN.fullmatch(path.name):
                    path.unlink()
            yield

    def resume(self, step: int, steps: int, averages: AveragesByDecay) -> list[dict[str, Any]]:
        """Bring the folder to its state after `step` of `steps`, and return the lines of the log up to that step."""
        lines = self.shorten_log(step)
        if step > 0:
            say(f"resumed from step {step} of {steps} in {self.folder}")
            with writing(f"the averaged weights of step {step}", self.folder):
                self.publish(step, averages)  # a kill may have come right after the checkpoint
        return lines

    def shorten_log(self, step: int) -> list[dict[str, Any]]:
        """Cut off the lines that a killed run logged after `step` or left incomplete, and return those that stay.

        Raises:
            ValueError: a line is whole and has no step, or one before a line that stays cannot be read; the log is left
                as it is.
        """
        path, kept, illegible = self.folder / "log.jsonl", [], list[int]()
        for number, text in enumerate(path.read_bytes().splitlines() if path.exists() else [], start=1):
            try:
                line = json.loads(text)
            except ValueError:
                illegible.append(number)
                continue
            if not isinstance(line, dict) or not isinstance(line.get("step"), int):
                raise ValueError(f"{path} is damaged: line {number} has no step")
            if line["step"] <= step:
                if illegible:
                    raise ValueError(f"{path} is damaged: line {illegible[0]} cannot be read")
                kept.append(line)
        with writing("the log", self.folder):
            files.write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        return kept

    def log(self, line: Mapping[str, Any]) -> None:
        """Append a step's line to log.jsonl."""
        with (
            writing(f"the log of step {line['step']}", self.folder),
            open(self.folder / "log.jsonl", "a", encoding="utf-8") as file,
        ):
            file.write(json.dumps(line) + "\n")

    def save(self, step: int, state: Mapping[str, Tensor], averages: AveragesByDecay, loss: float | None) -> None:
        """Write a checkpoint (see `save_checkpoint`), then publish the averages."""
        with writing(f"the checkpoint of step {step}", self.folder):
            with open(self.folder / "log.jsonl", "rb+") as file:
                os.fsync(file.fileno())
            save_checkpoint(self.folder / "checkpoints", step, state, self.record, loss)
        with writing(f"the averaged weights of step {step}", self.folder):
            self.publish(step, averages)

    def publish(self, step: int, averages: AveragesByDecay) -> None:
        """Delete old checkpoints, and write the averages where `ddpm.load` finds them; the first is the run's model."""
        prune(self.folder / "checkpoints", step, self.keep)
        best = best_checkpoint(self.folder / "checkpoints")
        facts = {"step": step} | ({"best": best.stem} if best else {})
        for i, (decay, average) in enumerate(averages.items()):
            folder = self.folder / f"ema-{decay}" if i else self.folder
            content, sha256 = files.serialised(average)
            config = {**self.record, **facts} | {"average": decay, "sha256": sha256}
            if (replaced := _sha256(folder / "model.safetensors")) is not None:  # both are legal until both are written
                files.write_json(folder / "config.json", config | {"replaced": replaced})
            files.write_atomically(folder / "model.safetensors", content)
            files.write_json(folder / "config.json", config)


@contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """A context that writes something into a run's folder, or sends it to a tracker.

    Raises:
        OSError: it could not be written; the message says what, and whether a checkpoint is left.
    """
    try:
        yield
    except OSError as error:
        there_is_one = any(folder.glob("checkpoints/*.json"))
        left = "the last checkpoint stands" if there_is_one else "there is no checkpoint yet"
        raise OSError(f"{what} could not be written ({error}); {left}") from error


def _sha256(path: Path) -> str | None:
    """The hash of a file; None where there is no such file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def _is_a_runs_log(path: Path) -> bool:
    """Whether a file is a run's log; the last line of one may be torn, and the file may be missing."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
        return all("step" in json.loads(line) for line in lines[:1] if line.endswith(b"\n"))
    except OSError:  # it will be named where the log is written
        return True
    except (ValueError, TypeError):
        return False


def _unusable(path: Path, error: OSError) -> ValueError:
    return ValueError(f"out is {str(path)!r}, where nothing can be written: {error.strerror}")


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """A context that one process is in at a time, by a lock on a file."""
    lock = FileLock(path, timeout=PATIENCE, fallback_to_soft=False)  # a file that is itself a lock outlives a kill
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(
            f"{path.parent} is being trained in by another process, which holds {path}; name a new folder, "
            "or delete that file where the process was killed on another machine"
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise _unusable(path, error) from error
        say(
            f"{path} cannot be locked ({error.strerror}): nothing keeps a second process from training in its folder",
            file=sys.stderr,
        )
    try:
        yield
    finally:
        lock.release()
