from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddpm.settings import OPTIMISERS
from ddpm.training.config import TrainingConfig
from ddpm.training.launcher import make_accelerator
from ddpm.training.state import TrainingState

CONFIG = TrainingConfig(ema=(0.9, 0.5), optimiser="adamw")


def parts(seed=0):
    """Two networks; the first has a number that counts, too."""
    torch.manual_seed(seed)
    return {
        "body": torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)),
        "head": torch.nn.Linear(4, 2),
    }


def state_of(networks, init=None, config=CONFIG):
    return TrainingState(networks, config, make_accelerator(Path("unused"), ()), init)


def step(networks, state, number):
    """A step of both parts, each for its own loss."""
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(number)).to(state.weights["head.bias"].device)
    for name in networks:
        state.zero_grad()
        networks["head"](networks["body"](x)).square().mean().backward()
        state.step(name, 0.1)
    state.averages.update(state.weights, number)


def trained(steps=3):
    networks = parts()
    state = state_of(networks)
    for number in range(steps):
        step(networks, state, number)
    return networks, state


def copied(tensors):
    return {name: value.clone() for name, value in tensors.items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_tensors_are_named_by_what_they_are():
    _, state = trained()
    names = state.tensors().keys()
    weights = {"body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias", "head.weight", "head.bias"}
    counts = {"body.1.running_mean", "body.1.running_var", "body.1.num_batches_tracked"}
    of_weights = {f"{kind}.{name}" for kind in ("weights", "average-0.9", "average-0.5") for name in weights | counts}
    keys = ("step", "exp_avg", "exp_avg_sq")
    of_body = {f"optimiser-body.{index}.{key}" for index in range(4) for key in keys}
    of_head = {f"optimiser-head.{index}.{key}" for index in range(2) for key in keys}
    assert names == of_weights | of_body | of_head


def test_a_restored_state_has_the_same_bits():
    _, state = trained()
    kept = copied(state.tensors())
    restored = state_of(parts(seed=1))
    restored.restore(kept)
    assert_same(restored.tensors(), kept)


def test_a_restored_state_goes_on_to_the_same_bits():
    networks, state = trained()
    again = parts(seed=1)
    restored = state_of(again)
    restored.restore(copied(state.tensors()))
    for number in (3, 4):
        step(networks, state, number)
        step(again, restored, number)
    assert_same(restored.tensors(), state.tensors())


@pytest.mark.parametrize("name", ["weights.head.bias", "average-0.5.body.0.weight"])
def test_a_state_without_one_of_its_tensors_is_refused(name):
    _, state = trained()
    kept = copied(state.tensors())
    kept.pop(name)
    with pytest.raises(ValueError, match=f"do not fit this model: {name.partition('.')[2].removeprefix('5.')} should"):
        state_of(parts()).restore(kept)


@pytest.mark.parametrize("name", ["weights.head.bias", "average-0.9.head.bias"])
def test_a_state_with_a_tensor_of_another_shape_is_refused(name):
    _, state = trained()
    kept = copied(state.tensors()) | {name: torch.zeros(5)}
    with pytest.raises(ValueError, match=r"these weights do not fit this model: head.bias should have shape \(2,\)"):
        state_of(parts()).restore(kept)


def test_an_optimisers_tensor_of_another_shape_is_refused():
    _, state = trained()
    kept = copied(state.tensors()) | {"optimiser-head.1.exp_avg": torch.zeros(5)}
    with pytest.raises(ValueError, match=r"optimiser-head.1.exp_avg has shape \(5,\); its parameter's is \(2,\)"):
        state_of(parts()).restore(kept)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_state_without_any_one_tensor_of_an_optimiser_is_refused(optimiser):
    """It would go on with a moment of zero."""
    config = replace(CONFIG, optimiser=optimiser)
    networks = parts()
    state = state_of(networks, config=config)
    step(networks, state, 0)
    kept = copied(state.tensors())
    names = [name for name in kept if name.startswith("optimiser-")]
    assert names
    for name in names:
        fresh = state_of(parts(seed=1), config=config)
        before = copied(fresh.weights)
        with pytest.raises(ValueError, match=f"^this is no state of such a training: it lacks {name}$"):
            fresh.restore({label: value for label, value in kept.items() if label != name})
        assert_same(fresh.weights, before)


def test_another_optimisers_state_is_refused():
    networks = parts()
    state = state_of(networks, config=replace(CONFIG, optimiser="sgd"))
    step(networks, state, 0)
    with pytest.raises(ValueError, match=r"^this is no state of such a training: it lacks optimiser-body.0.step$"):
        state_of(parts()).restore(copied(state.tensors()))


def test_a_weight_that_never_had_a_gradient_has_no_state_and_needs_none():
    networks = parts()
    state = state_of(networks)
    networks["body"](torch.randn(8, 3).to(state.weights["head.bias"].device)).square().mean().backward()
    state.step("body", 0.1)
    kept = copied(state.tensors())
    assert {name for name in kept if name.startswith("optimiser-head")} == {"optimiser-head.0", "optimiser-head.1"}
    restored = state_of(parts(seed=1))
    restored.restore(kept)
    assert_same(restored.tensors(), kept)


def test_a_state_may_begin_with_given_weights():
    _, state = trained()
    begun = state_of(parts(seed=1), init=copied(state.weights))
    assert_same(begun.weights, state.weights)
    assert all(torch.equal(begun.averages.of[0.9][name], value) for name, value in state.weights.items())


def test_given_weights_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="these weights do not fit this model"):
        state_of(parts(), init={"head.weight": torch.zeros(4, 2)})


def test_a_step_moves_one_part_alone():
    networks = parts()
    state = state_of(networks)
    before = copied(state.weights)
    state.zero_grad()
    networks["head"](networks["body"](torch.randn(8, 3).to(before["head.bias"].device))).sum().backward()
    state.step("head", 0.1)
    moved = {name for name, value in state.weights.items() if not torch.equal(value, before[name])}
    assert {name for name in moved if "running" not in name and "num" not in name} == {"head.weight", "head.bias"}


def test_a_step_is_as_long_as_the_learning_rate():
    """Adam's first step is the gradient's sign."""
    networks = parts()
    state = state_of(networks, config=TrainingConfig(optimiser="adam"))
    before = state.weights["head.bias"].clone()
    networks["head"](torch.ones(8, 4, device=before.device)).sum().backward()
    state.step("head", 0.25)
    assert torch.allclose(before - state.weights["head.bias"], torch.full_like(before, 0.25), atol=1e-6)
    state.zero_grad()
    assert networks["head"].bias.grad is None
