"""What a chapter was run with: its parameters, the machine, the versions, and the time that each tier takes."""

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

import ddpm
from ddpm.companion import checks
from ddpm.companion.checkout import ROOT
from ddpm.fast import chosen_device
from ddpm.messages import counted
from ddpm.settings import check, one_of, seed_number
from ddpm.threads import choose_threads

__all__ = ["PRESETS", "Parameters", "commit", "provenance"]

#: The tiers in which a chapter runs.
PRESETS = ("cpu", "gpu", "smoke")
#: The variables by which git, in its hooks, names the repository of another folder.
OTHER_REPOSITORY = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE")


@dataclass(frozen=True)
class Parameters:
    """The three parameters that every chapter has, checked when it begins.

    Torch's threads are chosen then, too, and float32 is float32 on a GPU, whose convolutions torch would let round to
    TF32.

    Attributes:
        preset: "cpu" (a laptop, about a minute), "gpu" (full size) or "smoke" (seconds, no claim checked).
        device: a torch device; "auto" is a GPU if there is one, else the CPU.
        seed: 0 or more.

    Raises:
        ValueError: an illegal preset or seed, or a device that is not here.
    """

    preset: str
    device: str
    seed: int

    def __post_init__(self) -> None:
        check(self, one_of, "preset", legal=PRESETS)
        check(self, seed_number, "seed")
        object.__setattr__(self, "device", str(chosen_device(str(self.device))))
        choose_threads()
        torch.backends.cudnn.allow_tf32 = False
        checks.enforce(self.preset != "smoke")

    def pick(self, *, cpu: int, gpu: int, smoke: int) -> int:
        """The size of an experiment in this tier."""
        return {"cpu": cpu, "gpu": gpu, "smoke": smoke}[self.preset]


def provenance(parameters: Parameters, estimates: dict[Literal["cpu", "gpu"], str]) -> None:
    """Print what this run is made with, and how long each tier takes."""
    cuda = torch.device(parameters.device).type == "cuda"
    print(f"preset {parameters.preset}, seed {parameters.seed}, device {parameters.device}")
    machine = torch.cuda.get_device_name(parameters.device) if cuda else platform.machine()
    print(f"machine: {machine}, {counted(torch.get_num_threads(), 'thread')}")
    python, package = platform.python_version(), ddpm.__version__
    print(f"python {python}, torch {torch.__version__}, ddpm {package}, commit {commit()}")
    for tier, estimate in estimates.items():
        print(f"{tier} tier: {estimate}")


def commit(root: Path = ROOT) -> str:
    """The short hash of the commit that the package is at, or "unknown" outside a checkout of this project.

    A repository around an installed package is another project's.

    Args:
        root: the folder that holds the package.
    """
    variables = {name: value for name, value in os.environ.items() if name not in OTHER_REPOSITORY}

    def git(*command: str) -> str:
        done = subprocess.run(
            ["git", *command], cwd=root, env=variables, capture_output=True, text=True, check=True, encoding="utf-8"
        )
        return done.stdout.strip()

    try:
        if not Path(git("rev-parse", "--show-toplevel")).samefile(root):
            return "unknown"
        git("ls-files", "--error-unmatch", "--", "ddpm/companion/provenance.py")
        return git("describe", "--always", "--dirty", "--exclude=*")
    except (OSError, ValueError, subprocess.CalledProcessError):
        return "unknown"
