import typing

import pytest

from ddpm.cli.settings import _option_with_recipe_defaults


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
    _, option = typing.get_args(_option_with_recipe_defaults(name))
    assert option.show_default == default
