"""Images of any kind are measured in features of one's own, against real ones of one's own."""

import math
import warnings

import pytest
import torch
from torch import nn

from ddpm import data, metrics
from ddpm.metrics.features import features


def colours(n, seed=0, mean=0.0):
    """Images (n, 3, 16, 24) in [-1, 1]."""
    noise = torch.randn(n, 3, 16, 24, generator=torch.Generator().manual_seed(seed))
    return (0.3 * noise + mean).clamp(-1, 1)


def means(images):
    """The mean of each channel and its standard deviation, (n, 6)."""
    flat = images.flatten(2)
    return torch.cat([flat.mean(2), flat.std(2)], dim=1)


MEASURES = {
    "frechet_distance": lambda images, **own: metrics.frechet_distance(images, weights="none", **own),
    "kernel_distance": lambda images, **own: metrics.kernel_distance(images, weights="none", **own),
    "precision": lambda images, **own: metrics.precision_and_recall(images, weights="none", **own)[0],
    "recall": lambda images, **own: metrics.precision_and_recall(images, weights="none", **own)[1],
    "copying": lambda images, **own: metrics.copying(images, 0.99 * images[:50], weights="none", **own),
}
DISTANCES = {name: MEASURES[name] for name in ("frechet_distance", "kernel_distance")}


@pytest.mark.parametrize("measure", MEASURES)
def test_the_frozen_features_given_as_ones_own_measure_the_same(measure, test_split):
    images = 0.9 * data.normalise(data.load("fashion-mnist-embedded", "train", quiet=True).images[:150])
    real = data.normalise(test_split.images[:400])
    frozen, own = (MEASURES[measure](images, real=real, **given) for given in ({}, {"features": features}))
    assert own.value == pytest.approx(frozen.value, rel=1e-4)
    assert own.spread == pytest.approx(frozen.spread, rel=1e-4)
    assert "in features 4fed2b4c (frozen classifier, 64, whitened); 150 generated" in str(frozen)
    assert "in features of features (64); 150 generated" in str(own)


@pytest.mark.parametrize("measure", ["kernel_distance", "precision", "recall", "copying"])
def test_other_real_images_take_the_place_of_the_test_images(measure, test_split):
    images, real = (data.normalise(test_split.images[part]) for part in (slice(100, 200), slice(100)))
    given, same = MEASURES[measure](images, real=real), MEASURES[measure](images)
    other = MEASURES[measure](images, real=data.normalise(test_split.images[-300:]))
    assert other.value != same.value
    if measure == "copying":
        assert given.test == 100
    else:  # which compares with as many of the test images, the first
        assert given.value == pytest.approx(same.value, rel=1e-3)


@pytest.mark.parametrize("measure", ["kernel_distance", "precision"])
def test_the_order_of_real_images_does_not_matter(measure, test_split):
    """Those of a folder lie class by class."""
    images = data.normalise(data.load("fashion-mnist-embedded", "train", quiet=True).images[:200])
    by_class = data.normalise(test_split.images[test_split.labels.argsort()])
    in_order, mixed = (MEASURES[measure](images, real=real) for real in (by_class, data.normalise(test_split.images)))
    assert in_order.value == pytest.approx(mixed.value, abs=0.2 if measure == "precision" else 15)


@pytest.mark.parametrize("measure", DISTANCES)
def test_images_of_any_shape_have_a_distance_and_no_floor(measure):
    real = colours(300)
    near, far = (DISTANCES[measure](colours(200, 1, mean), real=real, features=means) for mean in (0.0, 0.5))
    assert abs(near.value) < 0.01 * far.value
    assert math.isnan(near.floor)
    real_ones = 300 if measure == "frechet_distance" else 200
    said = f"in features of means (6); 200 generated against {real_ones} real given images; none weights"
    assert str(near).endswith(said)


def test_copies_and_dropped_modes_are_seen_in_features_of_ones_own():
    known, real, images = colours(100), colours(100, 1), colours(100, 2)
    copied, new = (metrics.copying(some, known, weights="none", real=real, features=means) for some in (known, images))
    assert (copied.value, copied.test, copied.train) == (1.0, 100, 100)
    assert 0.35 < new.value < 0.65
    narrow = images.mean(dim=0, keepdim=True) + 0.01 * images
    precision, recall = metrics.precision_and_recall(narrow, weights="none", real=real, features=means)
    assert recall.value < 0.1
    assert math.isnan(precision.floor)
    assert math.isnan(recall.floor)


class Watched(nn.Module):
    """Twelve means of an image, and what it was called with."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(12))
        self.seen = []

    def forward(self, images):
        how = (self.training, torch.is_grad_enabled())
        self.seen.append((len(images), images.dtype, images.min().item(), images.max().item(), *how))
        return self.weight * images.flatten(1).unflatten(1, (12, -1)).mean(2)


def test_a_network_is_called_in_evaluation_mode_with_a_hundred_clipped_images_and_no_gradient():
    network = Watched()
    distance = metrics.frechet_distance(4 * colours(250).double(), weights="EMA", real=colours(130), features=network)
    assert [seen[0] for seen in network.seen] == [100, 100, 50, 100, 30]
    assert {seen[1:] for seen in network.seen[:3]} == {(torch.float32, -1.0, 1.0, False, False)}
    assert "in features of Watched (12); 250 generated" in str(distance)


class Elsewhere(nn.Module):
    """A network on another device; what it answers comes from this one."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, device="meta"))

    def forward(self, images):
        assert images.device.type == "meta"
        return torch.rand(len(images), 2)


def test_a_network_is_called_where_its_weights_are():
    distance = metrics.frechet_distance(colours(20), weights="none", real=colours(20), features=Elsewhere())
    assert math.isfinite(distance.value)


def answering(answer):
    return {"features": lambda images: answer(means(images))}


REAL = colours(99)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"real": None}, ValueError, "real is None; in features of your own images are compared with real ones"),
        ({"real": 255 * REAL}, ValueError, r"images lie in \[-255, 255\]; legal is \[-1, 1\]"),
        ({"real": REAL[:0]}, ValueError, "real are 0; legal is at least 1"),
        ({"real": REAL.numpy()}, TypeError, "real is ndarray; it must be a torch.Tensor"),
        ({"real": data.denormalise(REAL)}, TypeError, "real are torch.uint8; they must be floating point, in"),
        ({"real": torch.zeros(99)}, ValueError, r"real have shape \(99,\); it must be \(n, ...\)"),
        ({"real": REAL / 0}, ValueError, "real hold NaN or infinity; legal are finite"),
        ({"features": "inception"}, TypeError, "features is str; it must be a function"),
        (answering(lambda f: f.numpy()), TypeError, "features answers ndarray; it must be a tensor"),
        (answering(lambda f: f[:, 0]), ValueError, r"features answers \(50,\) at 50 images; it must be \(n, d\)"),
        (answering(lambda f: f[1:]), ValueError, r"features answers \(49, 6\) at 50 images; it must be \(n, d\)"),
        (answering(lambda f: f / 0), ValueError, "features hold NaN or infinity; legal are finite"),
    ],
)
def test_what_features_cannot_be_made_of_is_refused_in_one_line(measure, wrong, error, message):
    with pytest.raises(error, match=f"^{message}[^\n]*$"):
        MEASURES[measure](colours(50), **({"real": REAL, "features": means} | wrong))


def test_training_images_on_another_scale_are_refused():
    with pytest.raises(ValueError, match=r"^images lie in \[-255, 255\]; legal is \[-1, 1\]"):
        metrics.copying(colours(9), 255 * REAL, weights="none", real=REAL, features=means)


@pytest.mark.parametrize("measure", MEASURES)
def test_real_images_from_0_to_1_are_noticed(measure):
    with pytest.warns(UserWarning, match=r"^real have no value below 0: if .* in \[0, 1\], bring them") as warned:
        MEASURES[measure](colours(50), real=(REAL + 1) / 2, features=means)
    assert {each.filename for each in warned} == {__file__}


def test_training_images_from_0_to_1_are_noticed():
    with pytest.warns(UserWarning, match=r"^training_images have no value below 0") as warned:
        metrics.copying(colours(50), (REAL + 1) / 2, weights="none", real=REAL, features=means)
    assert {each.filename for each in warned} == {__file__}


@pytest.mark.parametrize("measure", MEASURES)
def test_drawn_images_and_single_bright_ones_are_not_taken_for_others(measure):
    real = REAL.clone()
    real[0] = 0.5 + real[0] / 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MEASURES[measure](colours(50), real=real, features=means)
        MEASURES[measure](colours(50), real=0.5 + 0.2 * REAL, features=means)  # nothing darker than a light grey


def test_so_many_images_are_needed():
    with pytest.raises(ValueError, match="^images are 6; legal are 7 and more: more than features$"):
        metrics.frechet_distance(colours(6), weights="none", real=colours(7), features=means)
    with pytest.raises(ValueError, match="^real images are 6; legal are 7 and more: more than features$"):
        metrics.frechet_distance(colours(7), weights="none", real=colours(6), features=means)
    for measure in (metrics.kernel_distance, metrics.precision_and_recall):
        for n in (1, 8):
            with pytest.raises(ValueError, match=f"^images are {n}; legal are 2 to 7: no more than real images$"):
                measure(colours(n), weights="none", real=colours(7), features=means)


def test_colour_without_features_of_ones_own_is_told_of_them():
    with pytest.raises(ValueError, match="takes floats .*; for others, features= takes a function of your own$"):
        metrics.frechet_distance(colours(99), weights="none", real=colours(99))
