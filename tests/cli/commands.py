"""What the tests of several commands share."""

import os
import subprocess
import sys

from ddpm import cli
from ddpm.companion.checkout import ROOT
from ddpm.diffusion import DiffusionConfig
from ddpm.unet import UNetConfig
from tests.forked import ended, fork

#: A training of a few seconds; a test adds --out.
TRAIN = ("train", "--data", "fashion-mnist-embedded", "--steps", 4, "--batch-size", 2, "--checkpoint-every", 2)


def run(*arguments):
    """The command in a process of its own, as a user starts it."""
    return subprocess.run([sys.executable, "-m", "ddpm", *map(str, arguments)], capture_output=True, text=True)


def done(*arguments):
    """The same, which must end well."""
    process = run(*arguments)
    assert process.returncode == 0, process.stderr
    return process


def refusal(arguments, folder):
    """The one line with which a command refuses bad input; RUN in an argument is a path in an empty folder.

    The command must end with exit code 2 and write nothing.
    """
    (made := folder / "made").mkdir()

    def program():
        os.chdir(ROOT)  # the arguments name files of the checkout
        sys.argv = ["ddpm", *(str(argument).replace("RUN", str(made / "it")) for argument in arguments)]
        cli.main()

    code = ended(fork(program, err=folder / "err"))
    said = (folder / "err").read_text()
    assert code == 2, said
    assert len(said.strip().splitlines()) == 1, said
    assert list(made.iterdir()) == [], said
    return said


def coloured(*_, **__):
    """In place of `ddpm.load`: an untrained model of small pictures in colour."""
    unet = UNetConfig(channels=3, base_channels=8, head_channels=8)
    return DiffusionConfig(unet=unet).denoiser("float32", (3, 16, 16))
