"""What each part of the UNet is worth: the same training with and without it, with several seeds, paired by seed.

    python benchmarks/ablations.py

The network without attention has a wider lowest level, so that it has about as many parameters. Every run is trained by
`ddpm.training.train`; runs of one seed see the same images, times and noise. The script writes
`book/results/ablations.json` after every run. Started again, it resumes where it stopped, within a
run at its last checkpoint.
"""

import itertools
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import ddpm
from ddpm import metrics
from ddpm.companion.long_runs import chosen, forward_cost, kept_rows, measured_with, run_folder
from ddpm.data import load, normalise
from ddpm.denoiser import NetworkDenoiser
from ddpm.diffusion import DiffusionConfig
from ddpm.files import write_json
from ddpm.metrics.features import FEATURES, FEATURES_SHA256
from ddpm.noise import StepRandomness
from ddpm.training import train
from ddpm.training.recipes import recipe
from ddpm.unet import UNet

RESULTS = Path(__file__).parents[1] / "book" / "results" / "ablations.json"

WHOLE: dict[str, Any] = {"base_channels": 8, "channel_multipliers": (4, 8, 16)}
NETWORKS: dict[str, dict[str, Any]] = {  # name in the table: settings of the recipe
    "whole": WHOLE,
    "no attention, as many parameters": {
        "base_channels": 8, "channel_multipliers": (4, 8, 17), "attention_levels": (), "middle_attention": False,
    },
    "not told the time": {**WHOLE, "time_conditioning": "none"},
    "no skips": {**WHOLE, "skips": False},
}  # fmt: skip


@torch.no_grad()
def held_out_loss(denoise: NetworkDenoiser, model: DiffusionConfig, n: int) -> float:
    """Mean squared error of the target over n test images and uniform times; every network gets the same draws."""
    task = replace(model, times="uniform").task()
    task.parts["unet"] = denoise.network
    images = normalise(load("fashion-mnist-embedded", "test", quiet=True).images[:n])
    losses = [
        task.loss("unet", batch, StepRandomness(0, step, len(batch))) * len(batch)
        for step, batch in enumerate(images.to(denoise.device).split(100))
    ]
    return (torch.stack(losses).sum() / len(images)).item()


def measured(folder: Path, model: DiffusionConfig, n: int) -> dict[str, Any]:
    """A finished run's held-out loss in float32, and the distances of the images that two samplers draw with it."""
    drawn = {
        sampler: metrics.frechet_distance(ddpm.sample(ddpm.load(folder), n, sampler, 20), weights="EMA")
        for sampler in ("ddim", "ancestral")
    }
    return {
        "held-out loss": f"{held_out_loss(ddpm.load(folder, 'float32'), model, n):.5f}",
        **{f"distance, {sampler} 20": f"{distance.value:.2f}" for sampler, distance in drawn.items()},
        "floor": f"{drawn['ddim'].floor:.2f}",
    }


def main(
    network: Annotated[
        list[str] | None, typer.Option(help="Network of the table. Repeat for several; all of them if none is given.")
    ] = None,
    seed: Annotated[list[int], typer.Option(min=0, help="Seed of the training. Repeat for several.")] = [0, 1, 2],  # noqa: B006
    steps: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 600,
    n: Annotated[
        int, typer.Option("--n", min=FEATURES + 1, max=2000, help="Images for each distance and for the held-out loss.")
    ] = 1000,
    data: Annotated[str, typer.Option(help="Data set: fashion-mnist or fashion-mnist-embedded.")] = "fashion-mnist",
    folder: Annotated[Path, typer.Option("--runs", help="Folder for the runs.")] = Path("runs/ablations"),
    out: Annotated[Path, typer.Option(help="File of the table (.json).")] = RESULTS,
) -> None:
    """Train the UNet whole and without each of its parts; a run takes about eleven minutes on two CPU threads."""
    names = chosen("network", network, NETWORKS)
    by = ("network", "seed", "steps", "n", "data")
    rows = kept_rows(out, {}, by)  # every row names its own conditions
    dataset = load(data, "train")
    for number, name in itertools.product(seed, names):  # after each seed the rows can be compared
        what = {"network": name, "seed": number, "steps": steps, "n": n, "data": data}
        if tuple(what.values()) in rows:
            continue
        start = time.perf_counter()
        model, training = recipe("diffusion", **NETWORKS[name], steps=steps, seed=number)
        here = run_folder(folder, name, data, steps, number)
        train(model, dataset, training, here)
        parameters, flops = forward_cost(partial(UNet, model.unet))
        row = {
            **what, "parameters": f"{parameters:,}", "MFLOP": round(flops / 1e6),
            **measured(here, model, n), "seconds": round(time.perf_counter() - start),
        }  # fmt: skip
        typer.echo(row)
        rows[tuple(what.values())] = row
        ordered = sorted(
            rows.values(), key=lambda row: (row["steps"], list(NETWORKS).index(row["network"]), row["seed"])
        )
        write_json(out, {"rows": ordered, **conditions(ordered)})


def conditions(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The context that a reader of the rows needs."""
    n = " or ".join(f"{n:,}" for n in sorted({row["n"] for row in rows}))
    floors = " or ".join(sorted({row["floor"] for row in rows}))
    return {
        "conditions": (
            "Widths 32, 64 and 128 (136 without attention) as multiples of 8, so that norms have two groups and the "
            "time eight sinusoids, fewer than in the shipped model; one block a level; the network without skips has "
            "fewer parameters. v, log-normal and a tenth of uniform times, Muon at 2e-3, batch 64. Held-out loss: mean "
            f"squared error of v over {n} test images and uniform times, float32, the same noise for every network. "
            f"Frechet distance in the frozen 64-feature classifier {FEATURES_SHA256[:8]}, whitened; {n} images "
            f"against all 10,000 test images; EMA weights; seed 0 of the samples; floor {floors}, of {n} real "
            "training images against the same."
        ),
        "provenance": measured_with(
            sum(row["seconds"] for row in rows),
            sorted({row["seed"] for row in rows}),
        ),
    }


if __name__ == "__main__":
    typer.run(main)
