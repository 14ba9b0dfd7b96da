import json
import math
import re
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Literal

import numpy as np
import pytest
import torch

from ddpm.autoencoder import AutoencoderConfig
from ddpm.diffusion import DiffusionConfig
from ddpm.gan import GANConfig
from ddpm.settings import (
    Optimiser,
    check,
    check_choices,
    flag,
    integers,
    non_negative_int,
    one_of,
    positive_int,
    real,
    seed_number,
)
from ddpm.training.config import TrainingConfig
from ddpm.unet import UNetConfig

# The rules, one by one.


def test_a_legal_name_is_taken_as_it_is():
    assert one_of("target", "v", ("eps", "x0", "v")) == "v"


@pytest.mark.parametrize(
    ("value", "shown"), [("noise", "'noise'"), ("", "''"), (3, "3"), (None, "None"), (["v"], r"\['v'\]")]
)
def test_another_name_is_refused_with_the_legal_ones(value, shown):
    with pytest.raises(ValueError, match=f"^target is {shown}; legal are eps, x0, v$"):
        one_of("target", value, ("eps", "x0", "v"))


@pytest.mark.parametrize("value", [True, False])
def test_a_flag_is_true_or_false(value):
    assert flag("skips", value) is value
    assert flag("skips", np.bool_(value)) is value


@pytest.mark.parametrize("value", ["no", 0, 1, None, 1.0, np.int64(1), np.array([True]), np.float32(0)])
def test_what_only_stands_for_true_or_false_is_no_flag(value):
    with pytest.raises(ValueError, match=f"^skips is {re.escape(repr(value))}; legal are True, False$"):
        flag("skips", value)


@pytest.mark.parametrize("value", [1, 7, np.int64(7), np.uint8(7)])
def test_a_positive_integer_becomes_pythons(value):
    number = positive_int("steps", value)
    assert type(number) is int
    assert number == value


@pytest.mark.parametrize("value", [0, -1, 2.5, 2.0, np.float64(2), True, "5", None, math.nan, math.inf, [1], 1j])
def test_what_is_no_positive_integer_is_refused(value):
    with pytest.raises(ValueError, match="^steps is .*; it must be an integer from 1 up$"):
        positive_int("steps", value)


@pytest.mark.parametrize("value", [0, 7, np.int32(0)])
def test_an_integer_from_0_becomes_pythons(value):
    number = non_negative_int("seed", value)
    assert type(number) is int
    assert number == value


@pytest.mark.parametrize("value", [-1, 0.5, False, "0", None, math.nan, math.inf])
def test_what_is_no_integer_from_0_is_refused(value):
    with pytest.raises(ValueError, match="^seed is .*; it must be an integer from 0 up$"):
        non_negative_int("seed", value)


@pytest.mark.parametrize("value", [0, 2**64 - 1, np.uint64(2**64 - 1)])
def test_a_seed_is_one_that_torchs_generators_take(value):
    assert torch.Generator().manual_seed(seed_number("seed", value)).initial_seed() == int(value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (2**64, r"seed is 18446744073709551616; it must be below 2\*\*64"),
        (-1, "seed is -1; it must be an integer from 0 up"),
        (0.5, "seed is 0.5; it must be an integer from 0 up"),
        (np.True_, "seed is .*True.*; it must be an integer from 0 up"),
    ],
)
def test_another_seed_is_refused_by_its_name(value, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        seed_number("seed", value)


def test_an_array_is_no_integer():
    with pytest.raises(ValueError, match="^steps is .*; it must be an integer from 1 up$"):
        positive_int("steps", np.array([1, 2]))


@pytest.mark.parametrize("value", [[1, 2], (1, 2), [np.int64(1), np.uint8(2)]])
def test_a_list_of_integers_becomes_a_tuple_of_pythons(value):
    numbers = integers("levels", value, at_least=1)
    assert numbers == (1, 2)
    assert all(type(number) is int for number in numbers)


def test_a_list_may_be_empty():
    assert integers("levels", [], at_least=0) == ()


@pytest.mark.parametrize(
    "value", ["12", 4, None, {1, 2}, {1: 2}, [0, 1], [1, -2], [1, 1.5], [True], ["1"], [[1]], range(3)]
)
def test_what_is_no_list_of_such_integers_is_refused(value):
    with pytest.raises(ValueError, match="^levels is .*; it must be a list of integers from 1 up$"):
        integers("levels", value, at_least=1)


@pytest.mark.parametrize("value", [{8, 1, 2, 4}, frozenset({1, 2, 4, 8})])
def test_a_set_is_taken_in_order_where_the_order_says_nothing(value):
    assert integers("levels", value, at_least=0, unordered=True) == (1, 2, 4, 8)


def test_a_set_of_other_things_is_refused():
    with pytest.raises(ValueError, match="^levels is .*; it must be a list of integers from 0 up$"):
        integers("levels", {1, "a"}, at_least=0, unordered=True)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.float64(0.5), Fraction(1, 2)])
def test_a_real_number_becomes_a_float(value):
    number = real("clip", value)
    assert type(number) is float
    assert number == 0.5


@pytest.mark.parametrize("value", [2, np.int64(2)])
def test_an_integer_is_a_real_number_and_stays_one(value):
    assert type(real("clip", value)) is int
    assert real("clip", value) == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), True, "0.5", None, [0.5], 1j])
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises(ValueError, match="^clip is .*; it must be a finite number$"):
        real("clip", value)


@pytest.mark.parametrize(
    ("limits", "legal", "illegal", "words"),
    [
        ({"at_least": 0}, [0, 7.5], [-1e-9], "at least 0"),
        ({"above": 0}, [1e-9], [0, -1], "above 0"),
        ({"at_least": 0, "below": 1}, [0, 0.999], [-0.1, 1], "at least 0 and below 1"),
        ({"at_least": 0, "at_most": 1}, [0, 1], [-0.1, 1.1], "at least 0 and at most 1"),
        ({"above": 0.5, "at_most": 2}, [0.6, 2], [0.5, 2.1], "above 0.5 and at most 2"),
    ],
)
def test_a_real_number_lies_within_its_limits(limits, legal, illegal, words):
    for value in legal:
        assert real("clip", value, **limits) == value
    for value in illegal:
        with pytest.raises(ValueError, match=f"^clip is {value}; it must be a finite number {words}$"):
            real("clip", value, **limits)


@dataclass(frozen=True)
class Small:
    steps: object = 1
    keep: object = 1


def test_a_configuration_holds_what_the_rule_made():
    config = Small(np.int64(3), np.int64(4))
    check(config, positive_int, "steps", "keep")
    assert json.dumps(asdict(config)) == '{"steps": 3, "keep": 4}'


def test_a_configuration_is_refused_by_the_name_of_the_wrong_setting():
    with pytest.raises(ValueError, match="^keep is 0; it must be an integer from 1 up$"):
        check(Small(3, 0), positive_int, "steps", "keep")


def test_limits_reach_the_rule():
    with pytest.raises(ValueError, match="^steps is 1; it must be a finite number above 1$"):
        check(Small(), real, "steps", above=1)


@dataclass(frozen=True)
class Choices:
    target: Literal["eps", "v"] = "eps"
    optimiser: Optimiser = "adam"
    steps: int = 1


def test_the_choices_of_a_configuration_are_those_of_its_annotations():
    check_choices(Choices("v", "muon", steps="not a choice"))
    for choices, words in (
        (Choices(target="x0"), "target is 'x0'; legal are eps, v"),
        (Choices(optimiser="lion"), "optimiser is 'lion'; legal are adamw, adam, sgd, rmsprop, muon"),
    ):
        with pytest.raises(ValueError, match=f"^{words}$"):
            check_choices(choices)


# Every configuration keeps them.

CONFIGS = (UNetConfig, DiffusionConfig, AutoencoderConfig, GANConfig, TrainingConfig)
SETTINGS = [(config, field.name) for config in CONFIGS for field in fields(config) if field.name != "unet"]
ILLEGAL_EVERYWHERE = [math.nan, None, "nonsense", b"1", 1j, [[]]]
MAY_BE_OPEN = [
    (TrainingConfig, "threads"),
    (TrainingConfig, "micro_batch_size"),
    (UNetConfig, "classes"),
    (DiffusionConfig, "distilled_for"),
    (DiffusionConfig, "distilled_from"),
]  # None is legal


@pytest.mark.parametrize("value", ILLEGAL_EVERYWHERE, ids=repr)
@pytest.mark.parametrize(("config", "name"), SETTINGS)
def test_every_setting_refuses_by_its_name_what_is_right_for_none(config, name, value):
    if value is None and (config, name) in MAY_BE_OPEN:
        assert getattr(config(**{name: None}), name) is None
        return
    with pytest.raises(ValueError, match=f"^{name} is "):
        config(**{name: value})


@pytest.mark.parametrize("value", ILLEGAL_EVERYWHERE, ids=repr)
def test_a_unet_is_refused_by_its_name_unless_it_is_one(value):
    with pytest.raises(ValueError, match="^unet is "):
        DiffusionConfig(unet=value)


def test_an_integer_too_large_for_a_float_is_refused():
    with pytest.raises(ValueError, match="^clip is 1000"):
        real("clip", 10**400)


def test_a_seed_beyond_torchs_generators_is_refused():
    assert TrainingConfig(seed=2**64 - 1).seed == 2**64 - 1
    torch.Generator().manual_seed(2**64 - 1)
    with pytest.raises(ValueError, match=r"^seed is \d+; it must be below 2\*\*64"):
        TrainingConfig(seed=2**64)


INTEGERS = [
    *((UNetConfig, name) for name in ("channels", "base_channels", "blocks_per_level", "head_channels")),
    (DiffusionConfig, "T"),
    *((config, name) for config in (AutoencoderConfig, GANConfig) for name in ("base_channels", "latent_dim")),
    *(
        (TrainingConfig, name)
        for name in ("steps", "batch_size", "warmup", "seed", "checkpoint_every", "keep", "threads")
    ),
]


@pytest.mark.parametrize("value", [2.5, 100.0, True, -4])
@pytest.mark.parametrize(("config", "name"), INTEGERS)
def test_a_setting_that_counts_is_an_integer(config, name, value):
    with pytest.raises(ValueError, match=f"^{name} is {value}; it must be an integer from [01] up$"):
        config(**{name: value})


REALS = [
    (UNetConfig, "dropout"),
    *((DiffusionConfig, name) for name in ("log_sigma_mean", "log_sigma_std", "uniform_share")),
    (GANConfig, "r1"),
    *((TrainingConfig, name) for name in ("learning_rate", "momentum", "weight_decay", "clip")),
]


@pytest.mark.parametrize("value", [math.inf, -math.inf, True])
@pytest.mark.parametrize(("config", "name"), REALS)
def test_a_setting_that_measures_is_a_finite_number(config, name, value):
    with pytest.raises(ValueError, match=f"^{name} is {value}; it must be a finite number"):
        config(**{name: value})


@pytest.mark.parametrize(
    ("config", "settings", "words"),
    [
        (UNetConfig, {"skips": "no"}, "skips is 'no'; legal are True, False"),
        (UNetConfig, {"middle_attention": 1}, "middle_attention is 1; legal are True, False"),
        (UNetConfig, {"channel_multipliers": {8, 1, 2, 4}}, r"channel_multipliers is \{.*\}; it must be a list of"),
        (UNetConfig, {"channel_multipliers": 4}, "channel_multipliers is 4; it must be a list of integers from 1 up"),
        (UNetConfig, {"channel_multipliers": "124"}, "channel_multipliers is '124'; it must be a list of integers"),
        (UNetConfig, {"channel_multipliers": ()}, r"channel_multipliers is \(\); it must hold at least one level"),
        (UNetConfig, {"attention_levels": (-1,)}, r"attention_levels is \(-1,\); it must be a list of integers from 0"),
        (DiffusionConfig, {"distilled_for": 0}, "distilled_for is 0; it must be an integer from 1 up"),
        (DiffusionConfig, {"distilled_for": 1001}, "distilled_for is 1001; it must be at most T = 1000"),
        (
            DiffusionConfig,
            {"distilled_for": 4, "distilled_from": 4},
            "distilled_from is 4; with distilled_for 4 it must be that times 2, 4, 6, ..., up to T = 1000",
        ),
        (DiffusionConfig, {"distilled_for": 400, "distilled_from": 1600}, "distilled_from is 1600; with distilled_for"),
        (DiffusionConfig, {"distilled_from": 8}, "distilled_from is 8; it needs a distilled_for"),
        (DiffusionConfig, {"T": 100.5}, "T is 100.5; it must be an integer from 1 up"),
        (DiffusionConfig, {"schedule": "bent"}, "schedule is 'bent'; legal are linear, cosine, sigmoid"),
        (DiffusionConfig, {"schedule": "straight"}, "target is 'eps'; on the schedule .* legal are x0, flow"),
        (
            DiffusionConfig,
            {"schedule": "straight", "target": "v"},
            "target is 'v'; on the schedule .* legal are x0, flow",
        ),
        (DiffusionConfig, {"target": "flow"}, "target is 'flow'; on the schedule .* legal are eps, x0, v"),
        (AutoencoderConfig, {"image_shape": 32}, r"image_shape is 32; it must be \(channels, height, width\)"),
        (AutoencoderConfig, {"image_shape": (1, 32)}, r"image_shape is \(1, 32\); it must be \(channels, height, "),
        (AutoencoderConfig, {"image_shape": (1, 32, 0)}, r"image_shape is \(1, 32, 0\); .*, integers from 1 up"),
        (AutoencoderConfig, {"image_shape": (1, 32, 32.0)}, r"image_shape is \(1, 32, 32.0\); .*, integers from 1 up"),
        (AutoencoderConfig, {"channel_multipliers": ()}, r"channel_multipliers is \(\); it must hold at least one"),
        (AutoencoderConfig, {"variational": "yes"}, "variational is 'yes'; legal are True, False"),
        (GANConfig, {"architecture": "mlp", "channel_multipliers": ()}, r"channel_multipliers is \(\); it must hold"),
        (GANConfig, {"architecture": "mlp", "channel_multipliers": [1.5]}, r"channel_multipliers is \[1.5\]; it must"),
        (GANConfig, {"image_shape": 32}, r"image_shape is 32; it must be \(channels, height, width\)"),
        (TrainingConfig, {"steps": 2.5}, "steps is 2.5; it must be an integer from 1 up"),
        (TrainingConfig, {"seed": 0.5}, "seed is 0.5; it must be an integer from 0 up"),
        (TrainingConfig, {"learning_rate": math.inf}, "learning_rate is inf; it must be a finite number above 0"),
        (TrainingConfig, {"ema": ()}, r"ema is \(\); it must be at least 0 and below 1, or several such decays"),
        (TrainingConfig, {"ema": [0.9, True]}, r"ema is \[0.9, True\]; it must be at least 0 and below 1"),
    ],
)
def test_a_wrong_value_is_refused_in_words(config, settings, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        config(**settings)


def numpys(value):
    """A setting as a program that computes with numpy has it."""
    if value is None or isinstance(value, str | dict):
        return value
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, tuple):
        return [numpys(item) for item in value]
    return np.int64(value) if isinstance(value, int) else np.float64(value)


@pytest.mark.parametrize("config", CONFIGS)
def test_numpys_numbers_become_pythons(config):
    made = config(**{name: numpys(value) for name, value in asdict(config()).items()})
    assert made == config()
    assert json.dumps(asdict(made)) == json.dumps(asdict(config()))


@pytest.mark.parametrize("config", CONFIGS)
def test_a_configuration_comes_back_from_json(config):
    assert config(**json.loads(json.dumps(asdict(config())))) == config()
