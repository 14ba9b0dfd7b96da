"""Four generative models on equal terms: the same data, parameters, training FLOPs, trials, seeds and number of images.

    python benchmarks/generative_models.py

All models learn from the 10,000 embedded training images in batches of 64. A diffusion model, a GAN (both players
counted), a variational autoencoder and a plain one have equally many parameters, and each is trained for equally many
FLOPs. Both are equal within 5 %, the most over the least; FLOPs are counted as they are dispatched, including the
optimiser's. `check_terms` asserts this before anything is trained. For each kind the same number of settings is tried
at a third of the budget, and the setting with the least Frechet distance is trained in full with every seed. As a
control, one more diffusion model is trained in full on only 100 images.

The script writes `book/results/generative-models.json` after every run. Started again on the same machine, it resumes
where it stopped. `--ship` copies the weights of seed 0 into the package, each with its card.
"""

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, median, stdev
from typing import Annotated, Any

import torch
import typer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import ddpm
from ddpm import metrics
from ddpm.autoencoder import VariationalAutoencoder
from ddpm.companion.results import markdown_table, measured_with
from ddpm.data import Dataset, load, normalise
from ddpm.denoiser import NetworkDenoiser
from ddpm.files import write_atomically, write_json
from ddpm.likelihood import bits_per_dimension, importance_bound, variational_bound
from ddpm.metrics.features import FEATURES, FEATURES_SHA256
from ddpm.noise import PerSampleNoise, StepRandomness
from ddpm.pretrained import MODELS
from ddpm.training import train
from ddpm.training.optimisers import optimiser_of
from ddpm.training.recipes import recipe

RESULTS = Path(__file__).parents[1] / "book" / "results" / "generative-models.json"
BATCH, TOLERANCE = 64, 0.05
WIDTHS: dict[str, dict[str, Any]] = {  # chosen for the same number of parameters
    "diffusion": {"base_channels": 16},
    "gan": {"base_channels": 24, "latent_dim": 32},
    "vae": {"base_channels": 24, "latent_dim": 16},
    "autoencoder": {"base_channels": 24, "latent_dim": 16},
}
TRIALS: dict[str, list[dict[str, Any]]] = {
    "diffusion": [{"learning_rate": rate} for rate in (1e-3, 2e-3, 4e-3, 8e-3)],
    "gan": [{"learning_rate": rate, "r1": r1} for rate, r1 in itertools.product((5e-4, 2e-3), (0.3, 3.0))],
    "vae": [{"learning_rate": rate} for rate in (5e-4, 1e-3, 2e-3, 4e-3)],
    "autoencoder": [{"learning_rate": rate} for rate in (5e-4, 1e-3, 2e-3, 4e-3)],
}
CONTROL, DATA = "diffusion, 100 images", "the training images themselves"


class Flops(TorchDispatchMode):
    """Counts the FLOPs of products and convolutions, including those of gradients and of gradients of gradients."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def cost(kind: str) -> tuple[int, int]:
    """(number of parameters, FLOPs of a training step of all parts) of a kind of model."""
    model, training = recipe(kind, **WIDTHS[kind])
    task = model.task()
    optimisers = {name: optimiser_of(training.optimiser, part.parameters()) for name, part in task.parts.items()}
    images, randomness = torch.zeros(BATCH, 1, 32, 32), StepRandomness(0, 0, BATCH)
    with Flops() as flops:
        for name in task.parts:
            task.loss(name, images, randomness).backward()
            optimisers[name].step()
    return sum(weight.numel() for part in task.parts.values() for weight in part.parameters()), flops.total


def check_terms(steps: int) -> dict[str, dict[str, int]]:
    """Each kind's parameters, steps and training FLOPs, if the diffusion model is trained for `steps` steps.

    Raises:
        ValueError: parameters or FLOPs are not equal within 5 %, or some kinds have more settings to try than others.
    """
    costs = {kind: cost(kind) for kind in WIDTHS}
    budget = steps * costs["diffusion"][1]
    terms = {
        kind: {"parameters": parameters, "steps": round(budget / each), "FLOPs": round(budget / each) * each}
        for kind, (parameters, each) in costs.items()
    }
    for what in ("parameters", "FLOPs"):
        values = {kind: own[what] for kind, own in terms.items()}
        if max(values.values()) > (1 + TOLERANCE) * min(values.values()):
            raise ValueError(f"{what} are {values}; legal is within {TOLERANCE:.0%}, the most over the least")
    if len({len(settings) for settings in TRIALS.values()}) > 1:
        raise ValueError(f"settings tried are {TRIALS}; legal is the same number for each kind")
    return terms


def trained(kind: str, settings: dict[str, Any], steps: int, seed: int, dataset: Dataset, folder: Path) -> Any:
    """Train one model, or resume its training, and load it. A thirtieth of its steps is warm-up."""
    chosen = WIDTHS[kind] | settings | {"steps": steps, "warmup": max(1, steps // 30), "seed": seed}
    model, training = recipe(kind, **chosen, batch_size=BATCH)
    train(model, dataset, training, folder)
    return ddpm.load(folder)


def bits(folder: Path, n: int) -> str:
    """Bits per dimension of n test images of 8 bits: an upper bound in float32, or "none" if it has no such bound."""
    model = ddpm.load(folder, "float32")
    x = normalise(load("fashion-mnist-embedded", "test", quiet=True).images[:n])
    if isinstance(model, NetworkDenoiser):
        x = x.to(model.device)
        nats = variational_bound(model, x, levels=256, randn_like=PerSampleNoise(0), progress=True).total
    elif isinstance(model, VariationalAutoencoder):
        x = x.to(model.device)
        nats = importance_bound(model, x, 1, levels=256, randn_like=PerSampleNoise(0))
    else:
        return "none"
    return f"{bits_per_dimension(nats, x[0].numel()).mean().item():.2f}"


def milliseconds(model: Any) -> float:
    """Milliseconds per image of drawing 64, the median of three after a warm-up; in one call if the model can."""
    chunk = None if isinstance(model, NetworkDenoiser) else 64
    times = []
    for _ in range(4):
        start = time.perf_counter()
        ddpm.sample(model, 64, chunk=chunk).cpu()  # .cpu() waits for a GPU
        times.append(time.perf_counter() - start)
    return median(times[1:]) / 64 * 1000


def measured(images: torch.Tensor, dataset: Dataset) -> dict[str, str]:
    """The metrics of images drawn by a model that was trained on this data set."""
    precision, recall = metrics.precision_and_recall(images, weights="EMA")
    return {
        "Frechet distance": f"{metrics.frechet_distance(images, weights='EMA').value:.2f}",
        "kernel distance x 1,000": f"{metrics.kernel_distance(images, weights='EMA').value:.2f}",
        "precision": f"{precision.value:.3f}",
        "recall": f"{recall.value:.3f}",
        "copying": f"{metrics.copying(images, normalise(dataset.images), weights='EMA').value:.3f}",
    }


def main(
    steps: Annotated[
        int, typer.Option(help="Steps of the diffusion model; the other models' numbers follow from it.")
    ] = 1500,
    seed: Annotated[list[int], typer.Option(help="Seed of the full trainings. Repeat for several.")] = [0, 1, 2],  # noqa: B006
    n: Annotated[
        int, typer.Option("--n", help="Images for each metric, 130 to 2,000; half as many to choose settings.")
    ] = 2000,
    folder: Annotated[Path, typer.Option("--runs", help="Folder for the runs.")] = Path("runs/generative-models"),
    out: Annotated[Path, typer.Option(help="File of the table (.json).")] = RESULTS,
    ship: Annotated[bool, typer.Option("--ship", help="Copy the weights of seed 0 into the package.")] = False,
    models: Annotated[Path, typer.Option(help="Folder of the shipped models.")] = MODELS,
) -> None:
    """Try settings, train each kind in full with every seed, and measure; two and a half hours on two CPU cores."""
    if not n // 2 > FEATURES or n > 2000:
        raise typer.BadParameter(f"n is {n}; legal are {2 * FEATURES + 2} to 2,000")
    terms = {"n": n, "models": check_terms(steps), "settings tried": TRIALS}
    results = (
        json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"terms": terms, "trials": [], "rows": []}
    )
    if results["terms"] != terms:
        raise typer.BadParameter(f"out is {str(out)!r}; it holds runs on other terms: name another file")
    dataset = load("fashion-mnist-embedded", "train")

    def keep(table: str, start: float, **row: Any) -> None:
        row["seconds"] = round(time.perf_counter() - start)
        typer.echo(row)
        results[table].append(row)
        write_json(out, results | conditions(results, n))

    for kind, settings in [(name, settings) for name in WIDTHS for settings in TRIALS[name]]:
        if any((trial["model"], trial["settings"]) == (kind, settings) for trial in results["trials"]):
            continue
        start, here = time.perf_counter(), folder / f"trial-{kind}-{TRIALS[kind].index(settings)}"
        model = trained(kind, settings, terms["models"][kind]["steps"] // 3, 0, dataset, here)
        distance = metrics.frechet_distance(ddpm.sample(model, n // 2), weights="EMA")
        keep("trials", start, model=kind, settings=settings, **{"Frechet distance": round(distance.value, 2)})
    few = replace(dataset, images=dataset.images[::100], labels=dataset.labels[::100])
    for name, number in [*itertools.product(WIDTHS, seed), (CONTROL, 0), (DATA, 0)]:
        if any((row["model"], row["seed"]) == (name, number) for row in results["rows"]):
            continue
        start, images = time.perf_counter(), few if name == CONTROL else dataset
        if name == DATA:
            drawn = normalise(
                images.images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:n]]
            )
            own = {"bits a dimension": "none", "ms an image": "none"}
        else:
            kind = name.split(",")[0]
            tried = [trial for trial in results["trials"] if trial["model"] == kind]
            best = min(tried, key=lambda trial: trial["Frechet distance"])["settings"]
            here = folder / f"{name.replace(', ', '-').replace(' ', '-')}-{number}"
            model = trained(kind, best, terms["models"][kind]["steps"], number, images, here)
            drawn = ddpm.sample(model, n)
            own = {"bits a dimension": bits(here, 100), "ms an image": f"{milliseconds(model):.1f}"}
        keep("rows", start, model=name, seed=number, **measured(drawn, images), **own)
    if ship:
        ship_models(folder, models, results)


def ship_models(folder: Path, models: Path, results: dict[str, Any]) -> None:
    """Copy the weights of seed 0 into the package, each with its card."""
    for kind in WIDTHS:
        shipped = models / f"equal-{kind}"
        for name in ("model.safetensors", "config.json"):
            write_atomically(shipped / name, (folder / f"{kind}-0" / name).read_bytes())
        write_atomically(shipped / "card.md", card(kind, results).encode())
        typer.echo(f"shipped: {shipped}")


def table(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Each model's metrics: the mean over the seeds, and the standard deviation where there are several."""
    lines = []
    for name in dict.fromkeys(row["model"] for row in rows):
        runs = [row for row in rows if row["model"] == name]
        line = {"model": name}
        for figure in (key for key in runs[0] if key not in ("model", "seed", "seconds")):
            texts = [str(run[figure]) for run in runs]
            digits = len(texts[0].partition(".")[2])
            if texts[0] == "none" or len(texts) == 1:
                line[figure] = texts[0]
            else:
                values = [float(text) for text in texts]
                line[figure] = f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"
        lines.append(line)
    return lines


def card(kind: str, results: dict[str, Any]) -> str:
    """The card of a shipped model: what it is and how good it is, as Markdown."""
    terms, provenance = results["terms"]["models"][kind], results["provenance"]
    tried = [trial for trial in results["trials"] if trial["model"] == kind]
    best = min(tried, key=lambda trial: trial["Frechet distance"])
    settings = ", ".join(f"{name} {value:g}" for name, value in best["settings"].items())
    (own,) = [row for row in results["rows"] if (row["model"], row["seed"]) == (kind, 0)]
    (floor,) = [row for row in results["rows"] if row["model"] == DATA]
    figures = {name: value for name, value in own.items() if name not in ("model", "seed", "seconds")}
    return f"""# equal-{kind}

One of four models of Fashion-MNIST that are compared on equal terms: as many parameters, training images and FLOPs.
The other three: {", ".join(f"equal-{other}" for other in WIDTHS if other != kind)}.

| | |
| --- | --- |
| model | {kind}, {terms["parameters"]:,} parameters |
| data | the 10,000 embedded training images, padded to 32 x 32, in [-1, 1], no augmentation |
| steps | {terms["steps"]:,} of batch {BATCH}, {terms["FLOPs"] / 1e12:.0f} TFLOP, from random weights, seed 0 |
| settings | {settings}: the best of {len(tried)} tried at a third of the budget; the rest is `ddpm train`'s own |
| EMA | 0.999, with warm-up; the averaged weights are the ones here |
| device | {provenance["device"]}, torch {provenance["versions"]["torch"]}, {provenance["date"]} |

{markdown_table([figures])}

Frechet distance of {results["terms"]["n"]:,} real training images, the floor: {floor["Frechet distance"]}. {
        results["conditions"]
    }

```sh
python benchmarks/generative_models.py --ship
```
"""


def conditions(results: dict[str, Any], n: int) -> dict[str, Any]:
    """The context that a reader of the rows needs."""
    return {
        "table": table(results["rows"]),
        "conditions": (
            f"Trained on the 10,000 embedded training images in batches of {BATCH}, with as many parameters (a GAN's "
            f"both players counted) and for as many FLOPs, of products and convolutions, within {TOLERANCE:.0%}. Of "
            f"every kind {len(TRIALS['diffusion'])} settings were tried at a third of the budget, and the one with "
            "the least Frechet distance to the same test images was taken; diffusion's recipe had been chosen among "
            f"eleven before, on all 60,000 training images. EMA weights; {n:,} images, seed 0 of the samples. Frechet "
            f"distance against all 10,000 test images, the rest against the first {n:,} embedded ones, in the frozen "
            f"64-feature classifier {FEATURES_SHA256[:8]}, whitened; precision and recall with 3 neighbours. Copying: "
            "0.5 is as new as test images, 1 all copies. The training images themselves are the floor of a distance, "
            "and say what real images reach in the rest. Bits a dimension: one draw of the variational bound of 100 "
            "test images of 8 bits, in float32. Diffusion draws by DDIM in 50 steps on the trailing grid, in bfloat16 "
            "where the hardware has it; a plain autoencoder has no density of codes, here they are drawn from N(0, I) "
            "all the same."
        ),
        "provenance": measured_with(
            "python benchmarks/generative_models.py",
            sum(row["seconds"] for row in results["trials"] + results["rows"]),
            sorted({row["seed"] for row in results["rows"]}),
        ),
    }


if __name__ == "__main__":
    typer.run(main)
