import pytest
import torch

from ddpm.training.averages import Averages, average_decay, average_in, copy_weights


def test_the_decay_warms_up():
    assert average_decay(0.999, 0) == pytest.approx(1 / 10)
    assert average_decay(0.999, 90) == pytest.approx(91 / 100)
    assert average_decay(0.999, 10**6) == 0.999
    assert average_decay(0.05, 0) == 0.05


def test_an_average_begins_with_the_weights_and_is_no_view_of_them():
    weights = {"w": torch.ones(2)}
    averages = Averages(weights, [0.9])
    weights["w"].zero_()
    assert averages.of[0.9]["w"].tolist() == [1, 1]


def test_an_average_of_decay_d_weighs_step_k_of_n_by_1_less_d_times_d_to_the_n_less_k():
    """Long after the warm-up; what it began with has d^n."""
    values, d, late = [3.0, -1.0, 4.0, 2.0], 0.8, 10**6
    averages = Averages({"w": torch.tensor(7.0, dtype=torch.float64)}, [d])
    for step, value in enumerate(values):
        averages.update({"w": torch.tensor(value, dtype=torch.float64)}, late + step)
    expected = 7 * d**4 + sum((1 - d) * d ** (4 - k) * value for k, value in enumerate(values, start=1))
    assert averages.of[d]["w"].item() == pytest.approx(expected)


def test_numbers_that_count_are_the_last_and_not_averaged():
    averages = Averages({"n": torch.tensor(1), "w": torch.ones(1)}, [0.9])
    averages.update({"n": torch.tensor(5), "w": torch.zeros(1)}, 10**6)
    assert averages.of[0.9]["n"] == 5
    assert averages.of[0.9]["w"].item() == pytest.approx(0.9)


def test_every_average_is_saved_under_its_decay():
    averages = Averages({"w": torch.ones(1)}, [0.9, 0.99])
    assert averages.state().keys() == {"average-0.9.w", "average-0.99.w"}


def test_the_average_of_a_decay_is_found_again():
    state = {"average-0.9.w": torch.ones(1), "average-0.99.w": torch.zeros(1), "weights.w": torch.zeros(1)}
    assert average_in(state, 0.9) == {"w": torch.ones(1)}


def test_averages_come_back():
    averages = Averages({"w": torch.ones(3)}, [0.9, 0.99])
    averages.update({"w": torch.randn(3)}, 50)
    again = Averages({"w": torch.zeros(3)}, [0.9, 0.99])
    again.restore(averages.state())
    assert all(torch.equal(again.of[decay]["w"], averages.of[decay]["w"]) for decay in (0.9, 0.99))


def test_weights_are_copied_in_place_from_names_with_a_prefix():
    target = {"w": torch.zeros(2)}
    kept = target["w"]
    copy_weights({"a.w": torch.ones(2), "w": torch.full((2,), 5.0)}, target, "a.")
    assert kept.tolist() == [1, 1]


@pytest.mark.parametrize("source", [{}, {"w": torch.ones(3)}, {"w": torch.ones(1, 2)}])
def test_weights_that_do_not_fit_are_refused(source):
    with pytest.raises(ValueError, match=r"these weights do not fit this model: w should have shape \(2,\)"):
        copy_weights(source, {"w": torch.zeros(2)})
