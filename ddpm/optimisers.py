"""The optimisers by their names, and their state as named tensors."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

#: The optimisers by name.
OPTIMISERS = ("adamw", "adam", "sgd", "rmsprop", "muon")


def optimiser_of(
    name: str, parameters: Iterable[nn.Parameter], momentum: float = 0.9, weight_decay: float = 0.01
) -> torch.optim.Optimizer:
    """An optimiser of these parameters; its learning rate is set before each step.

    Args:
        name: one of `OPTIMISERS`. Of "muon" (Jordan et al. 2024) the step of a matrix, and of a convolution flattened
            to one, is made orthogonal and scaled to AdamW's size (Liu et al. 2025); other weights take NAdamW's.
        parameters: what it steps.
        momentum: beta 1 of adamw and adam, whose step is a mean of gradients; of sgd, whose step is a sum of them and
            1 / (1 - momentum) times as long. rmsprop has none, and muon has its own.
        weight_decay: decoupled, per step and rate, of adamw and muon; the others have none.

    Raises:
        ValueError: another name.
    """
    if name not in OPTIMISERS:
        raise ValueError(f"optimiser is {name!r}; legal are {', '.join(OPTIMISERS)}")
    betas = (float(momentum), 0.999)
    if name == "adamw":
        return torch.optim.AdamW(parameters, betas=betas, weight_decay=weight_decay, fused=True)
    if name == "adam":
        return torch.optim.Adam(parameters, betas=betas, fused=True)
    if name == "sgd":
        return torch.optim.SGD(parameters, momentum=momentum, fused=True)
    if name == "rmsprop":
        return torch.optim.RMSprop(parameters)
    from timm.optim import Muon  # slow to import

    return Muon(parameters, weight_decay=weight_decay, nesterov=True)


def flatten_optimiser(name: str, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's state as named tensors: `name.index.key`."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    states = [optimiser.state[parameter] for parameter in parameters]
    return {
        f"{name}.{index}.{key}": value
        for index, state in enumerate(states)
        for key, value in state.items()
        if isinstance(value, Tensor)  # what else an optimiser keeps follows from the parameters
    }


def restore_optimiser(name: str, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser back what `flatten_optimiser` made of it."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(parameters):
        prefix = f"{name}.{index}."
        for label in (label for label in tensors if label.startswith(prefix)):
            value = tensors[label].to(parameter.device)
            if value.shape == parameter.shape:
                # Fused optimisers pair values by their place in memory, so the weight's own layout matters.
                value = torch.empty_like(parameter, requires_grad=False).copy_(value)
            optimiser.state[parameter][label.removeprefix(prefix)] = value
