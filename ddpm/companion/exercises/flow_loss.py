"""The last exercise of chapter 6: the loss of flow matching is looked at, by what the network sees and is asked."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ddpm.companion.answering import NOTHING, is_blank
from ddpm.companion.exercises.practicals import (
    StandIn,
    are_even,
    constant,
    described,
    fault_of_mean,
    fault_of_one_call,
    fault_of_path,
    fault_of_repeating,
    first_fault,
    noise_in,
)

__all__ = ["grade_flow_loss", "said_of_flow_loss"]

#: (network, x0) -> the loss.
Loss = Callable[[nn.Module, Tensor], Tensor]

_IMAGES = 20_000


def grade_flow_loss(flow_loss: Loss, *, seed: int = 0) -> None:
    """Tell a student whether the loss of flow matching is right, and if not, what it may have overlooked.

    Args:
        flow_loss: (network, x0) -> the loss of a batch (n, d), a scalar. `network(x, tau)` says the velocity of
            equation 2 at x (n, d) and tau (n, 1).
        seed: of everything that is drawn.
    """
    print(f"exercise, the loss of flow matching: {said_of_flow_loss(flow_loss, seed)}")


def said_of_flow_loss(flow_loss: Loss, seed: int) -> str:
    """What `grade_flow_loss` tells; it begins with "right" if the loss is."""
    if is_blank(flow_loss):
        return "not written yet"
    return first_fault((f"not yet. {fault}" for fault in _faults(flow_loss)), seed)


def _faults(loss: Loss) -> Iterator[str]:
    """By what a loss asks of a network that always answers 2, and by its value."""
    x0 = 1 + 3 * torch.randn(_IMAGES, 3, dtype=torch.float64)
    network, given = _network(), x0.clone()
    value = loss(network, given)
    if value is None:
        yield f"The loss {NOTHING}"
    elif not torch.equal(given, x0):
        yield "The loss changes the images that it is given. Make new ones: they are needed again."
    elif fault := fault_of_one_call(network, value):
        yield fault
    else:
        x_t, tau = network.calls[0]
        yield from _faults_of_times(tau)
        yield from _faults_of_error(value, network.answers[0], x0, x_t, tau.double())
        network_again = _network()
        loss(network_again, x0.clone())
        x_again, tau_again = network_again.calls[0]
        noise = noise_in(x_t, x0, 1 - tau, tau), noise_in(x_again, x0, 1 - tau_again, tau_again)
        if fault := fault_of_repeating((tau, tau_again), noise):
            yield fault


def _network() -> StandIn:
    return constant(torch.tensor(2.0, requires_grad=True), takes=("x", "tau"))


def _faults_of_times(tau: object) -> Iterator[str]:
    if not isinstance(tau, Tensor) or tau.shape != (_IMAGES, 1):
        yield f"The loss: its tau is {described(tau)}; it is (n, 1), one for each image."
    elif (tau == tau[0]).all():
        yield "The loss: every image needs a tau of its own; a batch at one tau is far noisier."
    elif tau.min() < 0 or tau.max() > 1:
        yield f"The loss: its tau goes from {tau.min():.3g} to {tau.max():.3g}; it runs from 0 to 1, where t runs to T."
    elif not are_even(tau[:, 0]) or tau.min() > 0.005 or tau.max() < 0.995:
        yield "The loss: every tau from 0 to 1 is equally likely."


def _faults_of_error(value: Tensor, said: Tensor, x0: Tensor, x_t: Tensor, tau: Tensor) -> Iterator[str]:
    """Of what a loss compares: x_t says which noise was drawn."""
    one = torch.ones_like(tau)
    slips = {
        "the image is at tau = 0 and the noise at 1: in some papers it is the other way.": (tau, one - tau),
        "equation 1 has no roots: this path does not keep the variance.": ((1 - tau).sqrt(), tau.sqrt()),
        "equation 1 has no roots: here signal and noise add up to 1.": ((1 - tau.square()).sqrt(), tau),
        "the image shrinks by 1 - tau.": (one, tau),
        "the noise is multiplied by tau.": (one - tau, one),
    }
    eps = noise_in(x_t, x0, 1 - tau, tau)
    instead = {
        "the velocity points from the image to the noise: eps - x0, not x0 - eps.": x0 - eps,
        "the network is asked for the velocity; here it was compared with the noise.": eps,
        "the network is asked for the velocity; here it was compared with the image.": x0,
        "the network is asked for the velocity, not for the noisy image.": x_t,
        "x_t - x0 is tau times the velocity.": x_t - x0,
        "eps - x_t is 1 - tau times the velocity.": eps - x_t,
        "the two are subtracted: eps - x0.": eps + x0,
        "on the straight path the velocity is eps - x0; that is v.": (1 - tau) * eps - tau * x0,
    }
    path = fault_of_path(x_t, x0, tau[:, 0], (1 - tau, tau), slips)
    if fault := path or fault_of_mean(value, said, eps - x0, instead):
        yield fault
