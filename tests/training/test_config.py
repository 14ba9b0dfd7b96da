from dataclasses import replace

import pytest

from ddpm.training.config import TrainingConfig
from ddpm.training.recipes import DISTILLATION, RECIPES, recipe

CONFIG = TrainingConfig(steps=1000, warmup=100, learning_rate=2.0)


def test_the_learning_rate_rises_linearly_over_the_warm_up():
    assert [CONFIG.rate(step) for step in (0, 49, 99)] == pytest.approx([0.02, 1.0, 2.0])


def test_without_a_warm_up_the_first_step_has_the_peak_learning_rate():
    assert replace(CONFIG, warmup=0).rate(0) == 2.0


def test_the_learning_rate_falls_by_half_a_cosine():
    assert CONFIG.rate(100) == 2.0
    assert CONFIG.rate(100 + 300) == pytest.approx(2.0 * 0.75)  # cos(pi / 3) = 1 / 2
    assert CONFIG.rate(100 + 450) == pytest.approx(2.0 * 0.5)
    assert CONFIG.rate(100 + 600) == pytest.approx(2.0 * 0.25)
    assert 0 < CONFIG.rate(999) < 1e-5


def test_the_learning_rate_falls_linearly():
    falling = replace(CONFIG, decay="linear")
    assert falling.rate(550) == pytest.approx(1.0)
    assert falling.rate(1000) == 0


def test_the_learning_rate_stays():
    constant = replace(CONFIG, decay="constant")
    assert (constant.rate(0), constant.rate(100), constant.rate(999)) == (pytest.approx(0.02), 2.0, 2.0)


def test_a_training_shorter_than_its_warm_up_only_rises():
    short = TrainingConfig(steps=10, warmup=100, learning_rate=1.0)
    assert [short.rate(step) for step in range(10)] == pytest.approx([(step + 1) / 100 for step in range(10)])


@pytest.mark.parametrize(("ema", "decays"), [(0.9, (0.9,)), ((0.9, 0.99), (0.9, 0.99)), ([0.9], (0.9,)), (0, (0,))])
def test_one_decay_or_several_make_the_averages(ema, decays):
    config = TrainingConfig(ema=ema)
    assert config.emas == decays
    assert all(isinstance(decay, float) for decay in config.emas)  # 0 and 0.0 are one name of an average
    assert config == TrainingConfig(ema=decays)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0}, {"steps": "5"}, {"optimiser": 3}, {"decay": "step"}, {"keep": 0}, {"batch_size": -1},
        {"ema": 1.0}, {"ema": -0.1}, {"ema": (0.9, 0.9)}, {"ema": ()}, {"clip": 0}, {"learning_rate": 0}, {"seed": -1},
        {"precision": "half"}, {"momentum": 1}, {"weight_decay": -1}, {"warmup": -1}, {"checkpoint_every": 0},
        {"threads": 0}, {"threads": 1.0}, {"seed": 2**64}, {"micro_batch_size": 0}, {"micro_batch_size": 1.5},
        {"flip": 1},
    ],
)  # fmt: skip
def test_an_illegal_option_is_named(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"^{name} is "):
        TrainingConfig(**options)


def test_the_recipes_are_those_of_the_page_on_training():
    """A change of one is a change of what everybody's `ddpm train` does; its page and the changelog say so then."""
    assert {kind: recipe(kind)[1] for kind in RECIPES} == {
        "diffusion": TrainingConfig(optimiser="muon", learning_rate=2e-3, warmup=50),
        "autoencoder": TrainingConfig(optimiser="adamw", learning_rate=2e-3),
        "vae": TrainingConfig(optimiser="adamw", learning_rate=2e-3),
        "gan": TrainingConfig(optimiser="adam", momentum=0.0, learning_rate=5e-4),
    }
    model, _ = recipe("diffusion")
    assert (model.target, model.times, model.uniform_share, model.unet.blocks_per_level) == ("v", "lognormal", 0.1, 1)
    assert [recipe(kind)[0].variational for kind in ("autoencoder", "vae")] == [False, True]


def test_the_settings_of_students_are_those_of_the_page_on_training():
    assert DISTILLATION == {
        "steps": 1500, "optimiser": "muon", "learning_rate": 5e-4, "warmup": 50, "decay": "linear",
        "checkpoint_every": 250,
    }  # fmt: skip
