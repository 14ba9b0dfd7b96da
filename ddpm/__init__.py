"""Diffusion models, small and exact: the package behind the book.

import ddpm

model = ddpm.load("fashion-mnist")
images = ddpm.sample(model, 64)
"""

import lazy_loader

from ddpm import _moved

# Names come from __init__.pyi when they are asked for: torch takes two seconds to import, and `ddpm --help` needs none.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.3.0"

_moved.install()
