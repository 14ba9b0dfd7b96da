"""The optimisers by name, and their state as named tensors."""

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ddpm.extras import needed
from ddpm.settings import OPTIMISERS, Optimiser, one_of

__all__ = ["OPTIMISERS", "flatten_optimiser", "full_state", "optimiser_of", "parameters_of", "restore_optimiser"]


def optimiser_of(
    name: Optimiser, parameters: Iterable[nn.Parameter], momentum: float = 0.9, weight_decay: float = 0.01
) -> torch.optim.Optimizer:
    """An optimiser of these parameters; the training loop sets its learning rate before each step.

    Args:
        name: one of `OPTIMISERS`. "muon" (Jordan et al. 2024) makes the step of a matrix orthogonal, and of a
            convolution flattened to one, and scales it to the size of AdamW's (Liu et al. 2025); other weights take
            NAdamW's step.
        parameters: the weights to optimise.
        momentum: beta 1 of adamw and adam, whose step is a mean of gradients; the momentum of sgd, whose step is a sum
            of them and so 1 / (1 - momentum) times as long. rmsprop has none, and muon has its own.
        weight_decay: decoupled weight decay of adamw and muon, multiplied by the learning rate; the others have none.

    Raises:
        ValueError: another name.
    """
    one_of("optimiser", name, OPTIMISERS)
    betas = (float(momentum), 0.999)
    if name == "adamw":
        return torch.optim.AdamW(parameters, betas=betas, weight_decay=weight_decay, fused=True)
    if name == "adam":
        return torch.optim.Adam(parameters, betas=betas, fused=True)
    if name == "sgd":
        return torch.optim.SGD(parameters, momentum=momentum, fused=True)
    if name == "rmsprop":
        return torch.optim.RMSprop(parameters)
    with needed("timm"):
        from timm.optim.muon import Muon  # slow to import

    return Muon(parameters, weight_decay=weight_decay, nesterov=True)


def flatten_optimiser(name: str, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's state as named tensors: `name.index.key`."""
    return {
        f"{name}.{index}.{key}": value
        for index, parameter in enumerate(parameters_of(optimiser))
        for key, value in optimiser.state[parameter].items()
        if isinstance(value, Tensor)  # the rest of a state follows from the parameters
    }


def full_state(name: str, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What `flatten_optimiser` gives after a step in which every parameter has a gradient; the values are of no use."""
    trial = copy.deepcopy(optimiser)
    for parameter in parameters_of(trial):
        parameter.grad = torch.zeros_like(parameter)
    trial.step()
    return flatten_optimiser(name, trial)


def restore_optimiser(name: str, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser back what `flatten_optimiser` made of it.

    Raises:
        ValueError: a tensor has neither its parameter's shape nor is a single number.
    """
    groups = [group for group in optimiser.param_groups for _ in group["params"]]
    for index, (parameter, group) in enumerate(zip(parameters_of(optimiser), groups, strict=True)):
        prefix = f"{name}.{index}."
        # Without these options an optimiser reads its count of steps in every step, and would wait for a GPU.
        counts_on_device = group.get("fused") or group.get("capturable")
        for label in (label for label in tensors if label.startswith(prefix)):
            is_count = label.endswith(".step")
            value = tensors[label].to("cpu" if is_count and not counts_on_device else parameter.device)
            if value.shape != parameter.shape and value.numel() != 1:
                raise ValueError(f"{label} has shape {tuple(value.shape)}; its parameter's is {tuple(parameter.shape)}")
            if value.shape == parameter.shape and not is_count:
                # Fused optimisers pair values by their place in memory, so the weight's own layout matters.
                value = torch.empty_like(parameter, requires_grad=False).copy_(value)
            optimiser.state[parameter][label.removeprefix(prefix)] = value


def parameters_of(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    """The parameters that an optimiser steps, in its order, which numbers their state."""
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]
