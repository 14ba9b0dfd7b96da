"""`ddpm sample` as a user of diffusers writes it: draw images from exported weights into one grid.

    ddpm export pipeline
    python benchmarks/diffusers_sample.py pipeline garments.png --steps 12 --dpm-solver

`benchmarks/speed.py` races it against `ddpm sample`, each in a process of its own. It therefore imports nothing that
such a user would not.
"""

import argparse
import math

import torch
from diffusers import DDIMPipeline, DDPMPipeline, DPMSolverMultistepScheduler
from diffusers.models.attention_processor import Attention, AttnProcessor
from diffusers.utils import make_image_grid


def main() -> None:
    """Draw and save what the command line asks for."""
    parser = argparse.ArgumentParser(description="Draw images from exported weights into one grid.")
    parser.add_argument("folder", help="what ddpm export wrote")
    parser.add_argument("out", help="the grid (.png)")
    parser.add_argument("--n", type=int, default=64, help="how many images")
    parser.add_argument("--steps", type=int, default=50, help="steps of the sampler")
    parser.add_argument("--dpm-solver", action="store_true", help="DPM-Solver++(2M), even in log SNR, instead of DDIM")
    parser.add_argument("--channels-last", action="store_true", help="channels-last memory")
    parser.add_argument("--bfloat16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--bfloat16-weights", action="store_true", help="the whole network in bfloat16")
    parser.add_argument("--other-attention", action="store_true", help="attention by the plain formula")
    asked = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    weights = torch.bfloat16 if asked.bfloat16_weights else torch.float32
    pipe = DDIMPipeline.from_pretrained(asked.folder, torch_dtype=weights).to(device)
    if asked.dpm_solver:
        even = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, use_lu_lambdas=True)
        pipe = DDPMPipeline(pipe.unet, even)
    if asked.channels_last:
        pipe.unet.to(memory_format=torch.channels_last)
    for module in pipe.unet.modules():
        if isinstance(module, Attention) and asked.other_attention:
            module.set_processor(AttnProcessor())
    with torch.autocast(device, torch.bfloat16, enabled=asked.bfloat16):
        images = pipe(
            batch_size=asked.n, generator=torch.Generator().manual_seed(0), num_inference_steps=asked.steps,
            output_type="pt",  # numpy has no bfloat16
        ).images.float()  # fmt: skip
    images = pipe.numpy_to_pil(images.permute(0, 2, 3, 1).cpu().numpy())
    columns = math.ceil(math.sqrt(asked.n))
    blank = [images[0].point(lambda _: 0)] * (-asked.n % columns)
    grid = make_image_grid([*images, *blank], math.ceil(asked.n / columns), columns)
    grid.save(asked.out)


if __name__ == "__main__":
    main()
