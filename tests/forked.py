"""Run something in a process of its own without importing everything again: in a fork."""

import os
import runpy
import signal
import socket
import sys
import tempfile
import time
import traceback
from functools import wraps
from pathlib import Path

import accelerate
import timm.optim
import torch
import torchmetrics

from ddpm import cli

IMPORTED_ONCE = accelerate, timm.optim, torchmetrics, cli


def fork(program, out=os.devnull, err=os.devnull):
    """Begin to run `program` with its output going to two files; the process's number.

    It has one thread, because of its parent's other ones a fork has none.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        for path, number, name in ((out, 1, "stdout"), (err, 2, "stderr")):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            setattr(sys, name, os.fdopen(number, "w", closefd=False))  # in place of pytest's
        torch.set_num_threads(1)
        program()
        code = 0
    except SystemExit as end:
        code = int(bool(end.code)) if not isinstance(end.code, int) else end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(child):
    """How a process ended: its exit code, or minus the signal's number."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def all_end_well(children):
    """Whether these processes all end well; where one does not, the others, which may wait for it, are killed."""
    left, well = set(children), True
    while left:
        for child in sorted(left):
            ended_one, status = os.waitpid(child, os.WNOHANG)
            if ended_one:
                left.remove(child)
                if status:
                    well = False
                    for other in left:
                        os.kill(other, signal.SIGKILL)
        time.sleep(0.02)
    return well


def forked_modules(processes, module, *arguments):
    """What so many forks print, each of which does `python -m module arguments`; all must end well.

    Several find each other by the variables of torch's launcher, which their module may read.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}

    def program(rank):
        if processes > 1:
            os.environ.update({name: str(value) for name, value in (own | {"RANK": rank, "LOCAL_RANK": rank}).items()})
        sys.argv = [module, *map(str, arguments)]
        runpy.run_module(module, run_name="__main__", alter_sys=True)

    with tempfile.TemporaryDirectory() as kept:
        out, err = ([Path(kept, f"{name}{rank}") for rank in range(processes)] for name in ("out", "err"))
        children = [fork(lambda rank=i: program(rank), out[i], err[i]) for i in range(processes)]
        assert all_end_well(children), "\n".join(path.read_text(errors="replace") for path in err)
        return "".join(path.read_text(errors="replace") for path in out)


def in_a_fork(test):
    """A test that runs in a fork, for those that go backward on another device than the CPU.

    That starts threads of autograd, after which no fork of the process could train any more.
    """

    @wraps(test)
    def run(**arguments):
        with tempfile.TemporaryDirectory() as folder:
            said = Path(folder, "said")
            code = ended(fork(lambda: test(**arguments), err=said))
            assert code == 0, said.read_text()

    return run
