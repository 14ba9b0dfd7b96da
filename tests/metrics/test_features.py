import pytest
import torch

from ddpm import data
from ddpm.metrics.features import classify, features


def test_the_frozen_classifier_is_good_enough(test_split):
    right = classify(data.normalise(test_split.images)) == test_split.labels
    assert right.float().mean() >= 0.93


@pytest.mark.long
def test_features_of_real_images_are_white():
    train = data.load("fashion-mnist-embedded", "train", quiet=True)
    white = features(data.normalise(train.images[::4])).double()
    assert white.mean(0).abs().max() < 0.1
    assert (torch.cov(white.T) - torch.eye(64)).abs().max() < 0.25


def test_images_of_another_type_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        features(torch.zeros(100, 1, 32, 32, dtype=torch.uint8))
