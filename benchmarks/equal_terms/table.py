"""The file of results, to which every training adds, and what is chosen by it."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import typer
from filelock import FileLock

from ddpm.companion.long_runs import machine, processor, refuse_other
from ddpm.files import write_json
from equal_terms.measures import milliseconds
from equal_terms.report import best, conditions, in_words, table_of
from equal_terms.runs import Run


class Table:
    """The file of results. Several processes may add to it, as they share a lock in the folder of the runs."""

    def __init__(self, path: Path, terms: dict[str, Any], runs: Path) -> None:
        self.path, self.terms, self.lock = path, terms, runs / "table.lock"
        refuse_other(path, {"terms": terms})
        runs.mkdir(parents=True, exist_ok=True)

    def read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {"terms": self.terms, "trials": [], "rows": [], "rate and distortion": []}
        content: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return content

    def has(self, name: str, **wanted: Any) -> bool:
        return any(wanted.items() <= line.items() for line in self.read()[name])

    def add(self, name: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            typer.echo(line)
        with FileLock(self.lock):
            results = self.read()
            results[name] += lines
            write_json(self.path, results | conditions(results))

    def time(self, rounds: int) -> None:
        """Measure every kind's ms an image and write it into its rows, and the conditions beside them."""
        found = milliseconds(rounds)
        typer.echo(found)
        with FileLock(self.lock):
            results = self.read()
            for row in results["rows"]:
                row["ms an image"] = found.get(row["kind"], row["ms an image"])
            results["timing"] = {
                "rounds": rounds, "device": machine(), "processor": processor(), "date": date.today().isoformat()
            }  # fmt: skip
            write_json(self.path, results | {"table": table_of(results["rows"]), "conditions": in_words(results)})


def steps_of(results: dict[str, Any], kind: str, settings: dict[str, Any]) -> int:
    """The steps of a full training of a kind with these settings, one of those tried."""
    (own,) = [own for own in results["terms"]["models"][kind] if own["settings"] == settings]
    steps: int = own["steps"]
    return steps


def full_run(results: dict[str, Any], kind: str, seed: int) -> Run:
    """A full training with the settings that did best."""
    settings = best(results, kind)["settings"]
    return Run(kind, settings, steps_of(results, kind, settings), seed)
