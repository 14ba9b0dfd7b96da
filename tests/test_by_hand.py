"""Small cases whose right values are worked out here from the formulas of the docstrings, by another way."""

import itertools
import math

import pytest
import torch

from ddpm.diffusion import Diffusion, DiffusionConfig, bound_weights, time_probabilities
from ddpm.noise import PerSampleNoise, StepRandomness
from ddpm.oracles import GaussianMixture
from ddpm.schedule import linear
from ddpm.unet import UNetConfig


def test_every_component_of_a_mixture_is_drawn_as_wide_as_it_is():
    mixture = GaussianMixture([1, 1], [[-10.0], [10.0]], [0.1, 2.0], linear())
    points = mixture.sample(8000, torch.Generator().manual_seed(0))
    for side, std in ((points < 0, 0.1), (points > 0, 2.0)):
        assert points[side].std().item() == pytest.approx(std, rel=0.05)


def test_a_time_has_the_lognormal_mass_from_halfway_to_its_neighbours():
    config = DiffusionConfig(T=25, times="lognormal", log_sigma_mean=-0.5, log_sigma_std=0.7)
    places = [math.log(linear(25).sigma(t)) for t in range(1, 26)]
    ends = [-math.inf, *((a + b) / 2 for a, b in itertools.pairwise(places)), math.inf]
    below = [0.5 * (1 + math.erf((end + 0.5) / 0.7 / math.sqrt(2))) for end in ends]
    wanted = [b - a for a, b in itertools.pairwise(below)]
    assert time_probabilities(config).tolist() == pytest.approx(wanted, abs=1e-12)


def test_the_weighted_loss_is_a_mean_over_images_and_their_values():
    """Of a network that answers 0, with a fourth of the noise's squares for each of four images."""
    task = Diffusion(DiffusionConfig(UNetConfig(base_channels=8, head_channels=8), weighting="bound"))
    task.parts["unet"] = torch.nn.Identity()
    task.parts["unet"].forward = lambda x, t: torch.zeros_like(x)
    draws = StepRandomness(0, 0, 4)
    times = 1 + (draws.stratified() * 1000).floor().long()
    squares = draws.normal(1, 8, 8).square().mean((1, 2, 3)).double()
    wanted = (bound_weights(linear(), "eps")[times] * squares).mean().item()
    loss = task.loss("unet", torch.zeros(4, 1, 8, 8), StepRandomness(0, 0, 4))
    assert loss.item() == pytest.approx(wanted, rel=1e-5)


def test_a_smaller_batch_goes_on_with_the_first_samples_noise():
    noise, alone = PerSampleNoise(3), PerSampleNoise(3)
    four, two = noise(torch.empty(4, 2)), noise(torch.empty(2, 2))
    assert torch.equal(torch.stack([alone(torch.empty(2, 2)), alone(torch.empty(2, 2))]), torch.stack([four[:2], two]))


def test_the_times_of_a_batch_are_independent_within_their_strata():
    within = StepRandomness(0, 0, 1000).stratified() * 1000 % 1
    assert within.std().item() == pytest.approx(12**-0.5, rel=0.1)
