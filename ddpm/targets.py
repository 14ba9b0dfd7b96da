"""What a network may be trained to answer, its prediction target, and how x0 and eps are read from that answer.

The algebra stands here and nowhere else::

    x_t  = signal x0 + noise eps
    v    = signal eps - noise x0      (Salimans & Ho 2022, appendix D)
    flow = eps - x0                   (Liu et al. 2023, eq. 1)

v is for schedules that keep the variance, where signal^2 + noise^2 = 1. flow is for the straight path, where
signal + noise = 1: its velocity T dx_t / dt, which is Liu et al.'s with time reversed.
"""

from typing import NamedTuple

from torch import Tensor

from ddpm.schedule import NoiseSchedule, Straight
from ddpm.settings import TARGETS, Target, one_of

__all__ = ["TARGETS", "Prediction", "Target", "check_target", "prediction_of", "target_of"]


class Prediction(NamedTuple):
    """The clean image and the noise that a denoiser sees in x_t; both have x_t's shape."""

    x0: Tensor
    eps: Tensor


def target_of(target: Target, x0: Tensor, eps: Tensor, signal: float | Tensor, noise: float | Tensor) -> Tensor:
    """What a network with this prediction target should answer."""
    one_of("target", target, TARGETS)
    if target == "eps":
        return eps
    if target == "x0":
        return x0
    return eps - x0 if target == "flow" else signal * eps - noise * x0


def prediction_of(
    target: Target, output: Tensor, x: Tensor, signal: float | Tensor, noise: float | Tensor
) -> Prediction:
    """Read a network's answer at x_t as a `Prediction`.

    Only eps divides by the signal, and only x0 by the noise.

    Raises:
        ValueError: the target is v where signal^2 + noise^2 is not 1, or flow where signal + noise is not. Tensors on a
            GPU are not checked.
    """
    one_of("target", target, TARGETS)
    if target == "eps":
        return Prediction((x - noise * output) / signal, output)
    if target == "x0":
        return Prediction(output, (x - signal * output) / noise)
    if target == "flow":
        _check_one(target, "signal + noise", signal + noise)  # as on the straight path
        return Prediction(x - noise * output, x + signal * output)
    _check_one(target, "signal^2 + noise^2", signal**2 + noise**2)  # as where the variance is kept
    return Prediction(signal * x - noise * output, noise * x + signal * output)


def _check_one(target: Target, name: str, value: float | Tensor) -> None:
    """Raise `ValueError` unless the value is 1 up to rounding. A tensor on a GPU is not read, so as not to wait."""
    if isinstance(value, Tensor) and (value.device.type != "cpu" or not value.numel()):
        return
    off = (value - 1).abs().max().item() if isinstance(value, Tensor) else abs(value - 1)
    if not off < 1e-5:
        raise ValueError(f"target is {target!r}, for which {name} must be 1; it is off by {off:.2g}")


def check_target(target: Target, schedule: NoiseSchedule) -> Target:
    """A prediction target; `ValueError` unless `prediction_of` reads x0 and eps from it at every time from 1 to T."""
    one_of("target", target, TARGETS)
    legal = _legal_targets(schedule)
    if target not in legal:
        raise ValueError(f"target is {target!r}; on the schedule {schedule} legal are {', '.join(legal)}")
    return target


def _legal_targets(schedule: NoiseSchedule) -> list[Target]:
    """x0 always; eps where some signal is left at T, v where the variance is kept, flow on the straight path."""
    holds = {
        "eps": schedule.alpha_bar[-1] > 0,
        "x0": True,
        "v": schedule.preserves_variance,
        "flow": isinstance(schedule, Straight),
    }
    return [target for target in TARGETS if holds[target]]
