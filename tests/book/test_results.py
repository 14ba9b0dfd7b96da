import importlib.util
import json
import re
import sys
from pathlib import Path
from statistics import mean, stdev

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "book" / "results"
CARD = ROOT / "ddpm" / "assets" / "models" / "fashion-mnist" / "card.md"


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


def test_the_page_on_speed_says_what_was_measured():
    """Its sentences on twenty and on eight minutes, from the rows."""
    rows = json.loads((RESULTS / "time-to-quality.json").read_text(encoding="utf-8"))["rows"]
    chosen = [row for row in rows if row["recipe"] == "v, log-normal and 0.1 uniform times, Muon 2e-3"]

    def distances(minutes, sampler="DPM-Solver++ 20"):
        return [
            float(row["Frechet distance"])
            for row in chosen
            if (row["minutes"], row["sampler"], row["n"]) == (minutes, sampler, 2000)
        ]

    page = " ".join((ROOT / "book" / "performance.md").read_text(encoding="utf-8").split())
    twenty, (eight,) = distances(20), distances(8)
    baseline = float(re.search(r"5,073 steps, has (\d\.\d+)", " ".join(CARD.read_text(encoding="utf-8").split()))[1])
    assert len(twenty) == 3
    assert f"{mean(twenty):.2f} ± {stdev(twenty):.2f} in twenty minutes (three seeds)" in page
    assert f"{mean(twenty) / baseline:.2f} of what the recipe" in page
    assert f"{eight:.2f} in eight" in page
    (many,) = distances(20, "DPM-Solver++ 50")
    assert f"({many:.2f} instead of {twenty[0]:.2f} in 50, one seed)" in page
    assert eight > baseline > max(twenty)  # they pass it somewhere between


def test_what_is_said_of_samplers_was_measured():
    """Chapter 4, the page on speed, the card and the README, from the rows."""
    rows = json.loads((RESULTS / "samplers.json").read_text(encoding="utf-8"))["rows"]
    distance = {(row["sampler"], row["network calls"]): row["Frechet distance"] for row in rows}
    sd = {(row["sampler"], row["network calls"]): float(row["bootstrap sd"]) for row in rows}
    solver, on_karras = "DPM-Solver++(2M)", ", Karras's grid"
    guided = distance[f"{solver}{on_karras}, guided", 100]
    chapter = (ROOT / "notebooks" / "04_samplers.ipynb").read_text(encoding="utf-8")
    for name, said in (("DDIM", "DDIM has"), (solver, "DPM-Solver++")):
        other = f"{name}{on_karras}", 50
        assert f"{said} {distance[other]} instead of {distance[name, 50]}" in chapter
        assert abs(float(distance[other]) - float(distance[name, 50])) < 2 * sd[other]
    assert f"reach {guided} on that grid, in 100 calls" in chapter
    card = " ".join(CARD.read_text(encoding="utf-8").split())
    assert f"on Karras's grid it is {distance[f'{solver}{on_karras}', 50]}; guided by" in card
    baseline = float(re.search(r"5,073 steps, has (\d\.\d+)", card)[1])
    share = float(guided) / baseline
    assert f"{guided}, standard deviation {sd[f'{solver}{on_karras}, guided', 100]}, or {share:.3f} B" in card
    page = " ".join((ROOT / "book" / "performance.md").read_text(encoding="utf-8").split())
    assert f"on Karras's grid it is {distance[f'{solver}{on_karras}', 50]}, and {guided} where" in page
    assert f"a quarter of the baseline's {baseline}" in page
    assert 0.24 < share < 0.25
    assert f"reach {guided} in 100 network calls" in (ROOT / "README.md").read_text(encoding="utf-8")
    for calls in (10, 20, 50):
        order = [solver, "DDIM", "ancestral, small variance", "ancestral, large variance"]
        assert sorted(order, key=lambda name: float(distance[name, calls])) == order
