"""How long something takes among others that take turns with it, and the most that the device can do."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F

from ddpm.fast import Recorded
from race.networks import DEVICE, ON_GPU, Settings, wait

Contestant = TypeVar("Contestant", str, Settings)
# Calls before a contestant is timed. On a GPU the last of them records the kernels of this package's network; those of
# a compiled one are recorded in the second.
WARM_UP = Recorded.FIRST_CALLS + 1 if ON_GPU else 1
LATER = "fourth call" if ON_GPU else "third call"  # in a table beside the first one


def seconds(work: Callable[[], None], at_least: float = 0.2) -> float:
    """Seconds of one call, which is repeated until the clock's resolution and an interruption matter little."""
    start, calls = time.perf_counter(), 0
    while True:
        work()
        calls += 1
        if (passed := time.perf_counter() - start) >= at_least:
            return passed / calls


def interleave(
    works: dict[Contestant, Callable[[], None]], rounds: int, warm_up: int = WARM_UP
) -> dict[Contestant, list[float]]:
    """Seconds per call of each contestant in every round; each round begins with another contestant."""
    names = list(works)
    times: dict[Contestant, list[float]] = {name: [] for name in works}
    for work in works.values():
        for _ in range(warm_up):
            work()
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            times[name].append(seconds(works[name]))
    return times


def ratios(times: Sequence[float], over: Sequence[float], name: str) -> dict[str, float]:
    """Smallest, median and largest ratio of two contestants' times within a round."""
    found = [one / other for one, other in zip(times, over, strict=True)]
    kinds = {f"{name} min": min(found), name: statistics.median(found), f"{name} max": max(found)}
    return {kind: round(value, 2) for kind, value in kinds.items()}


def median(values: Sequence[float]) -> float:
    """The median, to four digits."""
    return float(f"{statistics.median(values):.4g}")


def ceiling(dtype: torch.dtype) -> float:
    """The most FLOP/s that a square matrix product or a 3 x 3 convolution reaches, each timed five times."""
    side = 8192 if ON_GPU else 2048
    a = torch.randn(side, side, device=DEVICE, dtype=dtype)
    x = torch.randn(64, 64, 32, 32, device=DEVICE, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(64, 64, 3, 3, device=DEVICE, dtype=dtype).to(memory_format=torch.channels_last)

    def product() -> None:
        a @ a
        wait()

    def convolution() -> None:
        F.conv2d(x, weight, padding=1)
        wait()

    works = ((product, 2 * side**3), (convolution, 2 * 64 * 64 * 9 * x[:, :1].numel()))
    with torch.no_grad():
        return max(flops / min(seconds(work) for _ in range(5)) for work, flops in works)
