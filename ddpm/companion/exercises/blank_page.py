"""The last exercise of chapter 0: a whole diffusion model, written on an empty page, is judged by what it draws."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from ddpm.companion.answering import NOTHING, is_blank, raised
from ddpm.companion.exercises.from_nothing import bumps_of_the_ring, share_on_bumps
from ddpm.messages import counted

__all__ = ["blobs", "grade_model", "said_of_model"]

#: (data (n, 2), how many points to draw) -> new points.
Model = Callable[[Tensor, int], Tensor]

_POINTS, _DRAWN = 20_000, 1000


def blobs(seed: int) -> tuple[Tensor, Tensor]:
    """Points to train on (20,000, 2), in blobs that a seed puts elsewhere, and the centres (blobs, 2) of these."""
    generator = torch.Generator().manual_seed(seed)
    number = 4 + int(torch.randint(3, (), generator=generator, device="cpu"))
    turn = 2 * math.pi * torch.rand((), generator=generator, device="cpu").item()
    centres, std = bumps_of_the_ring(number, turn)
    of_each = torch.randint(number, (_POINTS,), generator=generator, device="cpu")
    noise = torch.randn(_POINTS, 2, generator=generator, device="cpu", dtype=torch.float32)
    return centres[of_each] + std * noise, centres


def grade_model(diffusion_model: Model, *, seed: int = 0) -> None:
    """Tell a student whether a diffusion model draws what it was trained on: blobs in places it has never seen.

    Args:
        diffusion_model: (data, n) -> n new points like the data (20,000, 2). It trains a network on the way.
        seed: of the blobs and of everything that is drawn.
    """
    print(f"exercise, a diffusion model on an empty page: {said_of_model(diffusion_model, seed)}")


def said_of_model(diffusion_model: Model, seed: int) -> str:
    """What `grade_model` tells; it begins with "right" if the model draws what it was trained on."""
    if is_blank(diffusion_model):
        return "not written yet"
    data, centres = blobs(seed)
    started, steps = time.perf_counter(), _StepCounter()
    with torch.random.fork_rng(), steps:
        torch.manual_seed(seed)
        try:
            points = diffusion_model(data.clone().to(torch.get_default_device()), _DRAWN)
            said = _said_of(points, data, centres, steps.number)
        except Exception as error:  # whatever a student's code runs into
            said = f"not yet. It {raised(error)}"
    if said != "right":
        said += f" (It took {time.perf_counter() - started:.0f} s and {counted(steps.number, 'step')} of training.)"
    return said


class _StepCounter:
    """Counts the steps of every optimiser while it is entered."""

    def __enter__(self) -> None:
        self.number = 0
        self.handle = register_optimizer_step_post_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.number += 1

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


def _said_of(points: Tensor | None, data: Tensor, centres: Tensor, steps: int) -> str:
    """What is to be said of points that were drawn after so many steps of training."""
    if points is None:
        return f"not yet. It {NOTHING}"
    if not isinstance(points, Tensor) or points.shape != (_DRAWN, 2):
        shape = f"shape {tuple(points.shape)}" if isinstance(points, Tensor) else f"type {type(points).__name__}"
        return f"not yet. What it returns has {shape}; asked for is a tensor of shape ({_DRAWN}, 2)."
    points = points.detach().cpu().float()
    if not points.isfinite().all():
        return "not yet. Some of its points are not finite: a step back makes them grow without end."
    if not steps:
        return "not yet. No optimiser has made a step: train a network on the data."
    if (torch.cdist(points, data).min(1).values == 0).float().mean() > 0.01:
        return "not yet. These are points of the data themselves. A model draws new ones."
    return _said_of_places(points, centres)


def _said_of_places(points: Tensor, centres: Tensor) -> str:
    share = share_on_bumps(points, centres)
    if points.std(0).max() < 0.1:
        return "not yet. All points lie in one place."
    if share.sum() < 0.6:
        return f"not yet. {share.sum():.0%} of its points lie on the blobs, where 96 % of the data do."
    if share.min() < 0.25 / len(centres):
        missing = centres[share.argmin()]
        place = f"({missing[0]:.1f}, {missing[1]:.1f})"
        return f"not yet. Hardly a point lies on the blob around {place}, where every blob has the same share."
    return "right"
