"""Speed: this package and its peers on the same work in one process, each as shipped and at its best settings.

    python benchmarks/speed.py            # everything, about half an hour on two CPU cores
    python benchmarks/speed.py --quick    # under three minutes there; prints, and writes nothing

How long it takes on a GPU has not been measured. A race that is stopped goes on where it stopped, by a second call with
the same options, on the same machine, at the same commit and with the same versions; otherwise it begins anew.

Contestants take turns, so that other load on the machine falls on all of them; the ratios within a round are what
counts. A search over all settings of the peers finds their best ones and is kept, with its results, in
`book/results/speed.json` (on a GPU in `book/results/gpu/speed.json`), where a quick run reads them. diffusers runs with
this package's weights.
"""

import platform
import time
from collections.abc import Callable, Set
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from ddpm.companion.long_runs import measured_with, processor
from ddpm.companion.provenance import commit
from ddpm.fast import keep_freed_memory
from ddpm.files import read_json, write_json
from race.alone import alone, alone_in_this_process
from race.comparison import compare, compilation, growth
from race.fidelity import fidelity
from race.loop import loop_share
from race.networks import ON_GPU, PEERS
from race.report import draw, provenances, report
from race.search import WIDTHS, search
from race.whole_job import command_line, whole_job

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "book" / "results" / ("gpu/speed.json" if ON_GPU else "speed.json")
UNFINISHED = ROOT / "_build" / "speed-unfinished.json"  # of a race that was stopped, which leaves RESULTS as they are
FIGURE = ROOT / "book" / "assets" / ("speed-gpu.svg" if ON_GPU else "speed.svg")
BATCHES = (64,) if ON_GPU else (1, 16, 64)
SEARCH_BATCH = 64 if ON_GPU else 16


def main(
    quick: Annotated[
        bool, typer.Option(help="Use the smaller width and small batches; print, and write nothing.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of every comparison.")] = 5,
    images: Annotated[int, typer.Option(min=1, help="Images of the whole job.")] = 5120 if ON_GPU else 1000,
    only: Annotated[
        list[str] | None, typer.Option(help="Part to measure again; the others keep their results. Repeat for several.")
    ] = None,
    alone_: Annotated[str | None, typer.Option("--alone", hidden=True)] = None,
) -> None:
    """Compare this package with its peers; ratios above 1 mean that the peer takes longer."""
    if not ON_GPU:
        keep_freed_memory()  # for everybody, as this package does in training, and from the first part on
    if alone_ is not None:
        return alone_in_this_process(alone_)
    chunk = 256 if ON_GPU else 50
    if images < chunk:
        raise typer.BadParameter(f"images is {images}; it must be at least {chunk}, which are drawn at once")
    if quick and not RESULTS.exists():
        raise typer.BadParameter("there are no results with the peers' best settings yet: run the whole script first")
    race = (WIDTHS[:1], BATCHES[:2], 2) if quick else (WIDTHS, BATCHES, rounds)
    parts: dict[str, Callable[[], Any]] = {
        "rows": lambda: list(compare(found, *race)),
        "fidelity": lambda: fidelity(found),
        "loop": lambda: loop_share(12 if quick else 40),
        "memory and first call": lambda: alone(found, WIDTHS[0], 16 if quick else 64),
        "whole job": lambda: whole_job(found, images, chunk),
        "command line": lambda: command_line(found, rounds),
        "growth": lambda: growth(3),
        "compiled": lambda: compilation(found, 3),
    }
    if strange := set(only or []) - set(parts):
        raise typer.BadParameter(f"there is no part {', '.join(strange)}; legal are {', '.join(parts)}")
    again = RESULTS.exists() and (quick or bool(only))
    asked = {"rounds": rounds, "images": images, "commit": commit()}
    results = read_json(RESULTS) if again else begun(asked, parts.keys())
    found = results["search"]
    missing = [name for name in parts if name not in results]
    for name in only or (list(parts)[:4] if quick else missing):
        start = time.perf_counter()
        typer.echo(f"{name}:")
        results[name] = parts[name]()
        show(name, results[name])
        if not quick:
            file = RESULTS if again else UNFINISHED
            keep(results, name, time.perf_counter() - start, asked, parts.keys(), file)
    if not again and parts.keys() <= results.keys():
        UNFINISHED.unlink(missing_ok=True)


def begun(asked: dict[str, Any], parts: Set[str]) -> dict[str, Any]:
    """Results to go on from, with the whole search: of a race that was stopped, if all else is the same.

    Args:
        asked: the options and the commit, which must be the same, as must machine and versions.
        parts: what a finished race has.
    """
    stopped = read_json(UNFINISHED) if UNFINISHED.exists() else {"search": [], "provenance": {}}
    here = conditions(0)
    goes_on = stopped["provenance"].get("asked") == asked and all(
        part[name] == here[name]
        for part in provenances(stopped).values()
        for name in ("device", "processor", "versions")
    )
    results = stopped if goes_on else {"search": []}
    before = provenances(results).get("search", {"seconds": 0})["seconds"]
    start = time.perf_counter()
    for rows in search(SEARCH_BATCH, 3, results["search"]):
        results["search"] += rows
        keep(results, "search", before + time.perf_counter() - start, asked, parts, UNFINISHED)
    return results


def keep(
    results: dict[str, Any], name: str, seconds: float, asked: dict[str, Any], parts: Set[str], file: Path
) -> None:
    """Write results, of which `name` was measured now; those that are whole go into the book.

    Args:
        results: all that is measured; its provenance is brought up to date.
        name: the part.
        seconds: how long it took.
        asked: the options and the commit.
        parts: what a finished race has.
        file: where results go of which a part is missing.
    """
    made = provenances(results) | {name: conditions(seconds)}
    whole = {"seconds": sum(part["seconds"] for part in made.values()), "asked": asked, "parts": made}
    results["provenance"] = made[name] | whole
    if not parts <= results.keys():
        write_json(file, results)
        return
    write_json(RESULTS, results)
    RESULTS.with_suffix(".md").write_text(report(results), encoding="utf-8", newline="\n")
    draw(results["rows"], FIGURE)


def show(name: str, part: Any) -> None:
    """Print what a part measured; the rows of the comparison are printed as they are measured."""
    for item in part if name != "rows" and isinstance(part, list) else []:
        typer.echo("  " + "  ".join(f"{key} {value}" for key, value in item.items()))
    if isinstance(part, dict):
        typer.echo(f"  {part}")


def conditions(seconds: float) -> dict[str, Any]:
    """What the file of results says of the run that a part comes from."""
    made = measured_with(seconds, 0, f"CPU, {torch.get_num_threads()} threads" if not ON_GPU else processor())
    made["versions"] = {"python": platform.python_version(), **{name: version(name) for name in ("torch", *PEERS)}}
    return made


if __name__ == "__main__":
    typer.run(main)
