"""Quality against network calls: the Frechet distance of each sampler's images at equal numbers of calls.

    python benchmarks/samplers.py

All samplers draw from the shipped model. In a *guided* row its prediction is pushed away from that of a worse model
(`ddpm.denoiser.Guided`), and calls of both count. The script writes `book/results/samplers.json` after every row.
Started again for the same weights on the same machine, it resumes where it stopped.
"""

import json
import platform
import shlex
import sys
import time
from datetime import date
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer

import ddpm
from ddpm import metrics, pretrained
from ddpm.denoiser import Denoiser, Guided
from ddpm.files import write_json
from ddpm.metrics.features import FEATURES_SHA256

RESULTS = Path(__file__).parents[1] / "book" / "results" / "samplers.json"
GUIDE, WEIGHT = "equal-diffusion", 1.6


class Sampler(NamedTuple):
    """How a row's images are drawn."""

    walk: str
    options: dict[str, Any] = {}  # noqa: RUF012 (a default that is never changed)
    guided: bool = False

    @property
    def calls_a_step(self) -> int:
        return 2 if self.guided or self.walk == "heun" else 1


KARRAS = {"spacing": "karras"}
SAMPLERS = {
    "DDIM": Sampler("ddim"),
    "ancestral, small variance": Sampler("ancestral", {"variance": "small"}),
    "DPM-Solver++(2M)": Sampler("dpm_solver_pp"),
    "ancestral, large variance": Sampler("ancestral", {"variance": "large"}),
    "Heun": Sampler("heun"),
    "Heun, in sigma": Sampler("heun", {"coordinates": "sigma"}),
    "DDIM, Karras's grid": Sampler("ddim", KARRAS),
    "DPM-Solver++(2M), Karras's grid": Sampler("dpm_solver_pp", KARRAS),
    "DDIM, Karras's grid, guided": Sampler("ddim", KARRAS, guided=True),
    "DPM-Solver++(2M), Karras's grid, guided": Sampler("dpm_solver_pp", KARRAS, guided=True),
}


def main(
    model: Annotated[str, typer.Option(help="A model that ships, or a run's folder.")] = "fashion-mnist",
    n: Annotated[int, typer.Option("--n", help="Images for each row.")] = 2000,
    sampler: Annotated[
        list[str] | None, typer.Option(help="Sampler of the table. Repeat for several; all of them if none is given.")
    ] = None,
    calls: Annotated[list[int], typer.Option(help="Network calls for each image. Repeat for several.")] = [50, 10, 20],  # noqa: B006
    seed: Annotated[int, typer.Option(help="Seed of the starting noise and of all noise on the way.")] = 0,
    out: Annotated[Path, typer.Option(help="File of the table (.json).")] = RESULTS,
) -> None:
    """Measure every sampler at every number of calls; the shipped model takes an hour and a half on two CPU cores."""
    names = sampler or list(SAMPLERS)
    for name in names:
        if name not in SAMPLERS:
            raise typer.BadParameter(f"sampler is {name!r}; legal are {'; '.join(SAMPLERS)}")
    record = json.loads((pretrained.model_folder(model) / "config.json").read_text(encoding="utf-8"))
    weights = record["sha256"]
    denoise = ddpm.load(model)
    guided: Denoiser = denoise
    if any(SAMPLERS[name].guided for name in names):
        guided = Guided(denoise, ddpm.load(GUIDE), WEIGHT)
    machine = f"{torch.get_num_threads()} threads of a CPU" if denoise.device.type == "cpu" else "a GPU"
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    what = {"weights": weights, "n": n, "seed": seed, "device": machine, "versions": versions}
    results = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    if {key: results.get("provenance", {}).get(key) for key in what} != what:
        results = {"rows": []}
    rows = {(row["sampler"], row["network calls"]): row for row in results["rows"]}
    for budget in calls:
        for name in names:
            how = SAMPLERS[name]
            steps = max(1, budget // how.calls_a_step)
            asked = how.calls_a_step * steps - (how.walk == "heun")  # the last move of Heun takes one call
            if (name, asked) in rows:
                continue
            start = time.perf_counter()
            images = ddpm.sample(guided if how.guided else denoise, n, how.walk, steps, seed, **how.options)
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
                    f"same: {distance.floor:.2f}. Seconds for all {n:,} images, on {machine}, {date.today()}; those of "
                    "rows from several runs do not compare."
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
