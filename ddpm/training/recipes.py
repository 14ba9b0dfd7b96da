"""The recommended settings of every kind of model: what `ddpm train` does unless it is told otherwise."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ddpm.settings import one_of
from ddpm.training.config import TrainingConfig
from ddpm.unet.config import UNetConfig

if TYPE_CHECKING:
    from ddpm.autoencoder import AutoencoderConfig
    from ddpm.diffusion import DiffusionConfig
    from ddpm.gan import GANConfig

    ModelConfig = DiffusionConfig | AutoencoderConfig | GANConfig

__all__ = ["DISTILLATION", "RECIPES", "recipe"]

#: For every kind of model, the recommended settings that differ from its configuration's own defaults.
RECIPES: dict[str, dict[str, Any]] = {
    # The recipe of benchmarks/time_to_quality.py that reached the best distance in few minutes.
    "diffusion": {
        "blocks_per_level": 1, "target": "v", "times": "lognormal", "uniform_share": 0.1,
        "optimiser": "muon", "learning_rate": 2e-3, "warmup": 50,
    },
    "autoencoder": {"optimiser": "adamw", "learning_rate": 2e-3},
    "vae": {"optimiser": "adamw", "learning_rate": 2e-3},
    "gan": {"optimiser": "adam", "momentum": 0.0, "learning_rate": 5e-4},
}  # fmt: skip

#: What `ddpm distill` sets in a student's training that differs from the configuration's own defaults.
DISTILLATION: dict[str, Any] = {
    "steps": 1500, "optimiser": "muon", "learning_rate": 5e-4, "warmup": 50, "decay": "linear", "checkpoint_every": 250
}  # fmt: skip


def recipe(kind: str, **settings: Any) -> "tuple[ModelConfig, TrainingConfig]":
    """The two configurations that `ddpm.training.train` takes.

    Args:
        kind: "diffusion", "autoencoder", "vae" or "gan".
        settings: settings of the model (`DiffusionConfig` and its `UNetConfig`, `AutoencoderConfig`, `GANConfig`) or
            of its training (`TrainingConfig`), in place of the recommended ones.

    Raises:
        ValueError: an unknown kind, a setting that the kind does not have, or an illegal value.
    """
    one_of("model", kind, list(RECIPES))
    for name in settings.keys() & {"unet", "variational"}:  # the UNet's own settings and the kind say these
        raise ValueError(f"{name} is {settings[name]!r}; model {kind!r} has no such setting")
    chosen = RECIPES[kind] | settings
    training = TrainingConfig(**_taken(TrainingConfig, chosen))
    if kind == "diffusion":
        chosen["unet"] = UNetConfig(**_taken(UNetConfig, chosen))
    elif kind in ("autoencoder", "vae"):
        chosen["variational"] = kind == "vae"
    config = _config_of(kind)
    legal = {field.name for field in fields(config)}
    for name, value in chosen.items():
        if name not in legal:
            raise ValueError(f"{name} is {value!r}; model {kind!r} has no such setting")
    return config(**chosen), training


def _config_of(kind: str) -> Any:
    """The class of a kind's configuration; imported here, because torch is slow to import."""
    from ddpm.autoencoder import AutoencoderConfig
    from ddpm.diffusion import DiffusionConfig
    from ddpm.gan import GANConfig

    return {"diffusion": DiffusionConfig, "gan": GANConfig}.get(kind, AutoencoderConfig)


def _taken(config: type[Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Take the settings of a configuration out of `settings`."""
    return {field.name: settings.pop(field.name) for field in fields(config) if field.name in settings}
