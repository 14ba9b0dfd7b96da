"""Progressive distillation: a student learns to make in one move of DDIM what its teacher makes in two.

Salimans & Ho (2022), algorithm 2. The student begins with the teacher's weights, and then becomes the teacher of the
next, until the moves are few. A student is a denoiser like any other, for deterministic DDIM on the "trailing" grid of
as many moves as it was made for.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm import pretrained
from ddpm.arguments import check_samples, instance
from ddpm.data import Dataset
from ddpm.data.pictures import Pictures
from ddpm.diffusion import Diffusion, DiffusionConfig
from ddpm.messages import say
from ddpm.noise import StepRandomness
from ddpm.schedule import NoiseSchedule
from ddpm.settings import positive_int
from ddpm.targets import Prediction, prediction_of, target_of
from ddpm.training import TrainingConfig, train

__all__ = ["Distillation", "behind_a_move", "distill", "students_of", "teachers_settings"]

#: Moves of the first teacher: so many that its images are nearly those of infinitely many.
TEACHERS_MOVES = 64


def distill(
    teacher: str | Path,
    dataset: Dataset | Pictures,
    config: TrainingConfig,
    out: str | Path,
    calls: int,
    teacher_calls: int | None = None,
    *,
    progress: bool = True,
    **options: Any,
) -> None:
    """Distill a model until it draws in `calls` network calls, or go on where this was stopped.

    Every halving is a training of its own by `ddpm.training.train`, of `config.steps` steps. The last one's folder is
    `out`, so `ddpm.load(out)` is the student that was asked for; the others lie in `out`/teachers.

    Args:
        teacher: the name of a diffusion model that ships, or a run's folder.
        dataset: the images that are noised; those that the teacher was trained on.
        config: how each student is trained.
        out: the last student's folder.
        calls: the moves, and network calls, of the last student.
        teacher_calls: the moves of the first teacher, see `students_of`.
        progress: say which halving it is, and show a bar.
        options: further ones of `ddpm.training.train`.

    Raises:
        ValueError: the teacher is no diffusion model, or its target says nothing where there is hardly any signal; or
            what `ddpm.training.train` and `students_of` refuse.
    """
    settings = teachers_settings(teacher)
    students = students_of(settings, calls, teacher_calls)
    for number, moves in enumerate(students, start=1):
        student = replace(settings, distilled_for=moves)
        folder = Path(out) if moves == calls else Path(out) / "teachers" / f"calls-{moves}"
        if progress:
            say(f"halving {number} of {len(students)}: {2 * moves} moves become {moves}, in {folder}")
        task = Distillation(student, pretrained.load(teacher, "float32").network)
        init = pretrained.weights_file(teacher)
        train(student, dataset, config, folder, init=init, progress=progress, task=task, **options)
        teacher = folder.resolve()


def teachers_settings(teacher: str | Path) -> DiffusionConfig:
    """A teacher's settings; `ValueError` unless it can be distilled."""
    settings = pretrained.config_of(teacher)
    if not isinstance(settings, DiffusionConfig):
        raise ValueError(f"teacher is {str(teacher)!r}, {settings.kind!r}; only a diffusion model can be distilled")
    if settings.target == "eps":
        raise ValueError(
            f"teacher is {str(teacher)!r}, whose target is 'eps'; at T that says nothing of the image, and a student's "
            "first move must: legal are x0, v, flow"
        )
    return settings


def students_of(settings: DiffusionConfig, calls: int, teacher_calls: int | None = None) -> list[int]:
    """The moves of every student, from half the first teacher's down to `calls`.

    Args:
        settings: the first teacher's.
        calls: the moves of the last student.
        teacher_calls: those of the first teacher. By default as many as it was itself distilled for, or else the first
            of `calls` times 2, 4, 8, ... from 64 up.

    Raises:
        ValueError: no number of halvings leads from `teacher_calls` to `calls`, or they are more than the schedule's T.
    """
    positive_int("calls", calls)
    by_default = calls * 2 ** max(1, math.ceil(math.log2(TEACHERS_MOVES / calls)))
    first = positive_int("teacher_calls", teacher_calls or settings.distilled_for or by_default)
    students = [first // 2**k for k in range(1, first.bit_length()) if first // 2**k >= calls]
    if not students or calls * 2 ** len(students) != first:
        raise ValueError(f"teacher_calls is {first}; with calls {calls} it must be {calls} times 2, 4, 8, ...")
    if first > settings.T:
        raise ValueError(f"teacher_calls is {first}; the teacher's schedule has {settings.T} times")
    return students


class Distillation(Diffusion):
    """The training task of a student that makes `config.distilled_for` moves, each of them two of its teacher's.

    Args:
        config: the student's settings, which are the teacher's but for `distilled_for`.
        teacher: the network that answers the teacher's moves.
    """

    def __init__(self, config: DiffusionConfig, teacher: nn.Module) -> None:
        super().__init__(replace(config, distilled_for=None))
        self.calls = positive_int("distilled_for", config.distilled_for)
        self.times = torch.tensor(self.schedule.timesteps(2 * self.calls), dtype=torch.float64, device="cpu")
        self.teacher = copy.deepcopy(instance("teacher", teacher, nn.Module)).eval().requires_grad_(False)

    def loss(self, part: str, images: Tensor, randomness: StepRandomness, labels: Tensor | None = None) -> Tensor:
        """Mean squared error between the student's output and the one with which it would end where the teacher does.

        Images are (batch, channels, height, width) in [-1, 1], labels (batch,) of a network with classes.
        """
        check_samples("images", images, instance("images", images, Tensor).shape[1:], randomness.count)
        move = (self.calls * randomness.stratified()).long()  # (batch,), 0 is the one that begins at T
        t, middle, s = (self.times[2 * move + k] for k in range(3))
        eps = randomness.normal(*images.shape[1:]).to(images.device)
        x_t = self.schedule.add_noise(images, t, eps)
        told = () if self.classes is None else (self.told(labels, self.classes, randomness).to(images.device),)
        with torch.no_grad():
            teacher = self.teacher.to(images.device)
            x_s = self.moved(teacher, self.moved(teacher, x_t, t, middle, told), middle, s, told)
        seen = behind_a_move(self.schedule, x_t, x_s, t, s)
        target = target_of(self.target, *seen, *self.schedule.coefficients(t, x_t))
        return F.mse_loss(self.answer(self.parts[part], x_t, t, told), target)

    def moved(self, network: nn.Module, x: Tensor, t: Tensor, s: Tensor, told: Sequence[Tensor]) -> Tensor:
        """x at times t (batch,) after one move of deterministic DDIM to times s."""
        output = self.answer(network, x, t, told)
        x0, eps = prediction_of(self.target, output, x, *self.schedule.coefficients(t, x))
        return self.schedule.add_noise(x0, s, eps)

    @staticmethod
    def answer(network: nn.Module, x: Tensor, t: Tensor, told: Sequence[Tensor]) -> Tensor:
        """The network's output at times t (batch,), float32."""
        output: Tensor = network(x, (t - 1).to(x), *told).float()
        return output


def behind_a_move(schedule: NoiseSchedule, x_t: Tensor, x_s: Tensor, t: Tensor, s: Tensor) -> Prediction:
    """The x0 and eps with which one DDIM move from x_t, at times t, ends in x_s, at times s < t (batch,).

    Salimans & Ho (2022), appendix G: the move is x_s = signal(s) x0 + noise(s) eps, where x_t = signal(t) x0 +
    noise(t) eps.
    """
    signal_t, noise_t = schedule.coefficients(t, x_t)
    signal_s, noise_s = schedule.coefficients(s, x_t)
    x0 = (noise_t * x_s - noise_s * x_t) / (signal_s * noise_t - noise_s * signal_t)
    return Prediction(x0, (x_t - signal_t * x0) / noise_t)
