"""What a chapter was run with: its parameters, and the machine, versions and time it took."""

import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch

from ddpm.companion import checks

PRESETS = ("cpu", "gpu", "smoke")


@dataclass(frozen=True)
class Parameters:
    """The three parameters every chapter has; checked when it begins.

    Attributes:
        preset: "cpu" (a laptop, about a minute), "gpu" (full size) or "smoke" (seconds, no claim checked).
        device: "auto" is a GPU where there is one.
        seed: 0 or more.
    """

    preset: str
    device: str
    seed: int

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}; legal are {', '.join(PRESETS)}")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed is {self.seed!r}; legal are integers from 0 up")
        if self.device == "auto":
            object.__setattr__(self, "device", "cuda" if torch.cuda.is_available() else "cpu")
        torch.device(self.device)  # raises where it is none
        checks.enforce(self.preset != "smoke")

    def pick(self, *, cpu: int, gpu: int, smoke: int) -> int:
        """The size of an experiment in this tier."""
        return {"cpu": cpu, "gpu": gpu, "smoke": smoke}[self.preset]


def provenance(parameters: Parameters, estimates: dict[Literal["cpu", "gpu"], str]) -> None:
    """Print what this run is made with, and how long each tier takes."""
    cuda = torch.device(parameters.device).type == "cuda"
    print(f"preset {parameters.preset}, seed {parameters.seed}, device {parameters.device}")
    print(f"machine: {torch.cuda.get_device_name() if cuda else platform.machine()}, {torch.get_num_threads()} threads")
    print(f"python {platform.python_version()}, torch {torch.__version__}, ddpm {version('ddpm')}, commit {commit()}")
    for tier, estimate in estimates.items():
        print(f"{tier} tier: {estimate}")


def commit() -> str:
    """The short hash of the package's checkout, or "unknown" outside one."""
    folder = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=folder, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
