"""The recommended settings of every kind of model: what `ddpm train` does unless it is told otherwise."""

from dataclasses import fields
from typing import Any

from ddpm.autoencoder import AutoencoderConfig
from ddpm.diffusion import DiffusionConfig
from ddpm.gan import GANConfig
from ddpm.training_config import TrainingConfig
from ddpm.unet import UNetConfig

#: Of every kind of model the settings that `ddpm train` takes unless told otherwise.
RECIPES: dict[str, dict[str, Any]] = {
    # Of benchmarks/time_to_quality.py's recipes the one that reached most in few minutes.
    "diffusion": {
        "blocks_per_level": 1, "target": "v", "times": "lognormal", "uniform_share": 0.1,
        "optimiser": "muon", "learning_rate": 2e-3, "warmup": 50,
    },
    "autoencoder": {"optimiser": "adamw", "learning_rate": 2e-3},
    "vae": {"optimiser": "adamw", "learning_rate": 2e-3},
    "gan": {"optimiser": "adam", "momentum": 0.0, "learning_rate": 5e-4},
}  # fmt: skip


def recipe(kind: str, **settings: Any) -> tuple[Any, TrainingConfig]:
    """What to give to `ddpm.training.train`.

    Args:
        kind: "diffusion", "autoencoder", "vae" or "gan".
        settings: of the model (`DiffusionConfig` and its `UNetConfig`, `AutoencoderConfig`, `GANConfig`) or of its
            training (`TrainingConfig`), instead of the recommended ones.

    Raises:
        ValueError: an unknown kind, a setting that it does not have, or an illegal value.
    """
    if kind not in RECIPES:
        raise ValueError(f"model is {kind!r}; legal are {', '.join(RECIPES)}")
    config = {"diffusion": DiffusionConfig, "gan": GANConfig}.get(kind, AutoencoderConfig)
    chosen = RECIPES[kind] | settings
    for name in settings.keys() & {"unet", "variational"}:  # what the kind and the UNet's own settings say
        raise ValueError(f"{name} is {settings[name]!r}; model {kind!r} has no such setting")
    training = {f.name: chosen.pop(f.name) for f in fields(TrainingConfig) if f.name in chosen}
    if config is DiffusionConfig:
        chosen["unet"] = UNetConfig(**{f.name: chosen.pop(f.name) for f in fields(UNetConfig) if f.name in chosen})
    elif config is AutoencoderConfig:
        chosen["variational"] = kind == "vae"
    legal = {f.name for f in fields(config)}
    for name, value in chosen.items():
        if name not in legal:
            raise ValueError(f"{name} is {value!r}; model {kind!r} has no such setting")
    return config(**chosen), TrainingConfig(**training)
