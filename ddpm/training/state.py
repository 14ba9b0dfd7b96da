"""What a training changes from step to step, and what a checkpoint therefore holds."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ddpm.training.averages import Averages, copy_weights
from ddpm.training.config import TrainingConfig
from ddpm.training.optimisers import flatten_optimiser, full_state, optimiser_of, parameters_of, restore_optimiser

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["TrainingState"]


class TrainingState:
    """The weights of every part, their averages, and one optimiser for each part.

    Args:
        parts: the networks by name. The accelerator's prepared ones take their place.
        config: which optimiser and which averages.
        accelerator: accelerate's, which puts weights and optimisers on their device.
        init: weights to start from, by part.name; without them the networks keep their random ones.
    """

    def __init__(
        self,
        parts: dict[str, nn.Module],
        config: TrainingConfig,
        accelerator: "Accelerator",
        init: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.optimisers: dict[str, Any] = {}
        for name, part in parts.items():
            optimiser = optimiser_of(config.optimiser, part.parameters(), config.momentum, config.weight_decay)
            parts[name], self.optimisers[name] = accelerator.prepare(part, optimiser)
        self.weights = {  # the networks' own tensors: a copy into them changes the networks
            f"{name}.{key}": value
            for name, part in parts.items()
            for key, value in accelerator.unwrap_model(part, keep_torch_compile=False).state_dict().items()
        }
        if init is not None:
            copy_weights(init, self.weights)
        self.averages = Averages(self.weights, config.emas)

    def zero_grad(self) -> None:
        """Forget the gradients of every part: the loss of one part may reach the weights of another."""
        for optimiser in self.optimisers.values():
            optimiser.zero_grad()

    def step(self, part: str, learning_rate: float) -> None:
        """Take one step of a part's optimiser."""
        for group in self.optimisers[part].param_groups:
            group["lr"] = learning_rate
        self.optimisers[part].step()

    def tensors(self) -> dict[str, Tensor]:
        """All of it as named tensors: weights.PART.NAME, average-DECAY.PART.NAME, optimiser-PART.INDEX.KEY.

        A weight that has had no gradient yet has nothing in the optimiser: an empty optimiser-PART.INDEX says so.
        """
        tensors = {f"weights.{name}": value for name, value in self.weights.items()} | self.averages.state()
        for name, optimiser in self.optimisers.items():
            own = optimiser.optimizer  # inside accelerate's wrapper
            tensors |= flatten_optimiser(f"optimiser-{name}", own)
            for index, parameter in enumerate(parameters_of(own)):
                if not own.state[parameter]:
                    tensors[f"optimiser-{name}.{index}"] = torch.empty(0, dtype=torch.float32, device="cpu")
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave.

        Raises:
            ValueError: a tensor is missing, or has another shape.
        """
        for name, optimiser in self.optimisers.items():
            for label in full_state(f"optimiser-{name}", optimiser.optimizer):
                if label not in tensors and label.rpartition(".")[0] not in tensors:
                    raise ValueError(f"this is no state of such a training: it lacks {label}")
        copy_weights(tensors, self.weights, "weights.")
        self.averages.restore(tensors)
        for name, optimiser in self.optimisers.items():
            restore_optimiser(f"optimiser-{name}", optimiser.optimizer, tensors)
