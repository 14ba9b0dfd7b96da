"""The parts of a diffusers pipeline, found on the disk or in memory, and checked. No pickle is opened."""

import copy
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ddpm.files import check_file_finite, expanded, read_json
from ddpm.interop.schedulers import check_table, scheduler_from
from ddpm.interop.weights import diffusers_library
from ddpm.messages import first_line

if TYPE_CHECKING:
    from diffusers import UNet2DModel

__all__ = ["OWN_FACTS", "Parts", "parts_in_memory", "parts_on_disk"]

#: The file of an exported folder that diffusers does not read.
OWN_FACTS = "ddpm.json"


class Parts(NamedTuple):
    """A pipeline's scheduler and its `UNet2DModel`, in float32, which is no one else's."""

    model: Any
    scheduler: Any
    where: Path  # for messages, as the next
    scheduler_file: Path
    own_facts: Mapping[str, Any] | None  # what `export_diffusers` wrote beside it


def parts_on_disk(path: str | os.PathLike[str], variant: str | None) -> Parts:
    """The parts in a pipeline's folder; raises what `from_diffusers` does, as does the next."""
    folder = expanded(path)
    if path == "" or not os.path.isdir(folder):
        raise FileNotFoundError(f"there is no folder {os.fspath(path)!r}; nothing is downloaded")
    kind_of_scheduler = _scheduler_on_disk(folder)
    unet_file = _part(folder, "unet") / "config.json"
    _check_unet(_read(unet_file), unet_file)
    file = _part(folder, "scheduler") / "scheduler_config.json"
    scheduler = scheduler_from(_read(file), kind_of_scheduler, file)
    own_facts = read_json(folder / OWN_FACTS) if (folder / OWN_FACTS).is_file() else None
    return Parts(_load_model(_part(folder, "unet"), variant), scheduler, folder, file, own_facts)


def parts_in_memory(pipeline: Any, variant: str | None) -> Parts:
    """The parts of a pipeline that is loaded, with a copy of its network."""
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
    return Parts(copy.deepcopy(pipeline.unet).float().eval(), pipeline.scheduler, where, file, None)


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


def _read(file: Path) -> Mapping[str, Any]:
    try:
        return read_json(file)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no {file}; every diffusers pipeline has this file") from error
