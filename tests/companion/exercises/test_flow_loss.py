"""The exercise of the loss of flow matching must know the right one, however it is written, from those with a slip."""

import pytest
import torch

from ddpm.companion.exercises import grade_flow_loss
from ddpm.companion.exercises.flow_loss import said_of_flow_loss

SEEDS = (0, 1, 17)


def flow_loss(network, x0):
    tau, eps = torch.rand(len(x0), 1), torch.randn_like(x0)
    return (network(torch.lerp(x0, eps, tau.to(x0)), tau) - eps + x0).square().mean()


def loss(
    *,
    taus=lambda n: torch.rand(n, 1),
    noise=torch.randn_like,
    noisy=lambda x0, eps, tau: (1 - tau) * x0 + tau * eps,
    say=lambda tau: tau,
    ask=lambda network, x, tau: network(x, tau),
    target=lambda x0, eps, x_t, tau: eps - x0,
    power=torch.square,
    mean=torch.mean,
):
    def written(network, x0):
        tau, eps = taus(len(x0)), noise(x0)
        x_t = noisy(x0, eps, tau)
        return mean(power(ask(network, x_t, say(tau)) - target(x0, eps, x_t, tau)))

    return written


def in_loops(network, x0):
    """Image by image, in float32."""
    tau, eps = torch.empty(len(x0)).uniform_(), torch.randn(*x0.shape)
    x_t = torch.stack([s * e + (1 - s) * x for s, e, x in zip(tau, eps, x0.float(), strict=True)])
    u = eps - x0
    return torch.nn.functional.mse_loss(network(x_t, tau.view(-1, 1)), u)


RIGHT = {
    "in short": flow_loss,
    "in loops": in_loops,
    "stratified": loss(taus=lambda n: ((torch.arange(n) + torch.rand(n)) / n)[:, None]),
    "by keyword": loss(ask=lambda network, x, tau: network(x, tau=tau)),
    "by keywords in another order": loss(ask=lambda network, x, tau: network(tau=tau, x=x)),
    "on a grid": loss(taus=lambda n: torch.randint(1, 1001, (n, 1)) / 1000),
    "on a grid from 0": loss(taus=lambda n: torch.randint(1000, (n, 1)) / 1000),
    "in float32, on a grid from 0": lambda network, x0: loss(taus=lambda n: torch.randint(1000, (n, 1)) / 1000)(
        network, x0.float()
    ),
    "in pairs": loss(
        taus=lambda n: (lambda u: torch.cat([u, 1 - u]))(torch.rand(n // 2, 1)),
        noise=lambda x: (lambda e: torch.cat([e, -e]))(torch.randn_like(x[: len(x) // 2])),
    ),
    "per image first": loss(mean=lambda x: x.mean(dim=1).mean()),
    "with the velocity of the path": loss(target=lambda x0, eps, x_t, tau: (x_t - x0) / tau.clamp(min=1e-9)),
}


@pytest.mark.parametrize("written", RIGHT.values(), ids=list(RIGHT))
def test_a_right_loss_is_right_however_it_is_written(written):
    for seed in range(3):
        assert said_of_flow_loss(written, seed) == "right", seed


def test_the_right_loss_is_right_with_any_seed_and_leaves_torchs_alone(capsys):
    before = torch.get_rng_state()
    for seed in range(100):
        assert said_of_flow_loss(flow_loss, seed) == "right", seed
    grade_flow_loss(flow_loss, seed=3)
    assert capsys.readouterr().out == "exercise, the loss of flow matching: right\n"
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_not_written_is_said_so():
    def blank(network, x0):
        """What a reader's copy has."""
        ...

    assert said_of_flow_loss(blank, 0) == "not written yet"


def of_one_seed(network, x0):
    torch.manual_seed(0)
    return flow_loss(network, x0)


def noise_of_one_seed(x0):
    return torch.randn(x0.shape, generator=torch.Generator().manual_seed(3), dtype=x0.dtype)


def without_grad(network, x0):
    with torch.no_grad():
        return flow_loss(network, x0)


WRONG = {
    # tau
    "its tau is a tensor of shape (20000,)": loss(say=lambda tau: tau[:, 0]),
    "its tau is of type float": loss(taus=lambda n: torch.rand(()).item()),
    "a tau of its own": loss(taus=lambda n: torch.rand(1, 1).expand(n, 1)),
    "it runs from 0 to 1, where t runs to T": loss(say=lambda tau: 1000 * tau),
    "its tau goes from": loss(taus=lambda n: 2 * torch.rand(n, 1) - 1),
    "every tau from 0 to 1 is equally likely": loss(taus=lambda n: torch.rand(n, 1) / 2),
    "is equally likely": loss(taus=lambda n: torch.randn(n, 1).sigmoid()),
    "equally likely": loss(taus=lambda n: torch.rand(n, 1) ** 1.2),
    "every tau from 0 to 1": loss(taus=lambda n: 0.02 + 0.98 * torch.rand(n, 1)),
    "from 0 to 1 is equally likely": loss(taus=lambda n: 0.98 * torch.rand(n, 1)),
    "The loss: the same times or noise in every call": of_one_seed,
    "Draw anew each time": loss(noise=noise_of_one_seed),
    "noise in every call": loss(taus=lambda n: torch.linspace(0, 1, n)[:, None]),
    # what the network sees
    "in some papers it is the other way": loss(noisy=lambda x0, eps, tau: tau * x0 + (1 - tau) * eps),
    "the image is at tau = 0": loss(say=lambda tau: 1 - tau),
    "does not keep the variance": loss(noisy=lambda x0, eps, tau: (1 - tau).sqrt() * x0 + tau.sqrt() * eps),
    "signal and noise add up to 1": loss(noisy=lambda x0, eps, tau: (1 - tau**2).sqrt() * x0 + tau * eps),
    "the image shrinks by 1 - tau": loss(noisy=lambda x0, eps, tau: x0 + tau * eps),
    "the noise is multiplied by tau": loss(noisy=lambda x0, eps, tau: (1 - tau) * x0 + eps),
    "no fresh N(0, 1) for every number": loss(noise=torch.rand_like),
    "fresh N(0, 1) for every number": loss(noise=lambda x: (torch.rand_like(x) - 0.5) * 12**0.5),
    "fresh N(0, 1) for every": loss(noise=lambda x: torch.randn_like(x).sign()),
    "fresh N(0, 1) for": loss(noise=lambda x: torch.distributions.Laplace(0, 0.5**0.5).sample(x.shape)),
    "N(0, 1) for every number": loss(noise=lambda x: torch.randn(len(x), 1).expand_as(x)),
    "(0, 1) for every number": loss(noise=lambda x: torch.randn(len(x), 2)[:, [0, 1, 1]]),
    "for every number": loss(noise=lambda x: torch.randn(1, x.shape[1]).expand_as(x)),
    "must match the size": loss(noise=lambda x: torch.randn(len(x), 2)),
    "or are not of the times that the network is told": loss(say=lambda tau: tau[torch.randperm(len(tau))]),
    "its noisy images have no": loss(noisy=lambda x0, eps, tau: x0),
    # what it is asked
    "not x0 - eps": loss(target=lambda x0, eps, x_t, tau: x0 - eps),
    "compared with the noise": loss(target=lambda x0, eps, x_t, tau: eps),
    "compared with the image": loss(target=lambda x0, eps, x_t, tau: x0),
    "not for the noisy image": loss(target=lambda x0, eps, x_t, tau: x_t),
    "x_t - x0 is tau times": loss(target=lambda x0, eps, x_t, tau: x_t - x0),
    "eps - x_t is 1 - tau times": loss(target=lambda x0, eps, x_t, tau: eps - x_t),
    "the two are subtracted": loss(target=lambda x0, eps, x_t, tau: eps + x0),
    "that is v": loss(target=lambda x0, eps, x_t, tau: (1 - tau) * eps - tau * x0),
    "Is the noise drawn once": loss(target=lambda x0, eps, x_t, tau: torch.randn_like(eps) - x0),
    "that is the sum. Its mean": loss(mean=torch.sum),
    "the sum over an image's numbers": loss(mean=lambda x: x.sum(1).mean()),
    "squared, not absolute": loss(power=torch.abs),
    "without a root": loss(mean=lambda x: x.mean().sqrt()),
    "square first": loss(power=lambda x: x, mean=lambda x: x.mean().square()),
    "it is not the mean squared error": loss(power=lambda x: x.square() / 2),
    # the loss as such
    "a tensor of shape (20000, 3) in float64; it is one number": loss(mean=lambda x: x),
    "of type float; it is one number": loss(mean=lambda x: x.mean().item()),
    "The loss returns nothing": loss(mean=lambda x: None),
    "has no gradient": without_grad,
    "changes the images": loss(noisy=lambda x0, eps, tau: x0.mul_(1 - tau).add_(tau * eps)),
    "calls the network 2 times": lambda network, x0: flow_loss(network, x0) + flow_loss(network, x0),
    "takes (x, tau): missing a required argument: 'tau'": loss(ask=lambda network, x, tau: network(x)),
    "got an unexpected keyword argument 't'": loss(ask=lambda network, x, tau: network(x, tau, t=tau)),
    "make no new tensor of its value": loss(mean=lambda x: torch.tensor(x.mean().item(), requires_grad=True)),
    "raises ZeroDivisionError": loss(mean=lambda x: 1 / 0),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("hint", WRONG)
def test_a_slip_gets_its_hint(hint, seed):
    said = said_of_flow_loss(WRONG[hint], seed)
    assert said.startswith("not yet. ")
    assert hint in said
