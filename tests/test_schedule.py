import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm.schedule import SCHEDULES, SPACINGS, NoiseSchedule, check_grid, cosine, linear


def test_linear_ends_where_ho_et_al_do():
    assert linear().alpha_bar[-1].item() == pytest.approx(4.0358e-5, rel=1e-5)
    assert cosine().alpha_bar[-1].item() == pytest.approx(2.42877e-9, rel=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("T", [25, 100, 1000])
def test_every_schedule_starts_clean_and_decreases(name, T):
    schedule = SCHEDULES[name](T)
    assert schedule.T == T
    assert schedule.signal(0) == 1
    assert schedule.noise(0) == 0
    assert (schedule.alpha_bar.diff() < 0).all()


@pytest.mark.parametrize("T", [-1, 0, 1, 10, 20])
def test_linear_refuses_a_beta_of_one(T):
    with pytest.raises(ValueError, match=f"T is {T}"):
        linear(T)


@pytest.mark.parametrize("table", [[0.9, 0.5], [1.0], [1.0, 0.5, 0.5], [1.0, 0.0], [1.0, float("nan")], [[1.0, 0.5]]])
def test_an_illegal_table_is_refused(table):
    with pytest.raises(ValueError, match="alpha_bar"):
        NoiseSchedule(table)


@given(st.floats(0, 1000))
def test_float_and_tensor_agree_and_variance_is_preserved(t):
    schedule = linear()
    signal, noise = schedule.signal(t), schedule.noise(t)
    assert signal**2 + noise**2 == pytest.approx(1, abs=1e-14)
    batch = torch.tensor([t, 0.0], dtype=torch.float64)
    assert schedule.signal(batch).shape == (2, 1, 1, 1)
    assert schedule.signal(batch)[0].item() == pytest.approx(signal, abs=1e-14)
    assert schedule.noise(batch)[0].item() == pytest.approx(noise, abs=1e-14)


def test_log_alpha_bar_is_linear_between_integers():
    schedule = linear()
    assert schedule.log_alpha_bar(6.5) == pytest.approx((schedule.log_alpha_bar(6) + schedule.log_alpha_bar(7)) / 2)
    with pytest.raises(ValueError, match=r"t is 1001; legal times are 0 to 1000"):
        schedule.signal(1001)


@given(st.integers(1, 1000), st.sampled_from(SPACINGS))
def test_every_grid_decreases_strictly_to_zero_in_n_moves(n, spacing):
    grid = linear().timesteps(n, spacing)
    assert len(grid) == n + 1
    assert grid[-1] == 0
    assert all(t > s for t, s in itertools.pairwise(grid))
    assert grid[0] <= 1000
    if spacing != "leading":
        assert grid[0] == pytest.approx(1000)


@given(st.integers(1, 1000), st.sampled_from(SPACINGS), st.data())
def test_a_grid_can_begin_at_any_depth(start, spacing, data):
    n = data.draw(st.integers(1, start))
    grid = linear().timesteps(n, spacing, start=start)
    assert len(grid) == n + 1
    assert all(t > s for t, s in itertools.pairwise(grid))
    assert grid[0] <= start + 1e-6


@pytest.mark.parametrize("n", [0, -1, 1001, 2.0, True])
def test_more_steps_than_times_are_refused(n):
    with pytest.raises(ValueError, match=f"n is {n} steps; legal are integers from 1 to T = 1000"):
        linear().timesteps(n)


@pytest.mark.parametrize("grid", [torch.tensor([9, 1, 0]), [torch.tensor(9.0), 0], (t for t in (9, 0)), 9, None])
def test_what_is_no_list_of_numbers_is_no_grid(grid):
    with pytest.raises(TypeError, match=f"timesteps is {type(grid).__name__}; it must be a list of numbers"):
        check_grid(grid, linear())
    check_grid(np.array([9, 1, 0]), linear())


@pytest.mark.parametrize("t", [0, -1, 1001, math.nan, torch.tensor([5.0, 0.0]), torch.tensor(1001)])
def test_times_without_noise_are_refused(t):
    with pytest.raises(ValueError, match="t is .*legal are times above 0 and up to 1000"):
        linear().check_time(t)
    linear().check_time(torch.tensor([0.5, 1000]))


def test_unknown_spacing_is_refused():
    with pytest.raises(ValueError, match="spacing is 'even'"):
        linear().timesteps(10, "even")


def test_add_noise_is_the_closed_form_of_the_step_by_step_chain():
    """Ho et al., eq. 2 repeated against eq. 4, as exact moments: mean and variance, no sampling."""
    schedule = linear()
    mean, variance = 1.0, 0.0
    for t in range(1, 1001):
        beta = 1 - math.exp(schedule.log_alpha_bar(t) - schedule.log_alpha_bar(t - 1))
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
    x0, eps = torch.ones(1, 1, 4, 4, dtype=torch.float64), torch.full((1, 1, 4, 4), 2.0, dtype=torch.float64)
    expected = mean + math.sqrt(variance) * 2
    assert schedule.add_noise(x0, 1000, eps).flatten()[0].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shape", [(3, 1, 4, 4), (3, 2)])
def test_add_noise_takes_a_time_per_image_and_per_point(shape):
    schedule, t = linear(), torch.tensor([1, 500, 1000])
    x0, eps = torch.randn(2, *shape)
    together = schedule.add_noise(x0, t, eps)
    apart = torch.stack([schedule.add_noise(x0[i], int(t[i]), eps[i]) for i in range(3)])
    assert together.dtype == torch.float32
    assert torch.allclose(together, apart, atol=1e-6)


def test_posterior_std_is_the_variance_of_two_gaussians_multiplied():
    schedule, t, s = linear(), 400, 350
    kept = (schedule.signal(t) / schedule.signal(s)) ** 2
    precision = 1 / schedule.noise(s) ** 2 + kept / (1 - kept)
    assert schedule.posterior_std(t, s) == pytest.approx(precision**-0.5, rel=1e-12)
    assert schedule.posterior_std(1, 0) == 0
    with pytest.raises(ValueError, match="s < t"):
        schedule.posterior_std(5, 5)
