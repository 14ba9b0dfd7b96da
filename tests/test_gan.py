import math

import pytest
import torch
import torch.nn.functional as F

from ddpm.data import load, normalise
from ddpm.gan import GANConfig, discriminator_loss, generator_loss, gradient_penalty
from ddpm.noise import StepRandomness
from ddpm.sampling import sample

SMALL = {"base_channels": 8, "channel_multipliers": (1, 2), "latent_dim": 5, "image_shape": (1, 16, 16)}


def images(n):
    return normalise(load("fashion-mnist-embedded", "test", quiet=True).images[:n, :, 8:24, 8:24])


def test_the_players_shapes_with_and_without_convolutions():
    for architecture, shape in (("convolutional", (1, 16, 16)), ("mlp", (1, 16, 16)), ("mlp", (2, 1, 1))):
        players = GANConfig(**{**SMALL, "image_shape": shape}, architecture=architecture).network()
        fakes = players.decode(torch.randn(3, 5))
        assert fakes.shape == (3, *shape)
        assert fakes.abs().max() < 1
        assert players.discriminator(fakes).shape == (3,)
        assert any(isinstance(m, torch.nn.Conv2d) for m in players.modules()) == (architecture == "convolutional")


def test_the_loss_of_the_discriminator_is_two_cross_entropies():
    real, fake = torch.randn(2, 7, generator=torch.Generator().manual_seed(0)).unbind(0)
    entropy = F.binary_cross_entropy_with_logits
    expected = entropy(real, torch.ones(7)) + entropy(fake, torch.zeros(7))
    assert torch.allclose(discriminator_loss(real, fake), expected)
    assert discriminator_loss(torch.zeros(1), torch.zeros(1)).item() == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize(("game", "gradient"), [("minimax", -0.001), ("non-saturating", -0.999)])
def test_where_the_discriminator_is_sure_the_minimax_gradient_vanishes(game, gradient):
    logit = torch.logit(torch.tensor([0.001])).requires_grad_()
    generator_loss(logit, game).backward()
    assert logit.grad.item() == pytest.approx(gradient, rel=1e-4)


def test_the_penalty_is_the_squared_slope_of_the_logit():
    x = torch.rand(3, 1, 2, 2, requires_grad=True)
    assert gradient_penalty(x.flatten(1) @ torch.arange(4.0), x) == 14


def test_half_of_r1_weights_the_penalty():
    """Eq. 9 of Mescheder et al. (2018), between whose two sides stands gamma / 2."""
    losses = {}
    for r1 in (0.0, 3.0):
        torch.manual_seed(0)
        task = GANConfig(**SMALL, r1=r1).task()
        losses[r1] = task.loss("discriminator", images(4), StepRandomness(0, 0, 4)).item()
    real = images(4).requires_grad_()
    penalty = gradient_penalty(task.parts["discriminator"](real), real).item()
    assert penalty > 1e-3
    assert losses[3.0] - losses[0.0] == pytest.approx(1.5 * penalty, rel=1e-3)


@pytest.mark.parametrize("game", ["minimax", "non-saturating"])
def test_a_step_of_each_player_is_to_its_own_advantage(game):
    """Of the discriminator: real images look more real than fakes; of the generator: its fakes look more real."""
    torch.manual_seed(0)
    task = GANConfig(**SMALL, game=game, r1=0).task()
    discriminate, generate = task.parts["discriminator"], task.parts["generator"]
    x, z = images(16), torch.randn(16, 5)

    def gap():
        return (discriminate(x).mean() - discriminate(generate(z)).mean()).item()

    gaps, randomness = [gap()], StepRandomness(0, 0, 16)
    for name, part in task.parts.items():
        loss, weights = task.loss(name, x, randomness), list(part.parameters())
        with torch.no_grad():
            for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight -= 1e-2 * slope
        gaps.append(gap())
    start, discriminator_moved, generator_moved = gaps
    assert discriminator_moved > start
    assert generator_moved < discriminator_moved


def test_the_gradient_of_the_generator_comes_through_the_discriminator_and_its_own_stops_there():
    task = GANConfig(**SMALL).task()
    for name in task.parts:
        for part in task.parts.values():
            for weight in part.parameters():
                weight.grad = None
        task.loss(name, images(4), StepRandomness(0, 0, 4)).backward()
        reached = {key: any(w.grad is not None for w in part.parameters()) for key, part in task.parts.items()}
        assert reached == {"discriminator": True, "generator": name == "generator"}


def test_illegal_settings_and_images_are_refused():
    for change, words in (
        ({"latent_dim": 0}, "latent_dim is 0"),
        ({"game": "chess"}, "game is 'chess'; legal are non-saturating, minimax"),
        ({"architecture": "rnn"}, "architecture is 'rnn'; legal are convolutional, mlp"),
        ({"r1": -1.0}, "r1 is -1.0"),
        ({"latent_dim": 2.5}, "latent_dim is 2.5; it must be an integer from 1 up"),
        ({"image_shape": (1, 32)}, "must be \\(channels, height, width\\)"),
        ({"architecture": "mlp", "channel_multipliers": (0,)}, r"channel_multipliers is \(0,\); it must be a list of"),
        ({"architecture": "mlp", "channel_multipliers": ()}, r"channel_multipliers is \(\); it must hold at least one"),
        ({"image_shape": (1, 30, 32)}, "image height is 30; it must be a multiple of 4"),
    ):
        with pytest.raises(ValueError, match=words):
            GANConfig(**{**SMALL, **change})
    task = GANConfig(**SMALL).task()
    with pytest.raises(ValueError, match=r"images are \(3, 16, 16\)"):
        task.config.check_images((3, 16, 16))
    grey_levels = torch.tensor([0.0, 255.0])[:, None, None, None].expand(2, 1, 16, 16)
    with pytest.raises(ValueError, match=r"images lie in \[0, 255\]; legal is \[-1, 1\]"):
        task.loss("discriminator", grey_levels, StepRandomness(0, 0, 2))


@pytest.mark.parametrize("architecture", ["convolutional", "mlp"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_players_that_were_cast_compute_in_that_type(architecture, dtype):
    torch.manual_seed(0)
    players = GANConfig(**SMALL, architecture=architecture).network().eval().requires_grad_(False)
    z, x = torch.randn(3, 5), images(3)
    fakes, logits, drawn = players.decode(z), players.discriminator(x), sample(players, 2)
    players.to(dtype)
    for ours, expected in ((players.decode(z), fakes), (players.discriminator(x), logits), (sample(players, 2), drawn)):
        assert ours.dtype == torch.float32
        assert (ours - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("architecture", ["convolutional", "mlp"])
def test_what_a_player_does_not_take_is_named(architecture):
    players = GANConfig(**SMALL, architecture=architecture).network()
    for call, words in (
        (lambda: players.decode(torch.randn(3, 4)), r"z has shape \(3, 4\); it must be \(batch, 5\)"),
        (lambda: players.decode(torch.randn(5)), r"z has shape \(5,\); it must be \(batch, 5\)"),
        (lambda: players.discriminator(images(3)[0]), r"x has shape \(1, 16, 16\); it must be \(batch, 1, 16, 16\)"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(TypeError, match="x is torch.int64; it must be floating point"):
        players.discriminator(images(3).long())
    assert players.decode(torch.randn(0, 5)).shape == (0, 1, 16, 16)
    assert players.discriminator(images(0)).shape == (0,)


def test_a_loss_names_what_it_cannot_take():
    task, randomness = GANConfig(**SMALL).task(), StepRandomness(0, 0, 3)
    with pytest.raises(ValueError, match="part is 'unet'; legal are discriminator, generator"):
        task.loss("unet", images(3), randomness)
    for part in task.parts:
        with pytest.raises(ValueError, match=r"images has shape \(2, 1, 16, 16\); it must be \(3, 1, 16, 16\)"):
            task.loss(part, images(2), randomness)
    with pytest.raises(ValueError, match="game is 'chess'; legal are non-saturating, minimax"):
        generator_loss(torch.zeros(1), "chess")
