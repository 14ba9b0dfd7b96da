"""Trained models: those that ship with the package, and those in a training run's folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddpm.autoencoder import Autoencoder, AutoencoderConfig
from ddpm.data import ASSETS
from ddpm.denoiser import NetworkDenoiser
from ddpm.diffusion import DiffusionConfig
from ddpm.fast import chosen_device
from ddpm.files import load_tensors
from ddpm.gan import GAN, GANConfig
from ddpm.settings import PRECISIONS, Precision, one_of
from ddpm.training.checkpoint import load_checkpoint
from ddpm.training.record import upgraded

__all__ = ["KINDS", "MODELS", "card", "load", "model_folder"]

#: Folder of the models that ship.
MODELS = ASSETS / "models"
#: The kinds of model, each by its configuration's class.
KINDS: dict[str, Any] = {config.kind: config for config in (DiffusionConfig, AutoencoderConfig, GANConfig)}


def load(name_or_path: str | Path, precision: Precision = "auto", device: str | torch.device = "auto") -> Any:
    """A trained model: a diffusion model as a `NetworkDenoiser`, an `Autoencoder`, or a `GAN`.

    Args:
        name_or_path: the name of a model that ships ("fashion-mnist"), the folder of a training run, or one of its
            checkpoints, such as the best: runs/first/checkpoints/step-00004500.
        precision: of a denoiser: "auto" computes in bfloat16 where the device does that in hardware, "float32" never.
        device: "auto" is a GPU where there is one.

    Raises:
        ValueError: no such model, or files that are damaged.
        FileNotFoundError: the folder lacks its weights.
    """
    one_of("precision", precision, PRECISIONS)
    folder = model_folder(name_or_path)
    if (manifest := _manifest(name_or_path)) is not None:
        checkpoint = load_checkpoint(manifest)
        record, weights = checkpoint.config, checkpoint.average()
    else:
        record = _record(folder)
        hashes = [record[name] for name in ("sha256", "replaced") if name in record]
        weights = load_tensors(folder / "model.safetensors", *hashes)
    config = _config(folder, record)
    model, network = _untrained(config, tuple(record["data"]["image_shape"]), precision)
    try:
        network.load_state_dict(_without_part(weights, config.kind))
    except RuntimeError as error:
        raise ValueError(f"{folder}: config.json and model.safetensors do not fit each other") from error
    network.eval().to(chosen_device(device)).requires_grad_(False)
    return model


def _record(folder: Path) -> dict[str, Any]:
    """What a run's config.json says."""
    path = folder / "config.json"
    try:
        return upgraded(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder} holds no config.json, so it is no training run's folder") from error
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error!r}") from error


def _config(folder: Path, record: Mapping[str, Any]) -> Any:
    """The configuration of a record's model; of an old record without a kind, of a diffusion model."""
    kind = record.get("kind", DiffusionConfig.kind)
    if kind not in KINDS:
        raise ValueError(f"{folder}: kind is {kind!r}; legal are {', '.join(KINDS)}")
    try:
        record["data"]["image_shape"]
        return KINDS[kind](**record["model"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'} is damaged: {error!r}") from error


def _untrained(
    config: Any, shape: tuple[int, int, int], precision: Precision
) -> tuple[NetworkDenoiser | Autoencoder | GAN, nn.Module]:
    """A model with random weights, and the network in it that is trained."""
    if isinstance(config, DiffusionConfig):
        denoiser = config.denoiser(precision, shape)
        return denoiser, denoiser.network
    network = config.network()
    return network, network


def _without_part(weights: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Weights by their names in the network; a training of one part puts the part's name in front of them."""
    part = {"diffusion": "unet.", "autoencoder": "autoencoder."}.get(kind, "")
    return {name.removeprefix(part): value for name, value in weights.items()}


def _manifest(name_or_path: str | Path) -> Path | None:
    """The manifest of a run's checkpoint, if this names one."""
    path = Path(name_or_path).with_suffix(".json")
    return path if path.stem.startswith("step-") and path.is_file() else None


def model_folder(name_or_path: str | Path) -> Path:
    """The folder that holds a model's files."""
    if (manifest := _manifest(name_or_path)) is not None:
        return manifest.parent
    if (shipped := MODELS / str(name_or_path)) in MODELS.iterdir():
        return shipped
    if not Path(name_or_path).is_dir():
        names = ", ".join(sorted(path.name for path in MODELS.iterdir() if path.is_dir()))
        raise ValueError(f"model is {str(name_or_path)!r}; legal are {names}, or the folder of a training run")
    return Path(name_or_path)


def card(name_or_path: str | Path) -> str:
    """A model's card, Markdown: data, schedule, training, device, date, how to make it again, what it is worth."""
    return (model_folder(name_or_path) / "card.md").read_text(encoding="utf-8")
