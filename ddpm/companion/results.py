"""Figures from long runs, kept in `book/results/` with the conditions they were measured under."""

import json
import platform
from collections.abc import Sequence
from datetime import date
from typing import Any

import torch
from IPython.display import Markdown

from ddpm.companion.claims import ROOT


def markdown_table(rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as a Markdown table, of some columns or of all."""
    columns = columns or list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(str(row[column]) for column in columns) + " |" for row in rows)])


def machine() -> str:
    """What computes here: a GPU, or so many threads of a CPU."""
    return "a GPU" if torch.cuda.is_available() else f"{torch.get_num_threads()} threads of a CPU"


def measured_with(command: str, seconds: float, seed: Any, device: str | None = None) -> dict[str, Any]:
    """What every file of results says of its making."""
    return {
        "device": device or machine(),
        "date": date.today().isoformat(),
        "seed": seed,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "seconds": round(seconds),
        "command": command,
    }


def results(name: str) -> dict[str, Any]:
    """What `book/results/NAME.json` holds: "rows", the "conditions" they were measured under, "provenance"."""
    content: dict[str, Any] = json.loads((ROOT / "book" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return content


def results_table(name: str, columns: Sequence[str] | None = None) -> Markdown:
    """The measurements in `book/results/NAME.json` as a table, of some columns or of all, its conditions below."""
    measured = results(name)
    return Markdown(f"{markdown_table(measured['rows'], columns)}\n\n{measured['conditions']}")
