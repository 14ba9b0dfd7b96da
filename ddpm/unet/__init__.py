"""The UNet of the book: its configuration, the network, and the sizes of its feature maps.

It imports nothing else of the package and knows nothing of noise schedules.
"""

from ddpm.unet.config import UNetConfig
from ddpm.unet.network import UNet
from ddpm.unet.sizes import CONVENTIONS, FeatureMap, feature_maps, shapes

__all__ = ["CONVENTIONS", "FeatureMap", "UNet", "UNetConfig", "feature_maps", "shapes"]
