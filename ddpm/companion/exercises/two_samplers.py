"""The last exercise of chapter 4: two samplers are walked with an exact denoiser, and every move is looked at."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm.companion.answering import NOTHING, is_blank
from ddpm.companion.exercises.from_nothing import bumps_of_the_ring
from ddpm.companion.exercises.practicals import StandIn, alike, described, first_fault
from ddpm.messages import counted
from ddpm.oracles import GaussianMixture
from ddpm.schedule import linear
from ddpm.targets import Prediction

__all__ = ["SLIPS_OF_DDIM", "SLIPS_OF_SOLVER", "grade_samplers", "said_of_samplers"]

#: (denoise, x, alpha_bar, times) -> x at the last time.
Walk = Callable[[Callable[..., tuple[Tensor, Tensor]], Tensor, Tensor, list[int]], Tensor]


class Move(NamedTuple):
    """What is known in a move from x at time t to the earlier time s.

    Attributes:
        x: the state at t.
        x0: the image that the denoiser sees in it.
        eps: the noise that it sees.
        t: alpha_bar at t.
        s: alpha_bar at s.
        before: alpha_bar at the time that the move before began at; None in the first move.
        x0_before: the image that was seen there.
        x0_first: the image that was seen in the first move.
    """

    x: Tensor
    x0: Tensor
    eps: Tensor
    t: float
    s: float
    before: float | None
    x0_before: Tensor
    x0_first: Tensor


Moved = Callable[[Move], Tensor]


def _by_ddim(m: Move) -> Tensor:
    """Where a move ends: equation 4 with eta = 0."""
    return math.sqrt(m.s) * m.x0 + math.sqrt(1 - m.s) * m.eps


def _sigma(alpha_bar: float) -> float:
    return math.sqrt((1 - alpha_bar) / alpha_bar)


def _share(m: Move) -> float:
    """By how much of its last change the guess is followed on to the middle of a move, in log sigma."""
    if m.before is None or m.s == 1:  # the first move, and the last
        return 0.0
    return math.log(_sigma(m.t) / _sigma(m.s)) / (2 * math.log(_sigma(m.before) / _sigma(m.t)))


def _middle(m: Move) -> Tensor:
    """The guess at the image in the middle of a move."""
    return m.x0 + _share(m) * (m.x0 - m.x0_before)


def _by_solver(m: Move) -> Tensor:
    """Where a move ends: DPM-Solver++(2M)."""
    return _to(m, _middle(m))


def _to(m: Move, middle: Tensor, power: int = 1) -> Tensor:
    """Where a move ends with this guess at the image, and with sigma to this power."""
    ratio = (_sigma(m.s) / _sigma(m.t)) ** power
    return math.sqrt(m.s) * (ratio * m.x / math.sqrt(m.t) + (1 - ratio) * middle)


def _followed(share: Callable[[Move], float]) -> Moved:
    """A move of DPM-Solver++ that follows the guess by another share, where there is one to follow."""
    return lambda m: _to(m, m.x0 + (share(m) if _share(m) else 0.0) * (m.x0 - m.x0_before))


def _in_sigma(m: Move) -> float:
    before = m.t if m.before is None else m.before
    return (_sigma(m.t) - _sigma(m.s)) / (2 * (_sigma(before) - _sigma(m.t)))


#: What is often made of a move of DDIM, by the hint that helps.
SLIPS_OF_DDIM: dict[str, Moved] = {
    "it stays where it is: mix image and noise anew, for the time that it goes to.": lambda m: m.x,
    "that is the image alone. The predicted noise is put back, as much as belongs to the next time.": lambda m: m.x0,
    "the noise is missing, which is put back.": lambda m: math.sqrt(m.s) * m.x0,
    "alpha_bar is a share of the variance. What is multiplied are the roots.": lambda m: m.s * m.x0 + (1 - m.s) * m.eps,
    "the image needs its root, too.": lambda m: m.s * m.x0 + math.sqrt(1 - m.s) * m.eps,
    "the noise needs its root, too.": lambda m: math.sqrt(m.s) * m.x0 + (1 - m.s) * m.eps,
    "the image and the noise have changed places.": lambda m: math.sqrt(1 - m.s) * m.x0 + math.sqrt(m.s) * m.eps,
    "the noise is put back, not taken away: it is added.": lambda m: math.sqrt(m.s) * m.x0 - math.sqrt(1 - m.s) * m.eps,
    "the image is multiplied by the signal of the time that it goes to.": lambda m: (
        math.sqrt(m.t) * m.x0 + math.sqrt(1 - m.s) * m.eps
    ),
    "the noise is as much as belongs to the time that it goes to.": lambda m: (
        math.sqrt(m.s) * m.x0 + math.sqrt(1 - m.t) * m.eps
    ),
    "the image in it grows with the signal.": lambda m: m.x0 + math.sqrt(1 - m.s) * m.eps,
    "the image that is seen is not clipped: clean points lie beyond 1, too.": lambda m: (
        math.sqrt(m.s) * m.x0.clamp(-1, 1) + math.sqrt(1 - m.s) * m.eps
    ),
    "that is the mean of an ancestral move: at eta = 0 all of the noise is the predicted one.": lambda m: (
        math.sqrt(m.s) * m.x0 + math.sqrt(max(0.0, 1 - m.s - (1 - m.s) / (1 - m.t) * (1 - m.t / m.s))) * m.eps
    ),
}
#: What is often made of a move of DPM-Solver++(2M), by the hint that helps.
SLIPS_OF_SOLVER: dict[str, Moved] = {
    "that is DDIM's. From the second move on, follow the two last guesses to the middle.": _by_ddim,
    "the middle is half way: a factor of 2 is missing below.": _followed(lambda m: 2 * _share(m)),
    "the guess is followed onward, away from the one before: the sign is wrong.": _followed(lambda m: -_share(m)),
    "its fraction stands on its head: this move is above, the one before below.": _followed(
        lambda m: 1 / (4 * _share(m))
    ),
    "the line is straight in log sigma, not in sigma.": _followed(_in_sigma),
    "both moves count as equally long: the quotient of the two logarithms is missing.": _followed(lambda m: 0.5),
    "sigma is the root of (1 - alpha_bar) / alpha_bar, also where it multiplies y.": lambda m: _to(m, _middle(m), 2),
    "the guess before is that of the move before, not of the first one.": lambda m: _to(
        m, m.x0 + _share(m) * (m.x0 - m.x0_first)
    ),
    "that goes on from the guess before. Go on from the present one.": lambda m: _to(
        m, m.x0_before + _share(m) * (m.x0 - m.x0_before)
    ),
    "y is x over its signal.": lambda m: _by_solver(m._replace(x=math.sqrt(m.t) * m.x)),
    "that is y. Multiply by the signal to have x again.": lambda m: _by_solver(m) / math.sqrt(m.s),
    "it stays where it is.": lambda m: m.x,
}


def grade_samplers(walk_by_ddim: Walk, walk_by_solver: Walk, *, seed: int = 0) -> None:
    """Tell a student whether two samplers are right, and if not, which move is wrong and what it may have overlooked.

    Args:
        walk_by_ddim: (denoise, x, alpha_bar, times) -> x at the last time, by DDIM with eta = 0. x is (n, d), alpha_bar
            the table (T + 1,), and times a list of integers that falls to 0. `denoise(x, t)` answers (x0, eps).
        walk_by_solver: the same by DPM-Solver++(2M).
        seed: of the points, the times and the distribution.
    """
    print(f"exercise, two samplers: {said_of_samplers(walk_by_ddim, walk_by_solver, seed)}")


def said_of_samplers(walk_by_ddim: Walk, walk_by_solver: Walk, seed: int) -> str:
    """What `grade_samplers` tells; it begins with "right" if both samplers are."""
    if is_blank(walk_by_ddim) and is_blank(walk_by_solver):
        return "not written yet"
    return first_fault(_faults_of_both(walk_by_ddim, walk_by_solver), seed)


def _faults_of_both(walk_by_ddim: Walk, walk_by_solver: Walk) -> Iterator[str]:
    schedule = linear(int(torch.randint(400, 800, ())))
    eighths = torch.arange(8, 0, -1) - torch.rand(8) / 2
    times = [*(schedule.T * eighths / 8).round().int().tolist(), 0]
    ring, _ = bumps_of_the_ring(3, turn=torch.rand(()).item())
    mixture = GaussianMixture([1, 2, 3], 2 * ring, 0.4, schedule)
    x = torch.randn(5, 2, dtype=torch.float64)
    parts = {
        "walk_by_ddim": (walk_by_ddim, _by_ddim, SLIPS_OF_DDIM),
        "walk_by_solver": (walk_by_solver, _by_solver, SLIPS_OF_SOLVER),
    }
    for name, (walk, right, slips) in parts.items():
        if is_blank(walk):
            done = "" if name == "walk_by_ddim" else "walk_by_ddim is right; "
            yield f"not yet. {done}{name} is not written yet."
        for fault in _faults_of_walk(walk, mixture, x, times, right, slips):
            yield f"not yet. {name} {fault}"


def _faults_of_walk(
    walk: Walk, mixture: GaussianMixture, x: Tensor, times: list[int], right: Moved, slips: Mapping[str, Moved]
) -> Iterator[str]:
    def answer(x: Tensor, t: float | Tensor) -> Prediction:
        if (torch.as_tensor(t) == 0).any():  # where a mixture says nothing of the noise
            return Prediction(x.clone(), torch.zeros_like(x))
        return mixture(x, t)

    denoise, given, table = StandIn(answer), x.clone(), mixture.schedule.alpha_bar.clone()
    end = walk(denoise, given, table, list(times))
    if not isinstance(end, Tensor) or end.shape != x.shape:
        yield NOTHING if end is None else f"returns {described(end)}; asked for is x at time 0, {tuple(x.shape)}."
        return
    if not torch.equal(given, x):
        yield "changes the x that it is given. Make a new one in every move."
        return
    if not torch.equal(table, mixture.schedule.alpha_bar):
        yield "changes the alpha_bar that it is given. Make a new one."
        return
    yield from _faults_of_calls(denoise.calls, x, times)
    torch.manual_seed(torch.initial_seed() + 1)
    if not alike(walk(StandIn(answer), x.clone(), table.clone(), list(times)), end):
        yield "draws noise. Nothing is drawn here: twice from one x it must end in the same place."
    states = [state for state, _ in denoise.calls] + [end.detach()]
    yield from _faults_of_moves(mixture, states, times, right, slips)


def _faults_of_calls(calls: Sequence[tuple[Tensor, float | Tensor]], x: Tensor, times: list[int]) -> Iterator[str]:
    """Of what the denoiser is asked."""
    moves = len(times) - 1
    if len(calls) != moves:
        made = counted(len(calls), "time")
        yield f"calls the denoiser {made}; {moves} moves need one call each, and none is made at time 0."
        return
    for (_, told), t in zip(calls, times, strict=False):
        if bool((torch.as_tensor(told) != t).any()):
            said = torch.as_tensor(told).flatten()[0].item()
            yield f"tells the denoiser {said:g} where x is at time {t}. The times are {times}."
    if not alike(calls[0][0], x):
        yield "begins at another x than the one that it is given."


def _faults_of_moves(
    mixture: GaussianMixture, states: list[Tensor], times: list[int], right: Moved, slips: Mapping[str, Moved]
) -> Iterator[str]:
    """Of the first move that ends elsewhere than it should, from where the student's own began."""
    moves = _moves(mixture, states, times)
    wrong = [i for i, move in enumerate(moves) if not _is_there(states[i + 1], right(move))]
    for i in wrong[:1]:
        yield f"is wrong in move {i + 1}, from {times[i]} to {times[i + 1]}: {_hint(moves, states, wrong, slips)}"


def _moves(mixture: GaussianMixture, states: list[Tensor], times: list[int]) -> list[Move]:
    """The moves as they begin at a student's states."""
    left = mixture.schedule.alpha_bar[times].tolist()
    seen = [mixture(x, t) for x, t in zip(states, times[:-1], strict=False)]
    return [
        Move(states[i], *seen[i], t, s, left[i - 1] if i else None, seen[max(0, i - 1)].x0, seen[0].x0)
        for i, (t, s) in enumerate(pairwise(left))
    ]


def _hint(moves: list[Move], states: list[Tensor], wrong: list[int], slips: Mapping[str, Moved]) -> str:
    """What may have been overlooked: the slip that explains all moves that are wrong."""
    for hint, slip in slips.items():
        if all(_is_there(states[i + 1], slip(moves[i])) for i in wrong):
            return hint
    if not states[wrong[0] + 1].isfinite().all():
        return "its end is not finite. At time 0 sigma is 0: it has no logarithm, and divides nothing."
    return "its end is none of the usual slips'. Is each number that of its own time? alpha_bar[0] is 1."


def _is_there(x: Tensor, other: Tensor) -> bool:
    return alike(x, other, rtol=1e-5, atol=1e-6)
