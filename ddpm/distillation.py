"""Progressive distillation: a student learns to make in one move of DDIM what its teacher makes in two.

Salimans & Ho (2022), algorithm 2. The student begins with the teacher's weights, and then becomes the teacher of the
next, until the moves are few. A student is a denoiser like any other, for deterministic DDIM on the "trailing" grid of
as many moves as it was made for.
"""

import copy
import hashlib
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
from ddpm.files import read_json
from ddpm.messages import say
from ddpm.noise import StepRandomness
from ddpm.schedule import NoiseSchedule
from ddpm.settings import one_of, positive_int
from ddpm.targets import Prediction, prediction_of, target_of
from ddpm.training import TrainingConfig, train

__all__ = ["Distillation", "behind_a_move", "distill", "moves_of_students", "teacher_named"]

#: The moves of the first teacher are at least so many, where the schedule has them.
LEAST_TEACHER_MOVES = 64


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
        teacher_calls: the moves of the first teacher, see `moves_of_students`.
        progress: say which halving it is, and show a bar.
        options: further ones of `ddpm.training.train`.

    Raises:
        ValueError: the teacher cannot be distilled (see `teacher_named`), or not in so many moves; it was told other
            classes than the data set has; `out` holds another run; or what `train` refuses.
    """
    facts = teacher_named(teacher)
    if facts.classes and facts.classes != tuple(dataset.classes):
        raise ValueError(f"teacher was told the classes {facts.classes}; {dataset.name} has {tuple(dataset.classes)}")
    students = moves_of_students(facts.config, calls, teacher_calls)
    folders = [Path(out) if moves == calls else Path(out) / "teachers" / f"calls-{moves}" for moves in students]
    _check_folders(Path(out), folders, students, pretrained.weights_file(teacher))
    for number, (moves, folder) in enumerate(zip(students, folders, strict=True), start=1):
        if progress:
            say(f"halving {number} of {len(students)}: {2 * moves} moves become {moves}, in {folder}")
        student = replace(facts.config, distilled_for=moves)
        network = pretrained.load(teacher, device="cpu").network  # in its float32; `train` says in what it computes

        def make_task(student: DiffusionConfig = student, network: nn.Module = network) -> Distillation:
            return Distillation(student, network)

        init = pretrained.weights_file(teacher)
        train(student, dataset, config, folder, init=init, progress=progress, make_task=make_task, **options)
        teacher = folder.resolve()


def teacher_named(teacher: str | Path) -> pretrained.Facts:
    """What is known of a teacher.

    Raises:
        ValueError: there is no such model, or it is a checkpoint or no diffusion model, or its target is eps.
    """
    pretrained.weights_file(teacher)  # refuses a checkpoint
    facts = pretrained.facts(teacher)
    if not isinstance(facts.config, DiffusionConfig):
        raise ValueError(f"teacher is {str(teacher)!r}, {facts.config.kind!r}; only a diffusion model can be distilled")
    if facts.config.target == "eps":
        raise ValueError(
            f"teacher is {str(teacher)!r}, whose target is 'eps'; at T that says hardly anything of the image, and a "
            "student's first move must: legal are x0, v, flow"
        )
    return facts


def moves_of_students(settings: DiffusionConfig, calls: int, teacher_calls: int | None = None) -> list[int]:
    """The moves of every student, from half the first teacher's down to `calls`.

    Args:
        settings: the first teacher's.
        calls: the moves of the last student.
        teacher_calls: those of the first teacher. By default as many as it was itself distilled for, or else the first
            of `calls` times 2, 4, 8, ... from 64 up, as far as the schedule has so many times.

    Raises:
        ValueError: no number of halvings leads from `teacher_calls` to `calls`, or the teacher cannot make so many.
    """
    first = 2 * positive_int("calls", calls)
    while first < LEAST_TEACHER_MOVES and 2 * first <= settings.T:
        first *= 2
    if settings.distilled_for is not None:
        first = settings.distilled_for
    if teacher_calls is not None and positive_int("teacher_calls", teacher_calls) != first:
        if settings.distilled_for is not None:
            raise ValueError(f"teacher_calls is {teacher_calls}; the teacher was itself distilled for {first}")
        first = teacher_calls
    students: list[int] = []
    moves = calls
    while moves < first:
        students.insert(0, moves)
        moves *= 2
    if moves != first or not students or first > settings.T:
        raise ValueError(
            f"teacher_calls is {first}; with calls {calls} it must be {calls} times 2, 4, 8, ..., up to {settings.T}"
        )
    return students


def _check_folders(out: Path, folders: Sequence[Path], students: Sequence[int], weights: Path) -> None:
    """Raise `ValueError` where a folder holds something else than its student of the teacher with these weights."""
    teacher: str | None = hashlib.sha256(weights.read_bytes()).hexdigest()
    for folder, moves in zip(folders, students, strict=True):
        if not (folder / "config.json").is_file():
            teacher = None  # nothing may have been taught by a student that there is not
            continue
        record = read_json(folder / "config.json")
        if record.get("init") != teacher or record.get("model", {}).get("distilled_for") != moves:
            raise ValueError(
                f"out is {str(out)!r}, and {folder} holds another run than the student of {moves} moves of this "
                "teacher; name a new folder"
            )
        teacher = record.get("sha256")


class Distillation(Diffusion):
    """The training task of a student that makes `config.distilled_for` moves, each of them two of its teacher's.

    The loss is the mean squared error of the network's target; of v, that is the weight SNR + 1 of the paper. The
    settings of times and weighting have no part in it.

    Args:
        config: the student's settings, which are the teacher's but for `distilled_for`.
        teacher: the network that answers the teacher's moves.
    """

    def __init__(self, config: DiffusionConfig, teacher: nn.Module) -> None:
        super().__init__(config)
        self.moves = positive_int("distilled_for", config.distilled_for)
        self.times = torch.tensor(self.schedule.timesteps(2 * self.moves), dtype=torch.float64, device="cpu")
        self.teacher = copy.deepcopy(instance("teacher", teacher, nn.Module)).eval().requires_grad_(False)

    def loss(self, part: str, images: Tensor, randomness: StepRandomness, labels: Tensor | None = None) -> Tensor:
        """Mean squared error between the student's output and the one with which it would end where the teacher does.

        Images are (batch, channels, height, width) in [-1, 1], labels (batch,) of a network with classes.
        """
        check_samples("images", images, instance("images", images, Tensor).shape[1:], randomness.count)
        student = self.parts[one_of("part", part, list(self.parts))]
        move = (self.moves * randomness.stratified()).long()  # (batch,), 0 is the one that begins at T
        t, middle, s = (self.times[2 * move + k] for k in range(3))
        eps = randomness.normal(*images.shape[1:]).to(images.device)
        x_t = self.schedule.add_noise(images, t, eps)
        told = self.labels_told(labels, randomness, images.device)
        with torch.no_grad():
            self.teacher.to(images.device)
            x_middle = self.moved(x_t, t, middle, told)
            x_s = self.moved(x_middle, middle, s, told)
        seen = behind_a_move(self.schedule, x_t, x_s, t, s)
        target = target_of(self.target, *seen, *self.schedule.coefficients(t, x_t))
        return F.mse_loss(self.answer(student, x_t, t, told), target)

    def moved(self, x: Tensor, t: Tensor, s: Tensor, told: Sequence[Tensor]) -> Tensor:
        """x at times t (batch,) after one of the teacher's moves, deterministic DDIM, to times s."""
        output = self.answer(self.teacher, x, t, told)
        x0, eps = prediction_of(self.target, output, x, *self.schedule.coefficients(t, x))
        return self.schedule.add_noise(x0, s, eps)

    @staticmethod
    def answer(network: nn.Module, x: Tensor, t: Tensor, told: Sequence[Tensor]) -> Tensor:
        """The network's output at times t (batch,), float32."""
        output: Tensor = network(x, (t - 1).to(x), *told).float()  # t - 1 is diffusers' index
        return output


def behind_a_move(schedule: NoiseSchedule, x_t: Tensor, x_s: Tensor, t: Tensor, s: Tensor) -> Prediction:
    """The x0 and eps with which one DDIM move from x_t, at times t, ends in x_s, at times s < t (batch,).

    The move is x_s = signal(s) x0 + noise(s) eps, where x_t = signal(t) x0 + noise(t) eps: two equations for the two
    (Salimans & Ho 2022, algorithm 2).
    """
    signal_t, noise_t = schedule.coefficients(t, x_t)
    signal_s, noise_s = schedule.coefficients(s, x_t)
    x0 = (noise_t * x_s - noise_s * x_t) / (signal_s * noise_t - noise_s * signal_t)
    return Prediction(x0, (x_t - signal_t * x0) / noise_t)
