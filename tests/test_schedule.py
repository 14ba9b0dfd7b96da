import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm.grids import SPACINGS, check_grid
from ddpm.schedule import (
    SCHEDULES,
    NoiseSchedule,
    PathSchedule,
    cosine,
    exploding,
    from_betas,
    linear,
    linear_zero_snr,
    sigmoid,
    straight,
    zero_terminal_snr,
)


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


@pytest.mark.parametrize(
    "table", [[0.9, 0.5], [1.0], [1.0, 0.5, 0.5], [1.0, 0.5, -0.1], [1.0, float("nan")], [[1.0, 0.5]]]
)
def test_an_illegal_table_is_refused(table):
    with pytest.raises(ValueError, match="alpha_bar"):
        NoiseSchedule(table)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([1, 0.5, 0.6], r"alpha_bar\[2\] is 0.6 after 0.5; it must decrease strictly and not fall below 0"),
        ([1, 0.5, -0.1], r"alpha_bar\[2\] is -0.1 after 0.5; it"),
        ([1, 0, 0], r"alpha_bar\[2\] is 0.0 after 0.0; it"),
    ],
)
def test_the_value_that_makes_a_table_illegal_is_named(table, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        NoiseSchedule(table)


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor, np.asarray])
def test_betas_of_any_kind_make_a_schedule(kind):
    schedule = from_betas(kind([0.5, 0.5, 1.0]))
    assert schedule == NoiseSchedule([1, 0.5, 0.25, 0])


@pytest.mark.parametrize(
    ("betas", "error", "message"),
    [
        ([0.1, -0.1], ValueError, r"betas\[1\] is -0.1; each must be above 0 and below 1 \(the last may be 1\)"),
        ([0.1, 0.0], ValueError, r"betas\[1\] is 0.0"),
        ([1.0, 0.1], ValueError, r"betas\[0\] is 1.0"),
        ([0.1, 1.2], ValueError, r"betas\[1\] is 1.2"),
        ([float("nan")], ValueError, r"betas\[0\] is nan"),
        ([], ValueError, r"betas have shape \(0,\)"),
        ([[0.1]], ValueError, r"betas have shape \(1, 1\)"),
        ("0.1", TypeError, "betas is '0.1'"),
    ],
)
def test_illegal_betas_are_named(betas, error, message):
    with pytest.raises(error, match=f"^{message}"):
        from_betas(betas)


ALL = {
    "linear": linear(),
    "cosine": cosine(),
    "zero": linear_zero_snr(),
    "straight": straight(),
    "exploding": exploding(),
}


@pytest.mark.parametrize("name", ALL)
@given(t=st.floats(0, 1000))
def test_float_and_tensor_agree(name, t):
    schedule = ALL[name]
    signal, noise = schedule.signal(t), schedule.noise(t)
    scale = schedule.scale(t)
    assert math.hypot(signal, noise) == pytest.approx(scale, rel=1e-14)
    assert math.exp(schedule.log_alpha_bar(t)) == pytest.approx((signal / scale) ** 2, abs=1e-14)
    if schedule.preserves_variance:
        assert scale == 1
    batch = torch.tensor([t, 0.0], dtype=torch.float64)
    assert schedule.signal(batch).shape == (2, 1, 1, 1)
    assert schedule.signal(batch)[0].item() == pytest.approx(signal, abs=1e-14)
    assert schedule.noise(batch)[0].item() == pytest.approx(noise, abs=1e-14, rel=1e-13)


@pytest.mark.parametrize("name", ALL)
@given(t=st.floats(0, 999), down=st.floats(0, 1))
def test_times_of_noise_moves_and_tables(name, t, down):
    """`sigma_to_t` and `log_snr_to_t` take back, the table is that at integers, and two moves add what one does."""
    schedule = ALL[name]
    assert schedule.sigma_to_t(schedule.sigma(t)) == pytest.approx(t, abs=1e-6)
    if t > 0:
        assert schedule.log_snr_to_t(schedule.log_snr(t)) == pytest.approx(t, abs=1e-6)
    assert schedule.alpha_bar[int(t)].item() == pytest.approx(math.exp(schedule.log_alpha_bar(int(t))), rel=1e-12)
    s = down * t
    if s < t:
        added = schedule.noise(t) ** 2 - (schedule.signal(t) / schedule.signal(s) * schedule.noise(s)) ** 2
        unit = schedule.scale(t) ** 2
        assert schedule.beta(t, s) == pytest.approx(added, abs=1e-12 * unit)
        if s > 0:
            before = (schedule.signal(t) / schedule.signal(s)) ** 2 * schedule.beta(s, 0)
            assert schedule.beta(t, 0) == pytest.approx(schedule.beta(t, s) + before, abs=1e-12 * unit)


def test_the_paths_that_do_not_keep_the_variance_by_hand():
    assert straight(4).signal_and_noise(1) == (0.75, 0.25)
    assert straight(4).signal_and_noise(4) == (0, 1)
    assert straight(4).sigma_to_t(math.inf) == 4
    assert exploding(3, 0.1, 10).signal_and_noise(2) == (1, pytest.approx(1))
    assert exploding(3, 0.1, 10).signal_and_noise(0.5) == (1, pytest.approx(0.05))
    assert exploding(3, 0.1, 10).sigma_to_t(99) == 3
    assert straight(4) != NoiseSchedule(straight(4).alpha_bar)
    assert straight(4) == straight(4)
    assert len({straight(4), straight(4), NoiseSchedule(straight(4).alpha_bar)}) == 2


def test_the_defaults_of_exploding_noise():
    assert repr(exploding()) == "Exploding(T=1000, lowest=0.01, highest=160)"


def test_a_scale_is_asked_for_at_a_legal_time():
    for schedule in (linear(), straight(), exploding()):
        for t in (-1, 1001, math.nan):
            with pytest.raises(ValueError, match=f"t is {t}; legal times are 0 to 1000"):
                schedule.scale(t)


@pytest.mark.parametrize(
    ("T", "lowest", "highest", "words"),
    [
        (1, 0.1, 1, "T is 1"),
        (9, 1, 0.1, "lowest is 1"),
        (9, 0, 1, "lowest is 0"),
        (1000, 1e-9, 1, "lowest is 1e-09, highest is 1 and T is 1000; alpha_bar cannot tell these times apart"),
        (1000, 1, 1e300, "take a larger lowest, a smaller highest or fewer times"),
        (9, 1, math.inf, "highest is inf"),
    ],
)
def test_what_cannot_explode_is_refused(T, lowest, highest, words):
    with pytest.raises(ValueError, match=words):
        exploding(T, lowest, highest)


def test_from_very_little_to_very_much_noise_a_table_falls():
    schedule = exploding(1000, 1e-7, 1e7)
    assert schedule.sigma(1000) == pytest.approx(1e7)
    assert repr(schedule) == "Exploding(T=1000, lowest=1e-07, highest=1e+07)"


@pytest.mark.parametrize("missing", ["signal_and_noise", "sigma_to_t"])
def test_a_path_without_one_of_its_two_functions_cannot_be_made(missing):
    both = {"signal_and_noise": straight().signal_and_noise, "sigma_to_t": straight().sigma_to_t}
    path = type("Path", (PathSchedule,), {name: value for name, value in both.items() if name != missing})
    with pytest.raises(TypeError, match=f"abstract method '?{missing}"):
        path([1.0, 0.5])


def test_a_grid_in_log_snr_has_even_steps_from_noise_alone_to_time_1():
    for schedule in (linear(), straight()):
        grid = schedule.timesteps(10, "log_snr")
        steps = np.diff([schedule.log_snr(t) for t in grid[1:-1]])
        assert steps == pytest.approx(steps[0])
        assert grid[-2] == pytest.approx(1)
        highest = min(schedule.sigma(1000), 160)
        assert 2 * math.log(highest) + schedule.log_snr(grid[1]) == pytest.approx(steps[0])


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
    with pytest.raises(ValueError, match=f"n, the number of steps, is {n}; legal are integers from 1 to T = 1000"):
        linear().timesteps(n)


@pytest.mark.parametrize(
    "grid",
    [
        torch.tensor([[9, 1, 0]]),
        torch.tensor(9),
        torch.tensor([True, False]),
        torch.tensor([9 + 0j, 0]),
        np.array([True, False]),
        [True, False],
        [torch.tensor(9.0), 0],
        ["a", 0],
        [None, 0],
        [[5], 0],
        (t for t in (9, 0)),
        9,
        None,
    ],
)
def test_what_is_no_list_of_numbers_is_no_grid(grid):
    with pytest.raises(TypeError, match=f"timesteps is {type(grid).__name__}; it must be a list of numbers"):
        check_grid(grid, linear())


@pytest.mark.parametrize("make", [list, np.array, torch.tensor])
def test_a_grid_is_a_list_an_array_or_a_tensor_of_python_numbers(make):
    for numbers in ([9, 1, 0], [9.5, 1.25, 0.0]):
        grid = check_grid(make(numbers), linear())
        assert list(grid) == numbers
        assert all(type(t) is type(numbers[0]) for t in grid)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([1000, 750], "timesteps run from 1000 to 750; legal is from at most 1000 to 0"),
        (torch.tensor([1001.5, 0]), "timesteps run from 1001.5 to 0.0; legal is from at most 1000 to 0"),
        ([], "timesteps has 0 entries; it must have at least 2, the last of them 0"),
        ([0], "timesteps has 1 entries; it must have at least 2, the last of them 0"),
    ],
)
def test_a_grid_runs_from_at_most_T_to_0(grid, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_grid(grid, linear())


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


@pytest.mark.parametrize(
    "schedule", [zero_terminal_snr(linear()), zero_terminal_snr(cosine(50)), NoiseSchedule([1, 0])]
)
def test_no_signal_is_left_at_the_end_of_a_schedule_of_zero_terminal_snr(schedule):
    T = schedule.T
    assert (schedule.signal(T), schedule.noise(T), schedule.sigma(T)) == (0, 1, math.inf)
    assert schedule.angle(T) == math.pi / 2
    assert schedule.beta(T, T - 1) == 1
    times = torch.tensor([T - 1, T - 0.75, T - 0.5, T], dtype=torch.float64)
    falling = schedule.signal(T - 1) * torch.tensor([1, 0.75, 0.5, 0], dtype=torch.float64)  # linearly
    assert torch.allclose(schedule.signal(times).flatten(), falling)
    assert [schedule.signal(t) for t in times.tolist()] == pytest.approx(falling.tolist())
    for sigma in (0.5, schedule.sigma(T - 1), schedule.sigma(T - 0.3), math.inf):
        assert schedule.sigma(schedule.sigma_to_t(sigma)) == pytest.approx(sigma)
    x0, eps = torch.ones(2, 3), torch.full((2, 3), 0.5)
    assert torch.equal(schedule.add_noise(x0, torch.tensor([0, T]), eps), torch.stack([x0[0], eps[0]]))


def test_zero_terminal_snr_keeps_the_signal_at_time_1_and_its_shape():
    """Lin et al. (2024), algorithm 1: a shift and a scale of the signal."""
    old, new = linear().alpha_bar.sqrt(), zero_terminal_snr(linear()).alpha_bar.sqrt()
    assert new[1] == pytest.approx(old[1].item(), abs=1e-15)
    slope = (new[1:].diff() / old[1:].diff()).numpy()
    assert slope == pytest.approx(slope[0], abs=1e-9)
    with pytest.raises(ValueError, match="T is 1"):
        zero_terminal_snr(cosine(1))


def test_karras_grid_is_that_of_the_paper():
    """Eq. 5: sigma_i = (max^(1/7) + i / (N - 1) (min^(1/7) - max^(1/7)))^7, from sigma(T) or 160 to sigma(1)."""
    for schedule, highest in ((linear(), linear().sigma(1000)), (cosine(), 160)):
        lowest = schedule.sigma(1)
        wanted = [
            (highest ** (1 / 7) + i / 11 * (lowest ** (1 / 7) - highest ** (1 / 7))) ** 7 for i in range(1, 12)
        ]  # after the first, which is T
        grid = schedule.timesteps(12, "karras")
        assert grid[0] == 1000
        assert grid[-1] == 0
        assert [schedule.sigma(t) for t in grid[1:-1]] == pytest.approx(wanted)


def test_the_sigmoid_schedule_is_the_papers():
    """Jabri et al. (2022), algorithm 1 with start -3, end 3 and tau 1: v(u) = sigmoid(6 u - 3)."""

    def sigmoid_of(value):
        return 1 / (1 + math.exp(-value))

    schedule = sigmoid(100)
    for t in (1, 30, 50, 99):
        gamma = (sigmoid_of(3) - sigmoid_of(6 * t / 100 - 3)) / (sigmoid_of(3) - sigmoid_of(-3))
        assert schedule.alpha_bar[t].item() == pytest.approx(gamma, abs=1e-12)
    assert schedule.alpha_bar[100] == pytest.approx(schedule.alpha_bar[99].item() * 0.001)  # its beta is cut at 0.999


def test_the_cosine_schedule_is_the_papers():
    """Nichol & Dhariwal (2021), eq. 17."""
    schedule = cosine(100)
    for t in (1, 30, 50, 99):
        share = [math.cos((u / 100 + 0.008) / 1.008 * math.pi / 2) ** 2 for u in (t, 0)]
        assert schedule.alpha_bar[t].item() == pytest.approx(share[0] / share[1], abs=1e-12)
    assert schedule.alpha_bar[100] == pytest.approx(schedule.alpha_bar[99].item() * 0.001)


@pytest.mark.parametrize(
    ("n", "spacing", "grid"),
    [
        (6, "trailing", [1000, 833, 667, 500, 333, 167, 0]),
        (6, "leading", [831, 665, 499, 333, 167, 1, 0]),
        (6, "linspace", [1000, 800, 600, 401, 201, 1, 0]),
        (4, "quadratic", [1000, 562.5, 250, 62.5, 0]),
    ],
)
def test_the_times_of_every_grid_by_hand(n, spacing, grid):
    assert linear().timesteps(n, spacing) == grid


@pytest.mark.parametrize("times", [(5, 5), (5, math.nan), (math.nan, 5), (4, 5)])
def test_a_grid_whose_times_do_not_fall_is_refused(times):
    with pytest.raises(ValueError, match="timesteps go from .* they must decrease strictly"):
        check_grid([10, *times, 0], linear())


def test_the_linear_schedule_of_another_length_scales_both_betas():
    for T in (100, 4000):
        assert linear(T).beta(1, 0) == pytest.approx(1e-4 * 1000 / T)
        assert linear(T).beta(T, T - 1) == pytest.approx(0.02 * 1000 / T)


@pytest.mark.parametrize(
    ("x0", "t", "eps", "error", "words"),
    [
        (torch.zeros(3, 2), 5, torch.zeros(3, 1), ValueError, r"eps has shape \(3, 1\); it must be x0's, \(3, 2\)"),
        (torch.zeros(3, 2), 5, torch.zeros(2, 2), ValueError, r"eps has shape \(2, 2\); it must be x0's, \(3, 2\)"),
        (torch.zeros(3, 2), 5, torch.zeros(2), ValueError, r"eps has shape \(2,\); it must be x0's, \(3, 2\)"),
        (torch.zeros(3), 5, torch.zeros(()), ValueError, r"eps has shape \(\); it must be x0's, \(3,\)"),
        (torch.zeros(3, 2), 5, None, TypeError, "eps is NoneType; it must be a torch.Tensor"),
        (
            torch.zeros(3, 2).half(),
            5,
            torch.zeros(3, 2),
            TypeError,
            "x0 is torch.float16; it must be float32 or float64",
        ),
        (torch.zeros(3, 2), "5", torch.zeros(3, 2), TypeError, "t is '5'; it must be a number"),
    ],
)
def test_what_noise_cannot_be_added_to_is_named(x0, t, eps, error, words):
    with pytest.raises(error, match=words):
        linear().add_noise(x0, t, eps)


def test_one_image_goes_with_any_number_of_noises():
    eps = torch.randn(5, 2)
    together = linear().add_noise(torch.ones(1, 2), 300, eps)
    assert torch.equal(together, linear().add_noise(torch.ones(5, 2), 300, eps))
    assert linear().add_noise(torch.ones(0, 2), torch.zeros(0), torch.ones(0, 2)).shape == (0, 2)


def test_coefficients_have_the_images_type_whatever_the_times():
    times = torch.tensor([1, 500])
    for t in (times, times.float(), times.double()):
        for x in (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.float64)):
            assert {value.dtype for value in linear().coefficients(t, x)} == {x.dtype}
    assert linear().signal(times).dtype == torch.float32


@pytest.mark.parametrize("schedule", [linear(), straight(), exploding()], ids=["linear", "straight", "exploding"])
@pytest.mark.parametrize("sigma", [-1, math.nan])
def test_a_sigma_below_0_has_no_time(schedule, sigma):
    with pytest.raises(ValueError, match=f"sigma is {sigma}; it must be at least 0"):
        schedule.sigma_to_t(sigma)


@pytest.mark.parametrize("schedule", [linear(), straight(), exploding()], ids=["linear", "straight", "exploding"])
def test_a_log_snr_beyond_every_number_is_that_of_the_ends(schedule):
    assert schedule.log_snr_to_t(-2000) == schedule.T
    assert schedule.log_snr_to_t(2000) == 0


def test_only_a_schedule_that_keeps_the_variance_is_cut_off_from_its_signal():
    with pytest.raises(ValueError, match="schedule is Exploding.*; it must be one that keeps the variance"):
        zero_terminal_snr(exploding())


def test_a_schedule_keeps_its_own_table():
    table = linear().alpha_bar.clone()
    schedule = NoiseSchedule(table)
    table[5] = 7
    assert schedule.alpha_bar[5] < 1


@pytest.mark.parametrize("spacing", ["karras", "log_snr"])
def test_a_grid_in_sigma_needs_times_below_noise_alone(spacing):
    with pytest.raises(ValueError, match=f"spacing is '{spacing}', and sigma is 200 at time 1 already"):
        exploding(3, 200, 500).timesteps(3, spacing)
