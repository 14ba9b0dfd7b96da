"""What survives a round trip through the shipped model, as its steps, its depth or its repetitions change.

The sweep over depths is that of SDEdit (Meng et al. 2022), which begins with sketches; here the images are clean.

    python benchmarks/round_trip.py

The script writes `book/results/round-trip.json` after every trip. Started again for the same weights, it resumes where
it stopped; a file of other weights it refuses.
"""

import itertools
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tqdm import tqdm

import ddpm
from ddpm.companion.long_runs import kept_rows, measured_with, weights_hash
from ddpm.data import load, normalise
from ddpm.denoiser import NetworkDenoiser
from ddpm.files import write_json
from ddpm.metrics import fidelity
from ddpm.noise import PerSampleNoise
from ddpm.round_trip import ends, round_trip
from ddpm.walks import SAMPLERS

RESULTS = Path(__file__).parents[1] / "book" / "results" / "round-trip.json"


@dataclass(frozen=True)
class Trip:
    """One point of a sweep."""

    sweep: str
    sampler: str
    depth: int
    steps: int
    cycles: int = 1


STEPS = [Trip("steps", sampler, 500, n) for sampler in ("ancestral", "ddim") for n in (1, 2, 5, 10, 20, 50)]
DEPTH = [Trip("depth", "ancestral", t, 20) for t in (50, 150, 300, 500, 700, 1000)]
CYCLES = [Trip("cycles", "ancestral", 300, 10, k) for k in (1, 2, 4, 8)]


@torch.no_grad()
def measured(denoise: NetworkDenoiser, originals: torch.Tensor, trip: Trip, seed: int) -> dict[str, dict[str, float]]:
    """Means of `fidelity.table` over images (n, ...), each with its own noise; the network gets 16 at a time."""
    grid = denoise.schedule.timesteps(trip.steps, start=trip.depth)
    chunks, trips = originals.split(16), []
    with denoise.many_calls(), tqdm(total=len(chunks) * trip.cycles * trip.steps, desc=str(trip), delay=1) as bar:
        for i, x0 in enumerate(chunks):
            how: dict[str, Any] = {"sampler": SAMPLERS[trip.sampler], "randn_like": PerSampleNoise(seed, 16 * i)}
            first = ends(round_trip(denoise, x0, grid, **how))
            x = first.back
            for _ in range(trip.cycles - 1):
                x = ends(round_trip(denoise, x, grid, **how)).back
            trips.append((x, first.one_shot))
            bar.update(trip.cycles * trip.steps)
    back, one_shot = (torch.cat(part) for part in zip(*trips, strict=True))
    table = fidelity.table(back, one_shot, originals)
    return {column: {name: round(value, 5) for name, value in row.items()} for column, row in table.items()}


def main(
    model: Annotated[str, typer.Option(help="A model that ships, or a run's folder.")] = "fashion-mnist",
    n: Annotated[int, typer.Option("--n", min=2, max=2000, help="Test images for each trip, 2 to 2,000.")] = 500,
    seed: Annotated[list[int], typer.Option(min=0, help="Seed of the noise. Repeat for several.")] = [0, 1, 2],  # noqa: B006
    out: Annotated[Path, typer.Option(help="File of the table (.json).")] = RESULTS,
) -> None:
    """Add noise to test images and denoise them again; the shipped model takes under an hour on two CPU cores."""
    weights = weights_hash(model)
    by = ("sweep", "sampler", "depth", "steps", "cycles", "seed", "n")
    rows = kept_rows(out, {"weights": weights}, by)
    denoise = ddpm.load(model)
    test = normalise(load("fashion-mnist-embedded", "test", quiet=True).images)
    originals = test[torch.arange(n) * len(test) // n].to(denoise.device)
    for number, trip in itertools.product(seed, [*STEPS, *DEPTH, *CYCLES]):
        what = {**asdict(trip), "seed": number, "n": n}
        if tuple(what[column] for column in by) in rows:
            continue
        start = time.perf_counter()
        row = what | measured(denoise, originals, trip, number) | {"seconds": round(time.perf_counter() - start)}
        rows[tuple(what[column] for column in by)] = row
        typer.echo(row)
        every = list(rows.values())
        write_json(out, {"rows": every, "weights": weights, **conditions(every, weights)})


def conditions(rows: list[dict[str, Any]], weights: str) -> dict[str, Any]:
    """The context that a reader of the rows needs."""
    return {
        "conditions": (
            f"Weights {weights[:8]}, trailing grids, bfloat16 where the hardware has it; n of the 2,000 embedded test "
            "images, evenly, each with noise of its own; clipped to [-1, 1]. One-shot mean: what the network says of "
            "the first trip's noisy image. Random pair: what came back against another original. Class: by the frozen "
            "classifier. Of repeated trips, cycles of them on end, the last is compared with the first "
            "original."
        ),
        "provenance": measured_with(
            sum(row["seconds"] for row in rows),
            sorted({row["seed"] for row in rows}),
        ),
    }


if __name__ == "__main__":
    typer.run(main)
