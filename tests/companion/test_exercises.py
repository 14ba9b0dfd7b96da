"""The exercise of chapter 0 must know a right diffusion model from forty that are not."""

import pytest
import torch

from ddpm.companion.exercises import bumps_of_the_ring, grade_ddpm, share_on_bumps
from ddpm.oracles import GaussianMixture
from ddpm.schedule import linear

T = 1000
BETA = torch.linspace(1e-4, 0.02, T)
ALPHA_BAR = torch.cumprod(1 - BETA, dim=0)


def noised(x0, t, eps):
    left = ALPHA_BAR[t][:, None]
    return left.sqrt() * x0 + (1 - left).sqrt() * eps


def loss(network, x0):
    t, eps = torch.randint(T, (len(x0),)), torch.randn_like(x0)
    return (eps - network(noised(x0, t, eps), t)).square().mean()


def guess(network, x, t):
    return network(x, torch.full((len(x),), t))


@torch.no_grad()
def step(network, x, t):
    x = (x - BETA[t] / (1 - ALPHA_BAR[t]).sqrt() * guess(network, x, t)) / (1 - BETA[t]).sqrt()
    return x + BETA[t].sqrt() * torch.randn_like(x) if t > 0 else x


@torch.no_grad()
def posterior_step(network, x, t):
    """By way of a guess at the image, with the posterior's own variance (Ho et al. 2020, eq. 6 and 7)."""
    if t == 0:
        return (x - (1 - ALPHA_BAR[0]).sqrt() * guess(network, x, 0)) / ALPHA_BAR[0].sqrt()
    x0 = (x - (1 - ALPHA_BAR[t]).sqrt() * guess(network, x, t)) / ALPHA_BAR[t].sqrt()
    before = ALPHA_BAR[t - 1]
    mean = before.sqrt() * BETA[t] * x0 + (1 - BETA[t]).sqrt() * (1 - before) * x
    return mean / (1 - ALPHA_BAR[t]) + (BETA[t] * (1 - before) / (1 - ALPHA_BAR[t])).sqrt() * torch.randn_like(x)


def said(capsys, *parts):
    grade_ddpm(*parts)
    return capsys.readouterr().out.removeprefix("exercise, a diffusion model on an empty page: ").strip()


@pytest.mark.parametrize("right", [step, posterior_step])
def test_a_right_model_is_trained_and_draws_the_ring(right, capsys):
    before = torch.get_rng_state()
    assert said(capsys, noised, loss, right) == "right: what it was trained on is what it draws"
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_not_written_is_said_so_and_an_error_is_shown(capsys):
    def blank(*_):
        """What a reader's copy has."""
        ...

    for parts in ((blank, loss, step), (noised, blank, step), (noised, loss, blank)):
        assert said(capsys, *parts) == "not written yet"
    assert "not yet. It raises ZeroDivisionError" in said(capsys, lambda *_: 1 / 0, loss, step)


left = ALPHA_BAR
WRONG_NOISED = {
    "the variances add up to 1": lambda x, t, e: left[t][:, None] * x + (1 - left[t])[:, None] * e,
    "the image needs its square root": lambda x, t, e: left[t][:, None] * x + (1 - left[t])[:, None].sqrt() * e,
    "the noise needs its square root": lambda x, t, e: left[t][:, None].sqrt() * x + (1 - left[t])[:, None] * e,
    "have changed places": lambda x, t, e: (1 - left[t])[:, None].sqrt() * x + left[t][:, None].sqrt() * e,
    "a single step of noise": lambda x, t, e: (1 - BETA[t])[:, None].sqrt() * x + BETA[t][:, None].sqrt() * e,
    "the variance would grow": lambda x, t, e: x + (1 - left[t])[:, None].sqrt() * e,
    "One alpha_bar an image": lambda x, t, e: (left[t].sqrt() * x[:, :1] + (1 - left[t]).sqrt() * e[:, :1])[:, :1],
    "is not sqrt(alpha_bar)": lambda x, t, e: left[t][:, None].sqrt() * x + (1 - left[t][:, None].sqrt()) * e,
}


@pytest.mark.parametrize("hint", WRONG_NOISED)
def test_a_slip_in_the_noise_gets_its_hint(hint, capsys):
    answer = said(capsys, WRONG_NOISED[hint], loss, step)
    assert answer.startswith("not yet. ")
    assert hint in answer


def loss_with(*, times=None, target=None, mean=torch.mean, power=lambda x: x.square()):
    def wrong(network, x0):
        t = times(len(x0)) if times else torch.randint(T, (len(x0),))
        eps = torch.randn_like(x0)
        x_t = noised(x0, t, eps)
        return mean(power({"eps": eps, "x0": x0, "x_t": x_t}[target or "eps"] - network(x_t, t)))

    return wrong


def every_time(network, x0):
    return torch.stack([loss(network, x0) for _ in range(5)]).mean()


WRONG_LOSS = {
    "not for the noisy image": loss_with(target="x_t"),
    "compared with the image": loss_with(target="x0"),
    "that is the sum": loss_with(mean=torch.sum),
    "squared, not absolute": loss_with(power=lambda x: x.abs()),
    "it is one number": loss_with(mean=lambda x: x.mean(1)),
    "a time of its own": loss_with(times=lambda n: torch.randint(T, (1,)).expand(n)),
    "go from 0 to 99": loss_with(times=lambda n: torch.randint(100, (n,))),
    "go from 900 to 999": loss_with(times=lambda n: torch.randint(900, 1000, (n,))),
    "integers from 0 to 999": loss_with(times=lambda n: torch.randint(-T, 0, (n,))),
    "calls the network 5 times": every_time,
    "is not the mean squared error": loss_with(power=lambda x: x.square() / 2),
}


@pytest.mark.parametrize("hint", WRONG_LOSS)
def test_a_slip_in_the_loss_gets_its_hint(hint, capsys):
    answer = said(capsys, noised, WRONG_LOSS[hint], step)
    assert answer.startswith("not yet. ")
    assert hint in answer


def step_with(mean, noise=lambda t: BETA[t].sqrt(), last=0.0, told=0):
    @torch.no_grad()
    def wrong(network, x, t):
        found = mean(x, guess(network, x, t + told), t)
        return found + (noise(t) if t > 0 else last) * torch.randn_like(x)

    return wrong


def right_mean(x, eps, t):
    return (x - BETA[t] / (1 - left[t]).sqrt() * eps) / (1 - BETA[t]).sqrt()


WRONG_STEP = {
    "not added": step_with(lambda x, e, t: (x + BETA[t] / (1 - left[t]).sqrt() * e) / (1 - BETA[t]).sqrt()),
    "scaled up again": step_with(lambda x, e, t: x - BETA[t] / (1 - left[t]).sqrt() * e),
    "one step's noise": step_with(lambda x, e, t: (x - (1 - left[t]).sqrt() * e) / left[t].sqrt()),
    "the root of 1 - alpha_bar": step_with(lambda x, e, t: (x - BETA[t] / (1 - left[t]) * e) / (1 - BETA[t]).sqrt()),
    "what divides the guess": step_with(
        lambda x, e, t: (x - BETA[t] / (1 - BETA[t]).sqrt() * e) / (1 - BETA[t]).sqrt()
    ),
    "not by alpha_bar": step_with(lambda x, e, t: (x - BETA[t] / (1 - left[t]).sqrt() * e) / left[t].sqrt()),
    "is not that of Ho": step_with(lambda x, e, t: x),
    "every step but the last": step_with(right_mean, noise=lambda t: 0.0),
    "its root is what is multiplied": step_with(right_mean, noise=lambda t: BETA[t]),
    "has variance beta": step_with(right_mean, noise=lambda t: (1 - left[t]).sqrt()),
    "the last one": step_with(right_mean, last=BETA[0].sqrt()),
    "must be told the time": step_with(right_mean, told=1),
}


@pytest.mark.parametrize("hint", WRONG_STEP)
def test_a_slip_in_the_step_gets_its_hint(hint, capsys):
    answer = said(capsys, noised, loss, WRONG_STEP[hint])
    assert answer.startswith("not yet. ")
    assert hint in answer


def test_parts_that_look_right_and_do_not_draw_the_ring_are_not_right(capsys):
    """A step that is right where it is looked at closely, and does nothing at the times below."""

    def forgetful(network, x, t):
        return x if 0 < t < 300 and t != 100 else step(network, x, t)

    answer = said(capsys, noised, loss, forgetful)
    assert answer.startswith("not yet, and none of the usual slips")


def test_true_points_lie_on_the_bumps_and_noise_does_not():
    centres, std = bumps_of_the_ring()
    data = GaussianMixture([1] * 8, centres.double(), std, linear())
    share = share_on_bumps(data.sample(20_000, torch.Generator().manual_seed(0)))
    assert (share - (1 - torch.exp(torch.tensor(-(2.5**2) / 2))) / 8).abs().max() < 0.01
    assert share_on_bumps(torch.randn(20_000, 2)).sum() < 0.5
