"""Figures from long runs, kept in `book/results/` with the conditions they were measured under."""

import json
import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import nbformat
import torch
from IPython.display import Markdown

from ddpm.companion.checks import Measurement, read_record
from ddpm.companion.claims import ROOT

LONG_RUNS = {
    "fashion-mnist": "The model that ships",
    "generative-models": "Four models on equal terms",
    "samplers": "Samplers at equal network calls",
    "ablations": "The UNet without its parts",
    "round-trip": "What survives a round trip",
    "time-to-quality": "Minutes to quality",
    "scaling": "One process and two",
}


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


def results(name: str, root: Path = ROOT) -> dict[str, Any]:
    """What `book/results/NAME.json` holds: "rows", the "conditions" they were measured under, "provenance"."""
    content: dict[str, Any] = json.loads((root / "book" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return content


def results_table(name: str, columns: Sequence[str] | None = None) -> Markdown:
    """The measurements in `book/results/NAME.json` as a table, of some columns or of all, its conditions below."""
    measured = results(name)
    return Markdown(f"{markdown_table(measured.get('table', measured['rows']), columns)}\n\n{measured['conditions']}")


def results_page(root: Path = ROOT) -> str:
    """All that was measured, both tiers of the chapters and the long runs, Markdown."""
    lines = [
        "# Results",
        "",
        "What every check of the chapters measured, beside what it claims, and the long runs. This page is generated",
        "from the chapters' outputs and from `book/results/`. Values of the cpu tier are those of the run that is",
        "committed. Those of the gpu tier, `make run PRESET=gpu`, stand beside them once its records are kept: copy",
        "`_build/chapters/gpu/*.json` to `book/results/gpu/`.",
    ]
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        full = root / "book" / "results" / "gpu" / f"{path.stem}.json"
        run = json.loads(full.read_text(encoding="utf-8")) if full.is_file() else {}
        on_gpu = {entry["name"]: str(Measurement(**entry)) for entry in run.get("measured", [])}
        title = notebook["cells"][0]["source"].splitlines()[0].removeprefix("# ")
        rows = [
            {"what": m.name, "claimed": m.claim, "cpu": str(m), "gpu": on_gpu.get(m.name, "not run")}
            for m in read_record(notebook).values()
        ]
        lines += ["", f"## {title}", ""]
        if run:
            lines += [f"The gpu tier ran on {run['device']}, {run['date']}, in {run['seconds']} seconds.", ""]
        lines += _folded(rows, ["what", "claimed", "cpu", "gpu"] if run else ["what", "claimed", "cpu"])
    for name, title in LONG_RUNS.items():
        measured = results(name, root)
        made = measured["provenance"]
        lines += ["", f"## {title}", "", *_folded(measured.get("table", measured["rows"])), "", measured["conditions"]]
        lines += ["", f"`{made['command']}`, {made['device']}, {made['date']}, torch {made['versions']['torch']}."]
    return "\n".join([*lines, ""])


def _folded(rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> list[str]:
    """A table that opens when asked."""
    return [f"```{{dropdown}} {len(rows)} rows", markdown_table(rows, columns), "```"]
