from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from ddpm.diffusion import Diffusion, DiffusionConfig, bound_weights, min_snr_weights, time_probabilities
from ddpm.noise import StepRandomness
from ddpm.schedule import SCHEDULES, cosine, linear
from ddpm.settings import TARGETS
from ddpm.unet import UNetConfig
from tests.networks import SMALL_UNET

MODEL = DiffusionConfig(SMALL_UNET)
LOGNORMAL = replace(MODEL, times="lognormal")


def images(n):
    return 2 * torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0)) - 1


def task_of(config, answer):
    """The task of a configuration whose network answers `answer(x, t)`; t as the network gets it."""

    class Network(torch.nn.Module):
        def forward(self, x, t):
            return answer(x, t)

    task = Diffusion(config)
    task.parts["unet"] = Network()
    return task


# The loss.


def test_a_network_that_answers_nothing_has_the_mean_square_of_the_noise_as_loss():
    randomness = StepRandomness(0, 0, 16)
    randomness.stratified()  # the times come first
    eps = randomness.normal(1, 4, 4)
    loss = task_of(MODEL, lambda x, t: torch.zeros_like(x)).loss("unet", images(16), StepRandomness(0, 0, 16))
    assert loss.item() == pytest.approx(eps.square().mean().item(), rel=1e-6)


def test_the_network_sees_the_image_noised_in_one_shot():
    """Ho et al. 2020, eq. 4: the same noise takes it back to the image."""
    schedule, seen = linear(), {}
    task_of(MODEL, lambda x, t: seen.update(x=x, t=t + 1) or x).loss("unet", images(16), StepRandomness(0, 0, 16))
    randomness = StepRandomness(0, 0, 16)
    randomness.stratified()
    eps = randomness.normal(1, 4, 4)
    x0 = (seen["x"] - schedule.noise(seen["t"]) * eps) / schedule.signal(seen["t"])
    assert torch.allclose(x0, images(16), atol=1e-3)  # divided by a signal of 0.006 at the last time


@pytest.mark.parametrize(
    ("weighting", "target"),
    [(weighting, target) for weighting in ("simple", "bound") for target in TARGETS]
    + [("min_snr", target) for target in ("eps", "x0", "v")],
)
def test_a_perfect_network_has_no_loss(target, weighting):
    name = "straight" if target == "flow" else "linear"
    x0, schedule = images(16), SCHEDULES[name]()

    def perfect(x, t):
        signal, noise = schedule.signal(t + 1), schedule.noise(t + 1)
        eps = (x - signal * x0) / noise
        return {"eps": eps, "x0": x0, "v": signal * eps - noise * x0, "flow": eps - x0}[target]

    task = task_of(replace(MODEL, schedule=name, target=target, weighting=weighting), perfect)
    assert task.loss("unet", x0, StepRandomness(0, 0, 16)) < 1e-6


def test_images_that_a_network_made_in_bfloat16_have_the_loss_of_the_same_in_float32():
    """As an encoder makes them in a loss of one's own, under autocast."""
    task, rounded = task_of(replace(MODEL, target="v"), lambda x, t: x / 2), images(16).bfloat16()
    of_both = [task.loss("unet", each, StepRandomness(0, 0, 16)) for each in (rounded, rounded.float())]
    assert of_both[0].dtype == torch.float32
    assert torch.equal(*of_both)


def test_processes_that_share_a_batch_have_its_loss_as_their_mean():
    task = task_of(MODEL, lambda x, t: x.tanh())
    whole = task.loss("unet", images(8), StepRandomness(0, 5, 8))
    halves = [task.loss("unet", images(8)[i : i + 4], StepRandomness(0, 5, 8, i, 4)) for i in (0, 4)]
    assert sum(halves).item() / 2 == pytest.approx(whole.item(), rel=1e-6)


def test_a_new_network_has_a_loss_of_one():
    """It answers zero, and eps has variance 1."""
    loss = MODEL.task().loss("unet", images(64).tile(1, 1, 8, 8), StepRandomness(0, 0, 64))
    assert loss.item() == pytest.approx(1, abs=0.02)


# The times.


def test_times_are_integers_from_1_to_T():
    seen = []
    task = task_of(MODEL, lambda x, t: seen.append(t) or x)
    for step in range(200):
        task.loss("unet", torch.zeros(64, 1, 4, 4), StepRandomness(0, step, 64))
    times = 1 + torch.cat(seen)  # the network is called with diffusers' index, t - 1
    assert torch.equal(times, times.round())
    assert (times.min(), times.max()) == (1, 1000)
    assert times.double().mean().item() == pytest.approx(500.5, abs=1)


def test_uniform_times_are_equally_probable():
    assert torch.allclose(time_probabilities(MODEL), torch.full((1000,), 1e-3, dtype=torch.float64), rtol=1e-12)


def test_lognormal_times_make_log_sigma_normal():
    """Quantiles of the drawn times' log sigma against those of N(-0.9, 1.2^2)."""
    schedule, seen = linear(), []
    task = task_of(LOGNORMAL, lambda x, t: seen.append(t) or x)
    task.loss("unet", torch.zeros(20_000, 1, 1, 1), StepRandomness(0, 0, 20_000))
    t = 1 + seen[0]
    assert t.min() >= 1
    assert t.max() <= 1000
    log_sigma = torch.tensor([schedule.sigma(k) for k in t.tolist()]).log()
    assert log_sigma.median() == pytest.approx(-0.9, abs=0.01)
    assert torch.quantile(log_sigma, 0.8413) == pytest.approx(-0.9 + 1.2, abs=0.02)
    assert torch.quantile(log_sigma, 0.1587) == pytest.approx(-0.9 - 1.2, abs=0.04)


def test_on_the_straight_path_lognormal_times_are_logit_normal():
    """Esser et al. (2024), eq. 19 with m = 0 and s = 1: the quantiles of t / T under it."""
    settings = {"schedule": "straight", "target": "flow", "log_sigma_mean": 0.0, "log_sigma_std": 1.0}
    probabilities = time_probabilities(replace(LOGNORMAL, **settings))
    halfway = (torch.arange(1, 1000) + 0.5) / 1000
    expected = torch.special.ndtr(torch.logit(halfway, eps=0).double())
    assert torch.allclose(probabilities.cumsum(0)[:-1], expected, atol=1e-5)


def test_lognormal_times_are_all_possible_and_seldom_where_sampling_begins():
    probabilities = time_probabilities(LOGNORMAL)
    assert probabilities.min() > 0
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    assert probabilities[900:].sum() < 2e-5  # a tenth of all times


def test_a_share_of_the_times_is_uniform():
    mixed = time_probabilities(replace(LOGNORMAL, uniform_share=0.1))
    expected = 0.9 * time_probabilities(LOGNORMAL) + 0.1 * time_probabilities(MODEL)
    assert torch.allclose(mixed, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"times": "normal"}, "times is 'normal'; legal are uniform, lognormal"),
        ({"times": "lognormal", "weighting": "bound"}, "the bound is a mean over uniform times"),
        ({"log_sigma_std": 0}, "log_sigma_std is 0; it must be a finite number above 0"),
        ({"uniform_share": 1.5}, "uniform_share is 1.5; it must be a finite number at least 0 and at most 1"),
    ],
)
def test_illegal_times_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        replace(MODEL, **settings)


# The weights of the bound, and those that are cut off.


@pytest.mark.parametrize(
    ("weighting", "name", "targets"),
    [
        ("bound", "linear", ("eps", "x0", "v")),
        ("bound", "straight", ("x0", "flow")),
        ("min_snr", "linear", ("eps", "x0", "v")),
    ],
)
def test_a_weighted_loss_does_not_depend_on_the_target(weighting, name, targets):
    """Networks that see the same clean image, each in the words of its target."""
    schedule, x0 = SCHEDULES[name](), images(16)
    losses = {}
    for target in targets:

        def answer(x, t, target=target):
            signal, noise = schedule.signal(t + 1), schedule.noise(t + 1)
            guess = 0.7 * x0
            eps = (x - signal * guess) / noise
            return {"eps": eps, "x0": guess, "v": signal * eps - noise * guess, "flow": eps - guess}[target]

        task = task_of(replace(MODEL, schedule=name, target=target, weighting=weighting), answer)
        losses[target] = task.loss("unet", x0, StepRandomness(0, 0, 16)).item()
    assert losses == pytest.approx(dict.fromkeys(targets, losses["x0"]), rel=1e-4)


def test_the_weights_of_x0_are_the_falls_of_the_signal_to_noise_ratio():
    """Kingma et al. 2021, eq. 14: T (SNR(t - 1) - SNR(t)) / 2."""
    schedule = cosine(50)
    weights = bound_weights(schedule, "x0")
    snr = [1 / schedule.sigma(t) ** 2 for t in range(1, 51)]
    falls = [50 * (before - after) / 2 for before, after in pairwise(snr)]
    assert weights[2:].tolist() == pytest.approx(falls, rel=1e-9)
    assert weights[1].item() == pytest.approx(50 / (2 * schedule.noise(1) ** 2))
    assert len(weights) == 51


@pytest.mark.parametrize("gamma", [1.0, 5.0])
@pytest.mark.parametrize("target", ["eps", "x0", "v"])
def test_min_snr_weights_are_those_of_diffusers_training_scripts(target, gamma):
    """Its `compute_snr`, and what its scripts make of it: min(SNR, gamma) over SNR for eps, over SNR + 1 for v."""
    theirs = compute_snr(DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02), torch.arange(1000)).double()
    expected = theirs.clamp(max=gamma) / {"eps": theirs, "x0": torch.ones(1000), "v": theirs + 1}[target]
    weights = min_snr_weights(linear(), target, gamma)[1:]
    assert torch.allclose(weights, expected, rtol=1e-3)
    config = replace(MODEL, target=target, weighting="min_snr", snr_gamma=gamma)
    assert torch.equal(Diffusion(config).loss_weights[1:], weights)


def test_a_gamma_above_every_signal_to_noise_ratio_leaves_the_loss_of_eps_as_it_is():
    assert torch.allclose(min_snr_weights(linear(), "eps", 1e9)[1:], torch.ones(1000, dtype=torch.float64), rtol=1e-9)


@pytest.mark.parametrize(("name", "target"), [("linear_zero_snr", "v"), ("straight", "flow")])
def test_weights_that_would_teach_nothing_at_T_are_refused(name, target):
    with pytest.raises(ValueError, match=f"weighting is 'min_snr', which is 0 at T; schedule '{name}' has no signal"):
        DiffusionConfig(schedule=name, target=target, weighting="min_snr")


# The configuration.


def test_a_unet_comes_from_json_as_a_dictionary():
    assert DiffusionConfig(unet={"base_channels": 8, "head_channels": 8}).unet == UNetConfig(
        base_channels=8, head_channels=8
    )


def test_a_T_that_the_schedule_cannot_have_is_refused_at_once():
    with pytest.raises(ValueError, match="T is 20; the linear schedule needs T of at least 21"):
        DiffusionConfig(T=20)
    assert DiffusionConfig(T=20, schedule="cosine").noise_schedule() == cosine(20)


def test_the_denoiser_has_what_the_configuration_says():
    denoiser = replace(MODEL, target="v", schedule="cosine", T=100).denoiser("float32", (1, 8, 8))
    assert (denoiser.target, denoiser.precision, denoiser.image_shape) == ("v", "float32", (1, 8, 8))
    assert denoiser.schedule == cosine(100)
    assert denoiser(torch.zeros(2, 1, 8, 8), 50).x0.shape == (2, 1, 8, 8)


def test_the_network_lies_in_memory_channels_last():
    weight = MODEL.network().down[0].blocks[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 30, 32), "image height is 30; it must be a multiple of 4, such as 28 or 32"),
        ((1, 32, 30), "image width is 30; it must be a multiple of 4, such as 28 or 32"),
        ((3, 32, 32), "channels is 1; the images have 3"),
    ],
)
def test_images_that_the_network_does_not_take_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        MODEL.check_images(shape)


def test_images_that_the_network_takes_are_not_refused():
    MODEL.check_images((1, 32, 64))


@pytest.mark.parametrize("shape", [(1, 8), (1, 8, 8, 8), (1, 8.0, 8), (1, 0, 8), "abc"])
def test_what_is_no_shape_of_an_image_is_refused(shape):
    with pytest.raises(ValueError, match="shape is .*; it must be"):
        MODEL.check_images(shape)


def test_a_loss_names_what_it_cannot_take():
    task = MODEL.task()
    with pytest.raises(ValueError, match="part is 'gan'; legal are unet"):
        task.loss("gan", images(3), StepRandomness(0, 0, 3))
    with pytest.raises(ValueError, match=r"images has shape \(2, 1, 4, 4\); it must be \(3, ...\)$"):
        task.loss("unet", images(2), StepRandomness(0, 0, 3))
    with pytest.raises(TypeError, match="images is torch.int64; it must be floating point"):
        task.loss("unet", images(3).long(), StepRandomness(0, 0, 3))


@pytest.mark.parametrize("weighting", ["simple", "min_snr", "bound"])
def test_a_network_that_answers_in_another_shape_is_refused(weighting):
    """Its answer would be spread over the channels, and trained so."""
    task, colours = task_of(replace(MODEL, weighting=weighting), lambda x, t: x[:, :1]), images(6).view(2, 3, 4, 4)
    message = r"^network answers \(2, 1, 4, 4\) at x of shape \(2, 3, 4, 4\); they must be alike$"
    with pytest.raises(ValueError, match=message):
        task.loss("unet", colours, StepRandomness(0, 0, 2))


def test_a_network_that_answers_no_tensor_is_refused():
    task = task_of(MODEL, lambda x, t: SimpleNamespace(sample=x))
    with pytest.raises(TypeError, match="^network answers SimpleNamespace; it must be a tensor like x, such as its .s"):
        task.loss("unet", images(2), StepRandomness(0, 0, 2))


def test_weights_and_times_are_those_of_a_schedule_and_a_configuration():
    with pytest.raises(ValueError, match="target is 'epsilon'; legal are eps, x0, v"):
        bound_weights(linear(), "epsilon")
    with pytest.raises(TypeError, match="schedule is str; it must be a ddpm.schedule.table.NoiseSchedule"):
        bound_weights("linear", "eps")
    with pytest.raises(TypeError, match="config is NoneType; it must be a ddpm.diffusion.DiffusionConfig"):
        time_probabilities(None)
