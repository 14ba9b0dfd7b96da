"""Conversion to and from diffusers, and to ONNX. Imported only where it is used, as the package runs without."""

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
