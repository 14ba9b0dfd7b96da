"""Training by one process against two, and the arithmetic for many GPUs.

    python benchmarks/scaling.py

The script measures the time of a training step, with the same global batch, by one process of one thread, one process
of two threads and two processes of one thread each, in turns; and the time that two processes take to average the
gradient. From the network's own FLOPs and parameters it then computes what 8 to 64 GPUs exchange in a step, and up to
which batch per GPU the exchange takes longer than the computation. It writes `book/results/scaling.json` and `.md`, in
about five minutes on two CPU cores.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer

from ddpm.companion.long_runs import measured_with
from ddpm.companion.results import markdown_table
from ddpm.data import load
from ddpm.files import write_json
from ddpm.training import train
from ddpm.training.recipes import recipe
from ddpm.unet import feature_maps

RESULTS = Path(__file__).parents[1] / "book" / "results" / "scaling.json"
WAYS = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes, 1 thread each": (2, 1)}
RATE = 0.25 * 989e12  # FLOP/s: a quarter of an H100's dense bfloat16 rate
NVLINK, NETWORK = 300e9, 12.5e9  # bytes/s of a GPU: within its machine of 8, and between machines (100 Gb/s)
IMAGES = 800_000 * 128  # images that Ho et al. (2020) train on for CIFAR-10, at C = 128


def here(base_channels: int, steps: int, folder: Path) -> None:
    """In a launcher's process, measure the seconds of a step and of averaging a gradient of the network's size."""
    model, training = recipe("diffusion", base_channels=base_channels, warmup=1)
    dataset = load("fashion-mnist-embedded", "train", quiet=True)
    seconds = {}
    for count in (4, 4 + steps):
        start = time.perf_counter()
        train(model, dataset, replace(training, steps=count), folder / str(count), progress=False)
        seconds[count] = time.perf_counter() - start
    found = {"step": (seconds[4 + steps] - seconds[4]) / steps, "exchange": 0.0}
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        gradient = torch.ones(sum(weight.numel() for weight in model.network().parameters()))
        times = []
        for _ in range(10):
            start = time.perf_counter()
            torch.distributed.all_reduce(gradient)
            times.append(time.perf_counter() - start)
        found["exchange"] = median(times)
    if os.environ.get("RANK", "0") == "0":
        write_json(folder / "found.json", found)


def measured(processes: int, threads: int, base_channels: int, steps: int) -> dict[str, float]:
    """What `here` finds when this many processes of this many threads run it."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [__file__, "--here", folder, "--base-channels", str(base_channels), "--steps", str(steps)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        subprocess.run(
            [sys.executable, *(launcher if processes > 1 else []), *command],
            check=True, env=environment, capture_output=True,
        )  # fmt: skip
        found: dict[str, float] = json.loads((Path(folder) / "found.json").read_text())
        return found


def forecast(gpus: int, base_channels: int) -> dict[str, Any]:
    """What this many GPUs exchange and compute in a step of `ddpm train`, by arithmetic.

    A ring all-reduce sends 2 (p - 1) / p of the gradient's bytes through every link (Patarasuk & Yuan 2009), and
    the slowest link sets the pace. A training step costs three forward passes, at 2 FLOPs for each multiplication.
    """
    model, _ = recipe("diffusion", base_channels=base_channels)
    maps = feature_maps(model.unet, 32)
    flops = 3 * sum(level.flops for level in maps)
    parameters = sum(weight.numel() for weight in model.network().parameters())
    sent = 2 * (gpus - 1) / gpus * 4 * parameters
    exchange = sent / (NVLINK if gpus <= 8 else NETWORK)
    return {
        "GPUs": gpus,
        "base channels": base_channels,
        "GFLOP an image": f"{flops / 1e9:.1f}",
        "MB sent a step": f"{sent / 1e6:.0f}",
        "ms to send": f"{1e3 * exchange:.2f}",
        "images a GPU that take as long": f"{exchange * RATE / flops:.0f}",
        "minutes for 102 million images": f"{IMAGES * flops / RATE / gpus / 60:.1f}",
    }


def report(results: dict[str, Any]) -> str:
    """The results as Markdown, for the book."""
    tables = (markdown_table(results["rows"]), results["conditions"], markdown_table(results["reckoned"]))
    return "\n\n".join([*tables, results["assumptions"]]) + "\n"


def main(
    base_channels: Annotated[int, typer.Option(min=8, help="Width of the network.")] = 32,
    steps: Annotated[int, typer.Option(min=1, help="Steps in each timing.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="Timings of every way; the ways take turns.")] = 3,
    out: Annotated[Path, typer.Option(help="File of the table (.json); a .md file is written beside it.")] = RESULTS,
    here_in: Annotated[Path | None, typer.Option("--here", hidden=True)] = None,
) -> None:
    """Measure one process against two, and compute what many GPUs would take."""
    if here_in is not None:
        here(base_channels, steps, here_in)
        return
    start = time.perf_counter()
    times: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    for turn in range(rounds):
        for name, (processes, threads) in WAYS.items():
            times[name].append(measured(processes, threads, base_channels, steps))
            typer.echo(f"round {turn + 1} of {rounds}, {name}: {times[name][-1]['step']:.3f} s a step")
    first = [one["step"] for one in times["1 process, 1 thread"]]
    rows = []
    for name, found in times.items():
        gains = sorted(alone / one["step"] for alone, one in zip(first, found, strict=True))
        exchange = median(one["exchange"] for one in found)
        rows.append(
            {
                "ways": name,
                "s a step": f"{median(one['step'] for one in found):.3f}",
                "times as fast": f"{median(gains):.2f} ({gains[0]:.2f} to {gains[-1]:.2f})",
                "ms to average the gradient": f"{1e3 * exchange:.1f}" if exchange else "none",
            }
        )
    results = {
        "rows": rows,
        "conditions": (
            f"Training steps of `ddpm train` at C = {base_channels}, 64 images over all processes, {rounds} rounds in "
            f"turns, {steps} steps each; median, and least and largest of the ratios within a round."
        ),
        "reckoned": [forecast(gpus, width) for width in (64, 128) for gpus in (8, 16, 32, 64)],
        "assumptions": (
            "Reckoned, not measured: every GPU computes at a quarter of an H100's 989 TFLOP/s, sends 300 GB/s to the "
            "others of its machine of 8 and 12.5 GB/s (100 Gb/s) to other machines; gradients are float32. "
            "Left out: the optimiser, and that sending hides behind the backward pass. 102 million images are the "
            "800,000 steps of 128 of Ho et al. (2020) on CIFAR-10, whose network has C = 128."
        ),
        "provenance": measured_with(time.perf_counter() - start, 0),
    }
    write_json(out, results)
    out.with_suffix(".md").write_text(report(results), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    typer.run(main)
