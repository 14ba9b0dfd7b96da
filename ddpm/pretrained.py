"""Trained models: those that ship with the package, and those in a training run's folder."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ddpm.arguments import class_names, instance
from ddpm.autoencoder import Autoencoder, AutoencoderConfig
from ddpm.denoiser import NetworkDenoiser
from ddpm.diffusion import DiffusionConfig, check_schedule
from ddpm.fast import chosen_device
from ddpm.files import check_weights, expanded, load_tensors, new_folder, read_json, save_tensors, write_json
from ddpm.gan import GAN, GANConfig
from ddpm.model_files import MODELS, card, checkpoint_manifest, folder_aloud, model_folder  # noqa: F401 - names known here
from ddpm.own_parts import check_own_network, own_schedule, schedule_entry
from ddpm.schedule import NoiseSchedule
from ddpm.settings import PRECISIONS, Precision, integers, one_of
from ddpm.training.checkpoint import load_checkpoint
from ddpm.training.record import upgraded

__all__ = ["KINDS", "Facts", "facts", "load", "save"]

#: The kinds of model, each by its configuration's class.
KINDS: dict[str, Any] = {config.kind: config for config in (DiffusionConfig, AutoencoderConfig, GANConfig)}
#: What stands before a weight's name in the files of a kind that trains a single part.
PARTS = {"diffusion": "unet.", "autoencoder": "autoencoder."}


def load(
    name_or_path: str | os.PathLike[str],
    precision: Precision = "auto",
    device: str | torch.device = "auto",
    network: nn.Module | None = None,
    schedule: NoiseSchedule | None = None,
) -> Any:
    """A trained model: a diffusion model as a `NetworkDenoiser`, an `Autoencoder`, or a `GAN`.

    Args:
        name_or_path: the name of a model that ships ("fashion-mnist"), the folder of a training run, or one of its
            checkpoints, such as the best: runs/first/checkpoints/step-00004500. `ddpm.model_files.model_folder` says
            which is meant.
        precision: of a denoiser: "auto" computes in bfloat16 where the device does that in hardware, "float32" never.
        device: "auto" is a GPU where there is one.
        network: of a run that trained a network of your own (see `ddpm.diffusion.Diffusion`), one like it: it gets the
            run's weights and is the denoiser's.
        schedule: of a run that trained on a schedule that is code (a `PathSchedule`, or a class of your own), that
            schedule. One that is a table of alpha_bar alone (a `NoiseSchedule`) is in the run's record, and need not be
            given.

    Raises:
        ValueError: no such model or device, files that are damaged or of another program, or `network` or `schedule` is
            not given where the run trained with one of your own, or is given where it did not, or is another.
        TypeError: `name_or_path` is neither a name nor a path, `network` no torch module, or `schedule` no schedule.
        FileNotFoundError: the folder lacks one of its files.
    """
    one_of("precision", precision, PRECISIONS)
    place = chosen_device(device)
    files = _read(name_or_path)
    config, shape, classes = _settings(files)
    check_own_network(files.record_file, files.record, network)
    schedule = own_schedule(files.record_file, files.record, schedule)
    with torch.device("cpu"):
        model, trained = _untrained(config, shape, precision, classes, network, schedule)
    trained.to(torch.float32)  # whatever torch's defaults are
    weights = _without_part(files.weights, config.kind)
    check_weights(files.weights_file, weights, trained.state_dict())
    trained.load_state_dict(weights)
    trained.eval().to(place).requires_grad_(False)
    return model


def save(
    network: nn.Module,
    config: DiffusionConfig | AutoencoderConfig | GANConfig,
    folder: str | os.PathLike[str],
    image_shape: Sequence[int],
    classes: Sequence[str] = (),
    schedule: NoiseSchedule | None = None,
) -> None:
    """Write a network that was trained elsewhere where `load` and the command line find it, as they find a run.

    Args:
        network: one of this configuration, such as `config.network()` makes.
        config: its settings; of a diffusion model also what it was trained for: the schedule and the target.
        folder: an empty one, or one that is not there yet; it is complete or absent.
        image_shape: (channels, height, width) of the images that it was trained on.
        classes: names of the classes that it was told.
        schedule: of a diffusion model that was trained on one of your own, that schedule.

    Raises:
        TypeError: `network` is no torch module, `config` is no configuration, `classes` are no names, or `schedule` is
            no schedule.
        ValueError: the network is not of this configuration, or its weights are not finite; the configuration takes no
            such images, classes or schedule; or the folder holds something.
    """
    if type(config) not in KINDS.values():
        legal = ", ".join(each.__name__ for each in KINDS.values())
        raise TypeError(f"config is {type(config).__name__}; legal are {legal}")
    shape = integers("image_shape", image_shape, at_least=1)
    config.check_images(shape)
    classes = class_names(classes)
    _check_classes(config, classes)
    own: dict[str, Any] = {}
    if schedule is not None:
        if not isinstance(config, DiffusionConfig):
            raise ValueError(f"schedule is given; only a diffusion model has one, and this is {config.kind!r}")
        if check_schedule(schedule, config) != config.noise_schedule():
            own = {"own_schedule": schedule_entry(schedule)}
    weights = instance("network", network, nn.Module).state_dict()
    with torch.device("meta"):  # names, shapes and types alone: no numbers are drawn
        check_weights(Path("network"), weights, config.network().state_dict())
    data = {"name": "", "image_shape": list(shape), "classes": list(classes)}
    record = {"kind": config.kind, "model": asdict(config), "data": data} | own
    with new_folder("folder", expanded(folder)) as made:
        named = {f"{PARTS.get(config.kind, '')}{name}": value for name, value in weights.items()}
        write_json(made / "config.json", record | {"sha256": save_tensors(made / "model.safetensors", named)})


class Facts(NamedTuple):
    """What the record of a model says of it."""

    config: Any  #: a `DiffusionConfig`, an `AutoencoderConfig` or a `GANConfig`
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]  #: names of the classes that it was told; empty where it was told none
    data: str  #: name of the data that it learnt


def facts(name_or_path: str | os.PathLike[str]) -> Facts:
    """What the record of a model says of it. It raises what `load` does."""
    files = _read(name_or_path)
    return Facts(*_settings(files), str(files.record["data"].get("name", "")))


class _Files(NamedTuple):
    """What a model's two files hold."""

    record_file: Path
    record: dict[str, Any]
    weights_file: Path
    weights: dict[str, Tensor]


def _read(name_or_path: str | os.PathLike[str]) -> _Files:
    """Record and weights of a model that ships, of a run's folder or of a checkpoint."""
    folder = folder_aloud(name_or_path)
    if (manifest := checkpoint_manifest(name_or_path)) is not None:
        checkpoint = load_checkpoint(manifest)
        return _Files(manifest, checkpoint.config, manifest.with_suffix(".safetensors"), checkpoint.average())
    record, weights_file = _record(folder), folder / "model.safetensors"
    while True:
        try:
            return _Files(folder / "config.json", record, weights_file, load_tensors(weights_file, *_hashes(record)))
        except ValueError:
            newer = _record(folder)
            if newer == record:
                raise
            record = newer  # a training has published in between


def _hashes(record: Mapping[str, Any]) -> list[str]:
    """The hashes that a run's weights may have: while it replaces them, there are two."""
    return [record[name] for name in ("sha256", "replaced") if name in record]


def _record(folder: Path) -> dict[str, Any]:
    """What a run's config.json says."""
    path = folder / "config.json"
    if (folder / "model_index.json").is_file():
        raise ValueError(
            f"{folder} is a pipeline of diffusers; ddpm.from_diffusers opens it in Python, and commands take runs"
        )
    try:
        record = read_json(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder} holds no config.json, so it is no training run's folder") from error
    if not all(isinstance(record.get(part), dict) for part in ("model", "data")):
        raise ValueError(f"{path} is damaged or another program's: a training's has a model and data")
    return upgraded(record)


def _settings(files: _Files) -> tuple[Any, tuple[int, int, int], tuple[str, ...]]:
    """The configuration of a record's model, the shape of its images, and the names of the classes that it is told.

    Without a kind it is a diffusion model's.

    Raises:
        ValueError: the record has settings that are not legal, or that this version does not know.
    """
    try:
        kind = one_of("kind", files.record.get("kind", DiffusionConfig.kind), list(KINDS))
        config = KINDS[kind](**files.record["model"])
        shape = integers("image_shape", files.record["data"].get("image_shape"), at_least=1)
        if len(shape) != 3:
            raise ValueError(f"image_shape is {shape}; it must be (channels, height, width)")
        config.check_images(shape)
        classes = tuple(map(str, files.record["data"].get("classes", ())))
        _check_classes(config, classes)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{files.record_file} is damaged, or a later version of this package wrote it: {error}"
        ) from error
    return config, shape, classes


def _check_classes(config: Any, classes: Sequence[str]) -> None:
    """Raise `ValueError` unless a model of this configuration is told as many classes."""
    wanted = config.unet.classes if isinstance(config, DiffusionConfig) else None
    if len(classes) != (wanted or 0):
        raise ValueError(f"classes are {list(classes)}; the network was made for {wanted or 0} classes")


def _untrained(
    config: Any,
    shape: tuple[int, int, int],
    precision: Precision,
    classes: Sequence[str],
    network: nn.Module | None,
    schedule: NoiseSchedule | None,
) -> tuple[NetworkDenoiser | Autoencoder | GAN, nn.Module]:
    """A model with random weights, or with a network or schedule of your own, and the network in it that is trained."""
    if isinstance(config, DiffusionConfig):
        denoiser = config.denoiser(precision, shape, classes, network, schedule)
        return denoiser, denoiser.network
    other = config.network()
    return other, other


def _without_part(weights: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Weights by their names in the network."""
    part = PARTS.get(kind, "")
    return {name.removeprefix(part): value for name, value in weights.items()}
