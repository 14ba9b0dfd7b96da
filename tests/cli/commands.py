"""What the tests of several commands share."""

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from ddpm import cli
from ddpm.diffusion import DiffusionConfig
from ddpm.unet import UNetConfig
from tests.checkout import ROOT
from tests.forked import ended, fork

#: A training of a few seconds; a test adds --out.
TRAIN = ("train", "--data", "fashion-mnist-embedded", "--steps", 4, "--batch-size", 2, "--checkpoint-every", 2)


def run(*arguments):
    """The command in a process of its own, as a user starts it."""
    return subprocess.run([sys.executable, "-m", "ddpm", *map(str, arguments)], capture_output=True, text=True)


def alone(*arguments):
    """The same, which must end well. One test of each command starts it so, and shows that it imports what it needs."""
    process = run(*arguments)
    assert process.returncode == 0, process.stderr
    return process


@cache
def help_of(*command):
    """What a command's --help prints, or that of the program; asked once, as each start takes a second or more."""
    return alone(*command, "--help").stdout


def forked(*arguments, folder="."):
    """The command in a fork, which finds everything imported, so that it starts at once, in this folder."""

    def program():
        os.chdir(folder)
        sys.argv = ["ddpm", *map(str, arguments)]
        cli.main()

    with tempfile.TemporaryDirectory() as kept:
        out, err = Path(kept, "out"), Path(kept, "err")
        code = ended(fork(program, out, err))
        return subprocess.CompletedProcess(arguments, code, out.read_text(errors="replace"), err.read_text())


def done(*arguments):
    """The same, which must end well."""
    process = forked(*arguments)
    assert process.returncode == 0, process.stderr
    return process


def refusal(arguments, folder):
    """The one line with which a command refuses bad input; RUN in an argument is a path in an empty folder.

    The command must end with exit code 2 and write nothing.
    """
    (made := folder / "made").mkdir()
    arguments = [str(argument).replace("RUN", str(made / "it")) for argument in arguments]
    process = forked(*arguments, folder=ROOT)  # they name files of the checkout
    said = process.stderr
    assert process.returncode == 2, said
    assert len(said.strip().splitlines()) == 1, said
    assert list(made.iterdir()) == [], said
    return said


def coloured(*_, **__):
    """In place of `ddpm.load`: an untrained model of small pictures in colour."""
    unet = UNetConfig(channels=3, base_channels=8, head_channels=8)
    return DiffusionConfig(unet=unet).denoiser("float32", (3, 16, 16))
