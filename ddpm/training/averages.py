"""Exponential moving averages of weights, several at once."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["Averages", "average_decay", "average_in", "copy_weights"]


def average_decay(ema: float, step: int) -> float:
    """Decay at `step` 0, 1, ...: at most `ema`, and smaller at first, so that the average forgets the random start."""
    return min(ema, (1 + step) / (10 + step))


def average_in(state: Mapping[str, Tensor], decay: float) -> dict[str, Tensor]:
    """Pick the average with this decay, as weights by name, out of what `Averages.state` returned."""
    prefix = _prefix(decay)
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _prefix(decay: float) -> str:
    return f"average-{decay}."


class Averages:
    """Averages of the same weights, one for each decay: `of[decay]` holds an average's tensors by name.

    Args:
        weights: weights by name; every average begins as a copy of them.
        decays: decay of each average.
    """

    def __init__(self, weights: Mapping[str, Tensor], decays: Sequence[float]) -> None:
        self.of = {decay: {name: value.clone() for name, value in weights.items()} for decay in decays}
        self._floating = [name for name, value in weights.items() if value.is_floating_point()]
        self._others = [name for name, value in weights.items() if not value.is_floating_point()]

    def update(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Move every average towards `weights`, as they are after `step` 0, 1, ...; what is no float is copied."""
        new = [weights[name] for name in self._floating]
        for decay, average in self.of.items():
            torch._foreach_lerp_([average[name] for name in self._floating], new, 1 - average_decay(decay, step))
            for name in self._others:  # counts and indices have no mean
                average[name].copy_(weights[name])

    def state(self) -> dict[str, Tensor]:
        """The tensors of all averages, each named average-DECAY.NAME."""
        return {_prefix(decay) + name: value for decay, average in self.of.items() for name, value in average.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Load what `state` returned.

        Raises:
            ValueError: a tensor is missing or has another shape.
        """
        for decay, average in self.of.items():
            copy_weights(state, average, _prefix(decay))


def copy_weights(source: Mapping[str, Tensor], target: Mapping[str, Tensor], prefix: str = "") -> None:
    """Copy values into every tensor of `target` from the tensor called prefix + name in `source`.

    Raises:
        ValueError: a tensor is missing in `source` or has another shape there.
    """
    for name, value in target.items():
        if prefix + name not in source or source[prefix + name].shape != value.shape:
            raise ValueError(f"these weights do not fit this model: {name} should have shape {tuple(value.shape)}")
        value.copy_(source[prefix + name])
