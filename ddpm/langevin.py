"""Langevin dynamics in the space of samples: at one noise level, down a ladder of them, and beside a flow::

    x <- x + delta / 2 score(x) + sqrt(delta) z,     z ~ N(0, I)                                                 (1)

leaves the density whose score it follows unchanged as delta -> 0 (Welling & Teh 2011, eq. 3). The samplers that walk a
grid have the signature of those in `ddpm.samplers`. Their `step_size` is delta over noise(t)^2, so that one number
suits every level (Song & Ermon 2019, algorithm 1); from 4 up they diverge at T, where x is noise alone.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from ddpm._moved import noise_is_randn_like
from ddpm.arguments import answer_like, check_finite, float_tensor, function, instance, number
from ddpm.denoiser import Denoiser, schedule_of
from ddpm.grids import NOISE_ALONE, Grid, check_grid
from ddpm.noise import RandnLike, drawn
from ddpm.samplers import Step, predict
from ddpm.settings import positive_int
from ddpm.shapes import flat, per_sample
from ddpm.targets import Prediction

__all__ = [
    "Score", "annealed_langevin", "flow_and_langevin", "langevin", "metropolis_langevin", "predictor_corrector",
    "score_at",
]  # fmt: skip

#: x -> gradient of the log density at x, of x's shape.
Score = Callable[[Tensor], Tensor]


def score_at(denoise: Denoiser, t: float) -> Score:
    """The score of p_t: -eps / noise(t) by Tweedie's formula. At t = 0 a denoiser has none: `ValueError`."""
    schedule = schedule_of(denoise)
    schedule.check_time(t := number("t", t))
    return lambda x: -predict(denoise, x, t).eps / schedule.noise(t)


@noise_is_randn_like
def langevin(
    score: Score, x: Tensor, *, step_size: float, steps: int, randn_like: RandnLike = torch.randn_like
) -> Iterator[Tensor]:
    """Unadjusted Langevin dynamics, eq. 1 with delta = `step_size`; yields x after each of `steps` moves.

    x is (batch, ...), float32 or float64. On N(m, s^2) its variance becomes s^2 / (1 - delta / (4 s^2)), and from
    delta = 4 s^2 up it diverges. A chain that diverges raises `FloatingPointError`, which names the step size (on a GPU
    after the last move).
    """
    _check(step_size, steps)
    function("score", score)
    check_finite("x", float_tensor("x", x))
    bound = 1e6 * torch.cat([x.abs().flatten(), x.new_ones(1)]).max()  # a tensor, for which no GPU is waited for
    for step in range(1, steps + 1):
        slope = _score(score, x)
        if x.device.type == "cpu" and not torch.isfinite(slope).all():
            raise FloatingPointError(f"the score is not finite at step {step}")
        x = x + step_size / 2 * slope + math.sqrt(step_size) * drawn(randn_like, x)
        if (x.device.type == "cpu" or step == steps) and not (x.abs() < bound).all():
            raise FloatingPointError(f"step_size is {step_size:g}; the chain diverged by step {step}; take a smaller")
        yield x


@noise_is_randn_like
def metropolis_langevin(
    log_density: Callable[[Tensor], Tensor],
    score: Score,
    x: Tensor,
    *,
    step_size: float,
    steps: int,
    randn_like: RandnLike = torch.randn_like,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Metropolis-adjusted Langevin (Roberts & Tweedie 1996): eq. 1 proposes, and no bias is left at any step size.

    `log_density` gives (batch,) for x (batch, ...), float32 or float64, up to a constant. Yields x and which of the
    batch were accepted. With a score of 0 it is the blind random walk of Metropolis. A NaN raises `FloatingPointError`
    (on a GPU after the last move).
    """
    _check(step_size, steps)
    function("score", score)
    function("log_density", log_density)
    check_finite("x", float_tensor("x", x))

    def log_proposal(to: Tensor, origin: Tensor, slope: Tensor) -> Tensor:
        return -flat(to - origin - step_size / 2 * slope).square().sum(1) / (2 * step_size)

    log_p, slope = log_density(x), _score(score, x)
    if instance("log_density(x)", log_p, Tensor).shape != x.shape[:1]:
        raise ValueError(f"log_density answers {tuple(log_p.shape)} at x of {tuple(x.shape)}; it must be (batch,)")
    on_cpu = x.device.type == "cpu"
    sound = torch.ones_like(log_p, dtype=torch.bool)
    if not (torch.isfinite(log_p).all() and torch.isfinite(slope).all()):
        raise FloatingPointError("the log density or the score is not finite where the chain begins")
    for step in range(1, steps + 1):
        to = x + step_size / 2 * slope + math.sqrt(step_size) * drawn(randn_like, x)  # a wild one is rejected below
        log_p_to, slope_to = log_density(to), _score(score, to)
        log_ratio = log_p_to + log_proposal(x, to, slope_to) - log_p - log_proposal(to, x, slope)
        sound &= ~log_ratio.isnan() | (log_p_to == -math.inf)  # a proposal of density 0 is only rejected
        if (on_cpu or step == steps) and not sound.all():
            raise FloatingPointError(f"the log density or the score is NaN {'at' if on_cpu else 'by'} step {step}")
        first = flat(drawn(randn_like, x))[:, 0]  # of the same sample's noise
        log_uniform = torch.special.log_ndtr(first.double() if on_cpu else first)
        accepted = log_uniform < log_ratio
        pick = per_sample(accepted, x)
        x, slope = torch.where(pick, to, x), torch.where(pick, slope_to, slope)
        log_p = torch.where(accepted, log_p_to, log_p)
        yield x, accepted


@noise_is_randn_like
def annealed_langevin(
    denoise: Denoiser,
    x: Tensor,
    timesteps: Grid,
    *,
    step_size: float = 1.0,
    steps_per_level: int = 5,
    randn_like: RandnLike = torch.randn_like,
) -> Iterator[Step]:
    """Song & Ermon (2019), algorithm 1: `steps_per_level` moves of eq. 1 at each time of the grid, highest first.

    From level to level x is rescaled by the ratio of the signals (1 in their model); above a sigma of 160, where x is
    noise alone, by that of the scales. The move to time 0, which their algorithm does not make, is the posterior mean
    at the last level. A Langevin step goes about `step_size` / 2 of the way to a level's density; all steps
    together must undo the growth of the signal, or the result is noise. Calls the denoiser `steps_per_level` times in
    each level, and once more.
    """
    _check(step_size, steps_per_level, "steps_per_level", 4)
    schedule = schedule_of(denoise)
    timesteps = check_grid(timesteps, schedule)
    least_signal = 1 / math.hypot(1, NOISE_ALONE)

    def signal(t: float) -> float:
        return max(schedule.signal(t), least_signal * schedule.scale(t))

    for t, s in pairwise(timesteps):
        delta = step_size * schedule.noise(t) ** 2
        for _ in range(steps_per_level):
            prediction = predict(denoise, x, t)
            x = _move(prediction, x, delta, schedule.noise(t), randn_like)
            yield Step(x, t, prediction)
        if s > 0:
            x = signal(s) / signal(t) * x
        else:
            prediction = predict(denoise, x, t)
            yield Step(prediction.x0, s, prediction)


@noise_is_randn_like
def predictor_corrector(
    denoise: Denoiser,
    x: Tensor,
    timesteps: Grid,
    *,
    step_size: float = 0.1,
    corrector_steps: int = 1,
    randn_like: RandnLike = torch.randn_like,
) -> Iterator[Step]:
    """A move down the flow, then `corrector_steps` of eq. 1 where it ends: Y. Song et al. (2021), algorithm 1.

    The predictor is deterministic DDIM. Calls the denoiser 1 + `corrector_steps` times a move, and once in the last.
    """
    _check(step_size, corrector_steps, "corrector_steps", 4)
    schedule = schedule_of(denoise)
    timesteps = check_grid(timesteps, schedule)
    for t, s in pairwise(timesteps):
        prediction = predict(denoise, x, t)
        x = schedule.add_noise(prediction.x0, s, prediction.eps)
        yield Step(x, s, prediction)
        for _ in range(corrector_steps if s > 0 else 0):
            prediction = predict(denoise, x, s)
            x = _move(prediction, x, step_size * schedule.noise(s) ** 2, schedule.noise(s), randn_like)
            yield Step(x, s, prediction)


@noise_is_randn_like
def flow_and_langevin(
    denoise: Denoiser,
    x: Tensor,
    timesteps: Grid,
    *,
    weight: float = 1.0,
    randn_like: RandnLike = torch.randn_like,
) -> Iterator[Step]:
    """One move of the probability flow plus `weight` times one of eq. 1 with delta = beta (Karras et al. 2022, eq. 6).

    beta is `schedule.beta(t, s)`, times (scale(s) / scale(t))^2, because x is at s by then. At weight 0 it is
    deterministic DDIM, at 1 to first order in beta ancestral sampling; in the limit of small moves every weight from 0
    up has the same marginals. The last move has no noise. A weight with which a Langevin step of this grid would
    diverge, weight beta(t, s) >= 4 noise(t)^2, is refused.
    """
    schedule = schedule_of(denoise)
    timesteps = check_grid(timesteps, schedule)
    shares = [schedule.beta(t, s) / schedule.noise(t) ** 2 for t, s in pairwise(timesteps) if s > 0]
    limit = 4 / max(shares) if shares else math.inf
    if not 0 <= number("weight", weight) < limit:
        raise ValueError(f"weight is {weight}; on these timesteps it must be at least 0 and below {limit:.4g}")
    for t, s in pairwise(timesteps):
        prediction = predict(denoise, x, t)
        x = schedule.add_noise(prediction.x0, s, prediction.eps)
        if s > 0 and weight > 0:
            unit = schedule.scale(s) / schedule.scale(t)  # of x at s, in units of x_t
            delta = weight * schedule.beta(t, s) * unit**2
            x = _move(prediction, x, delta, schedule.noise(t) * unit, randn_like)
        yield Step(x, s, prediction)


def _check(step_size: float, steps: int, name: str = "steps", limit: float = math.inf) -> None:
    if not 0 < number("step_size", step_size) < limit:
        raise ValueError(f"step_size is {step_size}; it must be above 0 and below {limit:g}")
    positive_int(name, steps)


def _move(prediction: Prediction, x: Tensor, delta: float, std: float, randn_like: RandnLike) -> Tensor:
    """Eq. 1 with the score -eps / std of a prediction."""
    return x - delta / (2 * std) * prediction.eps + math.sqrt(delta) * drawn(randn_like, x)


def _score(score: Score, x: Tensor) -> Tensor:
    return answer_like("score", score(x), x)
