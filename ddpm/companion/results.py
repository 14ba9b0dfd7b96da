"""The numbers of long runs in `book/results/`, as chapters and the page of results show them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from IPython.display import Markdown

from ddpm.companion.checkout import ROOT, beside_package
from ddpm.companion.checks import Measurement, read_record
from ddpm.companion.notebook import read_notebook
from ddpm.files import read_json

__all__ = ["LONG_RUNS", "markdown_table", "results", "results_page", "results_table"]

#: The files in `book/results/` that the page of results shows, and their headings.
LONG_RUNS = {
    "fashion-mnist": "The model that ships",
    "generative-models": "Four models on equal terms",
    "samplers": "Samplers at equal network calls",
    "guidance": "Ways to guide",
    "distillation": "Students of few calls",
    "straight-path": "The straight path beside the recipe",
    "ablations": "The UNet without its parts",
    "transformer": "A transformer in the UNet's place",
    "round-trip": "What survives a round trip",
    "time-to-quality": "Minutes to quality",
    "scaling": "One process and two",
}


def markdown_table(rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as a Markdown table.

    Args:
        rows: a dictionary for each row, by column; at least one.
        columns: the columns to show, in this order; None for all.
    """
    columns = columns or list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    cells = [[str(row[column]).replace("± ", "±\N{NO-BREAK SPACE}") for column in columns] for row in rows]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in cells)])


def results(name: str, root: Path = ROOT) -> dict[str, Any]:
    """The content of `book/results/NAME.json`: "rows", the "conditions" they were measured under, "provenance".

    Raises:
        FileNotFoundError: there is no such file, or no `book/results` in `root`.
        ValueError: it is damaged.
    """
    return read_json(beside_package("book/results", root) / f"{name}.json")


def results_table(name: str, columns: Sequence[str] | None = None) -> Markdown:
    """The measurements in `book/results/NAME.json` as a table, with their conditions below.

    Args:
        name: of the file.
        columns: the columns to show, in this order; None for all.

    Raises:
        FileNotFoundError: there is no such file, or `book/results` is not beside the package.
    """
    measured = results(name)
    return Markdown(f"{markdown_table(measured.get('table', measured['rows']), columns)}\n\n{measured['conditions']}")


def results_page(root: Path = ROOT) -> str:
    """The page of results, Markdown: what both tiers of the chapters measured, and the long runs.

    Raises:
        FileNotFoundError: there is no `notebooks` or no `book/results` in `root`.
    """
    lines = [
        "# Results",
        "",
        "What every check of the chapters measured, beside what it claims, and the long runs. What a check is held",
        "against would stand there if its sentence were false, and must not pass. This page is generated from the",
        "chapters' outputs and from `book/results/`. Values of the cpu tier are those of the run that is",
        "committed. Those of the gpu tier, `make run PRESET=gpu`, stand beside them where its records are kept: copy",
        "`_build/chapters/gpu/*.json` to `book/results/gpu/`. Checks that have changed since are not run there yet.",
    ]
    for path in sorted(beside_package("notebooks", root).glob("*.ipynb")):
        lines += _of_chapter(path, root)
    for name, title in LONG_RUNS.items():
        lines += _of_long_run(title, results(name, root))
    return "\n".join([*lines, ""])


def _of_chapter(path: Path, root: Path) -> list[str]:
    """The lines of the page about one chapter."""
    notebook = read_notebook(path)
    full = root / "book" / "results" / "gpu" / f"{path.stem}.json"
    run = read_json(full) if full.is_file() else {}
    on_gpu = {(entry["name"], entry["claim"]): str(Measurement(**entry)) for entry in run.get("measured", [])}
    rows = [
        {
            "what": m.name,
            "claimed": m.claim,
            "cpu": str(m),
            "gpu": on_gpu.get((m.name, m.claim), "not run"),
            "held against": m.against,
        }
        for m in read_record(notebook).values()
    ]
    title = notebook["cells"][0]["source"].splitlines()[0].removeprefix("# ")
    lines = ["", f"## Chapter {int(path.stem[:2])}. {title}", ""]
    if run:
        memory = f", with {run['GPU memory, MiB']:,} MiB of its memory" if "GPU memory, MiB" in run else ""
        where = f"{run['device']}, {run['date']}, at commit {run['commit']}"
        lines += [f"The gpu tier ran on {where}, in {run['seconds']:.0f} seconds{memory}.", ""]
    columns = ["what", "claimed", "cpu", *(["gpu"] if run else []), "held against"]
    # One that is not would have ended the chapter before its record was written.
    return lines + _folded(f"{len(rows)} checks, all within their claims", rows, columns)


def _of_long_run(title: str, measured: dict[str, Any]) -> list[str]:
    """The lines of the page about one long run."""
    made, table = measured["provenance"], measured.get("table", measured["rows"])
    told = [made[key] for key in ("device", "processor", "date") if key in made]
    return [
        "",
        f"## {title}",
        "",
        *_folded(f"{len(table)} rows: {', '.join(table[0])}", table),
        "",
        measured["conditions"],
        "",
        f"`{made['command']}`, {', '.join(told)}, torch {made['versions']['torch']}.",
    ]


def _folded(name: str, rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> list[str]:
    """A table that is folded away until a reader opens it by its name."""
    return [f"```{{dropdown}} {name}", markdown_table(rows, columns or list(rows[0])), "```"]
