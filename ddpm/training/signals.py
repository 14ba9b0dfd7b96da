"""SIGTERM and Ctrl-C as a request that a training answers between two steps."""

import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["StopSignals", "Stopped"]


class Stopped(KeyboardInterrupt):
    """A training that was told to stop and has saved itself; its message says where."""


class StopSignals:
    """A context in which SIGTERM and Ctrl-C only set `name`.

    A second Ctrl-C acts as it did before. A second SIGTERM does not, because launchers pass on what the whole group has
    received already. Python lets only the main thread listen, so in another thread nothing changes; nor does it for a
    signal that the program ignores.
    """

    name: str | None = None

    def __enter__(self) -> "StopSignals":
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note) or signal.SIG_DFL
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])
