"""Chapter 0 keeps its word: a diffusion model in plain PyTorch, on one screen."""

import ast
import inspect

import pytest

from ddpm.companion.exercises import from_nothing
from tests.cells import cells_of, tags
from tests.checkout import ROOT

NOTEBOOK = ROOT / "notebooks" / "00_from_nothing.ipynb"


@pytest.fixture(scope="module")
def cells():
    return cells_of(NOTEBOOK, "code")


def source(cells, tag):
    (cell,) = [cell for cell in cells if tag in tags(cell)]
    return cell["source"]


def test_the_model_is_at_most_seventy_lines_of_torch_alone(cells):
    model = source(cells, "from-nothing")
    assert len(model.splitlines()) <= 70
    tree = ast.parse(model)
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {"torch"}


def test_garments_are_drawn_by_the_same_lines(cells):
    garments = source(cells, "garments")
    assert "train(flat" in garments
    assert "sample(clothes" in garments
    assert "def " not in garments


def test_the_lines_that_are_changed_are_the_models_own(cells):
    """`changed` raises an error otherwise, but only once the cell has run for half a minute."""
    model = source(cells, "from-nothing")
    for call in ast.walk(ast.parse(source(cells, "break-it"))):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "changed":
            assert model.count(call.args[1].value) == 1


def test_the_exercise_knows_the_chapters_ring_and_network(cells):
    """What `grade_ddpm` trains is the chapter's own network, so that what the chapter shows to be enough is enough."""
    model, hidden = source(cells, "from-nothing"), inspect.getsource(from_nothing._SmallNetwork)
    assert "10_000 ** (-torch.arange(32) / 32)" in model
    assert "10_000 ** (-torch.arange(32) / 32)" in hidden
    assert model.count("nn.Linear(") == hidden.count("nn.Linear(") == 4
