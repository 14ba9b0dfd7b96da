"""Command-line options made from the fields of configurations, so that each setting is described once."""

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from functools import cache
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import docstring_parser
import typer

from ddpm.model_settings import AutoencoderSettings, DiffusionSettings, GANSettings
from ddpm.training.config import TrainingConfig
from ddpm.training.recipes import RECIPES
from ddpm.unet.config import UNetConfig

__all__ = ["with_settings", "with_tuples"]

Command = TypeVar("Command", bound=Callable[..., Any])

#: The configurations of every kind of model, each with its training's.
CONFIGS: dict[str, tuple[type[Any], ...]] = {
    "diffusion": (DiffusionSettings, UNetConfig, TrainingConfig),
    "autoencoder": (AutoencoderSettings, TrainingConfig),
    "vae": (AutoencoderSettings, TrainingConfig),
    "gan": (GANSettings, TrainingConfig),
}


def with_tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as the configurations take them, which hold tuples where a command line or a file has lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}


def with_settings(
    config: type[Any], names: Sequence[str], defaults: Mapping[str, Any] | None = None
) -> Callable[[Command], Command]:
    """Give a typer command, which takes `**settings`, an option for each setting; one that is not given is None.

    Args:
        config: a dataclass, all of whose fields become options.
        names: further settings, of the models' and the training's configurations.
        defaults: what the command sets in a `TrainingConfig`, of which all `names` are then settings; without it help
            shows the defaults of every kind of model's recipe.
    """
    options = [(field.name, _option(config, field, _default_text(field.default))) for field in fields(config)]
    for name in names:
        if defaults is None:
            options.append((name, _option_with_recipe_defaults(name)))
        else:
            (field,) = [field for field in fields(TrainingConfig) if field.name == name]
            options.append((name, _option(TrainingConfig, field, _default_text(defaults.get(name, field.default)))))

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        made = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
            for name, option in options
        ]
        command.__signature__ = signature.replace(parameters=own + made)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in own + made}
        return command

    return decorate


def _option_with_recipe_defaults(name: str) -> Any:
    """The option of a setting, whose default depends on the kind of model."""
    owners = {
        kind: (config, field)
        for kind, configs in CONFIGS.items()
        for config in configs
        for field in fields(config)
        if field.name == name
    }
    defaults = {kind: _default_text(RECIPES[kind].get(name, field.default)) for kind, (_, field) in owners.items()}
    ((usual, _),) = Counter(defaults.values()).most_common(1)
    others = [f"{default} for {kind}" for kind, default in defaults.items() if default != usual]
    first_config, first_field = next(iter(owners.values()))
    return _option(first_config, first_field, "; ".join([usual, *others]))


def _option(config: type[Any], field: "Field[Any]", default: str) -> Any:
    """The annotation that makes a field an option: its help from the docstring, its type from the field."""
    help_text = _help(inspect.getdoc(config) or "").get(field.name)  # `python -OO` has no docstrings
    option = typer.Option(help=help_text, show_default=default or False)
    return Annotated[_type(get_type_hints(config)[field.name]) | None, option]


@cache
def _help(docstring: str) -> dict[str, str]:
    """What a configuration's docstring says of each of its attributes."""
    attributes = docstring_parser.parse(docstring).params
    texts = {attribute.arg_name: " ".join((attribute.description or "").split()) for attribute in attributes}
    return {name: text[:1].upper() + text[1:] for name, text in texts.items()}


def _type(annotation: Any) -> Any:
    """The type of an option's value: str for a choice, list for several values."""
    if get_origin(annotation) is Literal:
        return str
    if get_origin(annotation) is tuple:
        return list[get_args(annotation)[0]]  # type: ignore[misc]
    parts = [part for part in get_args(annotation) if part is not NoneType]
    if not parts:
        return annotation
    several = [part for part in parts if get_origin(part) is tuple]
    return _type(several[0] if several else parts[0])


def _default_text(default: Any) -> str:
    """A default as help shows it; nothing where there is none."""
    if default is None or default is MISSING:
        return ""
    if isinstance(default, tuple | list):
        return ", ".join(map(_default_text, default))
    return f"{default:g}" if isinstance(default, float) else str(default)
