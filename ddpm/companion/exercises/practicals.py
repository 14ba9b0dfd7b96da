"""What the exercises share that write code around a network: who stands in for it, and what is said of a loss."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import Parameter, Signature
from typing import Any

import torch
from torch import Tensor, nn

from ddpm.companion.answering import raised
from ddpm.messages import counted

__all__ = [
    "StandIn", "alike", "are_even", "constant", "described", "fault_of_mean", "fault_of_one_call", "fault_of_path",
    "fault_of_repeating", "faults_of_times", "first_fault", "levels", "noise_in",
]  # fmt: skip


def first_fault(faults: Iterator[str], seed: int, right: str = "right") -> str:
    """What a student is told: the first fault, or that there is none.

    Args:
        faults: what is wrong, in the order in which it is best mended; found while it is walked.
        seed: of everything that is drawn meanwhile.
        right: what is told where there is no fault.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return next(faults, right)
        except Exception as error:  # whatever a student's code runs into
            return f"not yet. It {raised(error)}"


class StandIn(nn.Module):
    """Stands in for a network or a denoiser: answers what a function does, and remembers what it was asked and said.

    Args:
        answer: the function. It is given what the network is asked, in the order of `takes`.
        takes: the names of the network's arguments. Every call gives all of them, or it raises `TypeError`.
    """

    def __init__(self, answer: Callable[..., Any], takes: Iterable[str] = ("x", "t")) -> None:
        super().__init__()
        self.answer = answer
        self.takes = Signature([Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in takes])
        self.calls: list[tuple[Any, ...]] = []
        self.answers: list[Any] = []

    def forward(self, *asked: Any, **named: Any) -> Any:
        try:
            asked = self.takes.bind(*asked, **named).args
        except TypeError as error:
            raise TypeError(f"what is called takes {self.takes}: {error}") from None
        self.calls.append(tuple(each.detach().clone() if isinstance(each, Tensor) else each for each in asked))
        answer = self.answer(*asked)
        self.answers.append(answer)
        return answer.clone() if isinstance(answer, Tensor) else answer  # which a student may change in place


def constant(guess: float | Tensor, takes: Iterable[str] = ("x", "t")) -> StandIn:
    """A network that always answers the same; what it answers has a gradient if the guess has one."""
    return StandIn(lambda x, *_: guess * torch.ones_like(x), takes)


def alike(a: Tensor, b: Tensor, rtol: float = 1e-3, atol: float = 1e-4) -> bool:
    """Whether two tensors are the same but for rounding."""
    return torch.allclose(a, b.to(a), rtol=rtol, atol=atol, equal_nan=True)


def described(value: object) -> str:
    """What a value is that should be another tensor."""
    if not isinstance(value, Tensor):
        return f"of type {type(value).__name__}"
    return f"a tensor of shape {tuple(value.shape)} in {str(value.dtype).removeprefix('torch.')}"


def fault_of_one_call(network: StandIn, value: object) -> str | None:
    """Of a loss as such: it calls the network once, and is a number from which one can learn."""
    if len(network.calls) != 1:
        calls = counted(len(network.calls), "time")
        return f"The loss calls the network {calls}. One call at one time an image is enough."
    if not isinstance(value, Tensor) or value.shape:
        return f"The loss is {described(value)}; it is one number, as a tensor with a gradient: a mean."
    if not value.requires_grad:
        return "The loss has no gradient, and the network would learn nothing: detach nothing, and leave no_grad out."
    return None


def faults_of_times(t: object, n: int, first: int, last: int) -> Iterator[str]:
    """Of the times that a loss tells a network: n integers, from the first to the last."""
    if not isinstance(t, Tensor) or t.shape != (n,) or t.is_floating_point():
        yield f"The loss: its times are {described(t)}; they are integers from {first} to {last}, one for each image."
    elif (t == t[0]).all():
        yield "The loss: every image needs a time of its own; a batch at one time is far noisier."
    elif t.min() != first or t.max() != last:
        yield f"The loss: its times go from {t.min()} to {t.max()}; all from {first} to {last} are walked over."
    elif not are_even((t + 1 - first) / (last + 1 - first)):
        yield "The loss: every time is equally likely."


def are_even(times: Tensor) -> bool:
    """Whether 20,000 numbers in [0, 1] are spread evenly: even ones are off by 0.02 once in a million draws."""
    ranks = torch.arange(1, len(times) + 1) / len(times)
    return bool((times.sort().values - ranks).abs().max() < 0.02)


def fault_of_path(
    x_t: Tensor, x0: Tensor, times: Tensor, right: tuple[Tensor, Tensor], slips: Mapping[str, tuple[Tensor, Tensor]]
) -> str | None:
    """Which slip makes noisy images that are not the signal times the image and the noise times a fresh N(0, 1).

    Args:
        x_t: what the network is shown, (20,000, d).
        x0: the images, with mean 1 and standard deviation 3.
        times: (20,000,), at which the noise is looked at in four parts.
        right: signal and noise, (20,000, 1) each.
        slips: what is often taken instead, by the hint that helps.
    """
    if _is_fresh(noise_in(x_t, x0, *right), x0, times):
        return None
    hints = (hint for hint, slip in slips.items() if _is_fresh(noise_in(x_t, x0, *slip), x0, times))
    unknown = (
        "its noisy images have no fresh N(0, 1) for every number, or are not of the times that the network is told."
    )
    return f"The loss: {next(hints, unknown)}"


def levels(alpha_bar: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise at times (n,) of a table, (n, 1) each."""
    left = alpha_bar[t][:, None]
    return left.sqrt(), (1 - left).sqrt()


def noise_in(x_t: Tensor, x0: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """The noise that has made noisy images of images."""
    return (x_t - signal * x0) / noise.clamp(min=1e-5)  # below, it would magnify rounding


def _is_fresh(eps: Tensor, x0: Tensor, times: Tensor) -> bool:
    """Whether noise is N(0, 1), each number independent of the others and of the images, whatever the time is."""
    for part in times.argsort().chunk(4):  # of 5,000 images: what is averaged below scatters by 0.014 at most
        e = eps[part]
        of_neighbours = (e * e.roll(1, 1)).mean()
        off = [e.mean(), e.square().mean() - 1, (e * (x0[part] - 1) / 3).mean(), of_neighbours]
        if not max(abs(each.item()) for each in off) < 0.1:
            return False
    return bool((eps.pow(4).mean() - 3).abs() < 0.6)  # of evenly spread numbers it is 1.8, of random signs 1


def fault_of_repeating(times: tuple[Tensor, Tensor], noise: tuple[Tensor, Tensor]) -> str | None:
    """Of what two calls of a loss draw: neither the times nor the noise are the same."""
    if torch.equal(*times) or (noise[0] - noise[1]).abs().mean() < 0.01:
        return "The loss: the same times or noise in every call. Draw anew each time."
    return None


def fault_of_mean(value: Tensor, said: Tensor, wanted: Tensor, instead: Mapping[str, Tensor]) -> str | None:
    """Which slip makes a loss something else than the mean squared error of what a network said; None if none did.

    Args:
        value: the loss.
        said: what the network has said, (n, ...), from which the loss was computed.
        wanted: what it should say.
        instead: what it is often compared with instead, by the hint that helps.
    """
    error = wanted - said.detach()
    (slope,) = torch.autograd.grad(value, said, allow_unused=True)
    if slope is None:
        return "The loss has no gradient in what the network says: make no new tensor of its value."
    compared = -slope * error.numel() / 2  # of a mean squared error the error of each number
    is_mean_square = _same(value, compared.square().mean())
    if is_mean_square and _is_near(compared, error):
        return None
    slips = {
        "that is the sum. Its mean does not depend on the size of a batch.": error.square().sum(),
        "that is the sum over an image's numbers. Take the mean over these, too.": error.square().sum() / len(error),
        "squared, not absolute: the mean is what is wanted, not the median.": error.abs().mean(),
        "the mean of the squares, without a root.": error.square().mean().sqrt(),
        "square first, then take the mean.": error.mean().square(),
    }
    hints = [hint for hint, slip in slips.items() if _same(value, slip)]
    if is_mean_square:
        hints += [hint for hint, other in instead.items() if _is_near(compared, other - said.detach())]
        hints.append("it compares with something else than was mixed into the images. Is the noise drawn once?")
    return f"The loss: {[*hints, 'it is not the mean squared error.'][0]}"


def _is_near(error: Tensor, other: Tensor) -> bool:
    """Whether the errors of all numbers are the same, but where what was mixed is hard to tell from an image."""
    return bool((error - other).abs().mean() < 0.01)


def _same(value: Tensor, other: Tensor) -> bool:
    return alike(value.detach(), other, rtol=1e-4, atol=0)
