"""SIGTERM and Ctrl-C as a request that is heard between two steps."""

import signal
import threading
from types import FrameType
from typing import Any


class Stopped(KeyboardInterrupt):
    """A training that was told to stop and has saved itself; its message says where."""


class StopSignals:
    """A context in which SIGTERM and Ctrl-C only set `name`. A second Ctrl-C acts as it did before; SIGTERM comes twice
    from launchers that pass on what the whole group was sent.

    Python lets the main thread alone listen: in another one nothing changes.
    """

    name: str | None = None

    def __enter__(self) -> "StopSignals":
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])

    def heard(self, accelerator: Any) -> bool:
        """Whether any process was told to stop: all have to leave after the same step."""
        if accelerator.num_processes == 1:
            return self.name is not None
        if self.name is not None:
            accelerator.set_trigger()
        return accelerator.check_trigger()
