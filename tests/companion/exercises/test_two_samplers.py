"""The exercise of two samplers must know the right ones, however they are written, from those with a slip."""

import inspect
import math
from itertools import pairwise

import pytest
import torch

from ddpm.companion.exercises import grade_samplers
from ddpm.companion.exercises.two_samplers import SLIPS_OF_DDIM, SLIPS_OF_SOLVER, said_of_samplers
from ddpm.oracles import GaussianMixture
from ddpm.samplers import ddim, dpm_solver_pp, final
from ddpm.schedule import linear

SEEDS = (0, 1, 17)


def walk_by_ddim(denoise, x, alpha_bar, times):
    for t, s in pairwise(times):
        x0, eps = denoise(x, t)
        x = alpha_bar[s].sqrt() * x0 + (1 - alpha_bar[s]).sqrt() * eps
    return x


def solver(
    middle=lambda x0, before, share: x0 + share * (x0 - before),
    share=lambda before, now, after: math.log(now / after) / (2 * math.log(before / now)),
    sigma=lambda left: ((1 - left) / left).sqrt(),
    signal=torch.sqrt,
    back=torch.sqrt,
    first=False,
    last=True,
):
    """DPM-Solver++(2M), or what a slip makes of it."""

    def walk(denoise, x, alpha_bar, times):
        levels, known = sigma(alpha_bar).tolist(), []
        for t, s in pairwise(times):
            x0, _ = denoise(x, t)
            guess = x0
            if known and (s > 0 or not last):
                before, x0_before = known[0 if first else -1]
                before = known[-1][0]
                guess = middle(x0, x0_before, share(levels[before], levels[t], levels[s]))
            ratio = levels[s] / levels[t]
            x = back(alpha_bar[s]) * (ratio * x / signal(alpha_bar[t]) + (1 - ratio) * guess)
            known.append((t, x0))
        return x

    return walk


walk_by_solver = solver()


def by_times_of_each_point(denoise, x, alpha_bar, times):
    states = [x.clone()]
    for i in range(len(times) - 1):
        t = torch.full((len(x),), times[i])
        x0, _ = denoise(states[-1], t)
        signal, noise = (root.sqrt()[:, None] for root in (alpha_bar[t], 1 - alpha_bar[t]))
        eps = (states[-1] - signal * x0) / noise
        states.append(alpha_bar[times[i + 1]].sqrt() * x0 + (1 - alpha_bar[times[i + 1]]) ** 0.5 * eps)
    return states[-1]


def in_sigma_and_in_place(denoise, x, alpha_bar, times):
    sigma = ((1 - alpha_bar) / alpha_bar) ** 0.5
    y = (x / alpha_bar[times[0]] ** 0.5).requires_grad_()
    with torch.no_grad():
        for t, s in pairwise(times):
            y += (sigma[s] - sigma[t]) * denoise(alpha_bar[t] ** 0.5 * y, torch.tensor(t))[1]
    return y


def without_the_last_call(denoise, x, alpha_bar, times):
    """The last move goes to the image that is seen."""
    *moves, (last, _) = pairwise(times)
    for t, s in moves:
        x0, eps = denoise(x, t)
        x = alpha_bar[s].sqrt() * x0 + (1 - alpha_bar[s]).sqrt() * eps
    return denoise(x, last)[0]


def in_lambda(denoise, x, alpha_bar, times):
    """As Lu et al. (2022) write it, in float32."""
    signal, noise = alpha_bar.sqrt().float(), (1 - alpha_bar).sqrt().float()
    lam = (signal / noise).log()
    last_h = last_x0 = None
    for t, s in pairwise(times):
        x0 = denoise(x, t)[0]
        h = lam[s] - lam[t]
        d = x0
        if last_h is not None and s:
            r = last_h / h
            d = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * last_x0
        x = noise[s] / noise[t] * x - signal[s] * torch.expm1(-h) * d
        last_h, last_x0 = h, x0
    return x


def by_keywords(denoise, x, alpha_bar, times):
    return walk_by_ddim(lambda x, t: denoise(t=t, x=x), x, alpha_bar, times)


@pytest.mark.parametrize("by_ddim", [by_times_of_each_point, in_sigma_and_in_place, without_the_last_call, by_keywords])
def test_a_right_sampler_is_right_however_it_is_written(by_ddim):
    for seed in range(20):
        assert said_of_samplers(by_ddim, in_lambda, seed) == "right", seed


def test_right_samplers_are_right_with_any_seed_and_leave_torchs_alone(capsys):
    before = torch.get_rng_state()
    for seed in range(50):
        assert said_of_samplers(walk_by_ddim, walk_by_solver, seed) == "right", seed
    grade_samplers(walk_by_ddim, walk_by_solver, seed=3)
    assert capsys.readouterr().out == "exercise, two samplers: right\n"
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_right_is_what_the_package_draws():
    schedule = linear()
    mixture = GaussianMixture([1, 2], [[-1.0, 0.5], [2.0, 0.0]], 0.3, schedule)
    x, times = torch.randn(50, 2, dtype=torch.float64), schedule.timesteps(20)
    for walk, sampler in ((walk_by_ddim, ddim), (walk_by_solver, dpm_solver_pp)):
        ends = walk(mixture, x, schedule.alpha_bar, times)
        assert torch.allclose(ends, final(sampler(mixture, x, times)), rtol=0, atol=1e-12)


def test_what_is_not_written_is_said_so():
    def blank(denoise, x, alpha_bar, times):
        """What a reader's copy has."""
        ...

    assert said_of_samplers(blank, blank, 0) == "not written yet"
    assert said_of_samplers(blank, walk_by_solver, 0) == "not yet. walk_by_ddim is not written yet."
    only_one = "not yet. walk_by_ddim is right; walk_by_solver is not written yet."
    assert said_of_samplers(walk_by_ddim, blank, 0) == only_one


def ddim_with(mix=None, told=lambda t, s: t, moves=lambda times: pairwise(times), begin=lambda x: x, end=lambda x: x):
    def walk(denoise, x, alpha_bar, times):
        x = begin(x)
        for t, s in moves(times):
            x0, eps = denoise(x, told(t, s))
            x = (mix or mixed)(x, x0, eps, alpha_bar[t], alpha_bar[s])
        return end(x)

    return walk


def mixed(x, x0, eps, t, s):
    return s.sqrt() * x0 + (1 - s).sqrt() * eps


def in_place(denoise, x, alpha_bar, times):
    for t, s in pairwise(times):
        x0, eps = denoise(x, t)
        x.copy_(mixed(x, x0, eps, alpha_bar[t], alpha_bar[s]))
    return x


def with_roots_in_place(denoise, x, alpha_bar, times):
    signal = alpha_bar.sqrt_()
    for t, s in pairwise(times):
        x0, eps = denoise(x, t)
        x = signal[s] * x0 + (1 - signal[s] ** 2).sqrt() * eps
    return x


def one_more_call(denoise, x, alpha_bar, times):
    return denoise(walk_by_ddim(denoise, x, alpha_bar, times), 0)[0]


def two_calls(denoise, x, alpha_bar, times):
    for t, s in pairwise(times):
        x = mixed(x, denoise(x, t)[0], denoise(x, t)[1], alpha_bar[t], alpha_bar[s])
    return x


def eta_one(x, x0, eps, t, s):
    variance = (1 - s) / (1 - t) * (1 - t / s)
    return s.sqrt() * x0 + (1 - s - variance).clamp(0).sqrt() * eps + variance.sqrt() * torch.randn_like(x)


def of_chapter_0(denoise, x, alpha_bar, times):
    """As if the table began at the first step of noise, as chapter 0's does."""
    left = torch.cat([alpha_bar[:1], alpha_bar])
    return walk_by_ddim(denoise, x, left, times)


WRONG_DDIM = {
    "it stays where it is": ddim_with(lambda x, x0, e, t, s: x),
    "that is the image alone": ddim_with(lambda x, x0, e, t, s: x0),
    "the noise is missing": ddim_with(lambda x, x0, e, t, s: s.sqrt() * x0),
    "a share of the variance": ddim_with(lambda x, x0, e, t, s: s * x0 + (1 - s) * e),
    "the image needs its root": ddim_with(lambda x, x0, e, t, s: s * x0 + (1 - s).sqrt() * e),
    "the noise needs its root": ddim_with(lambda x, x0, e, t, s: s.sqrt() * x0 + (1 - s) * e),
    "have changed places": ddim_with(lambda x, x0, e, t, s: (1 - s).sqrt() * x0 + s.sqrt() * e),
    "it is added": ddim_with(lambda x, x0, e, t, s: s.sqrt() * x0 - (1 - s).sqrt() * e),
    "the image is multiplied by the signal of": ddim_with(lambda x, x0, e, t, s: t.sqrt() * x0 + (1 - s).sqrt() * e),
    "the noise is as much as": ddim_with(lambda x, x0, e, t, s: s.sqrt() * x0 + (1 - t).sqrt() * e),
    "grows with the signal": ddim_with(lambda x, x0, e, t, s: x0 + (1 - s).sqrt() * e),
    "is not clipped": ddim_with(lambda x, x0, e, t, s: mixed(x, x0.clamp(-1, 1), e, t, s)),
    "the mean of an ancestral move": ddim_with(
        lambda x, x0, e, t, s: s.sqrt() * x0 + (1 - s - (1 - s) / (1 - t) * (1 - t / s)).clamp(0).sqrt() * e
    ),
    "none of the usual slips": ddim_with(lambda x, x0, e, t, s: mixed(x, x0, e, t, s) + 1e-3),
    "Is each number that of its own time? alpha_bar[0] is 1.": of_chapter_0,
    "draws noise": ddim_with(eta_one),
    "returns nothing": ddim_with(end=lambda x: None),
    "returns of type list": ddim_with(end=lambda x: [x]),
    "returns a tensor of shape (2,) in float64; asked for is x at time 0, (5, 2)": ddim_with(end=lambda x: x[0]),
    "changes the x that it is given": in_place,
    "changes the alpha_bar that it is given": with_roots_in_place,
    "calls the denoiser 9 times; 8 moves need one call each, and none is made at time 0": one_more_call,
    "calls the denoiser 16 times": two_calls,
    "calls the denoiser 7 times": ddim_with(moves=lambda times: pairwise(times[:-1])),
    "calls the denoiser 1 time;": ddim_with(moves=lambda times: [(times[0], 0)]),
    "tells the denoiser 0 where": ddim_with(moves=lambda times: pairwise(times[::-1])),
    "where x is at": ddim_with(told=lambda t, s: s),
    "tells the denoiser": ddim_with(told=lambda t, s: t - 1),
    "begins at another x": ddim_with(begin=torch.randn_like),
    "raises ZeroDivisionError": ddim_with(end=lambda x: 1 / 0),
    "is wrong in move 8, from": ddim_with(end=lambda x: x.clamp(-1, 1)),
}
WRONG_SOLVER = {
    "that is DDIM's": walk_by_ddim,
    "a factor of 2 is missing": solver(share=lambda b, t, s: math.log(t / s) / math.log(b / t)),
    "the sign is wrong": solver(middle=lambda x0, before, share: x0 - share * (x0 - before)),
    "stands on its head": solver(share=lambda b, t, s: math.log(b / t) / (2 * math.log(t / s))),
    "not in sigma": solver(share=lambda b, t, s: (t - s) / (2 * (b - t))),
    "count as equally long": solver(share=lambda b, t, s: 0.5),
    "sigma is the root": solver(sigma=lambda left: (1 - left) / left),
    "not of the first one": solver(first=True),
    "goes on from the guess before": solver(middle=lambda x0, before, share: before + share * (x0 - before)),
    "y is x over its signal": solver(signal=torch.ones_like),
    "that is y": solver(back=torch.ones_like),
    "it stays where it is": ddim_with(lambda x, x0, e, t, s: x),
    "its end is not finite": solver(
        share=lambda b, t, s: math.log(t / s) / (2 * math.log(b / t)) if s else math.nan, last=False
    ),
    "none of the usual slips": solver(share=lambda b, t, s: 0.3),
    "returns nothing": ddim_with(end=lambda x: None),
    "calls the denoiser 16 times": two_calls,
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("hint", WRONG_DDIM)
def test_a_slip_in_ddim_gets_its_hint(hint, seed):
    said = said_of_samplers(WRONG_DDIM[hint], walk_by_solver, seed)
    assert said.startswith("not yet. ")
    assert hint in said


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("hint", WRONG_SOLVER)
def test_a_slip_in_the_solver_gets_its_hint(hint, seed):
    said = said_of_samplers(walk_by_ddim, WRONG_SOLVER[hint], seed)
    assert said.startswith("not yet. walk_by_solver ")
    assert hint in said


@pytest.mark.parametrize(("slips", "wrong"), [(SLIPS_OF_DDIM, WRONG_DDIM), (SLIPS_OF_SOLVER, WRONG_SOLVER)])
def test_every_slip_has_a_wrong_sampler_that_gets_its_hint(slips, wrong):
    assert [hint for hint in slips if not any(word in hint for word in wrong)] == []


def test_no_wrong_sampler_is_right_with_any_seed():
    for seed in range(40):
        for hint, wrong in WRONG_DDIM.items():
            assert said_of_samplers(wrong, walk_by_solver, seed).startswith("not yet. "), (hint, seed)
        for hint, wrong in WRONG_SOLVER.items():
            assert said_of_samplers(walk_by_ddim, wrong, seed).startswith("not yet. walk_by_solver "), (hint, seed)


def test_the_package_itself_is_no_answer():
    """What the student is given is no `Denoiser` that its samplers take."""
    said = said_of_samplers(lambda denoise, x, alpha_bar, times: final(ddim(denoise, x, times)), walk_by_solver, 0)
    assert said.startswith("not yet. It raises TypeError")
    assert inspect.signature(said_of_samplers).parameters.keys() == {"walk_by_ddim", "walk_by_solver", "seed"}
