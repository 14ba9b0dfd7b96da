from contextlib import closing
from dataclasses import replace
from multiprocessing import active_children

import pytest
import torch
from PIL import Image

from ddpm.data import Dataset
from ddpm.data.pictures import Pictures
from ddpm.training.batches import batches, image_rows, images_of_step, labels_at

CPU = torch.device("cpu")

# Which images a step sees.


def rows_of(steps, batch_size, n, seed=0):
    return torch.cat([images_of_step(seed, step, batch_size, n) for step in steps])


def test_every_image_is_seen_once_an_epoch():
    for epoch in rows_of(range(25), 8, 50).split(50):  # a batch of 8 may end one epoch and begin the next
        assert epoch.sort().values.tolist() == list(range(50))


def test_every_epoch_and_every_seed_has_an_order_of_its_own():
    first, second = rows_of(range(10), 10, 50).split(50)
    assert not torch.equal(first, second)
    assert not torch.equal(first, rows_of(range(5), 10, 50, seed=1))
    assert first.tolist() != list(range(50))


def test_a_steps_images_do_not_depend_on_what_was_asked_before():
    whole = rows_of(range(20), 8, 50)
    assert torch.equal(images_of_step(0, 19, 8, 50), whole[-8:])
    assert torch.equal(images_of_step(0, 2, 8, 50), whole[16:24])


def test_half_the_batch_sees_the_same_images_in_twice_the_steps():
    assert torch.equal(rows_of(range(10), 8, 50), rows_of(range(20), 4, 50))


def test_a_batch_may_be_larger_than_the_data():
    assert images_of_step(0, 0, 7, 3)[:6].sort().values.tolist() == [0, 0, 1, 1, 2, 2]


# How they come.


@pytest.fixture
def dataset():
    """Image i is all i."""
    images = torch.arange(20, dtype=torch.uint8)[:, None, None, None].expand(20, 1, 4, 4)
    return Dataset("numbered", "train", images, torch.zeros(20), "made here")


def test_the_labels_of_a_step_are_those_of_its_images(dataset):
    labelled = replace(dataset, labels=torch.arange(20))  # image i is all i
    feed = batches(labelled, 3, range(5), 6, slice(2, 5), CPU, 0)
    for step, images in enumerate(feed):
        labels = labels_at(labelled, 3, step, 6, slice(2, 5))
        assert labels.tolist() == images[:, 0, 0, 0].tolist()
        assert labels.dtype == torch.int64


def numbers(feed):
    return [batch[:, 0, 0, 0].tolist() for batch in feed]


def test_a_data_sets_batches_are_the_images_of_every_step(dataset):
    feed = list(batches(dataset, 3, range(5), 6, slice(None), CPU, 0))
    assert numbers(feed) == [images_of_step(3, step, 6, 20).tolist() for step in range(5)]
    assert all(batch.dtype == torch.uint8 and batch.shape == (6, 1, 4, 4) for batch in feed)


def test_a_run_that_goes_on_sees_the_images_that_it_would_have_seen(dataset):
    whole, rest = (numbers(batches(dataset, 3, steps, 6, slice(None), CPU, 0)) for steps in (range(5), range(2, 5)))
    assert rest == whole[2:]


def test_a_process_takes_its_rows_of_the_batch(dataset):
    whole, *parts = (
        numbers(batches(dataset, 3, range(5), 6, rows, CPU, 0)) for rows in (slice(None), slice(0, 3), slice(3, 6))
    )
    assert [first + second for first, second in zip(*parts, strict=True)] == whole


@pytest.fixture
def pictures(tmp_path):
    """Picture i is all i."""
    for i in range(20):
        Image.new("L", (4, 4), i).save(tmp_path / f"{i:02d}.png")
    return Pictures("numbered", sorted(tmp_path.glob("*.png")), (1, 4, 4))


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_come_in_the_order_of_the_data_set_with_any_number_of_workers(pictures, dataset, workers):
    expected = numbers(batches(dataset, 3, range(5), 6, slice(0, 3), CPU, 0))
    assert numbers(batches(pictures, 3, range(5), 6, slice(0, 3), CPU, workers)) == expected


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_is_damaged_meanwhile_is_named_in_one_line(pictures, workers):
    for path in pictures.paths:
        path.write_bytes(b"nonsense")
    damaged = r"^/[^\n]*\d\d.png cannot be read as a picture \([^\n]*\); the last checkpoint stands, if there is one$"
    with pytest.raises(OSError, match=damaged):
        list(batches(pictures, 3, range(5), 6, slice(None), CPU, workers))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_is_gone_meanwhile_is_named_in_one_line(pictures, workers):
    for path in pictures.paths:
        path.unlink()
    gone = r"there is no picture [^\n]*\d\d.png; the last checkpoint stands, if there is one$"
    with pytest.raises(OSError, match=gone) as error:
        list(batches(pictures, 3, range(5), 6, slice(None), CPU, workers))
    assert "\n" not in str(error.value)


def test_a_feed_that_failed_leaves_no_worker_even_where_its_traceback_is_kept(pictures):
    before = active_children()
    for path in pictures.paths:
        path.write_bytes(b"nonsense")
    with pytest.raises(OSError, match="cannot be read") as kept:
        list(batches(pictures, 3, range(5), 6, slice(None), CPU, 1))
    assert kept.tb is not None
    assert set(active_children()) <= set(before)


def test_reading_leaves_the_global_generator_alone(pictures):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(batches(pictures, 3, range(2), 6, slice(None), CPU, 1))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_no_batch_needs_shared_memory(pictures, workers):
    """Of which a container has 64 MB, less than a few batches of photographs."""
    assert not any(batch.is_shared() for batch in batches(pictures, 3, range(5), 6, slice(None), CPU, workers))


def test_a_reader_that_is_killed_is_one_line(pictures):
    before = set(active_children())
    with closing(batches(pictures, 3, range(1000), 6, slice(None), CPU, 2)) as feed:
        next(feed)
        (set(active_children()) - before).pop().kill()
        with pytest.raises(ChildProcessError, match=r"^a process that reads was killed by SIGKILL, .* --workers 0 .*$"):
            list(feed)
    assert set(active_children()) <= before


def test_a_closed_feed_leaves_no_worker(pictures):
    before = active_children()
    with closing(batches(pictures, 3, range(1000), 6, slice(None), CPU, 2)) as feed:
        next(feed)
        assert len(set(active_children()) - set(before)) == 2
    assert set(active_children()) <= set(before)


def test_the_images_of_a_step_have_their_name_of_version_0_1_0_too():
    assert image_rows is images_of_step
