"""What chapters do in the gpu tier only, tried without a GPU."""

import ast
import json
from types import SimpleNamespace

import ddpm
from ddpm.pretrained import KINDS, MODELS
from ddpm.training import TrainingConfig
from ddpm.training.record import upgraded
from tests.cells import cells_of
from tests.checkout import ROOT

NOTEBOOKS = ROOT / "notebooks"


def function_of(chapter, name, names):
    """A function that a chapter's cell defines, with `names` in place of the chapter's own."""
    sources = [cell["source"] for cell in cells_of(NOTEBOOKS / chapter, "code") if f"def {name}(" in cell["source"]]
    (function,) = (
        part for part in ast.parse(sources[0]).body if isinstance(part, ast.FunctionDef) and part.name == name
    )
    exec(ast.unparse(function), names)
    return names[name]


def test_the_four_models_are_trained_anew_by_their_records():
    names = {
        "json": json, "ddpm": ddpm, "MODELS": MODELS, "KINDS": KINDS, "TrainingConfig": TrainingConfig,
        "upgraded": upgraded, "seed": 5, "parameters": SimpleNamespace(preset="gpu", device="cpu"),
        "run": lambda model, training: (model, training),
    }  # fmt: skip
    on_equal_terms = function_of("01_generative_models.ipynb", "on_equal_terms", names)
    for kind in ("diffusion", "gan", "vae", "autoencoder"):
        model, training = on_equal_terms(kind)
        record = json.loads((MODELS / f"equal-{kind}" / "config.json").read_text(encoding="utf-8"))
        assert model.kind == record["kind"]
        assert training.steps == 2 * record["training"]["steps"]
        assert training.seed == 5
