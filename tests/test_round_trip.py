import torch

from ddpm.noise import PerSample
from ddpm.oracles import Gaussian
from ddpm.round_trip import inverted_round_trip, round_trip
from ddpm.samplers import ddim
from ddpm.schedule import linear

SCHEDULE = linear()
DENOISE = Gaussian(0.0, 0.5, SCHEDULE)


def test_the_trip_goes_up_in_one_shot_and_down_the_whole_grid():
    x0 = torch.randn(3, 2, dtype=torch.float64)
    grid = SCHEDULE.timesteps(7, start=400)
    steps = list(round_trip(DENOISE, x0, grid, noise=PerSample(0)))
    assert [step.t for step in steps] == grid
    assert torch.equal(steps[0].prediction.x0, x0)
    assert torch.allclose(steps[0].x, SCHEDULE.signal(400) * x0 + SCHEDULE.noise(400) * steps[0].prediction.eps)


def test_one_step_back_is_the_posterior_mean():
    x0 = torch.randn(5, 2, dtype=torch.float64)
    start, end = round_trip(DENOISE, x0, [600, 0], sampler=ddim)
    assert torch.allclose(end.x, DENOISE(start.x, 600).x0)


def test_options_reach_the_sampler():
    x0 = torch.zeros(2, 2, dtype=torch.float64)
    grid = SCHEDULE.timesteps(5)
    a, b = (list(round_trip(DENOISE, x0, grid, sampler=ddim, noise=PerSample(0), eta=eta))[-1].x for eta in (0.0, 1.0))
    assert not torch.allclose(a, b)


def test_an_inverted_trip_returns_where_it_began():
    x0 = 0.5 * torch.randn(64, 2, dtype=torch.float64)
    steps = list(inverted_round_trip(DENOISE, x0, SCHEDULE.timesteps(1000)))
    assert steps[999].t == 1000
    assert steps[-1].t == 0
    assert (steps[-1].x - x0).abs().max() < 0.02
