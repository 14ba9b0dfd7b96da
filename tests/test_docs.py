"""The examples in the docstrings, and the page that shows all of them."""

import doctest
import importlib
import re

import pytest

from tests.checkout import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "ddpm").rglob("*.py")
    if not path.stem.startswith("_") and not {"cli", "assets", "companion"} & set(path.parts)
)
EXAMPLES = [
    "ddpm.arguments", "ddpm.data.scaling", "ddpm.grids", "ddpm.noise", "ddpm.oracles", "ddpm.schedule.named",
    "ddpm.settings", "ddpm.unet.sizes",
]  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert failed == 0
    assert (attempted > 0) == (name in EXAMPLES)


def test_the_reference_names_every_module_once():
    page = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"automodule:: (\S+)", page)) == MODULES
