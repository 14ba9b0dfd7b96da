"""A diffusion transformer in the UNet's place, at equal minutes of training.

    python benchmarks/transformer.py

The transformer is that of Peebles & Xie (2023), without classes. To the package it is a network of one's own (see
`book/own_parts.md`), and so is the UNet here: their runs open with `ddpm.load(folder, network=...)`. All else is alike:
images, target, times, optimiser, averages. The rate is each network's own: all are tried on the first seed, and the
one whose images are nearest to the test images is trained on the others, too.

A network trains for as many steps as fit into the minutes, by its own time for a step. Those times are measured once,
in turn and with nothing running beside them, and kept, so that a run that is disturbed later does the same work. The
script writes `book/results/transformer.json` after every run. Started again, it resumes where it stopped, within a run
at its last checkpoint.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from einops import rearrange
from torch import Tensor, nn

import ddpm
from ddpm import metrics
from ddpm.companion.long_runs import (
    chosen,
    forward_cost,
    kept_rows,
    last_loss,
    machine,
    measured_with,
    over_seeds,
    processor,
    run_folder,
)
from ddpm.data import Dataset, load
from ddpm.diffusion import Diffusion, DiffusionConfig
from ddpm.files import read_json, write_json
from ddpm.metrics.features import FEATURES, FEATURES_SHA256
from ddpm.training import train
from ddpm.training.config import TrainingConfig
from ddpm.unet import UNetConfig
from ddpm.unet.blocks import attention, sinusoids

RESULTS = Path(__file__).parents[1] / "book" / "results" / "transformer.json"
TIME_WIDTH = 256  # of the sinusoids that the time becomes
HEAD = 32  # numbers in a head of attention
RATES, SEEDS = [1e-3, 2e-3, 4e-3, 8e-3, 16e-3], [0, 1, 2]
ROUNDS = 3  # in which the time of a step is measured


class Block(nn.Module):
    """Self-attention and a two-layer perceptron, each scaled, shifted and gated by the time ("adaLN-Zero").

    Args:
        width: numbers in a token.
        heads: heads of attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)  # no weights: one serves both
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Linear(width, 6 * width)
        set_to_zero(self.modulation)  # so every block begins as the identity

    def forward(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        shift, scale, gate, shift_2, scale_2, gate_2 = self.modulation(embedding)[:, None].chunk(6, dim=-1)
        tokens = tokens + gate * self.attended(self.norm(tokens) * (1 + scale) + shift)
        out: Tensor = tokens + gate_2 * self.perceptron(self.norm(tokens) * (1 + scale_2) + shift_2)
        return out

    def attended(self, tokens: Tensor) -> Tensor:
        """Multi-head self-attention over all tokens (batch, tokens, width)."""
        projected = (project(tokens) for project in (self.query, self.key, self.value))
        q, k, v = (rearrange(p, "b n (heads d) -> b heads n d", heads=self.heads) for p in projected)
        out: Tensor = self.out(rearrange(attention(q, k, v), "b heads n d -> b n (heads d)"))
        return out


class Transformer(nn.Module):
    """Image (batch, channels, side, side) and time (batch,) -> an image of the same shape.

    The image is cut into square patches. Each becomes a token, and knows its place by sinusoids that are added to it.

    Args:
        patch: side of a patch, which divides the image's.
        width: numbers in a token, a multiple of 32, as a head of attention has 32.
        depth: number of blocks.
        channels: channels of the image.
        side: side of the image.

    Raises:
        ValueError: the image cannot be cut so, or the width is no such multiple.
    """

    def __init__(self, patch: int, width: int, depth: int, channels: int = 1, side: int = 32) -> None:
        super().__init__()
        if side % patch:
            raise ValueError(f"patch is {patch}; it must divide side, which is {side}")
        if width % HEAD:
            raise ValueError(f"width is {width}; it must be a multiple of {HEAD}")
        self.patch, numbers = patch, channels * patch**2
        self.embed = nn.Linear(numbers, width)
        self.register_buffer("places", places(side // patch, width))
        self.time = nn.Sequential(nn.Linear(TIME_WIDTH, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.blocks = nn.ModuleList(Block(width, width // HEAD) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation, self.out = nn.Linear(width, 2 * width), nn.Linear(width, numbers)
        set_to_zero(self.modulation)
        set_to_zero(self.out)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        height = x.shape[2] // self.patch
        patches = rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=self.patch, q=self.patch)
        tokens, embedding = self.embed(patches) + self.places, self.time(sinusoids(t, TIME_WIDTH))
        for block in self.blocks:
            tokens = block(tokens, embedding)
        shift, scale = self.modulation(embedding)[:, None].chunk(2, dim=-1)
        patches = self.out(self.norm(tokens) * (1 + scale) + shift)
        return rearrange(patches, "b (h w) (p q c) -> b c (h p) (w q)", h=height, p=self.patch, q=self.patch)


def places(side: int, width: int) -> Tensor:
    """(side * side, width): sinusoids of every patch's column and row, in the order of the tokens."""
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.cat([sinusoids(column.flatten(), width // 2), sinusoids(row.flatten(), width // 2)], dim=-1)


def set_to_zero(layer: nn.Linear) -> None:
    """Let a layer begin at zero, whatever it is given."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


MODEL = DiffusionConfig(UNetConfig(blocks_per_level=1), target="v", times="lognormal")
TRAINING = TrainingConfig(optimiser="muon", warmup=50, checkpoint_every=100)
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "UNet": MODEL.network,
    "transformer, patches of 4 x 4": partial(Transformer, patch=4, width=192, depth=6),
    "transformer, patches of 2 x 2": partial(Transformer, patch=2, width=128, depth=6),
}


def seconds_a_step(dataset: Dataset) -> dict[str, float]:
    """Seconds for a step of each network, the median of rounds in which they take turns.

    It is what a run of 24 steps takes longer than one of 8, over 16, which leaves out what a run costs only once.
    """
    rounds = [
        {name: (_seconds(make, 24, dataset) - _seconds(make, 8, dataset)) / 16 for name, make in NETWORKS.items()}
        for _ in range(ROUNDS)
    ]
    return {name: round(median(each[name] for each in rounds), 4) for name in NETWORKS}


def _seconds(make: Callable[[], nn.Module], steps: int, dataset: Dataset) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        trained(make, replace(TRAINING, steps=steps), dataset, Path(folder), progress=False)
        return time.perf_counter() - start


def trained(
    make: Callable[[], nn.Module], training: TrainingConfig, dataset: Dataset, folder: Path, progress: bool = True
) -> None:
    """Train a network to the end, or go on where it stopped."""
    train(MODEL, dataset, training, folder, progress=progress, make_task=lambda: Diffusion(MODEL, make()))


def main(
    minutes: Annotated[float, typer.Option(min=0.001, help="Minutes of each training.")] = 5,
    network: Annotated[
        list[str] | None, typer.Option(help="Network to train. Repeat for several; all of them if none is given.")
    ] = None,
    learning_rate: Annotated[list[float], typer.Option(help="Rate to try. Repeat for several.")] = RATES,
    seed: Annotated[list[int], typer.Option(min=0, help="Seed of the training. Repeat for several.")] = SEEDS,
    n: Annotated[int, typer.Option("--n", min=FEATURES + 1, max=60_000, help="Images for each distance.")] = 2000,
    data: Annotated[str, typer.Option(help="Data set, as in ddpm train.")] = "fashion-mnist",
    runs: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs/transformer"),
    out: Annotated[Path, typer.Option(help="File of the table (.json).")] = RESULTS,
) -> None:
    """Train every network for a number of minutes, and measure the images that it draws."""
    names = chosen("network", network, NETWORKS)
    what = {"minutes": minutes, "n": n, "data": data, "device": machine()}
    rows = kept_rows(out, what, by=("network", "learning rate", "seed"))
    dataset = load(data, "train")
    if not out.exists():
        timed = {"seconds a step": seconds_a_step(dataset), "timed on": processor()}
        write_json(out, {"rows": [], **timed, "provenance": what})
    timed = {key: read_json(out)[key] for key in ("seconds a step", "timed on")}
    speeds = timed["seconds a step"]

    def row_of(name: str, rate: float, number: int) -> dict[str, Any]:
        if (name, rate, number) not in rows:
            folder = run_folder(runs, name, f"{minutes:g}", data, rate, number)
            steps = max(1, round(60 * minutes / speeds[name]))
            training = replace(TRAINING, learning_rate=rate, steps=steps, seed=number)
            trained(NETWORKS[name], training, dataset, folder)
            rows[name, rate, number] = measured(name, training, folder, n) | {"seconds a step": f"{speeds[name]:.3f}"}
            write_json(out, with_conditions(list(rows.values()), timed, what))
        return rows[name, rate, number]

    for name in names:
        tried = [row_of(name, rate, seed[0]) for rate in learning_rate]
        best = min(tried, key=lambda row: float(row["Frechet distance"]))
        for number in seed[1:]:
            row_of(name, best["learning rate"], number)


def measured(name: str, training: TrainingConfig, folder: Path, n: int) -> dict[str, Any]:
    """A row of the table: a trained network, and the n images that it draws."""
    denoise = ddpm.load(folder.resolve(), network=NETWORKS[name]())
    images = ddpm.sample(denoise, n, "dpm_solver_pp", 20, spacing="karras")
    distance = metrics.frechet_distance(images, weights="EMA")
    typer.echo(f"{name}, rate {training.learning_rate:g}, seed {training.seed}: {distance}")
    parameters, flops = forward_cost(NETWORKS[name])
    return {
        "network": name,
        "parameters": f"{parameters / 1e6:.2f} M",
        "FLOPs an image": f"{flops / 1e6:.0f} M",
        "steps": training.steps,
        "learning rate": training.learning_rate,
        "seed": training.seed,
        "loss": f"{last_loss(folder):.4f}",
        "Frechet distance": f"{distance.value:.2f}",
        "bootstrap sd": f"{distance.spread:.2f}",
        "floor": f"{distance.floor:.2f}",
        "processor": processor(),
    }


def with_conditions(rows: list[dict[str, Any]], timed: dict[str, Any], what: dict[str, Any]) -> dict[str, Any]:
    """All that the file of results holds."""
    ordered = sorted(rows, key=lambda row: (list(NETWORKS).index(row["network"]), row["learning rate"], row["seed"]))
    columns = ("network", "parameters", "FLOPs an image", "seconds a step", "steps", "learning rate")
    floor = ordered[0]["floor"]
    processors = "; ".join(sorted({row["processor"] for row in rows}))
    made = measured_with(60 * what["minutes"] * len(rows), sorted({row["seed"] for row in rows}))
    return {
        "table": over_seeds(ordered, columns, ("loss", "Frechet distance")),
        "rows": ordered,
        **timed,
        "floor": floor,
        "conditions": (
            f"Frechet distance in the frozen 64-feature classifier {FEATURES_SHA256[:8]}, whitened; {what['n']:,} "
            "images against all 10,000 test images; EMA weights; 20 steps of DPM-Solver++(2M) on Karras's grid, seed 0 "
            f"of the samples. Every network is trained for {what['minutes']:g} minutes, which are steps times the time "
            f"of one, measured on {timed['timed on']} with nothing beside it: in steps of {TRAINING.batch_size} images "
            "of 32 x 32, to predict v at log-normal times, by Muon. The rates that are listed are tried on the first "
            "seed of the training. The one whose images are nearest to the test images is taken on the others, too, "
            "which flatters the first seed. Loss: its mean over the last tenth of the steps. Transformers are those "
            "of Peebles & Xie (2023), six blocks of 192 numbers a token, or of 128 with patches of 2 x 2. With "
            "several seeds, loss and distance are their mean ± their standard deviation. Bootstrap sd: how much a "
            "distance scatters when the "
            f"images are drawn again from the set (the first seed's). The floor, {what['n']:,} real training images "
            f"against the same: {floor}. On {machine()} ({processors}), "
            f"{date.today()}."
        ),
        "provenance": made | what,
    }


if __name__ == "__main__":
    typer.run(main)
