from . import autoencoder as autoencoder
from . import data as data
from . import denoiser as denoiser
from . import diffusion as diffusion
from . import distillation as distillation
from . import gan as gan
from . import grids as grids
from . import interop as interop
from . import langevin as langevin
from . import likelihood as likelihood
from . import metrics as metrics
from . import noise as noise
from . import oracles as oracles
from . import pretrained as pretrained
from . import round_trip as round_trip
from . import samplers as samplers
from . import sampling as sampling
from . import schedule as schedule
from . import targets as targets
from . import training as training
from . import unet as unet
from . import walks as walks
from .interop import from_diffusers as from_diffusers
from .pretrained import load as load
from .pretrained import save as save
from .sampling import sample as sample

__version__: str
