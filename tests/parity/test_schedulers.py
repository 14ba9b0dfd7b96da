"""Our samplers against diffusers' schedulers, in float64, on a schedule built from the peer's own alphas_cumprod."""

import warnings
from itertools import pairwise

import pytest
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    HeunDiscreteScheduler,
)

from ddpm.denoiser import Denoiser
from ddpm.noise import PerSampleNoise
from ddpm.samplers import ancestral, ddim, dpm_solver_pp, final, heun, invert
from ddpm.schedule import NoiseSchedule
from ddpm.targets import Prediction, prediction_of

LINEAR = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
STEPS = [7, 10, 50, 999]
CHAINS = [*(("leading", n) for n in STEPS), ("trailing", 10), ("trailing", 50)]
OTHER = [("trailing", 7), ("trailing", 999), *(("linspace", n) for n in STEPS)]
X = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def peer(scheduler, **options):
    """A scheduler whose tables are float64, and ours of the same alphas_cumprod."""
    theirs = scheduler(**LINEAR, **options)
    for name in ("betas", "alphas", "alphas_cumprod"):
        setattr(theirs, name, getattr(theirs, name).double())
    return theirs, NoiseSchedule(torch.cat([torch.ones(1, dtype=torch.float64), theirs.alphas_cumprod]))


BAR = DDIMScheduler(**LINEAR).alphas_cumprod.double()


def eps_of(x, index):
    """That of a Gaussian at diffusers' index, which keeps states of order 1, and a term that belongs to none."""
    index = torch.as_tensor(index, dtype=torch.float64)
    bar = BAR[index.long()]
    return (1 - bar).sqrt() * x / (1 - 0.75 * bar) + 0.1 * torch.sin(3 * x.roll(1, 1) + index / 50)


class Peer(Denoiser):
    def __init__(self, schedule):
        self.schedule = schedule

    def __call__(self, x, t):
        eps = eps_of(x, t - 1)
        return Prediction((x - self.schedule.noise(t) * eps) / self.schedule.signal(t), eps)


def grid_of(scheduler):
    """The grid of times that a scheduler walks; Heun lists all but its first index twice."""
    return [index + 1 for index in dict.fromkeys(scheduler.timesteps.tolist())] + [0]


def replay(seed):
    """The noise that PerSampleNoise(seed) will draw, for a peer that takes a tensor, in the same order."""
    noise = PerSampleNoise(seed)
    return lambda: noise(X)


def assert_close(ours, theirs, tolerance=1e-8):
    """Heun's and DPM-Solver's peers keep their sigmas in float32: there it is 1e-5."""
    assert ours.abs().max() < 10
    assert (ours - theirs).abs().max() < tolerance


@pytest.mark.parametrize(("spacing", "n"), CHAINS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim(spacing, n, eta):
    theirs, schedule = peer(DDIMScheduler, clip_sample=False, timestep_spacing=spacing, set_alpha_to_one=True)
    theirs.set_timesteps(n)
    draw, x = replay(3), X
    for index in theirs.timesteps:
        noise = draw() if eta else None
        x = theirs.step(eps_of(x, index), index, x, eta=eta, variance_noise=noise).prev_sample
    grid = schedule.timesteps(n, spacing)
    assert [t - 1 for t in grid[:-1]] == theirs.timesteps.tolist()
    assert_close(final(ddim(Peer(schedule), X, grid, eta=eta, randn_like=PerSampleNoise(3))), x)


@pytest.mark.parametrize("n", [5, 10, 50])
def test_ddim_where_no_signal_is_left_at_the_end(n):
    """Lin et al. (2024): rescaled betas, trailing, a network of v; the first move is from noise alone."""
    theirs, schedule = peer(
        DDIMScheduler, clip_sample=False, timestep_spacing="trailing", set_alpha_to_one=True,
        rescale_betas_zero_snr=True, prediction_type="v_prediction",
    )  # fmt: skip
    assert schedule.signal(1000) == 0
    theirs.set_timesteps(n)
    x = X
    for index in theirs.timesteps:
        x = theirs.step(eps_of(x, index), index, x).prev_sample

    class OfV(Peer):
        def __call__(self, x, t):
            return prediction_of("v", eps_of(x, t - 1), x, self.schedule.signal(t), self.schedule.noise(t))

    assert_close(final(ddim(OfV(schedule), X, schedule.timesteps(n))), x)


@pytest.mark.parametrize(("spacing", "n"), CHAINS + OTHER)
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm(n, spacing, variance, monkeypatch):
    theirs, schedule = peer(
        DDPMScheduler, clip_sample=False, timestep_spacing=spacing, variance_type=f"fixed_{variance}"
    )
    theirs.set_timesteps(n)
    draw, x = replay(4), X
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *args, **kwargs: draw())
    expected = []
    for index in theirs.timesteps:
        x = theirs.step(eps_of(x, index), index, x).prev_sample
        expected.append(x)
    ours = [
        step.x
        for step in ancestral(Peer(schedule), X, grid_of(theirs), variance=variance, randn_like=PerSampleNoise(4))
    ]
    if (
        spacing == "trailing" and variance == "large" and theirs.timesteps[-1] > 0
    ):  # diffusers adds noise to the last move, too, unless it is from 1
        assert (ours.pop() - expected.pop()).std() > 0.01
    for one, other in zip(ours, expected, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize(("spacing", "n"), [chain for chain in CHAINS + OTHER if chain != ("linspace", 7)])
def test_heun(n, spacing):
    """In the peer's coordinate. Without linspace at 7, whose times are not integers: there it interpolates sigma."""
    theirs, schedule = peer(HeunDiscreteScheduler, timestep_spacing=spacing)
    theirs.set_timesteps(n)
    grid = grid_of(theirs)
    x = X / schedule.signal(grid[0])
    for index, sigma in zip(theirs.timesteps, theirs.sigmas[:-1].double(), strict=True):
        x = theirs.step(eps_of(x / (1 + sigma**2).sqrt(), index), index, x).prev_sample
    assert_close(final(heun(Peer(schedule), X, grid, coordinates="sigma")), x, 1e-5)


@pytest.mark.parametrize("n", STEPS)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_dpm_solver_pp(n, spacing):
    """diffusers' "leading" has n + 1 in the divisor here, so its times are given."""
    theirs, schedule = peer(
        DPMSolverMultistepScheduler, solver_order=2, algorithm_type="dpmsolver++", solver_type="midpoint",
        timestep_spacing=spacing,
    )  # fmt: skip
    if spacing != "leading":
        theirs.set_timesteps(n)
    else:
        theirs.set_timesteps(timesteps=[t - 1 for t in schedule.timesteps(n, spacing)[:-1]])
    x = X
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for index in theirs.timesteps:
            x = theirs.step(eps_of(x, index), index, x).prev_sample
    assert_close(final(dpm_solver_pp(Peer(schedule), X, grid_of(theirs))), x, 1e-5)


@pytest.mark.parametrize(("spacing", "n"), CHAINS)
def test_ddim_inverse(n, spacing):
    theirs, schedule = peer(DDIMInverseScheduler, clip_sample=False, timestep_spacing=spacing)
    theirs.set_timesteps(n)
    x = X
    for index in theirs.timesteps:
        below = index - 1000 // n  # where the state is; diffusers names the time it goes to
        x = theirs.step(eps_of(x, below.clamp(min=0)), index, x).prev_sample
    assert_close(final(invert(Peer(schedule), X, schedule.timesteps(n, spacing))), x)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("spacing", "n"), OTHER)
def test_single_steps_where_diffusers_chains_slip(spacing, n, eta):
    """diffusers' DDIM steps by T // n, which is not the distance between its own timesteps on these grids."""
    theirs, schedule = peer(DDIMScheduler, clip_sample=False, timestep_spacing=spacing, set_alpha_to_one=True)
    theirs.set_timesteps(n)
    starts = [index for index in theirs.timesteps.tolist() if index >= 0]
    slips = [(index, following) for index, following in pairwise(starts) if index - 1000 // n != following]
    assert slips, "diffusers has mended its stride: test whole chains on this spacing, too"
    noise = replay(5)() if eta else None
    for index in starts[:: max(1, len(starts) // 7)]:
        to = max(index - 1000 // n, -1)
        expected = theirs.step(eps_of(X, index), index, X, eta=eta, variance_noise=noise).prev_sample
        grid = [index + 1, to + 1, 0] if to >= 0 else [index + 1, 0]
        assert_close(next(ddim(Peer(schedule), X, grid, eta=eta, randn_like=PerSampleNoise(5))).x, expected)


@pytest.mark.parametrize("n", [7, 999])
def test_single_steps_up_where_diffusers_chains_slip(n):
    """Its inverse, too, comes from T // n below the time it names, wherever its grid's time before that is."""
    theirs, schedule = peer(DDIMInverseScheduler, clip_sample=False, timestep_spacing="trailing")
    theirs.set_timesteps(n)
    indices = theirs.timesteps.tolist()
    slips = [(below, index) for below, index in pairwise(indices) if index - 1000 // n != below]
    assert slips, "diffusers has mended its stride: test whole chains on this spacing, too"

    class NoNoiseAtFirst(Peer):
        """The first move, from 0, evaluates at time 1 and only scales: the second begins where we want it."""

        def __call__(self, x, t):
            return super().__call__(x, t) if t > 1 else Prediction(x, torch.zeros_like(x))

    for index in indices[2 :: max(1, n // 7)]:
        below = index - 1000 // n
        expected = theirs.step(eps_of(X, below), index, X).prev_sample
        start = X / schedule.signal(below + 1)
        assert_close(final(invert(NoNoiseAtFirst(schedule), start, [index + 1, below + 1, 0])), expected)
    with pytest.raises(ValueError, match="linspace is not supported"):
        peer(DDIMInverseScheduler, timestep_spacing="linspace")[0].set_timesteps(n)


def test_grids_of_diffusers_that_are_not_integers_or_have_other_divisors():
    """Why Heun's linspace is not compared at 7, and DPM-Solver's "leading" is given its times: notice their mend."""
    heun_times = peer(HeunDiscreteScheduler, timestep_spacing="linspace")[0]
    heun_times.set_timesteps(7)
    assert any(time != round(time) for time in heun_times.timesteps.tolist())
    theirs, schedule = peer(DPMSolverMultistepScheduler, timestep_spacing="leading")
    theirs.set_timesteps(10)
    assert theirs.timesteps.tolist() != [t - 1 for t in schedule.timesteps(10, "leading")[:-1]]


def test_diffusers_trailing_grid_can_have_a_step_too_many():
    theirs, schedule = peer(DDIMScheduler, timestep_spacing="trailing")
    counts = {}
    for n in range(1, 1000):
        theirs.set_timesteps(n)
        counts[n] = len(theirs.timesteps)
        assert len(schedule.timesteps(n)) == n + 1
    assert sum(count != n for n, count in counts.items()) == 62
