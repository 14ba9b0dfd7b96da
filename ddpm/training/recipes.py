"""The recommended settings of every kind of model: what `ddpm train` does unless it is told otherwise."""

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ddpm.model_settings import AutoencoderSettings, DiffusionSettings, GANSettings
from ddpm.settings import one_of
from ddpm.training.config import TrainingConfig
from ddpm.unet.config import UNetConfig

if TYPE_CHECKING:
    from ddpm.autoencoder import AutoencoderConfig
    from ddpm.diffusion import DiffusionConfig
    from ddpm.gan import GANConfig

    ModelConfig = DiffusionConfig | AutoencoderConfig | GANConfig

__all__ = ["DISTILLATION", "RECIPES", "check_optimiser_settings", "recipe"]

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

#: The class of every kind's settings, which loads no torch; its configuration derives from it.
SETTINGS: dict[str, type[Any]] = {
    "diffusion": DiffusionSettings, "autoencoder": AutoencoderSettings, "vae": AutoencoderSettings, "gan": GANSettings,
}  # fmt: skip

#: What `ddpm distill` sets in a student's training that differs from the configuration's own defaults.
DISTILLATION: dict[str, Any] = {
    "steps": 1500, "optimiser": "muon", "learning_rate": 5e-4, "warmup": 50, "decay": "linear", "checkpoint_every": 250
}  # fmt: skip

#: Fields of the configurations that are no settings: the UNet's own settings and the kind say these.
NO_SETTINGS = {"unet", "variational"}

#: Settings that `ddpm train` reads from the data or leaves to `ddpm distill`; no list of legal ones offers them.
OF_DATA_OR_TEACHER = {"classes", "image_shape", "distilled_for", "distilled_from"}

#: Names that other packages have for settings, and their names here.
ALSO_CALLED = {"lr": "learning_rate"}

#: Settings that only some optimisers have.
OF_OPTIMISERS = {"momentum": ("adamw", "adam", "sgd"), "weight_decay": ("adamw", "muon")}


def recipe(kind: str, /, **settings: Any) -> "tuple[ModelConfig, TrainingConfig]":
    """The two configurations that `ddpm.training.train` takes.

    Args:
        kind: "diffusion", "autoencoder", "vae" or "gan".
        settings: settings of the model (`ddpm.diffusion.DiffusionConfig` and its `ddpm.unet.UNetConfig`,
            `ddpm.autoencoder.AutoencoderConfig`, `ddpm.gan.GANConfig`) or of its training
            (`ddpm.training.TrainingConfig`), in place of the recommended ones.

    Raises:
        ValueError: an unknown kind, a setting that the kind does not have, or an illegal value.
    """
    one_of("model", kind, list(RECIPES))
    for name in settings.keys() & NO_SETTINGS:
        raise ValueError(f"{name} is {settings[name]!r}; {_no_such_setting(kind, name)}")
    chosen = RECIPES[kind] | settings
    training = TrainingConfig(**_taken(TrainingConfig, chosen))
    if kind == "diffusion":
        chosen["unet"] = UNetConfig(**_taken(UNetConfig, chosen))
    elif kind in ("autoencoder", "vae"):
        chosen["variational"] = kind == "vae"
    settings_class = SETTINGS[kind]
    legal = {field.name for field in fields(settings_class)}
    for name, value in chosen.items():
        if name not in legal:
            raise ValueError(f"{name} is {value!r}; {_no_such_setting(kind, name)}")
    settings_class(**chosen)  # refuses wrong ones before torch is loaded
    return _config_of(kind)(**chosen), training


def check_optimiser_settings(optimiser: str, given: Mapping[str, Any]) -> None:
    """Raise `ValueError` where a setting is given that this optimiser does not take."""
    for name, optimisers in OF_OPTIMISERS.items():
        if name in given and optimiser not in optimisers:
            owners = ", ".join(optimisers)
            raise ValueError(f"{name} is {given[name]}; of the optimisers only {owners} take one, not {optimiser}")


def _no_such_setting(kind: str, name: str) -> str:
    """That a kind of model has no setting of this name, and which name is near, or else which are legal."""
    refused = f"model {kind!r} has no such setting"
    if kind == "diffusion" and name in ("image_size", "image_shape"):
        return f"{refused}: the size is that of the images"
    if kind == "diffusion" and name == "conditional":
        return f"{refused}: with classes=10 the network is told ten classes"
    configs = [SETTINGS[kind], TrainingConfig, *([UNetConfig] if kind == "diffusion" else [])]
    legal = sorted({field.name for config in configs for field in fields(config)} - NO_SETTINGS)
    near = [ALSO_CALLED[name]] if name in ALSO_CALLED else get_close_matches(name, legal, n=1)
    offered = [setting for setting in legal if setting not in OF_DATA_OR_TEACHER]
    return f"{refused}; " + (f"did you mean {near[0]}?" if near else f"legal are {', '.join(offered)}")


def _config_of(kind: str) -> Any:
    """The class of a kind's configuration; imported here, because torch is slow to import."""
    from ddpm.autoencoder import AutoencoderConfig
    from ddpm.diffusion import DiffusionConfig
    from ddpm.gan import GANConfig

    return {"diffusion": DiffusionConfig, "gan": GANConfig}.get(kind, AutoencoderConfig)


def _taken(config: type[Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Take the settings of a configuration out of `settings`."""
    return {field.name: settings.pop(field.name) for field in fields(config) if field.name in settings}
