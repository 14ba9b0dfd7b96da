"""Whole pipelines of diffusers: write one from a trained denoiser, and make a denoiser from one."""

import copy
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ddpm.denoiser import NetworkDenoiser
from ddpm.fast import chosen_device
from ddpm.files import check_file_finite, expanded, new_folder, read_json, write_json
from ddpm.interop.card import card_of
from ddpm.interop.schedulers import (
    check_table,
    make_scheduler,
    schedule_of_scheduler,
    scheduler_from,
    target_of_scheduler,
)
from ddpm.interop.weights import diffusers_library, first_line, unet_from_diffusers, unet_to_diffusers
from ddpm.settings import PRECISIONS, Precision, flag, one_of, positive_int
from ddpm.unet import UNet
from ddpm.unet.blocks import Float32Conv2d

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, UNet2DModel

__all__ = ["export_diffusers", "from_diffusers"]

#: The file of an exported folder that diffusers does not read.
OWN_FACTS = "ddpm.json"


def export_diffusers(denoise: NetworkDenoiser, directory: str | Path, card: str = "") -> None:
    """Write a folder that `DDPMPipeline` and `DDIMPipeline` open and sample from, with a model card.

    Of a model with classes they open the parts alone, as no pipeline of diffusers tells a `UNet2DModel` its labels. The
    card has a loop that does.

    Args:
        denoise: a trained `UNet` that knows the shape of its images.
        directory: a folder that is empty or not there yet; its content appears only when all of it is written.
        card: Markdown about the model, for the end of its card.

    Raises:
        ValueError: diffusers has no such network, schedule or target or is not installed, or the folder holds something
            or cannot be written. Nothing is written.
        TypeError: `denoise` is no `NetworkDenoiser`.
    """
    if not isinstance(denoise, NetworkDenoiser):
        raise TypeError(f"denoise is a {type(denoise).__name__}; it must be a NetworkDenoiser")
    if not isinstance(denoise.network, UNet) or denoise.image_shape is None:
        raise ValueError("denoise must hold a UNet, with a null label if it has classes, and know its image_shape")
    _, height, width = denoise.image_shape
    with new_folder("directory", Path(directory)) as folder:
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
        ValueError: it is another kind of pipeline, or damaged; the message names the part in the way. Or diffusers is
            not installed.
        FileNotFoundError: a part of it is missing.
        TypeError: `path` is neither a path nor a pipeline.
    """
    one_of("precision", precision, PRECISIONS)
    flag("null_label", null_label)
    place = chosen_device(device)
    parts = _parts_on_disk(path, variant) if isinstance(path, str | os.PathLike) else _parts_in_memory(path, variant)
    model, scheduler, where, scheduler_file, own_facts = parts
    target = target_of_scheduler(scheduler, scheduler_file)
    schedule = schedule_of_scheduler(scheduler, scheduler_file)
    image_shape = _image_shape(model, where)
    network = _plain_network(model, null_label)
    classes, distilled_for = _classes_of(own_facts, where / OWN_FACTS, model.config.num_class_embeds, null_label)
    network = network.to(place, memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]
    return NetworkDenoiser(network, schedule, target, precision, image_shape, classes, distilled_for)


class _Parts(NamedTuple):
    """A pipeline's scheduler and its `UNet2DModel`, in float32, which is no one else's."""

    model: Any
    scheduler: Any
    where: Path  # for messages, as the next
    scheduler_file: Path
    own_facts: Mapping[str, Any] | None  # what `export_diffusers` wrote beside it


def _parts_on_disk(path: str | os.PathLike[str], variant: str | None) -> _Parts:
    folder = expanded(path)
    if path == "" or not os.path.isdir(folder):
        raise FileNotFoundError(f"there is no folder {os.fspath(path)!r}; nothing is downloaded")
    kind_of_scheduler = _scheduler_on_disk(folder)
    unet_file = _part(folder, "unet") / "config.json"
    _check_unet(_read(unet_file), unet_file)
    file = _part(folder, "scheduler") / "scheduler_config.json"
    scheduler = scheduler_from(_read(file), kind_of_scheduler, file)
    own_facts = read_json(folder / OWN_FACTS) if (folder / OWN_FACTS).is_file() else None
    return _Parts(_load_model(_part(folder, "unet"), variant), scheduler, folder, file, own_facts)


def _parts_in_memory(pipeline: Any, variant: str | None) -> _Parts:
    if not (hasattr(pipeline, "unet") and hasattr(pipeline, "scheduler")):
        kind = type(pipeline).__name__
        raise TypeError(f"path is {kind}; it must be a path, or a pipeline with a unet and a scheduler")
    if variant is not None:
        raise ValueError(f"variant is {variant!r}; a pipeline in memory has none, as its weights are loaded")
    found = getattr(pipeline, "components", {"unet": pipeline.unet, "scheduler": pipeline.scheduler})
    kinds = {name: type(part).__name__ for name, part in found.items() if part is not None}
    where, unet_file, file = Path("pipeline"), Path("pipeline.unet"), Path("pipeline.scheduler")
    _check_kinds(kinds, where)
    _check_unet(pipeline.unet.config, unet_file)
    check_table(pipeline.scheduler, kinds["scheduler"], file)
    check_file_finite(unet_file, pipeline.unet.state_dict())
    return _Parts(copy.deepcopy(pipeline.unet).float().eval(), pipeline.scheduler, where, file, None)


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


def _scheduler_on_disk(folder: Path) -> str:
    """The class of a pipeline's scheduler, once its parts are checked."""
    file = folder / "model_index.json"
    if not file.exists() and (folder / "config.json").is_file():
        alone = read_json(folder / "config.json")
        if "_class_name" in alone:
            raise FileNotFoundError(f"{folder} holds a {alone['_class_name']} and no scheduler: there is no {file}")
        if "training" in alone:
            raise FileNotFoundError(f"{folder} is a training run's folder, which ddpm.load opens; there is no {file}")
    parts = {name: part[-1] for name, part in _read(file).items() if isinstance(part, list) and part and part[-1]}
    _check_kinds(parts, folder)
    return str(parts["scheduler"])


def _check_kinds(parts: Mapping[str, Any], where: Path) -> None:
    """Check that a pipeline has a scheduler, a UNet2DModel and no other part."""
    if parts.keys() != {"unet", "scheduler"} or parts["unet"] != "UNet2DModel":
        raise ValueError(f"{where} holds {parts}; a model of pixels is a UNet2DModel and a scheduler")


def _part(folder: Path, name: str) -> Path:
    """Where the files of a part are: in a folder of its name or, of old pipelines, beside all others."""
    return folder / name if (folder / name).is_dir() else folder


def _check_unet(options: Mapping[str, Any], file: Path) -> None:
    """Check that a UNet is told labels or nothing, and answers an image, or an image and a variance."""
    if (kind := options.get("_class_name", "UNet2DModel")) != "UNet2DModel":
        raise ValueError(f"{file} is that of a {kind}; it must be a UNet2DModel")
    if kind := options.get("class_embed_type"):
        raise ValueError(f"class_embed_type is {kind!r} in {file}; only plain labels are told, by num_class_embeds")
    channels_in, channels_out = options.get("in_channels", 3), options.get("out_channels", 3)
    if channels_out not in (channels_in, 2 * channels_in):
        raise ValueError(f"out_channels is {channels_out} in {file}; it must be {channels_in}, or twice that")


def _load_model(folder: Path, variant: str | None) -> "UNet2DModel":
    """The network in a folder, with all of its weights in float32."""
    variant = _variant(folder, variant)
    _check_shards(folder, variant)
    try:
        model, report = diffusers_library().UNet2DModel.from_pretrained(
            folder, variant=variant, torch_dtype=torch.float32, use_safetensors=True, local_files_only=True,
            output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # whatever a damaged configuration or file brings about
        raise ValueError(f"{folder} is damaged or does not fit its config.json: {first_line(error)}") from error
    if odd := [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]:
        raise ValueError(f"{folder} does not fit its config.json: {odd[0]}")
    check_file_finite(folder, model.state_dict())
    loaded: UNet2DModel = model
    return loaded


_WHOLE = re.compile(r"diffusion_pytorch_model(?:\.(?P<variant>[^.]+))?\.safetensors")
_SHARDED = re.compile(r"diffusion_pytorch_model\.safetensors\.index(?:\.(?P<variant>[^.]+))?\.json")
_SHARD = re.compile(r".*-\d+-of-\d+\.safetensors")


def _variant(folder: Path, wanted: str | None) -> str | None:
    """The variant of the weights in a folder that is wanted, or the only one; None is the plain weights."""
    names = [path.name for path in folder.iterdir() if not _SHARD.fullmatch(path.name)]
    found = {match["variant"] for name in names if (match := _WHOLE.fullmatch(name) or _SHARDED.fullmatch(name))}
    if not found:
        raise FileNotFoundError(f"{folder} holds no diffusion_pytorch_model.safetensors; nothing is unpickled")
    if wanted is None and len(found) == 1:
        return found.pop()
    if wanted not in found:
        legal = ", ".join(repr(name) for name in sorted(found, key=str))
        raise ValueError(f"variant is {wanted!r}; the weights in {folder} are {legal}")
    return wanted


def _check_shards(folder: Path, variant: str | None) -> None:
    """Check that the files of sharded weights are there, and none is a pickle."""
    ending = "json" if variant is None else f"{variant}.json"
    file = folder / f"diffusion_pytorch_model.safetensors.index.{ending}"
    if not file.exists():
        return
    shards = _read(file).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise ValueError(f"{file} is damaged: it must have a weight_map of names and files")
    for name in sorted(set(shards.values())):
        if not name.endswith(".safetensors"):
            raise ValueError(f"{file} names {name!r}; it must name safetensors files, as nothing is unpickled")
        if not (folder / name).is_file():
            raise FileNotFoundError(f"there is no {folder / name}, which {file.name} names")


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
    new.load_state_dict(convolution.state_dict())
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


def _read(file: Path) -> Mapping[str, Any]:
    try:
        return read_json(file)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no {file}; every diffusers pipeline has this file") from error
