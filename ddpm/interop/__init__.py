"""Conversion to and from diffusers. It is imported only where it is used, since the package runs without it."""

from ddpm.interop.pipelines import export_diffusers, from_diffusers
from ddpm.interop.weights import (
    diffusers_config,
    unet_config,
    unet_from_diffusers,
    unet_to_diffusers,
)

__all__ = [
    "diffusers_config", "export_diffusers", "from_diffusers", "unet_config", "unet_from_diffusers", "unet_to_diffusers",
]  # fmt: skip
