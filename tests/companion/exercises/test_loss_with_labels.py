"""The exercise of a loss with labels must know the right one, however it is written, from those with a slip."""

import pytest
import torch

from ddpm.companion.exercises import grade_loss_with_labels
from ddpm.companion.exercises.loss_with_labels import said_of_loss_with_labels

SEEDS = (0, 1, 17)


def loss_with_labels(network, x0, labels, alpha_bar, null_label, dropout):
    t = torch.randint(1, len(alpha_bar), (len(x0),))
    eps = torch.randn_like(x0)
    left = alpha_bar[t][:, None]
    told = torch.where(torch.rand(len(x0)) < dropout, null_label, labels)
    return (network(left.sqrt() * x0 + (1 - left).sqrt() * eps, t, told) - eps).square().mean()


def loss(
    *,
    times=lambda n, last: torch.randint(1, last + 1, (n,)),
    left=lambda table, t: table[t],
    noise=torch.randn_like,
    noisy=lambda x0, eps, left: left.sqrt() * x0 + (1 - left).sqrt() * eps,
    told=lambda labels, null, dropout, t: labels.masked_fill(torch.rand(len(labels)) < dropout, null),
    say_time=lambda t: t,
    ask=lambda network, x, t, told: network(x, t, told),
    target=lambda x0, eps, x_t, left: eps,
    power=torch.square,
    mean=torch.mean,
):
    def written(network, x0, labels, alpha_bar, null_label, dropout):
        t = times(len(x0), len(alpha_bar) - 1)
        a, eps = left(alpha_bar, t)[:, None], noise(x0)
        x_t = noisy(x0, eps, a)
        said = ask(network, x_t, say_time(t), told(labels, null_label, dropout, t))
        return mean(power(said - target(x0, eps, x_t, a)))

    return written


def in_loops(network, x0, labels, alpha_bar, null_label, dropout):
    """Image by image, with exactly the share of the labels dropped, in float32."""
    t = 1 + torch.randperm(len(x0)) % (len(alpha_bar) - 1)
    eps = torch.empty(x0.shape).normal_()
    x_t = torch.stack([a**0.5 * x + (1 - a) ** 0.5 * e for a, x, e in zip(alpha_bar[t], x0, eps, strict=True)])
    told = labels.clone()
    told[torch.randperm(len(x0))[: round(dropout * len(x0))]] = null_label
    return (eps - network(x_t, t, told)).pow(2).sum(dim=1).mean() / x0.shape[1]


RIGHT = {
    "as in the solutions": loss_with_labels,
    "in loops": in_loops,
    "stratified": loss(
        times=lambda n, last: 1 + ((torch.arange(n) + torch.rand(n)) / n * last).long().clamp(max=last - 1)
    ),
    "in float32": loss(left=lambda table, t: table.float().gather(0, t), noise=lambda x: torch.randn(x.shape)),
    "by keyword": loss(ask=lambda network, x, t, told: network(x, t, labels=told)),
    "by keywords in another order": loss(ask=lambda network, x, t, told: network(x, labels=told, t=t)),
    "per image first": loss(mean=lambda x: x.mean(1).mean()),
    "by bernoulli": loss(
        told=lambda labels, null, dropout, t: (
            torch.stack([labels, torch.full_like(labels, null)])
            .gather(0, torch.bernoulli(torch.full(labels.shape, dropout)).long()[None])
            .squeeze(0)
        )
    ),
    "systematic, from a random start": loss(
        told=lambda labels, null, dropout, t: labels.masked_fill(
            (torch.arange(len(labels)) * 0.6180339887 + torch.rand(())) % 1 < dropout, null
        )
    ),
    "in place": lambda network, *given: loss(power=lambda x: x.square())(
        lambda *asked: network(*asked).mul_(1), *given
    ),
}


@pytest.mark.parametrize("written", RIGHT.values(), ids=list(RIGHT))
def test_a_right_loss_is_right_however_it_is_written(written):
    for seed in range(3):
        assert said_of_loss_with_labels(written, seed) == "right", seed


def test_the_right_loss_is_right_with_any_seed_and_leaves_torchs_alone(capsys):
    before = torch.get_rng_state()
    for seed in range(100):
        assert said_of_loss_with_labels(loss_with_labels, seed) == "right", seed
    grade_loss_with_labels(loss_with_labels, seed=3)
    assert capsys.readouterr().out == "exercise, the loss with labels: right\n"
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_not_written_is_said_so():
    def blank(network, x0, labels, alpha_bar, null_label, dropout):
        """What a reader's copy has."""
        ...

    assert said_of_loss_with_labels(blank, 0) == "not written yet"


def in_place(network, x0, labels, alpha_bar, null_label, dropout):
    labels[torch.rand(len(labels)) < dropout] = null_label
    return loss(told=lambda *_: labels)(network, x0, labels, alpha_bar, null_label, dropout)


def noised_in_place(network, x0, labels, alpha_bar, null_label, dropout):
    return loss(noisy=lambda x0, eps, a: x0.mul_(a.sqrt()).add_((1 - a).sqrt() * eps))(
        network, x0, labels, alpha_bar, null_label, dropout
    )


def of_one_seed(*given):
    torch.manual_seed(5)
    return loss_with_labels(*given)


def of_one_seed_but_for_the_labels(network, x0, labels, alpha_bar, null_label, dropout):
    told = labels.masked_fill(torch.rand(len(labels)) < dropout, null_label)
    torch.manual_seed(0)
    return loss(told=lambda *_: told)(network, x0, labels, alpha_bar, null_label, dropout)


def without_grad(*given):
    with torch.no_grad():
        return loss_with_labels(*given)


def twice(network, x0, labels, alpha_bar, null_label, dropout):
    """With the label and without it, as a guided sampler asks."""
    return sum(
        loss(told=tell)(network, x0, labels, alpha_bar, null_label, dropout)
        for tell in (lambda labels, *_: labels, lambda labels, null, *_: torch.full_like(labels, null))
    )


def without_a_label(network, x0, labels, alpha_bar, null_label, dropout):
    return loss_with_labels(lambda x, t, told: network(x, t), x0, labels, alpha_bar, null_label, dropout)


def at_one_draw(network, x0, labels, alpha_bar, null_label, dropout):
    u = torch.rand(len(x0))
    t = 1 + (u * (len(alpha_bar) - 1)).long()
    return loss(times=lambda *_: t, told=lambda labels, null, p, _: labels.masked_fill(u < p, null))(
        network, x0, labels, alpha_bar, null_label, dropout
    )


def dropping(which):
    return loss(told=lambda labels, null, dropout, t: labels.masked_fill(which(labels, dropout), null))


def first_ones_and_one_more(labels, p):
    which = torch.arange(len(labels)) < p * len(labels)
    which[torch.randint(len(labels), (1,))] = True
    return which


def in_blocks_of_ten(labels, p):
    return (torch.rand(len(labels) // 10) < p).repeat_interleave(10)


def replaced(by):
    return loss(
        told=lambda labels, null, dropout, t: torch.where(torch.rand(len(labels)) < dropout, by(labels, null), labels)
    )


WRONG = {
    # what is dropped
    "one draw drops the labels of a whole batch": loss(
        told=lambda labels, null, dropout, t: torch.full_like(labels, null) if torch.rand(()) < dropout else labels
    ),
    ": 0% of the labels are dropped": loss(told=lambda labels, *_: labels),
    "100% of the labels are dropped": loss(told=lambda labels, null, *_: torch.full_like(labels, null)),
    "not of those that are kept": dropping(lambda labels, p: torch.rand(len(labels)) > p),
    ": 10% of the labels are dropped; dropout is": dropping(lambda labels, p: torch.rand(len(labels)) < 0.1),
    "the same images lose their labels": dropping(lambda labels, p: torch.arange(len(labels)) < p * len(labels)),
    "in every call. Draw anew": of_one_seed,
    "lose their labels in every call": dropping(first_ones_and_one_more),
    "images lose their labels in every call": dropping(
        lambda labels, p: torch.arange(len(labels)) + torch.rand(len(labels)) < p * len(labels)
    ),
    "neighbouring images lose their labels together": dropping(in_blocks_of_ten),
    "of the labels are dropped": dropping(lambda labels, p: torch.rand(len(labels)) < 0.3),
    "are told another class": loss(told=lambda labels, null, p, t: labels.masked_fill(torch.rand(len(labels)) < p, 10)),
    "the same times or noise in every call": of_one_seed_but_for_the_labels,
    "some classes are dropped more often": dropping(
        lambda labels, p: torch.rand(len(labels)) < p * torch.where(labels > 1, 5 / 3, 0)
    ),
    "depends on the time": at_one_draw,
    "told another class": replaced(lambda labels, null: torch.zeros_like(labels)),
    "or else null_label": replaced(lambda labels, null: torch.full_like(labels, -1)),
    "A label is the image's own": replaced(lambda labels, null: labels[torch.randperm(len(labels))]),
    "changes the images or the labels": in_place,
    "Make new ones": noised_in_place,
    "the labels that it tells are a tensor of shape (20000, 1) in int64; they are integers": loss(
        told=lambda labels, null, p, t: labels.masked_fill(torch.rand(len(labels)) < p, null)[:, None]
    ),
    "the labels that it tells are of type NoneType": loss(told=lambda *_: None),
    "takes (x, t, labels): missing a required argument: 'labels'": without_a_label,
    "takes (x, t, labels): missing a required argument: 'x'": loss(
        ask=lambda network, x, t, told: network(foo=x, bar=t, labels=told)
    ),
    "the labels that it tells are a tensor of shape (20000,) in float32": loss(
        ask=lambda network, x, t, told: network(x, t, told.float())
    ),
    # times
    "its times are a tensor of shape (20000,) in float32; they are integers from 1 to": loss(
        say_time=lambda t: t.float()
    ),
    "its times are a tensor of shape (20000, 1) in int64": loss(say_time=lambda t: t[:, None]),
    "a time of its own": loss(times=lambda n, last: torch.randint(1, last + 1, (1,)).expand(n)),
    "its times go from 0 to": loss(times=lambda n, last: torch.randint(last + 1, (n,))),
    "are walked over": loss(times=lambda n, last: torch.randint(1, last, (n,))),
    "every time is equally likely": loss(times=lambda n, last: 1 + (last * torch.rand(n) ** 1.2).long()),
    "alpha_bar[t] is that of t: the table begins at 0": loss(left=lambda table, t: table[t - 1]),
    # noise
    "a share of the variance": loss(noisy=lambda x0, eps, a: a * x0 + (1 - a) * eps),
    "the image needs its root": loss(noisy=lambda x0, eps, a: a * x0 + (1 - a).sqrt() * eps),
    "the noise needs its root": loss(noisy=lambda x0, eps, a: a.sqrt() * x0 + (1 - a) * eps),
    "changed places": loss(noisy=lambda x0, eps, a: (1 - a).sqrt() * x0 + a.sqrt() * eps),
    "the variance would grow": loss(noisy=lambda x0, eps, a: x0 + (1 - a).sqrt() * eps),
    "multiplied by the root of 1 - alpha_bar": loss(noisy=lambda x0, eps, a: a.sqrt() * x0 + eps),
    "no fresh N(0, 1) for every number": loss(noise=torch.rand_like),
    "fresh N(0, 1) for every": loss(noise=lambda x: (torch.rand_like(x) - 0.5) * 12**0.5),
    "fresh N(0, 1) for": loss(noise=lambda x: torch.randn_like(x).sign()),
    "for every number, or are not": loss(noise=lambda x: torch.randn(len(x), 1).expand_as(x)),
    "N(0, 1) for every": loss(noise=lambda x: torch.randn(1, x.shape[1]).expand_as(x)),
    "of the times that the network is told": loss(say_time=lambda t: t[torch.randperm(len(t))]),
    # the error
    "not for the noisy image": loss(target=lambda x0, eps, x_t, a: x_t),
    "compared with the image": loss(target=lambda x0, eps, x_t, a: x0),
    "compared with v": loss(target=lambda x0, eps, x_t, a: a.sqrt() * eps - (1 - a).sqrt() * x0),
    "Is the noise drawn once": loss(target=lambda x0, eps, x_t, a: torch.randn_like(eps)),
    "something else than was mixed": loss(target=lambda x0, eps, x_t, a: -eps),
    "that is the sum. Its mean": loss(mean=torch.sum),
    "the sum over an image's numbers": loss(mean=lambda x: x.sum(1).mean()),
    "squared, not absolute": loss(power=torch.abs),
    "without a root": loss(mean=lambda x: x.mean().sqrt()),
    "square first": loss(power=lambda x: x, mean=lambda x: x.mean().square()),
    "it is not the mean squared error": loss(power=lambda x: x.square() / 2),
    "a tensor of shape (20000,) in float64; it is one number": loss(mean=lambda x: x.mean(1)),
    "of type float; it is one number": loss(mean=lambda x: x.mean().item()),
    "The loss returns nothing": loss(mean=lambda x: None),
    "has no gradient": loss(mean=lambda x: x.mean().detach()),
    "leave no_grad out": without_grad,
    "make no new tensor of its value": loss(mean=lambda x: torch.tensor(x.mean().item(), requires_grad=True)),
    "calls the network 2 times": twice,
    "raises IndexError": loss(times=lambda n, last: torch.randint(1, 1001, (n,))),
    "raises ZeroDivisionError": loss(mean=lambda x: 1 / 0),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("hint", WRONG)
def test_a_slip_gets_its_hint(hint, seed):
    said = said_of_loss_with_labels(WRONG[hint], seed)
    assert said.startswith("not yet. ")
    assert hint in said
