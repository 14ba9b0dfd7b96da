"""The card of a model that is exported to diffusers: what it is, and code of diffusers that draws from it."""

from ddpm.denoiser import NetworkDenoiser
from ddpm.interop.schedulers import PREDICTION_TYPES

__all__ = ["card_of"]

_EXAMPLE = """import torch
from diffusers import DDIMPipeline

pipeline = DDIMPipeline.from_pretrained(".")  # this folder
images = pipeline(batch_size=16, num_inference_steps={steps}, generator=torch.Generator().manual_seed(0)).images
"""


def card_of(denoise: NetworkDenoiser, card: str) -> str:
    """The card, Markdown with the head that the hub reads; `card` is what it says of the model in the end."""
    channels, height, width = denoise.image_shape  # type: ignore[misc]
    kind = "class-conditional" if denoise.classes else "unconditional"
    steps = denoise.distilled_for or min(50, denoise.schedule.T)
    return f"""---
library_name: diffusers
pipeline_tag: unconditional-image-generation
tags: [ddpm, {kind}-image-generation]
---

# A diffusion model of {channels} x {height} x {width} images, {kind}

```python
{_conditional_example(denoise, steps) if denoise.classes else _EXAMPLE.format(steps=steps)}```

Exported by `ddpm`. The network answers {PREDICTION_TYPES[denoise.target]!r} on a
schedule of {denoise.schedule.T} steps. Its images lie in [-1, 1]. The scheduler does not clip x0, and its grid is
"trailing": {_legal_steps(denoise)}

{card}"""


def _conditional_example(denoise: NetworkDenoiser, steps: int) -> str:
    """Code that draws one class; no pipeline of diffusers tells a `UNet2DModel` labels."""
    last = len(denoise.classes) - 1
    shape = ", ".join(map(str, denoise.image_shape or ()))
    return f"""import torch
from diffusers import DDIMScheduler, UNet2DModel

unet = UNet2DModel.from_pretrained("unet")  # in this folder
scheduler = DDIMScheduler.from_pretrained("scheduler")
scheduler.set_timesteps({steps})
labels = torch.full((16,), {last})  # {denoise.classes[last]}; of {", ".join(denoise.classes)}
nothing = torch.full((16,), {last + 1})  # the null label, which tells no class
weight = 2.0  # of classifier-free guidance
x = torch.randn(16, {shape}, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    for t in scheduler.timesteps:
        told, untold = unet(x, t, labels).sample, unet(x, t, nothing).sample
        x = scheduler.step(untold + weight * (told - untold), t, x).prev_sample
"""


def _legal_steps(denoise: NetworkDenoiser) -> str:
    """In how many steps it draws, for the end of a sentence about its grid."""
    if denoise.distilled_for is not None:
        return f"it was distilled for {denoise.distilled_for} steps of DDIM: take just as many."
    return f"take a number of steps that divides {denoise.schedule.T}, as diffusers' DDIM steps are uneven otherwise."
