"""The last exercise of chapter 5: the loss that trains one network for all classes and for none is looked at."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ddpm.companion.answering import NOTHING, is_blank
from ddpm.companion.exercises.practicals import (
    are_even,
    constant,
    described,
    fault_of_mean,
    fault_of_one_call,
    fault_of_path,
    first_fault,
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
    x0, labels = 1 + 3 * torch.randn(_IMAGES, 2, dtype=torch.float64), torch.randint(_CLASSES, (_IMAGES,))
    null_label, dropout = _CLASSES + int(torch.randint(1, 9, ())), 0.2 + 0.2 * torch.rand(()).item()

    def dropped_in(n: int) -> Tensor:
        """Which labels are dropped in another call with the first n images, (n,)."""
        network = constant(torch.tensor(2.0, requires_grad=True))
        loss(network, x0[:n].clone(), labels[:n].clone(), table.clone(), null_label, dropout)
        told: Tensor = network.calls[0][2]
        return told == null_label

    network, given, own = constant(torch.tensor(2.0, requires_grad=True)), x0.clone(), labels.clone()
    value = loss(network, given, own, table.clone(), null_label, dropout)
    if value is None:
        yield f"The loss {NOTHING}"
    elif not (torch.equal(given, x0) and torch.equal(own, labels)):
        yield "The loss changes the images or the labels that it is given. Make new ones: they are needed again."
    elif fault := fault_of_one_call(network, value):
        yield fault
    elif len(network.calls[0]) != 3:
        yield f"The network takes an image, a time and a label; here it is given {len(network.calls[0])} arguments."
    else:
        x_t, t, told = network.calls[0]
        yield from _faults_of_times(t, len(table) - 1)
        yield from _faults_of_labels(told, labels, null_label)
        yield from _faults_of_dropping(told == null_label, t / len(table), labels, dropout, dropped_in)
        yield from _faults_of_error(value, network.answers[0], x0, x_t, t, table)


def _faults_of_times(t: object, last: int) -> Iterator[str]:
    if not isinstance(t, Tensor) or t.shape != (_IMAGES,) or t.is_floating_point():
        yield f"The loss: its times are {described(t)}; they are integers from 1 to T, one for each image."
    elif (t == t[0]).all():
        yield "The loss: every image needs a time of its own; a batch at one time is far noisier."
    elif t.min() != 1 or t.max() != last:
        yield f"The loss: its times go from {t.min()} to {t.max()}, where T is {last}: all from 1 to T are walked over."
    elif not are_even(t / last):
        yield "The loss: every time is equally likely."


def _faults_of_labels(told: object, labels: Tensor, null_label: int) -> Iterator[str]:
    if not isinstance(told, Tensor) or told.shape != labels.shape or told.is_floating_point():
        yield f"The loss: the labels that it tells are {described(told)}; they are integers, one for each image."
    elif ((told != labels) & (told != null_label)).any():
        yield "The loss: some images are told another class. A label is the image's own, or else null_label."


def _faults_of_dropping(
    dropped: Tensor, times: Tensor, labels: Tensor, dropout: float, dropped_in: Callable[[int], Tensor]
) -> Iterator[str]:
    """Of which labels are dropped: the share `dropout` of them, each by a draw of its own."""
    share = dropped.double().mean().item()
    of_classes = [dropped[labels == label].double().mean().item() for label in range(_CLASSES)]
    if share in (0, 1):
        at_once = {int(dropped_in(8).sum()) for _ in range(60)} == {0, 8}
        if at_once:
            yield "The loss: one draw drops the labels of a whole batch. Draw for each image."
        yield f"The loss: {share:.0%} of the labels are dropped; dropout is {dropout:.0%}."
    elif abs(share - (1 - dropout)) < 0.02:
        yield "The loss: dropout is the share of the labels that are dropped, not of those that are kept."
    elif abs(share - dropout) > 0.02:
        yield f"The loss: {share:.0%} of the labels are dropped; dropout is {dropout:.0%}."
    elif max(abs(of_class - share) for of_class in of_classes) > 0.06:
        yield "The loss: some classes are dropped more often than others. All are, equally often."
    elif (times[dropped].mean() - times.mean()).abs() > 0.03:
        yield "The loss: which labels are dropped depends on the time. Make a draw of their own for them."
    elif torch.equal(dropped, dropped_in(_IMAGES)):
        yield "The loss: the same images lose their labels in every call. Draw anew each time."


def _faults_of_error(value: Tensor, said: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, table: Tensor) -> Iterator[str]:
    """Of what a loss compares: x_t says which noise was drawn."""
    left = table[t][:, None]
    right = left.sqrt(), (1 - left).sqrt()
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
