import math

import numpy as np
import pytest
import torch

from ddpm import noise
from ddpm.noise import PerSampleNoise, StepRandomness, drawn, fold_in

X = torch.empty(6, 1, 4, 4)

# One seed of several numbers.


def test_a_seed_made_of_numbers_is_the_same_for_ever():
    """Written down from version 0.1.0: other seeds would draw other images and train other models."""
    assert fold_in(0) == 3582888934675442504
    assert fold_in(1, 2, 3) == 5014325815932447471


def test_a_seed_has_63_bits():
    seeds = [fold_in(i) for i in range(1000)]
    assert min(seeds) >= 0
    assert 2**62 < max(seeds) < 2**63


def test_other_numbers_or_another_order_make_another_seed():
    assert len({fold_in(), fold_in(0), fold_in(1), fold_in(0, 1), fold_in(1, 0), fold_in(0, 0, 1)}) == 6


def test_numpys_integers_make_the_same_seed():
    assert fold_in(np.int64(3), np.uint8(5)) == fold_in(3, 5)
    assert torch.equal(PerSampleNoise(np.int64(3))(X), PerSampleNoise(3)(X))


def test_a_fraction_makes_no_seed():
    with pytest.raises(TypeError, match=r"numbers are \(1, 1.5\); all must be integers"):
        fold_in(1, 1.5)


# The noise of samples.


def test_noise_is_standard_normal():
    draws = PerSampleNoise(0)(torch.empty(4, 50_000)).flatten().double()
    error = 1 / math.sqrt(len(draws))  # standard deviation of the mean; that of the variance is sqrt(2) times it
    assert draws.mean().item() == pytest.approx(0, abs=4 * error)
    assert draws.var().item() == pytest.approx(1, abs=4 * math.sqrt(2) * error)
    assert (draws.abs() < 1).double().mean().item() == pytest.approx(math.erf(1 / math.sqrt(2)), abs=4 * error)


def test_a_samples_noise_does_not_depend_on_the_batch():
    assert torch.equal(PerSampleNoise(3)(X[:2]), PerSampleNoise(3)(X)[:2])


def test_a_samples_noise_goes_by_its_number():
    first, second = (PerSampleNoise(3, first_index=4)(X[:2]) for _ in range(2))
    assert torch.equal(first, PerSampleNoise(3)(X)[4:])
    assert torch.equal(first, second)


def test_every_call_draws_on():
    whole, part = PerSampleNoise(3), PerSampleNoise(3, 4)
    first, second = whole(X), whole(X)
    assert not torch.equal(first, second)
    assert torch.equal(torch.stack([part(X[:2]), part(X[:2])]), torch.stack([first[4:], second[4:]]))


def test_samples_and_seeds_have_noise_of_their_own():
    draws = PerSampleNoise(3)(X)
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws, PerSampleNoise(4)(X))


def test_noise_has_the_shape_and_dtype_of_what_it_is_for():
    draws = PerSampleNoise(3)(X.double())
    assert (draws.shape, draws.dtype) == (X.shape, torch.float64)
    assert torch.equal(draws, PerSampleNoise(3)(X).double())  # the same numbers in any precision


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    PerSampleNoise(3)(X)
    StepRandomness(0, 0, 8).normal(2)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("value", [3.0, -1, None, True])
@pytest.mark.parametrize("name", ["seed", "first_index"])
def test_what_is_no_number_of_a_seed_or_a_sample_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}; it must be an integer from 0 up"):
        PerSampleNoise(**{"seed": 0, name: value})


def test_integers_have_no_noise():
    with pytest.raises(TypeError, match="x is torch.int64; it must be floating point"):
        PerSampleNoise(3)(X.long())


# The random numbers of a training step.


def test_a_steps_numbers_do_not_depend_on_how_many_processes_share_it():
    whole = StepRandomness(3, 7, 8)
    u, eps = whole.stratified(), whole.normal(2, 2)
    parts = [StepRandomness(3, 7, 8, first, 4) for first in (0, 4)]
    assert torch.equal(torch.cat([part.stratified() for part in parts]), u)
    assert torch.equal(torch.cat([part.normal(2, 2) for part in parts]), eps)


@pytest.mark.parametrize("other", [(4, 7), (3, 8)])
def test_another_seed_or_step_has_other_numbers(other):
    assert not torch.equal(StepRandomness(*other, 8).stratified(), StepRandomness(3, 7, 8).stratified())
    assert not torch.equal(StepRandomness(*other, 8).normal(2), StepRandomness(3, 7, 8).normal(2))


def test_uniform_numbers_are_uniform_and_do_not_depend_on_how_many_processes_share_a_step():
    whole = torch.cat([StepRandomness(0, step, 8).uniform() for step in range(500)])
    parts = [StepRandomness(0, step, 8, first, 4).uniform() for step in range(500) for first in (0, 4)]
    assert torch.equal(torch.cat(parts), whole)
    assert whole.mean().item() == pytest.approx(1 / 2, abs=4 * math.sqrt(1 / 12 / 4000))
    assert whole.var().item() == pytest.approx(1 / 12, abs=4 * math.sqrt(1 / 180 / 4000))


def test_stratified_numbers_have_a_stratum_each():
    u = StepRandomness(3, 7, 8).stratified()
    assert (u * 8).long().tolist() == list(range(8))
    assert u.dtype == torch.float64


def test_stratified_numbers_are_uniform_within_their_stratum():
    within = torch.cat([StepRandomness(0, step, 8).stratified() * 8 % 1 for step in range(500)])
    assert within.mean().item() == pytest.approx(1 / 2, abs=4 * math.sqrt(1 / 12 / 4000))
    assert within.var().item() == pytest.approx(1 / 12, abs=4 * math.sqrt(1 / 180 / 4000))


def test_a_steps_numbers_do_not_depend_on_how_many_pieces_it_is_computed_in():
    """Pieces of three, three and one row, each of which is asked for all its numbers before the next."""
    whole, shared = StepRandomness(3, 7, 8, first=1), StepRandomness(3, 7, 8, first=1)
    wanted = [whole.stratified(), whole.normal(2, 2), whole.uniform(), whole.normal(5)]
    drawn = [(piece.stratified(), piece.normal(2, 2), piece.uniform(), piece.normal(5)) for piece in shared.split(3)]
    assert [len(u) for u, *_ in drawn] == [3, 3, 1]
    for pieces, numbers in zip(zip(*drawn, strict=True), wanted, strict=True):
        assert torch.equal(torch.cat(pieces), numbers)


def test_pieces_go_on_after_what_the_whole_has_drawn():
    whole, shared = StepRandomness(3, 7, 8), StepRandomness(3, 7, 8)
    assert torch.equal(shared.uniform(), whole.uniform())
    assert torch.equal(torch.cat([piece.uniform() for piece in shared.split(5)]), whole.uniform())


def test_a_piece_that_asks_for_something_else_than_the_one_before_is_refused():
    first, second = StepRandomness(3, 7, 4).split(2)
    first.normal(3)
    for ask in (second.uniform, lambda: second.normal(4)):
        with pytest.raises(ValueError, match=r"an earlier piece of the batch was given \(3,\)"):
            ask()
    assert second.normal(3).shape == (2, 3)


@pytest.mark.parametrize("size", [0, 2.0, "2"])
def test_a_piece_has_a_row_or_more(size):
    with pytest.raises(ValueError, match="size is .*; it must be an integer from 1 up"):
        StepRandomness(3, 7, 8).split(size)


def test_normal_numbers_have_the_rows_of_the_part():
    assert StepRandomness(3, 7, 8, 4, 3).normal(2, 5).shape == (3, 2, 5)


def test_every_call_draws_the_next_numbers_of_the_step():
    randomness = StepRandomness(3, 7, 8)
    assert not torch.equal(randomness.normal(2), randomness.normal(2))


def test_the_names_of_version_0_1_still_stand_for_these():
    assert (noise.mix, noise.PerSample, noise.Draws) == (fold_in, PerSampleNoise, StepRandomness)


# What cannot be drawn.


def test_a_batch_of_none_has_no_noise_and_moves_no_generator():
    randn_like = PerSampleNoise(3)
    assert randn_like(X[:0]).shape == (0, 1, 4, 4)
    assert torch.equal(randn_like(X), PerSampleNoise(3)(X))


def test_a_sample_may_be_one_number():
    assert torch.equal(PerSampleNoise(3)(torch.empty(5)), PerSampleNoise(3)(torch.empty(5, 1))[:, 0])


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (torch.zeros(()), ValueError, r"x has shape \(\); it must be \(batch, ...\)$"),
        (np.zeros(3), TypeError, "x is ndarray; it must be a torch.Tensor"),
        (torch.zeros(3, dtype=torch.complex64), TypeError, "x is torch.complex64; it must be floating point"),
    ],
)
def test_what_has_no_noise_is_refused(x, error, words):
    with pytest.raises(error, match=words):
        PerSampleNoise(3)(x)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seed": 0.5}, "seed is 0.5; it must be an integer from 0 up"),
        ({"step": -1}, "step is -1; it must be an integer from 0 up"),
        ({"total": 0}, "total is 0; it must be an integer from 1 up"),
        ({"first": -1}, "first is -1; it must be an integer from 0 up"),
        ({"count": 2.0}, "count is 2.0; it must be an integer from 0 up"),
        ({"first": 6, "count": 3}, "first is 6 and count 3; the rows must be among the batch's 8"),
        ({"first": 9}, "first is 9 and count None; the rows must be among the batch's 8"),
    ],
)
def test_rows_that_a_step_does_not_have_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        StepRandomness(**{"seed": 0, "step": 0, "total": 8, **arguments})


def test_the_last_rows_of_a_step_are_legal():
    assert len(StepRandomness(0, 0, 8, 6, 2).stratified()) == 2
    assert len(StepRandomness(0, 0, 8, 8).stratified()) == 0


@pytest.mark.parametrize("shape", [(-1,), (2.5,), ("3",)])
def test_a_shape_is_made_of_sizes(shape):
    with pytest.raises(ValueError, match="shape is .*; it must be a list of integers from 0 up"):
        StepRandomness(0, 0, 8).normal(*shape)


def test_noise_of_another_shape_would_be_spread_over_x_and_is_refused():
    assert torch.equal(drawn(torch.ones_like, X), torch.ones_like(X))
    with pytest.raises(ValueError, match=r"randn_like answers \(1, 4, 4\) at x of shape \(6, 1, 4, 4\)"):
        drawn(lambda x: torch.randn(x.shape[1:]), X)
    with pytest.raises(TypeError, match="randn_like is int; it must be a function"):
        drawn(3, X)


def test_the_streams_of_a_run_are_those_of_version_0_1():
    """Other numbers would train other models."""
    assert (noise.STEP, noise.ORDER, noise.DROPOUT) == (1, 2, 3)
