import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from ddpm.arguments import (
    answer_like,
    check_finite,
    check_real,
    check_samples,
    check_times,
    class_names,
    exact,
    float_tensor,
    function,
    instance,
    number,
)

X = torch.zeros(4, 2, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_state_has_32_bits_or_64(dtype):
    x = X.to(dtype)
    assert float_tensor("x", x) is x


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (X.half(), TypeError, "x is torch.float16; it must be float32 or float64"),
        (X.bfloat16(), TypeError, "x is torch.bfloat16; it must be float32 or float64"),
        (X.long(), TypeError, "x is torch.int64; it must be float32 or float64"),
        ([0.0], TypeError, "x is list; it must be a tensor of float32 or float64"),
        (np.zeros(3), TypeError, "x is ndarray; it must be a tensor of float32 or float64"),
        (torch.zeros(()), ValueError, r"x has shape \(\); it must be \(batch, ...\)"),
    ],
)
def test_another_state_is_refused_by_name(value, error, words):
    with pytest.raises(error, match=f"^{words}$"):
        float_tensor("x", value)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_is_enough(wrong):
    values = X.clone()
    check_finite("x", values)
    values[3, 1, 2] = wrong
    with pytest.raises(ValueError, match="^images hold NaN or infinity; legal are finite values$"):
        check_finite("images", values)


@pytest.mark.parametrize("t", [5, 5.0, np.float32(5), np.int64(5), torch.tensor(5), torch.ones(1), torch.ones(4)])
def test_a_time_is_one_number_or_one_for_each_image(t):
    check_times(t, X)


@pytest.mark.parametrize("shape", [(2,), (0,), (4, 1), (1, 4), (4, 2, 3)])
def test_other_numbers_of_times_are_refused(shape):
    with pytest.raises(ValueError, match=r"t has shape \(.*\); it must be a number, or a time for each image, \(4,\)$"):
        check_times(torch.ones(shape), X)


@pytest.mark.parametrize("t", ["5", None, [5], np.ones(4), 5j, torch.ones(4, dtype=torch.complex64), torch.ones(4) > 0])
def test_what_is_no_real_number_is_no_time(t):
    for check in (check_real, lambda t: check_times(t, X)):
        with pytest.raises(TypeError, match="^t is .*; it must be a number"):
            check(t)


def test_numbers_are_those_of_python_numpy_and_torch():
    assert [number("n", value) for value in (2, 2.5, np.float32(2.5), torch.tensor(2.5))] == [2, 2.5, 2.5, 2.5]
    assert math.isnan(number("n", math.nan))
    for wrong in ("2", None, [2], 2j, torch.ones(2), np.ones(1)):
        with pytest.raises(TypeError, match=r"^n is .*; it must be a number"):
            number("n", wrong)


def test_exact_numbers_are_float64_on_the_cpu():
    for values in ([1, 2], np.array([1, 2]), torch.tensor([1, 2]), torch.tensor([1.0, 2.0])):
        made = exact("means", values)
        assert (made.dtype, made.device.type, made.tolist()) == (torch.float64, "cpu", [1, 2])
    assert exact("mean", 0.1).item() == 0.1  # not by way of float32
    for wrong in ("a", None, [[0.0], [1.0, 2.0]], ["a"]):
        with pytest.raises(TypeError, match="^means is .*; it must be a number, or numbers in rows of one length$"):
            exact("means", wrong)
    with pytest.raises(TypeError, match="^means is torch.complex64; it must be real$"):
        exact("means", torch.ones(2, dtype=torch.complex64))


def test_names_of_classes_are_several_texts_and_not_one():
    for names in (["a", "b"], ("a", "b"), np.array(["a", "b"]), iter("ab")):
        assert class_names(names) == ("a", "b")
    assert class_names([]) == ()
    for wrong in ("ab", None, 2, [1, 2], ["a", None]):
        with pytest.raises(TypeError, match="^classes is .*; it must be a sequence of names$"):
            class_names(wrong)


def test_samples_have_their_shape_and_their_number():
    check_samples("x", X, (2, 3))
    check_samples("x", X[:0], [2, 3])
    check_samples("x", X.half(), (2, 3), 4)
    for x, batch, words in (
        (X[0], None, r"x has shape \(2, 3\); it must be \(batch, 2, 3\)"),
        (X[:, :1], None, r"x has shape \(4, 1, 3\); it must be \(batch, 2, 3\)"),
        (torch.zeros(()), None, r"x has shape \(\); it must be \(batch, 2, 3\)"),
        (X, 5, r"x has shape \(4, 2, 3\); it must be \(5, 2, 3\)"),
    ):
        with pytest.raises(ValueError, match=f"^{words}$"):
            check_samples("x", x, (2, 3), batch)
    with pytest.raises(TypeError, match="^x is torch.uint8; it must be floating point$"):
        check_samples("x", X.to(torch.uint8), (2, 3))
    with pytest.raises(TypeError, match="^x is list; it must be a torch.Tensor$"):
        check_samples("x", [], (2, 3))


def test_an_answer_is_like_what_was_asked_about():
    assert answer_like("score", X, X) is X
    with pytest.raises(ValueError, match=r"^score answers \(2, 3\) at x of shape \(4, 2, 3\); they must be alike$"):
        answer_like("score", X[0], X)  # which would be spread over x
    with pytest.raises(TypeError, match="^score answers tuple; it must be a tensor like x$"):
        answer_like("score", (X,), X)
    of_diffusers = SimpleNamespace(sample=X)
    with pytest.raises(TypeError, match="like x, such as its .sample; ddpm.from_diffusers takes a whole pipeline$"):
        answer_like("network", of_diffusers, X)


def test_what_a_thing_must_be_is_named_with_its_module():
    layer = nn.Linear(1, 1)
    assert instance("network", layer, nn.Module) is layer
    with pytest.raises(TypeError, match=r"^network is str; it must be a torch.nn.modules.module.Module$"):
        instance("network", "unet", nn.Module)
    assert function("score", math.sin) is math.sin
    with pytest.raises(TypeError, match="^score is NoneType; it must be a function$"):
        function("score", None)
