import math

import pytest
import torch

from ddpm.oracles import Gaussian, GaussianMixture
from ddpm.schedule import linear

SCHEDULE = linear()


def mixture(dimension: int = 2) -> GaussianMixture:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(3, dimension, generator=generator, dtype=torch.float64)
    return GaussianMixture([1, 2, 3], means, [0.1, 0.3, 0.05], SCHEDULE)


@pytest.mark.parametrize("t", [0.5, 1, 200, 700, 1000])
@pytest.mark.parametrize("oracle", [mixture(), Gaussian(torch.tensor([0.5, -1.0], dtype=torch.float64), 0.4, SCHEDULE)])
def test_score_is_the_gradient_of_the_log_density_and_tweedie_holds(oracle, t):
    x = torch.randn(16, 2, dtype=torch.float64, requires_grad=True)
    gradient = torch.autograd.grad(oracle.log_density(x, t).sum(), x)[0]
    x = x.detach()
    score, prediction = oracle.score(x, t), oracle(x, t)
    assert torch.allclose(score, gradient, rtol=1e-9, atol=1e-9)
    assert torch.allclose(prediction.eps, -SCHEDULE.noise(t) * score, rtol=1e-9, atol=1e-9)
    tweedie = (x + SCHEDULE.noise(t) ** 2 * score) / SCHEDULE.signal(t)
    assert torch.allclose(prediction.x0, tweedie, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("t", [0, 1, 300, 1000])
def test_the_density_integrates_to_one(t):
    oracle = GaussianMixture([0.3, 0.7], [[-1.0], [2.0]], [0.2, 0.5], SCHEDULE)
    x = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    assert torch.trapezoid(oracle.log_density(x[:, None], t).exp(), x).item() == pytest.approx(1, abs=1e-6)


def test_a_mixture_of_one_is_the_gaussian():
    mean = torch.tensor([0.5, -1.0], dtype=torch.float64)
    one, other = GaussianMixture([5.0], mean[None], 0.4, SCHEDULE), Gaussian(mean, 0.4, SCHEDULE)
    x = torch.randn(8, 2, dtype=torch.float64)
    t = torch.linspace(1, 1000, 8, dtype=torch.float64)
    for a, b in zip(one(x, t), other(x, t), strict=True):
        assert torch.allclose(a, b, atol=1e-9)
    assert torch.allclose(one.log_density(x, t), other.log_density(x, t), atol=1e-9)


def test_a_point_mass_is_stable_far_away():
    oracle = GaussianMixture([0.5, 0.5], [[-1.0] * 64, [1.0] * 64], 0.0, SCHEDULE)
    prediction = oracle(torch.full((1, 64), 0.9), 1)
    assert torch.allclose(prediction.x0, torch.ones(1, 64))
    assert torch.isfinite(oracle.log_density(torch.full((1, 64), 50.0), 1)).all()


def test_samples_have_the_mixtures_moments():
    oracle = mixture()
    x = oracle.sample(200_000, torch.Generator().manual_seed(1))
    mean = oracle.weights @ oracle.means
    spread = (oracle.weights @ (oracle.stds**2 * 2 + (oracle.means - mean).square().sum(1))).item()
    assert torch.allclose(x.mean(0), mean, atol=4 * math.sqrt(spread / 200_000))
    assert (x - mean).square().sum(1).mean().item() == pytest.approx(spread, rel=0.02)
    assert Gaussian(3.0, 0.1, SCHEDULE).sample((5, 1, 4, 4)).shape == (5, 1, 4, 4)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="weights"):
        GaussianMixture([1.0], [[0.0], [1.0]], 1.0, SCHEDULE)
    with pytest.raises(ValueError, match="weights are"):
        GaussianMixture([1.0, 0.0], [[0.0], [1.0]], 1.0, SCHEDULE)
    with pytest.raises(ValueError, match="std is 0"):
        Gaussian(0.0, 0, SCHEDULE)
    with pytest.raises(ValueError, match="x has shape"):
        mixture()(torch.zeros(3, 5), 1)
    for oracle in (mixture(), Gaussian(0.0, 1.0, SCHEDULE)):
        with pytest.raises(ValueError, match="t is 0"):
            oracle(torch.zeros(3, 2), 0)
