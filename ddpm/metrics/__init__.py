"""Measures of generated images: distances, precision and recall, copying, and what is left after a round trip."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
