import itertools
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from ddpm.autoencoder import AutoencoderConfig
from ddpm.denoiser import Denoiser, NetworkDenoiser
from ddpm.diffusion import DiffusionConfig
from ddpm.fast import has_fast_bfloat16
from ddpm.likelihood import bits_per_dimension, flow_nll, importance_bound, variational_bound
from ddpm.noise import StepRandomness
from ddpm.oracles import Gaussian, GaussianMixture
from ddpm.schedule import cosine, exploding, linear, sigmoid, straight, zero_terminal_snr
from ddpm.settings import TARGETS
from ddpm.targets import Prediction
from ddpm.unet import UNet, UNetConfig
from tests.networks import SMALL_UNET, stirred
from tests.noise import seeded

SCHEDULE = linear()


def test_the_prior_term_of_the_linear_schedule_is_the_published_one():
    """L_T = 2.91e-5 E[x0^2] bits a dimension at T = 1000, to first order in alpha_bar."""
    x0 = torch.tensor([[2.0, -2.0]], dtype=torch.float64)
    zero = torch.zeros_like(x0)
    gaussian = Gaussian(0.0, 0.5, SCHEDULE)
    prior = [variational_bound(gaussian, x, [1000, 0]).prior for x in (x0, zero)]
    assert bits_per_dimension(prior[0] - prior[1], 2).item() == pytest.approx(2.91e-5 * 4, rel=2e-3)


def test_bounds_need_no_solver_of_the_flow():
    """torchdiffeq is of the extra ddpm[evaluate]."""
    program = "import sys; sys.modules['torchdiffeq'] = None; from ddpm.likelihood import importance_bound"
    program += ", variational_bound"
    subprocess.run([sys.executable, "-c", program], check=True)


def expected_gap(s2, schedule, grid):
    """Of the bound over the entropy, for x0 ~ N(0, s2) and its exact denoiser, whose squared error is known."""
    bar = [math.exp(schedule.log_alpha_bar(t)) for t in grid[:-1]]
    noise2 = [-math.expm1(schedule.log_alpha_bar(t)) for t in grid[:-1]]
    mmse = [s2 * n / (b * s2 + n) for b, n in zip(bar, noise2, strict=True)]
    prior = (bar[0] * (s2 - 1) - math.log(noise2[0])) / 2
    snr = [b / n for b, n in zip(bar, noise2, strict=True)]
    steps = sum((after - before) / 2 * mmse[i] for i, (before, after) in enumerate(itertools.pairwise(snr)))
    reconstruction = mmse[-1] / (2 * noise2[-1]) + math.log(2 * math.pi * noise2[-1]) / 2
    return prior + steps + reconstruction - math.log(2 * math.pi * math.e * s2) / 2


@pytest.mark.parametrize("s2", [0.25, 1.0])
@pytest.mark.parametrize(("T", "n"), [(1000, 10), (1000, 50), (100, 100), (400, 400)])
@pytest.mark.parametrize("schedule_of", [linear, straight, exploding])
def test_the_bound_of_a_gaussian_is_the_closed_one(s2, T, n, schedule_of):
    """Every term is a square of (x0, eps), so the mean over their four signs is the mean over both."""
    schedule = schedule_of(T)
    grid = schedule.timesteps(n)
    x0 = math.sqrt(s2) * torch.tensor([[1.0], [1], [-1], [-1]], dtype=torch.float64)
    signs = torch.tensor([[1.0], [-1], [1], [-1]], dtype=torch.float64)
    bound = variational_bound(Gaussian(0.0, math.sqrt(s2), schedule), x0, grid, randn_like=lambda x: signs)
    assert bound.steps.shape == (4, n - 1)
    gap = bound.total.mean().item() - math.log(2 * math.pi * math.e * s2) / 2
    assert gap == pytest.approx(expected_gap(s2, schedule, grid), abs=1e-9)


def test_the_bound_lies_above_the_exact_log_density_of_a_mixture():
    """On Karras's grid, by less with more moves; the gap's mean over x0 and noise, above 0 by its standard error."""
    mixture = GaussianMixture([1, 2, 3], [[-1.0, 0.0], [0.5, 1.0], [1.0, -1.0]], [0.2, 0.3, 0.15], SCHEDULE)
    x0, gaps = mixture.sample(8000, torch.Generator().manual_seed(0)), []
    for moves in (25, 100, 400):
        bound = variational_bound(mixture, x0, SCHEDULE.timesteps(moves, "karras"), randn_like=seeded(moves))
        gap = bound.total + mixture.log_density(x0, 0)
        assert gap.mean() > 4 * gap.std() / math.sqrt(8000)
        gaps.append(gap.mean())
    assert gaps[1] < 0.4 * gaps[0]
    assert gaps[2] < 0.4 * gaps[1]


@pytest.mark.parametrize("s2", [0.25, 1.0])
def test_the_gap_of_the_bound_closes_where_the_steps_near_zero_shrink(s2):
    """On Karras's grid as 1 / N. On Ho's, whose variance grows as t near 0, every further T falls, but not below
    half of Euler's constant: the moves from k + 1 to k cost (1 / k - log(1 + 1 / k)) / 2 each, however large T is."""
    fine = [expected_gap(s2, SCHEDULE, SCHEDULE.timesteps(n, "karras")) for n in (100, 200, 400, 800)]
    assert min(fine) > 0
    assert all(b == pytest.approx(a / 2, rel=0.15) for a, b in itertools.pairwise(fine))
    whole = [expected_gap(s2, linear(T), range(T, -1, -1)) for T in (100, 400, 1600, 6400, 25_600)]
    left = [gap - np.euler_gamma / 2 for gap in whole]
    assert min(left) > 0
    assert all(b < a / 2 for a, b in itertools.pairwise(left))
    assert left[-1] < 0.02


@pytest.mark.parametrize("mean", [-1.1, -0.3, 0.0, 0.998, 1.3])
def test_the_discrete_decoder_is_a_distribution(mean):
    class Fixed(Denoiser):
        schedule = SCHEDULE

        def __call__(self, x, t):
            return Prediction(torch.full_like(x, mean), x)

    levels = (torch.arange(256, dtype=torch.float64) / 127.5 - 1)[:, None]
    nats = variational_bound(Fixed(), levels, [50, 0], levels=256).reconstruction
    assert torch.isfinite(nats).all()
    assert nats.neg().exp().sum().item() == pytest.approx(1, abs=1e-9)


LONG = cosine()  # whose end is N(0, I) to 5e-5; the linear schedule's is not, which costs up to 0.03 nats
ORACLES = [
    Gaussian(torch.tensor([0.3, -0.4], dtype=torch.float64), 0.5, LONG),
    GaussianMixture([1, 2, 3], [[-1.0, 0.0], [0.5, 1.0], [1.0, -1.0]], [0.2, 0.3, 0.15], LONG),
]


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("t", [0.01, 1, 300])
def test_the_flow_has_the_exact_density(oracle, t):
    x = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    nll = flow_nll(oracle, x, t, divergence="exact", tolerance=1e-7)
    assert (nll + oracle.log_density(x, t)).abs().max() < 1e-3


def test_a_density_is_asked_for_at_time_1():
    x = torch.tensor([[0.4, 0.2]], dtype=torch.float64)
    assert torch.equal(flow_nll(ORACLES[0], x, divergence="exact"), flow_nll(ORACLES[0], x, 1.0, divergence="exact"))


def test_hutchinson_is_unbiased():
    oracle = ORACLES[1]
    x = torch.tensor([[0.4, 0.2]], dtype=torch.float64)
    exact = flow_nll(oracle, x, 10, divergence="exact")
    estimates = flow_nll(oracle, x.expand(4000, 2), 10, randn_like=seeded(3))
    assert estimates.mean().item() == pytest.approx(exact.item(), abs=4 * estimates.std().item() / math.sqrt(4000))
    assert estimates.std() > 1e-3


@pytest.mark.long
def test_the_flow_through_a_network_on_images():
    """float32, an image's shape, the defaults; the exact divergence and many probes of it agree."""
    network = stirred(UNet(SMALL_UNET), 0.05)
    denoise = NetworkDenoiser(network.eval().requires_grad_(False), SCHEDULE)
    x = torch.randn(1, 1, 4, 4)
    exact = flow_nll(denoise, x, divergence="exact")
    probes = flow_nll(denoise, x.expand(64, -1, -1, -1), randn_like=seeded(0))
    assert probes.mean().item() == pytest.approx(exact.item(), abs=4 * probes.std().item() / 8)
    assert exact.item() == pytest.approx(flow_nll(denoise, x, divergence="exact", tolerance=1e-6).item(), abs=1e-2)


def test_bits_per_dimension():
    uniform = torch.tensor([10 * math.log(2)])  # a density of 1/2 on [-1, 1], in ten dimensions
    assert bits_per_dimension(uniform, 10).item() == pytest.approx(1)
    assert bits_per_dimension(uniform, 10, levels=256).item() == pytest.approx(math.log2(255))


@pytest.mark.parametrize("target", TARGETS)
def test_training_weighted_by_the_bound_minimises_the_bound(target):
    """A batch of T copies of one image meets every time once, so its loss is the bound's variable part exactly."""
    T = 40
    schedule = "straight" if target == "flow" else "linear"
    config = DiffusionConfig(SMALL_UNET, schedule, T, target, weighting="bound")
    task = config.task()
    stirred(task.parts["unet"], 0.05).double()
    image = torch.rand(1, 1, 8, 8, dtype=torch.float64) * 2 - 1

    class Double(StepRandomness):
        def normal(self, *shape):
            return super().normal(*shape).double()

    loss = task.loss("unet", image.expand(T, -1, -1, -1), Double(0, 3, T))
    same = Double(0, 3, T)
    same.stratified()
    noises = iter(same.normal(1, 8, 8).flip(0)[:, None])  # the bound begins at T
    denoise = NetworkDenoiser(task.parts["unet"], task.schedule, target)
    bound = variational_bound(denoise, image, randn_like=lambda x: next(noises))
    constant = 64 * math.log(task.schedule.noise(1) / task.schedule.scale(1) * math.sqrt(2 * math.pi))
    assert loss.item() == pytest.approx((bound.steps.sum() + bound.reconstruction - constant).item() / 64, rel=1e-5)


def fast():
    """A network in bfloat16, also on a machine without it."""
    denoise = NetworkDenoiser(UNet(UNetConfig(base_channels=8, head_channels=8)), SCHEDULE, precision="auto")
    if not has_fast_bfloat16(torch.device("cpu")):
        pytest.skip("no bfloat16 in hardware")
    return denoise


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: variational_bound(ORACLES[0], x, levels=1), "levels is 1"),
        (lambda x: variational_bound(ORACLES[0], x, [5, 1]), "timesteps"),
        (lambda x: flow_nll(ORACLES[0], x, 0), "t is 0"),
        (lambda x: flow_nll(ORACLES[0], x, divergence="trace"), "divergence is 'trace'"),
        (lambda x: flow_nll(fast(), x), "precision is 'auto'"),
        (lambda x: flow_nll(ORACLES[0], x, tolerance=0), "tolerance is 0"),
        (lambda x: DiffusionConfig(weighting="snr"), "weighting is 'snr'"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(1, 2))


@pytest.mark.parametrize("levels", [2, 256])
def test_images_that_have_no_grey_level_are_refused(levels):
    beyond = 1 / (levels - 1)
    for x in (torch.tensor([[0.0, -1.0 - 2 * beyond]]), torch.tensor([[0.0, 1.0 + 2 * beyond]])):
        low, high = f"{x.min().item():g}", f"{x.max().item():g}"
        message = re.escape(f"x0 runs from {low} to {high}; with {levels} grey levels it must be in [-1, 1]")
        with pytest.raises(ValueError, match=f"^{message}$"):
            variational_bound(ORACLES[0], x, [5, 0], levels=levels)
        variational_bound(ORACLES[0], x, [5, 0])  # a density takes them
    variational_bound(ORACLES[0], torch.tensor([[-1.0 - beyond / 2, 1.0]]), [5, 0], levels=levels)  # up to rounding
    variational_bound(ORACLES[0], torch.zeros(0, 2), [5, 0], levels=levels)


@pytest.mark.parametrize(("loss", "levels"), [("mse", 256), ("logistic", None)])
def test_an_importance_bound_refuses_images_that_have_no_grey_level(loss, levels):
    model = AutoencoderConfig((1, 8, 8), 8, (1, 2), 3, True, loss).network().eval()
    with pytest.raises(ValueError, match="^x runs from 0 to 255; with 256 grey levels it must be in"):
        importance_bound(model, torch.tensor([0.0, 255.0]).repeat(32).reshape(1, 1, 8, 8), 1, levels=levels)


def test_a_denoiser_that_answers_nan_is_named():
    class Broken(Denoiser):
        schedule = SCHEDULE

        def __call__(self, x, t):
            return Prediction(x * (math.nan if t < 500 else 1), x * (math.nan if t < 500 else 1))

    x = torch.ones(2, 2, dtype=torch.float64)
    with pytest.raises(FloatingPointError, match="at time 499 is not finite"):
        variational_bound(Broken(), x)
    with pytest.raises(FloatingPointError, match="at time 400 is not finite"):
        flow_nll(Broken(), x, 400)


def test_the_importance_bound_is_the_evidence_of_a_linear_model_and_tightens():
    """A linear decoder has p(x) in closed form: N(b, W W' + sigma^2 I)."""
    torch.manual_seed(0)
    config = AutoencoderConfig((1, 4, 4), base_channels=4, channel_multipliers=(1,), latent_dim=2, variational=True)
    model = config.network().double().eval()
    slopes = torch.randn(2, 16, dtype=torch.float64)
    model.decoder.forward = lambda z: (z @ slopes).reshape(-1, 1, 4, 4)
    model.posterior = lambda x: tuple(
        torch.full((len(x), 2), v, dtype=torch.float64) for v in (0.3, -0.2)
    )  # a wrong one
    x = (0.3 * torch.randn(3, 2, dtype=torch.float64) @ slopes).reshape(3, 1, 4, 4)
    exact = -torch.distributions.MultivariateNormal(
        torch.zeros(16, dtype=torch.float64), slopes.T @ slopes + torch.eye(16, dtype=torch.float64)
    ).log_prob(x.flatten(1))
    torch.manual_seed(1)
    loose = torch.stack([importance_bound(model, x, 1) for _ in range(300)]).mean()
    middle, tight = (importance_bound(model, x, draws).mean() for draws in (100, 20_000))
    assert tight.item() == pytest.approx(exact.mean().item(), abs=0.1)
    assert loose > middle + 1 > tight + 1
    one = torch.stack([importance_bound(model, x, 1) for _ in range(2000)]).mean(0)
    torch.manual_seed(1)
    terms = torch.stack([sum(model.bound(x, torch.randn(3, 2, dtype=torch.float64))) for _ in range(2000)])
    assert ((one - terms.mean(0)).abs() < 6 * terms.std(0) / 2000**0.5).all()  # one draw is the variational bound's
    with pytest.raises(ValueError, match="levels is 1; it must be at least 2"):
        importance_bound(model, x, 1, levels=1)
    with pytest.raises(ValueError, match="loss is 'bce'; only with mse or logistic"):
        importance_bound(AutoencoderConfig(variational=True, loss="bce").network(), x, 1)
    with pytest.raises(ValueError, match="draws is 0"):
        importance_bound(model, x, 0)


def test_the_importance_bound_of_a_logistic_decoder_takes_its_own_levels():
    torch.manual_seed(0)
    config = AutoencoderConfig((1, 8, 8), 8, (1, 2), 3, True, "logistic")
    model = config.network().eval().requires_grad_(False)
    x = (torch.randint(256, (4, 1, 8, 8)) / 127.5 - 1).float()
    noise = torch.randn(4, 3)
    one = importance_bound(model, x, 1, levels=256, randn_like=lambda _: noise)
    mean, log_variance = model.posterior(x)
    posterior = Normal(mean, torch.exp(log_variance / 2))
    z = mean + posterior.stddev * noise
    log_ratio = (Normal(0, 1).log_prob(z) - posterior.log_prob(z)).sum(1)
    assert torch.allclose(one, model.errors(x, z) - log_ratio, rtol=1e-5)
    assert torch.equal(importance_bound(model, x, 1, randn_like=lambda _: noise), one)
    with pytest.raises(ValueError, match="levels is 16; with loss logistic the decoder has 256"):
        importance_bound(model, x, 1, levels=16)
    with pytest.raises(FloatingPointError, match="^the bound is not finite$"):
        importance_bound(model, x, 1, randn_like=lambda _: noise / 0)


@pytest.mark.parametrize(
    "schedule",
    [cosine(), sigmoid(), zero_terminal_snr(linear()), zero_terminal_snr(cosine()), straight(), exploding(highest=1e5)],
    ids=repr,
)
def test_the_flow_has_the_exact_density_on_every_schedule(schedule):
    """Up to a sigma of 100,000, where a schedule without signal at its end has infinitely many."""
    mixture = GaussianMixture([0.3, 0.7], [[-1.0, 0.2], [0.8, -0.4]], [0.3, 0.5], schedule)
    x = schedule.add_noise(mixture.sample(20, torch.Generator().manual_seed(0)), 1, torch.zeros(20, 2).double())
    for t in (1, 400, schedule.T - 0.5):
        nll = flow_nll(mixture, x, t, divergence="exact", tolerance=1e-7)
        assert torch.allclose(nll, -mixture.log_density(x, t), atol=2e-3)


def test_the_bound_on_a_schedule_without_signal_at_its_end_is_the_closed_one():
    schedule = zero_terminal_snr(linear(100))
    grid = schedule.timesteps(20)
    oracle = Gaussian(0.0, 0.7, schedule)
    x0 = oracle.sample((200_000, 1), torch.Generator().manual_seed(0))
    bound = variational_bound(oracle, x0, grid, randn_like=seeded(1))
    assert torch.equal(bound.prior, torch.zeros_like(bound.prior))
    entropy = math.log(0.7 * math.sqrt(2 * math.pi * math.e))
    assert bound.total.mean().item() - entropy == pytest.approx(expected_gap(0.49, schedule, grid), abs=0.02)


def test_one_sample_that_is_not_finite_is_named_among_others():
    class Root(Denoiser):
        """Finite everywhere, but its slope is not at 0."""

        schedule = SCHEDULE

        def __call__(self, x, t):
            return Prediction(x, x.abs().sqrt())

    one_nan, one_zero, one_large = (torch.tensor([[v], [1.0]], dtype=torch.float64) for v in (math.nan, 0.0, 1e200))
    for call in (variational_bound, flow_nll):
        with pytest.raises(ValueError, match="hold NaN or infinity"):
            call(ORACLES[0], one_nan)
    with pytest.raises(ValueError, match="nats hold NaN or infinity"):
        bits_per_dimension(one_nan, 1)
    with pytest.raises(FloatingPointError, match="is not finite"):
        flow_nll(Root(), one_zero, 400, divergence="exact")
    with pytest.raises(FloatingPointError, match="the bound is not finite"):
        variational_bound(Gaussian(0.0, 0.5, SCHEDULE), one_large, [1000, 500, 0])


def test_of_no_images_there_is_nothing_to_find():
    x = torch.zeros(0, 2)
    assert flow_nll(ORACLES[1], x, 300).shape == (0,)
    bound = variational_bound(ORACLES[1], x, [10, 5, 0])
    assert (bound.prior.shape, bound.steps.shape, bound.total.shape) == ((0,), (0, 1), (0,))


def test_numbers_are_points_with_one_coordinate():
    gaussian, x = Gaussian(0.3, 0.5, LONG), torch.linspace(-1, 1, 5, dtype=torch.float64)
    for divergence in ("exact", "hutchinson"):
        options = {"divergence": divergence, "randn_like": torch.ones_like}
        assert torch.equal(flow_nll(gaussian, x, 300, **options), flow_nll(gaussian, x[:, None], 300, **options))
    plain, points = (variational_bound(gaussian, y, [10, 5, 0], randn_like=torch.ones_like) for y in (x, x[:, None]))
    assert torch.equal(plain.total, points.total)


VAE = AutoencoderConfig((1, 4, 4), base_channels=4, channel_multipliers=(1,), latent_dim=2, variational=True)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize(
    "find",
    [
        lambda x: variational_bound(Gaussian(0.0, 0.5, SCHEDULE), x, [10, 0]),
        lambda x: flow_nll(Gaussian(0.0, 0.5, SCHEDULE), x, 900),
        lambda x: importance_bound(VAE.network().eval(), x, 1),
        lambda x: bits_per_dimension(x, 16),
    ],
)
def test_one_value_that_is_not_finite_has_no_density(find, wrong):
    x = torch.zeros(3, 1, 4, 4)
    find(x)
    x[2, 0, 3, 3] = wrong
    with pytest.raises(ValueError, match="^(x|x0|nats) hold NaN or infinity; legal are finite values$"):
        find(x)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda x: variational_bound(torch.neg, x),
            TypeError,
            "denoise is .*; it must be a ddpm.denoiser.interface.Denoiser",
        ),
        (
            lambda x: variational_bound(ORACLES[0], x, [5, 0], levels=2.5),
            ValueError,
            "levels is 2.5; it must be an int",
        ),
        (
            lambda x: variational_bound(ORACLES[0], x, [5, 0], randn_like=lambda x: torch.zeros(2)),
            ValueError,
            r"randn_like answers \(2,\)",
        ),
        (lambda x: flow_nll(torch.neg, x), TypeError, "denoise is .*; it must be a ddpm.denoiser.interface.Denoiser"),
        (lambda x: flow_nll(ORACLES[0], x, "5"), TypeError, "t is '5'; it must be a number"),
        (lambda x: flow_nll(ORACLES[0], x, math.nan), ValueError, "t is nan; legal are times above 0 and below 1000"),
        (lambda x: flow_nll(ORACLES[0], x, tolerance=math.nan), ValueError, "tolerance is nan; legal for torch.float"),
        (lambda x: flow_nll(ORACLES[0], x, randn_like=torch.sum), ValueError, r"randn_like answers \(\) at x"),
        (lambda x: importance_bound(ORACLES[0], x, 1), TypeError, "model is Gaussian; it must be a ddpm.autoencoder"),
        (
            lambda x: importance_bound(VAE.network(), x, 1),
            ValueError,
            r"x has shape \(3, 2\); it must be \(batch, 1, 4",
        ),
        (lambda x: bits_per_dimension(x, 2.5), ValueError, "dimensions is 2.5; it must be an integer from 1 up"),
        (lambda x: bits_per_dimension(x, 2, 1), ValueError, "levels is 1; it must be at least 2"),
        (lambda x: bits_per_dimension([1.0], 2), TypeError, "nats is list; it must be a torch.Tensor"),
    ],
)
def test_what_has_no_likelihood_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call(torch.zeros(3, 2))


def test_a_flow_begins_above_time_0_and_ends_above_where_it_begins():
    for t in (0, 1000, 1001, math.nan):
        with pytest.raises(ValueError, match=f"t is {t}; legal are times above 0 and below 1000"):
            flow_nll(ORACLES[0], torch.zeros(1, 2), t)
