"""Diffusion models, small and exact: the package behind the book.

import ddpm

model = ddpm.load("fashion-mnist")
images = ddpm.sample(model, 64)
"""

from ddpm.interop import from_diffusers
from ddpm.pretrained import load
from ddpm.sampling import sample

__all__ = ["from_diffusers", "load", "sample"]
__version__ = "0.1.0"
