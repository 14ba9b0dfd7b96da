import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "book" / "results").glob("*.json")), ids=lambda path: path.stem)
def test_every_result_says_how_it_was_measured(path):
    results = json.loads(path.read_text(encoding="utf-8"))
    assert results["rows"]
    assert len({tuple(row) for row in results["rows"]}) == 1
    assert {"device", "date", "seed", "versions", "seconds"} <= set(results["provenance"])
    for word in ("2,000", "EMA", "floor", "test"):
        assert word in results["conditions"]
