"""Whole pipelines of diffusers: write one from a trained denoiser, and make a denoiser from one."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ddpm.denoiser import NetworkDenoiser
from ddpm.fast import chosen_device
from ddpm.interop.weights import diffusers_library, unet_from_diffusers, unet_to_diffusers
from ddpm.schedule import NoiseSchedule, cosine, from_betas
from ddpm.settings import Precision, Target, one_of
from ddpm.unet import UNet
from ddpm.unet.network import Float32Conv2d

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, UNet2DModel

__all__ = ["PREDICTION_TYPES", "export_diffusers", "from_diffusers"]

#: What diffusers calls each prediction target.
PREDICTION_TYPES: dict[Target, str] = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}

_BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid")


def export_diffusers(denoise: NetworkDenoiser, directory: str | Path, card: str = "") -> None:
    """Write a folder that `DDPMPipeline` and `DDIMPipeline` open and sample from, with a model card.

    Args:
        denoise: a trained `UNet` that knows the shape of its images.
        directory: the folder to make; it appears only when all of it is written.
        card: Markdown about the model, for the end of its card.

    Raises:
        ValueError: diffusers has no such network or is not installed, or the folder is there already. Nothing is
            written.
    """
    directory = Path(directory)
    _check_is_new(directory)
    if not isinstance(denoise.network, UNet) or denoise.image_shape is None:
        raise ValueError("denoise must hold a UNet and know its image_shape")
    _, height, width = denoise.image_shape
    unet = unet_to_diffusers(denoise.network, height if height == width else (height, width))
    pipeline = diffusers_library().DDPMPipeline(unet, _scheduler(denoise))

    directory.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        pipeline.save_pretrained(unfinished)
        (unfinished / "README.md").write_text(_card(denoise, card), encoding="utf-8", newline="\n")
        unfinished.chmod(0o755)  # only its owner may open a temporary folder
        os.replace(unfinished, directory)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _check_is_new(directory: Path) -> None:
    if directory.exists():
        raise ValueError(f"directory is {str(directory)!r}, which is there already; name a new one")
    if any(folder.exists() and not folder.is_dir() for folder in directory.parents):
        raise ValueError(f"directory is {str(directory)!r}; there must be no file on the way to it")


def _scheduler(denoise: NetworkDenoiser) -> "DDPMScheduler":
    """diffusers' scheduler for a denoiser's noise schedule and prediction target."""
    alpha_bar = denoise.schedule.alpha_bar
    scheduler: DDPMScheduler = diffusers_library().DDPMScheduler(
        num_train_timesteps=denoise.schedule.T,
        trained_betas=(1 - alpha_bar[1:] / alpha_bar[:-1]).tolist(),
        prediction_type=PREDICTION_TYPES[denoise.target],
        clip_sample=False,  # the default clips x0 to [-1, 1] in every step
        timestep_spacing="trailing",  # the default never visits T
    )
    return scheduler


def from_diffusers(
    path: str | Path, precision: Precision = "auto", device: str | torch.device = "auto"
) -> NetworkDenoiser:
    """A denoiser from a diffusers pipeline on the disk: an unconditional `UNet2DModel` of pixels.

    Its network is a `UNet` if one computes the same function. The scheduler gives the noise schedule and the prediction
    target. Whether the scheduler clips x0 is ignored; `Clipped` does that.

    Args:
        path: the pipeline's folder, as `save_pretrained` writes it; nothing is downloaded.
        precision: "auto" computes in bfloat16 where the device does that in hardware; "float32" never does.
        device: "auto" is a GPU if there is one, else the CPU.

    Raises:
        ValueError: it is another kind of pipeline, or damaged; the message names the part in the way. Or diffusers is
            not installed.
        FileNotFoundError: a part of it is missing.
    """
    folder = Path(path)
    _check_parts(folder)
    _check_unet(folder)
    scheduler = _read_json(folder / "scheduler" / "scheduler_config.json")
    target = _target(scheduler, folder)
    schedule = _schedule(scheduler)
    model = _load_model(folder / "unet")
    network = _plain_network(model)
    network = network.to(chosen_device(device), memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]
    return NetworkDenoiser(network, schedule, target, precision, _image_shape(model))


def _check_parts(folder: Path) -> None:
    """Check that a pipeline has a UNet2DModel and a scheduler, and no other part."""
    index = _read_json(folder / "model_index.json")
    parts = {name: part[-1] for name, part in index.items() if isinstance(part, list) and part and part[-1]}
    if parts.keys() != {"unet", "scheduler"} or parts["unet"] != "UNet2DModel":
        raise ValueError(f"{folder} holds {parts}; an unconditional model of pixels is a UNet2DModel and a scheduler")


def _check_unet(folder: Path) -> None:
    """Check that a pipeline's UNet takes no classes, and answers an image, or an image and a variance."""
    options = _read_json(folder / "unet" / "config.json")
    if options.get("class_embed_type") or options.get("num_class_embeds"):
        raise ValueError(f"{folder} is conditioned on classes; only unconditional models are denoisers")
    channels_in, channels_out = options.get("in_channels", 3), options.get("out_channels", 3)
    if channels_out not in (channels_in, 2 * channels_in):
        raise ValueError(f"out_channels is {channels_out} in {folder}; it must be {channels_in}, or twice that")


def _target(scheduler: Mapping[str, Any], folder: Path) -> Target:
    """The prediction target that a scheduler's configuration names."""
    targets = {prediction_type: target for target, prediction_type in PREDICTION_TYPES.items()}
    prediction_type = scheduler.get("prediction_type", "epsilon")
    return targets[one_of(f"prediction_type in {folder}", prediction_type, list(targets))]


def _schedule(scheduler: Mapping[str, Any]) -> NoiseSchedule:
    """The noise schedule of a scheduler's configuration, computed in float64."""
    if scheduler.get("rescale_betas_zero_snr"):
        raise ValueError(
            "rescale_betas_zero_snr is True in the scheduler; at its last time there is no signal to predict"
        )
    T = scheduler.get("num_train_timesteps", 1000)
    betas = scheduler.get("trained_betas")
    if betas is None:
        kind = one_of("beta_schedule in the scheduler", scheduler.get("beta_schedule"), _BETA_SCHEDULES)
        if kind == "squaredcos_cap_v2":
            return cosine(T)
        betas = _betas(kind, scheduler.get("beta_start", 1e-4), scheduler.get("beta_end", 0.02), T)
    if len(betas) != T:
        raise ValueError(f"trained_betas are {len(betas)} in the scheduler, and num_train_timesteps is {T}")
    return from_betas(np.asarray(betas, dtype=np.float64))


def _betas(kind: str, start: float, end: float, T: int) -> "Sequence[float] | np.ndarray":
    """The table (T,) of beta, as diffusers computes it from its first and last value."""
    if kind == "linear":
        return np.linspace(start, end, T)
    if kind == "scaled_linear":
        return np.linspace(start**0.5, end**0.5, T) ** 2
    return start + (end - start) / (1 + np.exp(-np.linspace(-6, 6, T)))  # "sigmoid"


def _load_model(folder: Path) -> "UNet2DModel":
    """The network in a folder, with all of its weights."""
    if not (folder / "diffusion_pytorch_model.safetensors").is_file():
        raise FileNotFoundError(f"{folder} holds no diffusion_pytorch_model.safetensors; nothing is unpickled")
    diffusers = diffusers_library()
    try:
        model, report = diffusers.UNet2DModel.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{folder} is damaged or does not fit its config.json: {error}") from error
    if odd := [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]:
        raise ValueError(f"{folder} does not fit its config.json: {odd[0]}")
    loaded: UNet2DModel = model
    return loaded


def _plain_network(model: Any) -> nn.Module:
    """A diffusers model as a network (x, t) -> answer: a `UNet` if one computes the same function."""
    try:
        return unet_from_diffusers(model)
    except ValueError:
        model.conv_in = _in_float32(model.conv_in)  # as in a UNet
        return _FirstOutput(model)


def _image_shape(model: Any) -> tuple[int, int, int] | None:
    """(channels, height, width) of a diffusers model's images; None if it does not say."""
    size = model.config.sample_size
    if not size:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    return model.config.in_channels, height, width


def _in_float32(convolution: nn.Conv2d) -> Float32Conv2d:
    """The same convolution, which stays in float32 under autocast."""
    new = Float32Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        padding=convolution.padding,  # type: ignore[arg-type]
    )
    new.load_state_dict(convolution.state_dict())
    return new


class _FirstOutput(nn.Module):
    """A diffusers model as a plain network: its answer is a tensor, without the variance that it may have learnt."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        answer: Tensor = self.model(x, t).sample
        return answer[:, : x.shape[1]]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no {path}; every diffusers pipeline has this file") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it must hold an object of names and values")
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
