import math

import pytest
import torch

from ddpm.autoencoder import (
    Autoencoder,
    AutoencoderConfig,
    VariationalAutoencoder,
    divergence,
    logistic_log_likelihood,
)
from ddpm.data import load, normalise
from ddpm.noise import StepRandomness
from ddpm.sampling import sample

SMALL = {"base_channels": 8, "channel_multipliers": (1, 2), "latent_dim": 5, "image_shape": (1, 16, 16)}


def images(n):
    return normalise(load("fashion-mnist-embedded", "test", quiet=True).images[:n, :, 8:24, 8:24])


@pytest.mark.parametrize("loss", ["mse", "bce", "logistic"])
@pytest.mark.parametrize("variational", [False, True])
def test_a_code_of_its_size_and_an_image_back(variational, loss):
    model = AutoencoderConfig(**SMALL, variational=variational, loss=loss).network()
    codes = model.encode(images(3))
    assert codes.shape == (3, 5)
    back = model.decode(codes)
    assert back.shape == (3, 1, 16, 16)
    assert loss != "bce" or back.abs().max() < 1


def test_the_divergence_is_torchs_own():
    mean, log_variance = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0)).unbind(0)
    ours = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    theirs = torch.distributions.kl_divergence(ours, torch.distributions.Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(divergence(mean, log_variance), theirs, atol=1e-6)


def test_the_bound_holds_its_two_terms_and_forward_is_their_sum():
    """Against torch's distributions: -log N(x; decode(z), sigma^2), and the divergence."""
    model = AutoencoderConfig(**SMALL, variational=True).network().eval()
    model.log_sigma.fill_(-0.7)
    x, noise = images(3), torch.randn(3, 5)
    mean, log_variance = model.posterior(x)
    likelihood = torch.distributions.Normal(
        model.decode(mean + torch.exp(log_variance / 2) * noise), math.exp(-0.7)
    ).log_prob(x)
    reconstruction, kl = model.bound(x, noise)
    assert torch.allclose(reconstruction, -likelihood.flatten(1).sum(1), rtol=1e-5)
    assert torch.equal(kl, divergence(mean, log_variance))
    assert torch.equal(model(x, noise), reconstruction + kl)


def test_in_training_sigma_is_the_best_there_is_and_its_running_mean_is_kept():
    torch.manual_seed(0)
    model = AutoencoderConfig(**SMALL, variational=True).network()
    x, noise = images(8), torch.zeros(8, 5)
    before = model.log_sigma.item()
    best = model.bound(x, noise)[0].mean().item()
    root = (model.decode(model.encode(x)) - x).square().mean().log().item() / 2
    assert model.log_sigma.item() == pytest.approx(0.98 * before + 0.02 * root)
    model.eval()
    for log_sigma in (root - 0.1, root, root + 0.1):
        model.log_sigma.fill_(log_sigma)
        assert model.bound(x, noise)[0].mean().item() >= best - 1e-3


def test_both_losses_of_a_grey_level_are_least_at_the_mean():
    """Of a pixel that is white in three images of four, for a decoder that cannot tell them apart."""
    x = torch.tensor([1.0, 1.0, 1.0, -1.0])[:, None, None, None].expand(4, 1, 16, 16)
    for loss in ("mse", "bce"):
        model = AutoencoderConfig(**SMALL, loss=loss).network()
        answer = torch.zeros((), requires_grad=True)
        model.decoder.forward = lambda z, answer=answer: answer.expand(4, 1, 16, 16)
        optimiser = torch.optim.LBFGS([answer], max_iter=50, line_search_fn="strong_wolfe")

        def closure(model=model, optimiser=optimiser):
            optimiser.zero_grad()
            error = model.errors(x, torch.zeros(4, 5)).mean()
            error.backward()
            return error

        optimiser.step(closure)
        assert model.decode(torch.zeros(4, 5)).mean().item() == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("log_scale", [-9.0, -7.0, -3.0, 0.0, 4.0])
@pytest.mark.parametrize("mean", [-1.5, -1.0, -0.3, 0.998, 40.0])
def test_the_logistic_likelihood_is_a_probability_of_256_levels(mean, log_scale):
    """It is that of the logistic density, whose scale is at least exp(-7), and its gradient is finite everywhere."""
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    place, size = (torch.full_like(levels, value).requires_grad_() for value in (mean, log_scale))
    log_likelihood = logistic_log_likelihood(levels, place, size)
    assert log_likelihood.exp().sum().item() == pytest.approx(1, abs=1e-9)
    edges = torch.cat([torch.tensor([-math.inf]), (levels[1:] + levels[:-1]) / 2, torch.tensor([math.inf])])
    mass = ((edges - mean) / math.exp(max(-7, log_scale))).sigmoid().diff()
    assert torch.allclose(log_likelihood.exp(), mass, atol=1e-12)
    log_likelihood.sum().backward()
    assert place.grad.isfinite().all()
    assert size.grad.isfinite().all()
    in_float32 = logistic_log_likelihood(levels.float(), place.detach().float(), size.detach().float())
    assert torch.allclose(in_float32.double(), log_likelihood, rtol=1e-3, atol=1e-3)


def test_a_logistic_decoder_gives_each_value_a_mean_and_a_scale():
    model = AutoencoderConfig(**SMALL, variational=True, loss="logistic").network().eval()
    x, noise = images(3), torch.randn(3, 5)
    mean, log_variance = model.posterior(x)
    z = mean + torch.exp(log_variance / 2) * noise
    places, log_scales = model.decoder(z).chunk(2, dim=1)
    assert torch.equal(model.decode(z), places)
    expected = -logistic_log_likelihood(x, places, log_scales).flatten(1).sum(1)
    assert torch.equal(model.bound(x, noise)[0], expected)
    assert torch.equal(model.errors(x, z), expected)


def test_beta_weighs_the_divergence():
    torch.manual_seed(0)
    model = AutoencoderConfig(**SMALL, variational=True, beta=3.0).network().eval()
    x, noise = images(3), torch.randn(3, 5)
    reconstruction, kl = model.bound(x, noise)
    assert torch.equal(model(x, noise), reconstruction + 3 * kl)


def test_the_loss_of_a_step_is_a_function_of_seed_step_and_row():
    task = AutoencoderConfig(**SMALL, variational=True).task()
    first, again, other = (task.loss("autoencoder", images(4), StepRandomness(0, step, 4)) for step in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("n", [1, 5])
def test_the_loss_of_a_step_is_a_mean_over_images_and_their_values(n):
    """As torch's own losses are."""
    for loss, theirs in (
        ("mse", torch.nn.functional.mse_loss),
        ("bce", lambda back, x: torch.nn.functional.binary_cross_entropy((back + 1) / 2, (x + 1) / 2)),
    ):
        task, x = AutoencoderConfig(**SMALL, loss=loss).task(), images(n)
        model = task.parts["autoencoder"]
        ours = task.loss("autoencoder", x, StepRandomness(0, 0, n))
        assert ours.item() == pytest.approx(theirs(model.decode(model.encode(x)), x).item(), rel=1e-4)


def test_illegal_settings_and_images_are_refused():
    for change, words in (
        ({"latent_dim": 0}, "latent_dim is 0"),
        ({"image_shape": 32}, "image_shape is 32; it must be"),
        ({"loss": "l1"}, "loss is 'l1'; legal are mse, bce, logistic"),
        ({"variational": True, "beta": -1.0}, "beta is -1.0; it must be a finite number at least 0"),
        ({"beta": 2.0}, "beta is 2.0; only a variational autoencoder has a divergence to weigh"),
        ({"image_shape": (1, 30, 32)}, "image height is 30; it must be a multiple of 4"),
        ({"channel_multipliers": 4}, "channel_multipliers is 4; it must be a list of integers from 1 up"),
    ):
        with pytest.raises(ValueError, match=words):
            AutoencoderConfig(**{**SMALL, **change})
    task = AutoencoderConfig(**SMALL).task()
    with pytest.raises(ValueError, match=r"images are \(3, 16, 16\)"):
        task.config.check_images((3, 16, 16))
    grey_levels = torch.tensor([0.0, 255.0])[:, None, None, None].expand(2, 1, 16, 16)
    with pytest.raises(ValueError, match=r"images lie in \[0, 255\]; legal is \[-1, 1\]"):
        task.loss("autoencoder", grey_levels, StepRandomness(0, 0, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_model_that_was_cast_computes_in_that_type(dtype):
    torch.manual_seed(0)
    model = AutoencoderConfig(**SMALL, variational=True).network().eval().requires_grad_(False)
    x, z = images(3), torch.randn(3, 5)
    code, image, drawn = model.encode(x), model.decode(z), sample(model, 2)
    model.to(dtype)
    for ours, expected in ((model.encode(x), code), (model.decode(z), image), (sample(model, 2), drawn)):
        assert (ours.float() - expected).norm() < 0.05 * expected.norm()


def test_what_a_model_does_not_take_is_named():
    model = AutoencoderConfig(**SMALL, variational=True).network().eval()
    x, z = images(3), torch.randn(3, 5)
    for call, words in (
        (lambda: model.encode(x[0]), r"x has shape \(1, 16, 16\); it must be \(batch, 1, 16, 16\)"),
        (lambda: model.encode(x.expand(3, 3, 16, 16)), r"x has shape \(3, 3, 16, 16\)"),
        (lambda: model.decode(z[0]), r"z has shape \(5,\); it must be \(batch, 5\)"),
        (lambda: model.decode(z[:, :4]), r"z has shape \(3, 4\); it must be \(batch, 5\)"),
        (lambda: model.errors(x, z[:2]), r"z has shape \(2, 5\); it must be \(3, 5\)"),
        (lambda: model.errors(x[:, :, :8], z), r"x has shape \(3, 1, 8, 16\)"),
        (lambda: model.bound(x, z[0]), r"noise has shape \(5,\); it must be \(3, 5\)"),  # one noise for all
        (lambda: divergence(z, z[0]), r"mean has shape \(3, 5\); it must be \(5\)"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    for call in (lambda: model.encode(x.long()), lambda: model.errors(x.long(), z)):
        with pytest.raises(TypeError, match="x is torch.int64; it must be floating point"):
            call()
    assert model.encode(x[:0]).shape == (0, 5)
    assert model.decode(z[:0]).shape == (0, 1, 16, 16)


def test_a_loss_names_what_it_cannot_take():
    task = AutoencoderConfig(**SMALL).task()
    randomness = StepRandomness(0, 0, 3)
    with pytest.raises(ValueError, match="part is 'unet'; legal are autoencoder"):
        task.loss("unet", images(3), randomness)
    with pytest.raises(ValueError, match=r"images has shape \(2, 1, 16, 16\); it must be \(3, 1, 16, 16\)"):
        task.loss("autoencoder", images(2), randomness)


@pytest.mark.parametrize(("kind", "variational"), [(Autoencoder, True), (VariationalAutoencoder, False)])
def test_an_autoencoder_of_the_other_kind_is_refused(kind, variational):
    with pytest.raises(ValueError, match=f"^variational is {variational}; {kind.__name__} is the other kind$"):
        kind(AutoencoderConfig(variational=variational))
