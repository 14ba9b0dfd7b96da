"""Trained models: those that ship with the package, and a training run's folder."""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ddpm.autoencoder import AutoencoderConfig
from ddpm.checkpoint import load_checkpoint
from ddpm.data import ASSETS
from ddpm.denoiser import NetworkDenoiser
from ddpm.diffusion import DiffusionConfig
from ddpm.fast import chosen_device
from ddpm.files import load_tensors
from ddpm.gan import GANConfig

#: Folder of the models that ship.
MODELS = ASSETS / "models"
#: The kinds of model, each by its configuration's class.
KINDS: dict[str, Any] = {config.kind: config for config in (DiffusionConfig, AutoencoderConfig, GANConfig)}


def load(
    name_or_path: str | Path,
    precision: Literal["auto", "float32"] = "auto",
    device: str | torch.device = "auto",
) -> NetworkDenoiser | Any:  # Any, so that nobody has to rule out the rarer kinds
    """A trained model: a diffusion model as a denoiser, an autoencoder, or the players of a GAN.

    Args:
        name_or_path: the name of a model that ships ("fashion-mnist"), the folder of a training run, or one of its
            checkpoints, such as the best: runs/first/checkpoints/step-00004500.
        precision: "auto" computes in bfloat16 where the device does that in hardware, "float32" never; of a denoiser.
        device: "auto" is a GPU where there is one.

    Raises:
        ValueError: no such model, or files that are damaged.
        FileNotFoundError: the folder lacks its weights.
    """
    folder, manifest = model_folder(name_or_path), _manifest(name_or_path)
    saved = load_checkpoint(manifest) if manifest is not None else None
    if precision not in ("auto", "float32"):
        raise ValueError(f"precision is {precision!r}; legal are auto, float32")
    try:
        record = saved.config if saved else json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = record.get("kind", DiffusionConfig.kind)
        if kind not in KINDS:
            raise ValueError(f"{folder}: kind is {kind!r}; legal are {', '.join(KINDS)}")
        config = KINDS[kind](**record["model"])
        shape = tuple(record["data"]["image_shape"])
        hashes = [record[name] for name in ("sha256", "replaced") if name in record]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder} holds no config.json, so it is no training run's folder") from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'} is damaged: {error!r}") from error
    weights = saved.average() if saved else load_tensors(folder / "model.safetensors", *hashes)
    model: Any = config.denoiser(precision, shape) if isinstance(config, DiffusionConfig) else config.network()
    network: nn.Module = model.network if isinstance(config, DiffusionConfig) else model
    only_part = {"diffusion": "unet.", "autoencoder": "autoencoder."}.get(config.kind, "")
    try:
        network.load_state_dict({name.removeprefix(only_part): value for name, value in weights.items()})
    except RuntimeError as error:
        raise ValueError(f"{folder}: config.json and model.safetensors do not fit each other") from error
    network.eval().to(chosen_device(device)).requires_grad_(False)
    return model


def _manifest(name_or_path: str | Path) -> Path | None:
    """Of a run's checkpoint."""
    path = Path(name_or_path).with_suffix(".json")
    return path if path.stem.startswith("step-") and path.is_file() else None


def model_folder(name_or_path: str | Path) -> Path:
    """Where a model's files lie."""
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
