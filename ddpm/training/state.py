"""What a training changes from step to step, and what a checkpoint therefore holds."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ddpm.training.averages import Averages, copy_weights
from ddpm.training.config import TrainingConfig
from ddpm.training.optimisers import flatten_optimiser, optimiser_of, restore_optimiser

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
            f"{name}.{key.removeprefix('module.')}": value  # without the name of accelerate's wrapper
            for name, part in parts.items()
            for key, value in part.state_dict().items()
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
        """All of it as named tensors: weights.PART.NAME, average-DECAY.PART.NAME, optimiser-PART.INDEX.KEY."""
        tensors = {f"weights.{name}": value for name, value in self.weights.items()} | self.averages.state()
        for name, optimiser in self.optimisers.items():
            tensors |= flatten_optimiser(f"optimiser-{name}", optimiser.optimizer)  # inside accelerate's wrapper
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave.

        An optimiser tensor that is missing begins anew, as it does before the first step.

        Raises:
            ValueError: a weight or an average is missing, or a tensor has another shape.
        """
        copy_weights(tensors, self.weights, "weights.")
        self.averages.restore(tensors)
        for name, optimiser in self.optimisers.items():
            restore_optimiser(f"optimiser-{name}", optimiser.optimizer, tensors)
