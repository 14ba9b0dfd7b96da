"""Denoisers that are told classes: the network, the exact mixture, and guidance by them."""

import itertools
import math

import numpy as np
import pytest
import torch

from ddpm.denoiser import Clipped, Guided, NetworkDenoiser, Wrapper
from ddpm.diffusion import Diffusion, DiffusionConfig
from ddpm.noise import StepRandomness
from ddpm.oracles import Gaussian, GaussianMixture
from ddpm.samplers import ancestral, ddim, final, heun
from ddpm.sampling import sample
from ddpm.schedule import linear
from ddpm.unet import UNet, UNetConfig
from tests.networks import stirred

SCHEDULE = linear()
CONFIG = UNetConfig(base_channels=8, head_channels=8, blocks_per_level=1, classes=3)
NAMES = ("ankle boot", "bag", "T-shirt")


def pair(dimension=1):
    """Two equal bumps of standard deviation 0.5 at -1 and +1 of every coordinate."""
    return GaussianMixture([1, 1], [[-1.0] * dimension, [1.0] * dimension], 0.5, SCHEDULE)


def denoiser(config=CONFIG):
    return NetworkDenoiser(stirred(UNet(config), 0.2), SCHEDULE, "v", image_shape=(1, 8, 8), classes=NAMES)


# The network.


@torch.no_grad()
def test_every_class_and_no_class_have_an_answer_of_their_own():
    network, x, t = stirred(UNet(CONFIG), 0.2), torch.randn(1, 1, 8, 8), torch.tensor([300.0])
    answers = [network(x, t, torch.tensor([label])) for label in range(4)]
    assert all(not torch.allclose(a, b, atol=1e-3) for i, a in enumerate(answers) for b in answers[:i])
    assert torch.equal(network(x, t), answers[3])  # the null label


@torch.no_grad()
def test_a_batch_may_hold_several_classes():
    network, x, t = stirred(UNet(CONFIG), 0.2), torch.randn(3, 1, 8, 8), torch.tensor([100.0, 500.0, 900.0])
    labels = torch.tensor([2, 0, 3])
    rows = [network(x[i : i + 1], t[i : i + 1], labels[i : i + 1]) for i in range(3)]
    assert torch.allclose(network(x, t, labels), torch.cat(rows), atol=1e-5)


def test_all_other_weights_begin_as_they_do_without_classes():
    begun = []
    for classes in (None, 3):
        torch.manual_seed(0)
        begun.append(UNet(UNetConfig(base_channels=8, head_channels=8, classes=classes)).state_dict())
    assert begun[1].keys() - begun[0].keys() == {"labels.weight"}
    assert all(torch.equal(value, begun[1][name]) for name, value in begun[0].items())
    table = begun[1]["labels.weight"]
    assert table[:-1].std().item() == pytest.approx(1, rel=0.2)
    assert (table[-1] == 0).all()  # untold, it begins as the network without classes


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.tensor([0, 1]), ValueError, r"labels have shape \(2,\); it must be one for each sample, \(3,\)"),
        (torch.tensor([0, 1, 4]), ValueError, r"labels are \[0, 1, 4\]; legal are 0 to 3"),
        (torch.tensor([0, 1, -1]), ValueError, r"labels are \[0, 1, -1\]; legal are 0 to 3"),
        (torch.zeros(3), TypeError, "labels are torch.float32; they must be integers"),
        ([0, 1, 2], TypeError, "labels is list; it must be a torch.Tensor"),
    ],
)
def test_wrong_labels_of_a_network_are_refused(labels, error, message):
    with pytest.raises(error, match=message):
        stirred(UNet(CONFIG))(torch.randn(3, 1, 8, 8), torch.ones(3), labels)


def test_the_letters_of_a_text_are_no_classes():
    with pytest.raises(TypeError, match="^classes is 'abc'; it must be a sequence of names$"):
        NetworkDenoiser(torch.nn.Identity(), SCHEDULE, classes="abc")


def test_a_network_without_classes_takes_no_labels():
    network = UNet(UNetConfig(base_channels=8, head_channels=8))
    with pytest.raises(ValueError, match="labels are given; this network has no classes and takes none"):
        network(torch.randn(1, 1, 8, 8), torch.ones(1), torch.tensor([0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 0}, "classes is 0; it must be an integer from 1 up"),
        ({"classes": 3, "time_conditioning": "none"}, "classes is 3; a class is told with the time, and"),
    ],
)
def test_wrong_numbers_of_classes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        UNetConfig(base_channels=8, head_channels=8, **options)


# The denoiser.


@torch.no_grad()
@pytest.mark.parametrize("labels", ["bag", "BAG", 1, [1], torch.tensor([1]), ["bag", 1, "bag"]])
def test_a_class_is_given_by_name_or_number(labels):
    denoise, x = denoiser(), torch.randn(3, 1, 8, 8)
    expected = denoise.network(x, torch.full((3,), 299.0), torch.tensor([1, 1, 1]))
    read = SCHEDULE.signal(300) * x - SCHEDULE.noise(300) * expected
    assert torch.allclose(denoise.given(labels)(x, 300).x0, read, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", ["T-shirt", "t-shirt", "T-SHIRT"])
def test_a_name_may_be_written_in_any_case(name):
    assert denoiser().given(name).labels.tolist() == [2]


def test_untold_it_is_the_denoiser_of_all_classes():
    denoise, x = denoiser(), torch.randn(2, 1, 8, 8)
    told = denoise.given("bag")
    for untold in (denoise, denoise.given(None), told.given(None)):
        assert torch.equal(untold(x, 300).x0, denoise(x, 300).x0)
    assert not torch.allclose(told(x, 300).x0, denoise(x, 300).x0, atol=1e-3)
    assert denoise.labels is None  # telling makes another denoiser, over the same network
    assert told.network is denoise.network


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (
            "ankle boots",
            ValueError,
            "class is 'ankle boots'; legal are ankle boot, bag, T-shirt; did you mean 'ankle b",
        ),
        ("tshirt", ValueError, "did you mean 'T-shirt'?"),
        ("zzz", ValueError, "class is 'zzz'; legal are ankle boot, bag, T-shirt$"),
        (3, ValueError, "class is 3; legal are 0 to 2"),
        (-1, ValueError, "class is -1; legal are 0 to 2"),
        ([], ValueError, "labels are empty"),
        (1.0, TypeError, "class is 1.0; it must be a class's name or number"),
        (True, TypeError, "class is True; it must be a class's name or number"),
        (torch.tensor([0.5]), TypeError, "class is 0.5; it must be a class's name or number"),
    ],
)
def test_wrong_classes_are_refused_with_the_nearest_right_one(labels, error, message):
    with pytest.raises(error, match=message):
        denoiser().given(labels)


def test_classes_may_be_an_array_of_numpys():
    assert denoiser().given(np.array([0, 2])).labels.tolist() == [0, 2]
    assert denoiser().given(np.int64(2)).labels.tolist() == [2]


def test_a_denoiser_without_classes_is_told_none():
    plain = NetworkDenoiser(stirred(UNet(UNetConfig(base_channels=8, head_channels=8))), SCHEDULE)
    assert plain.given(None)(torch.randn(1, 1, 8, 8), 300).x0.shape == (1, 1, 8, 8)
    with pytest.raises(ValueError, match="labels are 'bag'; this denoiser was made without classes and takes none"):
        plain.given("bag")


def test_as_many_labels_as_samples():
    with pytest.raises(ValueError, match=r"labels have shape \(2,\); it must be one for each sample, \(3,\)"):
        denoiser().given([0, 1])(torch.randn(3, 1, 8, 8), 300)


# Drawing.


@pytest.mark.parametrize(
    "wrap",
    [
        lambda told: told,
        Wrapper,
        lambda told: Guided(told, told.given(None), 2.0),
        lambda told: Guided(told.given(None), told, 2.0),
    ],
)
def test_every_sample_gets_its_own_class_in_any_chunk(wrap):
    labels = [0, 1, 2, 2, 1, 0, 1]
    told = wrap(denoiser().given(labels))
    whole = sample(told, 7, "ddim", 2, chunk=7, progress=False)
    in_chunks = sample(told, 7, "ddim", 2, chunk=3, progress=False)  # the last one is filled up
    assert torch.allclose(whole, in_chunks, atol=1e-5)
    for label in range(3):
        alone = sample(wrap(denoiser().given(label)), 7, "ddim", 2, chunk=7, progress=False)
        rows = [i for i, own in enumerate(labels) if own == label]
        assert torch.allclose(whole[rows], alone[rows], atol=1e-5)


def test_labels_are_as_many_as_are_drawn():
    told = denoiser().given([0, 1])
    for denoise in (told, Clipped(told), Guided(told.given(None), told, 2)):
        with pytest.raises(ValueError, match="n is 3; the denoiser was given 2 labels, one for each sample"):
            sample(denoise, 3, "ddim", 2, progress=False)


# The mixture.


def test_a_given_component_is_that_gaussian():
    mixture = GaussianMixture([1, 3], [[-1.0, 0.5], [1.0, 0.0]], [0.5, 0.2], SCHEDULE)
    x = torch.randn(4, 2, dtype=torch.float64)
    alone = [Gaussian(torch.tensor(mean), std, SCHEDULE) for mean, std in (([-1.0, 0.5], 0.5), ([1.0, 0.0], 0.2))]
    for t in (1, 300, 1000):
        for label, gaussian in enumerate(alone):
            told = mixture.given(label)
            assert torch.allclose(told(x, t).x0, gaussian(x, t).x0, atol=1e-10)
            assert torch.allclose(told.score(x, t), gaussian.score(x, t), atol=1e-8)
            assert torch.allclose(told.log_density(x, t), gaussian.log_density(x, t), atol=1e-8)
        mixed = mixture.given([0, 1, 1, 0])(x, t).eps
        rows = [alone[label](x[i : i + 1], t).eps for i, label in enumerate([0, 1, 1, 0])]
        assert torch.allclose(mixed, torch.cat(rows), atol=1e-10)


def test_its_samples_are_of_that_component():
    mixture = GaussianMixture([1, 3], [[-5.0], [5.0]], 0.1, SCHEDULE)
    assert (mixture.given(0).sample(100) < 0).all()
    assert (mixture.given([0, 1, 0]).sample(3)[:, 0] > 0).tolist() == [False, True, False]
    with pytest.raises(ValueError, match=r"labels have shape \(2,\)"):
        mixture.given([0, 1]).sample(3)


@pytest.mark.parametrize("dimension", [1, 8])
@pytest.mark.parametrize("t", [1, 200, 900])
def test_what_a_class_changes_is_the_gradient_of_its_classifier(dimension, t):
    """G1: eps given c, less eps of all, is -noise grad log p(c given x_t): Dhariwal & Nichol's (2021) guidance."""
    mixture, x = pair(dimension), torch.randn(20, dimension, dtype=torch.float64, requires_grad=True)
    classifier = mixture.responsibilities(x, t)
    assert torch.allclose(classifier.sum(1), torch.ones(20, dtype=torch.float64))
    gradient = torch.autograd.grad(classifier[:, 1].log().sum(), x)[0]
    x = x.detach()
    difference = mixture.given(1)(x, t).eps - mixture(x, t).eps
    assert torch.allclose(difference, -SCHEDULE.noise(t) * gradient, atol=1e-10)


# Guidance.


@pytest.mark.parametrize(
    ("walk", "moves", "weight", "mean", "std"),
    [
        (heun, 100, 1, 1.0, 0.5),
        (heun, 100, 2, 1.318, 0.361),
        (heun, 100, 4, 1.672, 0.291),
        (ancestral, 500, 2, 1.165, 0.431),
        (ancestral, 500, 4, 1.284, 0.420),
    ],
)
def test_guided_samples_lie_where_two_other_programs_put_them(walk, moves, weight, mean, std):
    """G3 and G8: neither where p(x given c)^w p(x)^(1 - w) has them, nor in the same place by flow and by noise."""
    mixture, generator = pair(), torch.Generator().manual_seed(0)
    x = torch.special.ndtri((torch.arange(4000, dtype=torch.float64) + 0.5) / 4000)[:, None]

    def randn_like(like):
        return torch.randn(like.shape, dtype=like.dtype, generator=generator)

    guided = Guided(mixture.given(1), mixture.given(None), weight)
    ends = final(walk(guided, x, SCHEDULE.timesteps(moves), randn_like=randn_like))
    assert ends.mean().item() == pytest.approx(mean, abs=0.02)
    assert ends.std().item() == pytest.approx(std, abs=0.02)


class Counted(Wrapper):
    calls = 0

    def __call__(self, x, t):
        Counted.calls += 1
        return super().__call__(x, t)


def test_outside_its_interval_guidance_is_neither_done_nor_paid():
    mixture, x = pair(), torch.randn(5, 1, dtype=torch.float64)
    told = mixture.given(1)
    everywhere = Guided(told, mixture, 3)
    guided = Guided(told, Counted(mixture), 3, interval=(0.5, 2.0))
    for sigma, inside in ((0.49, False), (0.51, True), (1.99, True), (2.01, False)):
        t, Counted.calls = SCHEDULE.sigma_to_t(sigma), 0
        assert torch.equal(guided(x, t).x0, (everywhere if inside else told)(x, t).x0), sigma
        assert Counted.calls == inside


def test_several_times_may_lie_inside_and_outside_the_interval():
    mixture, x = pair(), torch.randn(4, 1, dtype=torch.float64)
    times = torch.tensor([SCHEDULE.sigma_to_t(sigma) for sigma in (0.4, 0.6, 1.9, 2.1)], dtype=torch.float64)
    guided = Guided(mixture.given(1), mixture, 1.6, interval=(0.5, 2.0))
    rows = [guided(x[i : i + 1], t.item()).eps for i, t in enumerate(times)]
    assert torch.allclose(guided(x, times).eps, torch.cat(rows), atol=1e-12)


def test_a_guide_has_as_many_labels_as_the_denoiser():
    with pytest.raises(ValueError, match="guide was given 3 labels; they must be as many as the denoiser's, 2"):
        Guided(pair().given([0, 1]), pair().given([1, 0, 0]), 2)


@pytest.mark.parametrize("interval", [(2, 1), (1, 1), (-1, 1), (math.nan, 1), (0, 1, 2), 3])
def test_a_wrong_interval_is_refused(interval):
    with pytest.raises(ValueError, match="interval is"):
        Guided(pair().given(1), pair(), 2, interval)


# Training.


def told_in_training(label_dropout, n=2000):
    """The labels that a network sees in a step, all of whose images are of class 1."""
    seen = []

    class Network(torch.nn.Module):
        def forward(self, x, t, labels):
            seen.append(labels)
            return torch.zeros_like(x)

    task = Diffusion(DiffusionConfig(CONFIG, label_dropout=label_dropout))
    task.parts["unet"] = Network()
    ones = torch.ones(n, dtype=torch.int64)
    task.loss("unet", torch.zeros(n, 1, 4, 4), StepRandomness(0, 0, n), ones)
    return seen[0]


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_a_share_of_the_labels_is_the_null_label_in_training(share):
    seen = told_in_training(share)
    assert set(seen.tolist()) <= {1, 3}
    assert (seen == 3).double().mean().item() == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 2000))


def test_classes_change_neither_times_nor_noise_of_a_training():
    """The labels are dropped by the last draws of a step."""
    seen = {}
    for classes in (None, 3):
        task = Diffusion(DiffusionConfig(UNetConfig(base_channels=8, head_channels=8, classes=classes)))

        class Network(torch.nn.Module):
            def forward(self, x, t, *labels, key=classes):
                seen[key] = x, t
                return torch.zeros_like(x)

        task.parts["unet"] = Network()
        labels = () if classes is None else (torch.zeros(8, dtype=torch.int64),)
        task.loss("unet", torch.zeros(8, 1, 4, 4), StepRandomness(0, 0, 8), *labels)
    assert all(torch.equal(one, other) for one, other in zip(seen[None], seen[3], strict=True))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels are not given; a network with classes is trained with those of the images"),
        (torch.tensor([0, 3]), r"labels are \[0, 3\]; legal are 0 to 2"),
        (torch.tensor([0, 1, 1]), r"labels have shape \(3,\)"),
    ],
)
def test_a_network_with_classes_is_trained_with_the_images_labels(labels, message):
    task = Diffusion(DiffusionConfig(CONFIG))
    with pytest.raises(ValueError, match=message):
        task.loss("unet", torch.zeros(2, 1, 4, 4), StepRandomness(0, 0, 2), labels)


def test_the_flow_of_a_told_network_is_a_walk_like_any_other():
    told = denoiser().given("bag")
    x = torch.randn(2, 1, 8, 8)
    by_hand = x
    with torch.no_grad():
        for t, s in ((1000, 500), (500, 0)):
            x0, eps = told(by_hand, t)
            by_hand = SCHEDULE.add_noise(x0, s, eps) if s else x0
        assert torch.allclose(final(ddim(told, x, [1000, 500, 0])), by_hand, atol=1e-6)


def guided_by_hand(weight, most=math.inf):
    """400 quantiles of `pair` at the end of the guided flow, by Runge-Kutta in log sigma and without the package.

    It guides with `weight` where sigma is at most `most`, and with 1 above.
    """

    def velocity(log_sigma, y):  # d y / d log sigma = -sigma^2 score, of y = x / signal
        sigma = math.exp(log_sigma)
        variance = 0.25 + sigma**2
        told, untold = (1 - y) / variance, (np.tanh(y / variance) - y) / variance
        w = weight if sigma <= most else 1
        return -(sigma**2) * (untold + w * (told - untold))

    top = SCHEDULE.sigma(1000)
    levels = np.linspace(math.log(top), math.log(1e-3), 4001)
    y = torch.special.ndtri((torch.arange(400) + 0.5) / 400).double().numpy() * math.sqrt(1 + top**2)
    for at, to in itertools.pairwise(levels):
        h = to - at
        k1 = velocity(at, y)
        k2 = velocity(at + h / 2, y + h / 2 * k1)
        k3 = velocity(at + h / 2, y + h / 2 * k2)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + velocity(to, y + h * k3))
    return y


@pytest.mark.parametrize("most", [math.inf, 1.0])
@pytest.mark.parametrize("weight", [2, 4])
def test_guided_points_end_where_another_solver_has_them(weight, most):
    """The numbers that chapter 5 claims of the flow, at the chapter's steps and to a fiftieth of a bump's width."""
    mixture = pair()
    quantiles = torch.special.ndtri((torch.arange(400, dtype=torch.float64) + 0.5) / 400)[:, None]
    guided = Guided(mixture.given(1), mixture.given(None), weight, None if most == math.inf else (0, most))
    x = final(heun(guided, quantiles, SCHEDULE.timesteps(100)))
    expected = guided_by_hand(weight, most)
    assert x.mean().item() == pytest.approx(expected.mean(), abs=0.01)
    assert x.std().item() == pytest.approx(expected.std(ddof=1), abs=0.01)
    unguided = guided_by_hand(1)
    assert abs(unguided.mean() - expected.mean()) > 0.05


def test_a_wide_class_around_a_narrow_one_is_wider_under_guidance():
    """So "close together" is said of two equal bumps alone."""
    mixture = GaussianMixture([1, 1], [[0.0], [0.0]], torch.tensor([1.0, 0.3]), SCHEDULE)
    wide, anything = mixture.given(0), mixture.given(None)
    quantiles = torch.special.ndtri((torch.arange(400, dtype=torch.float64) + 0.5) / 400)[:, None]
    grid = SCHEDULE.timesteps(100, "karras")
    plain, twice, four_times = (
        final(heun(denoise, quantiles, grid)).std().item()
        for denoise in (wide, Guided(wide, anything, 2), Guided(wide, anything, 4))
    )
    assert plain == pytest.approx(1, abs=0.02)
    assert twice == pytest.approx(1.24, abs=0.03)
    assert four_times == pytest.approx(1.65, abs=0.05)


def test_a_little_guidance_mends_what_few_steps_leave():
    """Even with the exact denoiser: ten moves with the large variance leave points too wide. Elsewhere it does harm."""
    mixture = pair()
    right, anything = mixture.given(1), mixture.given(None)
    generator = torch.Generator().manual_seed(0)
    start, *noises = torch.randn(201, 20_000, 1, dtype=torch.float64, generator=generator)
    true = 1 + 0.5 * torch.special.ndtri((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000)

    def distance(denoise, moves, variance):
        fresh, grid = iter(noises), SCHEDULE.timesteps(moves, "linspace")
        walk = ancestral(denoise, start, grid, variance=variance, randn_like=lambda x: next(fresh))
        return (final(walk)[:, 0].sort().values - true).abs().mean().item()

    wide, many, narrow = (
        [distance(denoise, *how) for denoise in (right, Guided(right, anything, 1.1))]
        for how in ((10, "large"), (200, "large"), (10, "small"))
    )
    assert wide[1] < 0.95 * wide[0]
    assert many[1] > 1.05 * many[0]
    assert narrow[1] > 1.05 * narrow[0]


def test_a_student_is_guided_only_by_a_student_of_as_many_moves():
    model, student = Gaussian(0.0, 1.0, linear()), Gaussian(0.0, 1.0, linear())
    student.distilled_for = 4
    for denoise, guide in ((model, student), (student, model)):
        with pytest.raises(ValueError, match="guide is .*student.*; they answer alike only where both were distilled"):
            Guided(denoise, guide, 2)
    assert Guided(student, student, 2).distilled_for == 4
