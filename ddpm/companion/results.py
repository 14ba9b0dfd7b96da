"""Figures from long runs, kept in `book/results/` with the conditions they were measured under."""

import json

from IPython.display import Markdown

from ddpm.companion.claims import ROOT


def results_table(name: str) -> Markdown:
    """The measurements in `book/results/NAME.json` as a table, its conditions below."""
    results = json.loads((ROOT / "book" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    columns = list(results["rows"][0])
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    lines += ["| " + " | ".join(str(row[column]) for column in columns) + " |" for row in results["rows"]]
    return Markdown("\n".join([*lines, "", results["conditions"]]))
