import itertools
import math

import pytest
import torch

from ddpm.langevin import (
    annealed_langevin,
    flow_and_langevin,
    langevin,
    metropolis_langevin,
    predictor_corrector,
    score_at,
)
from ddpm.noise import PerSampleNoise
from ddpm.oracles import Gaussian, GaussianMixture
from ddpm.samplers import ancestral, ddim, dpm_solver_pp, final, heun
from ddpm.schedule import cosine, exploding, linear
from tests.noise import seeded

SCHEDULE = linear()


def langevin_variance(std, step_size, steps=2000):
    """Exact variance of a chain on N(0, std^2) from a point: every draw is an axis of its own."""
    draws = iter(torch.eye(steps, dtype=torch.float64))
    chain = langevin(
        lambda x: -x / std**2, torch.zeros(1, steps, dtype=torch.float64), step_size=step_size, steps=steps,
        randn_like=lambda x: next(draws)[None],
    )  # fmt: skip
    *_, x = chain
    return x.square().sum().item()


@pytest.mark.parametrize("std", [0.5, 2.0])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_the_bias_of_langevin_on_a_gaussian_is_the_closed_one(std, share):
    step_size = share * 4 * std**2  # it diverges at a share of 1
    expected = std**2 / (1 - step_size / (4 * std**2))
    assert langevin_variance(std, step_size) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("share", [1.01, 2.0])
def test_a_step_size_beyond_stability_is_named(share):
    with pytest.raises(FloatingPointError, match=rf"step_size is {share:g}; the chain diverged by step \d+"):
        langevin_variance(0.5, share)


def test_metropolis_leaves_no_bias():
    """At a step size where unadjusted Langevin is a third too wide, over 20,000 chains."""
    gaussian = Gaussian(0.3, 0.5, SCHEDULE)
    chain = metropolis_langevin(
        lambda x: gaussian.log_density(x, 0), lambda x: gaussian.score(x, 0),
        torch.full((20_000, 1), 0.3, dtype=torch.float64),
        step_size=0.25, steps=60, randn_like=seeded(0),
    )  # fmt: skip
    accepted = []
    for state in chain:
        accepted.append(state[1].double().mean())
    x = state[0]
    assert x.mean().item() == pytest.approx(0.3, abs=4 * 0.5 / math.sqrt(20_000))
    assert x.var().item() == pytest.approx(0.25, rel=4 * math.sqrt(2 / 20_000))
    assert 0.5 < torch.stack(accepted).mean() < 0.99
    *_, unadjusted = langevin(lambda x: gaussian.score(x, 0), x, step_size=0.25, steps=60, randn_like=seeded(1))
    assert unadjusted.var().item() == pytest.approx(0.25 / (1 - 0.25), rel=4 * math.sqrt(2 / 20_000))


def test_a_chain_that_is_far_out_has_not_diverged():
    x = torch.full((5, 1), 2e6, dtype=torch.float64)
    *_, moved = langevin(lambda x: -(x - 2e6), x, step_size=0.01, steps=20, randn_like=seeded(0))
    assert (moved - x).abs().max() < 5


def test_a_nan_is_not_taken_for_a_rejection_or_a_large_step():
    def spoilt(answer):
        return lambda x: torch.where(x.abs() > 0.5, math.nan, answer(x))

    options = {"step_size": 0.3, "steps": 50, "randn_like": seeded(0)}
    x, density, score = torch.zeros(4, 1), lambda x: -x.square().sum(1) / 2, lambda x: -x
    with pytest.raises(FloatingPointError, match=r"the score is not finite at step \d+"):
        list(langevin(spoilt(score), x, **options))
    for log_density, slope in ((lambda x: spoilt(density)(x)[:, 0], score), (density, spoilt(score))):
        with pytest.raises(FloatingPointError, match=r"the log density or the score is NaN at step \d+"):
            list(metropolis_langevin(log_density, slope, x, **options))
        with pytest.raises(FloatingPointError, match="where the chain begins"):
            list(metropolis_langevin(log_density, slope, x + 1, **options))


def test_the_score_of_a_denoiser():
    mixture = GaussianMixture([1, 2], [[-1.0, 0.0], [1.0, 1.0]], [0.3, 0.5], SCHEDULE)
    x = torch.randn(5, 2, dtype=torch.float64)
    assert torch.allclose(score_at(mixture, 200)(x), mixture.score(x, 200), atol=1e-10)
    with pytest.raises(ValueError, match="t is 0"):
        score_at(mixture, 0)


@pytest.mark.long
def test_plain_langevin_misses_far_modes_and_annealing_finds_them():
    """Song & Ermon (2019), section 3.2.2: weights 0.2 and 0.8 at -5 and +5, from a broad start, equal calls."""
    mixture = GaussianMixture([0.2, 0.8], [[-5.0, -5.0], [5.0, 5.0]], 1.0, SCHEDULE)
    start = 16 * torch.rand(4000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 8

    def large_mode(x):
        return (x.sum(1) > 0).double().mean().item()

    *_, plain = langevin(score_at(mixture, 1), start, step_size=0.1, steps=1001, randn_like=seeded(1))
    grid = SCHEDULE.timesteps(200, "karras")
    noise = seeded(2)
    shares = [
        large_mode(
            final(annealed_langevin(mixture, noise(start), grid, step_size=size, steps_per_level=5, randn_like=noise))
        )
        for size in (0.01, 0.1)
    ]
    error = 3 * math.sqrt(0.25 / 4000)
    assert large_mode(plain) == pytest.approx(0.5, abs=error)
    assert 0.7 < shares[1] < 0.8 + error  # near the truth
    assert shares[0] < 0.65  # too small a step to follow the ladder


def test_a_langevin_step_beside_the_flow_is_a_ddpm_step_to_first_order():
    """Mean of a move from 500, against ancestral sampling with the large variance: the difference falls as beta^2."""
    oracle, x = Gaussian(0.2, 0.5, SCHEDULE), torch.tensor([[0.7]], dtype=torch.float64)
    betas, differences = [], []
    for length in (8, 4, 2, 1):
        grid = [500, 500 - length, 0]
        moves = [
            next(sampler(oracle, x, grid, randn_like=torch.zeros_like, **options)).x
            for sampler, options in ((ancestral, {"variance": "large"}), (flow_and_langevin, {}))
        ]
        betas.append(1 - SCHEDULE.alpha_bar[500] / SCHEDULE.alpha_bar[500 - length])
        differences.append((moves[0] - moves[1]).abs().sum())
        spreads = [
            next(sampler(oracle, x, grid, randn_like=torch.ones_like, **options)).x - move
            for (sampler, options), move in zip(
                ((ancestral, {"variance": "large"}), (flow_and_langevin, {})), moves, strict=True
            )
        ]
        assert torch.allclose(spreads[0], spreads[1], atol=1e-12)
    slopes = torch.stack(differences).log().diff() / torch.stack(betas).log().diff()
    assert torch.allclose(slopes, torch.tensor(2.0, dtype=torch.float64), atol=0.15)


def test_no_langevin_beside_the_flow_is_ddim():
    oracle, x, grid = Gaussian(0.2, 0.5, SCHEDULE), torch.randn(4, 3), SCHEDULE.timesteps(20)
    assert torch.equal(final(flow_and_langevin(oracle, x, grid, weight=0)), final(ddim(oracle, x, grid)))


def sliced_distance(a, b):
    """Wasserstein-1 distance in the plane, averaged over fifty directions."""
    angles = torch.arange(50, dtype=a.dtype) * math.pi / 50
    directions = torch.stack([angles.cos(), angles.sin()])
    return ((a @ directions).sort(0).values - (b @ directions).sort(0).values).abs().mean().item()


REACH = [  # sampler, its options, moves, grid
    (ancestral, {}, 250, "karras"),
    (ancestral, {"variance": "large"}, 250, "trailing"),
    (ddim, {}, 100, "trailing"),
    (ddim, {"eta": 0.5}, 250, "trailing"),
    (heun, {}, 50, "karras"),
    (heun, {"churn": 40.0}, 100, "karras"),
    (dpm_solver_pp, {}, 50, "karras"),
    (predictor_corrector, {}, 100, "trailing"),
    (flow_and_langevin, {}, 250, "trailing"),
    (flow_and_langevin, {"weight": 2.0}, 500, "trailing"),
    (annealed_langevin, {"step_size": 0.1, "steps_per_level": 20}, 200, "karras"),  # 4,001 calls
]


@pytest.fixture(scope="module")
def truths():
    mixture = GaussianMixture([1, 2, 3], [[-1.0, 0.0], [0.5, 1.0], [1.0, -1.0]], [0.2, 0.3, 0.15], SCHEDULE)
    return mixture, [mixture.sample(2000, torch.Generator().manual_seed(seed)) for seed in range(20)]


@pytest.mark.long
@pytest.mark.parametrize(("sampler", "options", "moves", "spacing"), REACH)
def test_samplers_reach_the_mixture(sampler, options, moves, spacing, truths):
    """Over ten sets of 2,000, within 1.5 times the distance of ten sets of true samples to the same ten others."""
    mixture, (*sets,) = truths
    timesteps, noise = SCHEDULE.timesteps(moves, spacing), seeded(7)
    start = noise(torch.cat(sets[:10]))
    ends = final(sampler(mixture, start, timesteps, randn_like=noise, **options)).split(2000)
    reached, floor = (
        sum(sliced_distance(a, b) for a, b in zip(ours, sets[10:], strict=True)) for ours in (ends, sets[:10])
    )
    assert reached < 1.5 * floor


def test_noise_of_a_chain_is_its_own():
    gaussian, ends = Gaussian(0.0, 0.5, SCHEDULE), {}
    score = score_at(gaussian, 100)
    for rows in (1, 4):
        x, options = torch.zeros(rows, 2), {"step_size": 0.1, "steps": 5}
        *_, plain = langevin(score, x, randn_like=PerSampleNoise(3), **options)
        *_, (adjusted, _) = metropolis_langevin(
            lambda x: gaussian.log_density(x, 100), score, x, randn_like=PerSampleNoise(3), **options
        )
        ends[rows] = torch.stack([plain[0], adjusted[0]])
    assert torch.equal(ends[1], ends[4])


def test_metropolis_rejects_wild_proposals():
    narrow = Gaussian(0.0, 1e-3, SCHEDULE)
    chain = metropolis_langevin(
        lambda x: narrow.log_density(x, 0), lambda x: narrow.score(x, 0), torch.ones(8, 1), step_size=0.1, steps=5
    )
    *_, (x, accepted) = chain
    assert not accepted.any()
    assert torch.equal(x, torch.ones(8, 1))


def test_a_proposal_of_density_0_is_only_rejected_though_it_has_no_score():
    """A uniform density on the interval from -1 to 1, with steps that often leave it."""
    chain = metropolis_langevin(
        lambda x: torch.where(x[:, 0].abs() < 1, 0.0, -math.inf), lambda x: torch.where(x.abs() < 1, 0.0, math.nan),
        torch.zeros(2000, 1, dtype=torch.float64), step_size=1.0, steps=30, randn_like=seeded(0),
    )  # fmt: skip
    states, accepted = zip(*chain, strict=True)
    assert 0.2 < torch.cat(accepted).double().mean() < 0.8
    assert torch.cat(states).abs().max() < 1
    assert states[-1].var().item() == pytest.approx(1 / 3, rel=4 * math.sqrt(0.8 / 2000))


@pytest.mark.parametrize("moves", [50, 250])
def test_the_defaults_of_annealing_come_down_from_the_noise(moves):
    """Variance on N(0, 0.25), against its exact recursion: a fifth too much at 50 moves, 3 % at 250."""
    variance, grid = 1.0, SCHEDULE.timesteps(moves, "karras")
    for t, s in itertools.pairwise(grid):
        total, delta = SCHEDULE.signal(t) ** 2 * 0.25 + SCHEDULE.noise(t) ** 2, SCHEDULE.noise(t) ** 2
        for _ in range(5):
            variance = (1 - delta / (2 * total)) ** 2 * variance + delta
        variance *= (SCHEDULE.signal(s) / SCHEDULE.signal(t) if s else SCHEDULE.signal(t) * 0.25 / total) ** 2
    assert variance == pytest.approx(0.25, rel=0.2 if moves == 50 else 0.05)
    x = torch.zeros(40_000, 1, dtype=torch.float64)
    end = final(annealed_langevin(Gaussian(0.0, 0.5, SCHEDULE), seeded(0)(x), grid, randn_like=seeded(1)))
    assert end.var().item() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize(
    ("walk", "message"),
    [
        (lambda d, x, g: langevin(score_at(d, 1), x, step_size=0.0, steps=3), "step_size is 0.0"),
        (lambda d, x, g: langevin(score_at(d, 1), x, step_size=0.1, steps=0), "steps is 0"),
        (
            lambda d, x, g: metropolis_langevin(torch.sum, score_at(d, 1), x, step_size=-1, steps=1),
            "step_size is -1; it must be above 0",
        ),
        (lambda d, x, g: annealed_langevin(d, x, g, steps_per_level=0), "steps_per_level is 0"),
        (lambda d, x, g: predictor_corrector(d, x, g, corrector_steps=1.5), "corrector_steps is 1.5"),
        (lambda d, x, g: predictor_corrector(d, x, g, step_size=-1), "step_size is -1"),
        (lambda d, x, g: predictor_corrector(d, x, g, step_size=4.0), "step_size is 4.0; .* below 4"),
        (lambda d, x, g: annealed_langevin(d, x, g, step_size=5), "step_size is 5; .* below 4"),
        (lambda d, x, g: flow_and_langevin(d, x, g, weight=math.nan), "weight is nan"),
        (
            lambda d, x, g: metropolis_langevin(torch.sum, score_at(d, 1), x, step_size=0.1, steps=1),
            r"log_density answers \(\) at x of \(1, 2\)",
        ),
        (lambda d, x, g: langevin(lambda x: x[:, 0], x, step_size=0.1, steps=1), r"score answers \(1,\)"),
        (lambda d, x, g: flow_and_langevin(d, x, g, weight=-1), "weight is -1"),
        (lambda d, x, g: flow_and_langevin(d, x, [1000, 500, 0], weight=5), "weight is 5; .* below 4.002"),
        (lambda d, x, g: flow_and_langevin(d, x, [0, 10]), "timesteps"),
        (lambda d, x, g: annealed_langevin(d, x, [10, 5]), "timesteps"),
    ],
)
def test_bad_arguments_are_named(walk, message):
    with pytest.raises(ValueError, match=message):
        list(walk(Gaussian(0.0, 0.5, SCHEDULE), torch.zeros(1, 2), [10, 0]))


def test_one_chain_that_is_not_finite_or_diverges_is_named_among_others():
    def box(x):
        return torch.where(x[:, 0].abs() < 1, 0.0, -math.inf)

    with pytest.raises(FloatingPointError, match="not finite where the chain begins"):
        next(metropolis_langevin(box, torch.zeros_like, torch.tensor([[0.0], [5.0]]), step_size=0.1, steps=1))
    runs_away = torch.tensor([0.0, 1e6])
    with pytest.raises(FloatingPointError, match="step_size is 1; the chain diverged by step 2"):
        list(langevin(lambda x: runs_away * x, torch.ones(1, 2), step_size=1.0, steps=5))
    one_nan = torch.tensor([0.0, math.nan])
    with pytest.raises(FloatingPointError, match="the score is not finite at step 1"):
        next(langevin(lambda x: x * one_nan, torch.ones(1, 2), step_size=1.0, steps=5))


def test_metropolis_is_its_algorithm_by_hand():
    """On log p = -x^4 / 4, with a step at which about half of the proposals are rejected."""
    delta, draw = 0.9, seeded(0)
    x, steps, seen = 0.4, 200, []
    for _ in range(steps):
        here = torch.zeros(1, 1, dtype=torch.float64)
        to = x - delta / 2 * x**3 + math.sqrt(delta) * draw(here).item()
        forth, back = to - x + delta / 2 * x**3, x - to + delta / 2 * to**3
        log_ratio = (x**4 - to**4) / 4 + (forth**2 - back**2) / (2 * delta)
        uniform = 0.5 * (1 + math.erf(draw(here).item() / math.sqrt(2)))
        x = to if uniform < math.exp(min(0.0, log_ratio)) else x
        seen.append(x)
    chain = metropolis_langevin(
        lambda x: -(x[:, 0] ** 4) / 4, lambda x: -(x**3), torch.tensor([[0.4]], dtype=torch.float64),
        step_size=delta, steps=steps, randn_like=seeded(0),
    )  # fmt: skip
    states, accepted = zip(*chain, strict=True)
    assert torch.cat(states).flatten().tolist() == pytest.approx(seen, abs=1e-12)
    assert 0.2 < torch.cat(accepted).double().mean() < 0.8


def by_hand(sampler, schedule, x, grid, draw):
    """States of a walk in Song & Ermon's, Y. Song et al.'s and Karras et al.'s words, with the score of N(0, 0.25)."""

    def langevin_step(x, delta, score):
        return x + delta / 2 * score + math.sqrt(delta) * draw(x)

    def signal(t):
        return max(schedule.signal(t), (1 + 160**2) ** -0.5 * schedule.scale(t))

    for t, s in itertools.pairwise(grid):
        oracle = Gaussian(0.0, 0.5, schedule)
        down = schedule.add_noise(oracle(x, t).x0, s, oracle(x, t).eps) if s else oracle(x, t).x0
        if sampler == "annealed":
            for _ in range(5):
                x = langevin_step(x, schedule.noise(t) ** 2, oracle.score(x, t))
            x = signal(s) / signal(t) * x if s else oracle(x, t).x0
        elif sampler == "corrector":
            x = down
            for _ in range(3 if s else 0):
                x = langevin_step(x, 0.1 * schedule.noise(s) ** 2, oracle.score(x, s))
        else:
            x = langevin_step(down, 0.6 * schedule.beta(t, s), oracle.score(x, t)) if s else down
    return x


@pytest.mark.parametrize("schedule", [linear(), cosine()])
@pytest.mark.parametrize(
    ("name", "sampler", "options"),
    [
        ("annealed", annealed_langevin, {}),
        ("corrector", predictor_corrector, {"corrector_steps": 3}),
        ("flow", flow_and_langevin, {"weight": 0.6}),
    ],
)
def test_samplers_are_their_algorithms_by_hand(schedule, name, sampler, options):
    x, grid = torch.ones(3, 2, dtype=torch.float64), schedule.timesteps(6)
    end = final(sampler(Gaussian(0.0, 0.5, schedule), x, grid, randn_like=seeded(1), **options))
    assert torch.allclose(end, by_hand(name, schedule, x, grid, seeded(1)), rtol=1e-9)


def test_a_chain_of_none_has_moves_of_none():
    x, options = torch.zeros(0, 2), {"step_size": 0.1, "steps": 3}
    assert [state.shape for state in langevin(torch.neg, x, **options)] == [(0, 2)] * 3
    walk = metropolis_langevin(lambda x: x.sum(1), torch.neg, x, **options)
    assert [(state.shape, accepted.shape) for state, accepted in walk] == [((0, 2), (0,))] * 3
    denoise = Gaussian(0.0, 0.5, SCHEDULE)
    for sampler in (annealed_langevin, predictor_corrector, flow_and_langevin):
        assert final(sampler(denoise, x, [10, 5, 0])).shape == (0, 2)


def test_a_chain_of_numbers_is_one_of_points_with_one_coordinate():
    x, options = torch.linspace(-1, 1, 5), {"step_size": 0.3, "steps": 4}
    *_, plain = langevin(torch.neg, x, **options, randn_like=PerSampleNoise(0))
    *_, points = langevin(torch.neg, x[:, None], **options, randn_like=PerSampleNoise(0))
    assert torch.equal(plain, points[:, 0])

    def chain(x, log_density):
        *_, last = metropolis_langevin(log_density, torch.neg, x, **options, randn_like=PerSampleNoise(0))
        return last

    numbers = chain(x, lambda x: -x.square() / 2)
    points = chain(x[:, None], lambda x: -x[:, 0].square() / 2)
    assert torch.equal(numbers[0], points[0][:, 0])
    assert torch.equal(numbers[1], points[1])


NAMED = {"step_size": 0.1, "steps": 1}


@pytest.mark.parametrize(
    ("walk", "error", "words"),
    [
        (lambda d, x: langevin(None, x, **NAMED), TypeError, "score is NoneType; it must be a function"),
        (
            lambda d, x: langevin(lambda x: 1.0, x, **NAMED),
            TypeError,
            "score answers float; it must be a tensor like x",
        ),
        (lambda d, x: langevin(torch.neg, x.long(), **NAMED), TypeError, "x is torch.int64; it must be float32 or"),
        (lambda d, x: langevin(torch.neg, x, step_size=math.nan, steps=1), ValueError, "step_size is nan; it must be"),
        (lambda d, x: langevin(torch.neg, x, step_size=math.inf, steps=1), ValueError, "step_size is inf; it must be"),
        (
            lambda d, x: langevin(torch.neg, x, step_size="1", steps=1),
            TypeError,
            "step_size is '1'; it must be a number",
        ),
        (lambda d, x: langevin(torch.neg, x, step_size=0.1, steps=1.5), ValueError, "steps is 1.5; it must be an int"),
        (lambda d, x: langevin(torch.neg, x, step_size=0.1, steps=math.nan), ValueError, "steps is nan; it must be an"),
        (lambda d, x: langevin(torch.neg, x / 0, **NAMED), ValueError, "x hold NaN or infinity; legal are finite"),
        (
            lambda d, x: langevin(torch.neg, x, **NAMED, randn_like=lambda x: torch.randn(2)),
            ValueError,
            r"randn_like answers \(2,\) at x of shape \(3, 2\)",
        ),
        (
            lambda d, x: metropolis_langevin(None, torch.neg, x, **NAMED),
            TypeError,
            "log_density is NoneType; it must be a function",
        ),
        (
            lambda d, x: metropolis_langevin(lambda x: 1.0, torch.neg, x, **NAMED),
            TypeError,
            r"log_density\(x\) is float; it must be a torch.Tensor",
        ),
        (
            lambda d, x: metropolis_langevin(lambda x: x.sum(1), torch.neg, x + math.inf, **NAMED),
            ValueError,
            "x hold NaN or infinity; legal are finite",
        ),
        (
            lambda d, x: annealed_langevin(torch.neg, x, [5, 0]),
            TypeError,
            "denoise is .*; it must be a ddpm.denoiser.interface",
        ),
        (lambda d, x: annealed_langevin(d, x, [5, 0], step_size=math.nan), ValueError, "step_size is nan"),
        (lambda d, x: predictor_corrector(d, x.half(), [5, 0]), TypeError, "x is torch.float16; it must be float32"),
        (lambda d, x: predictor_corrector(d, x, [9, 5, 0], randn_like=None), TypeError, "randn_like is NoneType"),
        (lambda d, x: flow_and_langevin(d, x, [5, 0], weight="1"), TypeError, "weight is '1'; it must be a number"),
        (
            lambda d, x: [score_at(torch.neg, 5)],
            TypeError,
            "denoise is .*; it must be a ddpm.denoiser.interface.Denoiser",
        ),
        (lambda d, x: [score_at(d, math.nan)], ValueError, "t is nan; legal are times above 0"),
    ],
)
def test_what_no_chain_takes_is_named(walk, error, words):
    with pytest.raises(error, match=words):
        list(walk(Gaussian(0.0, 0.5, SCHEDULE), torch.ones(3, 2)))


class Elsewhere(torch.Tensor):
    """Numbers of the CPU that say they are on a GPU, where a chain is looked at only after its last move."""

    @property
    def device(self):
        return torch.device("cuda")


def test_on_a_gpu_a_nan_in_the_middle_of_a_chain_is_named_after_its_last_move():
    x, calls = torch.zeros(4, 1).as_subclass(Elsewhere), []

    def density(x):
        calls.append(len(calls))
        spoilt = torch.tensor([False, len(calls) == 3, False, False])  # the second move of the second chain
        return torch.where(spoilt, math.nan, -x[:, 0].square() / 2)

    walk = metropolis_langevin(density, torch.neg, x, step_size=0.3, steps=5, randn_like=seeded(0))
    moves = [next(walk) for _ in range(4)]
    assert all(state.isfinite().all() for state, _ in moves)
    with pytest.raises(FloatingPointError, match="the log density or the score is NaN by step 5"):
        next(walk)
    wild = langevin(lambda x: x + 1e8, x, step_size=0.3, steps=5, randn_like=seeded(0))
    assert len([next(wild) for _ in range(4)]) == 4
    with pytest.raises(FloatingPointError, match="the chain diverged by step 5"):
        next(wild)


@pytest.mark.parametrize(
    ("schedule", "grid"), [(exploding(highest=2000), [1000, 990, 980, 0]), (cosine(), [1000, 999, 998, 0])]
)
def test_between_levels_of_noise_alone_the_states_stay_as_wide_as_the_noise(schedule, grid):
    """Above a sigma of 160 on both sides, where the ratio of the signals would shrink them to a fraction."""
    x = schedule.scale(grid[0]) * torch.randn(4000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    walk = annealed_langevin(
        Gaussian(0.0, 0.5, schedule), x, grid, step_size=0.1, steps_per_level=1, randn_like=seeded(1)
    )
    widths = {step.t: step.x.std().item() / schedule.noise(step.t) for step in walk if step.t}
    assert list(widths.values()) == pytest.approx([1] * 3, abs=0.05)
