"""Training on the straight path of flow matching, beside the recipe, at equal steps.

    python benchmarks/straight_path.py

Three trainings for each seed, alike but for what is compared: the recipe of `ddpm train`; the straight path with its
target and the times that are usual there (logit-normal; Esser et al. 2024); and the straight path with the recipe's own
settings of times, which say at how much noise it learns. A tenth of the recipe's times is drawn evenly in t, which is
other noise on each path. The others are as likely at each log SNR on both.

All of them draw by the same sampler from the same noise, at the same noise levels but for the first, which is that of
T. The script writes `book/results/straight-path.json` after every run. Started again, it resumes where it stopped,
within a run at its last checkpoint; a file of other steps, data or numbers of images it refuses.
"""

import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from tqdm import tqdm

import ddpm
from ddpm import metrics
from ddpm.companion.long_runs import chosen, kept_rows, machine, measured_with, over_seeds, processor, run_folder
from ddpm.data import load
from ddpm.denoiser import NetworkDenoiser
from ddpm.diffusion import DiffusionConfig
from ddpm.files import write_json
from ddpm.metrics.features import FEATURES, FEATURES_SHA256
from ddpm.noise import PerSampleNoise
from ddpm.samplers import dpm_solver_pp, final
from ddpm.schedule import NoiseSchedule, linear
from ddpm.training import recipe, train
from ddpm.walks import DEFAULT_WALK

RESULTS = Path(__file__).parents[1] / "book" / "results" / "straight-path.json"
CHUNK = 50

MODEL, TRAINING = recipe("diffusion")
STRAIGHT = replace(MODEL, schedule="straight", target="flow")
ROWS: dict[str, DiffusionConfig] = {
    "the recipe": MODEL,
    "straight path, its usual times": replace(STRAIGHT, log_sigma_mean=0.0, log_sigma_std=1.0, uniform_share=0.0),
    "straight path, the recipe's times": STRAIGHT,
}


def main(
    steps: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 500,
    row: Annotated[
        list[str] | None, typer.Option(help="Row of the table. Repeat for several; all of them if none is given.")
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Seed of the training. Repeat for several; 0, 1 and 2 if none is given."),
    ] = None,
    n: Annotated[int, typer.Option("--n", min=FEATURES + 1, max=60_000, help="Images for each distance.")] = 2000,
    data: Annotated[str, typer.Option(help="Data set, as in ddpm train.")] = "fashion-mnist",
    runs: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs/straight-path"),
    out: Annotated[Path, typer.Option(help="File of the table (.json).")] = RESULTS,
) -> None:
    """Train and measure every row; some seven minutes a run on one thread of a CPU."""
    names = chosen("row", row, ROWS)
    what = {"steps": steps, "n": n, "data": data}
    rows = kept_rows(out, what, by=("model", "seed"))
    dataset = load(data, "train")
    for number in seed or (0, 1, 2):
        for name in names:
            if (name, number) in rows:
                continue
            folder = run_folder(runs, name, data, steps, number)
            start = time.perf_counter()
            train(ROWS[name], dataset, replace(TRAINING, steps=steps, seed=number, checkpoint_every=100), folder)
            images = drawn(ddpm.load(folder.resolve()), n)
            distance = metrics.frechet_distance(images, weights="EMA")
            rows[name, number] = {
                "model": name,
                "seed": number,
                "Frechet distance": f"{distance.value:.2f}",
                "bootstrap sd": f"{distance.spread:.2f}",
                "seconds": f"{time.perf_counter() - start:.0f}",
            }
            typer.echo(f"{name}, seed {number}: {distance}")
            write_json(out, with_conditions(list(rows.values()), what, distance.floor))


@torch.no_grad()
def drawn(denoise: NetworkDenoiser, n: int) -> Tensor:
    """n images (n, channels, height, width) by DPM-Solver++(2M), after T at the same noise levels on every schedule."""
    times = times_of(denoise.schedule)
    noise = PerSampleNoise(0)(torch.empty(n, *denoise.image_shape))
    with denoise.many_calls():
        chunks = [final(dpm_solver_pp(denoise, x, times)) for x in tqdm(noise.split(CHUNK), "drawing")]
    return torch.cat(chunks)


def times_of(schedule: NoiseSchedule) -> list[float]:
    """From T, the times at which a schedule has the sigma of the package's default walk down the linear one, to 0."""
    levels = [linear().sigma(t) for t in linear().timesteps(DEFAULT_WALK.steps, DEFAULT_WALK.spacing)[1:-1]]
    return [schedule.T, *(schedule.sigma_to_t(sigma) for sigma in levels), 0]


def with_conditions(rows: list[dict[str, Any]], what: dict[str, Any], floor: float) -> dict[str, Any]:
    """All that the file of results holds."""
    ordered = sorted(rows, key=lambda row: (list(ROWS).index(row["model"]), row["seed"]))
    made = measured_with(
        sum(float(row["seconds"]) for row in ordered),
        sorted({row["seed"] for row in ordered}),
    )
    return {
        "table": over_seeds(ordered, ("model",)),
        "rows": ordered,
        "floor": f"{floor:.2f}",
        "conditions": (
            f"Frechet distance in the frozen 64-feature classifier {FEATURES_SHA256[:8]}, whitened; {what['n']:,} "
            f"images against all 10,000 test images; EMA weights. Every model is trained for {what['steps']} steps of "
            f"{TRAINING.batch_size} images by the recipe of ddpm train, but for the path, the target and the times "
            f"that the row names, and draws in {DEFAULT_WALK.steps} moves of DPM-Solver++(2M) from the same "
            "noise, at the same noise levels but for the first, which is that of T. With several seeds of the training "
            "it is their mean ± their standard deviation. Bootstrap sd: how much a distance scatters when the images "
            f"are drawn again from the set (the first seed's). The floor, {what['n']:,} real training images against "
            f"the same: {floor:.2f}. "
            f"On {machine()} ({processor()}), {date.today()}."
        ),
        "provenance": made | what,
    }


if __name__ == "__main__":
    typer.run(main)
