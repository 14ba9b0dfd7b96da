"""Training: the loop, its settings and recipes, and all that a run keeps."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
