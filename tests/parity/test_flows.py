"""The straight path against flow_matching, torchcfm and POT, in float64.

Their time runs from noise at 0 to data at 1.
"""

import pytest
import torch
from flow_matching.path import AffineProbPath
from flow_matching.path.scheduler import CondOTScheduler, CosineScheduler
from flow_matching.solver import ODESolver
from scipy.optimize import linear_sum_assignment
from torchcfm.conditional_flow_matching import ConditionalFlowMatcher
from torchcfm.optimal_transport import OTPlanSampler

from ddpm.likelihood import flow_nll
from ddpm.oracles import GaussianMixture
from ddpm.samplers import ddim, final
from ddpm.schedule import NoiseSchedule, straight
from ddpm.targets import prediction_of, target_of

PATH = straight()
THEIRS = AffineProbPath(scheduler=CondOTScheduler())
TIMES = (1, 300, 700, 999)
GENERATOR = torch.Generator().manual_seed(0)
X0, EPS = torch.randn(2, 64, 3, dtype=torch.float64, generator=GENERATOR)
MIXTURE = GaussianMixture([0.3, 0.7], [[-1.0, 0.0], [1.0, 0.5]], 0.3, PATH)


def their_time(t):
    """Theirs of every image, (64,)."""
    return torch.full((len(X0),), 1 - t / PATH.T, dtype=torch.float64)


class OurVelocity(torch.nn.Module):
    """dx / dt of an exact model, in the direction of their time; just before it at 1, where there is no noise."""

    def forward(self, x, t, **_):
        seen = MIXTURE(x, max(PATH.T * (1 - float(t)), 1e-6))
        return seen.x0 - seen.eps


@pytest.mark.parametrize("t", TIMES)
def test_images_are_noised_as_flow_matching_does_and_the_velocity_is_theirs(t):
    sample = THEIRS.sample(t=their_time(t), x_0=EPS, x_1=X0)
    assert torch.allclose(PATH.add_noise(X0, t, EPS), sample.x_t, rtol=0, atol=1e-12)
    assert torch.allclose(target_of("flow", X0, EPS, *PATH.signal_and_noise(t)), -sample.dx_t, rtol=0, atol=1e-12)


@pytest.mark.parametrize("t", TIMES)
def test_what_a_network_answers_is_turned_into_the_others_as_flow_matching_does(t):
    x_t, (signal, noise), time = PATH.add_noise(X0, t, EPS), PATH.signal_and_noise(t), their_time(t)[:, None]
    said = torch.randn(X0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(t))
    by_velocity = prediction_of("flow", said, x_t, signal, noise)
    assert torch.allclose(by_velocity.x0, THEIRS.velocity_to_target(-said, x_t, time), rtol=0, atol=1e-10)
    assert torch.allclose(by_velocity.eps, THEIRS.velocity_to_epsilon(-said, x_t, time), rtol=0, atol=1e-10)
    by_noise = prediction_of("eps", said, x_t, signal, noise)
    assert torch.allclose(by_noise.x0, THEIRS.epsilon_to_target(said, x_t, time), rtol=0, atol=1e-9)
    by_image = prediction_of("x0", said, x_t, signal, noise)
    assert torch.allclose(by_image.eps, THEIRS.target_to_epsilon(said, x_t, time), rtol=0, atol=1e-9)


@pytest.mark.parametrize("t", TIMES)
def test_v_is_the_velocity_of_their_cosine_path(t):
    """Where the angle is the time, d x_t / d angle = signal eps - noise x0."""
    angles = torch.linspace(0, torch.pi / 2, PATH.T + 1, dtype=torch.float64)
    schedule = NoiseSchedule([*angles.cos().square()[:-1].tolist(), 0.0])
    sample = AffineProbPath(scheduler=CosineScheduler()).sample(t=their_time(t), x_0=EPS, x_1=X0)
    assert torch.allclose(schedule.add_noise(X0, t, EPS), sample.x_t, rtol=0, atol=1e-10)
    v = target_of("v", X0, EPS, *schedule.signal_and_noise(t))
    assert torch.allclose(v * torch.pi / 2, -sample.dx_t, rtol=0, atol=1e-10)


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_ddim_is_their_euler_solver(steps):
    x = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    grid = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    theirs = ODESolver(OurVelocity()).sample(x_init=x, time_grid=grid, method="euler", step_size=None)
    ours = final(ddim(MIXTURE, x, PATH.timesteps(steps)))
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-10)


def test_torchcfm_trains_on_the_same_pairs():
    """Its x0 is the noise, and a matcher of sigma 0 adds no other noise."""
    for t in TIMES:
        _, x_t, u = ConditionalFlowMatcher(sigma=0.0).sample_location_and_conditional_flow(EPS, X0, t=their_time(t))
        assert torch.allclose(PATH.add_noise(X0, t, EPS), x_t, rtol=0, atol=1e-12)
        assert torch.allclose(target_of("flow", X0, EPS, *PATH.signal_and_noise(t)), -u, rtol=0, atol=1e-12)


def test_the_flows_density_is_theirs():
    """Both solve one equation, by solvers of their own; the mixture's own density is the third witness."""
    x = MIXTURE.sample(16, torch.Generator().manual_seed(2))
    normal = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2).double(), 1.0), 1)
    _, theirs = ODESolver(OurVelocity()).compute_likelihood(
        x, normal.log_prob, step_size=0.01, method="rk4", exact_divergence=True
    )
    ours = -flow_nll(MIXTURE, x, 1e-3, divergence="exact", tolerance=1e-9)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-4)
    assert torch.allclose(MIXTURE.log_density(x, 1e-3), theirs, rtol=0, atol=1e-4)


def test_the_shortest_ways_are_those_of_pot():
    """Chapter 6 pairs points by scipy's assignment."""
    _, pairs = linear_sum_assignment(torch.cdist(EPS, X0).square().numpy())
    plan = OTPlanSampler(method="exact").get_map(EPS, X0)
    assert plan.argmax(1).tolist() == pairs.tolist()
