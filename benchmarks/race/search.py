"""The peers' best settings: a search over all of them, and who takes part with what it found."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import typer

from race.clock import interleave, median
from race.networks import ON_GPU, OURS, PEERS, Settings, choices, unet_of, work_of

WIDTHS = (128,) if ON_GPU else (32, 64)


def search(batch: int, rounds: int, found: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Time every setting of every peer, in training and in sampling, at each width, where the peer can run it.

    Yields the rows of one peer in one mode at one width; those that are in `found` are not searched again.
    """
    known = {(row["mode"], row["C"], row["library"]) for row in found}
    for mode, width, library in itertools.product(("training", "forward"), WIDTHS, PEERS):
        if (mode, width, library) in known:
            continue
        works = {}
        for settings in choices(library, mode):
            work = work_of(settings, mode, unet_of(width), batch)
            try:
                work()
            except RuntimeError as error:  # a fused kernel that the device has in other types only
                typer.echo(f"{settings} does not run here: {str(error).splitlines()[0]}")
            else:
                works[settings] = work
        rows = [
            {"mode": mode, "C": width, "batch": batch, **asdict(settings), "seconds": median(times)}
            for settings, times in interleave(works, rounds).items()
        ]
        typer.echo(f"search, {mode}, C = {width}: {best_of(rows, library, mode, width)}")
        yield rows


def best_of(rows: Sequence[dict[str, Any]], library: str, mode: str, width: int) -> Settings:
    """The fastest setting that a search found."""
    rows = [row for row in rows if (row["library"], row["mode"], row["C"]) == (library, mode, width)]
    row = min(rows, key=lambda row: row["seconds"])
    return Settings(**{name: row[name] for name in Settings.__dataclass_fields__ if name in row})


def contestants(found: Sequence[dict[str, Any]], mode: str, width: int) -> dict[str, Settings]:
    """This package, as it is and in float32, and each peer as shipped and at its best settings."""
    field = {"ddpm": OURS, "ddpm, float32": replace(OURS, bfloat16=False)}
    if ON_GPU:
        field["ddpm, compiled"] = replace(OURS, compiled=True)
    for library in PEERS:
        field[f"{library}, as shipped"] = Settings(library)
        field[f"{library}, best settings"] = best_of(found, library, mode, width)
    return field
