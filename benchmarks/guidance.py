"""What guidance does to garments: distances, precision, recall and accuracy of a model that is told classes.

    python benchmarks/guidance.py fashion-mnist-classes

All rows but two are told the same classes, and all walk with DPM-Solver++(2M) on Karras's grid. They differ in what the
prediction is pushed away from (`ddpm.denoiser.Guided`): what the same network says when it is told no class, at every
sigma or at some only (Kynkäänniemi et al. 2024), what a worse model says, both, or nothing. The script writes
`book/results/guidance.json` after every row. Started again for the same weights, it resumes where it stopped;
a file of other weights, steps or numbers of images it refuses.
"""

import math
import time
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from torch import Tensor

import ddpm
from ddpm import data, metrics
from ddpm.companion.long_runs import chosen, kept_rows, machine, measured_with, over_seeds, processor, weights_hash
from ddpm.denoiser import Conditional, Denoiser, Guided, Wrapper
from ddpm.files import write_json
from ddpm.metrics.features import FEATURES, FEATURES_SHA256
from ddpm.metrics.judge import JUDGE_SHA256
from ddpm.targets import Prediction

RESULTS = Path(__file__).parents[1] / "book" / "results" / "guidance.json"
GUIDE, CLASSLESS = "equal-diffusion", "fashion-mnist"  # neither knows classes
INTERVALS = ((0.2, 2.0), (0.2, 6.0), (0.5, 2.0), (0.5, 6.0))
#: The measures, and whether less or more of each is better.
MEASURES = {
    "Frechet distance": min, "kernel distance x 1,000": min, "precision": max, "recall": max, "accuracy": max
}  # fmt: skip


class Row(NamedTuple):
    """How a row's images are drawn. A weight of 1 is no guidance, and calls no guide."""

    weight: float = 1.0  # against the same network that is told no class
    interval: tuple[float, float] | None = None  # the sigma at which that is done; None for all
    worse: float = 1.0  # against the worse model
    is_told: bool = True
    is_classless: bool = False  # drawn by the shipped network that has no classes
    moves: float = 1.0  # times those of the table

    def steps(self, steps: int) -> int:
        """The row's moves in a table of so many."""
        return max(1, round(self.moves * steps))


NO_CLASS, NO_CLASSES, BOTH = "none, no class told", "none, a network without classes", "both"
ROWS = {
    NO_CLASS: Row(is_told=False),
    NO_CLASSES: Row(is_told=False, is_classless=True),
    "none": Row(),
    "none, twice the moves": Row(moves=2),  # as many calls as guidance everywhere takes
    **{f"classes, w = {w:g}": Row(w) for w in (1.5, 2, 3, 4, 6, 8)},
    **{f"classes, w = {w}, sigma {low:g} to {high:g}": Row(w, (low, high)) for w in (2, 4) for low, high in INTERVALS},
    **{f"a worse model, w = {w:g}": Row(worse=w) for w in (1.3, 1.6, 2)},
    BOTH: Row(2, worse=1.6, moves=2 / 3),  # three calls a move
}


class Counted(Wrapper):
    """A denoiser that notes the size of the batch in every call, in a list that it shares with its parts."""

    def __init__(self, denoise: Denoiser, batches: list[int]) -> None:
        super().__init__(denoise)
        self.batches = batches

    def __call__(self, x: Tensor, t: float | Tensor) -> Prediction:
        self.batches.append(len(x))
        return super().__call__(x, t)


def main(
    model: Annotated[
        str, typer.Argument(help="A conditional model: a shipped one's name, or a run of `ddpm train --conditional`.")
    ],
    n: Annotated[int, typer.Option("--n", min=FEATURES + 1, max=2000, help="Images for each row.")] = 2000,
    row: Annotated[
        list[str] | None, typer.Option(help="Row of the table. Repeat for several; all of them if none is given.")
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Seed of all noise. Repeat for several; 0, 1 and 2 if none is given."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Moves for each image.")] = 15,
    out: Annotated[Path, typer.Option(help="File of the table (.json).")] = RESULTS,
) -> None:
    """Measure every row; three hours on one CPU thread with a network of the shipped size."""
    names = chosen("row", row, ROWS)
    denoise, guide, classless = (ddpm.load(name) for name in (model, GUIDE, CLASSLESS))
    if denoise.classes != data.CLASSES:
        raise typer.BadParameter(f"model is {model!r}; it must be one that is told the classes of Fashion-MNIST")
    hashes = {"weights": weights_hash(model), "guide": weights_hash(GUIDE), "classless": weights_hash(CLASSLESS)}
    what = hashes | {"n": n, "steps": steps}
    rows = kept_rows(out, what, by=("guidance", "seed"))
    labels = torch.arange(n) % len(data.CLASSES)
    for one, name in [(one, name) for one in seed or (0, 1, 2) for name in names]:
        if (name, one) in rows:
            continue
        batches: list[int] = []
        guided = guided_as(ROWS[name], classless if ROWS[name].is_classless else denoise, guide, labels, batches)
        moves = ROWS[name].steps(steps)
        start = time.perf_counter()
        images = ddpm.sample(guided, n, "dpm_solver_pp", moves, one, spacing="karras").clamp(-1, 1)
        seconds = time.perf_counter() - start
        measures, of_real = measured(images)
        told = {"accuracy": f"{metrics.accuracy(images, labels):.3f}" if ROWS[name].is_told else ""}
        calls = {"network calls": calls_of(batches, n), "seed": one}
        rows[name, one] = {"guidance": name, **calls, **measures, **told, "seconds": f"{seconds:.0f}"}
        typer.echo(", ".join(f"{column}: {value}" for column, value in rows[name, one].items()))
        write_json(out, with_conditions(list(rows.values()), of_real, what))


def guided_as(row: Row, model: Conditional, guide: Denoiser, labels: Tensor, batches: list[int]) -> Denoiser:
    """The denoiser that draws a row's images, of these labels (n,). Every network call adds its batch to the list."""
    untold = Counted(model.given(None), batches)
    told = Counted(model.given(labels), batches) if row.is_told else untold
    by_classes = Guided(told, untold, row.weight, row.interval)
    return Guided(by_classes, Counted(guide, batches), row.worse)


def calls_of(batches: list[int], n: int) -> int:
    """The network calls that each of n images took, of the batches of all calls; the last batch is filled up."""
    return len(batches) // math.ceil(n / batches[0])


def measured(images: Tensor) -> tuple[dict[str, str], dict[str, str]]:
    """Measures of images (n, 1, 32, 32) in [-1, 1] that need no labels, and those of n real training images."""
    distance = metrics.frechet_distance(images, weights="EMA")
    kernel = metrics.kernel_distance(images, weights="EMA")
    precision, recall = metrics.precision_and_recall(images, weights="EMA")
    values = {
        "Frechet distance": f"{distance.value:.2f}",
        "bootstrap sd": f"{distance.spread:.2f}",
        "kernel distance x 1,000": f"{kernel.value:.2f}",
        "precision": f"{precision.value:.3f}",
        "recall": f"{recall.value:.3f}",
    }
    of_real = {
        "Frechet distance": f"{distance.floor:.2f}",
        "kernel distance x 1,000": f"{kernel.floor:.2f}",
        "precision": f"{precision.floor:.3f}",
        "recall": f"{recall.floor:.3f}",
        "accuracy": f"{accuracy_of_real(len(images)):.3f}",
    }
    return values, of_real


@cache
def accuracy_of_real(n: int) -> float:
    """The share of n real training images in which the judge sees their class."""
    real = data.load("fashion-mnist-embedded", "train", quiet=True)
    return metrics.accuracy(data.normalise(real.images[:n]), real.labels[:n])


def with_conditions(rows: list[dict[str, Any]], of_real: dict[str, str], what: dict[str, Any]) -> dict[str, Any]:
    """All that the file of results holds."""
    ordered = sorted(rows, key=lambda row: (list(ROWS).index(row["guidance"]), row["seed"]))
    made = measured_with(
        sum(float(row["seconds"]) for row in ordered),
        sorted({row["seed"] for row in ordered}),
    )
    n, steps = what["n"], what["steps"]
    return {
        "table": over_seeds(ordered, ("guidance", "network calls"), tuple(MEASURES)),
        "best": best(ordered),
        "rows": ordered,
        "real images": of_real,
        "conditions": (
            f"{n:,} images in each row, image i of class i modulo 10; EMA weights {what['weights'][:8]}. "
            f"All are drawn with DPM-Solver++(2M) on Karras's grid, in {steps} moves where nothing else is said. "
            "Rows with the same seed begin from the same noise. "
            "The weight of guidance is w, and 1 is none. "
            f"A network without classes: {CLASSLESS}, weights {what['classless'][:8]}. "
            "Classes: a network that is told the class is pushed away from the same network that is told none. "
            "With a range of sigma this is done there alone, and elsewhere only the told network is called. "
            f"A worse model: the push is away from {GUIDE}, weights {what['guide'][:8]}, which knows no classes. "
            f"Both: away from no class with weight {ROWS[BOTH].weight:g}, and the result away from the worse model "
            f"with weight {ROWS[BOTH].worse:g}. "
            f"That takes three calls a move, so there are {ROWS[BOTH].steps(steps)} moves. "
            f"Twice the moves are {2 * steps}, which take as many calls as guidance by classes at every sigma. "
            "Network calls are those that one image took, counted; one of the worse model counts like any other. "
            f"Distances, precision and recall are in the frozen 64-feature classifier {FEATURES_SHA256[:8]}, whitened. "
            "The Frechet distance is to all 10,000 test images. "
            f"The kernel distance, precision and recall (3 neighbours) are to the first {n:,} of the embedded ones. "
            f"Accuracy: in how many images a second frozen classifier, {JUDGE_SHA256[:8]}, sees the class that was "
            "asked for. "
            "Bootstrap sd: how much a Frechet distance scatters when the images are drawn again from the set (the "
            "first seed's). "
            "With several seeds of the samples a value is their mean ± their standard deviation. "
            "The best row of a measure is chosen on seed 0. Another seed confirms it if no row is better there. "
            f"The floor, which is what {n:,} real training images have: "
            f"{', '.join(f'{name} {value}' for name, value in of_real.items())}. "
            f"On {machine()} ({processor()}), {date.today()}."
        ),
        "provenance": made | what,
    }


def best(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each measure the row that is best on seed 0, and the other seeds: those where no row is better, and the rest.

    A seed counts once it has all the rows that seed 0 has. Among equal rows of seed 0 the one that comes first is best.
    """
    lines = []
    for measure, best_of in MEASURES.items():
        values: dict[int, dict[str, float]] = {}
        for row in rows:
            if row[measure]:
                values.setdefault(row["seed"], {})[row["guidance"]] = float(row[measure])
        chosen_on = values.pop(0, {})
        if not chosen_on:
            continue
        name = best_of(chosen_on, key=chosen_on.__getitem__)
        confirms = {
            seed: own[name] == best_of(own[other] for other in chosen_on)
            for seed, own in values.items()
            if own.keys() >= chosen_on.keys()
        }
        lines.append(
            {
                "measure": measure,
                "best on seed 0": name,
                "confirmed by seeds": [seed for seed, does in confirms.items() if does],
                "not confirmed by seeds": [seed for seed, does in confirms.items() if not does],
            }
        )
    return lines


if __name__ == "__main__":
    typer.run(main)
