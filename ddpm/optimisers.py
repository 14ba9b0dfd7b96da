"""The optimisers by their names."""

from collections.abc import Iterable

import torch
from torch import nn

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
