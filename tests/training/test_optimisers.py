import inspect

import pytest
import torch

from ddpm.settings import OPTIMISERS
from ddpm.training import TrainingConfig
from ddpm.training.optimisers import flatten_optimiser, optimiser_of, restore_optimiser

LEARNING_RATE = 0.01
WEIGHT = torch.tensor([[3.0, -2.0], [0.5, -4.0]])
GRADIENTS = [torch.tensor([[1.0, -2.0], [0.5, 4.0]]), torch.tensor([[-3.0, 1.0], [0.25, 2.0]])]


def stepped(name, gradients, **settings):
    """The weight after a step for each gradient."""
    weight = torch.nn.Parameter(WEIGHT.clone())
    optimiser = optimiser_of(name, [weight], **settings)
    for gradient in gradients:
        optimiser.param_groups[0]["lr"] = LEARNING_RATE
        weight.grad = gradient.clone()
        optimiser.step()
    return weight.detach()


# Their steps, in closed form.


def test_sgd_adds_up_gradients():
    first, second = GRADIENTS
    expected = WEIGHT - LEARNING_RATE * (first + (0.9 * first + second))
    assert torch.allclose(stepped("sgd", GRADIENTS, momentum=0.9), expected)


def test_sgd_without_momentum_follows_the_gradient():
    expected = WEIGHT - LEARNING_RATE * (GRADIENTS[0] + GRADIENTS[1])
    assert torch.allclose(stepped("sgd", GRADIENTS, momentum=0.0), expected)


def test_adam_begins_with_a_step_of_the_learning_rate():
    """Kingma & Ba 2015: both moments are the first gradient's, so that their ratio is its sign."""
    assert torch.allclose(stepped("adam", GRADIENTS[:1]), WEIGHT - LEARNING_RATE * GRADIENTS[0].sign(), atol=1e-6)


def test_adam_divides_the_mean_gradient_by_its_root_mean_square():
    first, second = (gradient.double() for gradient in GRADIENTS)
    mean = (0.5 * 0.5 * first + 0.5 * second) / (1 - 0.5**2)
    square = (0.999 * 0.001 * first**2 + 0.001 * second**2) / (1 - 0.999**2)
    expected = WEIGHT - LEARNING_RATE * (first.sign() + mean / square.sqrt())
    assert torch.allclose(stepped("adam", GRADIENTS, momentum=0.5), expected.float(), atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "sgd", "rmsprop"])
def test_most_optimisers_have_no_weight_decay(name):
    assert torch.equal(stepped(name, GRADIENTS, weight_decay=0.5), stepped(name, GRADIENTS, weight_decay=0.0))


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_decoupled_weight_decay_shrinks_the_weight_by_itself(name):
    """Loshchilov & Hutter 2019: by the learning rate times the decay, whatever the gradient is."""
    with_decay, without = stepped(name, GRADIENTS[:1], weight_decay=0.5), stepped(name, GRADIENTS[:1], weight_decay=0.0)
    assert torch.allclose(without - with_decay, LEARNING_RATE * 0.5 * WEIGHT, atol=1e-6)


def test_adamw_is_adam_but_for_the_decay():
    ours, adams = stepped("adamw", GRADIENTS, weight_decay=0.0), stepped("adam", GRADIENTS)
    assert torch.allclose(ours, adams, atol=1e-7)


def test_rmsprop_divides_by_the_root_of_the_mean_square():
    """Its mean of squares begins at a hundredth of the first one."""
    expected = WEIGHT - LEARNING_RATE * GRADIENTS[0].sign() / 0.1
    assert torch.allclose(stepped("rmsprop", GRADIENTS[:1]), expected, atol=1e-5)


def muons_step(gradient):
    """The first step of a weight, over the learning rate."""
    weight = torch.nn.Parameter(torch.zeros_like(gradient))
    optimiser = optimiser_of("muon", [weight], weight_decay=0.0)
    optimiser.param_groups[0]["lr"] = LEARNING_RATE
    weight.grad = gradient
    optimiser.step()
    return weight.detach() / LEARNING_RATE


@pytest.mark.parametrize("shape", [(16, 8), (8, 16), (8, 2, 3, 3)])
def test_muon_steps_down_the_gradient_made_orthogonal(shape):
    """The gradient's own singular vectors with nearly equal singular values; the gradient's are 10 to 1."""
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape).flatten(1), full_matrices=False)
    step = muons_step((u * torch.logspace(1, 0, 8) @ v).reshape(shape)).flatten(1)
    values = torch.linalg.svdvals(step)
    assert values.max() < 1.1 * values.min()
    assert torch.cosine_similarity(step.flatten(), -(u @ v).flatten(), dim=0) > 0.999


@pytest.mark.parametrize("shape", [(64, 32), (32, 64), (16, 4, 3, 3)])
def test_muons_step_is_scaled_to_the_size_of_adamws(shape):
    """Liu et al. 2025, section 2.2: 0.2 of the learning rate, root mean square, whatever the gradient's size is."""
    torch.manual_seed(0)
    assert muons_step(1e-3 * torch.randn(shape)).square().mean().sqrt().item() == pytest.approx(0.2, rel=0.05)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="optimiser is 'lion'; legal are adamw, adam, sgd, rmsprop, muon"):
        optimiser_of("lion", [torch.nn.Parameter(WEIGHT)])


# Their state, saved and restored.


class Small(torch.nn.Module):
    """A convolution in channels-last memory, as networks here have it, and a bias."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)


def step(network, optimiser, seed):
    optimiser.param_groups[0]["lr"] = LEARNING_RATE
    optimiser.zero_grad()
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(seed))
    network.conv(x).square().mean().backward()
    optimiser.step()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_restored_optimiser_goes_on_to_the_same_bits(name):
    whole, cut = Small(), Small()
    optimiser = optimiser_of(name, whole.parameters())
    step(whole, optimiser, 0)
    stored = {label: value.clone() for label, value in flatten_optimiser("o", optimiser).items()}
    cut.load_state_dict(whole.state_dict())
    restored = optimiser_of(name, cut.parameters())
    restore_optimiser("o", restored, stored)
    for seed in (1, 2):
        step(whole, optimiser, seed)
        step(cut, restored, seed)
    assert torch.equal(cut.conv.weight, whole.conv.weight)
    assert torch.equal(cut.conv.bias, whole.conv.bias)


def test_a_state_is_named_by_the_parameters_number():
    network = Small()
    optimiser = optimiser_of("adamw", network.parameters())
    step(network, optimiser, 0)
    keys = ("step", "exp_avg", "exp_avg_sq")
    assert flatten_optimiser("o", optimiser).keys() == {f"o.{index}.{key}" for index in (0, 1) for key in keys}


def test_an_optimiser_that_made_no_step_has_no_state():
    assert flatten_optimiser("o", optimiser_of("adamw", Small().parameters())) == {}


def test_an_optimiser_takes_back_only_what_is_its_own():
    optimiser = optimiser_of("sgd", [torch.nn.Parameter(WEIGHT.clone())])
    restore_optimiser("a", optimiser, {"b.0.momentum_buffer": torch.ones(2, 2)})
    assert flatten_optimiser("a", optimiser) == {}


def test_muon_looks_ahead_as_nesterov_does():
    """The mean of 1 and -0.9 with momentum 0.95 is above 0, and one step further along the last gradient below."""
    moved = stepped("muon", [torch.eye(2), torch.diag(torch.tensor([-0.9, 1.0]))], weight_decay=0.0)
    once = stepped("muon", [torch.eye(2)], weight_decay=0.0)
    up, down = (moved - once).diagonal()
    assert up > 1e-4
    assert down < -1e-4


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_restored_state_lies_in_memory_as_its_weight_does(name):
    weight = torch.nn.Parameter(torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last))
    weight.grad = torch.randn_like(weight)
    optimiser = optimiser_of(name, [weight])
    optimiser.step()
    saved = {label: value.clone(memory_format=torch.contiguous_format) for label, value in
             flatten_optimiser("net", optimiser).items()}  # fmt: skip
    restored = optimiser_of(name, [weight])
    restore_optimiser("net", restored, saved)
    assert saved
    for key, value in restored.state[weight].items():
        assert torch.equal(value, saved[f"net.0.{key}"])
        assert value.numel() == 1 or value.stride() == weight.stride()


@pytest.mark.parametrize("shape", [(), (2,), (2, 2)])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_steps_are_counted_where_the_optimiser_reads_the_count(name, shape):
    """On meta, which stands for a GPU: who reads there in every step a count that belongs on the CPU waits for it."""
    weight = torch.nn.Parameter(torch.ones(shape))
    weight.grad = torch.ones_like(weight)
    optimiser = optimiser_of(name, [weight])
    optimiser.step()
    counts = "step" in optimiser.state[weight]
    there = torch.nn.Parameter(weight.detach().to("meta"))
    restored = optimiser_of(name, [weight])
    restored.param_groups[0]["params"] = [there]
    restore_optimiser("o", restored, flatten_optimiser("o", optimiser))
    places = {key: value.device.type for key, value in restored.state[there].items()}
    assert places
    if counts:
        assert places.pop("step") == ("meta" if name in ("adamw", "adam") else "cpu")
    assert set(places.values()) == {"meta"}


def test_an_optimiser_has_the_defaults_of_a_training():
    given = inspect.signature(optimiser_of).parameters
    for name in ("momentum", "weight_decay"):
        assert given[name].default == getattr(TrainingConfig(), name), name
