"""The interface of every sampler here: a `Denoiser` answers (x, t) with a `Prediction` and carries its schedule.

Networks as denoisers, and wrappers around any denoiser, derive from it.
"""

from ddpm.denoiser.interface import Conditional, Denoiser, answer_of, schedule_of
from ddpm.denoiser.network import NetworkDenoiser
from ddpm.denoiser.wrappers import Clipped, Guided, Wrapper
from ddpm.targets import TARGETS as TARGETS  # the names that stood here in version 0.1.0
from ddpm.targets import Prediction as Prediction
from ddpm.targets import Target as Target
from ddpm.targets import prediction_of as prediction_of
from ddpm.targets import target_of as target_of

__all__ = ["Clipped", "Conditional", "Denoiser", "Guided", "NetworkDenoiser", "Wrapper", "answer_of", "schedule_of"]
