"""`ddpm chapters`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ddpm.cli.options import ThreadsOption
from ddpm.settings import positive_int

__all__ = ["chapters"]

NOTEBOOKS, OUT, MARKS = Path("notebooks"), Path("_build/chapters"), Path("marks.csv")
SECONDS = 60
#: What does not execute the book's chapters, and the options that go with it, beside --only.
ALONE = {
    "hand-in": ("notebooks", "student"),
    "pack": ("preset", "threads"),
    "mark": ("zips", "notebooks", "out", "unsandboxed", "seconds", "force", "weight"),
}


def chapters(
    zips: Annotated[
        list[Path] | None, typer.Argument(help="With --mark: what was handed in.", show_default=False)
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Size of the experiments: cpu (minutes a chapter), gpu (full size) or smoke (seconds).")
    ] = "cpu",
    only: Annotated[
        list[int] | None, typer.Option(help="Take only the chapter with this number. Repeat for several.")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", help="NAME=VALUE: set a parameter of the notebook. Repeat for several."),
    ] = None,
    notebooks: Annotated[Path, typer.Option(help="Folder that holds the chapters.")] = NOTEBOOKS,
    out: Annotated[
        Path | None,
        typer.Option(help=f"Folder for the executed chapters, by default {OUT}; with --mark the table, {MARKS}."),
    ] = None,
    force: Annotated[
        bool, typer.Option(help="Also run chapters, and mark hand-ins, that are done and unchanged.")
    ] = False,
    hand_in: Annotated[
        Path | None,
        typer.Option(
            "--hand-in",
            help="Run nothing; copy the chapters to this folder, to write the exercises in.",
        ),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(
            help="With --hand-in: whose copies these are, a number or a name (up to 64 letters, digits, dots, - and _, "
            "no space). Their exercises get numbers of their own."
        ),
    ] = None,
    pack: Annotated[
        Path | None, typer.Option(help="Run the copies in this folder, then zip them with their provenance.")
    ] = None,
    mark: Annotated[
        bool,
        typer.Option(
            "--mark",
            help="Mark the zips that --pack has made, each in a sandbox, and write a table (marks.csv) and a report on "
            "each (marks/).",
        ),
    ] = False,
    unsandboxed: Annotated[
        bool,
        typer.Option(
            "--unsandboxed",
            help="With --mark: run what was handed in where it can read, send and delete all that you can.",
        ),
    ] = False,
    seconds: Annotated[
        int, typer.Option(help="With --mark: seconds that one exercise may take, on one thread.")
    ] = SECONDS,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="With --mark: what an exercise counts, by default 1; such as empty_page=5. Repeat for several.",
        ),
    ] = None,
    threads: ThreadsOption = None,
    jobs: Annotated[
        int | None, typer.Option(help="Chapters that run side by side; by default 2 on two free cores or more, else 1.")
    ] = None,
) -> None:
    """Execute the book's chapters, and skip those that are finished and unchanged.

    As an assignment: --hand-in DIR --student ID makes a student's copies, --pack DIR packs them to be handed in, and
    --mark ZIPS... --out marks.csv marks a class.
    """
    given = {
        "zips": zips, "preset": preset != "cpu", "parameter": parameter, "notebooks": notebooks != NOTEBOOKS,
        "out": out is not None, "force": force, "hand-in": hand_in, "student": student is not None, "pack": pack,
        "mark": mark, "unsandboxed": unsandboxed, "seconds": seconds != SECONDS, "weight": weight,
        "threads": threads is not None, "jobs": jobs is not None,
    }  # fmt: skip
    _refuse_what_does_not_go_together({name: value for name, value in given.items() if value})
    from ddpm.companion import hand_in as copies
    from ddpm.companion.chapters import parse_parameters
    from ddpm.companion.runner import run_chapters

    if hand_in is not None:
        for copy in copies.write_copies(notebooks, hand_in, only, student):
            typer.echo(copy)
    elif pack is not None:
        if (target := copies.pack(pack, only, preset, threads)) is None:
            raise typer.Exit(1)
        typer.echo(f"hand in: {target}")
    elif mark:
        from ddpm.companion.marking import mark_hand_ins
        from ddpm.companion.marks import weights_of
        from ddpm.companion.sandbox import Limits

        table = out or MARKS
        limits = Limits(seconds=positive_int("seconds", seconds))
        marked = mark_hand_ins(
            zips or [], table, notebooks, only, limits,
            unsandboxed=unsandboxed, force=force, weights=weights_of(weight or []),
        )  # fmt: skip
        typer.echo(f"{len(marked)} hand-ins: {table}, and a report on each in {table.with_suffix('')}")
    else:
        parameters = parse_parameters(parameter or [])
        if not run_chapters(notebooks, out or OUT, preset, only, parameters, force, threads, jobs):
            raise typer.Exit(1)


def _refuse_what_does_not_go_together(given: Mapping[str, Any]) -> None:
    """Raise `ValueError` where an option that was given is none of the job's."""
    job = next((name for name in ALONE if name in given), None)
    if job is None:
        if "zips" in given:
            raise ValueError(f"{given['zips'][0]} is given; zips need --mark, and a chapter is named with --only")
        for name, owner in (("student", "hand-in"), ("unsandboxed", "mark"), ("seconds", "mark"), ("weight", "mark")):
            if name in given:
                raise ValueError(f"--{name} is given; it needs --{owner}")
    elif others := [name for name in given if name != job and name not in ALONE[job]]:
        written = given["zips"][0] if others[0] == "zips" else f"--{others[0]}"
        raise ValueError(f"{written} is given; it does not go with --{job}")
