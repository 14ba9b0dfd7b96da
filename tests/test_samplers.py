import io
import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tqdm import tqdm

from ddpm.denoiser import Denoiser
from ddpm.grids import SPACINGS
from ddpm.langevin import annealed_langevin, flow_and_langevin, predictor_corrector
from ddpm.noise import PerSampleNoise
from ddpm.oracles import Gaussian
from ddpm.samplers import Step, ancestral, ddim, dpm_solver_pp, final, heun, invert, predict
from ddpm.sampling import sample
from ddpm.schedule import NoiseSchedule, exploding, linear, straight
from ddpm.targets import Prediction
from ddpm.walks import SAMPLERS

SCHEDULE = linear()


def output_variance(sampler, n, spacing="trailing", **options):
    """Exact variance of what a linear sampler makes of N(0, 1): every draw is an axis of its own."""
    denoise = Gaussian(0.0, 0.5, SCHEDULE)
    x = torch.zeros(1, n + 1, dtype=torch.float64)
    x[0, 0] = 1
    drawn = []

    def axis(x):
        drawn.append(1)
        return torch.eye(n + 1, dtype=torch.float64)[len(drawn)][None]

    return final(sampler(denoise, x, SCHEDULE.timesteps(n, spacing), randn_like=axis, **options)).square().sum().item()


def recursion(n, variance_of_move):
    """The same variance as a scalar recursion, from Ho et al.'s and Song et al.'s equations alone (s^2 = 0.25)."""
    bar = SCHEDULE.alpha_bar
    grid = [round(1000 * k / n) for k in range(n, -1, -1)]
    variance = torch.tensor(1.0, dtype=torch.float64)
    for t, s in itertools.pairwise(grid):
        total = bar[t] * 0.25 + 1 - bar[t]
        x0_gain, eps_gain = bar[t].sqrt() * 0.25 / total, (1 - bar[t]).sqrt() / total
        sigma2 = variance_of_move(bar[t], bar[s]) if s > 0 else torch.zeros(())
        if variance_of_move is large:
            alpha = bar[t] / bar[s]
            gain = bar[s].sqrt() * (1 - alpha) / (1 - bar[t]) * x0_gain + alpha.sqrt() * (1 - bar[s]) / (1 - bar[t])
        else:
            gain = bar[s].sqrt() * x0_gain + (1 - bar[s] - sigma2).clamp(min=0).sqrt() * eps_gain
        variance = gain**2 * variance + sigma2
    return variance.item()


def none(bar_t, bar_s):
    return torch.zeros(())


def small(bar_t, bar_s):
    return (1 - bar_s) / (1 - bar_t) * (1 - bar_t / bar_s)


def large(bar_t, bar_s):
    return 1 - bar_t / bar_s


@pytest.mark.parametrize("n", [1, 7, 10, 100, 1000])
def test_gaussian_variance_follows_its_recursion(n):
    for sampler, options, variance_of_move in (
        (ddim, {}, none),
        (ddim, {"eta": 1.0}, small),
        (ancestral, {}, small),
        (ancestral, {"variance": "large"}, large),
    ):
        assert output_variance(sampler, n, **options) == pytest.approx(recursion(n, variance_of_move), abs=1e-10)


@pytest.mark.parametrize(
    ("n", "spacing", "deterministic", "small_variance", "large_variance"),
    [
        (10, "trailing", 0.13687, 0.11121, 0.24394),
        (100, "trailing", 0.23566, 0.21923, 0.25677),
        (1000, "trailing", 0.24850, 0.24613, 0.25075),
        (10, "linspace", 0.131, 0.104, 0.359),
    ],
)
def test_gaussian_variance_is_the_published_one(n, spacing, deterministic, small_variance, large_variance):
    """By the recursion, which the samplers follow; on the grid that it has not, by the samplers themselves."""
    published = [deterministic, small_variance, large_variance]
    if spacing == "trailing":
        found, tolerance = [recursion(n, variance) for variance in (none, small, large)], 6e-6
    else:
        walks = (ddim, ancestral, partial(ancestral, variance="large"))
        found, tolerance = [output_variance(walk, n, spacing) for walk in walks], 6e-4
    assert found == pytest.approx(published, abs=tolerance)  # the digits they are given to


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("n", [1, 3, 7, 50, 333])
def test_ddim_at_eta_one_is_ancestral_sampling(spacing, n):
    denoise, grid = Gaussian(0.3, 0.5, SCHEDULE), SCHEDULE.timesteps(n, spacing)
    x = torch.randn(4, 3, dtype=torch.float64)
    a = final(ddim(denoise, x, grid, eta=1.0, randn_like=PerSampleNoise(1)))
    b = final(ancestral(denoise, x, grid, randn_like=PerSampleNoise(1)))
    assert torch.allclose(a, b, atol=1e-10)


def test_every_state_is_yielded_and_the_last_move_is_not_random():
    denoise, grid = Gaussian(0.0, 0.5, SCHEDULE), SCHEDULE.timesteps(5)
    calls = []

    def counted(x):
        calls.append(1)
        return torch.zeros_like(x)

    steps = list(ancestral(denoise, torch.randn(2, 3), grid, randn_like=counted))
    assert [step.t for step in steps] == grid[1:]
    assert len(calls) == 4
    assert torch.allclose(steps[-1].x, steps[-1].prediction.x0, atol=1e-5)


def test_ddim_is_deterministic_and_asks_for_no_noise():
    def never(x):
        raise AssertionError("deterministic DDIM drew noise")

    denoise, x = Gaussian(0.0, 0.5, SCHEDULE), torch.randn(2, 3)
    grid = SCHEDULE.timesteps(20)
    first, second = (final(ddim(denoise, x, grid, randn_like=never)) for _ in range(2))
    assert torch.equal(first, second)


def test_inversion_undoes_ddim_at_first_order():
    denoise = Gaussian(torch.tensor([0.3, -0.2], dtype=torch.float64), 0.5, SCHEDULE)
    x0 = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.5
    errors = []
    for n in (50, 100, 200, 400):
        grid = SCHEDULE.timesteps(n)
        back = final(ddim(denoise, final(invert(denoise, x0, grid)), grid))
        errors.append((back - x0).abs().median())
    slopes = torch.stack(errors).log().diff() / torch.tensor(2.0).log()
    assert torch.allclose(slopes, torch.tensor(-1.0, dtype=slopes.dtype), atol=0.15)


def test_an_exhausted_sampler_is_refused():
    walk = ddim(Gaussian(0.0, 0.5, SCHEDULE), torch.zeros(1, 2), [10, 0])
    final(walk)
    with pytest.raises(ValueError, match="no steps left"):
        final(walk)


@pytest.mark.parametrize("grid", [[1000], [1000, 1], [500, 500, 0], [1, 2, 0], [1001, 0]])
def test_an_illegal_grid_is_refused(grid):
    with pytest.raises(ValueError, match="timesteps"):
        final(ddim(Gaussian(0.0, 0.5, SCHEDULE), torch.zeros(1, 2), grid))


def flow(oracle, x, t, s):
    """The exact probability flow of a centred `Gaussian` from time t to s: y = x / signal keeps its quantile."""
    spread = [math.sqrt(oracle.std**2 + SCHEDULE.sigma(time) ** 2) * SCHEDULE.signal(time) for time in (t, s)]
    return x * spread[1] / spread[0]


@pytest.mark.parametrize(
    ("sampler", "order", "tolerance"),
    [(ddim, 1, 0.1), (heun, 2, 0.2), (partial(heun, coordinates="sigma"), 2, 0.2), (dpm_solver_pp, 2, 0.2)],
)
@pytest.mark.parametrize("spacing", ["karras", "quadratic"])
def test_order_of_convergence_to_the_exact_flow(sampler, order, tolerance, spacing):
    """Down to time 1 in real t; the move from there to 0 has one size, whatever N is."""
    oracle, x = Gaussian(0.0, 0.5, SCHEDULE), torch.ones(1, 1, dtype=torch.float64)
    counts, errors = [40, 80, 160, 320], []
    for n in counts:
        above = [t for t in SCHEDULE.timesteps(n, spacing) if t > 1]
        states = list(sampler(oracle, x, [*above, 1, 0]))
        errors.append(abs(states[-2].x - flow(oracle, x, SCHEDULE.T, 1)).item())
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(-order, abs=tolerance)


def errors_on_edms_grid(sampler):
    """N(0, 0.25) from y = 80 at sigma = 80 down to 0.002 on 20 to 160 nodes with rho = 7, and then to 0."""
    nodes = torch.linspace(0.002 ** (1 / 7), 80 ** (1 / 7), 5000, dtype=torch.float64) ** 7
    schedule = NoiseSchedule(torch.cat([torch.ones(1, dtype=torch.float64), 1 / (1 + nodes**2)]))
    oracle = Gaussian(0.0, 0.5, schedule)
    y = torch.full((1, 1), 80.0, dtype=torch.float64)
    exact = 80 * 0.5 / math.sqrt(0.5**2 + 80**2)
    for n in (20, 40, 80, 160):
        end = final(sampler(oracle, y * schedule.signal(schedule.T), schedule.timesteps(n, "karras")))
        yield abs(end.item() - exact)


@pytest.mark.parametrize(
    ("sampler", "published"),
    [
        (ddim, [0.0695, 0.0351, 0.0177, 0.0089]),
        (partial(heun, coordinates="sigma"), [0.0218, 0.0049, 0.0012, 0.00028]),
    ],
)
def test_errors_on_edms_grid_are_the_published_ones(sampler, published):
    for measured, error in zip(errors_on_edms_grid(sampler), published, strict=True):
        assert measured == pytest.approx(error, abs=0.6 * 10 ** -len(str(error).split(".")[1]))


def test_heun_in_the_angle_errs_less_than_half_as_much_as_in_sigma():
    pairs = zip(errors_on_edms_grid(heun), errors_on_edms_grid(partial(heun, coordinates="sigma")), strict=True)
    assert all(angle < 0.5 * sigma for angle, sigma in pairs)


def test_euler_in_edms_coordinates_is_ddim():
    """dy / d sigma = eps with y = x / signal: an Euler step of it is eq. 12 of Song et al. at eta 0."""
    oracle = Gaussian(torch.tensor([0.3, -0.2], dtype=torch.float64), 0.5, SCHEDULE)
    grid = SCHEDULE.timesteps(13, "karras")
    x = torch.randn(4, 2, dtype=torch.float64)
    y = x / SCHEDULE.signal(grid[0])
    for t, s in itertools.pairwise(grid):
        y = y + (SCHEDULE.sigma(s) - SCHEDULE.sigma(t)) * oracle(SCHEDULE.signal(t) * y, t).eps
    assert torch.allclose(final(ddim(oracle, x, grid)), y, atol=1e-11)


def test_calls_of_the_denoiser():
    class Counted(Denoiser):
        schedule, calls = SCHEDULE, 0

        def __call__(self, x, t):
            self.calls += 1
            return Gaussian(0.0, 0.5, SCHEDULE)(x, t)

    for sampler, options, calls in (
        (ancestral, {}, 10), (ddim, {}, 10), (heun, {}, 19), (dpm_solver_pp, {}, 10),
        (annealed_langevin, {"steps_per_level": 3}, 31), (predictor_corrector, {"corrector_steps": 2}, 28),
        (predictor_corrector, {}, 19), (flow_and_langevin, {}, 10),
    ):  # fmt: skip
        denoise = Counted()
        final(sampler(denoise, torch.zeros(2, 3), SCHEDULE.timesteps(10), **options))
        assert denoise.calls == calls, sampler.__name__


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(SAMPLERS)), st.sampled_from(SPACINGS), st.integers(21, 300), st.data(),
    st.sampled_from([torch.float32, torch.float64]), st.sampled_from([(3,), (1, 4, 4)]),
)  # fmt: skip
def test_every_sampler_on_every_grid(name, spacing, T, data, dtype, shape):
    """Times fall strictly to 0, nothing is NaN, a seed gives the same bits, and a sample's noise is its own."""
    schedule = linear(T)
    n = data.draw(st.integers(1, T))
    grid = schedule.timesteps(n, spacing)
    assert len(grid) == n + 1
    assert grid[-1] == 0
    assert all(t > s for t, s in itertools.pairwise(grid))
    options = {"eta": data.draw(st.floats(0, 1))} if name == "ddim" else {}
    oracle = Gaussian(0.1, 0.5, schedule)

    def run(rows):
        noise = PerSampleNoise(5)
        x = noise(torch.empty(rows, *shape, dtype=dtype))
        return list(SAMPLERS[name](oracle, x, grid, randn_like=noise, **options))

    states = run(3)
    assert states[-1].t == 0
    assert all(state.x.dtype == dtype and torch.isfinite(state.x).all() for state in states)
    assert torch.equal(states[-1].x, run(3)[-1].x)
    assert torch.allclose(states[-1].x[:1], run(1)[-1].x, atol=1e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_denoiser_that_answers_nan_is_named(name):
    class Broken(Denoiser):
        schedule = SCHEDULE

        def __call__(self, x, t):
            return Prediction(x * (math.nan if t < 500 else 0), x)

    with pytest.raises(FloatingPointError, match="at time 400 is not finite"):
        final(SAMPLERS[name](Broken(), torch.ones(1, 2), SCHEDULE.timesteps(5)))


def test_an_inversion_whose_denoiser_answers_nan_names_the_time():
    class Broken(Denoiser):
        schedule = SCHEDULE

        def __call__(self, x, t):
            return Prediction(x * math.nan, x)

    with pytest.raises(FloatingPointError, match="at time 1 is not finite"):
        final(invert(Broken(), torch.ones(1, 2), SCHEDULE.timesteps(5)))


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_bar_ends_full(name, monkeypatch):
    bars = []

    class Bar(tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs, file=io.StringIO())
            bars.append(self)

    monkeypatch.setattr("ddpm.sampling.tqdm", Bar)
    sample(Gaussian(0.0, 0.5, SCHEDULE), 5, name, 4, shape=(2,), chunk=2)
    assert [(bar.n, bar.total) for bar in bars] == [(12, 12)]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_on_a_gpu_agree_with_the_cpu(name, dtype):
    oracle, grid = Gaussian(0.1, 0.5, SCHEDULE), SCHEDULE.timesteps(10)
    x = PerSampleNoise(0)(torch.empty(3, 1, 4, 4, dtype=dtype))
    here, there = (final(SAMPLERS[name](oracle, x.to(d), grid, randn_like=PerSampleNoise(1))) for d in ("cpu", "cuda"))
    assert there.device.type == "cuda"
    assert there.dtype == dtype
    assert torch.allclose(here, there.cpu(), atol=1e-4)


@pytest.mark.parametrize("name", [*SAMPLERS, "invert"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_states_of_fewer_than_32_bits_are_refused(name, dtype):
    """Twenty ancestral steps in bfloat16 were off by 0.18 in every pixel."""
    walk = SAMPLERS.get(name, invert)
    with pytest.raises(TypeError, match=r"x is torch\..*; it must be float32 or float64"):
        next(walk(Gaussian(0.0, 0.5, SCHEDULE), torch.zeros(2, 3, dtype=dtype), SCHEDULE.timesteps(5)))


def test_heuns_sigma_needs_some_signal_where_it_begins():
    oracle, x = Gaussian(0.0, 0.5, straight()), torch.zeros(1, 1)
    with pytest.raises(ValueError, match=r"coordinates is 'sigma', and no signal is left at 1000, .* take 'angle' or"):
        next(heun(oracle, x, [1000, 500, 0], coordinates="sigma"))
    assert next(heun(oracle, x, [999, 500, 0], coordinates="sigma")).x.isfinite().all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_argument_noise_still_draws(name):
    oracle, x, grid = Gaussian(0.0, 0.5, SCHEDULE), torch.zeros(2, 3), SCHEDULE.timesteps(5)
    with pytest.warns(DeprecationWarning, match="noise is now called randn_like; the old name goes in version 0.4"):
        old = final(SAMPLERS[name](oracle, x, grid, noise=PerSampleNoise(3)))
    assert torch.equal(old, final(SAMPLERS[name](oracle, x, grid, randn_like=PerSampleNoise(3))))


def test_heun_in_the_angle_is_the_trapezoidal_rule_by_hand():
    """With x0 and eps of a formula: half the angle of the move times what their change makes of v where it ends."""

    class Formula(Denoiser):
        schedule = SCHEDULE

        def __call__(self, x, t):
            return Prediction(torch.full_like(x, t / 1000), torch.full_like(x, 1 - t / 400))

    (signal, noise), (x0, eps), (x0_s, eps_s) = (SCHEDULE.signal(300), SCHEDULE.noise(300)), (0.6, -0.5), (0.3, 0.25)
    angle = math.acos(SCHEDULE.signal(300)) - math.acos(SCHEDULE.signal(600))
    wanted = signal * x0 + noise * eps + angle / 2 * (signal * (eps_s - eps) - noise * (x0_s - x0))
    first = next(heun(Formula(), torch.zeros(1, 1, dtype=torch.float64), [600, 300, 0]))
    assert first.x.item() == pytest.approx(wanted, abs=1e-14)


@pytest.mark.parametrize(("churn", "gamma"), [(0.0, 0.0), (2.0, 0.2), (40.0, math.sqrt(2) - 1)])
def test_heun_with_churn_is_edms_algorithm_2_by_hand(churn, gamma):
    """In its own coordinates, y = x / signal, on ten moves; nothing is noisier than time T."""
    oracle = Gaussian(torch.tensor([0.3, -0.2], dtype=torch.float64), 0.5, SCHEDULE)
    grid = SCHEDULE.timesteps(10, "karras")
    top, ours, theirs = SCHEDULE.sigma(SCHEDULE.T), PerSampleNoise(3), PerSampleNoise(3)
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def slope(y, sigma):
        t = SCHEDULE.sigma_to_t(sigma)
        return (y - oracle(SCHEDULE.signal(t) * y, t).x0) / sigma

    y = x / SCHEDULE.signal(grid[0])
    for t, s in itertools.pairwise(grid):
        sigma, after = SCHEDULE.sigma(t), SCHEDULE.sigma(s)
        higher = min((1 + gamma) * sigma, top)
        if higher > sigma:
            y = y + math.sqrt(higher**2 - sigma**2) * theirs(y)
        first = slope(y, higher)
        euler = y + (after - higher) * first
        y = euler if s == 0 else y + (after - higher) * (first + slope(euler, after)) / 2
    end = final(heun(oracle, x, grid, coordinates="sigma", churn=churn, randn_like=ours))
    assert torch.allclose(end, y, atol=1e-10)


@pytest.mark.parametrize("churn", [-1.0, math.inf, math.nan])
def test_an_illegal_churn_is_refused(churn):
    with pytest.raises(ValueError, match=f"churn is {churn}; it must be finite and at least 0"):
        next(heun(Gaussian(0.0, 0.5, SCHEDULE), torch.zeros(1, 2), [1000, 0], churn=churn))


@pytest.mark.parametrize("part", ["x0", "eps"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_single_number_that_is_not_finite_is_named(name, part):
    class Broken(Denoiser):
        schedule = SCHEDULE

        def __call__(self, x, t):
            answer = {"x0": torch.zeros_like(x), "eps": x.clone()}
            answer[part][-1, -1] = math.nan if t < 500 else 0
            return Prediction(**answer)

    with pytest.raises(FloatingPointError, match="at time 400 is not finite"):
        final(SAMPLERS[name](Broken(), torch.ones(2, 3), SCHEDULE.timesteps(5)))


def test_a_last_state_of_which_a_part_is_not_finite_is_refused():
    for last in ([1.0, math.nan], [math.inf, math.inf]):
        with pytest.raises(FloatingPointError, match="last state is not finite"):
            final(iter([Step(torch.tensor([last]), 0, Prediction(None, None))]))


def test_options_that_are_no_numbers_are_named():
    oracle, x, grid = Gaussian(0.0, 0.5, SCHEDULE), torch.zeros(2, 3), SCHEDULE.timesteps(5)
    with pytest.raises(TypeError, match="eta is 'a'; it must be a number"):
        next(ddim(oracle, x, grid, eta="a"))
    with pytest.raises(TypeError, match="watch is int; it must be a function"):
        sample(Gaussian(torch.zeros(2), 0.5, SCHEDULE), 2, watch=5)


@pytest.mark.parametrize("walk", [ancestral, partial(ddim, eta=1)])
def test_noise_of_another_shape_is_not_spread_over_the_state(walk):
    oracle, x, grid = Gaussian(0.0, 0.5, SCHEDULE), torch.zeros(2, 3), SCHEDULE.timesteps(5)
    with pytest.raises(ValueError, match=r"randn_like answers \(1, 3\) at x of shape \(2, 3\)"):
        next(walk(oracle, x, grid, randn_like=lambda x: torch.randn(1, 3)))


def test_a_state_that_is_not_finite_is_not_blamed_on_the_denoiser():
    x = torch.tensor([[0.0], [math.nan]])
    with pytest.raises(FloatingPointError, match="the state at time 1000 is not finite"):
        next(ddim(Gaussian(0.0, 0.5, SCHEDULE), x, SCHEDULE.timesteps(5)))


def test_ddim_with_all_its_noise_survives_the_rounding_of_its_direction():
    """1 - eta^2 of the posterior's variance is 0 up to rounding there, and may be below."""
    for schedule, grid in ((straight(), [85, 1e-6, 0]), (exploding(1000, 1e-3, 1e4), [601, 1e-4, 0])):
        assert final(ddim(Gaussian(0.0, 1.0, schedule), torch.zeros(1, 2), grid, eta=1.0)).isfinite().all()


@pytest.mark.parametrize("walk", [*SAMPLERS.values(), invert])
def test_what_is_no_denoiser_is_named(walk):
    with pytest.raises(TypeError, match=r"denoise is .*; it must be a ddpm.denoiser.interface.Denoiser"):
        next(walk(torch.neg, torch.zeros(1, 2), [5, 0]))


def test_a_walk_keeps_its_dtype_whatever_the_noise_has():
    in_float64 = lambda x: torch.zeros(x.shape, dtype=torch.float64)  # noqa: E731
    assert (
        final(ancestral(Gaussian(0.0, 1.0, linear()), torch.zeros(1, 2), [5, 2, 0], randn_like=in_float64)).dtype
        == torch.float32
    )


@pytest.mark.parametrize("walk", [*SAMPLERS.values(), invert])
def test_a_grid_may_be_a_tensor(walk):
    x = torch.zeros(1, 2)
    grid = [900, 300.5, 0]
    told = {} if walk is invert else {"randn_like": torch.zeros_like}
    listed, given = (list(walk(Gaussian(1.0, 0.5, SCHEDULE), x, g, **told)) for g in (grid, torch.tensor(grid)))
    assert all(torch.equal(one.x, other.x) for one, other in zip(listed, given, strict=True))
    assert all(type(step.t) is float for step in given)


@pytest.mark.parametrize("walk", [*SAMPLERS.values(), invert])
def test_a_denoiser_of_ones_own_must_have_a_schedule_and_answer_with_a_prediction(walk):
    class Mine(Denoiser):
        def __call__(self, x, t):
            return x

    with pytest.raises(TypeError, match=r"^Mine\.schedule is NoneType; a denoiser must have a NoiseSchedule, such as"):
        next(walk(Mine(), torch.zeros(1, 2), [5, 0]))
    Mine.schedule = linear()
    message = r"^Mine answered Tensor; a denoiser must answer with a ddpm\.targets\.Prediction\(x0, eps\)$"
    with pytest.raises(TypeError, match=message):
        next(walk(Mine(), torch.zeros(1, 2), [5, 0]))


@pytest.mark.parametrize("walk", [*SAMPLERS.values(), invert])
@pytest.mark.parametrize(("part", "other"), [("x0", 0), ("eps", 1)])
def test_an_answer_of_another_shape_is_refused_and_not_spread_over_x(walk, part, other):
    class Mine(Denoiser):
        schedule = SCHEDULE

        def __call__(self, x, t):
            return Prediction(*(x[:, :1] if i == other else x for i in range(2)))

    with pytest.raises(ValueError, match=rf"^Mine, for {part}, answers \(4, 1\) at x of shape \(4, 2\)"):
        next(walk(Mine(), torch.zeros(4, 2), [500, 0]))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_denoiser_of_another_dtype_changes_that_of_no_state(name, dtype):
    class Mine(Denoiser):
        schedule = SCHEDULE

        def __call__(self, x, t):
            return Prediction(x.half(), x.double())

    for step in SAMPLERS[name](Mine(), torch.ones(2, 2, dtype=dtype), SCHEDULE.timesteps(3)):
        assert {step.x.dtype, *(part.dtype for part in step.prediction)} == {dtype}


def test_the_last_state_of_something_else_than_steps_is_refused():
    for states in (torch.ones(3), [torch.ones(3)]):
        with pytest.raises(TypeError, match=r"^what steps yields is Tensor; it must be a ddpm\.samplers\.Step$"):
            final(states)


def test_a_move_written_by_hand_is_ddims():
    x, grid = torch.randn(3, 2), SCHEDULE.timesteps(4)
    denoise = Gaussian(1.0, 0.5, SCHEDULE)
    by_hand = x
    for t, s in itertools.pairwise(grid):
        prediction = predict(denoise, by_hand, t)
        by_hand = SCHEDULE.add_noise(prediction.x0, s, prediction.eps)
    assert torch.allclose(by_hand, final(ddim(denoise, x, grid)))


def test_a_variance_that_there_is_not_is_refused():
    denoise = Gaussian(torch.zeros(2), 0.5, linear())
    with pytest.raises(ValueError, match="variance is 'huge'; legal are small, large"):
        next(ancestral(denoise, torch.zeros(1, 2), [1000, 0], variance="huge"))
