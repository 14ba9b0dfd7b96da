"""Quality against network calls: Frechet distance of the shipped model's images under each sampler, at equal calls.

    python benchmarks/samplers.py

In a row that is *guided* the model is pushed away from what a worse one sees (`ddpm.denoiser.Guided`), and both are
called. Writes `book/results/samplers.json` after every row; started again for the same weights on the same machine, it
goes on where it stopped.
"""

import json
import platform
import shlex
import sys
import time
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import ddpm
from ddpm import metrics, pretrained
from ddpm.denoiser import Guided
from ddpm.features import FEATURES_SHA256
from ddpm.files import write_json

RESULTS = Path(__file__).parents[1] / "book" / "results" / "samplers.json"
GUIDED, GUIDE, WEIGHT = "DPM-Solver++(2M), Karras's grid, guided", "equal-diffusion", 1.6
SAMPLERS: dict[str, tuple[str, dict[str, Any], int]] = {  # name in the table: sampler, options, network calls a step
    "DDIM": ("ddim", {}, 1),
    "ancestral, small variance": ("ancestral", {"variance": "small"}, 1),
    "DPM-Solver++(2M)": ("dpm_solver_pp", {}, 1),
    "ancestral, large variance": ("ancestral", {"variance": "large"}, 1),
    "Heun": ("heun", {}, 2),  # one fewer in all: its last move asks once
    "DDIM, Karras's grid": ("ddim", {"spacing": "karras"}, 1),
    "DPM-Solver++(2M), Karras's grid": ("dpm_solver_pp", {"spacing": "karras"}, 1),
    GUIDED: ("dpm_solver_pp", {"spacing": "karras"}, 2),
}


def main(
    model: Annotated[str, typer.Option(help="A model that ships, or a run's folder.")] = "fashion-mnist",
    n: Annotated[int, typer.Option("--n", help="Images a row.")] = 2000,
    sampler: Annotated[
        list[str] | None, typer.Option(help="Of the table's names; all of them if none is given.")
    ] = None,
    calls: Annotated[list[int], typer.Option(help="Network calls an image, several times.")] = [50, 10, 20],  # noqa: B006
    seed: Annotated[int, typer.Option(help="Of the starting noise and of all that is drawn on the way.")] = 0,
    out: Annotated[Path, typer.Option(help="The table, as JSON.")] = RESULTS,
) -> None:
    """Measure every sampler at every number of calls; an hour and a half on two CPU cores for the shipped model."""
    names = sampler or list(SAMPLERS)
    for name in names:
        if name not in SAMPLERS:
            raise typer.BadParameter(f"sampler is {name!r}; legal are {'; '.join(SAMPLERS)}")
    record = json.loads((pretrained.model_folder(model) / "config.json").read_text(encoding="utf-8"))
    weights = record["sha256"]
    denoise = ddpm.load(model)
    denoisers = dict.fromkeys(names, denoise)
    if GUIDED in names:
        denoisers[GUIDED] = Guided(denoise, ddpm.load(GUIDE), WEIGHT)
    machine = f"{torch.get_num_threads()} threads of a CPU" if denoise.device.type == "cpu" else "a GPU"
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    what = {"weights": weights, "n": n, "seed": seed, "device": machine, "versions": versions}
    results = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    if {key: results.get("provenance", {}).get(key) for key in what} != what:
        results = {"rows": []}
    rows = {(row["sampler"], row["network calls"]): row for row in results["rows"]}
    for budget in calls:
        for name in names:
            walk, options, per_step = SAMPLERS[name]
            steps = max(1, budget // per_step)
            asked = per_step * steps - (walk == "heun")
            if (name, asked) in rows:
                continue
            start = time.perf_counter()
            images = ddpm.sample(denoisers[name], n, walk, steps, seed, **options)
            seconds = time.perf_counter() - start
            distance = metrics.frechet_distance(images, weights="EMA")
            rows[name, asked] = {
                "sampler": name,
                "network calls": asked,
                "Frechet distance": f"{distance.value:.2f}",
                "bootstrap sd": f"{distance.spread:.2f}",
                "seconds": f"{seconds:.0f}",
            }
            typer.echo(f"{name}, {asked} calls: {distance}")
            ordered = sorted(
                rows.values(), key=lambda row: (list(SAMPLERS).index(row["sampler"]), row["network calls"])
            )
            results = {
                "rows": ordered,
                "conditions": (
                    f"Frechet distance in the frozen 64-feature classifier {FEATURES_SHA256[:8]}, whitened; "
                    f"{n:,} images a row against all 10,000 test images; EMA weights {weights[:8]}; trailing grids "
                    f"where none is named; guided: by {GUIDE}, which is called as often, with weight {WEIGHT}, the "
                    "best of 1, 1.3, 1.6 and 2 on 1,000 images in 20 steps against the same test images; seed "
                    f"{seed}, the same starting noise in every row; floor, {n:,} real training images against the "
                    f"same: {distance.floor:.2f}. Seconds for all {n:,} images, on {machine}, {date.today()}."
                ),
                "provenance": {
                    **what,
                    "date": date.today().isoformat(),
                    "seconds": round(sum(float(row["seconds"]) for row in ordered)),
                    "command": shlex.join(["python", "benchmarks/samplers.py", *sys.argv[1:]]),
                },
            }
            write_json(out, results)


if __name__ == "__main__":
    typer.run(main)
