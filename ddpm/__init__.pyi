from .interop import from_diffusers as from_diffusers
from .pretrained import load as load
from .sampling import sample as sample

__version__: str
