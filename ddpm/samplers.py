"""Samplers as pure generators: each walks a grid of times with a `Denoiser` and yields every state.

The samplers share one signature, but `invert` and `invert_heun` take no `randn_like`. x (batch, ...) is the state at
`timesteps[0]`, float32 or float64; as noise alone it is `schedule.scale(timesteps[0])` times a standard normal, and the
scale is 1 on schedules that keep the variance; every state keeps its dtype and device. `timesteps` decreases strictly
and ends in 0 (`NoiseSchedule.timesteps` makes such grids); it is a list of numbers, or a 1-D array or tensor of them.
`randn_like(x)` returns standard normal noise of x's shape. A bad argument raises `ValueError` or `TypeError` when the
first state is asked for; a prediction that is not finite raises `FloatingPointError`. Gradients pass through a walk;
`torch.no_grad` around it saves their memory.

A walk ends in 0 and takes no changed state back. To change states on the way, as inpainting does, write the loop over
`pairwise(timesteps)` yourself: `x = schedule.add_noise(prediction.x0, s, prediction.eps)` is DDIM's move to s.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ddpm._moved import noise_is_randn_like
from ddpm.arguments import float_tensor, instance, number
from ddpm.denoiser import Denoiser, answer_of, schedule_of
from ddpm.grids import Grid, check_grid
from ddpm.noise import RandnLike, drawn
from ddpm.schedule import NoiseSchedule
from ddpm.settings import one_of
from ddpm.targets import Prediction, prediction_of

__all__ = ["Step", "ancestral", "ddim", "dpm_solver_pp", "final", "heun", "invert", "invert_heun", "predict"]


class Step(NamedTuple):
    """A state x at time t, and the prediction with which it was reached."""

    x: Tensor
    t: float
    prediction: Prediction


@noise_is_randn_like
def ancestral(
    denoise: Denoiser,
    x: Tensor,
    timesteps: Grid,
    *,
    variance: Literal["small", "large"] = "small",
    randn_like: RandnLike = torch.randn_like,
) -> Iterator[Step]:
    """Ancestral sampling of Ho et al. (2020), algorithm 2, over any grid; the last move adds no noise.

    `variance` is the posterior's ("small") or the forward step's ("large"), section 3.2. The step's is that of
    x / scale, so that it means the same on every schedule.
    """
    schedule = schedule_of(denoise)
    timesteps = check_grid(timesteps, schedule)
    one_of("variance", variance, ("small", "large"))
    for t, s in pairwise(timesteps):
        prediction = predict(denoise, x, t)
        kept = schedule.signal(t) / schedule.signal(s)  # sqrt(alpha) of the move
        beta = schedule.beta(t, s)
        x0_term = schedule.signal(s) * beta * prediction.x0
        x_term = kept * schedule.noise(s) ** 2 * x
        x = (x0_term + x_term) / schedule.noise(t) ** 2  # the posterior's mean, eq. 7
        if s > 0:
            large = math.sqrt(beta) * schedule.scale(s) / schedule.scale(t)
            std = schedule.posterior_std(t, s) if variance == "small" else large
            x = x + std * drawn(randn_like, x)
        yield Step(x, s, prediction)


@noise_is_randn_like
def ddim(
    denoise: Denoiser,
    x: Tensor,
    timesteps: Grid,
    *,
    eta: float = 0.0,
    randn_like: RandnLike = torch.randn_like,
) -> Iterator[Step]:
    """DDIM of J. Song et al. (2021): deterministic at `eta` 0, ancestral sampling with the small variance at 1."""
    schedule = schedule_of(denoise)
    timesteps = check_grid(timesteps, schedule)
    if not 0 <= number("eta", eta) <= 1:
        raise ValueError(f"eta is {eta}; it must be in [0, 1]")
    for t, s in pairwise(timesteps):
        prediction = predict(denoise, x, t)
        std = eta * schedule.posterior_std(t, s)  # eq. 16
        direction = math.sqrt(max(0.0, schedule.noise(s) ** 2 - std**2)) * prediction.eps  # rounding may go below 0
        x = schedule.signal(s) * prediction.x0 + direction  # eq. 12
        if std > 0:
            x = x + std * drawn(randn_like, x)
        yield Step(x, s, prediction)


@noise_is_randn_like
def heun(
    denoise: Denoiser,
    x: Tensor,
    timesteps: Grid,
    *,
    coordinates: Literal["angle", "sigma"] = "angle",
    churn: float = 0.0,
    randn_like: RandnLike = torch.randn_like,
) -> Iterator[Step]:
    """Heun's second-order method on the probability flow: a DDIM move, corrected by the prediction where it ends.

    With "angle" it follows du / d phi = v of u = x / scale, whose signal is cos phi and whose noise sin phi (Salimans &
    Ho 2022, appendix D). With "sigma" it is algorithm 1 of Karras et al. (2022): dy / d sigma = eps, where
    y = x / signal and sigma = noise / signal. That one errs without bound where sigma(T) is large, as it is in the
    cosine schedule, and cannot begin where no signal is left. Yet in 9 calls of the shipped model on a trailing grid,
    its images are nearer to real ones than those of "angle". On the grid of Karras et al. they are much further away
    than either (chapter 4).

    With `churn` above 0 each of the N moves first adds fresh noise, up to sigma (1 + gamma) where
    gamma = min(churn / N, sqrt(2) - 1), and goes down from there: algorithm 2 of Karras et al., without their limits to
    where noise is added. It is never more noise than there is at time T.

    Calls the denoiser twice a move and once in the last, 2 N - 1 times in all. Deterministic at churn 0: `randn_like`
    is not called.
    """
    schedule = schedule_of(denoise)
    timesteps = check_grid(timesteps, schedule)
    one_of("coordinates", coordinates, ("angle", "sigma"))
    if coordinates == "sigma" and schedule.signal(timesteps[0]) == 0:
        raise ValueError(
            f"coordinates is 'sigma', and no signal is left at {timesteps[0]:g}, where the timesteps begin: sigma is "
            "infinite there; take 'angle' or a later start"
        )
    if not 0 <= number("churn", churn) < math.inf:
        raise ValueError(f"churn is {churn}; it must be finite and at least 0")
    gamma = min(churn / (len(timesteps) - 1), math.sqrt(2) - 1)
    for start, s in pairwise(timesteps):
        t = _noisier(schedule, start, gamma)
        if t > start:  # the forward process, from start up to t
            kept = schedule.signal(t) / schedule.signal(start)
            x = kept * x + math.sqrt(schedule.beta(t, start)) * drawn(randn_like, x)
        prediction = predict(denoise, x, t)
        euler = schedule.add_noise(prediction.x0, s, prediction.eps)  # the move of deterministic DDIM
        if s == 0:
            x = euler
        else:
            at_end = predict(denoise, euler, s)
            if coordinates == "angle":
                x = euler + _heun_correction(schedule, prediction, at_end, t, s)
            else:
                slope = (prediction.eps + at_end.eps) / 2
                x = schedule.signal(s) * (x / schedule.signal(t) + (schedule.sigma(s) - schedule.sigma(t)) * slope)
        yield Step(x, s, prediction)


def _noisier(schedule: NoiseSchedule, t: float, gamma: float) -> float:
    """The time at which sigma is (1 + gamma) times as large as at t, and T where there is none."""
    if gamma == 0 or t == schedule.T:
        return t
    return schedule.sigma_to_t(min((1 + gamma) * schedule.sigma(t), schedule.sigma(schedule.T)))


def _heun_correction(schedule: NoiseSchedule, before: Prediction, after: Prediction, t: float, s: float) -> Tensor:
    """What Heun's method adds to a DDIM move from t to s, in x's shape.

    A DDIM move follows du / d phi = v, u = x / scale, exactly while x0 and eps stay what they are at t. By the
    trapezoidal rule, their change adds half the move times what it makes of scale v at s, signal eps - noise x0.
    """
    x0, eps = after.x0 - before.x0, after.eps - before.eps
    return (schedule.angle(s) - schedule.angle(t)) / 2 * (schedule.signal(s) * eps - schedule.noise(s) * x0)


@noise_is_randn_like
def dpm_solver_pp(
    denoise: Denoiser, x: Tensor, timesteps: Grid, *, randn_like: RandnLike = torch.randn_like
) -> Iterator[Step]:
    """DPM-Solver++(2M), Lu et al. (2022), algorithm 2: second order at one call a move, from the move before.

    The first move and the last are of first order. It is of second order where all moves are short in log sigma, as
    those of a "karras" grid are; the first ones of other grids stay long where sigma(T) is large. Deterministic:
    `randn_like` is never called.
    """
    schedule = schedule_of(denoise)
    timesteps = check_grid(timesteps, schedule)
    last_x0: Tensor | None = None  # of the move before: its x0, and its length in lambda = -log sigma
    last_h = 0.0
    for t, s in pairwise(timesteps):
        prediction = predict(denoise, x, t)
        x0 = prediction.x0
        if s > 0:
            h = math.log(schedule.sigma(t) / schedule.sigma(s))
            if last_x0 is not None:
                r = last_h / h
                x0 = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * last_x0  # extrapolated to the middle of this move
            x = schedule.noise(s) / schedule.noise(t) * x - schedule.signal(s) * math.expm1(-h) * x0
            last_x0, last_h = prediction.x0, h
        else:
            x = x0
        yield Step(x, s, prediction)


def invert(denoise: Denoiser, x0: Tensor, timesteps: Grid) -> Iterator[Step]:
    """DDIM walked upward, from a clean x0 to the noise from which `ddim` returns to it in the limit of small steps.

    Takes the same descending grid as `ddim`. Each move uses the noise predicted at its lower end. At time 0, where no
    noise can be predicted, it is that of time 1, or of the move's upper end where this is below 1. Nothing is clipped.
    """
    schedule = schedule_of(denoise)
    timesteps = check_grid(timesteps, schedule)
    x = x0
    for s, t in pairwise(reversed(timesteps)):
        prediction = _predict_below(denoise, x, s, t)
        x = schedule.add_noise(prediction.x0, t, prediction.eps)
        yield Step(x, t, prediction)


def invert_heun(denoise: Denoiser, x0: Tensor, timesteps: Grid) -> Iterator[Step]:
    """`invert` with the moves of `heun` in the angle, walked upward.

    The error of the noise that it finds is O(1 / N^2), down to the error of its first move, which is `invert`'s. That
    one is small on grids whose last time above 0 is small at every N ("karras", "linspace").
    """
    schedule = schedule_of(denoise)
    timesteps = check_grid(timesteps, schedule)
    x = x0
    for s, t in pairwise(reversed(timesteps)):
        prediction = _predict_below(denoise, x, s, t)
        x = schedule.add_noise(prediction.x0, t, prediction.eps)
        if s > 0:
            x = x + _heun_correction(schedule, prediction, predict(denoise, x, t), s, t)
        yield Step(x, t, prediction)


def _predict_below(denoise: Denoiser, x: Tensor, s: float, t: float) -> Prediction:
    """What is seen in x at time s, the lower end of a move up to t; at time 0 the noise is that of a time above."""
    eps = predict(denoise, x, s if s > 0 else min(1, t)).eps
    return prediction_of("eps", eps, x, denoise.schedule.signal(s), denoise.schedule.noise(s))


def predict(denoise: Denoiser, x: Tensor, t: float) -> Prediction:
    """The denoiser's prediction; `TypeError` or `ValueError` where it answers something else.

    Where the prediction is NaN or infinite, `FloatingPointError` names the time, and says whether the state was so
    already. On a GPU nothing is read.
    """
    float_tensor("x", x)
    prediction = answer_of(denoise, x, t)
    on_cpu = x.device.type == "cpu"  # on a GPU, reading a value forces a synchronisation: `final` checks there, once
    if on_cpu and not (torch.isfinite(prediction.x0) & torch.isfinite(prediction.eps)).all():
        whose = "denoiser's answer" if torch.isfinite(x).all() else "state"
        raise FloatingPointError(f"the {whose} at time {t:g} is not finite")
    return prediction


def final(steps: Iterator[Step]) -> Tensor:
    """Run a sampler to its end and return its last x.

    Raises:
        TypeError: what is given are no steps of a sampler.
        ValueError: there are no steps left.
        FloatingPointError: the last x is not finite.
    """
    x = None
    for step in steps:
        x = instance("what steps yields", step, Step).x
    if x is None:
        raise ValueError("the sampler has no steps left; make a new one")
    if not torch.isfinite(x).all():
        raise FloatingPointError("the sampler's last state is not finite")
    return x
