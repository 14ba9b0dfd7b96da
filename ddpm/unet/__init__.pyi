from .config import UNetConfig as UNetConfig
from .network import UNet as UNet
from .sizes import CONVENTIONS as CONVENTIONS
from .sizes import FeatureMap as FeatureMap
from .sizes import feature_maps as feature_maps
from .sizes import shapes as shapes
