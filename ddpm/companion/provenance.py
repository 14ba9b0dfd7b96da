"""What a chapter was run with: its parameters, the machine, the versions, and the time that each tier takes."""

import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

import ddpm
from ddpm.companion import checks
from ddpm.settings import check, non_negative_int, one_of

__all__ = ["PRESETS", "Parameters", "commit", "provenance"]

#: The tiers in which a chapter runs.
PRESETS = ("cpu", "gpu", "smoke")


@dataclass(frozen=True)
class Parameters:
    """The three parameters that every chapter has, checked when it begins.

    Attributes:
        preset: "cpu" (a laptop, about a minute), "gpu" (full size) or "smoke" (seconds, no claim checked).
        device: a torch device; "auto" is a GPU if there is one, else the CPU.
        seed: 0 or more.

    Raises:
        ValueError: an illegal preset or seed.
        RuntimeError: torch knows no such device.
    """

    preset: str
    device: str
    seed: int

    def __post_init__(self) -> None:
        check(self, one_of, "preset", legal=PRESETS)
        check(self, non_negative_int, "seed")
        if self.device == "auto":
            object.__setattr__(self, "device", "cuda" if torch.cuda.is_available() else "cpu")
        torch.device(self.device)  # raises an error if torch does not know it
        checks.enforce(self.preset != "smoke")

    def pick(self, *, cpu: int, gpu: int, smoke: int) -> int:
        """The size of an experiment in this tier."""
        return {"cpu": cpu, "gpu": gpu, "smoke": smoke}[self.preset]


def provenance(parameters: Parameters, estimates: dict[Literal["cpu", "gpu"], str]) -> None:
    """Print what this run is made with, and how long each tier takes."""
    cuda = torch.device(parameters.device).type == "cuda"
    print(f"preset {parameters.preset}, seed {parameters.seed}, device {parameters.device}")
    print(f"machine: {torch.cuda.get_device_name() if cuda else platform.machine()}, {torch.get_num_threads()} threads")
    python, package = platform.python_version(), ddpm.__version__
    print(f"python {python}, torch {torch.__version__}, ddpm {package}, commit {commit()}")
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
