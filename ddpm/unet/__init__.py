"""The UNet of the book: its configuration, the network, and the sizes of its feature maps.

It knows nothing of noise schedules.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
