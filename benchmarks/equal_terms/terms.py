"""The kinds of model, the settings that are tried of each, and the check that all stand on equal terms."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ddpm.noise import StepRandomness
from ddpm.training.optimisers import optimiser_of
from ddpm.training.recipes import recipe

BATCH, TOLERANCE = 64, 0.06


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
