"""The exercise of chapter 0 must know a right diffusion model from forty that are not."""

import pytest
import torch

from ddpm.companion.exercises import bumps_of_the_ring, from_nothing, grade_ddpm, share_on_bumps
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


@torch.no_grad()
def step_in_place(network, x, t):
    x -= BETA[t] / (1 - ALPHA_BAR[t]).sqrt() * guess(network, x, t)
    x /= (1 - BETA[t]).sqrt()
    return x + BETA[t].sqrt() * torch.randn_like(x) if t > 0 else x


def said(capsys, *parts):
    grade_ddpm(*parts)
    return capsys.readouterr().out.removeprefix("exercise, the three parts of a diffusion model: ").strip()


@pytest.mark.long
@pytest.mark.parametrize("right", [step, posterior_step, step_in_place])
def test_a_right_model_is_trained_and_draws_the_ring(right, capsys):
    before = torch.get_rng_state()
    assert said(capsys, noised, loss, right) == "right: what it was trained on is what it draws"
    assert torch.equal(torch.get_rng_state(), before)


def test_a_right_loss_is_right_with_any_seed_and_by_keywords_in_any_order():
    def by_keywords(network, x0):
        return loss(lambda x, t: network(t=t, x=x), x0)

    for seed in range(20):
        torch.manual_seed(seed)
        for right in (loss, by_keywords):
            assert list(from_nothing._faults_of_loss(right)) == []


def test_what_is_not_written_is_said_so_and_an_error_is_shown(capsys):
    def blank(*_):
        """What a reader's copy has."""
        ...

    for parts in ((blank, loss, step), (noised, blank, step), (noised, loss, blank)):
        assert said(capsys, *parts) == "not written yet"
    assert said(capsys, blank, loss_by(blank), step) == "not written yet"
    assert "not yet. It raises ZeroDivisionError" in said(capsys, lambda *_: 1 / 0, loss, step)
    silent = said(capsys, noised, lambda network, x0: print(end=""), step)
    assert silent == "not yet. loss returns nothing: is there a `return` on every way through it?"

    def without_return(x0, t, eps):
        noised(x0, t, eps)

    assert said(capsys, without_return, loss_by(without_return), step).startswith("not yet. noised returns nothing")


def loss_by(noised):
    """The loss of a student who calls their own `noised`."""
    return lambda network, x0: network(noised(x0, torch.arange(len(x0)), x0), torch.arange(len(x0))).square().mean()


left = ALPHA_BAR
WRONG_NOISED = {
    "the variances add up to 1": lambda x, t, e: left[t][:, None] * x + (1 - left[t])[:, None] * e,
    "the image needs its square root": lambda x, t, e: left[t][:, None] * x + (1 - left[t])[:, None].sqrt() * e,
    "the noise needs its square root": lambda x, t, e: left[t][:, None].sqrt() * x + (1 - left[t])[:, None] * e,
    "have changed places": lambda x, t, e: (1 - left[t])[:, None].sqrt() * x + left[t][:, None].sqrt() * e,
    "a single step of noise": lambda x, t, e: (1 - BETA[t])[:, None].sqrt() * x + BETA[t][:, None].sqrt() * e,
    "the variance would grow": lambda x, t, e: x + (1 - left[t])[:, None].sqrt() * e,
    "One alpha_bar an image": lambda x, t, e: (left[t].sqrt() * x[:, :1] + (1 - left[t]).sqrt() * e[:, :1])[:, :1],
    "not of the step before": lambda x, t, e: noised(x, t - 1, e),
    "is not sqrt(alpha_bar)": lambda x, t, e: left[t][:, None].sqrt() * x + (1 - left[t][:, None].sqrt()) * e,
}


@pytest.mark.parametrize("hint", WRONG_NOISED)
def test_a_slip_in_the_noise_gets_its_hint(hint, capsys):
    answer = said(capsys, WRONG_NOISED[hint], loss, step)
    assert answer.startswith("not yet. ")
    assert hint in answer


def loss_with(
    *, times=None, target=None, mean=torch.mean, power=lambda x: x.square(), noise=torch.randn_like, make=noised
):
    def wrong(network, x0):
        t = times(len(x0)) if times else torch.randint(T, (len(x0),))
        eps = noise(x0)
        x_t = make(x0, t, eps)
        return mean(power({"eps": eps, "x0": x0, "x_t": x_t}[target or "eps"] - network(x_t, t)))

    return wrong


def of_one_seed(network, x0):
    torch.manual_seed(0)
    return loss(network, x0)


def noise_by_the_time(network, x0):
    """Too much at the early times, too little at the late ones, and right on average."""
    t = torch.randint(T, (len(x0),))
    eps = torch.randn_like(x0) * torch.where(t < 500, 1.2, 0.8).sqrt()[:, None]
    return (eps - network(noised(x0, t, eps), t)).square().mean()


def noise_drawn_twice(network, x0):
    t = torch.randint(T, (len(x0),))
    return (torch.randn_like(x0) - network(noised(x0, t, torch.randn_like(x0)), t)).square().mean()


def every_time(network, x0):
    return torch.stack([loss(network, x0) for _ in range(5)]).mean()


WRONG_LOSS = {
    "not for the noisy image": loss_with(target="x_t"),
    "compared with the image": loss_with(target="x0"),
    "that is the sum": loss_with(mean=torch.sum),
    "squared, not absolute": loss_with(power=lambda x: x.abs()),
    "a tensor of shape (20000,) in float32; it is one number": loss_with(mean=lambda x: x.mean(1)),
    "of type float; it is one number": loss_with(mean=lambda x: x.mean().item()),
    "over an image's numbers": loss_with(mean=lambda x: x.sum(1).mean()),
    "without a root": loss_with(mean=lambda x: x.mean().sqrt()),
    "square first": loss_with(mean=lambda x: x.mean().square(), power=lambda x: x),
    "go from 1 to 999": loss_with(times=lambda n: torch.randint(1, T, (n,))),
    "go from 0 to 998": loss_with(times=lambda n: torch.randint(T - 1, (n,))),
    "equally likely": loss_with(times=lambda n: (T * torch.rand(n) ** 1.2).long()),
    "every time is equally likely": loss_with(
        times=lambda n: (T * torch.distributions.Beta(0.5, 0.5).sample((n,))).long().clamp(max=T - 1)
    ),
    "the same times or noise in every call": of_one_seed,
    "no fresh N(0, 1) for every number": loss_with(noise=lambda x: torch.randn(len(x), 1).expand(-1, 2)),
    "fresh N(0, 1) for every number": loss_with(noise=torch.rand_like),
    "N(0, 1) for every number": loss_with(noise=lambda x: (torch.rand_like(x) - 0.5) * 12**0.5),
    "its noisy images have no": noise_by_the_time,
    "its noisy images": loss_with(noise=lambda x: torch.randn(1, 2).expand(len(x), 2)),
    "or are not of the times that the network is told": loss_with(
        make=lambda x, t, e: x + (1 - ALPHA_BAR[t])[:, None].sqrt() * e
    ),
    "a time of its own": loss_with(times=lambda n: torch.randint(T, (1,)).expand(n)),
    "go from 0 to 99": loss_with(times=lambda n: torch.randint(100, (n,))),
    "go from 900 to 999": loss_with(times=lambda n: torch.randint(900, 1000, (n,))),
    "a tensor of shape (20000,) in float32; they are integers from 0 to 999": loss_with(
        times=lambda n: torch.randint(T, (n,)).float(), make=lambda x, t, e: noised(x, t.long(), e)
    ),
    "calls the network 5 times": every_time,
    "Is the noise drawn once": noise_drawn_twice,
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
    "all of it is scaled up": step_with(lambda x, e, t: x / (1 - BETA[t]).sqrt() - BETA[t] / (1 - left[t]).sqrt() * e),
    "at t = 999 it is not equation 2": step_with(lambda x, e, t: x),
    "at t = 1 it is not equation 2": step_with(
        lambda x, e, t: (
            (x - BETA[t] / (1 - left[t - 1]).sqrt() * e) / (1 - BETA[t]).sqrt() if t < 50 else right_mean(x, e, t)
        )
    ),
    "Are its numbers those of t?": step_with(
        lambda x, e, t: right_mean(x, e, t - 1), noise=lambda t: BETA[t - 1].sqrt()
    ),
    "at t = 1 none was found": step_with(right_mean, noise=lambda t: BETA[t].sqrt() if t > 1 else 0.0),
    "(at t = 1 it has not)": step_with(right_mean, noise=lambda t: BETA[t - 1].sqrt() * (1 - 0.5 * (t == 1))),
    "every step but the last": step_with(right_mean, noise=lambda t: 0.0),
    "multiply by its root": step_with(right_mean, noise=lambda t: BETA[t]),
    "has variance beta": step_with(right_mean, noise=lambda t: (1 - left[t]).sqrt()),
    "the last one": step_with(right_mean, last=BETA[0].sqrt()),
    "must be told the time": step_with(right_mean, told=1),
    "of type int": lambda network, x, t: right_mean(x, network(x, t), t),
}


@pytest.mark.parametrize("hint", WRONG_STEP)
def test_a_slip_in_the_step_gets_its_hint(hint, capsys):
    answer = said(capsys, noised, loss, WRONG_STEP[hint])
    assert answer.startswith("not yet. ")
    assert hint in answer


@pytest.mark.long
def test_a_right_step_is_right_whatever_is_drawn(capsys):
    for right in (step, posterior_step):
        for seed in range(20):
            torch.manual_seed(seed)
            assert list(from_nothing._faults_of_step(right)) == []


@pytest.mark.long
def test_parts_that_look_right_and_do_not_draw_the_ring_are_not_right(capsys):
    """A step that is right where it is looked at closely, and does nothing at the times below."""

    def forgetful(network, x, t):
        return x if 1 < t < 300 and t != 100 else step(network, x, t)

    answer = said(capsys, noised, loss, forgetful)
    assert answer.startswith("not yet, and none of the usual slips")


def test_true_points_lie_on_the_bumps_and_noise_does_not():
    centres, std = bumps_of_the_ring()
    data = GaussianMixture([1] * 8, centres.double(), std, linear())
    share = share_on_bumps(data.sample(20_000, torch.Generator().manual_seed(0)))
    assert (share - (1 - torch.exp(torch.tensor(-(2.5**2) / 2))) / 8).abs().max() < 0.01
    assert share_on_bumps(torch.randn(20_000, 2)).sum() < 0.5
