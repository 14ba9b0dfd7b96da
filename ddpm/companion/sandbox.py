"""A place where a stranger's code can do no harm: no network, no files but Python's own, little time and memory.

It is made by bubblewrap (https://github.com/containers/bubblewrap), which Linux distributions package as `bubblewrap`
or `bwrap`. It lets the code see the interpreter, its packages and this one, read-only, and an empty folder of its own.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from ddpm.companion import answering

__all__ = ["Limits", "answers_of", "check_sandbox"]

PACKAGE = Path(__file__).parents[1]
#: Where programs and their libraries are, and what the dynamic linker needs.
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
MiB, GiB = 2**20, 2**30
#: Bytes of all answers that are read.
MOST_SAID = MiB
#: Processes that a notebook may have at a time, the sandbox's own among them.
MOST_PROCESSES = 32
#: Threads that all of them may have together.
MOST_THREADS = 256


class Limits(NamedTuple):
    """What one notebook may take.

    Attributes:
        seconds: for each exercise; the whole notebook has as long for all of them together.
        memory: bytes, of each process's address space and of all processes' memory. torch alone takes 3.5 GiB of the
            former.
        file_size: bytes of a file; all files in /tmp may have four times as many, and those in /dev/shm, too.
    """

    seconds: int = 60
    memory: int = 8 * GiB
    file_size: int = 64 * MiB


def check_sandbox(unsandboxed: bool) -> None:
    """Raise `ValueError` where there is no sandbox though one is needed, or where Python does not run in it."""
    if not unsandboxed and shutil.which("bwrap") is None:
        raise ValueError(
            "bubblewrap is not installed, which keeps a notebook's code from your files and your network; install it, "
            "or say --unsandboxed: then whatever was handed in may read, send and delete whatever you may"
        )
    cells = [("import torch\n\n\ndef twice(x):\n    return 2 * torch.tensor(x)", True)]
    answer, trouble = _run(cells, {"twice": [(1.5,)]}, 0, {}, Limits(), unsandboxed)
    if dict(_lines(answer, 1)) != {"twice": [3.0]}:
        where = "here" if unsandboxed else "in bubblewrap's sandbox"
        raise ValueError(f"a function that is right cannot be called {where}: {trouble or 'it gave no answer'}")


def answers_of(
    cells: list[tuple[str, bool]],
    calls: dict[str, list[tuple[float, ...]] | None],
    seed: int,
    own: Mapping[str, Mapping[str, float]],
    limits: Limits,
    unsandboxed: bool = False,
) -> dict[str, Any]:
    """What a notebook's functions answer, by their names: see `ddpm.companion.answering.answers`.

    A function that is asked and does not answer is left out. Nothing here is to be trusted but its being JSON.
    """
    said, _ = _run(cells, calls, seed, own, limits, unsandboxed)
    return dict(_lines(said, len(calls)))


def _run(
    cells: list[tuple[str, bool]],
    calls: Mapping[str, list[tuple[float, ...]] | None],
    seed: int,
    own: Mapping[str, Mapping[str, float]],
    limits: Limits,
    unsandboxed: bool,
) -> tuple[bytes, str]:
    """What the answering program writes to its standard output, and the last line of what it complains of."""
    request = {
        "cells": cells, "calls": calls, "seed": seed, "own": own,
        "seconds": limits.seconds, "memory": limits.memory, "file size": limits.file_size,
    }  # fmt: skip
    program = [sys.executable, "-P", answering.__file__]
    # What judges a practical stands beside the right functions.
    hide_answers = not any(name in answering.PRACTICALS for name in calls)
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile() as asked,
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryFile() as complaint,
    ):
        asked.write(json.dumps(request).encode())
        asked.seek(0)
        child = subprocess.Popen(
            program if unsandboxed else [*_walls(hide_answers, limits), *program],
            stdin=asked, stdout=said, stderr=complaint,
            cwd=folder if unsandboxed else None, env=_environment(unsandboxed), start_new_session=True,
        )  # fmt: skip
        _watch(child, limits.seconds * max(2, len(calls)), limits.memory)
        said.seek(0)
        complaint.seek(0)
        lines = complaint.read(MOST_SAID).decode("utf-8", "replace").strip().splitlines()
        return said.read(MOST_SAID), lines[-1] if lines else ""


def _watch(child: "subprocess.Popen[bytes]", seconds: float, memory: int) -> None:
    """Wait for a process, and end it and its own where they take too long, too much memory or too many processes."""
    end, shared_before = time.monotonic() + seconds, _shared_memory()
    try:
        while child.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
            taken, processes, threads = 0, 0, 0
            with suppress(psutil.Error):
                own = psutil.Process(child.pid)
                for each in [own, *own.children(recursive=True)]:
                    with suppress(psutil.Error):
                        taken += each.memory_info().rss
                        threads += each.num_threads()
                        processes += 1
            taken = max(taken, _shared_memory() - shared_before)
            if taken > memory or processes > MOST_PROCESSES or threads > MOST_THREADS:
                break
    finally:  # of Ctrl-C, too
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
        child.kill()  # a sandbox takes all that runs in it along
        child.wait()


def _shared_memory() -> int:
    """Bytes of all files that lie in memory, which belong to no process; 0 where the system does not say."""
    return int(getattr(psutil.virtual_memory(), "shared", 0))


def _lines(said: bytes, most: int) -> Iterator[tuple[str, Any]]:
    """Up to so many pairs that a text holds, a line of JSON each; what is none is left out."""
    for line in islice(said.splitlines(), most):
        with suppress(ValueError, RecursionError):
            match json.loads(line):
                case [str(name), answer]:
                    yield name, answer


def _environment(unsandboxed: bool) -> dict[str, str]:
    """Little, and in a sandbox nothing of the teacher's. One thread: with more, notebooks would wait for each other."""
    own = {"PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *_more_packages()]), "OMP_NUM_THREADS": "1"}
    return (dict(os.environ) if unsandboxed else {"PATH": "/usr/bin:/bin", "HOME": "/tmp"}) | own


def _more_packages() -> list[str]:
    """Folders of installed packages, a user's among them."""
    return [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]


def _walls(hide_answers: bool, limits: Limits) -> list[str]:
    """The command line that a program is appended to.

    Args:
        hide_answers: whether the right functions of exercises are hidden, too.
        limits: what a notebook may take.

    Raises:
        ValueError: the teacher's home lies in a folder that a hand-in can read, such as the one that Python is in.
    """
    interpreter = Path(sys.executable).resolve().parents[1]  # a virtual environment's is a link
    seen = dict.fromkeys([*SYSTEM, sys.base_prefix, sys.prefix, str(interpreter), *_more_packages(), str(PACKAGE)])
    home = Path(os.path.expanduser("~")).resolve()
    if open_home := [path for path in seen if home.is_relative_to(Path(path).resolve())]:
        raise ValueError(
            f"your home, {home}, lies in {open_home[0]}, which a hand-in can read; take a Python or a HOME elsewhere"
        )
    walls = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session"]
    walls += ["--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev"]
    walls += ["--size", str(4 * limits.file_size), "--tmpfs", "/tmp"]
    walls += ["--size", str(4 * limits.file_size), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
    walls += [each for path in seen for each in ("--ro-bind-try", path, path)]
    hidden = str(PACKAGE / "companion" / "exercises")
    walls += ["--tmpfs", hidden, "--remount-ro", hidden] if hide_answers else []
    return [*walls, "--remount-ro", "/", "--chdir", "/tmp"]
