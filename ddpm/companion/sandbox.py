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
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ddpm.companion import answering

__all__ = ["Limits", "answers_of", "check_sandbox"]

PACKAGE = Path(__file__).parents[1]
#: Where programs and their libraries are, and what the dynamic linker and fonts need.
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
MiB, GiB = 2**20, 2**30


class Limits(NamedTuple):
    """What one notebook may take.

    Attributes:
        seconds: for each exercise; the whole notebook has twice as long for all of them.
        memory: bytes, as the address space of a process counts them: torch alone takes 3.5 GiB.
        file_size: bytes of a file, and of all answers.
    """

    seconds: int = 60
    memory: int = 8 * GiB
    file_size: int = 64 * MiB


def check_sandbox(unsandboxed: bool) -> None:
    """Raise `ValueError` where there is no sandbox and none was said to be needed."""
    if unsandboxed:
        return
    if shutil.which("bwrap") is None:
        raise ValueError(
            "bubblewrap is not installed, which keeps a notebook's code from your files and your network; install it, "
            "or say --unsandboxed: then whatever was handed in may read, send and delete whatever you may"
        )
    tried = subprocess.run([*_walls(hide_answers=True), "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise ValueError(f"bubblewrap cannot make a sandbox here: {tried.stderr.strip() or tried.returncode}")


def answers_of(
    cells: list[str],
    calls: dict[str, list[tuple[float, ...]] | None],
    seed: int,
    limits: Limits,
    unsandboxed: bool = False,
) -> dict[str, Any]:
    """What a notebook's functions answer, by their names: see `ddpm.companion.answering.answers`.

    A function that is asked and does not answer is left out. Nothing here is to be trusted but its being JSON.
    """
    request = {
        "cells": cells, "calls": calls, "seed": seed,
        "seconds": limits.seconds, "memory": limits.memory, "file size": limits.file_size,
    }  # fmt: skip
    hide_answers = not any(name in answering.TRAINED for name in calls)
    program = [sys.executable, "-P", answering.__file__]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            program if unsandboxed else [*_walls(hide_answers), *program],
            stdin=subprocess.PIPE, stdout=said, stderr=subprocess.DEVNULL,
            cwd=folder if unsandboxed else None, env=_environment(), start_new_session=True,
        )  # fmt: skip
        with suppress(subprocess.TimeoutExpired):
            child.communicate(json.dumps(request).encode(), timeout=2 * limits.seconds)
        _end(child)
        said.seek(0)
        return dict(_lines(said.read(limits.file_size)))


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Kill a process and its own; a sandbox takes all that runs in it along."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.wait()


def _lines(said: bytes) -> Iterator[tuple[str, Any]]:
    """The pairs that a text holds, a line of JSON each; what is none is left out."""
    for line in said.splitlines():
        with suppress(ValueError, RecursionError):
            match json.loads(line):
                case [str(name), answer]:
                    yield name, answer


def _environment() -> dict[str, str]:
    """Little, and nothing of the teacher's: with more threads a class's notebooks would wait for each other."""
    return {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}


def _walls(hide_answers: bool) -> list[str]:
    """The command line that a program is appended to.

    Args:
        hide_answers: whether the right functions of exercises are hidden, too.
    """
    seen = dict.fromkeys([*SYSTEM, sys.base_prefix, sys.prefix, str(PACKAGE)])
    walls = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    walls += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    walls += [each for path in seen for each in ("--ro-bind-try", path, path)]
    walls += ["--tmpfs", str(PACKAGE / "companion" / "exercises")] if hide_answers else []
    return [*walls, "--chdir", "/tmp"]
