"""Those that watch a training: accelerate's trackers, which are TensorBoard and Weights & Biases."""

import io
import secrets
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ddpm import files
from ddpm.extras import EXTRAS, check_installed
from ddpm.training.run import writing

__all__ = ["Trackers", "check_trackers"]

TRACKERS = ("tensorboard", "wandb")


def check_trackers(trackers: Sequence[str], out: Path) -> None:
    """Check that all are known and installed, and can write below the run's folder `out`.

    Raises:
        ModuleNotFoundError: one of the extra ddpm[train] is not installed.
        TypeError: they are no list of names.
        ValueError: one is not known, cannot write there, or is not installed and of no extra.
    """
    if isinstance(trackers, str) or not isinstance(trackers, Collection):
        raise TypeError(f"trackers is {trackers!r}; it must be a list of names, such as [{TRACKERS[0]!r}]")
    for tracker in trackers:
        if tracker not in TRACKERS:
            legal = f"{', '.join(TRACKERS)}; for none, --track none (in Python no trackers)"
            raise ValueError(f"tracker is {tracker!r}; legal are {legal}")
        if tracker in EXTRAS:
            check_installed(tracker)
        elif find_spec(tracker) is None:
            raise ValueError(f"tracker is {tracker!r}, which is not installed: pip install {tracker}")
    if "tensorboard" in trackers:
        try:
            str(out).encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"out is {str(out)!r}; tensorboard needs a path that is text in UTF-8, and --track none (in Python no "
                "trackers) does without it"
            ) from error


class Trackers:
    """A run's trackers, and the samples in its folder, for whoever watches it.

    What one of them cannot write raises `OSError`, and the message says whose it was.

    Args:
        accelerator: accelerate's, which begins them.
        names: "tensorboard", "wandb", both or neither.
        folder: the run's folder.
        record: the run's record, which wandb shows as its settings.
    """

    def __init__(self, accelerator: Any, names: Sequence[str], folder: Path, record: Mapping[str, Any]) -> None:
        self.accelerator, self.names, self.folder, self.record = accelerator, names, folder, record

    @contextmanager
    def recording(self, step: int) -> Iterator[None]:
        """A context in which the trackers record the steps from `step` on."""
        ways: dict[str, dict[str, Any]] = {"tensorboard": {"purge_step": step + 1}}
        if "wandb" in self.names and self.accelerator.is_main_process:
            ways["wandb"] = {
                "name": self.folder.name, "id": self._id_at_wandb(step), "resume": "allow", "dir": self.folder,
                "config": self.record,
            }  # fmt: skip
        with _quiet_writer():
            if self.names:
                with writing(f"{' and '.join(self.names)}'s log", self.folder):
                    self.accelerator.init_trackers("ddpm", None, {name: ways.get(name, {}) for name in self.names})
            try:
                yield
            except BaseException:
                with suppress(OSError):  # the error that is on its way says more
                    self._finish()
                raise
            self._finish()

    def log(self, line: Mapping[str, Any]) -> None:
        """Send a step's line of the log."""
        values = {key: value for key, value in line.items() if key != "step"}
        for tracker in self.accelerator.trackers:
            with writing(f"{tracker.name}'s log of step {line['step']}", self.folder):
                tracker.log(values, line["step"])

    def show(self, image: Image.Image, step: int) -> None:
        """Send a picture of what the model draws after `step`, and write it to samples/ in the run's folder."""
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        with writing(f"the samples of step {step}", self.folder):
            files.write_atomically(self.folder / "samples" / f"step-{step:08d}.png", buffer.getvalue())
        for tracker in self.accelerator.trackers:
            way = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            with writing(f"{tracker.name}'s samples of step {step}", self.folder):
                tracker.log_images({"samples": np.asarray(image.convert("RGB"))[None]}, step, **way)

    def _id_at_wandb(self, step: int) -> str:
        """The run's name there, which a resumed run goes on with."""
        path = self.folder / "wandb-id"
        if step == 0 or not path.exists():
            with writing(path.name, self.folder):
                files.write_atomically(path, secrets.token_hex(6).encode())
        return path.read_text()

    def _finish(self) -> None:
        with ExitStack() as stack:  # which comes to all of them, whichever fails
            for tracker in self.accelerator.trackers:
                stack.callback(self._finish_one, tracker)

    def _finish_one(self, tracker: Any) -> None:
        with writing(f"{tracker.name}'s log", self.folder):
            tracker.finish()


@contextmanager
def _quiet_writer() -> Iterator[None]:
    """A context in which TensorBoard's thread prints no traceback of an `OSError`: its caller gets that error, too."""
    usual = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        of_tensorboard = type(failure.thread).__module__.startswith("tensorboard.")
        if not (of_tensorboard and issubclass(failure.exc_type, OSError)):
            usual(failure)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = usual
