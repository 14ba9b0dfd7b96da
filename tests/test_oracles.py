import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ddpm.oracles import EmpiricalData, Gaussian, GaussianMixture
from ddpm.schedule import linear

SCHEDULE = linear()


def mixture(dimension: int = 2) -> GaussianMixture:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(3, dimension, generator=generator, dtype=torch.float64)
    return GaussianMixture([1, 2, 3], means, [0.1, 0.3, 0.05], SCHEDULE)


@pytest.mark.parametrize("t", [0.5, 1, 200, 700, 1000])
@pytest.mark.parametrize("oracle", [mixture(), Gaussian(torch.tensor([0.5, -1.0], dtype=torch.float64), 0.4, SCHEDULE)])
def test_score_is_the_gradient_of_the_log_density_and_tweedie_holds(oracle, t):
    x = torch.randn(16, 2, dtype=torch.float64, requires_grad=True)
    gradient = torch.autograd.grad(oracle.log_density(x, t).sum(), x)[0]
    x = x.detach()
    score, prediction = oracle.score(x, t), oracle(x, t)
    assert torch.allclose(score, gradient, rtol=1e-9, atol=1e-9)
    assert torch.allclose(prediction.eps, -SCHEDULE.noise(t) * score, rtol=1e-9, atol=1e-9)
    tweedie = (x + SCHEDULE.noise(t) ** 2 * score) / SCHEDULE.signal(t)
    assert torch.allclose(prediction.x0, tweedie, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("t", [0, 1, 300, 1000])
def test_the_density_integrates_to_one(t):
    oracle = GaussianMixture([0.3, 0.7], [[-1.0], [2.0]], [0.2, 0.5], SCHEDULE)
    x = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    assert torch.trapezoid(oracle.log_density(x[:, None], t).exp(), x).item() == pytest.approx(1, abs=1e-6)


def test_a_mixture_of_one_is_the_gaussian():
    mean = torch.tensor([0.5, -1.0], dtype=torch.float64)
    one, other = GaussianMixture([5.0], mean[None], 0.4, SCHEDULE), Gaussian(mean, 0.4, SCHEDULE)
    x = torch.randn(8, 2, dtype=torch.float64)
    t = torch.linspace(1, 1000, 8, dtype=torch.float64)
    for a, b in zip(one(x, t), other(x, t), strict=True):
        assert torch.allclose(a, b, atol=1e-9)
    assert torch.allclose(one.log_density(x, t), other.log_density(x, t), atol=1e-9)
    assert torch.allclose(one.log_density(x, 500), other.log_density(x, 500), rtol=1e-13, atol=0)


def test_a_point_mass_is_stable_far_away():
    oracle = GaussianMixture([0.5, 0.5], [[-1.0] * 64, [1.0] * 64], 0.0, SCHEDULE)
    prediction = oracle(torch.full((1, 64), 0.9), 1)
    assert torch.allclose(prediction.x0, torch.ones(1, 64))
    assert torch.isfinite(oracle.log_density(torch.full((1, 64), 50.0), 1)).all()


def test_samples_have_the_mixtures_moments():
    oracle = mixture()
    x = oracle.sample(200_000, torch.Generator().manual_seed(1))
    mean = oracle.weights @ oracle.means
    spread = (oracle.weights @ (oracle.stds**2 * 2 + (oracle.means - mean).square().sum(1))).item()
    assert torch.allclose(x.mean(0), mean, atol=4 * math.sqrt(spread / 200_000))
    assert (x - mean).square().sum(1).mean().item() == pytest.approx(spread, rel=0.02)
    assert Gaussian(3.0, 0.1, SCHEDULE).sample((5, 1, 4, 4)).shape == (5, 1, 4, 4)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="weights"):
        GaussianMixture([1.0], [[0.0], [1.0]], 1.0, SCHEDULE)
    with pytest.raises(ValueError, match="weights are"):
        GaussianMixture([1.0, 0.0], [[0.0], [1.0]], 1.0, SCHEDULE)
    with pytest.raises(ValueError, match="std is 0"):
        Gaussian(0.0, 0, SCHEDULE)
    with pytest.raises(ValueError, match="x has shape"):
        mixture()(torch.zeros(3, 5), 1)
    with pytest.raises(ValueError, match="std 0 has no density"):
        GaussianMixture([1.0], [[0.0]], 0.0, SCHEDULE).log_density(torch.zeros(3, 1), 0)
    for oracle in (mixture(), Gaussian(0.0, 1.0, SCHEDULE), EmpiricalData(torch.ones(3, 2), SCHEDULE)):
        for t, message in ((0, "t is 0"), (torch.zeros(3), r"t is tensor\(\[0., 0.")):
            with pytest.raises(ValueError, match=message):
                oracle(torch.zeros(3, 2), t)
        for answer in (oracle, oracle.score):
            with pytest.raises(TypeError, match="x is torch.int64"):
                answer(torch.zeros(3, 2, dtype=torch.int64), 5)
    with pytest.raises(ValueError, match="the mean's is"):
        Gaussian(torch.zeros(2), 1.0, SCHEDULE)(torch.zeros(4, 1), 5)
    for bad, message in (
        (lambda: Gaussian(math.nan, 1.0, SCHEDULE), "mean is nan"),
        (lambda: Gaussian(0.0, math.inf, SCHEDULE), "std is inf"),
        (lambda: GaussianMixture([math.inf, 1.0], [[0.0], [1.0]], 1.0, SCHEDULE), "weights are"),
        (lambda: GaussianMixture([1.0], [[math.nan]], 1.0, SCHEDULE), "means are"),
        (lambda: GaussianMixture([1.0], [[0.0]], math.nan, SCHEDULE), "stds are"),
        (lambda: GaussianMixture([1.0, 1.0], [[0.0], [1.0]], [0.1, -0.1], SCHEDULE), r"stds are \[0.1, -0.1\]"),
        (lambda: GaussianMixture([1.0, 1.0], [[0.0], [1.0]], [[0.1], [0.2]], SCHEDULE), r"stds have shape \(2, 1\)"),
        (lambda: GaussianMixture(torch.ones(0), torch.ones(0, 2), 1.0, SCHEDULE), "weights have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            bad()


def images(n=40, size=4):
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.mark.parametrize("t", [1, 30, 400, 1000])
def test_empirical_data_is_a_mixture_of_point_masses(t):
    data, oracle = images(), EmpiricalData(images(), SCHEDULE)
    points = GaussianMixture([1.0] * len(data), data.flatten(1), 0.0, SCHEDULE)
    x = SCHEDULE.add_noise(data[:9], t, torch.randn(9, 1, 4, 4)).double()
    for ours, exact in zip(oracle(x, t), points(x.flatten(1), t), strict=True):
        assert torch.allclose(ours.flatten(1), exact, atol=1e-8)
    assert torch.allclose(oracle.log_density(x, t), points.log_density(x.flatten(1), t), atol=1e-6)
    assert torch.allclose(oracle.score(x, t).flatten(1), points.score(x.flatten(1), t), rtol=1e-6, atol=1e-6)
    times = torch.full((9,), float(t))
    assert torch.allclose(oracle(x.float(), times).x0, oracle(x, t).x0.float(), atol=1e-4)


def test_empirical_data_remembers_its_images():
    data, oracle = images(), EmpiricalData(images(), SCHEDULE)
    assert torch.allclose(oracle(SCHEDULE.add_noise(data, 1, torch.zeros_like(data)), 1).x0, data, atol=1e-6)
    drawn = oracle.sample(7, torch.Generator().manual_seed(0))
    assert all((drawn[i] == data.double()).flatten(1).all(1).any() for i in range(7))
    for x, t, message in ((data[:, :, :3], 5, "x has shape"), (data, 0, "t is 0")):
        with pytest.raises(ValueError, match=message):
            oracle(x, t)
    with pytest.raises(ValueError, match="images are torch.float32 of shape"):
        EmpiricalData(data[:0], SCHEDULE)


@pytest.mark.long
def test_ten_thousand_images_fit_in_two_gibibytes():
    """Peak memory of a process of its own, over what importing torch costs."""
    program = """
import torch
from ddpm.oracles import EmpiricalData
from ddpm.schedule import linear
images = torch.rand(10_000, 1, 32, 32) * 2 - 1
EmpiricalData(images[:10], linear())(images[:10], 500)
def peak():  # not ru_maxrss, which begins at the peak of the process that started this one
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1])
before = peak()
oracle = EmpiricalData(images, linear())
assert oracle(images, 500).x0.shape == images.shape
print((peak() - before) / 2**20)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("reads the peak of a process from Linux's /proc")
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 0.1 < float(run.stdout) < 2, "GiB"


ORACLES = [
    mixture(), Gaussian(torch.tensor([0.5, -1.0], dtype=torch.float64), 0.4, SCHEDULE),
    EmpiricalData(torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), SCHEDULE),
]  # fmt: skip


@pytest.mark.parametrize("oracle", ORACLES)
def test_of_no_points_there_is_nothing_to_say(oracle):
    x = torch.zeros(0, 2)
    for t in (5, torch.zeros(0), torch.tensor([5.0])):
        assert {part.shape for part in oracle(x, t)} == {(0, 2)}
        assert oracle.score(x, t).shape == (0, 2)
        assert oracle.log_density(x, t).shape == (0,)


@pytest.mark.parametrize("oracle", ORACLES)
def test_a_time_for_each_point_is_that_of_the_point_alone(oracle):
    x, times = torch.randn(3, 2, dtype=torch.float64), [0.5, 70.0, 1000.0]
    together = [*oracle(x, torch.tensor(times)), oracle.score(x, torch.tensor(times))]
    density = oracle.log_density(x, torch.tensor(times))
    for row, t in enumerate(times):
        alone = [*oracle(x[row : row + 1], t), oracle.score(x[row : row + 1], t)]
        for ours, expected in zip(together, alone, strict=True):
            assert torch.allclose(ours[row], expected[0], rtol=1e-9, atol=1e-12)
        assert torch.allclose(density[row], oracle.log_density(x[row : row + 1], t)[0], rtol=1e-9)


def test_a_gaussian_of_numbers_takes_a_batch_of_them():
    numbers = torch.linspace(-2, 2, 5, dtype=torch.float64)
    gaussian = Gaussian(0.3, 0.5, SCHEDULE)
    expected = torch.distributions.Normal(0.3, 0.5).log_prob(numbers)
    assert torch.allclose(gaussian.log_density(numbers, 0), expected, rtol=1e-6)
    assert torch.equal(gaussian(numbers, 5).x0, gaussian(numbers[:, None], 5).x0[:, 0])


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("n", [0, -1, 2.5, None, "3"])
def test_as_many_samples_are_drawn_as_can_be_counted(oracle, n):
    with pytest.raises(ValueError, match="n is .*; it must be an integer from 1 up|n is '3'; it must be a list"):
        oracle.sample(n)


def test_a_data_set_gives_all_its_images_alike():
    drawn = ORACLES[2].sample(5000, torch.Generator().manual_seed(0))
    shares = (drawn[:, None] == ORACLES[2].images).all(2).double().mean(0)
    assert torch.allclose(shares, torch.full((5,), 0.2, dtype=torch.float64), atol=4 * math.sqrt(0.2 * 0.8 / 5000))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Gaussian("a", 1.0, SCHEDULE), TypeError, "mean is 'a'; it must be a number"),
        (lambda: Gaussian(0.0, "1", SCHEDULE), TypeError, "std is '1'; it must be a number"),
        (
            lambda: Gaussian(0.0, 1.0, "linear"),
            TypeError,
            "schedule is str; it must be a ddpm.schedule.table.NoiseSchedule",
        ),
        (lambda: GaussianMixture([1.0], [[0.0]], 1.0, None), TypeError, "schedule is NoneType"),
        (
            lambda: GaussianMixture([1.0], [[0.0], [1.0, 2.0]], 1.0, SCHEDULE),
            TypeError,
            "means is .*; it must be a num",
        ),
        (
            lambda: GaussianMixture([1.0], [[0.0]], -1.0, SCHEDULE),
            ValueError,
            r"stds are \[-1.0\]; all must be at least 0",
        ),
        (lambda: EmpiricalData(torch.ones(3, 2), None), TypeError, "schedule is NoneType"),
        (lambda: EmpiricalData([[0.0]], SCHEDULE), TypeError, "images is list; it must be a torch.Tensor"),
        (
            lambda: EmpiricalData(torch.tensor([[0.0, 1.0], [0.0, math.nan]]), SCHEDULE),
            ValueError,
            "images hold NaN or infinity",
        ),
    ],
)
def test_what_makes_no_oracle_is_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_empirical_data_keeps_its_own_images():
    images = torch.rand(3, 1, 2, 2, dtype=torch.float64)
    data, before = EmpiricalData(images, linear()), images.clone()
    images += 1
    assert torch.equal(data.images, before.flatten(1))
