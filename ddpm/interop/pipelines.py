"""Whole pipelines of diffusers: a folder written from a trained denoiser, and a denoiser made of a folder."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ddpm.denoiser import NetworkDenoiser, Target
from ddpm.fast import chosen_device
from ddpm.interop.weights import diffusers_library, unet_from_diffusers, unet_to_diffusers
from ddpm.schedule import NoiseSchedule, cosine, from_betas
from ddpm.unet import UNet
from ddpm.unet.network import Stem

PREDICTION_TYPES: dict[Target, str] = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


def export_diffusers(denoise: NetworkDenoiser, directory: str | Path, card: str = "") -> None:
    """Write a folder that `DDPMPipeline` and `DDIMPipeline` open and sample from, with a model card.

    Args:
        denoise: a trained `UNet` that knows the shape of its images.
        directory: the folder to make; it appears when all of it is written.
        card: Markdown about the model, for the end of its card.

    Raises:
        ValueError: diffusers has no such network, or the folder is there already. Nothing is written.
    """
    directory = Path(directory)
    if directory.exists():
        raise ValueError(f"directory is {str(directory)!r}, which is there already; name a new one")
    if any(folder.exists() and not folder.is_dir() for folder in directory.parents):
        raise ValueError(f"directory is {str(directory)!r}; there must be no file on the way to it")
    if not isinstance(denoise.network, UNet) or denoise.image_shape is None:
        raise ValueError("denoise must hold a UNet and know its image_shape")
    height, width = denoise.image_shape[1:]
    diffusers = diffusers_library()
    unet = unet_to_diffusers(denoise.network, height if height == width else (height, width))
    bar = denoise.schedule.alpha_bar
    scheduler = diffusers.DDPMScheduler(
        num_train_timesteps=denoise.schedule.T,
        trained_betas=(1 - bar[1:] / bar[:-1]).tolist(),
        prediction_type=PREDICTION_TYPES[denoise.target],
        clip_sample=False,  # the default clips x0 to [-1, 1] in every step
        timestep_spacing="trailing",  # the default never visits T
    )
    directory.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        diffusers.DDPMPipeline(unet, scheduler).save_pretrained(beside)
        (beside / "README.md").write_text(_card(denoise, card), encoding="utf-8", newline="\n")
        beside.chmod(0o755)  # a temporary folder is its owner's alone
        os.replace(beside, directory)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def from_diffusers(
    path: str | Path,
    precision: Literal["auto", "float32"] = "auto",
    device: str | torch.device = "auto",
) -> NetworkDenoiser:
    """A denoiser from a diffusers pipeline on the disk: an unconditional `UNet2DModel` that works on pixels.

    Its network is a `UNet` where one computes the same. The scheduler gives the noise schedule and the target; whether
    it would clip x0 is left out (`Clipped` does that).

    Args:
        path: the pipeline's folder, as `save_pretrained` writes it; nothing is downloaded.
        precision: "auto" computes in bfloat16 where the device does that in hardware, "float32" never.
        device: "auto" is a GPU where there is one.

    Raises:
        ValueError: it is no such pipeline; the message names the part in the way.
        FileNotFoundError: a part of it is missing.
    """
    folder = Path(path)
    index = _read_json(folder / "model_index.json")
    parts = {name: part[-1] for name, part in index.items() if isinstance(part, list) and part and part[-1]}
    if parts.keys() != {"unet", "scheduler"} or parts["unet"] != "UNet2DModel":
        raise ValueError(f"{folder} holds {parts}; an unconditional model of pixels is a UNet2DModel and a scheduler")
    options = _read_json(folder / "unet" / "config.json")
    if options.get("class_embed_type") or options.get("num_class_embeds"):
        raise ValueError(f"{folder} is conditioned on classes; only unconditional models are denoisers")
    scheduler = _read_json(folder / "scheduler" / "scheduler_config.json")
    targets = {kind: target for target, kind in PREDICTION_TYPES.items()}
    if (kind := scheduler.get("prediction_type", "epsilon")) not in targets:
        raise ValueError(f"prediction_type is {kind!r} in {folder}; legal are {', '.join(targets)}")
    schedule = _schedule(scheduler)
    channels_in, channels_out = (options.get(name, 3) for name in ("in_channels", "out_channels"))
    if channels_out not in (channels_in, 2 * channels_in):
        raise ValueError(f"out_channels is {channels_out} in {folder}; it must be {channels_in}, or twice that")
    if not (folder / "unet" / "diffusion_pytorch_model.safetensors").is_file():
        raise FileNotFoundError(f"{folder / 'unet'} holds no diffusion_pytorch_model.safetensors; nothing is unpickled")
    diffusers = diffusers_library()
    try:
        model, report = diffusers.UNet2DModel.from_pretrained(
            folder / "unet", use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{folder / 'unet'} is damaged or does not fit its config.json: {error}") from error
    if odd := [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]:
        raise ValueError(f"{folder / 'unet'} does not fit its config.json: {odd[0]}")
    size = model.config.sample_size
    sizes = (size, size) if isinstance(size, int) else tuple(size or ())
    shape = (model.config.in_channels, *sizes) if sizes else None
    network: nn.Module
    try:
        network = unet_from_diffusers(model)
    except ValueError:
        model.conv_in.__class__ = Stem  # in float32, as in a UNet
        network = _FirstOutput(model)
    network = network.to(chosen_device(device), memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]
    return NetworkDenoiser(network, schedule, targets[kind], precision, shape)


class _FirstOutput(nn.Module):
    """A diffusers model as a plain network: without its answer's wrapper and the variance that it may have learnt."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.model(x, t).sample[:, : x.shape[1]]


def _schedule(options: Mapping[str, Any]) -> NoiseSchedule:
    """The noise schedule of a diffusers scheduler, in float64."""
    kind, T = options.get("beta_schedule"), options.get("num_train_timesteps", 1000)
    if options.get("rescale_betas_zero_snr"):
        raise ValueError(
            "rescale_betas_zero_snr is True in the scheduler; at its last time there is no signal to predict"
        )
    if (betas := options.get("trained_betas")) is None:
        if kind == "squaredcos_cap_v2":
            return cosine(T)
        start, end = options.get("beta_start", 1e-4), options.get("beta_end", 0.02)
        if kind == "linear":
            betas = np.linspace(start, end, T)
        elif kind == "scaled_linear":
            betas = np.linspace(start**0.5, end**0.5, T) ** 2
        elif kind == "sigmoid":
            betas = start + (end - start) / (1 + np.exp(-np.linspace(-6, 6, T)))
        else:
            legal = "linear, scaled_linear, squaredcos_cap_v2, sigmoid"
            raise ValueError(f"beta_schedule is {kind!r} in the scheduler; legal are {legal}")
    if len(betas) != T:
        raise ValueError(f"trained_betas are {len(betas)} in the scheduler, and num_train_timesteps is {T}")
    return from_betas(np.asarray(betas, dtype=np.float64))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no {path}, so this is no diffusers pipeline's folder") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it holds no names and values")
    return values


def _card(denoise: NetworkDenoiser, card: str) -> str:
    channels, height, width = denoise.image_shape  # type: ignore[misc]
    return f"""---
library_name: diffusers
pipeline_tag: unconditional-image-generation
tags: [ddpm, unconditional-image-generation]
---

# An unconditional diffusion model of {channels} x {height} x {width} images

```python
import torch
from diffusers import DDIMPipeline

pipeline = DDIMPipeline.from_pretrained(".")  # this folder
images = pipeline(batch_size=16, num_inference_steps=50, generator=torch.Generator().manual_seed(0)).images
```

Exported by `ddpm`. The network answers {PREDICTION_TYPES[denoise.target]!r} on a
schedule of {denoise.schedule.T} steps. Its images lie in [-1, 1]. The scheduler does not clip x0, and its grid is
"trailing": take a number of steps that divides {denoise.schedule.T}, as diffusers' DDIM steps are uneven otherwise.

{card}"""
