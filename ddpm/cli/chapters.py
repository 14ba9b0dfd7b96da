"""`ddpm chapters`."""

from pathlib import Path
from typing import Annotated

import typer

from ddpm.cli.options import ThreadsOption

__all__ = ["chapters"]

NOTEBOOKS, OUT = Path("notebooks"), Path("_build/chapters")


def chapters(
    preset: Annotated[
        str, typer.Option(help="Size of the experiments: cpu (minutes a chapter), gpu (full size) or smoke (seconds).")
    ] = "cpu",
    only: Annotated[int | None, typer.Option(help="Take only the chapter with this number.")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", help="NAME=VALUE: set a parameter of the notebook. Repeat for several."),
    ] = None,
    notebooks: Annotated[Path, typer.Option(help="Folder that holds the chapters.")] = NOTEBOOKS,
    out: Annotated[Path, typer.Option(help="Folder for the executed chapters.")] = OUT,
    force: Annotated[bool, typer.Option(help="Also run chapters that are finished and unchanged.")] = False,
    hand_in: Annotated[
        Path | None,
        typer.Option(
            "--hand-in",
            help="Run nothing; copy the chapters to this folder, to write the exercises in.",
        ),
    ] = None,
    pack: Annotated[
        Path | None, typer.Option(help="Run the copies in this folder, then zip them with their provenance.")
    ] = None,
    threads: ThreadsOption = None,
    jobs: Annotated[
        int | None, typer.Option(help="Chapters that run side by side; by default 2 on two free cores or more, else 1.")
    ] = None,
) -> None:
    """Execute the book's chapters, and skip those that are finished and unchanged."""
    from ddpm.companion import hand_in as copies
    from ddpm.companion import runner

    if hand_in is not None or pack is not None:
        others = {"pack": hand_in and pack, "parameter": parameter, "force": force, "out": out != OUT}
        others |= {"preset": hand_in and preset != "cpu", "notebooks": pack and notebooks != NOTEBOOKS}
        others |= {"threads": hand_in and threads is not None, "jobs": jobs is not None}
        if given := [name for name, value in others.items() if value]:
            raise ValueError(f"{given[0]} is given; it does not go with {'hand-in' if hand_in else 'pack'}")
    if hand_in is not None:
        for copy in copies.write_copies(notebooks, hand_in, only):
            typer.echo(copy)
    elif pack is not None:
        if (target := copies.pack(pack, only, preset, threads)) is None:
            raise typer.Exit(1)
        typer.echo(f"hand in: {target}")
    else:
        parameters = runner.parse_parameters(parameter or [])
        if not runner.run_chapters(notebooks, out, preset, only, parameters, force, threads, jobs):
            raise typer.Exit(1)
