"""Generative models on equal terms: the same data, parameters, training FLOPs, trials, seeds and number of images.

    python benchmarks/generative_models.py

All models learn from the 10,000 embedded training images in batches of 64. Diffusion by the package's recipe, diffusion
by eq. 4 as it is written, a GAN (both players counted), two variational autoencoders and a plain one have equally many
parameters, and each is trained for equally many FLOPs. Both are equal within 6 %, the most over the least; FLOPs are
counted as they are dispatched, including the optimiser's. `check_terms` asserts this before anything is trained. For
each kind the same number of settings is tried at a third of the budget, on 8,000 of the images, and judged by the other
2,000. The best setting is trained in full, on all 10,000, with every seed, and judged by the test images. As a control,
one more diffusion model is trained in full on only 100 images. A last sweep trains variational autoencoders that weigh
the divergence of their codes differently.

The script writes `book/results/generative-models.json` after every run. Started again, it resumes where it
stopped; several may work side by side, each on kinds of its own (`--kind`). `--ship` copies the weights of
seed 0 into the package, each with its card. `--time 5`, with nothing beside it, times all kinds in turns, in minutes.
"""

import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ddpm.companion.long_runs import chosen
from ddpm.files import write_atomically
from ddpm.metrics.features import FEATURES
from ddpm.model_files import MODELS
from equal_terms.measures import DATA, rate_and_distortion, rows_of, rows_without_training, trial
from equal_terms.report import card
from equal_terms.runs import Run
from equal_terms.table import Table, full_run, steps_of
from equal_terms.terms import BETAS, KINDS, SHIPPED, check_terms

RESULTS = Path(__file__).parents[1] / "book" / "results" / "generative-models.json"


def main(
    steps: Annotated[
        int, typer.Option(min=3, help="Steps of the diffusion model; the other models' numbers follow from it.")
    ] = 1500,
    seed: Annotated[list[int], typer.Option(min=0, help="Seed of the full trainings. Repeat for several.")] = [0, 1, 2],  # noqa: B006
    n: Annotated[
        int,
        typer.Option(
            "--n", min=2 * FEATURES + 2, max=2000, help="Images for each metric; half as many to choose settings."
        ),
    ] = 2000,
    kind: Annotated[list[str], typer.Option(help="Only this kind of model. Repeat for several.")] = list(KINDS),  # noqa: B006
    folder: Annotated[Path, typer.Option("--runs", help="Folder for the runs.")] = Path("runs/generative-models"),
    out: Annotated[Path, typer.Option(help="File of the table (.json).")] = RESULTS,
    ship: Annotated[bool, typer.Option("--ship", help="Copy the weights of seed 0 into the package.")] = False,
    models: Annotated[Path, typer.Option(help="Folder of the shipped models.")] = MODELS,
    time_rounds: Annotated[
        int,
        typer.Option(
            "--time",
            min=0,
            help="Measure the ms an image of all kinds in so many rounds, in turns, and nothing else; 5 take minutes.",
        ),
    ] = 0,
) -> None:
    """Try settings, train each kind in full with every seed, and measure; ten hours on one CPU thread."""
    kind = chosen("kind", kind, KINDS)
    table = Table(out, {"n": n, "models": check_terms(steps)}, folder)
    if time_rounds:
        table.time(time_rounds)
        return
    try_settings(table, kind, folder, n)
    if "vae" in kind:
        sweep(table, folder, n)
    for number, name in itertools.product(seed, kind):
        add_rows(table, full_run(table.read(), name, number), folder, n)
    if "diffusion" in kind:
        add_rows(table, replace(full_run(table.read(), "diffusion", 0), data="a hundredth"), folder, n)
        if not table.has("rows", model=DATA):
            start = time.perf_counter()
            untrained = {"kind": "none", "seed": 0, "trained on": "none"}
            table.add("rows", [row | untrained | spent(start) for row in rows_without_training(n)])
    if ship:
        ship_models(folder, models, table.read())


def try_settings(table: Table, kinds: list[str], folder: Path, n: int) -> None:
    """Every setting of these kinds at a third of the budget, on the training images that are not held out."""
    for name, settings in ((kind, settings) for kind in kinds for settings in KINDS[kind].tried):
        if not table.has("trials", model=name, settings=settings):
            start = time.perf_counter()
            run = Run(name, settings, steps_of(table.read(), name, settings) // 3, data="without the held out")
            figures = trial(run, folder, n // 2)
            table.add("trials", [{"model": name, "settings": settings} | figures | spent(start)])


def sweep(table: Table, folder: Path, n: int) -> None:
    """Variational autoencoders that weigh the divergence of their codes differently, at a third of the budget."""
    settings = KINDS["vae"].tried[0]
    steps = steps_of(table.read(), "vae", settings) // 3
    for beta in BETAS:
        if not table.has("rate and distortion", beta=f"{beta:g}"):
            start = time.perf_counter()
            run = Run("vae", settings | {"beta": beta}, steps, data="without the held out")
            run.trained(folder)
            table.add("rate and distortion", [rate_and_distortion(run, folder, n // 2) | spent(start)])


def spent(start: float) -> dict[str, int]:
    """The seconds since then."""
    return {"seconds": round(time.perf_counter() - start)}


def add_rows(table: Table, run: Run, folder: Path, n: int) -> None:
    """Train, measure and write down, unless it is written down already."""
    trained_on = {"kind": run.kind, "seed": run.seed, "trained on": run.data}
    if not table.has("rows", **trained_on):
        start = time.perf_counter()
        rows = rows_of(run, folder, n)
        table.add("rows", [row | trained_on | spent(start) for row in rows])


def ship_models(folder: Path, models: Path, results: dict[str, Any]) -> None:
    """Copy the weights of seed 0 into the package, each with its card."""
    for kind in SHIPPED:
        run = full_run(results, kind, 0)
        shipped = models / f"equal-{kind}"
        for name in ("model.safetensors", "config.json"):
            write_atomically(shipped / name, (run.folder(folder) / name).read_bytes())
        write_atomically(shipped / "card.md", card(kind, results).encode())
        typer.echo(f"shipped: {shipped}")


if __name__ == "__main__":
    typer.run(main)
