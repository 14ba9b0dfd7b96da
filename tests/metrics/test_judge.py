import pytest
import torch

from ddpm import data
from ddpm.metrics import accuracy
from ddpm.metrics.features import classify
from ddpm.metrics.judge import ConvMixer, seen_by_judge


@pytest.fixture(scope="module")
def unseen():
    """Images that the judge was not trained on: it was trained on test images."""
    return data.load("fashion-mnist-embedded", "train", quiet=True)


def test_the_judge_is_good_enough_on_images_that_it_never_saw(unseen):
    right = accuracy(data.normalise(unseen.images[:2000]), unseen.labels[:2000])
    assert right >= 0.89
    wrong = accuracy(data.normalise(unseen.images[:2000]), (unseen.labels[:2000] + 1) % 10)
    assert wrong < 0.05


def test_it_errs_on_other_images_than_the_network_of_the_distances(unseen):
    """Two copies of one network would err on the same images; strangers with these shares of errors, on few."""
    images, labels = data.normalise(unseen.images[:2000]), unseen.labels[:2000]
    wrong, other = seen_by_judge(images) != labels, classify(images) != labels
    assert wrong.any()
    assert (wrong & ~other).sum() > 0.3 * wrong.sum()


def test_one_label_may_stand_for_all_images(unseen):
    bags = data.normalise(unseen.images[unseen.labels == data.CLASSES.index("bag")][:50])
    one, each = torch.tensor([8]), torch.full((50,), 8)
    assert accuracy(bags, one) == accuracy(bags, each) > 0.8


def test_images_beyond_the_legal_range_are_judged_as_saved_ones(unseen):
    images, labels = 1.5 * data.normalise(unseen.images[:500]), unseen.labels[:500]
    assert accuracy(images, labels) == accuracy(images.clamp(-1, 1), labels) > 0.8


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.tensor([1, 2]), ValueError, r"labels have shape \(2,\); it must be one for each sample, \(3,\)"),
        (torch.tensor([1, 2, 10]), ValueError, "legal are 0 to 9"),
        (torch.zeros(3), TypeError, "labels are torch.float32; they must be integers"),
    ],
)
def test_wrong_labels_are_refused(labels, error, message):
    with pytest.raises(error, match=message):
        accuracy(torch.zeros(3, 1, 32, 32), labels)


def test_images_of_another_type_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        accuracy(torch.zeros(3, 1, 32, 32, dtype=torch.uint8), torch.tensor([1]))


def test_a_mixer_mixes_places_by_single_channels_and_channels_at_single_places():
    """Trockman & Kolter (2023): a change of one patch reaches kernel // 2 patches further in every round."""
    torch.manual_seed(0)
    network = ConvMixer(width=8, depth=2, kernel=5).eval()
    images = torch.zeros(2, 1, 32, 32)
    images[1, :, 16:18, 16:18] = 1
    one, other = network.mixers(network.patches(images))
    touched = (one - other).abs().sum(0) > 0
    rows = touched.any(1).nonzero().flatten()
    assert (rows.min().item(), rows.max().item()) == (8 - 4, 8 + 4)


def test_no_images_have_no_accuracy():
    with pytest.raises(ValueError, match="images are none"):
        accuracy(torch.zeros(0, 1, 32, 32), torch.zeros(0, dtype=torch.int64))
