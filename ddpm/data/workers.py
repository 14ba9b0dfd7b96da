"""Processes that read pictures while the program computes something else.

torch's DataLoader does this, too. But it hands images over in shared memory, of which containers have little, and where
that is full, or a process is killed for want of memory, it waits for ever or ends in a traceback.
"""

import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import islice
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from typing import Any, NamedTuple, TypeVar

import torch

from ddpm.settings import non_negative_int

__all__ = ["held_signals", "ignore_signals", "map_ahead"]

A = TypeVar("A")
B = TypeVar("B")

_INSTEAD = "--workers 0 reads without such processes, and a container has more memory by --memory and --shm-size"


def map_ahead(function: Callable[[A], B], arguments: Iterable[A], workers: int) -> Generator[B]:
    """What `function` returns for every argument, in order; processes compute the next ones while the caller works.

    A process has a pipe of its own, so its death is noticed at once, even in the middle of an answer.

    Close the generator when no more is wanted, which ends the processes; at the latest the program's end does.

    Args:
        function: a function of a module, or a `partial` of one; its values are numpy's or Python's, and not tensors.
        arguments: the arguments, which are taken only as they are needed.
        workers: how many processes; with 0 the function is called between the caller's own steps.

    Raises:
        ValueError: `workers` is negative.
        ChildProcessError: a process could not be started, or was killed.
        Exception: whatever `function` raised.
    """
    if non_negative_int("workers", workers) == 0:
        yield from map(function, arguments)
        return
    todo, started, busy = iter(arguments), list[_Worker](), deque[_Worker]()
    try:
        with held_signals():
            started.extend(_Worker(function) for _ in range(workers))
        for worker, argument in zip(started, todo, strict=False):
            worker.ask(argument)
            busy.append(worker)
        while busy:
            worker = busy.popleft()
            answer = worker.answer()
            for argument in islice(todo, 1):
                worker.ask(argument)
                busy.append(worker)
            yield answer
    finally:
        for worker in started:
            worker.end()


class _Worker:
    """A process that calls a function, and the pipe to it."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._connection, theirs = Pipe()
        with closing(theirs):
            self._process = Process(target=_serve, args=(function, self._connection, theirs), daemon=True)
            try:
                self._process.start()
            except OSError as error:
                raise ChildProcessError(f"a process that reads could not be started ({error}); {_INSTEAD}") from error
        Finalize(self, self._process.kill, exitpriority=0)  # SIGTERM, which multiprocessing would send it, it ignores

    def ask(self, argument: Any) -> None:
        """Let the process begin to compute. It takes no new argument before its last answer was taken."""
        with self._watched():
            self._connection.send(argument)

    def answer(self) -> Any:
        """Wait for the function's value; raises what the function raised."""
        with self._watched():
            answer = self._connection.recv()
        if isinstance(answer, _Failure):
            raise answer.error
        return answer

    def end(self) -> None:
        """Kill the process, which has nothing to lose."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            self._process.join()
            code = self._process.exitcode or 0
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            ended = f"a process that reads {how}, often for want of memory"
            raise ChildProcessError(f"{ended}; {_INSTEAD}") from error


class _Failure(NamedTuple):
    """What a function raised."""

    error: Exception


def _serve(function: Callable[[Any], Any], theirs: Connection, ours: Connection) -> None:
    """Answer every argument that comes until the pipe's other end is closed, if only by the program's death."""
    ignore_signals()
    theirs.close()  # a fork has it, too, and would keep it open
    torch.set_num_threads(1)  # a fork lacks the other threads, for which it would wait
    with suppress(EOFError, OSError):
        while True:
            argument = ours.recv()
            try:
                answer = function(argument)
            except Exception as error:
                answer = _Failure(error)
            ours.send(answer)


@contextmanager
def held_signals() -> Iterator[None]:
    """A context in which Ctrl-C and SIGTERM wait, here and in the processes that begin in it, until they are ignored.

    A process could be ended by them before `ignore_signals`, and the training with it.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals() -> None:
    """Leave Ctrl-C and SIGTERM, which reach every process of a group, to the one that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
