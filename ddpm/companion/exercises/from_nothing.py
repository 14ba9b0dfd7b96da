"""The exercise of chapter 0: a diffusion model written by hand is looked at part by part, trained, and drawn from."""

import math
from collections.abc import Callable, Iterator
from itertools import chain

import torch
from torch import Tensor, nn

from ddpm.companion.answering import NOTHING, is_blank
from ddpm.companion.checks import enforced
from ddpm.companion.exercises.practicals import (
    StandIn,
    alike,
    constant,
    described,
    fault_of_mean,
    fault_of_one_call,
    fault_of_path,
    fault_of_repeating,
    faults_of_times,
    first_fault,
    levels,
    noise_in,
)
from ddpm.schedule import linear

__all__ = ["bumps_of_the_ring", "grade_ddpm", "said_of_ddpm", "share_on_bumps"]

Noised = Callable[[Tensor, Tensor, Tensor], Tensor]
Loss = Callable[[nn.Module, Tensor], Tensor]
Step = Callable[[nn.Module, Tensor, int], Tensor]

_RADIUS, _STD, _BUMPS = 1.5, 0.2, 8


def bumps_of_the_ring(bumps: int = _BUMPS, turn: float = 0.0) -> tuple[Tensor, float]:
    """The centres (bumps, 2) of bumps on a circle, by default chapter 0's, and their standard deviation.

    Args:
        bumps: how many.
        turn: by how much the circle is turned, in radians.
    """
    angles = turn + 2 * math.pi * torch.arange(bumps, device="cpu") / bumps
    return _RADIUS * torch.stack([angles.cos(), angles.sin()], dim=1), _STD


def share_on_bumps(points: Tensor, centres: Tensor | None = None) -> Tensor:
    """(bumps,): the share of points (n, 2) within 2.5 standard deviations of each bump, by default chapter 0's.

    Of true points 96 % lie on one of the bumps: 0.12 on each of eight.
    """
    of_the_ring, std = bumps_of_the_ring()
    near = torch.cdist(points.cpu().float(), of_the_ring if centres is None else centres) < 2.5 * std
    return near.float().mean(0)


def grade_ddpm(noised: Noised, loss: Loss, step: Step, *, seed: int = 0) -> None:
    """Tell a student whether the three parts of a diffusion model are right, train it for some seconds, and look.

    Args:
        noised: (x0, t, eps) -> x_t, with times (n,) counted from 0.
        loss: (network, x0) -> the loss of a batch (n, 2), a scalar. The network takes x (n, d) and times (n,).
        step: (network, x, t) -> the state before time t, which is a number.
        seed: of everything that is drawn.
    """
    print(f"exercise, the three parts of a diffusion model: {said_of_ddpm(noised, loss, step, seed)}")


def said_of_ddpm(noised: Noised, loss: Loss, step: Step, seed: int) -> str:
    """What `grade_ddpm` tells; it begins with "right" if the three parts are."""
    return first_fault(_faults(noised, loss, step), seed, "right: what it was trained on is what it draws")


def _faults(noised: Noised, loss: Loss, step: Step) -> Iterator[str]:
    """What is wrong, in the order in which it is best mended."""
    if any(is_blank(part) for part in (noised, loss, step)):  # before any is called: a loss calls `noised`
        yield "not written yet"
        return
    x = torch.randn(6, 2)
    calls: dict[str, Callable[[], Tensor | None]] = {
        "noised": lambda: noised(x.clone(), torch.arange(6), x.clone()),
        "loss": lambda: loss(StandIn(lambda x, t: x.clone()), x.clone()),
        "step_back": lambda: step(StandIn(lambda x, t: x.clone()), x.clone(), 5),
    }
    for name, call in calls.items():
        if call() is None:
            yield f"not yet. {name} {NOTHING}"
            return
    for fault in chain(_faults_of_noised(noised), _faults_of_loss(loss), _faults_of_step(step)):
        yield f"not yet. {fault}"
    if enforced() and not _draws_the_ring(loss, step):
        yield "not yet, and none of the usual slips: each part looks right, but the ring is not what is drawn"


def _schedule() -> tuple[Tensor, Tensor]:
    """The betas and alpha_bars of times 0 to T - 1, (1000,) each."""
    alpha_bar = linear().alpha_bar.float().to(torch.get_default_device())
    return 1 - alpha_bar[1:] / alpha_bar[:-1], alpha_bar[1:]


def _faults_of_noised(noised: Noised) -> Iterator[str]:
    beta, alpha_bar = _schedule()
    x0, eps, t = torch.randn(3, 2), torch.randn(3, 2), torch.tensor([3, 371, 902])
    left, added = alpha_bar[t][:, None], beta[t][:, None]
    answer = noised(x0.clone(), t, eps.clone())
    before = alpha_bar[t - 1][:, None]
    slips = {
        "x_t: the variances add up to 1; what is multiplied are their square roots.": left * x0 + (1 - left) * eps,
        "x_t: the image needs its square root, too.": left * x0 + (1 - left).sqrt() * eps,
        "x_t: the noise needs its square root, too.": left.sqrt() * x0 + (1 - left) * eps,
        "x_t: the image and the noise have changed places.": (1 - left).sqrt() * x0 + left.sqrt() * eps,
        "x_t: that is a single step of noise. All t steps at once take alpha_bar.": (1 - added).sqrt() * x0
        + added.sqrt() * eps,
        "x_t: alpha_bar is that of t, not of the step before.": before.sqrt() * x0 + (1 - before).sqrt() * eps,
        "x_t: the image shrinks as noise is added, or the variance would grow.": x0 + (1 - left).sqrt() * eps,
    }
    if answer.shape != x0.shape:
        yield f"x_t has shape {tuple(answer.shape)}; its images have {tuple(x0.shape)}. One alpha_bar an image."
    elif not alike(answer, left.sqrt() * x0 + (1 - left).sqrt() * eps):
        hints = (hint for hint, slip in slips.items() if alike(answer, slip))
        yield next(hints, "x_t is not sqrt(alpha_bar) of the image and sqrt(1 - alpha_bar) of the noise.")


def _faults_of_loss(loss: Loss) -> Iterator[str]:
    """By what it asks of a network that always answers 2, of 20,000 images."""
    network, x0 = constant(torch.tensor(2.0, requires_grad=True)), 1 + 3 * torch.randn(20_000, 2)
    value = loss(network, x0.clone())
    if fault := fault_of_one_call(network, value):
        yield fault
        return
    ((x_t, t),), (_, alpha_bar) = network.calls, _schedule()
    yield from faults_of_times(t, len(x0), 0, 999)
    yield from _faults_of_error(value, network.answers[0], x0, x_t, t, alpha_bar)
    network_again = constant(torch.tensor(2.0, requires_grad=True))
    loss(network_again, x0.clone())
    x_again, t_again = network_again.calls[0]
    noise = noise_in(x_t, x0, *levels(alpha_bar, t)), noise_in(x_again, x0, *levels(alpha_bar, t_again))
    if fault := fault_of_repeating((t, t_again), noise):
        yield fault


def _faults_of_error(
    value: Tensor, said: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, alpha_bar: Tensor
) -> Iterator[str]:
    """Of what a loss compares: x_t says which noise was drawn."""
    eps = noise_in(x_t, x0, *levels(alpha_bar, t))
    instead = {
        "the network is asked for the noise, not for the noisy image.": x_t,
        "the network is asked for the noise; here it was compared with the image.": x0,
    }
    path = fault_of_path(x_t, x0, t, levels(alpha_bar, t), {})
    if fault := path or fault_of_mean(value, said, eps, instead):
        yield fault


def _faults_of_step(step: Step) -> Iterator[str]:
    """At the last time, at one in the middle, and where noise is least."""
    for t in (999, 100, 1):
        yield from _faults_at(step, t)
    if step(constant(0.0), torch.zeros(1000, 2), 0).std(0).max() > 1e-4:
        yield "The step back: the last one, from t = 0, adds no noise, or it would stay in the image."


def _faults_at(step: Step, t: int) -> Iterator[str]:
    """By how much a step multiplies the state and the guess, with the same noise each time."""

    def after(state: float, guess: float) -> Tensor:
        torch.manual_seed(0)
        return step(constant(guess), torch.full((20_000, 2), float(state)), t)

    network = constant(0.0)
    step(network, torch.zeros(3, 2), t)
    told = [times for _, times in network.calls]
    if any(not isinstance(times, Tensor) or times.shape != (3,) for times in told):
        yield f"The step back: the network's times are {described(told[0])}; they are a tensor, one time an image."
        return
    if any((times != t).any() for times in told):
        yield "The step back: the network must be told the time of the state that it sees."
    noise = after(0, 0)
    of_state, of_guess = (after(1, 0) - noise).mean(), (after(0, 1) - noise).mean()
    beta, alpha_bar = _schedule()
    b, left = beta[t], alpha_bar[t]
    grows, takes = 1 / (1 - b).sqrt(), b / (1 - left).sqrt()
    slips = {
        "noise is taken away, not added.": (grows, grows * takes),
        "what is left must be scaled up again.": (torch.ones(()), -takes),
        "all of it is scaled up, the noise that is taken away, too.": (grows, -takes),
        "it takes away one step's noise, not all of it.": (1 / left.sqrt(), -((1 - left) / left).sqrt()),
        "the guess is divided by the root of 1 - alpha_bar.": (grows, -grows * b / (1 - left)),
        "what divides the guess is sqrt(1 - alpha_bar).": (grows, -grows * b / (1 - b).sqrt()),
        "it scales up by one step, sqrt(1 - beta), not by alpha_bar.": (1 / left.sqrt(), -takes / left.sqrt()),
    }

    def fits(state: Tensor, guess: Tensor) -> bool:
        return bool((of_state / state - 1).abs() < 3e-3 and (of_guess / guess - 1).abs() < 3e-3)

    if not fits(grows, -grows * takes):
        hints = (hint for hint, slip in slips.items() if fits(*slip))
        hint = next(hints, f"at t = {t} it is not equation 2. Are its numbers those of t?")
        yield f"The step back: {hint}"
    yield from _faults_of_noise(noise.std(), t)


def _faults_of_noise(std: Tensor, t: int) -> Iterator[str]:
    """Of the noise that a step back adds: its variance is beta, or the posterior's, a little smaller."""
    beta, alpha_bar = _schedule()
    smaller = beta[t] * (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t])
    if std < 0.01 * smaller.sqrt():
        yield f"The step back: every step but the last adds fresh noise, and at t = {t} none was found."
    elif not any((std / variance.sqrt() - 1).abs() < 0.03 for variance in (beta[t], smaller)):
        yield f"The step back: the noise that it adds has variance beta (at t = {t} it has not); multiply by its root."


def _draws_the_ring(loss: Loss, step: Step) -> bool:
    """Whether a network trained by this loss, and walked back by this step, draws what it was trained on."""
    centres, std = bumps_of_the_ring()
    data = centres.to(torch.get_default_device())[torch.randint(_BUMPS, (20_000,))] + std * torch.randn(20_000, 2)
    network = _SmallNetwork()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    cooling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=1500)
    for _ in range(1500):
        optimiser.zero_grad()
        loss(network, data[torch.randint(len(data), (256,))]).backward()
        optimiser.step()
        cooling.step()
    x = torch.randn(1000, 2)
    with torch.no_grad():
        for t in reversed(range(1000)):
            x = step(network, x, t)
    share = share_on_bumps(x)
    return bool(share.sum() > 0.75 and share.min() > 0.04)


class _SmallNetwork(nn.Module):
    """A network like chapter 0's, for the plane."""

    def __init__(self) -> None:
        super().__init__()
        widths = [nn.Linear(66, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU()]
        self.layers = nn.Sequential(*widths, nn.Linear(128, 2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = t[:, None] * 10_000 ** (-torch.arange(32) / 32)
        noise: Tensor = x + self.layers(torch.cat([x, angles.sin(), angles.cos()], dim=1))
        return noise
