"""Generative models on equal terms: the same data, parameters, training FLOPs, trials, seeds and number of images.

    python benchmarks/generative_models.py

All models learn from the 10,000 embedded training images in batches of 64. Diffusion by the package's recipe, diffusion
by eq. 4 as it is written, a GAN (both players counted), two variational autoencoders and a plain one have equally many
parameters, and each is trained for equally many FLOPs. Both are equal within 6 %, the most over the least; FLOPs are
counted as they are dispatched, including the optimiser's. `check_terms` asserts this before anything is trained. For
each kind the same number of settings is tried at a third of the budget, on 8,000 of the images, and judged by the other
2,000. The best setting is trained in full, on all 10,000, with every seed, and judged by the test images. As a control,
one more diffusion model is trained in full on only 100 images. A last sweep trains variational autoencoders that weigh
the divergence of their codes differently.

The script writes `book/results/generative-models.json` after every run. Started again, it resumes where it
stopped; several may work side by side, each on kinds of its own (`--kind`). `--ship` copies the weights of
seed 0 into the package, each with its card. `--time 5`, with nothing beside it, times all kinds in turns, in minutes.
"""

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import torch
import typer
from filelock import FileLock
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import ddpm
from ddpm import metrics
from ddpm.autoencoder import Autoencoder, VariationalAutoencoder, divergence
from ddpm.companion.long_runs import (
    chosen,
    machine,
    mean_and_deviation,
    measured_with,
    processor,
    refuse_other,
    run_folder,
)
from ddpm.companion.results import markdown_table
from ddpm.data import Dataset, load, normalise
from ddpm.denoiser import NetworkDenoiser
from ddpm.files import write_atomically, write_json
from ddpm.likelihood import bits_per_dimension, importance_bound, variational_bound
from ddpm.metrics.features import FEATURES, FEATURES_SHA256
from ddpm.model_files import MODELS
from ddpm.noise import PerSampleNoise, StepRandomness
from ddpm.training import train
from ddpm.training.optimisers import optimiser_of
from ddpm.training.recipes import recipe

RESULTS = Path(__file__).parents[1] / "book" / "results" / "generative-models.json"
BATCH, TOLERANCE, HELD_OUT = 64, 0.06, 2000


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of model: its recipe, the settings that all its models share, and those that were tried."""

    recipe: Literal["diffusion", "gan", "vae", "autoencoder"]
    fixed: dict[str, Any]
    tried: list[dict[str, Any]]
    chosen_by: str = "Frechet distance"


def tried(optimiser: str, *rates: float, **settings: Any) -> list[dict[str, Any]]:
    """Settings to try: an optimiser with each of these learning rates."""
    return [{"optimiser": optimiser, "learning_rate": rate} | settings for rate in rates]


OF_DIFFUSION = tried("muon", 2e-3, 4e-3, 8e-3) + tried("adamw", 1e-3, 2e-3, 4e-3)
CODES = {"base_channels": 24}
KINDS = {
    "diffusion": Kind("diffusion", {"base_channels": 16}, OF_DIFFUSION),
    "diffusion, eq. 4 as written": Kind(
        "diffusion", {"base_channels": 16, "target": "eps", "times": "uniform", "uniform_share": 0.0}, OF_DIFFUSION
    ),
    "gan": Kind(
        "gan",
        {"base_channels": 24, "latent_dim": 32},
        tried("adam", 2e-4, 5e-4, r1=0.3) + tried("adam", 5e-4, 1e-3, r1=0.1) + tried("muon", 5e-4, 2e-3, r1=0.3),
    ),
    "vae": Kind(
        "vae",
        CODES,
        [
            settings | {"beta": beta}
            for settings in tried("adamw", 2e-3, latent_dim=16)
            + tried("muon", 4e-3, latent_dim=16)
            + tried("muon", 4e-3, latent_dim=8)
            for beta in (1.0, 3.0)
        ],
    ),
    "vae, logistic": Kind(
        "vae",
        CODES | {"loss": "logistic"},
        tried("adamw", 1e-3, 2e-3, latent_dim=16)
        + tried("muon", 2e-3, 4e-3, 8e-3, latent_dim=16)
        + tried("muon", 4e-3, latent_dim=8),
        chosen_by="bits a dimension",
    ),
    "autoencoder": Kind(
        "autoencoder",
        CODES,
        tried("adamw", 2e-3, 4e-3, latent_dim=16)
        + tried("muon", 4e-3, 8e-3, latent_dim=16)
        + tried("muon", 4e-3, latent_dim=12)
        + tried("muon", 4e-3, latent_dim=24),
        chosen_by="Frechet distance, fitted codes",
    ),
}
SHIPPED = ("diffusion", "gan", "vae", "autoencoder")
BETAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
CONTROL, DATA, HISTOGRAMS = "diffusion, 100 images", "the training images themselves", "a histogram of each pixel"


class Flops(TorchDispatchMode):
    """Counts the FLOPs of products and convolutions, including those of gradients and of gradients of gradients."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


@cache
def cost(kind: Kind, settings: tuple[tuple[str, Any], ...]) -> tuple[int, int]:
    """(number of parameters, FLOPs of a training step of all parts) of a kind of model with these settings."""
    model, training = recipe(kind.recipe, **kind.fixed | dict(settings))
    task = model.task()
    optimisers = {name: optimiser_of(training.optimiser, part.parameters()) for name, part in task.parts.items()}
    images, randomness = torch.zeros(BATCH, 1, 32, 32), StepRandomness(0, 0, BATCH)
    with Flops() as flops:
        for name in task.parts:
            task.loss(name, images, randomness).backward()
            optimisers[name].step()
    return sum(weight.numel() for part in task.parts.values() for weight in part.parameters()), flops.total


def check_terms(budget: int) -> dict[str, list[dict[str, Any]]]:
    """Each kind's settings to try, with the parameters, steps and training FLOPs of a model trained in full.

    Args:
        budget: steps of the diffusion model with its first setting. Its FLOPs are everybody's.

    Raises:
        ValueError: parameters or FLOPs are not equal within 6 %, or some kinds have more settings to try than others.
    """
    costs = {}
    for name, kind in KINDS.items():
        for index, own in enumerate(kind.tried):
            of_cost = tuple((what, value) for what, value in own.items() if what in ("optimiser", "latent_dim"))
            costs[name, index] = cost(kind, of_cost)
    flops = budget * costs["diffusion", 0][1]
    terms: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for (kind, index), (parameters, each) in costs.items():
        steps = round(flops / each)
        own = {"settings": KINDS[kind].tried[index], "parameters": parameters, "steps": steps, "FLOPs": steps * each}
        terms[kind].append(own)
    for what in ("parameters", "FLOPs"):
        values = [own[what] for settings in terms.values() for own in settings]
        if max(values) > (1 + TOLERANCE) * min(values):
            raise ValueError(f"{what} are {values}; legal is within {TOLERANCE:.0%}, the most over the least")
    if len({len(kind.tried) for kind in KINDS.values()}) > 1:
        numbers = {name: len(kind.tried) for name, kind in KINDS.items()}
        raise ValueError(f"settings tried are {numbers}; legal is the same number for each kind")
    return terms


@cache
def embedded(split: Literal["train", "test"]) -> Dataset:
    """The images that everything here is trained on, or judged by."""
    return load("fashion-mnist-embedded", split, quiet=True)


def part(chosen: slice) -> Dataset:
    """Some of the training images."""
    return replace(embedded("train"), images=embedded("train").images[chosen], labels=embedded("train").labels[chosen])


#: For a full training, for trials, and for the control.
SETS = {"all": slice(None), "without the held out": slice(-HELD_OUT), "a hundredth": slice(None, None, 100)}


@dataclass(frozen=True)
class Run:
    """One training: a kind of model, its own settings, and how long, on what and from which seed it is trained."""

    kind: str
    settings: dict[str, Any] = field(hash=False)
    steps: int
    seed: int = 0
    data: str = "all"

    def folder(self, runs: Path) -> Path:
        """Where it is kept: the same for the same training."""
        words = [self.kind, *itertools.chain(*self.settings.items()), self.steps, "steps", self.data, "seed", self.seed]
        return run_folder(runs, *words)

    def trained(self, runs: Path) -> Any:
        """Train it, or resume its training, and load the model. A thirtieth of its steps is warm-up."""
        kind = KINDS[self.kind]
        length = {"steps": self.steps, "warmup": max(1, self.steps // 30), "seed": self.seed, "batch_size": BATCH}
        model, training = recipe(kind.recipe, **kind.fixed | self.settings | length)
        train(model, part(SETS[self.data]), training, self.folder(runs))
        return ddpm.load(self.folder(runs))


@torch.no_grad()
def in_chunks(model: Autoencoder, function: Callable[[Tensor], Tensor], values: Tensor, size: int = 250) -> Tensor:
    """The answers of one of a model's functions to many values, on the CPU."""
    return torch.cat([function(chunk.to(model.device)).cpu() for chunk in values.split(size)])


def posteriors(model: VariationalAutoencoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance of q(z | x) of many images, each (n, latent_dim)."""
    mean, log_variance = in_chunks(model, lambda x: torch.stack(model.posterior(x), 1), images).unbind(1)
    return mean, log_variance


def codes(model: Autoencoder, images: Tensor) -> Tensor:
    """(n, latent_dim): the code of each image; of the variational kind a draw from q(z | x), as in training."""
    if not isinstance(model, VariationalAutoencoder):
        return in_chunks(model, model.encode, images)
    mean, log_variance = posteriors(model, images)
    return mean + torch.exp(log_variance / 2) * PerSampleNoise(0)(mean)


def decoded_from_fitted_codes(model: Autoencoder, images: Tensor, n: int) -> Tensor:
    """(n, 1, 32, 32): what an autoencoder decodes from codes of a density fitted to those of its training images.

    The density is a mixture of ten Gaussians, fitted after the training (Ghosh et al. 2020, section 4).
    """
    of_images = codes(model, images).double().numpy()
    drawn, _ = GaussianMixture(10, random_state=0).fit(of_images).sample(n)
    drawn = torch.from_numpy(drawn[torch.randperm(n, generator=torch.Generator().manual_seed(0))]).float()
    return in_chunks(model, model.decode, drawn)


def bits(folder: Path, images: Tensor) -> str:
    """Bits per dimension of images of 8 bits: an upper bound in float32, or "none" if the model has no such bound."""
    model = ddpm.load(folder, "float32")
    x = images.to(model.device)
    if isinstance(model, NetworkDenoiser):
        nats = variational_bound(model, x, levels=256, randn_like=PerSampleNoise(0), progress=True).total
    elif isinstance(model, VariationalAutoencoder):
        nats = importance_bound(model, x, 1, levels=256, randn_like=PerSampleNoise(0))
    else:
        return "none"
    return f"{bits_per_dimension(nats, x[0].numel()).mean().item():.2f}"


def bits_of_histograms(images: Tensor, others: Tensor) -> str:
    """Bits per dimension of others (n, ...), uint8, if each pixel is drawn by itself, by its histogram in images.

    Each of the 256 levels counts once more than it was seen (Laplace's rule).
    """
    levels = images.flatten(1).long()
    counts = torch.ones(256, levels.shape[1], dtype=torch.float64)
    counts.scatter_add_(0, levels, torch.ones_like(levels, dtype=torch.float64))
    information = -(counts / counts.sum(0)).log2()
    return f"{information.gather(0, others.flatten(1).long()).mean().item():.2f}"


def way(model: Any, steps: int) -> dict[str, Any]:
    """How a model draws: diffusion in so many steps of DDIM, the others in one call."""
    return {"sampler": "ddim", "steps": steps} if isinstance(model, NetworkDenoiser) else {}


def milliseconds(rounds: int) -> dict[str, str]:
    """Milliseconds an image of every kind of model in drawing 64: the median over rounds in which they take turns.

    The shipped model of a kind's recipe draws for it. Both kinds of diffusion, and its control, are the same network in
    50 steps of DDIM; what draws in one call draws all 64 at once.
    """
    once = {recipe: ddpm.load(f"equal-{recipe}") for recipe in SHIPPED}
    times: dict[str, list[float]] = {name: [] for name in once}
    for number in range(rounds + 1):
        for name, model in once.items():
            start = time.perf_counter()
            options: dict[str, Any] = way(model, 50) or {"chunk": 64}
            ddpm.sample(model, 64, progress=False, **options).cpu()  # .cpu() waits for a GPU
            if number:  # after a warm-up
                times[name].append(time.perf_counter() - start)
    return {name: f"{median(times[kind.recipe]) / 64 * 1000:.1f}" for name, kind in KINDS.items()}


def measured(images: Tensor, known: Dataset) -> dict[str, str]:
    """The metrics of images drawn by a model that was trained on this data set."""
    precision, recall = metrics.precision_and_recall(images, weights="EMA")
    return {
        "Frechet distance": f"{metrics.frechet_distance(images, weights='EMA').value:.2f}",
        "kernel distance x 1,000": f"{metrics.kernel_distance(images, weights='EMA').value:.2f}",
        "precision": f"{precision.value:.3f}",
        "recall": f"{recall.value:.3f}",
        "copying": f"{metrics.copying(images, normalise(known.images), weights='EMA').value:.3f}",
    }


def to_held_out(images: Tensor) -> float:
    """Frechet distance to the training images that trials do not see."""
    real = normalise(part(slice(-HELD_OUT, None)).images)
    return round(metrics.frechet_distance(images, weights="EMA", real=real).value, 2)


def trial(run: Run, runs: Path, n: int) -> dict[str, float]:
    """By what a setting is chosen, of n images and of 500 of those held out. Diffusion draws in 20 steps of DDIM."""
    model = run.trained(runs)
    figures = {"Frechet distance": to_held_out(ddpm.sample(model, n, **way(model, 20)))}
    if isinstance(model, Autoencoder):
        known = normalise(part(SETS[run.data]).images)
        figures["Frechet distance, fitted codes"] = to_held_out(decoded_from_fitted_codes(model, known, n))
    if isinstance(model, VariationalAutoencoder):
        held_out = normalise(part(slice(-HELD_OUT, None)).images[:500])
        figures["bits a dimension"] = float(bits(run.folder(runs), held_out))
    return figures


def rate_and_distortion(run: Run, runs: Path, n: int) -> dict[str, str]:
    """Where the bound of a variational autoencoder goes, and what its draws are worth, on the images held out.

    The rate is the divergence of q(z | x) from N(0, I), in nats an image. It is the sum of what a code tells of its
    image and of the aggregate posterior's divergence from N(0, I) (Hoffman & Johnson 2016), of which "aggregate
    against N(0, I)" is a lower bound: that of a Gaussian with its mean and covariance.
    """
    model = ddpm.load(run.folder(runs), "float32")
    held_out = normalise(part(slice(-HELD_OUT, None)).images)
    known = normalise(part(SETS[run.data]).images)
    back = in_chunks(model, model.decode, codes(model, held_out))
    aggregate = codes(model, known).double()
    covariance = aggregate.T.cov()
    of_aggregate = (aggregate.mean(0).square().sum() + covariance.trace() - len(covariance) - covariance.logdet()) / 2
    return {
        "beta": f"{run.settings['beta']:g}",
        "rate": f"{divergence(*posteriors(model, held_out)).mean():.1f}",
        "distortion": f"{(back - held_out).square().mean().sqrt():.4f}",
        "aggregate against N(0, I)": f"{of_aggregate:.1f}",
        "bits a dimension": bits(run.folder(runs), held_out[:500]),
        "from N(0, I)": f"{to_held_out(ddpm.sample(model, n)):.1f}",
        "from fitted codes": f"{to_held_out(decoded_from_fitted_codes(model, known, n)):.1f}",
        "from codes of images": f"{to_held_out(back[:n]):.1f}",
    }


def rows_of(run: Run, runs: Path, n: int) -> list[dict[str, str]]:
    """The rows of one full training: one for each way to draw."""
    model, known, name = run.trained(runs), part(SETS[run.data]), run.kind
    own = {"bits a dimension": bits(run.folder(runs), judges(100)), "ms an image": "none"}
    ways = {name: ddpm.sample(model, n, **way(model, 50))}
    if isinstance(model, Autoencoder):
        ways = {
            f"{name}, codes from N(0, I)": ways[name],
            f"{name}, fitted codes": decoded_from_fitted_codes(model, normalise(known.images), n),
        }
    elif run.data == "a hundredth":
        ways = {CONTROL: ways[name]}
    return [{"model": way} | measured(images, known) | own for way, images in ways.items()]


def judges(n: int) -> Tensor:
    """The first n test images in [-1, 1]."""
    return normalise(embedded("test").images[:n])


def rows_without_training(n: int) -> list[dict[str, str]]:
    """What real images reach, and the likelihood of a model that knows nothing of how pixels go together."""
    images, none = embedded("train").images, {"bits a dimension": "none", "ms an image": "none"}
    drawn = normalise(images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:n]])
    real = {"model": DATA} | measured(drawn, embedded("train")) | none
    bare = bits_of_histograms(images, embedded("test").images[:100])
    return [real, dict.fromkeys(real, "none") | {"model": HISTOGRAMS, "bits a dimension": bare}]


class Table:
    """The file of results. Several processes may add to it, as they share a lock in the folder of the runs."""

    def __init__(self, path: Path, terms: dict[str, Any], runs: Path) -> None:
        self.path, self.terms, self.lock = path, terms, runs / "table.lock"
        refuse_other(path, {"terms": terms})
        runs.mkdir(parents=True, exist_ok=True)

    def read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {"terms": self.terms, "trials": [], "rows": [], "rate and distortion": []}
        content: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return content

    def has(self, name: str, **wanted: Any) -> bool:
        return any(wanted.items() <= line.items() for line in self.read()[name])

    def add(self, name: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            typer.echo(line)
        with FileLock(self.lock):
            results = self.read()
            results[name] += lines
            write_json(self.path, results | conditions(results))

    def time(self, rounds: int) -> None:
        """Measure every kind's ms an image and write it into its rows, and the conditions beside them."""
        found = milliseconds(rounds)
        typer.echo(found)
        with FileLock(self.lock):
            results = self.read()
            for row in results["rows"]:
                row["ms an image"] = found.get(row["kind"], row["ms an image"])
            results["timing"] = {
                "rounds": rounds, "device": machine(), "processor": processor(), "date": date.today().isoformat()
            }  # fmt: skip
            write_json(self.path, results | {"table": table_of(results["rows"]), "conditions": in_words(results)})


def best(results: dict[str, Any], kind: str) -> dict[str, Any]:
    """The trial that did best, of those on the books."""
    tried = [own for own in results["trials"] if own["model"] == kind]
    return min(tried, key=lambda own: own[KINDS[kind].chosen_by])


def steps_of(results: dict[str, Any], kind: str, settings: dict[str, Any]) -> int:
    """The steps of a full training of a kind with these settings, one of those tried."""
    (own,) = [own for own in results["terms"]["models"][kind] if own["settings"] == settings]
    steps: int = own["steps"]
    return steps


def full_run(results: dict[str, Any], kind: str, seed: int) -> Run:
    """A full training with the settings that did best."""
    settings = best(results, kind)["settings"]
    return Run(kind, settings, steps_of(results, kind, settings), seed)


def main(
    steps: Annotated[
        int, typer.Option(min=3, help="Steps of the diffusion model; the other models' numbers follow from it.")
    ] = 1500,
    seed: Annotated[list[int], typer.Option(min=0, help="Seed of the full trainings. Repeat for several.")] = [0, 1, 2],  # noqa: B006
    n: Annotated[
        int,
        typer.Option(
            "--n", min=2 * FEATURES + 2, max=2000, help="Images for each metric; half as many to choose settings."
        ),
    ] = 2000,
    kind: Annotated[list[str], typer.Option(help="Only this kind of model. Repeat for several.")] = list(KINDS),  # noqa: B006
    folder: Annotated[Path, typer.Option("--runs", help="Folder for the runs.")] = Path("runs/generative-models"),
    out: Annotated[Path, typer.Option(help="File of the table (.json).")] = RESULTS,
    ship: Annotated[bool, typer.Option("--ship", help="Copy the weights of seed 0 into the package.")] = False,
    models: Annotated[Path, typer.Option(help="Folder of the shipped models.")] = MODELS,
    time_rounds: Annotated[
        int,
        typer.Option(
            "--time",
            min=0,
            help="Measure the ms an image of all kinds in so many rounds, in turns, and nothing else; 5 take minutes.",
        ),
    ] = 0,
) -> None:
    """Try settings, train each kind in full with every seed, and measure; ten hours on one CPU thread."""
    kind = chosen("kind", kind, KINDS)
    table = Table(out, {"n": n, "models": check_terms(steps)}, folder)
    if time_rounds:
        table.time(time_rounds)
        return
    try_settings(table, kind, folder, n)
    if "vae" in kind:
        sweep(table, folder, n)
    for number, name in itertools.product(seed, kind):
        add_rows(table, full_run(table.read(), name, number), folder, n)
    if "diffusion" in kind:
        add_rows(table, replace(full_run(table.read(), "diffusion", 0), data="a hundredth"), folder, n)
        if not table.has("rows", model=DATA):
            start = time.perf_counter()
            untrained = {"kind": "none", "seed": 0, "trained on": "none"}
            table.add("rows", [row | untrained | spent(start) for row in rows_without_training(n)])
    if ship:
        ship_models(folder, models, table.read())


def try_settings(table: Table, kinds: list[str], folder: Path, n: int) -> None:
    """Every setting of these kinds at a third of the budget, on the training images that are not held out."""
    for name, settings in ((kind, settings) for kind in kinds for settings in KINDS[kind].tried):
        if not table.has("trials", model=name, settings=settings):
            start = time.perf_counter()
            run = Run(name, settings, steps_of(table.read(), name, settings) // 3, data="without the held out")
            figures = trial(run, folder, n // 2)
            table.add("trials", [{"model": name, "settings": settings} | figures | spent(start)])


def sweep(table: Table, folder: Path, n: int) -> None:
    """Variational autoencoders that weigh the divergence of their codes differently, at a third of the budget."""
    settings = KINDS["vae"].tried[0]
    steps = steps_of(table.read(), "vae", settings) // 3
    for beta in BETAS:
        if not table.has("rate and distortion", beta=f"{beta:g}"):
            start = time.perf_counter()
            run = Run("vae", settings | {"beta": beta}, steps, data="without the held out")
            run.trained(folder)
            table.add("rate and distortion", [rate_and_distortion(run, folder, n // 2) | spent(start)])


def spent(start: float) -> dict[str, int]:
    """The seconds since then."""
    return {"seconds": round(time.perf_counter() - start)}


def add_rows(table: Table, run: Run, folder: Path, n: int) -> None:
    """Train, measure and write down, unless it is written down already."""
    trained_on = {"kind": run.kind, "seed": run.seed, "trained on": run.data}
    if not table.has("rows", **trained_on):
        start = time.perf_counter()
        rows = rows_of(run, folder, n)
        table.add("rows", [row | trained_on | spent(start) for row in rows])


def ship_models(folder: Path, models: Path, results: dict[str, Any]) -> None:
    """Copy the weights of seed 0 into the package, each with its card."""
    for kind in SHIPPED:
        run = full_run(results, kind, 0)
        shipped = models / f"equal-{kind}"
        for name in ("model.safetensors", "config.json"):
            write_atomically(shipped / name, (run.folder(folder) / name).read_bytes())
        write_atomically(shipped / "card.md", card(kind, results).encode())
        typer.echo(f"shipped: {shipped}")


NOT_FIGURES = ("model", "seed", "seconds", "kind", "trained on")


def table_of(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Each model's metrics: the mean over the seeds, and the standard deviation where there are several.

    Models of a kind stand together; what was trained on fewer images, or not at all, comes last.
    """
    lines = []
    kinds = list(KINDS)
    ordered = sorted(rows, key=lambda row: kinds.index(row["kind"]) if row["trained on"] == "all" else len(kinds))
    for name in dict.fromkeys(row["model"] for row in ordered):
        own = [row for row in rows if row["model"] == name]
        line = {"model": name}
        for figure in (key for key in own[0] if key not in NOT_FIGURES):
            texts = [str(row[figure]) for row in own]
            if "none" in texts:
                line[figure] = "none"
            else:  # what is timed once for all seeds has no spread
                line[figure] = texts[0] if len(set(texts)) == 1 else mean_and_deviation(texts)
        lines.append(line)
    return lines


def card(kind: str, results: dict[str, Any]) -> str:
    """The card of a shipped model: what it is and how good it is, as Markdown."""
    chosen, provenance = best(results, kind)["settings"], results["provenance"]
    (terms,) = [own for own in results["terms"]["models"][kind] if own["settings"] == chosen]
    settings = ", ".join(f"{name} {value}" for name, value in chosen.items())
    choice = f"the best of {len(KINDS[kind].tried)} tried at a third of the budget; the rest is `ddpm train`'s own"
    own = [row for row in results["rows"] if (row["kind"], row["seed"], row["trained on"]) == (kind, 0, "all")]
    (floor,) = [row for row in results["rows"] if row["model"] == DATA]
    figures = [{name: value for name, value in row.items() if name not in NOT_FIGURES[1:]} for row in own]
    return f"""# equal-{kind}

One of four models of Fashion-MNIST that are compared on equal terms: as many parameters, training images and FLOPs.
The other three: {", ".join(f"equal-{other}" for other in SHIPPED if other != kind)}.

| | |
| --- | --- |
| model | {kind}, {terms["parameters"]:,} parameters |
| data | the 10,000 embedded training images, padded to 32 x 32, in [-1, 1], no augmentation |
| steps | {terms["steps"]:,} of batch {BATCH}, {terms["FLOPs"] / 1e12:.0f} TFLOP, from random weights, seed 0 |
| settings | {settings}: {choice} |
| EMA | 0.999, with warm-up; the averaged weights are the ones here |
| device | {provenance["device"]}, torch {provenance["versions"]["torch"]}, {provenance["date"]} |

{markdown_table(figures)}

Frechet distance of {results["terms"]["n"]:,} real training images, the floor: {floor["Frechet distance"]}. {
        results["conditions"]
    }

```sh
python benchmarks/generative_models.py --ship
```
"""


def in_words(results: dict[str, Any]) -> str:
    """The conditions under which the rows were measured."""
    n, timed = results["terms"]["n"], ""
    if "timing" in results:
        made = results["timing"]
        timed = (
            f" Ms an image: of drawing 64, the median of {made['rounds']} rounds in which the kinds take turns with "
            f"nothing beside them, once for all seeds; on {made['device']} ({made['processor']}), {made['date']}."
        )
    return (
        f"Trained on the 10,000 embedded training images in batches of {BATCH}, with as many parameters (a GAN's "
        f"both players counted) and for as many FLOPs, of products and convolutions, within {TOLERANCE:.0%}. Of "
        f"every kind {len(OF_DIFFUSION)} settings were tried at a third of the budget on 8,000 of these images, "
        "and the one with the least Frechet distance to the other 2,000 was taken; a VAE was judged by codes from "
        "N(0, I), an autoencoder by fitted codes, the VAE with a logistic likelihood by its bits a dimension. "
        "Diffusion's recipe (v, log-normal times) had been chosen among eleven before, on all 60,000 training "
        f"images and by the distance to the test images. EMA weights; {n:,} images, seed 0 of the samples. Frechet "
        f"distance against all 10,000 test images, the rest against the first {n:,} embedded ones, in the frozen "
        f"64-feature classifier {FEATURES_SHA256[:8]}, whitened; precision and recall with 3 neighbours. Copying: 0.5 "
        "is as new as test images, 1 all copies. The training images themselves are the floor of a distance, and say "
        "what real images reach in the rest. Bits a dimension: one draw of the variational bound of 100 test images "
        "of 8 bits, in float32. Diffusion draws by DDIM in 50 steps on the trailing grid, in bfloat16 where the "
        "hardware has it. Fitted codes are drawn from a mixture of ten Gaussians fitted to the codes of the "
        "training images."
    ) + timed


def conditions(results: dict[str, Any]) -> dict[str, Any]:
    """The context that a reader of the rows needs."""
    return {
        "table": table_of(results["rows"]),
        "conditions": in_words(results),
        "provenance": measured_with(
            sum(row["seconds"] for row in [*results["trials"], *results["rows"], *results["rate and distortion"]]),
            sorted({row["seed"] for row in results["rows"]}),
        ),
    }


if __name__ == "__main__":
    typer.run(main)
