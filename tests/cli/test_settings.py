"""The help of `ddpm train`, which is made from the configurations."""

import inspect
from collections import Counter
from dataclasses import fields

import pytest

from ddpm import cli
from ddpm.cli.job import JobSettings
from ddpm.cli.train import OPTIONS
from ddpm.training.recipes import RECIPES, recipe


def option(name):
    """The typer option of a parameter of the command."""
    annotation = inspect.signature(cli.train).parameters[name].annotation
    (found,) = [each for each in annotation.__metadata__ if hasattr(each, "show_default")]
    return found


def value(kind, name):
    """What the recipe of a kind sets; None where the kind has no such setting."""
    model, training = recipe(kind)
    for config in (training, model, getattr(model, "unet", None)):
        if hasattr(config, name):
            return getattr(config, name)
    return None


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("optimiser", "adamw; muon for diffusion; adam for gan"),
        ("learning_rate", "0.002; 0.0005 for gan"),
        ("momentum", "0.9; 0 for gan"),
        ("target", "v"),
        ("batch_size", "64"),
    ],
)
def test_help_shows_the_recipes_defaults_and_where_kinds_differ(name, default):
    assert option(name).show_default == default


@pytest.mark.parametrize("name", OPTIONS)
def test_the_help_names_the_default_of_every_kind(name):
    """As `recipe` gives it: the one that most kinds have comes first, then those of the kinds that differ."""
    values = {kind: value(kind, name) for kind in RECIPES if value(kind, name) is not None}
    if not values:  # as of micro_batch_size, which is None
        assert option(name).show_default is False
        return
    usual, *others = option(name).show_default.split("; ")
    of_kind = {other.partition(" for ")[2]: other.partition(" for ")[0] for other in others}
    defaults = {kind: f"{set_to:g}" if isinstance(set_to, float) else str(set_to) for kind, set_to in values.items()}
    kinds_with = Counter(defaults.values())
    assert {kind: of_kind.get(kind, usual) for kind in defaults} == defaults
    assert kinds_with[usual] == max(kinds_with.values())
    assert usual not in of_kind.values()
    assert of_kind.keys() <= defaults.keys()


def test_the_help_names_the_jobs_own_defaults():
    assert {field.name: option(field.name).show_default for field in fields(JobSettings)} == {
        "model": "diffusion", "data": "fashion-mnist", "data_folder": False, "image_size": False, "channels": False,
        "workers": "2", "conditional": "False", "init": False, "samples": "True", "track": "tensorboard",
    }  # fmt: skip


@pytest.mark.parametrize("name", [*OPTIONS, *(field.name for field in fields(JobSettings))])
def test_the_help_says_in_a_sentence_what_every_option_is(name):
    assert option(name).help[0].isupper()
    assert option(name).help.endswith(".")
