import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "book" / "results"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_result_says_how_it_was_measured(path):
    results = json.loads(path.read_text(encoding="utf-8"))
    assert results["rows"]
    assert len({tuple(row) for row in results["rows"]}) == 1
    assert {"device", "date", "seed", "versions", "seconds"} <= set(results["provenance"])
    if "Frechet distance" in results["rows"][0]:
        for word in ("2,000", "EMA", "floor", "test"):
            assert word in results["conditions"]


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.md")), ids=lambda path: path.stem)
def test_tables_in_the_book_are_those_of_the_results(path):
    name = path.stem.replace("-", "_")
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    script = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    results = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert path.read_text(encoding="utf-8") == script.report(results)
