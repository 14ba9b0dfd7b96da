"""The exercise of chapter 0: a diffusion model written by hand is looked at part by part, trained, and drawn from."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ddpm.companion.checks import enforced
from ddpm.schedule import linear

__all__ = ["bumps_of_the_ring", "grade_ddpm", "share_on_bumps"]

Noised = Callable[[Tensor, Tensor, Tensor], Tensor]
Loss = Callable[[nn.Module, Tensor], Tensor]
Step = Callable[[nn.Module, Tensor, int], Tensor]

_RADIUS, _STD, _BUMPS = 1.5, 0.2, 8


def bumps_of_the_ring() -> tuple[Tensor, float]:
    """The centres (8, 2) of chapter 0's bumps, on a circle, and their standard deviation."""
    angles = 2 * math.pi * torch.arange(_BUMPS, device="cpu") / _BUMPS
    return _RADIUS * torch.stack([angles.cos(), angles.sin()], dim=1), _STD


def share_on_bumps(points: Tensor) -> Tensor:
    """(8,): the share of points (n, 2) within 2.5 standard deviations of each bump. Of true points 0.12 lie on each."""
    centres, std = bumps_of_the_ring()
    near = torch.cdist(points.cpu().float(), centres) < 2.5 * std
    return near.float().mean(0)


def grade_ddpm(noised: Noised, loss: Loss, step: Step, *, seed: int = 0) -> None:
    """Tell a student whether the three parts of a diffusion model are right, train it for some seconds, and look.

    Args:
        noised: (x0, t, eps) -> x_t, with times (n,) counted from 0.
        loss: (network, x0) -> the loss of a batch (n, 2), a scalar. The network takes x (n, d) and times (n,).
        step: (network, x, t) -> the state before time t, which is a number.
        seed: of everything that is drawn.
    """
    name = "exercise, a diffusion model on an empty page"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            said = next(_faults(noised, loss, step), "right: what it was trained on is what it draws")
        except Exception as error:  # whatever a student's code runs into
            said = f"not yet. It raises {type(error).__name__}: {error}"
    print(f"{name}: {said}")


def _faults(noised: Noised, loss: Loss, step: Step) -> Iterator[str]:
    """What is wrong, in the order in which it is best mended."""
    x = torch.randn(6, 2)
    answers = noised(x, torch.arange(6), x), loss(_Network(lambda x, t: x), x), step(_Network(lambda x, t: x), x, 5)
    if any(answer is None for answer in answers):
        yield "not written yet"
        return
    for fault in (*_faults_of_noised(noised), *_faults_of_loss(loss), *_faults_of_step(step)):
        yield f"not yet. {fault}"
    if enforced() and not _draws_the_ring(loss, step):
        yield "not yet, and none of the usual slips: each part looks right, but the ring is not what is drawn"


class _Network(nn.Module):
    """Answers what a function does, and remembers what it was asked."""

    def __init__(self, answer: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.answer = answer
        self.calls: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls.append((x, t))
        return self.answer(x, t)


def _schedule() -> tuple[Tensor, Tensor]:
    """The betas and alpha_bars of times 0 to T - 1, (1000,) each."""
    alpha_bar = linear().alpha_bar.float().to(torch.get_default_device())
    return 1 - alpha_bar[1:] / alpha_bar[:-1], alpha_bar[1:]


def _faults_of_noised(noised: Noised) -> Iterator[str]:
    beta, alpha_bar = _schedule()
    x0, eps, t = torch.randn(3, 2), torch.randn(3, 2), torch.tensor([3, 371, 902])
    left, added = alpha_bar[t][:, None], beta[t][:, None]
    answer = noised(x0, t, eps)
    slips = {
        "x_t: the variances add up to 1; what is multiplied are their square roots.": left * x0 + (1 - left) * eps,
        "x_t: the image needs its square root, too.": left * x0 + (1 - left).sqrt() * eps,
        "x_t: the noise needs its square root, too.": left.sqrt() * x0 + (1 - left) * eps,
        "x_t: the image and the noise have changed places.": (1 - left).sqrt() * x0 + left.sqrt() * eps,
        "x_t: that is a single step of noise. All t steps at once take alpha_bar.": (1 - added).sqrt() * x0
        + added.sqrt() * eps,
        "x_t: the image shrinks as noise is added, or the variance would grow.": x0 + (1 - left).sqrt() * eps,
    }
    if answer.shape != x0.shape:
        yield f"x_t has shape {tuple(answer.shape)}; its images have {tuple(x0.shape)}. One alpha_bar an image."
    elif not _alike(answer, left.sqrt() * x0 + (1 - left).sqrt() * eps):
        hints = [hint for hint, slip in slips.items() if _alike(answer, slip)]
        yield hints[0] if hints else "x_t is not sqrt(alpha_bar) of the image and sqrt(1 - alpha_bar) of the noise."


def _alike(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-4)


def _faults_of_loss(loss: Loss) -> Iterator[str]:
    """Of images that are 0: there x_t says which noise was drawn."""
    network = _Network(lambda x, t: torch.zeros_like(x))
    value = loss(network, torch.zeros(4096, 2))
    if len(network.calls) != 1:
        yield f"The loss calls the network {len(network.calls)} times. One call at one time an image is enough."
        return
    ((x_t, t),) = network.calls
    alpha_bar = _schedule()[1]
    if t.shape != (4096,) or t.min() < 0 or t.max() > 999 or t.is_floating_point():
        yield "The loss: the times are integers from 0 to 999, one for each image."
    elif (t == t[0]).all():
        yield "The loss: every image needs a time of its own; a batch at one time is far noisier."
    elif t.min() > 20 or t.max() < 979:
        yield f"The loss: its times go from {t.min()} to {t.max()}; all from 0 to 999 are walked back over."
    elif value.shape:
        yield f"The loss has shape {tuple(value.shape)}; it is one number, the mean."
    else:
        eps = x_t / (1 - alpha_bar[t])[:, None].sqrt()
        slips = {
            "The loss: the network is asked for the noise, not for the noisy image.": x_t.square().mean(),
            "The loss: the network is asked for the noise; here it was compared with the image.": torch.tensor(0.0),
            "The loss: that is the sum. Its mean does not depend on the size of a batch.": eps.square().sum(),
            "The loss: squared, not absolute: the mean is what is wanted, not the median.": eps.abs().mean(),
        }
        if not _alike(value, eps.square().mean()):
            hints = [hint for hint, slip in slips.items() if _alike(value, slip)]
            yield hints[0] if hints else "The loss is not the mean squared error of the noise."


def _faults_of_step(step: Step) -> Iterator[str]:
    """By the mean and the spread of many steps from one state."""
    beta, alpha_bar = (values.double() for values in _schedule())
    guess = torch.tensor([2.0, 0.5])
    network = _Network(lambda x, t: guess.expand(len(x), 2))
    x, t = torch.tensor([4.0, -6.0]).expand(20_000, 2), 100
    after = step(network, x, t).double()
    if any((times != t).any() for _, times in network.calls):
        yield "The step back: the network must be told the time of the state that it sees."
    eps, b, left = guess.double(), beta[t], alpha_bar[t]
    mean = (x[0] - b / (1 - left).sqrt() * eps) / (1 - b).sqrt()
    smaller = b * (1 - alpha_bar[t - 1]) / (1 - left)
    slips = {
        "The step back: noise is taken away, not added.": (x[0] + b / (1 - left).sqrt() * eps) / (1 - b).sqrt(),
        "The step back: what is left must be scaled up again.": x[0] - b / (1 - left).sqrt() * eps,
        "The step back: it takes away one step's noise, beta over its root, not all of it.": (
            x[0] - (1 - left).sqrt() * eps
        )
        / left.sqrt(),
        "The step back: the guess is divided by the root of 1 - alpha_bar.": (x[0] - b / (1 - left) * eps)
        / (1 - b).sqrt(),
        "The step back: what divides the guess is sqrt(1 - alpha_bar).": (x[0] - b / (1 - b).sqrt() * eps)
        / (1 - b).sqrt(),
        "The step back: it scales up by one step, sqrt(1 - beta), not by alpha_bar.": (
            x[0] - b / (1 - left).sqrt() * eps
        )
        / left.sqrt(),
    }
    off = 0.01 * b.sqrt()  # twice the standard error is 0.014 of a step's noise
    found = after.mean(0)
    if not ((found - mean).abs() < 2 * off).all():
        hints = [hint for hint, slip in slips.items() if ((found - slip).abs() < 2 * off).all()]
        yield hints[0] if hints else "The step back: its mean is not that of Ho et al. (2020), algorithm 2."
    yield from _faults_of_noise(step, network, after.std(0).mean(), b, smaller)


def _faults_of_noise(step: Step, network: nn.Module, std: Tensor, beta: Tensor, smaller: Tensor) -> Iterator[str]:
    """Of the noise that a step back adds: its variance is beta, or the posterior's, a little smaller."""
    if std < 0.01 * smaller.sqrt():
        yield "The step back: every step but the last adds fresh noise."
    elif not any((std / variance.sqrt() - 1).abs() < 0.02 for variance in (beta, smaller)):
        yield "The step back: the noise that it adds has variance beta; its root is what is multiplied."
    if step(network, torch.zeros(1000, 2), 0).std(0).max() > 1e-4:
        yield "The step back: the last one, from t = 0, adds no noise, or it would stay in the image."


def _draws_the_ring(loss: Loss, step: Step) -> bool:
    """Whether a network trained by this loss, and walked back by this step, draws what it was trained on."""
    centres, std = bumps_of_the_ring()
    data = centres.to(torch.get_default_device())[torch.randint(_BUMPS, (20_000,))] + std * torch.randn(20_000, 2)
    network = _Small()
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for i in range(1500):
        optimiser.zero_grad()
        loss(network, data[torch.randint(len(data), (256,))]).backward()
        optimiser.param_groups[0]["lr"] = 1e-2 * (1 - i / 1500)
        optimiser.step()
    x = torch.randn(1000, 2)
    with torch.no_grad():
        for t in reversed(range(1000)):
            x = step(network, x, t)
    share = share_on_bumps(x)
    return bool(share.sum() > 0.75 and share.min() > 0.04)


class _Small(nn.Module):
    """A network like chapter 0's, for the plane."""

    def __init__(self) -> None:
        super().__init__()
        widths = [nn.Linear(66, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU()]
        self.layers = nn.Sequential(*widths, nn.Linear(128, 2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = t[:, None] * 10_000 ** (-torch.arange(32) / 32)
        noise: Tensor = x + self.layers(torch.cat([x, angles.sin(), angles.cos()], dim=1))
        return noise
