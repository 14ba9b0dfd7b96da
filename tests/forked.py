"""Run something in a process of its own without importing everything again: in a fork."""

import os
import runpy
import sys
import tempfile
import traceback
from functools import wraps
from pathlib import Path

import accelerate
import timm.optim
import torch
import torchmetrics

from ddpm import cli

IMPORTED_ONCE = accelerate, timm.optim, torchmetrics, cli

# Autograd settles its threads in a process's first backward pass. Where an export to ONNX comes before that, they are
# such that no fork of the process can go backward any more.
torch.ones(1, requires_grad=True).sum().backward()


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


def forked_module(module, *arguments):
    """What `python -m module arguments` prints, in a fork, which must end well.

    Several processes need torch's launcher: a fork takes over what accelerate has settled for this process alone.
    """

    def program():
        sys.argv = [module, *map(str, arguments)]
        runpy.run_module(module, run_name="__main__", alter_sys=True)

    with tempfile.TemporaryDirectory() as kept:
        out, err = Path(kept, "out"), Path(kept, "err")
        code = ended(fork(program, out, err))
        assert code == 0, err.read_text(errors="replace")
        return out.read_text(errors="replace")


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
