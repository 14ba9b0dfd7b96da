import math

import pytest
import torch

from ddpm import data, metrics
from ddpm.metrics import comparison, copies, distances, precision_recall
from ddpm.metrics.features import FEATURES_SHA256, classify, features


def test_distance_is_the_closed_form_of_two_gaussians():
    """Against Dowson & Landau's formula computed another way, on features whose moments are given."""
    generator = torch.Generator().manual_seed(0)
    generated = torch.randn(500, 64, generator=generator, dtype=torch.float64) * 1.3 + 0.2
    moments = distances._test_moments()
    real_mean, real_covariance = moments.mean, moments.covariance
    values, axes = torch.linalg.eigh(real_covariance)
    root = axes @ torch.diag(values.sqrt()) @ axes.T
    covariance = torch.cov(generated.T)
    cross = torch.linalg.eigvalsh(root @ covariance @ root).clamp(min=0).sqrt().sum()
    expected = (generated.mean(0) - real_mean).square().sum() + covariance.trace() + real_covariance.trace() - 2 * cross
    assert distances._distance(generated, moments) == pytest.approx(expected.item(), rel=1e-6)


def test_the_bootstrap_is_the_standard_deviation_over_twenty_resamples():
    """Of a mean it is the sample's own deviation over sqrt(n), to 16 % for 20 resamples."""
    values, resamples = torch.randn(400, generator=torch.Generator().manual_seed(0)), []

    def mean(resampled):
        resamples.append(resampled)
        return resampled.mean().item()

    expected = values.std().item() / math.sqrt(400)
    assert comparison.bootstrap_sd(values, mean) == pytest.approx(expected, rel=0.4)
    assert [len(resampled) for resampled in resamples] == [400] * 20


@pytest.mark.long
def test_the_frozen_moments_are_those_of_the_embedded_images(test_split):
    distance = distances._distance(features(data.normalise(test_split.images)), distances._test_moments())
    assert distance < 1  # 2,000 of the 10,000 images themselves


def test_images_can_be_compared_with_others_than_the_test_images(test_split):
    train = data.load("fashion-mnist-embedded", "train", quiet=True)
    real, shirts = (data.normalise(images[:100]) for images in (train.images, train.images[train.labels == 0]))
    same, other = (metrics.frechet_distance(images, weights="none", real=real) for images in (real, shirts))
    assert abs(same.value) < 1e-6
    assert other.value > 10
    assert other.value == pytest.approx(metrics.frechet_distance(real, weights="none", real=shirts).value, rel=1e-3)
    assert "100 generated against 100 real given images" in str(other)
    assert 0 < other.floor < metrics.frechet_distance(shirts, weights="none").value
    with pytest.raises(ValueError, match="real images are 64; legal are 65 and more"):
        metrics.frechet_distance(real, weights="none", real=real[:64])
    with pytest.raises(ValueError, match=r"real are .*\(100, 1, 28, 28\)"):
        metrics.frechet_distance(real, weights="none", real=torch.zeros(100, 1, 28, 28))


def test_the_distance_carries_its_five_facts_and_orders_images(test_split):
    real = data.normalise(test_split.images[:300])
    noisy = real + 0.3 * torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    near, far = metrics.frechet_distance(real, weights="none"), metrics.frechet_distance(noisy, weights="last")
    assert near.value < 1.5 * near.floor < far.value
    assert 0 < near.spread < 0.2 * near.value
    text = str(far)
    facts = (
        FEATURES_SHA256[:8],
        "bootstrap sd",
        "300 generated",
        "10,000 real test",
        "last weights",
        "floor, 300 real train",
    )
    assert all(fact in text for fact in facts)


def test_too_few_or_wrong_images_are_refused():
    with pytest.raises(ValueError, match="n, the number of images, is 64; legal are 65 to 60,000"):
        metrics.frechet_distance(torch.zeros(64, 1, 32, 32), weights="none")
    with pytest.raises(ValueError, match=r"\(100, 1, 28, 28\)"):
        metrics.frechet_distance(torch.zeros(100, 1, 28, 28), weights="none")


@pytest.mark.long
def test_the_kernel_distance_is_the_papers_sum(test_split):
    """Against eq. 4 written out with loops over pairs, times 1,000."""
    images = data.normalise(test_split.images[-70:])
    x, y = features(data.normalise(test_split.images[:70])).double(), features(images).double()

    def kernel(a, b):
        return (a @ b / 64 + 1) ** 3

    within = sum(kernel(a, b) for s in (x, y) for i, a in enumerate(s) for j, b in enumerate(s) if i != j) / (70 * 69)
    across = 2 * sum(kernel(a, b) for a in x for b in y) / 70**2
    distance = metrics.kernel_distance(images, weights="none")
    assert distance.value == pytest.approx(1000 * (within - across).item(), rel=1e-4)


def test_precision_and_recall_are_those_of_prdc():
    from prdc import compute_prdc

    generator = torch.Generator().manual_seed(0)
    real = torch.randn(200, 64, generator=generator)
    fake = 0.8 * torch.randn(150, 64, generator=generator) + 0.1
    theirs = compute_prdc(real.numpy(), fake.numpy(), nearest_k=3)
    assert precision_recall._share_inside(fake, real, 3) == pytest.approx(theirs["precision"], abs=1e-4)
    assert precision_recall._share_inside(real, fake, 3) == pytest.approx(theirs["recall"], abs=1e-4)
    assert 0.05 < theirs["recall"] < theirs["precision"] < 0.999


@pytest.mark.long
def test_a_dropped_mode_costs_recall_and_noise_costs_precision(test_split):
    train = data.load("fashion-mnist-embedded", "train", quiet=True)
    real = data.normalise(train.images[::20])
    shirts = data.normalise(train.images[train.labels == 0][:500])
    noisy = real + 0.3 * torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    whole, one_class, blurred = (metrics.precision_and_recall(x, weights="none") for x in (real, shirts, noisy))
    for figure in whole:  # other real images than those of the floor
        assert abs(figure.value - figure.floor) < 4 * math.sqrt(figure.floor * (1 - figure.floor) / 500)
    precision, recall = one_class
    assert precision.value > 0.9 * precision.floor
    assert recall.value < 0.5 * recall.floor
    assert blurred[0].value < 0.1 * blurred[0].floor
    assert "recall (3 neighbours)" in str(one_class[1])
    assert "(binomial sd " in str(one_class[1])
    assert "ceiling, 500 real train" in str(one_class[1])
    distances = [metrics.kernel_distance(x, weights="none").value for x in (real, shirts, noisy)]
    assert distances[0] < 0.1 * min(distances[1:])


def at(*points):
    """Features (n, 1): so many points of a line."""
    return torch.tensor([float(point) for some in points for point in some])[:, None]


GARMENTS = torch.zeros(100, 1, 32, 32)


def test_precision_and_recall_of_points_on_a_line(monkeypatch):
    """All that stands beside their values, too, where a count says what it must be.

    With one neighbour the manifold of points that are 1 apart reaches by 1 beyond them at both ends. Of 100 points 80
    are among the real ones, which gives a standard deviation of sqrt(0.8 * 0.2 / 100) = 0.04. Of the
    1,100 test images only the first 100 count.
    """
    made = {
        "real_test_features": lambda: at(range(100), range(5000, 7000, 2)),
        "features_of": lambda *_: at((0.5 + i for i in range(80)), range(1000, 1020)),
        "real_train_features": lambda _: at(range(0, 90, 3), range(3000, 3070)),  # those 30 reach from -3 to 90
    }
    for name, points in made.items():
        monkeypatch.setattr(comparison, name, points)
    precision, recall = metrics.precision_and_recall(GARMENTS, weights="none", neighbours=1)
    assert (precision.value, precision.floor) == pytest.approx((0.8, 0.3))
    assert (recall.value, recall.floor) == pytest.approx((0.81, 0.91))
    assert precision.spread == pytest.approx(0.04, rel=1e-3)
    assert recall.spread == pytest.approx(math.sqrt(0.81 * 0.19 / 100), rel=1e-3)
    assert all("; ceiling, 100 real train images" in str(share) for share in (precision, recall))
    assert (precision.generated, precision.real) == (recall.generated, recall.real) == (100, 100)


def test_the_kernel_distance_of_two_points_and_its_spread(monkeypatch):
    """Against features of 0, whose kernel with anything is 1, so that only pairs of ones count: 2^3 - 1 for each.

    The share p of ones, half of 100, has a standard deviation of 0.05 in a resample, so 7 p^2 has one of 14 p * 0.05.
    """
    ones = torch.ones(64)
    monkeypatch.setattr(comparison, "real_test_features", lambda: torch.zeros(2000, 64))
    monkeypatch.setattr(comparison, "features_of", lambda *_: at([0] * 50, [1] * 50) * ones)
    monkeypatch.setattr(comparison, "real_train_features", lambda n: at([2] * n) * ones)
    distance = metrics.kernel_distance(GARMENTS, weights="none")
    assert distance.value == pytest.approx(7000 * 50 * 49 / (100 * 99))
    assert distance.floor == pytest.approx(1000 * ((2 * 2 + 1) ** 3 - 1))
    assert "; floor, 100 real train images" in str(distance)
    assert distance.spread == pytest.approx(14_000 * 0.5 * 0.05, rel=0.35)  # 20 resamples know it to a sixth


def test_a_measure_says_itself_whether_a_perfect_model_is_its_floor_or_its_ceiling():
    facts = {"value": 0.5, "spread": 0.1, "generated": 70, "real": 70, "split": "test", "weights": "none", "floor": 0.9}
    share = metrics.Distance(**facts, name="share within a distance of 3", floor_is="ceiling")
    assert str(share).endswith("; ceiling, 70 real train images against the same: 0.90")


def test_copying_by_points_on_a_line_and_its_spread(monkeypatch):
    """Half of the 100 generated points are nearer to the only training point than any test point, half are not."""
    made = {1: at([0]), 100: at([0.5] * 50, [3000] * 50)}
    monkeypatch.setattr(copies, "features_of", lambda images, _: made[len(images)])
    monkeypatch.setattr(copies, "real_test_features", lambda: at(range(1, 2001)))
    copied = metrics.copying(GARMENTS, GARMENTS[:1], weights="none")
    assert copied.value == 0.5
    assert copied.spread == pytest.approx(0.05, rel=0.35)
    assert (copied.generated, copied.test, copied.train) == (100, 2000, 1)


@pytest.mark.long
def test_copies_are_told_from_new_images(test_split):
    train = data.normalise(data.load("fashion-mnist-embedded", "train", quiet=True).images)
    known, unseen = train[:1000], train[1000:1500]
    copied = metrics.copying(known[:200] + 0.01 * torch.randn(200, 1, 32, 32), known, weights="none")
    assert copied.value > 0.98
    assert abs(metrics.copying(unseen, known, weights="none").value - 0.5) < 0.1
    assert "1,000 training images" in str(copied)


def test_counts_that_these_figures_cannot_have_are_refused():
    for measure in (metrics.kernel_distance, metrics.precision_and_recall):
        for n in (64, 2001):
            with pytest.raises(ValueError, match=f"images are {n}; legal are 65 to 2,000"):
                measure(torch.zeros(n, 1, 32, 32), weights="none")
    with pytest.raises(ValueError, match="neighbours is 0; legal are 1 to 64"):
        metrics.precision_and_recall(torch.zeros(65, 1, 32, 32), weights="none", neighbours=0)
    with pytest.raises(ValueError, match="training_images are 0"):
        metrics.copying(torch.zeros(1, 1, 32, 32), torch.zeros(0, 1, 32, 32), weights="none")


def test_every_measure_clips_images_as_saved_ones_would_be():
    garments = data.normalise(data.load("fashion-mnist-embedded", "train", quiet=True).images[:80])
    beyond = 1.5 * garments
    measures = (
        metrics.frechet_distance,
        metrics.kernel_distance,
        lambda images, weights: metrics.precision_and_recall(images, weights=weights)[0],
        lambda images, weights: metrics.copying(images, garments, weights=weights),
    )
    for measure in measures:
        assert measure(beyond, weights="none").value == measure(beyond.clamp(-1, 1), weights="none").value


MEASURES = {
    "frechet_distance": lambda images: metrics.frechet_distance(images, weights="none"),
    "kernel_distance": lambda images: metrics.kernel_distance(images, weights="none"),
    "precision_and_recall": lambda images: metrics.precision_and_recall(images, weights="none"),
    "copying": lambda images: metrics.copying(images, torch.zeros(2, 1, 32, 32), weights="none"),
    "copying from": lambda images: metrics.copying(torch.zeros(2, 1, 32, 32), images, weights="none"),
    "features": features,
    "classify": classify,
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_has_no_distance(measure, wrong):
    """Clipping would hide an infinity."""
    images = torch.zeros(70, 1, 32, 32)
    images[69, 0, 31, 31] = wrong
    with pytest.raises(ValueError, match="^(training_)?images hold NaN or infinity; legal are finite values$"):
        MEASURES[measure](images)


@pytest.mark.parametrize("measure", MEASURES)
def test_what_is_no_batch_of_garments_is_named(measure):
    for images, words in (
        (torch.zeros(70, 32, 32), r"images are torch.float32 of shape \(70, 32, 32\)"),
        (torch.zeros(70, 3, 32, 32), r"images are torch.float32 of shape \(70, 3, 32, 32\)"),
        (torch.zeros(70, 1, 32, 32, dtype=torch.uint8), r"images are torch.uint8 of shape \(70, 1, 32, 32\)"),
        (torch.zeros(()), r"images are torch.float32 of shape \(\)"),
    ):
        with pytest.raises(ValueError, match=words):
            MEASURES[measure](images)
    with pytest.raises(TypeError, match="images is ndarray; it must be a torch.Tensor"):
        MEASURES[measure](torch.zeros(70, 1, 32, 32).numpy())


@pytest.mark.parametrize("neighbours", [-1, 65, 2.0, math.nan, "3", None])
def test_neighbours_are_counted_before_any_features_are_computed(neighbours, monkeypatch):
    monkeypatch.setattr(comparison, "features_of", lambda *given: pytest.fail("it computes features"))
    monkeypatch.setattr(comparison, "real_test_features", lambda: pytest.fail("it computes features"))
    with pytest.raises(ValueError, match="neighbours is .*; legal are 1 to 64"):
        metrics.precision_and_recall(torch.zeros(65, 1, 32, 32), weights="none", neighbours=neighbours)
