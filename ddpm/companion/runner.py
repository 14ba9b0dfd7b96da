"""Execute the chapters with papermill, several side by side, and report the result of each."""

import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import torch
from tqdm import tqdm

from ddpm.companion.chapter_record import fingerprint_of, made_with, recorded
from ddpm.companion.chapters import check_parameters, defaults_of, find_chapters
from ddpm.companion.checks import read_gpu_memory, read_record
from ddpm.companion.execution import Unfinished, end_kernels, executed
from ddpm.companion.notebook import read_notebook, shrink_figures
from ddpm.companion.provenance import PRESETS
from ddpm.fast import chosen_device
from ddpm.files import check_place, read_json, write_json
from ddpm.messages import counted
from ddpm.settings import one_of, positive_int, seed_number
from ddpm.threads import choose_threads

__all__ = ["run_chapters"]

#: Chapters that run side by side on a CPU. Each needs up to 2 GiB of memory.
SIDE_BY_SIDE = 2


class _Outcome(NamedTuple):
    """How a chapter ended: a line of the table that is printed last."""

    chapter: str
    state: str
    seconds: float
    error: str = ""


def run_chapters(
    notebooks: Path,
    out: Path,
    preset: str = "cpu",
    only: int | Collection[int] | None = None,
    parameters: Mapping[str, Any] | None = None,
    force: bool = False,
    threads: int | None = None,
    jobs: int | None = None,
) -> bool:
    """Execute chapters into `out/preset/`, each with a JSON file of its provenance and measurements beside it.

    A chapter that finished before with the same source, parameters, package and versions is skipped.

    Args:
        notebooks: folder of the chapters, NN_name.ipynb; nothing is written to it.
        out: where the executed chapters go.
        preset: "cpu", "gpu" or "smoke".
        only: number of the chapter to run, or numbers of several; by default all.
        parameters: further values for the notebook's parameters cell.
        force: run finished chapters again.
        threads: threads of the CPU to compute with, shared by the chapters that run side by side; by default as many as
            there are free cores.
        jobs: how many chapters run side by side; by default 2 on a CPU of two free cores or more, else 1.

    Returns:
        Whether all succeeded. The traceback of a failing cell is printed, and the other chapters still run.

    Raises:
        ValueError: an unknown preset, chapter or parameter, an illegal value of one, a notebook that cannot be read or
            has not one parameters cell, or a place that cannot be written to. Nothing has run.
    """
    threads = choose_threads(threads)
    jobs = _jobs(jobs, threads, preset)
    _check_preset(preset, (parameters or {}).get("device", "auto"))
    _check_values(parameters or {})
    chapters = find_chapters(notebooks, only)
    values = {"preset": preset, **(parameters or {})}
    for chapter in chapters:
        check_parameters(chapter, values)
    folder = out / preset
    if folder.resolve() == notebooks.resolve():
        raise ValueError(f"out is {str(out)!r}; the executed chapters may not replace their sources")
    for chapter in chapters:
        _check_text("notebooks", chapter)
        _check_text("out", _partial(folder, chapter))
        check_place("out", _partial(folder, chapter))
    folder.mkdir(parents=True, exist_ok=True)

    unchanged, due = {}, {}
    for chapter in chapters:
        fingerprint = fingerprint_of(chapter, values)
        before = recorded(folder / f"{chapter.stem}.json")
        if not force and (folder / chapter.name).is_file() and before.get("fingerprint") == fingerprint:
            unchanged[chapter.stem] = _Outcome(chapter.stem, "unchanged, skipped", before.get("seconds", 0))
        else:
            due[chapter] = fingerprint
    outcomes = unchanged | (_run_side_by_side(due, folder, values, threads, jobs) if due else {})
    _print_table([outcomes[chapter.stem] for chapter in chapters])
    return not any(outcome.error for outcome in outcomes.values())


def _jobs(asked: int | None, threads: int, preset: str) -> int:
    """How many chapters run side by side."""
    if preset == "gpu" and asked not in (None, 1):
        raise ValueError(f"jobs is {asked!r}; legal with preset gpu is 1, as one chapter may need the whole GPU")
    if asked is not None:
        return positive_int("jobs", asked)
    return 1 if torch.cuda.is_available() else min(threads, SIDE_BY_SIDE)


def _run_side_by_side(
    due: Mapping[Path, str], folder: Path, values: Mapping[str, Any], threads: int, jobs: int
) -> dict[str, _Outcome]:
    """Execute chapters, given with their fingerprints, and show a bar of all their cells; the outcomes by name."""
    jobs = min(jobs, len(due))
    each = max(1, threads // jobs)
    side_by_side = "" if jobs == 1 else f", {jobs} at a time"
    noun = "chapter" if len(due) == 1 else "chapters"
    print(f"{len(due)} {noun}{side_by_side}, preset {values['preset']}, {counted(each, 'thread')} each", flush=True)
    cells = sum(1 + len(read_notebook(chapter)["cells"]) for chapter in due)  # papermill adds one of parameters
    outcomes = {}
    with tqdm(total=cells, unit="cell") as bar, ThreadPoolExecutor(jobs) as pool:
        running = [
            pool.submit(_execute, chapter, folder, values, fingerprint, each, bar.update)
            for chapter, fingerprint in due.items()
        ]
        try:
            for future in as_completed(running):
                outcome = future.result()
                outcomes[outcome.chapter] = outcome
                if outcome.error:
                    bar.write(f"{outcome.chapter} failed{outcome.error}", file=sys.stderr)
                elif len(due) > 1:
                    bar.write(f"{outcome.chapter} done, {outcome.seconds:.0f} s")
        except BaseException:  # Ctrl-C, or what a chapter cannot answer for, such as a full disk
            _stop(running)
            raise
    return outcomes


def _stop(running: Sequence["Future[_Outcome]"]) -> None:
    """Start no further chapter, and end those that run."""
    for future in running:
        future.cancel()
    while any(future.running() for future in running):
        end_kernels()
        time.sleep(0.2)


def _check_preset(preset: str, device: Any) -> None:
    one_of("preset", preset, PRESETS)
    if preset == "gpu" and device == "auto" and not torch.cuda.is_available():
        raise ValueError(
            "preset is 'gpu', and no GPU is found here; legal without one are cpu, smoke, or gpu with device cpu"
        )


def _check_values(parameters: Mapping[str, Any]) -> None:
    """Raise `ValueError` where a value is not legal in any chapter."""
    if "preset" in parameters:
        raise ValueError("parameter is 'preset'; give it with --preset")
    if "seed" in parameters:
        seed_number("seed", parameters["seed"])
    if "device" in parameters:
        chosen_device(str(parameters["device"]))


def _partial(folder: Path, chapter: Path) -> Path:
    """Where a chapter is while it runs, and stays if it fails."""
    return folder / f"{chapter.stem}.partial.ipynb"


def _check_text(name: str, path: Path) -> None:
    """Raise `ValueError` where a path is not text: papermill writes it into the notebook."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} is {str(path)!r}; the path must be text in UTF-8") from error


def _execute(
    chapter: Path,
    folder: Path,
    values: Mapping[str, Any],
    fingerprint: str,
    threads: int,
    at_cell: Callable[[], Any],
) -> _Outcome:
    """Execute a chapter into a folder; only one that succeeded gets its name and its JSON file there."""
    started = time.time()
    partial = _partial(folder, chapter)
    try:
        notebook = executed(chapter, partial, values, threads, at_cell)
        shrink_figures(notebook)
        nbformat.write(notebook, partial)
    except (Unfinished, OSError) as failure:
        error = str(failure) if isinstance(failure, Unfinished) else f": {failure}"
        return _Outcome(chapter.stem, f"FAILED, {_left_of(partial)}", time.time() - started, error)
    seconds = time.time() - started
    os.replace(partial, folder / chapter.name)
    memory = read_gpu_memory(notebook)
    record = {
        "fingerprint": fingerprint,
        "seconds": round(seconds, 1),
        **made_with({**defaults_of(chapter), **values}, threads),
        **({} if memory is None else {"GPU memory, MiB": memory}),
        "measured": [asdict(m) for m in read_record(notebook).values()],
    }
    write_json(folder / f"{chapter.stem}.json", record)
    return _Outcome(chapter.stem, "done", seconds)


def _left_of(partial: Path) -> str:
    """Where to see how far a failed chapter came; a file that could not be written whole is removed."""
    try:
        read_json(partial)
    except (FileNotFoundError, ValueError):
        partial.unlink(missing_ok=True)
        return "and its outputs could not be written"
    return f"see {partial}"


def _print_table(outcomes: Sequence[_Outcome]) -> None:
    width = max(len(outcome.chapter) for outcome in outcomes)
    for outcome in outcomes:
        print(f"{outcome.chapter:{width}}  {outcome.seconds:7.1f} s  {outcome.state}")
