"""What is measured of a trained model, and of the images themselves."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

import ddpm
from ddpm import metrics
from ddpm.autoencoder import Autoencoder, VariationalAutoencoder, divergence
from ddpm.data import Dataset, normalise
from ddpm.denoiser import NetworkDenoiser
from ddpm.likelihood import bits_per_dimension, importance_bound, variational_bound
from ddpm.noise import PerSampleNoise
from equal_terms.runs import Run, embedded, held_out, judges
from equal_terms.terms import KINDS, SHIPPED

CONTROL, DATA, HISTOGRAMS = "diffusion, 100 images", "the training images themselves", "a histogram of each pixel"


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
    return round(metrics.frechet_distance(images, weights="EMA", real=held_out()).value, 2)


def trial(run: Run, runs: Path, n: int) -> dict[str, float]:
    """By what a setting is chosen, of n images and of 500 of those held out. Diffusion draws in 20 steps of DDIM."""
    model = run.trained(runs)
    figures = {"Frechet distance": to_held_out(ddpm.sample(model, n, **way(model, 20)))}
    if isinstance(model, Autoencoder):
        known = normalise(run.images().images)
        figures["Frechet distance, fitted codes"] = to_held_out(decoded_from_fitted_codes(model, known, n))
    if isinstance(model, VariationalAutoencoder):
        figures["bits a dimension"] = float(bits(run.folder(runs), held_out()[:500]))
    return figures


def rate_and_distortion(run: Run, runs: Path, n: int) -> dict[str, str]:
    """Where the bound of a variational autoencoder goes, and what its draws are worth, on the images held out.

    The rate is the divergence of q(z | x) from N(0, I), in nats an image. It is the sum of what a code tells of its
    image and of the aggregate posterior's divergence from N(0, I) (Hoffman & Johnson 2016), of which "aggregate
    against N(0, I)" is a lower bound: that of a Gaussian with its mean and covariance.
    """
    model = ddpm.load(run.folder(runs), "float32")
    unseen, known = held_out(), normalise(run.images().images)
    back = in_chunks(model, model.decode, codes(model, unseen))
    aggregate = codes(model, known).double()
    covariance = aggregate.T.cov()
    of_aggregate = (aggregate.mean(0).square().sum() + covariance.trace() - len(covariance) - covariance.logdet()) / 2
    return {
        "beta": f"{run.settings['beta']:g}",
        "rate": f"{divergence(*posteriors(model, unseen)).mean():.1f}",
        "distortion": f"{(back - unseen).square().mean().sqrt():.4f}",
        "aggregate against N(0, I)": f"{of_aggregate:.1f}",
        "bits a dimension": bits(run.folder(runs), unseen[:500]),
        "from N(0, I)": f"{to_held_out(ddpm.sample(model, n)):.1f}",
        "from fitted codes": f"{to_held_out(decoded_from_fitted_codes(model, known, n)):.1f}",
        "from codes of images": f"{to_held_out(back[:n]):.1f}",
    }


def rows_of(run: Run, runs: Path, n: int) -> list[dict[str, str]]:
    """The rows of one full training: one for each way to draw."""
    model, known, name = run.trained(runs), run.images(), run.kind
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


def rows_without_training(n: int) -> list[dict[str, str]]:
    """What real images reach, and the likelihood of a model that knows nothing of how pixels go together."""
    images, none = embedded("train").images, {"bits a dimension": "none", "ms an image": "none"}
    drawn = normalise(images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:n]])
    real = {"model": DATA} | measured(drawn, embedded("train")) | none
    bare = bits_of_histograms(images, embedded("test").images[:100])
    return [real, dict.fromkeys(real, "none") | {"model": HISTOGRAMS, "bits a dimension": bare}]
