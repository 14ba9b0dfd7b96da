"""How probable a model finds its data: the variational bound term by term, and the density of the probability flow."""

import math
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm._moved import noise_is_randn_like
from ddpm.arguments import check_finite, float_tensor, instance, number
from ddpm.autoencoder import VariationalAutoencoder
from ddpm.denoiser import Denoiser, schedule_of
from ddpm.extras import needed
from ddpm.grids import Grid, check_grid
from ddpm.noise import RandnLike, drawn
from ddpm.samplers import predict
from ddpm.settings import one_of, positive_int
from ddpm.shapes import flat

__all__ = ["Bound", "bits_per_dimension", "flow_nll", "importance_bound", "variational_bound"]


class Bound(NamedTuple):
    """The terms of -log p(x0) <= prior + sum of steps + reconstruction (Ho et al. 2020, eq. 5), in nats."""

    prior: Tensor  # (batch,), L_T
    steps: Tensor  # (batch, moves - 1), L_{t-1} from the highest time down
    reconstruction: Tensor  # (batch,), L_0

    @property
    def total(self) -> Tensor:
        """The bound, (batch,), in nats."""
        return self.prior + self.steps.sum(1) + self.reconstruction


@noise_is_randn_like
@torch.no_grad()
def variational_bound(
    denoise: Denoiser,
    x0: Tensor,
    timesteps: Grid | None = None,
    *,
    levels: int | None = None,
    randn_like: RandnLike = torch.randn_like,
    progress: bool = False,
) -> Bound:
    """One Monte Carlo estimate of the bound of ancestral sampling with the small variance over a grid.

    Args:
        denoise: called once a move, on x0 noised to that time.
        x0: (batch, ...), float32 or float64; with `levels` in [-1, 1].
        timesteps: the grid; every time from T to 0 where it is not given.
        levels: number of grey levels of the discrete decoder of eq. 13, such as 256 for images of 8 bits in [-1, 1];
            without it the decoder is N(x0_hat, (noise(t) / scale(t))^2) at the last time t above 0, a density.
        randn_like: draws the noise of each move.
        progress: show a bar.

    Raises:
        TypeError: `denoise` is no `Denoiser`, or x0 is not float32 or float64.
        ValueError: x0 holds NaN or infinity, or with `levels` values outside [-1, 1]; or another argument is not legal.
        FloatingPointError: the denoiser's answer is not finite.
    """
    schedule = schedule_of(denoise)
    float_tensor("x0", x0)
    grid = check_grid(timesteps if timesteps is not None else range(schedule.T, -1, -1), schedule)
    _check_levels(levels)
    _check_images("x0", x0, levels)
    scale = schedule.scale(grid[0])  # of the prior, N(0, scale^2)
    variance = (schedule.noise(grid[0]) / scale) ** 2
    moved = (schedule.signal(grid[0]) / scale) ** 2 * x0**2
    prior = _summed(moved + (variance - 1 - math.log(variance))) / 2
    steps = []
    moves = tqdm(list(pairwise(grid)), unit="step", desc="bound", disable=not progress, delay=1)
    with denoise.many_calls():
        for t, s in moves:
            x0_hat = predict(denoise, schedule.add_noise(x0, t, drawn(randn_like, x0)), t).x0
            if s > 0:
                gain = schedule.sigma(s) ** -2 - schedule.sigma(t) ** -2  # of the signal-to-noise ratio
                steps.append(gain / 2 * _summed((x0 - x0_hat).square()))
            else:
                log_likelihood = _log_likelihood(x0, x0_hat, schedule.noise(t) / schedule.scale(t), levels)
    terms = torch.stack(steps, dim=1) if steps else x0.new_zeros(len(x0), 0)
    bound = Bound(prior, terms, -_summed(log_likelihood))
    if not torch.isfinite(bound.total).all():
        raise FloatingPointError("the bound is not finite")
    return bound


def _check_levels(levels: int | None) -> None:
    if levels is not None and positive_int("levels", levels) < 2:
        raise ValueError(f"levels is {levels}; it must be at least 2")


def _check_images(name: str, x: Tensor, levels: int | None) -> None:
    """Raise `ValueError` unless x is finite and, for a discrete decoder, in [-1, 1] up to half a grey level."""
    if levels is None:
        check_finite(name, x)
    elif not (x.abs() <= 1 + 1 / (levels - 1)).all():
        check_finite(name, x)
        low, high = x.min().item(), x.max().item()
        raise ValueError(f"{name} runs from {low:g} to {high:g}; with {levels} grey levels it must be in [-1, 1]")


def _summed(values: Tensor) -> Tensor:
    """Sums (batch,) of values (batch, ...) over all but the batch."""
    return flat(values).sum(1)


def _log_likelihood(x0: Tensor, mean: Tensor, std: float, levels: int | None) -> Tensor:
    """log p(x0 | x_1) of every pixel: a Gaussian, or its mass on the pixel's grey level (Ho et al. 2020, eq. 13)."""
    if levels is None:
        return -((x0 - mean) / std).square() / 2 - math.log(std * math.sqrt(2 * math.pi))
    half = 1 / (levels - 1)
    above = torch.where(x0 > 1 - half, math.inf, (x0 + half - mean) / std)
    below = torch.where(x0 < -1 + half, -math.inf, (x0 - half - mean) / std)
    low, high = torch.where(below > 0, -above, below), torch.where(below > 0, -below, above)  # the accurate tail
    log_high: Tensor = torch.special.log_ndtr(high)
    return log_high + torch.log1p(-torch.exp(torch.special.log_ndtr(low) - log_high))


@noise_is_randn_like
@torch.no_grad()
def importance_bound(
    model: VariationalAutoencoder,
    x: Tensor,
    draws: int,
    *,
    levels: int | None = None,
    randn_like: RandnLike = torch.randn_like,
) -> Tensor:
    """-log of the mean importance weight over `draws` codes, (batch,) in nats (Burda et al. 2016, eq. 8).

    At one draw it is an estimate of the variational bound; with more its mean falls towards -log p(x).

    Args:
        model: trained with "mse", whose decoder is a density, or with "logistic".
        x: (batch, ...) in [-1, 1].
        draws: codes from q(z | x) an image.
        levels: number of grey levels of the discrete decoder, as in `variational_bound`; with "logistic" always 256.
        randn_like: draws the noise of each code.

    Raises:
        TypeError: `model` is no `VariationalAutoencoder`, or x is not float32 or float64.
        ValueError: x holds NaN or infinity, or with a discrete decoder values outside [-1, 1]; or another argument is
            not legal.
        FloatingPointError: the model's answer is not finite.
    """
    if instance("model", model, VariationalAutoencoder).config.loss == "bce":
        raise ValueError("loss is 'bce'; only with mse or logistic is the decoder a likelihood")
    positive_int("draws", draws)
    _check_levels(levels)
    if model.config.loss == "logistic" and levels not in (None, 256):
        raise ValueError(f"levels is {levels}; with loss logistic the decoder has 256")
    _check_images("x", float_tensor("x", x), 256 if model.config.loss == "logistic" else levels)
    mean, log_variance = model.posterior(x)
    sigma = model.log_sigma.exp().item()
    log_weights = []
    for _ in range(draws):
        e = drawn(randn_like, mean)
        z = mean + torch.exp(log_variance / 2) * e
        log_ratio = (e.square() + log_variance - z.square()).sum(1) / 2  # log p(z) / q(z | x)
        if model.config.loss == "logistic":
            log_likelihood = -model.errors(x, z)
        else:
            log_likelihood = _summed(_log_likelihood(x, model.decode(z), sigma, levels))
        log_weights.append(log_likelihood + log_ratio)
    bound = math.log(draws) - torch.stack(log_weights).logsumexp(0)
    if not torch.isfinite(bound).all():
        raise FloatingPointError("the bound is not finite")
    return bound


@noise_is_randn_like
def flow_nll(
    denoise: Denoiser,
    x: Tensor,
    t: float = 1.0,
    *,
    divergence: Literal["exact", "hutchinson"] = "hutchinson",
    randn_like: RandnLike = torch.randn_like,
    tolerance: float = 1e-5,
    progress: bool = False,
) -> Tensor:
    """-log p_t(x), (batch,) in nats, by the instantaneous change of variables (Y. Song et al. 2021, appendix D.2).

    Walks the probability flow of u = x / scale, whose signal^2 + noise^2 is 1: du / d log sigma = noise (eps - noise u)
    with sigma = noise / signal. It goes from t to T, or to a sigma of 100,000 if T lies beyond it; there the density of
    u is taken to be N(0, I). The density of x is that divided by scale(t), once for every dimension. With the linear
    schedule, which keeps a share 4e-5 of the data's variance, a sample's figure can be off by some hundredths of a nat
    in the plane, and more in more dimensions.

    Args:
        denoise: differentiable in x, each sample of a batch by itself; a network in float32, as the solver would follow
            every rounding of bfloat16.
        x: (batch, ...) at time t.
        t: above 0; at 1 data counts as noised by a single step.
        divergence: "exact" (a backward pass a dimension) or "hutchinson" (one, unbiased, along one vector).
        randn_like: draws that vector.
        tolerance: relative and absolute tolerance of the adaptive solver (dopri5).
        progress: show a bar.

    Raises:
        TypeError: `denoise` is no `Denoiser`, or x is not float32 or float64.
        ValueError: x holds NaN or infinity, the denoiser computes in bfloat16, or another argument is not legal.
        FloatingPointError: the denoiser's answer is not finite.
        ModuleNotFoundError: torchdiffeq, of the extra ddpm[evaluate], is not installed.
    """
    with needed("torchdiffeq"):
        from torchdiffeq import odeint

    schedule = schedule_of(denoise)
    if not 0 < number("t", t) < schedule.T:
        raise ValueError(f"t is {t}; legal are times above 0 and below {schedule.T}")
    least = torch.finfo(float_tensor("x", x).dtype).eps  # below that rounding is all that the solver sees
    if not least <= number("tolerance", tolerance) < 1:
        raise ValueError(f"tolerance is {tolerance}; legal for {x.dtype} is {least:.2g} to below 1")
    check_finite("x", x)
    one_of("divergence", divergence, ("exact", "hutchinson"))
    if denoise.in_bfloat16(x.device):
        raise ValueError("precision is 'auto', bfloat16 on this device; the density needs a denoiser in float32")
    if denoise.sixteen_bits:
        raise ValueError("denoise has weights of sixteen bits; the density needs a denoiser in float32")
    if not len(x):
        return x.new_zeros(0)
    dimensions = math.prod(x.shape[1:])
    probe = drawn(randn_like, x) if divergence == "hutchinson" else None
    sigma, scale_at_x = schedule.sigma(t), schedule.scale(t)
    start, end = math.log(sigma), math.log(min(schedule.sigma(schedule.T), max(1e5, 10 * sigma)))

    def flow(log_sigma: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        place = min(log_sigma.item(), end)  # the solver's first guess of a step can lie far beyond
        time = schedule.sigma_to_t(math.exp(place))
        bar.update(max(0.0, place - start - bar.n))
        scale = schedule.scale(time)
        noise = schedule.noise(time) / scale
        with torch.enable_grad():
            u = state[0].detach().requires_grad_()
            eps = predict(denoise, scale * u, time).eps
            trace = _divergence(eps, u, probe)
        if not torch.isfinite(trace).all():
            raise FloatingPointError(f"the denoiser's answer at time {time:g} is not finite")
        return noise * (eps.detach() - noise * state[0]), noise * (trace - noise * dimensions)

    of_time = _type_of_time(x)
    times = torch.tensor([start, end], dtype=of_time, device=x.device)
    length = round(end - start, 2)
    with tqdm(total=length, unit="log sigma", desc="flow", disable=not progress, delay=1) as bar:
        states: Tensor
        gained: Tensor
        states, gained = odeint(
            flow, (x / scale_at_x, x.new_zeros(len(x))), times, rtol=tolerance, atol=tolerance, method="dopri5",
            options={"dtype": of_time},
        )  # fmt: skip
    log_prior = -(_summed(states[-1].square()) + dimensions * math.log(2 * math.pi)) / 2
    return dimensions * math.log(scale_at_x) - (log_prior + gained[-1])


def _type_of_time(x: Tensor) -> torch.dtype:
    """In what the solver keeps the time: float64 on a CPU; not every other device has that."""
    return torch.float64 if x.device.type == "cpu" else x.dtype


def _divergence(eps: Tensor, x: Tensor, probe: Tensor | None) -> Tensor:
    if probe is not None:
        (gradient,) = torch.autograd.grad((eps * probe).sum(), x)
        return _summed(gradient * probe)
    sums = flat(eps).sum(0)
    total = x.new_zeros(len(x))
    for i, value in enumerate(sums):
        total = total + flat(torch.autograd.grad(value, x, retain_graph=True)[0])[:, i]
    return total


def bits_per_dimension(nats: Tensor, dimensions: int, levels: int | None = None) -> Tensor:
    """Nats a sample (or a term of a `Bound`) as bits a dimension.

    With `levels`, a density on [-1, 1] becomes one on [0, levels - 1]. A bound that was made with `levels` ends in a
    probability already: leave it out there.

    Raises:
        ValueError: the nats hold NaN or infinity, `dimensions` is not an integer from 1 up, or `levels` not from 2 up.
    """
    check_finite("nats", instance("nats", nats, Tensor))
    positive_int("dimensions", dimensions)
    _check_levels(levels)
    return nats / (dimensions * math.log(2)) + (math.log2((levels - 1) / 2) if levels is not None else 0)
