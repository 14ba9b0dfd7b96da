"""Four generative models on equal terms: the same data, parameters, training FLOPs, trials, seeds and number of images.

    python benchmarks/generative_models.py

The protocol, which `check_terms` asserts before anything is trained: all learn from the 10,000 embedded training
images in batches of 64; a diffusion model, an autoencoder, a variational one and a GAN have as many parameters within
5 %; each is trained for as many FLOPs within 5 %, counted. Of each the same number of settings is tried at a third of
the budget; the one with the least Frechet distance is trained in full with three seeds. Writes
`book/results/generative-models.json` after every run; started again on the same machine it goes on where it stopped.
"""

import itertools
import json
import platform
import time
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

import ddpm
from ddpm import metrics
from ddpm.autoencoder import VariationalAutoencoder
from ddpm.data import load, normalise
from ddpm.denoiser import NetworkDenoiser
from ddpm.files import write_json
from ddpm.likelihood import bits_per_dimension, importance_bound, variational_bound
from ddpm.noise import Draws, PerSample
from ddpm.recipes import recipe
from ddpm.training import train

RESULTS = Path(__file__).parents[1] / "book" / "results" / "generative-models.json"
BATCH, TOLERANCE = 64, 0.05
WIDTHS: dict[str, dict[str, Any]] = {  # chosen for the same number of parameters
    "diffusion": {"base_channels": 16},
    "gan": {"base_channels": 24, "latent_dim": 16},
    "vae": {"base_channels": 24, "latent_dim": 16},
    "autoencoder": {"base_channels": 24, "latent_dim": 16},
}
TRIALS: dict[str, list[dict[str, Any]]] = {
    "diffusion": [{"learning_rate": rate} for rate in (1e-3, 2e-3, 4e-3, 8e-3)],
    "gan": [{"learning_rate": rate, "r1": r1} for rate, r1 in itertools.product((3e-4, 1e-3), (0.3, 3.0))],
    "vae": [{"learning_rate": rate} for rate in (5e-4, 1e-3, 2e-3, 4e-3)],
    "autoencoder": [{"learning_rate": rate} for rate in (5e-4, 1e-3, 2e-3, 4e-3)],
}


def terms(kind: str) -> tuple[int, int]:
    """(parameters, FLOPs of a training step of every part) of a kind of model."""
    task = recipe(kind, **WIDTHS[kind])[0].task()
    counter = FlopCounterMode(display=False)
    # It would hook every module to say whose FLOPs they are, and its hooks do not bear a gradient within a gradient.
    counter.mod_tracker = SimpleNamespace(parents={"Global"}, __enter__=lambda: None, __exit__=lambda *_: None)  # type: ignore[assignment]
    with counter:
        for _, loss in task.losses(torch.zeros(BATCH, 1, 32, 32), Draws(0, 0, BATCH)):
            loss.backward()
    return sum(
        weight.numel() for part in task.parts.values() for weight in part.parameters()
    ), counter.get_total_flops()


def check_terms(steps: int) -> dict[str, dict[str, Any]]:
    """Of each kind its parameters, steps and training FLOPs, where diffusion is trained for `steps` steps.

    Raises:
        ValueError: they are not equal within 5 %, or not as many settings of each are tried.
    """
    costs = {kind: terms(kind) for kind in WIDTHS}
    parameters, flops = costs["diffusion"]
    equal = {}
    for kind, (own, each) in costs.items():
        number = round(steps * flops / each)
        equal[kind] = {"parameters": own, "steps": number, "FLOPs": number * each}
        for what, ratio in (("parameters", own / parameters), ("FLOPs", number * each / (steps * flops))):
            if abs(ratio - 1) > TOLERANCE:
                raise ValueError(f"{what} of {kind} are {ratio:.3f} times diffusion's; legal is within {TOLERANCE:.0%}")
        if len(TRIALS[kind]) != len(TRIALS["diffusion"]):
            raise ValueError(f"settings tried of {kind} are {len(TRIALS[kind])}; legal is {len(TRIALS['diffusion'])}")
    return equal


def run(kind: str, settings: dict[str, Any], steps: int, seed: int, data: str, folder: Path) -> Any:
    """Train one model, or go on with it, and load it."""
    model, training = recipe(kind, **WIDTHS[kind], **settings, steps=steps, seed=seed, batch_size=BATCH)
    train(model, load(data, "train", quiet=True), training, folder)
    return ddpm.load(folder)


def bits(model: Any, n: int) -> str:
    """Bits a dimension of n test images of 8 bits: an upper bound, where the model has one."""
    x = normalise(load("fashion-mnist-embedded", "test", quiet=True).images[:n])
    if isinstance(model, NetworkDenoiser):
        nats = variational_bound(model, x, levels=256, noise=PerSample(0), progress=True).total
    elif isinstance(model, VariationalAutoencoder):
        nats = importance_bound(model, x, 100, levels=256, noise=PerSample(0))
    else:
        return "none"
    return f"{bits_per_dimension(nats, x[0].numel()).mean().item():.2f}"


def measured(model: Any, n: int, data: str) -> dict[str, str]:
    """The figures of one trained model."""
    start = time.perf_counter()
    images = ddpm.sample(model, n)
    seconds = time.perf_counter() - start
    distance = metrics.frechet_distance(images, weights="EMA")
    precision, recall = metrics.precision_and_recall(images, weights="EMA")
    known = normalise(load(data, "train", quiet=True).images)
    return {
        "Frechet distance": f"{distance.value:.2f}",
        "floor": f"{distance.floor:.2f}",
        "kernel distance x 1,000": f"{metrics.kernel_distance(images, weights='EMA').value:.2f}",
        "precision": f"{precision.value:.3f}",
        "recall": f"{recall.value:.3f}",
        "copying": f"{metrics.copying(images, known, weights='EMA').value:.3f}",
        "bits a dimension": bits(model, 100),
        "ms an image": f"{1000 * seconds / n:.2f}",
    }


def main(
    steps: Annotated[int, typer.Option(help="Of the diffusion model; the others' follow from it.")] = 1500,
    seed: Annotated[list[int], typer.Option(help="Of the full trainings, several times.")] = [0, 1, 2],  # noqa: B006
    n: Annotated[int, typer.Option("--n", help="Images a figure; half of them choose among settings.")] = 2000,
    data: Annotated[str, typer.Option(help="fashion-mnist-embedded, or fashion-mnist.")] = "fashion-mnist-embedded",
    folder: Annotated[Path, typer.Option("--runs", help="Folder of the runs.")] = Path("runs/generative-models"),
    out: Annotated[Path, typer.Option(help="The table, as JSON.")] = RESULTS,
) -> None:
    """Try settings, train each kind in full with every seed, and measure; about two hours on two CPU cores."""
    equal = check_terms(steps)
    results = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"rows": [], "trials": []}
    if results["trials"] and results["terms"] != equal:
        raise ValueError(f"out is {str(out)!r}; it holds runs on other terms: name another file")

    def keep() -> None:
        write_json(out, results | {"terms": equal} | conditions(results, n, data))

    for kind, number in itertools.product(WIDTHS, range(len(TRIALS["diffusion"]))):
        start, settings = time.perf_counter(), TRIALS[kind][number]
        if any(trial["model"] == kind and trial["settings"] == settings for trial in results["trials"]):
            continue
        model = run(kind, settings, equal[kind]["steps"] // 3, 0, data, folder / f"trial-{kind}-{number}")
        distance = metrics.frechet_distance(ddpm.sample(model, n // 2), weights="EMA")
        seconds = round(time.perf_counter() - start)
        trial = {"model": kind, "settings": settings, "n": n // 2, "Frechet distance": round(distance.value, 2)}
        results["trials"].append({**trial, "seconds": seconds})
        typer.echo(f"{kind}, {settings}: {distance}")
        keep()
    for kind, number in itertools.product(WIDTHS, seed):
        if any(row["model"] == kind and row["seed"] == number for row in results["rows"]):
            continue
        start, tried = time.perf_counter(), [trial for trial in results["trials"] if trial["model"] == kind]
        best = min(tried, key=lambda trial: trial["Frechet distance"])["settings"]
        model = run(kind, best, equal[kind]["steps"], number, data, folder / f"{kind}-{number}")
        row = {"model": kind, "seed": number, **measured(model, n, data)}
        results["rows"].append({**row, "seconds": round(time.perf_counter() - start)})
        typer.echo(results["rows"][-1])
        keep()


def conditions(results: dict[str, Any], n: int, data: str) -> dict[str, Any]:
    """What the rows mean nothing without."""
    return {
        "conditions": (
            f"All trained on {data}, in batches of {BATCH}, for the same FLOPs and with the same number of parameters "
            f"within {TOLERANCE:.0%}, the setting being the best of {len(TRIALS['diffusion'])} tried at a third of the "
            "budget. An autoencoder has no density of codes; here its codes are drawn from N(0, I) all the same. "
            f"Diffusion draws by DDIM in 50 steps on the trailing grid. {n:,} images; Frechet distance against all "
            "10,000 test images, kernel distance, precision and recall (3 neighbours) against the embedded ones, in "
            f"the frozen 64-feature classifier {metrics.FEATURES_SHA256[:8]}, whitened; EMA weights; floor of the "
            f"Frechet distance, {n:,} real training images against the same. Copying: 0.5 is as new as test images, 1 "
            "all copies. Bits a dimension: an upper bound, of 100 test images of 8 bits."
        ),
        "provenance": {
            "device": "a GPU" if torch.cuda.is_available() else f"{torch.get_num_threads()} threads of a CPU",
            "date": date.today().isoformat(),
            "seed": sorted({row["seed"] for row in results["rows"]}),
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
            "seconds": sum(row["seconds"] for row in results["trials"] + results["rows"]),
            "command": "python benchmarks/generative_models.py",
        },
    }


if __name__ == "__main__":
    typer.run(main)
