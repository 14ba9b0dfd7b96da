"""The last exercise of chapter 5: the loss that trains one network for all classes and for none is looked at."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ddpm.companion.answering import NOTHING, is_blank
from ddpm.companion.exercises.practicals import (
    StandIn,
    constant,
    described,
    fault_of_mean,
    fault_of_one_call,
    fault_of_path,
    fault_of_repeating,
    faults_of_times,
    first_fault,
    levels,
    noise_in,
)
from ddpm.schedule import linear

__all__ = ["grade_loss_with_labels", "said_of_loss_with_labels"]

#: (network, x0, labels, alpha_bar, null_label, dropout) -> the loss.
Loss = Callable[[nn.Module, Tensor, Tensor, Tensor, int, float], Tensor]

_IMAGES, _CLASSES = 20_000, 5


def grade_loss_with_labels(loss_with_labels: Loss, *, seed: int = 0) -> None:
    """Tell a student whether the loss of classifier-free guidance is right, and if not, what it may have overlooked.

    Args:
        loss_with_labels: (network, x0, labels, alpha_bar, null_label, dropout) -> the loss of a batch (n, d), a
            scalar. The labels are (n,), alpha_bar is the table (T + 1,), and `network(x, t, labels)` says the noise.
        seed: of everything that is drawn.
    """
    print(f"exercise, the loss with labels: {said_of_loss_with_labels(loss_with_labels, seed)}")


def said_of_loss_with_labels(loss_with_labels: Loss, seed: int) -> str:
    """What `grade_loss_with_labels` tells; it begins with "right" if the loss is."""
    if is_blank(loss_with_labels):
        return "not written yet"
    return first_fault((f"not yet. {fault}" for fault in _faults(loss_with_labels)), seed)


def _faults(loss: Loss) -> Iterator[str]:
    """By what a loss asks of a network that always answers 2, and by its value."""
    table = linear(int(torch.randint(400, 800, ()))).alpha_bar
    x0, labels = 1 + 3 * torch.randn(_IMAGES, 3, dtype=torch.float64), torch.randint(_CLASSES, (_IMAGES,))
    # Never 10, which a student may know from garments and write down.
    null_label, dropout = _CLASSES + int(torch.randint(6, 14, ())), 0.2 + 0.2 * torch.rand(()).item()

    def asked_again(n: int, dropout: float) -> tuple[Tensor, Tensor, Tensor]:
        """What the network is asked in another call with the first n images."""
        network = _network()
        loss(network, x0[:n].clone(), labels[:n].clone(), table.clone(), null_label, dropout)
        x_t, t, told = network.calls[0]
        return x_t, t, told

    network, given, own = _network(), x0.clone(), labels.clone()
    value = loss(network, given, own, table.clone(), null_label, dropout)
    if value is None:
        yield f"The loss {NOTHING}"
    elif not (torch.equal(given, x0) and torch.equal(own, labels)):
        yield "The loss changes the images or the labels that it is given. Make new ones: they are needed again."
    elif fault := fault_of_one_call(network, value):
        yield fault
    else:
        x_t, t, told = network.calls[0]
        yield from faults_of_times(t, _IMAGES, 1, len(table) - 1)
        yield from _faults_of_labels(told, labels, null_label)
        yield from _faults_of_dropping(
            told == null_label, t / len(table), labels, dropout, lambda n, p: asked_again(n, p)[2] == null_label
        )
        yield from _faults_of_error(value, network.answers[0], x0, x_t, t, table)
        x_again, t_again, _ = asked_again(_IMAGES, dropout)
        noise = noise_in(x_t, x0, *levels(table, t)), noise_in(x_again, x0, *levels(table, t_again))
        if fault := fault_of_repeating((t, t_again), noise):
            yield fault


def _network() -> StandIn:
    return constant(torch.tensor(2.0, requires_grad=True), takes=("x", "t", "labels"))


def _faults_of_labels(told: object, labels: Tensor, null_label: int) -> Iterator[str]:
    if not isinstance(told, Tensor) or told.shape != labels.shape or told.is_floating_point():
        yield f"The loss: the labels that it tells are {described(told)}; they are integers, one for each image."
    elif ((told != labels) & (told != null_label)).any():
        yield "The loss: some images are told another class. A label is the image's own, or else null_label."


def _faults_of_dropping(
    dropped: Tensor, times: Tensor, labels: Tensor, dropout: float, dropped_in: Callable[[int, float], Tensor]
) -> Iterator[str]:
    """Of which labels are dropped: the share `dropout` of them, each by a draw of its own.

    Args:
        dropped: whether a label is dropped, (n,).
        times: of the images, between 0 and 1, (n,).
        labels: that are the images' own, (n,).
        dropout: the share.
        dropped_in: (n, dropout) -> whether each of the first n labels is dropped in another call.
    """
    share = _share(dropped)
    of_half = _share(dropped_in(_IMAGES, dropout / 2))
    of_classes = [_share(dropped[labels == label]) for label in range(_CLASSES)]
    if share in (0, 1):
        at_once = {int(dropped_in(8, dropout).sum()) for _ in range(60)} == {0, 8}
        if at_once:
            yield "The loss: one draw drops the labels of a whole batch. Draw for each image."
        yield f"The loss: {share:.0%} of the labels are dropped; dropout is {dropout:.0%}."
    elif abs(share - (1 - dropout)) < 0.02:
        yield "The loss: dropout is the share of the labels that are dropped, not of those that are kept."
    elif abs(share - dropout) > 0.02:
        yield f"The loss: {share:.0%} of the labels are dropped; dropout is {dropout:.0%}."
    elif abs(of_half - dropout / 2) > 0.02:
        yield f"The loss: {of_half:.0%} of the labels are dropped where dropout is {dropout / 2:.0%}."
    elif max(abs(of_class - share) for of_class in of_classes) > 0.06:
        yield "The loss: some classes are dropped more often than others. All are, equally often."
    elif (times[dropped].mean() - times.mean()).abs() > 0.03:
        yield "The loss: which labels are dropped depends on the time. Make a draw of their own for them."
    elif all(_meet(dropped, dropped_in(_IMAGES, dropout)) for _ in range(10)):
        yield "The loss: the same images lose their labels in every call. Draw anew each time."
    elif _meet(dropped[1:], dropped[:-1]):
        yield "The loss: neighbouring images lose their labels together. Draw for each image."


def _share(which: Tensor) -> float:
    return which.double().mean().item()


def _meet(a: Tensor, b: Tensor) -> bool:
    """Whether two events happen together more often than by chance."""
    return _share(a & b) > _share(a) * _share(b) + 0.02


def _faults_of_error(value: Tensor, said: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, table: Tensor) -> Iterator[str]:
    """Of what a loss compares: x_t says which noise was drawn."""
    left = table[t][:, None]
    right = levels(table, t)
    slips = {
        "alpha_bar is a share of the variance. What is multiplied are the roots.": (left, 1 - left),
        "the image needs its root, too.": (left, (1 - left).sqrt()),
        "the noise needs its root, too.": (left.sqrt(), 1 - left),
        "the image and the noise have changed places.": ((1 - left).sqrt(), left.sqrt()),
        "the image shrinks as noise is added, or the variance would grow.": (torch.ones_like(left), (1 - left).sqrt()),
        "the noise is multiplied by the root of 1 - alpha_bar.": (left.sqrt(), torch.ones_like(left)),
    }
    eps = noise_in(x_t, x0, *right)
    instead = {
        "the network is asked for the noise, not for the noisy image.": x_t,
        "the network is asked for the noise; here it was compared with the image.": x0,
        "the network is asked for the noise; here it was compared with v.": right[0] * eps - right[1] * x0,
    }
    if torch.equal(x_t[t == 1], x0[t == 1]):
        yield "The loss: at time 1 there is no noise in its images. alpha_bar[t] is that of t: the table begins at 0."
    elif (fault := fault_of_path(x_t, x0, t, right, slips)) or (fault := fault_of_mean(value, said, eps, instead)):
        yield fault
