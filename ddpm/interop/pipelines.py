"""Whole pipelines of diffusers: write one from a trained denoiser, and make a denoiser from one."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ddpm.arguments import instance
from ddpm.denoiser import NetworkDenoiser
from ddpm.fast import chosen_device
from ddpm.files import expanded, new_folder, write_json
from ddpm.interop.card import card_of
from ddpm.interop.parts import OWN_FACTS, parts_in_memory, parts_on_disk
from ddpm.interop.schedulers import make_scheduler, schedule_of_scheduler, target_of_scheduler
from ddpm.interop.weights import diffusers_library, unet_from_diffusers, unet_to_diffusers
from ddpm.settings import PRECISIONS, Precision, flag, one_of, positive_int
from ddpm.unet import UNet
from ddpm.unet.blocks import Float32Conv2d

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

__all__ = ["export_diffusers", "from_diffusers"]


def export_diffusers(denoise: NetworkDenoiser, directory: str | Path, card: str = "") -> None:
    """Write a folder that `DDPMPipeline` and `DDIMPipeline` open and sample from, with a model card.

    Of a model with classes they open the parts alone, as no pipeline of diffusers tells a `UNet2DModel` its labels. The
    card has a loop that does.

    Args:
        denoise: a trained `UNet` that knows the shape of its images.
        directory: a folder that is empty or not there yet; its content appears only when all of it is written.
        card: Markdown about the model, for the end of its card.

    Raises:
        ValueError: diffusers has no such network, schedule or target, or the folder holds something or cannot be
            written. Nothing is written.
        TypeError: `denoise` is no `NetworkDenoiser`.
        ModuleNotFoundError: diffusers is not installed.
    """
    instance("denoise", denoise, NetworkDenoiser)
    if not isinstance(denoise.network, UNet):
        kind = type(denoise.network).__name__
        raise ValueError(f"denoise holds a {kind}; it must hold a UNet, with a null label if it has classes")
    if denoise.image_shape is None:
        raise ValueError("denoise does not know its image_shape; NetworkDenoiser(..., image_shape=...) does")
    _, height, width = denoise.image_shape
    with new_folder("directory", expanded(directory)) as folder:
        unet = unet_to_diffusers(denoise.network, height if height == width else (height, width))
        pipeline = diffusers_library().DDPMPipeline(unet, make_scheduler(denoise))
        pipeline.save_pretrained(folder)
        write_json(folder / OWN_FACTS, {"classes": denoise.classes, "distilled_for": denoise.distilled_for})
        (folder / "README.md").write_text(card_of(denoise, card), encoding="utf-8", newline="\n")


def from_diffusers(
    path: "str | os.PathLike[str] | DiffusionPipeline",
    precision: Precision = "auto",
    device: str | torch.device = "auto",
    variant: str | None = None,
    null_label: bool = True,
) -> NetworkDenoiser:
    """A denoiser from a diffusers pipeline, on the disk or in memory: a `UNet2DModel` of pixels.

    Its network is a `UNet` if one computes the same function. Its weights are float32, whatever they are in the file.
    The scheduler gives the noise schedule and the prediction target. Whether it clips or thresholds x0 is ignored;
    `Clipped` clips. The names of the classes and what a student was distilled for are read from what `export_diffusers`
    wrote; in other folders, and in memory, classes have numbers for names.

    Args:
        path: the pipeline's folder, as `save_pretrained` writes it or with all files in one place, as the oldest have
            it; nothing is downloaded. Or a pipeline in memory, with a `unet` and a `scheduler`; it is copied.
        precision: "auto" computes in bfloat16 where the device does that in hardware; "float32" never does.
        device: "auto" is a GPU if there is one, else the CPU.
        variant: which weights of a folder, where there are several: "fp16" is
            diffusion_pytorch_model.fp16.safetensors. By default those without such a name, or the only ones there are.
        null_label: whether the last of a conditional model's class embeddings is that of the null label, which tells no
            class. False is for a model that was trained without one: it must always be told a class.

    Raises:
        ValueError: it is another kind of pipeline, or damaged; the message names the part in the way.
        FileNotFoundError: a part of it is missing.
        TypeError: `path` is neither a path nor a pipeline.
        ModuleNotFoundError: diffusers is not installed.
    """
    one_of("precision", precision, PRECISIONS)
    flag("null_label", null_label)
    place = chosen_device(device)
    with torch.device("cpu"):  # whatever torch's default is
        parts = parts_on_disk(path, variant) if isinstance(path, str | os.PathLike) else parts_in_memory(path, variant)
        model, scheduler, where, scheduler_file, own_facts = parts
        target = target_of_scheduler(scheduler, scheduler_file)
        schedule = schedule_of_scheduler(scheduler, scheduler_file)
        network = _plain_network(model, null_label)
    image_shape = _image_shape(model, where)
    classes, distilled_for = _classes_of(own_facts, where / OWN_FACTS, model.config.num_class_embeds, null_label)
    network.to(place, torch.float32, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.requires_grad_(False)
    return NetworkDenoiser(network, schedule, target, precision, image_shape, classes, distilled_for)


def _classes_of(
    own_facts: Mapping[str, Any] | None, file: Path, embeddings: int | None, null_label: bool
) -> tuple[list[str], int | None]:
    """Names of a model's classes, and what a student was distilled for: diffusers' files have a place for neither."""
    count = embeddings or 0
    if null_label and count:
        count -= 1
    numbers = [str(label) for label in range(count)]
    if own_facts is None:
        return numbers, None
    if not null_label:
        raise ValueError(f"null_label is False; {file} says that it was exported from here, with a null label")
    classes, distilled_for = own_facts.get("classes"), own_facts.get("distilled_for")
    if not isinstance(classes, list) or len(classes) != len(numbers):
        raise ValueError(f"{file} is damaged: classes are {classes!r}; there must be {len(numbers)} names")
    return list(map(str, classes)), None if distilled_for is None else positive_int("distilled_for", distilled_for)


def _plain_network(model: Any, null_label: bool) -> nn.Module:
    """A diffusers model as a network (x, t, labels) -> answer: a `UNet` if one computes the same function."""
    if null_label or not model.config.num_class_embeds:  # a UNet's last label is the null label
        with suppress(ValueError):
            return unet_from_diffusers(model)
    model.conv_in = _in_float32(model.conv_in)  # as in a UNet
    return _FirstOutput(model, null_label)


def _image_shape(model: Any, folder: Path) -> tuple[int, int, int] | None:
    """(channels, height, width) of a diffusers model's images; None if it does not say."""
    size, divisor = model.config.sample_size, 2 ** (len(model.config.block_out_channels) - 1)
    if size is None:
        return None
    sides = size if isinstance(size, list | tuple) else [size, size]
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 and side % divisor == 0 for side in sides):
        raise ValueError(f"sample_size is {size!r} in {folder}; it must be a multiple of {divisor}, or two of them")
    return model.config.in_channels, sides[0], sides[1]


def _in_float32(convolution: nn.Conv2d) -> Float32Conv2d:
    """The same convolution, which stays in float32 under autocast."""
    new = Float32Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        padding=convolution.padding,  # type: ignore[arg-type]
    )
    new.float().load_state_dict(convolution.state_dict())
    return new


class _FirstOutput(nn.Module):
    """A diffusers model as a plain network: its answer is a tensor, without the variance that it may have learnt.

    A model with classes that is told none is told its last label, the null label, if it has one.
    """

    def __init__(self, model: Any, null_label: bool) -> None:
        super().__init__()
        self.model = model
        self.labels: int = model.config.num_class_embeds or 0
        self.null_label = null_label

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is None and self.labels:
            if not self.null_label:
                raise ValueError("labels are None; this network has no null label, so `given` must tell it a class")
            labels = torch.full((len(x),), self.labels - 1, dtype=torch.int64, device=x.device)
        answer: Tensor = self.model(x, t, labels).sample
        return answer[:, : x.shape[1]]
