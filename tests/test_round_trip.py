import math
from itertools import pairwise

import pytest
import torch

from ddpm.edict import coupled_round_trip, edict, invert_edict
from ddpm.langevin import annealed_langevin
from ddpm.noise import PerSampleNoise
from ddpm.oracles import Gaussian, GaussianMixture
from ddpm.round_trip import cycles, ends, inverted_round_trip, round_trip
from ddpm.samplers import ancestral, ddim, dpm_solver_pp, final, heun, invert, invert_heun
from ddpm.schedule import cosine, exploding, linear, sigmoid, zero_terminal_snr
from tests.noise import seeded

SCHEDULE = linear()
DENOISE = Gaussian(0.0, 0.5, SCHEDULE)
MIXTURE = GaussianMixture([1] * 6, 1.2 * torch.randn(6, 8, generator=torch.Generator().manual_seed(1)), 0.25, SCHEDULE)
POINTS = MIXTURE.sample(300, torch.Generator().manual_seed(0))


def slopes(counts, error):
    """Slopes of the median error in log N, from one count of moves to the next."""
    medians = [error(n).norm(dim=1).median().item() for n in counts]
    return [math.log(b / a) / math.log(n / m) for (a, b), (m, n) in zip(*map(pairwise, (medians, counts)), strict=True)]


def test_the_trip_goes_up_in_one_shot_and_down_the_whole_grid():
    x0 = torch.randn(3, 2, dtype=torch.float64)
    grid = SCHEDULE.timesteps(7, start=400)
    steps = list(round_trip(DENOISE, x0, grid, randn_like=PerSampleNoise(0)))
    assert [step.t for step in steps] == grid
    assert torch.equal(steps[0].prediction.x0, x0)
    assert torch.allclose(steps[0].x, SCHEDULE.signal(400) * x0 + SCHEDULE.noise(400) * steps[0].prediction.eps)


def test_one_step_back_is_the_posterior_mean():
    x0 = torch.randn(5, 2, dtype=torch.float64)
    start, end = round_trip(DENOISE, x0, [600, 0], sampler=ddim)
    assert torch.allclose(end.x, DENOISE(start.x, 600).x0)


def test_the_ends_of_a_trip_are_those_of_its_states():
    grid = SCHEDULE.timesteps(6, start=500)
    for trip, top in (
        (lambda: round_trip(MIXTURE, POINTS[:5], grid, randn_like=seeded(0)), 0),
        (lambda: inverted_round_trip(MIXTURE, POINTS[:5], grid), 5),
    ):
        states, kept = list(trip()), ends(trip())
        assert states[top].t == 500
        assert torch.equal(kept.noised, states[top].x)
        assert torch.equal(kept.one_shot, MIXTURE(kept.noised, 500).x0)
        assert torch.equal(kept.back, states[-1].x)
    with pytest.raises(ValueError, match="the trip ends at time 500; it must come back"):
        ends(invert(MIXTURE, POINTS[:5], grid))
    with pytest.raises(ValueError, match="the trip has no steps left; make a new one"):
        ends(iter(()))


@pytest.mark.parametrize("trip", [round_trip, lambda *args, **options: cycles(*args, 2, **options)])
def test_a_trip_takes_a_sampler_by_its_name_or_names_the_argument_before_it_draws(trip):
    x0, grid, drawn = POINTS[:3], SCHEDULE.timesteps(5), []
    named, given = (final(trip(DENOISE, x0, grid, sampler=s, randn_like=seeded(0), eta=0.5)) for s in ("ddim", ddim))
    assert torch.equal(named, given)
    for wrong, error in (("ddmi", ValueError), (3, TypeError)):
        with pytest.raises(error, match=f"^sampler is {wrong!r}; "):
            next(trip(DENOISE, x0, grid, sampler=wrong, randn_like=drawn.append))
    assert not drawn


def test_options_reach_the_sampler():
    x0 = torch.zeros(2, 2, dtype=torch.float64)
    grid = SCHEDULE.timesteps(5)
    for trip in (round_trip, lambda *args, **options: cycles(*args, 2, **options)):
        a, b = (
            final(trip(DENOISE, x0, grid, sampler=ddim, randn_like=PerSampleNoise(0), eta=eta)) for eta in (0.0, 1.0)
        )
        assert not torch.allclose(a, b)


def test_cycles_keep_the_distribution_and_lose_the_image_geometrically():
    n, depth = 20_000, 150
    kept = SCHEDULE.signal(depth) ** 2 * 0.5**2
    rho = kept / (kept + SCHEDULE.noise(depth) ** 2)
    x0 = DENOISE.sample((n, 1), torch.Generator().manual_seed(0))
    grid = SCHEDULE.timesteps(150, start=depth)
    ends = list(cycles(DENOISE, x0, grid, 4, sampler=ancestral, randn_like=seeded(1)))
    assert [end.t for end in ends] == [0] * 4
    for k, end in enumerate(ends, 1):
        correlation = torch.corrcoef(torch.stack([x0[:, 0], end.x[:, 0]]))[0, 1].item()
        assert abs(correlation - rho**k) < 3 * (1 - rho ** (2 * k)) / math.sqrt(n)
        assert abs(end.x.var().item() / 0.25 - 1) < 3 * math.sqrt(2 / n) + 0.02  # the finite grid takes a little


def test_a_cycle_draws_new_noise():
    x0 = torch.zeros(2, 2, dtype=torch.float64)
    first, second = (step.x for step in cycles(DENOISE, x0, [300, 0], 2, randn_like=PerSampleNoise(0)))
    again, _ = (step.x for step in cycles(DENOISE, x0, [300, 0], 2, randn_like=PerSampleNoise(0)))
    assert torch.equal(first, again)
    assert not torch.allclose(first, second)


def test_an_inverted_trip_returns_where_it_began():
    x0 = 0.5 * torch.randn(64, 2, dtype=torch.float64)
    steps = list(inverted_round_trip(DENOISE, x0, SCHEDULE.timesteps(1000)))
    assert steps[999].t == 1000
    assert steps[-1].t == 0
    assert (steps[-1].x - x0).abs().max() < 0.02


def test_the_noise_that_is_found_is_exact_to_the_order_of_the_moves():
    """Along the flow of a Gaussian x_t / std_t stays as it is."""
    x0 = DENOISE.sample((200, 2), torch.Generator().manual_seed(0))
    true = x0 / 0.5 * math.sqrt(SCHEDULE.signal(1000) ** 2 * 0.25 + SCHEDULE.noise(1000) ** 2)
    counts = [10, 20, 40, 80]

    def found(way):
        return slopes(counts, lambda n: final(way(DENOISE, x0, SCHEDULE.timesteps(n, "karras"))) - true)

    assert found(invert) == pytest.approx([-1] * 3, abs=0.15)
    assert found(invert_heun) == pytest.approx([-2] * 3, abs=0.3)


@pytest.mark.long
def test_a_trip_is_of_the_orders_of_its_ways_and_that_of_heun_of_one_more():
    """Up and back by a method of even order the leading errors cancel: (h)^3 + (-h)^3 = 0."""

    def trip(n, order):
        *_, end = inverted_round_trip(MIXTURE, POINTS, SCHEDULE.timesteps(n, "karras"), order=order)
        return end.x - POINTS

    counts = [20, 40, 80, 160]
    assert slopes(counts, lambda n: trip(n, 1)) == pytest.approx([-1] * 3, abs=0.15)
    assert slopes(counts, lambda n: trip(n, 2)) == pytest.approx([-3] * 3, abs=0.3)

    def mixed(n):
        grid = SCHEDULE.timesteps(n, "karras")
        return final(dpm_solver_pp(MIXTURE, final(invert_heun(MIXTURE, POINTS, grid)), grid)) - POINTS

    assert slopes([160, 320, 640], mixed) == pytest.approx([-2] * 2, abs=0.3)


def test_the_second_order_trip_is_up_and_back_by_heun():
    grid = SCHEDULE.timesteps(9)
    steps = list(inverted_round_trip(MIXTURE, POINTS[:4], grid, order=2))
    assert [step.t for step in steps] == [*grid[-2::-1], *grid[1:]]
    assert torch.equal(steps[8].x, final(invert_heun(MIXTURE, POINTS[:4], grid)))
    assert torch.equal(steps[-1].x, final(heun(MIXTURE, steps[8].x, grid)))


@pytest.mark.parametrize("mixing", [0.93, 1.0])
def test_the_coupled_trip_returns_the_image_itself(mixing):
    grid = SCHEDULE.timesteps(50)
    steps = list(coupled_round_trip(MIXTURE, POINTS, grid, mixing=mixing))
    assert [step.t for step in steps] == [*grid[-2::-1], *grid[1:]]
    assert steps[49].x.shape == (2, *POINTS.shape)
    assert (steps[-1].x - POINTS).abs().max() < 1e-10
    apart = (steps[49].x[0] - steps[49].x[1]).abs().max()
    assert apart < 0.05  # two like ones at the top, too


def test_a_coupled_move_is_the_papers():
    t, s, p = 400, 300, 0.93
    x, y = torch.randn(2, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    bar = SCHEDULE.alpha_bar
    a = (bar[s] / bar[t]).sqrt()
    b = (1 - bar[s]).sqrt() - (bar[s] * (1 - bar[t]) / bar[t]).sqrt()
    x_inter = a * x + b * MIXTURE(y, t).eps
    y_inter = a * y + b * MIXTURE(x_inter, t).eps
    x_s = p * x_inter + (1 - p) * y_inter
    y_s = p * y_inter + (1 - p) * x_s
    pair = torch.stack([x, y])
    moves = edict(MIXTURE, pair, [t, s, 200, 0], mixing=p)
    assert torch.allclose(next(moves).x, torch.stack([y_s, x_s]), atol=1e-12)  # the other moves first now
    swapped = next(edict(MIXTURE, torch.stack([y_s, x_s]), [s, 200, 0], mixing=p))
    assert torch.equal(next(moves).x, swapped.x)


def test_the_coupled_pair_samples_what_ddim_samples():
    grid = SCHEDULE.timesteps(500)
    x = torch.randn(100, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    pair = final(edict(DENOISE, torch.stack([x, x]), grid))
    assert (pair - final(ddim(DENOISE, x, grid))).abs().max() < 0.02


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x0, grid: cycles(DENOISE, x0, grid, 0), "count is 0; it must be an integer from 1 up"),
        (lambda x0, grid: inverted_round_trip(DENOISE, x0, grid, order=3), "order is 3; legal are 1"),
        (lambda x0, grid: coupled_round_trip(DENOISE, x0, grid, mixing=0), "mixing is 0; it must be above 0"),
        (lambda x0, grid: edict(DENOISE, torch.stack([x0, x0]), grid, mixing=1.1), "mixing is 1.1"),
        (lambda x0, grid: edict(DENOISE, x0[:1], grid), "pair has shape"),
        (lambda x0, grid: invert_edict(DENOISE, x0, grid[::-1]), "timesteps"),
        (lambda x0, grid: invert_heun(DENOISE, x0, grid[:-1]), "timesteps"),
        (lambda x0, grid: round_trip(DENOISE, x0, [2000, 0]), "timesteps"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        list(call(torch.zeros(2, 2, dtype=torch.float64), SCHEDULE.timesteps(5)))


@pytest.mark.parametrize("schedule", [cosine(), sigmoid()], ids=["cosine", "sigmoid"])
def test_the_coupled_trip_asks_for_float64_where_rounding_grows(schedule):
    """In float32 such a trip on the cosine schedule came back 1.1 away."""
    mixture = GaussianMixture([1.0, 2.0], [[-1.0, 0.0], [0.5, 1.0]], 0.3, schedule)
    x0 = mixture.sample(50, torch.Generator().manual_seed(0))
    grid = schedule.timesteps(50)
    back = final(coupled_round_trip(mixture, x0, grid))[0]
    assert (back - x0).abs().max() < 1e-6
    with pytest.raises(TypeError, match=r"x0 or pair is torch.float32; .* float64"):
        next(coupled_round_trip(mixture, x0.float(), grid))
    with pytest.raises(TypeError, match="float64"):
        next(edict(mixture, torch.zeros(2, 50, 2), grid))


def test_the_coupled_trip_in_float32_comes_back_as_far_as_it_says():
    mixture = GaussianMixture([1.0, 2.0], [[-1.0, 0.0], [0.5, 1.0]], 0.3, linear())
    x0 = mixture.sample(200, torch.Generator().manual_seed(0)).float()
    for n in (20, 50):
        back = final(coupled_round_trip(mixture, x0, linear().timesteps(n)))[0]
        assert (back - x0).abs().max() < 2e-3


def test_a_coupled_pair_needs_signal():
    schedule = zero_terminal_snr(linear())
    oracle = Gaussian(0.0, 0.5, schedule)
    with pytest.raises(ValueError, match="timesteps begin at 1000, where no signal is left"):
        next(edict(oracle, torch.zeros(2, 3, 1, dtype=torch.float64), schedule.timesteps(5)))


def test_a_coupled_pair_needs_float64_where_noise_drowns_the_signal():
    pair = torch.zeros(2, 3, 1)
    for highest in (160, 1e5):
        schedule = exploding(highest=highest)
        walk = edict(Gaussian(0.0, 0.5, schedule), pair, schedule.timesteps(5))
        if highest == 160:
            assert next(walk).x.dtype == torch.float32
        else:
            with pytest.raises(TypeError, match=r"up to a signal of 1.0e-05 EDICT must compute in float64"):
                next(walk)


@pytest.mark.parametrize("order", [1, 2])
def test_an_inverted_trip_reaches_noise_alone_where_no_signal_is_left(order):
    """At T the state is the noise that was found: N(0, 1) of the points, and back to about the points."""
    schedule = zero_terminal_snr(cosine())
    oracle = Gaussian(0.4, 0.5, schedule)
    points = oracle.sample((4000, 1), torch.Generator().manual_seed(0))
    steps = list(inverted_round_trip(oracle, points, schedule.timesteps(200), order=order))
    found = next(step.x for step in steps if step.t == 1000)
    assert found.std().item() == pytest.approx(1, abs=0.05)
    assert found.mean().item() == pytest.approx(0, abs=0.06)
    assert (steps[-1].x - points).abs().max() < 0.25


def test_the_top_of_a_trip_whose_sampler_stays_there_is_the_noised_image():
    x0, grid = torch.ones(2, 2, dtype=torch.float64), SCHEDULE.timesteps(4, start=500)
    kept = ends(round_trip(DENOISE, x0, grid, sampler=annealed_langevin, randn_like=seeded(0)))
    assert torch.equal(kept.noised, SCHEDULE.add_noise(x0, 500, seeded(0)(x0)))
    assert torch.equal(kept.one_shot, DENOISE(kept.noised, 500).x0)


def test_the_coupled_ways_have_the_papers_mixing_by_default():
    x0, grid = torch.ones(2, 2, dtype=torch.float64), SCHEDULE.timesteps(20, start=500)
    up = final(invert_edict(DENOISE, x0, grid))
    assert torch.equal(up, final(invert_edict(DENOISE, x0, grid, mixing=0.93)))
    assert torch.equal(final(edict(DENOISE, up, grid)), final(edict(DENOISE, up, grid, mixing=0.93)))
    assert torch.allclose(final(edict(DENOISE, up, grid)), x0.expand(2, 2, 2))


@pytest.mark.parametrize(("moves", "mixing"), [(100, 1), (200, 1), (50, 0.93), (100, 0.93)])
def test_what_rounding_puts_between_a_coupled_pair_grows_on_the_way_down(moves, mixing):
    """By a few times one over the squared signal, less mixing^2 a move (chapter 3). What both share hardly grows."""
    torch.manual_seed(0)
    mixture = GaussianMixture([1] * 4, torch.randn(4, 8, dtype=torch.float64), 0.25, SCHEDULE)
    x0, rounding = mixture.sample(40), 1e-9 * torch.randn(40, 8, dtype=torch.float64)
    grid = SCHEDULE.timesteps(moves)
    up = final(invert_edict(mixture, x0, grid, mixing=mixing))
    moved = final(invert_edict(mixture, x0 + rounding, grid, mixing=mixing)) - up
    assert moved.norm() / rounding.norm() / 2**0.5 < 5
    apart = torch.stack([rounding, -rounding])
    back, other = (final(edict(mixture, pair, grid, mixing=mixing)) for pair in (up, up + apart))
    growth = ((other - back).norm() / apart.norm()).item()
    assert 1 < growth / (mixing ** (2 * moves) / SCHEDULE.signal(1000) ** 2) < 6


@pytest.mark.parametrize(("order", "within"), [(1, 3e-4), (2, 1e-9)])
def test_an_inverted_trip_comes_back_in_the_limit_of_small_steps_also_below_time_1(order, within):
    grid = [1000 * (k / 4000) ** 2 for k in range(4000, -1, -1)]  # 126 of these times are below 1
    denoise = Gaussian(0.3, 0.05, SCHEDULE)
    x0 = torch.tensor([[0.3], [0.25], [0.4]], dtype=torch.float64)
    assert (final(inverted_round_trip(denoise, x0, grid, order=order)) - x0).abs().max() < within


@pytest.mark.parametrize("walk", [round_trip, inverted_round_trip, coupled_round_trip])
def test_what_is_no_denoiser_is_named(walk):
    with pytest.raises(TypeError, match=r"denoise is .*; it must be a ddpm.denoiser.interface.Denoiser"):
        next(walk(torch.neg, torch.zeros(1, 2, dtype=torch.float64), [5, 0]))


def test_what_is_no_image_is_named():
    schedule = linear()
    for trip in (round_trip, edict, invert_edict):
        with pytest.raises(TypeError, match="x0.* is torch.uint8; it must be float32 or float64"):
            list(trip(Gaussian(0.0, 0.5, schedule), torch.zeros(2, 1, 4, 4, dtype=torch.uint8), [500, 0]))
        with pytest.raises(TypeError, match="x0.* is list; it must be a tensor of float32 or float64"):
            list(trip(Gaussian(0.0, 0.5, schedule), [0.0], [500, 0]))
