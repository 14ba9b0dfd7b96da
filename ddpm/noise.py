"""Seeds and noise that depend on a sample's number alone, not on batch, device or process.

>>> torch.equal(PerSample(0)(torch.empty(8, 3))[5:], PerSample(0, 5)(torch.empty(3, 3)))
True
"""

import hashlib
import operator
from collections.abc import Callable

import torch
from torch import Tensor

Noise = Callable[[Tensor], Tensor]  # x -> standard normal like x


def mix(*numbers: int) -> int:
    """One 63-bit seed out of several numbers; two different sequences share it only by chance."""
    whole = tuple(operator.index(number) for number in numbers)  # numpy's print differently
    return int.from_bytes(hashlib.sha256(repr(whole).encode()).digest()[:8], "little") >> 1


class PerSample:
    """Noise with a generator of its own for each sample: the image numbered `first_index + i` of a seed always gets
    the same numbers, at any batch size, on any device, in any process.

    Args:
        seed: 0 or more.
        first_index: number of the batch's first sample.
    """

    def __init__(self, seed: int, first_index: int = 0) -> None:
        for name, value in (("seed", seed), ("first_index", first_index)):
            if not hasattr(value, "__index__") or value < 0:
                raise ValueError(f"{name} is {value!r}; it must be an integer from 0 up")
        self.seed, self.first_index = seed, first_index
        self._generators: list[torch.Generator] = []

    def __call__(self, x: Tensor) -> Tensor:
        """Standard normal of x's shape (batch, ...), dtype and device; drawn in float32 on the CPU."""
        if not x.is_floating_point():
            raise TypeError(f"x is {x.dtype}; it must be floating point")
        for i in range(len(self._generators), len(x)):
            self._generators.append(torch.Generator().manual_seed(mix(self.seed, self.first_index + i)))
        rows = [torch.randn(x.shape[1:], generator=generator) for generator in self._generators[: len(x)]]
        return torch.stack(rows).to(x)


class Draws:
    """Random numbers of one training step for rows `first` to `first + count` of a global batch of `total`.

    They are a function of (seed, step, row): the number of processes that share the batch does not matter.
    """

    def __init__(self, seed: int, step: int, total: int, first: int = 0, count: int | None = None) -> None:
        self.total = total
        self.rows = slice(first, total if count is None else first + count)
        self._generator = torch.Generator().manual_seed(mix(1, seed, step))

    def stratified(self) -> Tensor:
        """(count,) uniform in [0, 1), one in each of `total` equal strata over the whole batch."""
        u = torch.rand(self.total, generator=self._generator, dtype=torch.float64)  # float32 can round up to 1
        return ((torch.arange(self.total) + u) / self.total)[self.rows]

    def normal(self, *shape: int) -> Tensor:
        """`(count, *shape)` standard normal."""
        return torch.randn(self.total, *shape, generator=self._generator)[self.rows]
