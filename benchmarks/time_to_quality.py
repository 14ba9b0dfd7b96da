"""Time to quality: the Frechet distance that a recipe reaches in a number of minutes, from random weights.

    python benchmarks/time_to_quality.py
    python benchmarks/time_to_quality.py --minutes 20 --recipe v --seed 0 --seed 1 --seed 2 --n 2000

A recipe trains for as many steps as fit into the minutes, by its own time for a step. That time is measured once, with
nothing running beside it, and then kept, so that a run that is disturbed later does the same work. Every run is
trained by `ddpm.training.train`, and its learning rate falls to 0 at its own end. In a *guided* row the network's
prediction is pushed away from that of its own average early in the same run (`ddpm.denoiser.Guided`); this costs no
training, but twice the network calls. The script writes `book/results/time-to-quality.json` after every run. Started
again on the same machine, it resumes where it stopped, within a run at its last checkpoint.

Without options it makes thirteen of the 29 rows that are committed: each recipe for five minutes, from seed 0, judged
by 1,000 images (the recipe with a tenth of uniform times is not committed for five minutes). The other sixteen took
options, here by what they name:

- that recipe, `--minutes 20`, each guided sampler by its `--sampler`: four rows;
- that recipe, `--minutes 8 --n 2000`, DPM-Solver++ in 20 steps, alone and guided from 2/10 with weight 2: two rows;
- that recipe, `--minutes 20 --n 2000`, the same two samplers with `--seed` 0, 1 and 2, and with seed 0 also
  DPM-Solver++ in 50 steps and DDIM: eight rows;
- the recipe of log-normal times with Muon at 2e-3, `--minutes 20 --n 2000`, DPM-Solver++ in 20 steps and DDIM: two
  rows.
"""

import itertools
import json
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer

import ddpm
from ddpm import metrics
from ddpm.companion.long_runs import chosen, last_loss, machine, measured_with, run_folder
from ddpm.companion.results import markdown_table
from ddpm.data import Dataset, load, normalise
from ddpm.denoiser import Denoiser, Guided
from ddpm.diffusion import DiffusionConfig
from ddpm.files import write_json
from ddpm.metrics.features import FEATURES, FEATURES_SHA256
from ddpm.noise import PerSampleNoise
from ddpm.training import train
from ddpm.training.config import TrainingConfig
from ddpm.unet import UNetConfig

RESULTS = Path(__file__).parents[1] / "book" / "results" / "time-to-quality.json"

Recipe = tuple[DiffusionConfig, TrainingConfig]
BASELINE: Recipe = (DiffusionConfig(UNetConfig(blocks_per_level=1), target="eps"), TrainingConfig())


def changed(
    recipe: Recipe, unet: dict[str, Any] | None = None, model: dict[str, Any] | None = None, **training: Any
) -> Recipe:
    """A recipe with some of its settings replaced."""
    network = replace(recipe[0].unet, **(unet or {}))
    return replace(recipe[0], unet=network, **(model or {})), replace(recipe[1], **training)


V = changed(BASELINE, model={"target": "v"})
LOGNORMAL = changed(V, model={"times": "lognormal"})
MUON = changed(LOGNORMAL, optimiser="muon", learning_rate=2e-3, warmup=50)
RECIPES: dict[str, Recipe] = {
    "baseline": BASELINE,
    "min-SNR weights": changed(BASELINE, model={"weighting": "min_snr"}),
    "v": V,
    "v, min-SNR weights": changed(V, model={"weighting": "min_snr"}),
    "v, log-normal times": LOGNORMAL,
    "v, log-normal times, rate 2e-3": changed(LOGNORMAL, learning_rate=2e-3, warmup=100),
    "v, log-normal times, Muon 2e-3": MUON,
    "v, min-SNR weights, Muon 2e-3": changed(MUON, model={"times": "uniform", "weighting": "min_snr"}),
    "v, log-normal times, Muon 4e-3": changed(MUON, learning_rate=4e-3),
    "v, log-normal times, Muon 2e-3, batch 32": changed(MUON, batch_size=32),
    "v, log-normal times about -0.4, Muon 2e-3": changed(MUON, model={"log_sigma_mean": -0.4}),
    "v, log-normal times of width 1.6, Muon 2e-3": changed(MUON, model={"log_sigma_std": 1.6}),
    "v, log-normal and 0.1 uniform times, Muon 2e-3": changed(MUON, model={"uniform_share": 0.1}),
    "v, log-normal and 0.2 uniform times, Muon 2e-3": changed(MUON, model={"uniform_share": 0.2}),
}
CHECKPOINTS = 10  # of each run, evenly spaced; the averages in them may guide


class Sampler(NamedTuple):
    """How a run's images are drawn."""

    walk: str
    steps: int
    spacing: str = "karras"
    guide: int = 0  # number of the checkpoint that guides, counted from 1; 0 for none
    weight: float = 1.0


SAMPLERS = {
    "DPM-Solver++ 20": Sampler("dpm_solver_pp", 20),
    "DPM-Solver++ 50": Sampler("dpm_solver_pp", 50),
    "DDIM 50": Sampler("ddim", 50, "trailing"),
} | {
    f"DPM-Solver++ 20, guided from {guide}/{CHECKPOINTS}, weight {weight}": Sampler(
        "dpm_solver_pp", 20, guide=guide, weight=weight
    )
    for guide, weight in ((1, 2), (2, 2), (3, 2), (2, 3))
}


def work_of(recipe: Recipe) -> str:
    """The settings that the time of a step depends on."""
    unet = recipe[0].unet
    training = recipe[1]
    return (
        f"widths {unet.widths}, {unet.blocks_per_level} blocks a level, "
        f"{training.optimiser}, batch {training.batch_size}"
    )


def seconds_a_step(recipe: Recipe, dataset: Dataset) -> float:
    """Seconds for a step: a run of 24 steps minus one of 8, over 16, which leaves out what a run costs only once."""
    model, training = recipe
    seconds = {}
    for steps in (8, 24, 8):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            train(model, dataset, replace(training, steps=steps), folder, progress=False)
            seconds[steps] = time.perf_counter() - start
    return (seconds[24] - seconds[8]) / 16


def mean_error_at_the_end(folder: Path, n: int = 256) -> float:
    """Mean of the x0 predicted at T, where nothing of an image is left to see, minus the mean of the data."""
    denoise = ddpm.load(folder, "float32", "cpu")
    noise = PerSampleNoise(0)(torch.empty(n, *denoise.image_shape))
    with torch.no_grad():
        said = torch.cat([denoise(x, denoise.schedule.T).x0 for x in noise.split(64)])
    return (said.mean() - normalise(load("fashion-mnist-embedded", "train", quiet=True).images).mean()).item()


def main(
    minutes: Annotated[list[float], typer.Option(min=0.1, help="Minutes of training. Repeat for several.")] = [5],  # noqa: B006
    recipe: Annotated[
        list[str] | None, typer.Option(help="Recipe to train. Repeat for several; all of them if none is given.")
    ] = None,
    seed: Annotated[list[int], typer.Option(min=0, help="Seed of the training. Repeat for several.")] = [0],  # noqa: B006
    sampler: Annotated[
        list[str], typer.Option(help=f"How images are drawn. Repeat for several: {'; '.join(SAMPLERS)}.")
    ] = ["DPM-Solver++ 20"],  # noqa: B006
    n: Annotated[int, typer.Option("--n", min=FEATURES + 1, max=60_000, help="Images for each distance.")] = 1000,
    runs: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs/time-to-quality"),
    out: Annotated[Path, typer.Option(help="File of the table (.json).")] = RESULTS,
) -> None:
    """Train each recipe for a number of minutes, and measure the images that it draws."""
    names = chosen("recipe", recipe, RECIPES)
    chosen("sampler", sampler, SAMPLERS)
    device = machine()
    results = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"rows": [], "seconds a step": {}}
    dataset = load("fashion-mnist", "train")
    speeds = results["seconds a step"].setdefault(device, {})
    for name in names:
        if (work := work_of(RECIPES[name])) not in speeds:
            speeds[work] = round(seconds_a_step(RECIPES[name], dataset), 4)
            typer.echo(f"{work}: {speeds[work]} s a step")
    for name, budget, number in itertools.product(names, minutes, seed):
        model, training = RECIPES[name]
        steps = round(budget * 60 / speeds[work_of(RECIPES[name])])
        folder = run_folder(runs, name, f"{budget:g}", number)
        for key in sampler:
            what = {"recipe": name, "minutes": budget, "steps": steps, "seed": number, "sampler": key, "n": n}
            if any(({"device": device} | what).items() <= row.items() for row in results["rows"]):
                continue
            every = max(1, steps // CHECKPOINTS)
            asked = replace(training, steps=steps, seed=number, checkpoint_every=every, keep=CHECKPOINTS + 1)
            train(model, dataset, asked, folder)
            how = SAMPLERS[key]
            denoise: Denoiser = ddpm.load(folder)
            if how.guide:
                early = ddpm.load(folder / "checkpoints" / f"step-{how.guide * every:08d}")
                denoise = Guided(denoise, early, how.weight)
            images = ddpm.sample(denoise, n, how.walk, how.steps, spacing=how.spacing)
            distance = metrics.frechet_distance(images, weights="EMA")
            typer.echo(f"{name}, {budget:g} minutes, seed {number}: {key}: {distance}")
            row = {
                **what, "loss": f"{last_loss(folder):.4f}", "Frechet distance": f"{distance.value:.2f}",
                "bootstrap sd": f"{distance.spread:.2f}", "floor": f"{distance.floor:.2f}",
                "x0 at T": f"{mean_error_at_the_end(folder):+.3f}", "device": device, "date": date.today().isoformat(),
            }  # fmt: skip
            results |= summary([*results["rows"], row])
            write_json(out, results)
            out.with_suffix(".md").write_text(report(results), encoding="utf-8", newline="\n")


def report(results: dict[str, Any]) -> str:
    """The results as Markdown, for the book."""
    columns = [column for column in results["rows"][0] if column not in ("device", "date")]
    return f"{markdown_table(results['rows'], columns)}\n\n{results['conditions']}\n"


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows in order, and the context that a reader of them needs."""
    order = sorted(rows, key=lambda row: (row["n"], row["minutes"], list(RECIPES).index(row["recipe"]), row["seed"]))
    runs = {(row["recipe"], row["minutes"], row["seed"]) for row in rows}
    return {
        "rows": order,
        "conditions": (
            f"Frechet distance in the frozen 64-feature classifier {FEATURES_SHA256[:8]}, whitened; n images "
            "against all 10,000 test images, 1,000 where recipes and guides are screened and 2,000 where they are "
            "confirmed; EMA weights; seed 0 of the samples; guided from 2/10, weight 2: pushed away from what the "
            "run's own average saw after two tenths of its steps, to twice the difference, in two network calls a "
            "step; floor, n real training images against the same. x0 at T: the mean of what the network says of the "
            "image at T, where nothing of it is left to see, minus the mean of the data, which it should be; blank "
            "where it was not measured. Minutes are steps times the time of one step, measured with nothing beside it."
        ),
        "provenance": measured_with(
            60 * sum(minutes for _, minutes, _ in runs),
            sorted({row["seed"] for row in rows}),
            ", ".join(sorted({row["device"] for row in rows})),
        ),
    }


if __name__ == "__main__":
    typer.run(main)
