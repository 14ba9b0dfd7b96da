"""`ddpm chapters`."""

from pathlib import Path
from typing import Annotated

import typer


def chapters(
    preset: Annotated[str, typer.Option(help="cpu (a minute a chapter), gpu (full size) or smoke (seconds).")] = "cpu",
    only: Annotated[int | None, typer.Option(help="Number of the one chapter to run.")] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="NAME=VALUE for the notebook.")
    ] = None,
    notebooks: Annotated[Path, typer.Option(help="Folder of the chapters.")] = Path("notebooks"),
    out: Annotated[Path, typer.Option(help="Where the executed chapters go.")] = Path("_build/chapters"),
    force: Annotated[bool, typer.Option(help="Run chapters that are finished and unchanged, too.")] = False,
) -> None:
    """Execute the book's chapters, one at a time; finished, unchanged ones are skipped."""
    from ddpm.companion import runner

    if not runner.run_chapters(notebooks, out, preset, only, runner.parse_parameters(parameter or []), force):
        raise typer.Exit(1)
