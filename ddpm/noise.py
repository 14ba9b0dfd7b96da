"""Random numbers that depend on a sample's number, or on a training step's, and on nothing else.

Neither the batch size nor the device nor the number of processes changes them.

>>> torch.equal(PerSampleNoise(0)(torch.empty(8, 3))[5:], PerSampleNoise(0, 5)(torch.empty(3, 3)))
True
"""

import hashlib
import operator
from collections.abc import Callable, Sequence
from copy import copy

import torch
from torch import Tensor

from ddpm.arguments import answer_like, check_samples, function
from ddpm.settings import integers, non_negative_int, positive_int

__all__ = ["PerSampleNoise", "RandnLike", "StepRandomness", "drawn", "fold_in"]

#: What draws noise, x -> standard normal of x's shape, dtype and device.
RandnLike = Callable[[Tensor], Tensor]
#: What a training's seed is folded with, so that the streams of its random numbers differ.
STEP, ORDER, DROPOUT = 1, 2, 3


def fold_in(*numbers: int) -> int:
    """One 63-bit seed made of several integers; two different sequences share it only by chance."""
    try:
        whole = tuple(operator.index(number) for number in numbers)  # numpy's integers print differently
    except TypeError as error:
        raise TypeError(f"numbers are {numbers}; all must be integers") from error
    return int.from_bytes(hashlib.sha256(repr(whole).encode()).digest()[:8], "little") >> 1


def drawn(randn_like: RandnLike, x: Tensor) -> Tensor:
    """What `randn_like` draws for x; an answer of another shape raises `ValueError`, as it would be spread over x."""
    return answer_like("randn_like", function("randn_like", randn_like)(x), x).to(x)


class PerSampleNoise:
    """A `randn_like` with a generator of its own for each sample.

    The image numbered `first_index + i` of a seed gets the same noise at any batch size, on any device, in any process.

    Args:
        seed: 0 or more.
        first_index: number of the batch's first sample.
    """

    def __init__(self, seed: int, first_index: int = 0) -> None:
        self.seed = non_negative_int("seed", seed)
        self.first_index = non_negative_int("first_index", first_index)
        self._generators: list[torch.Generator] = []

    def __call__(self, x: Tensor) -> Tensor:
        """Standard normal of x's shape (batch, ...), dtype and device; drawn in float32 on the CPU.

        Raises:
            TypeError: x is no tensor, or not floating point.
            ValueError: x has no axis for the batch.
        """
        check_samples("x", x)
        for i in range(len(self._generators), len(x)):
            self._generators.append(torch.Generator("cpu").manual_seed(fold_in(self.seed, self.first_index + i)))
        rows = [_randn(x.shape[1:], generator) for generator in self._generators[: len(x)]]
        return torch.stack(rows).to(x) if rows else torch.empty_like(x)


class StepRandomness:
    """The random numbers of one training step, for rows `first` to `first + count` of a global batch of `total`.

    They are a function of (seed, step, row), so it does not matter how many processes share the batch, nor in how many
    pieces each computes its rows. Each call draws the next numbers of the step.
    """

    def __init__(self, seed: int, step: int, total: int, first: int = 0, count: int | None = None) -> None:
        seed, step = non_negative_int("seed", seed), non_negative_int("step", step)
        self.total, first = positive_int("total", total), non_negative_int("first", first)
        self.count = self.total - first if count is None else non_negative_int("count", count)
        if not 0 <= self.count <= self.total - first:
            raise ValueError(f"first is {first} and count {count}; the rows must be among the batch's {self.total}")
        self.rows = slice(first, first + self.count)
        self._generator = torch.Generator("cpu").manual_seed(fold_in(STEP, seed, step))
        self._drawn: list[Tensor] = []  # for the whole batch, in the order of the calls
        self._calls = 0

    def split(self, size: int) -> list["StepRandomness"]:
        """The same numbers in pieces of at most `size` rows; every piece must be asked for the same in turn."""
        size, pieces = positive_int("size", size), []
        for first in range(self.rows.start, self.rows.stop, size):
            piece = copy(self)  # which shares the generator and what is drawn
            piece.rows = slice(first, min(first + size, self.rows.stop))
            piece.count = piece.rows.stop - first
            pieces.append(piece)
        return pieces

    def stratified(self) -> Tensor:
        """(count,) uniform in [0, 1), one in each of `total` equal strata over the whole batch."""
        # in float64, as float32 can round up to 1
        return (torch.arange(self.total, device="cpu")[self.rows] + self.uniform()) / self.total

    def uniform(self) -> Tensor:
        """(count,) uniform in [0, 1)."""
        return self._next(torch.rand, torch.float64, ())

    def normal(self, *shape: int) -> Tensor:
        """`(count, *shape)` standard normal."""
        return self._next(torch.randn, torch.float32, integers("shape", shape, at_least=0))

    def _next(self, draw: Callable[..., Tensor], dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
        """These rows of the step's next numbers, which the first piece to ask draws for the whole batch."""
        whole = (self.total, *shape)
        if self._calls == len(self._drawn):
            self._drawn.append(draw(whole, generator=self._generator, dtype=dtype, device="cpu"))
        numbers = self._drawn[self._calls]
        if (numbers.shape, numbers.dtype) != (whole, dtype):
            given = tuple(numbers.shape[1:])
            raise ValueError(f"shape is {tuple(shape)}; an earlier piece of the batch was given {given}")
        self._calls += 1
        return numbers[self.rows]


def _randn(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Standard normal in float32 on the CPU, whatever torch's defaults are."""
    return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")


# Their names in version 0.1.0.
mix, PerSample, Draws, Noise = fold_in, PerSampleNoise, StepRandomness, RandnLike
