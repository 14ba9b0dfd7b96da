"""Progressive distillation: a student learns to make in one move of DDIM what its teacher makes in several calls.

Salimans & Ho (2022), algorithm 2, where it is two moves of DDIM. The student begins with the teacher's weights, and
then becomes the teacher of the next, until the moves are few. A student is a denoiser like any other, for deterministic
DDIM on the "trailing" grid of as many moves as it was made for.

The first teacher differs from the later ones. What it says at a time is in which direction its path goes there, so the
path can be followed to second order in as many calls, by the midpoint rule. What a student says is where its whole move
ends, so only its own moves can be made.
"""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
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
from ddpm.files import expanded, read_json
from ddpm.messages import say
from ddpm.model_files import weights_file
from ddpm.noise import StepRandomness
from ddpm.schedule import NoiseSchedule
from ddpm.settings import one_of, positive_int
from ddpm.targets import Prediction, prediction_of, target_of
from ddpm.threads import choose_threads
from ddpm.training import TrainingConfig, train

__all__ = ["Distillation", "distill", "invert_ddim_step", "moves_of_students", "teacher_named"]

#: The calls of the first teacher are at least so many, where the schedule has as many times.
LEAST_TEACHER_CALLS = 64


def distill(
    teacher: str | Path,
    dataset: Dataset | Pictures,
    config: TrainingConfig,
    out: str | Path,
    calls: int,
    teacher_calls: int | None = None,
    at_once: int = 2,
    *,
    progress: bool = True,
    **options: Any,
) -> None:
    """Distill a model until it draws in `calls` network calls, or go on where this was stopped.

    Every student is a training of its own by `ddpm.training.train`, of `config.steps` steps. The last one's folder is
    `out`, so `ddpm.load(out)` is the student that was asked for; the others lie in `out`/teachers.

    Args:
        teacher: the name of a diffusion model that ships, or a run's folder.
        dataset: the images that are noised; those that the teacher was trained on.
        config: how each student is trained.
        out: the last student's folder.
        calls: the moves, and network calls, of the last student.
        teacher_calls: the calls of the first teacher, see `moves_of_students`.
        at_once: how many of its teacher's calls a student's call replaces, an even number.
        progress: say which student it is, and show a bar.
        options: further ones of `ddpm.training.train`.

    Raises:
        ValueError: the teacher cannot be distilled (see `teacher_named`), or not in so many moves; it was told other
            classes than the data set has, or draws images of another shape; `out` holds another run; or what `train`
            refuses.
    """
    facts = teacher_named(teacher)
    if facts.classes and facts.classes != tuple(dataset.classes):
        raise ValueError(f"teacher was told the classes {facts.classes}; {dataset.name} has {tuple(dataset.classes)}")
    if tuple(dataset.shape) != facts.image_shape:
        raise ValueError(f"teacher draws images of {facts.image_shape}; those of {dataset.name} are {dataset.shape}")
    students = moves_of_students(facts.config, calls, teacher_calls, at_once)
    out = expanded(out)
    folders = [out if moves == calls else out / "teachers" / f"calls-{moves}" for moves in students]
    _check_folders(out, folders, students, at_once, weights_file("teacher", teacher))
    for number, (moves, folder) in enumerate(zip(students, folders, strict=True), start=1):
        if progress:
            say(f"student {number} of {len(students)}: {at_once * moves} calls become {moves}, in {folder}")
        student = replace(facts.config, distilled_for=moves, distilled_from=at_once * moves)
        taught_by = pretrained.load(teacher, device="cpu")  # in its float32; `train` says in what it computes
        make_task = partial(
            Distillation,
            student,
            taught_by.network,
            midpoint=taught_by.distilled_for is None,
            schedule=taught_by.schedule,
        )
        train(student, dataset, config, folder, init=teacher, progress=progress, make_task=make_task, **options)
        if config.threads is None and number < len(students):  # the next computes with as many, whoever is busy now
            choose_threads(read_json(folder / "config.json")["training"].get("threads"))
        teacher = folder.resolve()


def teacher_named(teacher: str | Path) -> pretrained.Facts:
    """What is known of a teacher.

    Raises:
        ValueError: there is no such model, or it is a checkpoint, a network of its own, on a schedule that is code, or
            no diffusion model, or its target is eps.
    """
    weights = weights_file("teacher", teacher)  # refuses a checkpoint
    facts = pretrained.facts(teacher)
    record = read_json(weights.with_name("config.json"))
    if (own := record.get("own_network")) is not None:
        raise ValueError(f"teacher is {str(teacher)!r}, a network of its own, {own}; only a UNet can be distilled")
    schedule = record.get("own_schedule")
    if isinstance(schedule, dict) and "alpha_bar" not in schedule:  # `load` refuses another that is no table
        raise ValueError(
            f"teacher is {str(teacher)!r}, on a schedule that is code, {schedule.get('class')}; legal is one with a "
            "name here, or a table of alpha_bar"
        )
    if not isinstance(facts.config, DiffusionConfig):
        raise ValueError(f"teacher is {str(teacher)!r}, {facts.config.kind!r}; only a diffusion model can be distilled")
    if facts.config.target == "eps":
        raise ValueError(
            f"teacher is {str(teacher)!r}, whose target is 'eps'; at T that says hardly anything of the image, and a "
            "student's first move must: legal are x0, v, flow"
        )
    return facts


def moves_of_students(
    settings: DiffusionConfig, calls: int, teacher_calls: int | None = None, at_once: int = 2
) -> list[int]:
    """The moves of every student, from the first's down to `calls`.

    Args:
        settings: the first teacher's.
        calls: the moves of the last student.
        teacher_calls: the calls of the first teacher. By default as many as it was itself distilled for, or else
            `calls` times `at_once`, and times `at_once` again until it is at least 64, as far as the schedule has as
            many times.
        at_once: how many of its teacher's calls a student's call replaces, an even number.

    Raises:
        ValueError: `at_once` is odd; no number of students leads from `teacher_calls` to `calls`, or the teacher cannot
            make so many.
    """
    if positive_int("at_once", at_once) % 2:
        raise ValueError(f"at_once is {at_once}; it must be an even number from 2 up")
    T, own, legal = settings.T, settings.distilled_for, []
    teachers = at_once * positive_int("calls", calls)
    while teachers <= T:
        legal.append(teachers)
        teachers *= at_once
    if not legal:
        raise ValueError(f"calls is {calls}; with at_once {at_once} legal are 1 to {T // at_once} (T is {T})")
    first = own or next((each for each in legal if each >= LEAST_TEACHER_CALLS), legal[-1])
    if own is not None and own not in legal:
        raise ValueError(
            f"calls is {calls}; the teacher was itself distilled for {own}, which must be calls times "
            f"{at_once} (at_once), once or several times"
        )
    if teacher_calls is not None:
        if own not in (None, positive_int("teacher_calls", teacher_calls)):
            raise ValueError(f"teacher_calls is {teacher_calls}; the teacher was itself distilled for {own}")
        first = teacher_calls
    if first not in legal:
        raise ValueError(
            f"teacher_calls is {first}; with calls {calls} and at_once {at_once} legal are "
            f"{', '.join(map(str, legal))} (T is {T})"
        )
    return [each // at_once for each in reversed(legal) if each <= first]


def _check_folders(out: Path, folders: Sequence[Path], students: Sequence[int], at_once: int, weights: Path) -> None:
    """Raise `ValueError` where a folder holds something else than its student of the teacher with these weights."""
    teacher: str | None = hashlib.sha256(weights.read_bytes()).hexdigest()
    for folder, moves in zip(folders, students, strict=True):
        if not (folder / "config.json").is_file():
            teacher = None  # nothing may have been taught by a student that there is not
            continue
        record = read_json(folder / "config.json")
        model = record.get("model", {})
        found = record.get("init"), model.get("distilled_for"), model.get("distilled_from")
        if found != (teacher, moves, at_once * moves):
            raise ValueError(
                f"out is {str(out)!r}, and {folder} holds another run than the student of {moves} moves of this "
                f"teacher in {at_once * moves} calls; name a new folder"
            )
        teacher = record.get("sha256")


class Distillation(Diffusion):
    """The training task of a student that makes `config.distilled_for` moves in place of its teacher's calls.

    The loss is the mean squared error of the network's target; of v, that is the weight SNR + 1 of the paper. The
    settings of times and weighting have no part in it.

    Args:
        config: the student's settings, which are the teacher's but for `distilled_for` and `distilled_from`.
        teacher: the network that is asked.
        midpoint: follow the teacher's path by the midpoint rule, which is right for a teacher that is no student;
            otherwise make the teacher's own moves of deterministic DDIM. The rule is of second order where the grid has
            many times a move, as its times are rounded.
        schedule: the teacher's, where it is not the one that the settings name.

    Raises:
        ValueError: the settings do not say what the student is distilled for, and from how many calls.
    """

    def __init__(
        self,
        config: DiffusionConfig,
        teacher: nn.Module,
        midpoint: bool = False,
        schedule: NoiseSchedule | None = None,
    ) -> None:
        super().__init__(config, schedule=schedule)
        self.moves = positive_int("distilled_for", config.distilled_for)
        calls = positive_int("distilled_from", config.distilled_from)
        self.at_once = calls // self.moves
        self.times = torch.tensor(self.schedule.timesteps(calls), dtype=torch.float64, device="cpu")
        self.teacher = copy.deepcopy(instance("teacher", teacher, nn.Module)).eval().requires_grad_(False)
        self.midpoint = midpoint

    def loss(self, part: str, images: Tensor, randomness: StepRandomness, labels: Tensor | None = None) -> Tensor:
        """Mean squared error between the student's output and the one with which it would end where the teacher does.

        Images are (batch, channels, height, width) in [-1, 1], labels (batch,) of a network with classes.
        """
        check_samples("images", images, batch=randomness.count)
        student = self.parts[one_of("part", part, list(self.parts))]
        move = (self.moves * randomness.stratified()).long()  # (batch,), 0 is the one that begins at T
        times = [self.times[self.at_once * move + k] for k in range(self.at_once + 1)]
        eps = randomness.normal(*images.shape[1:]).to(images.device)
        x_t = self.schedule.add_noise(images, times[0], eps)
        labels_seen = self.labels_seen(labels, randomness, images.device)
        with torch.no_grad():
            self.teacher.to(images.device)
            x_s = self.teacher_steps(x_t, times, labels_seen)
        seen = invert_ddim_step(self.schedule, x_t, x_s, times[0], times[-1])
        target = target_of(self.target, *seen, *self.schedule.coefficients(times[0], x_t))
        return F.mse_loss(self.answer(student, x_t, times[0], labels_seen), target)

    def teacher_steps(self, x: Tensor, times: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
        """Where the teacher brings x (batch, ...) from the first to the last of an odd number of times, each (batch,).

        Every pair of moves takes two calls. Both ways move along x0 dsignal + eps dnoise: DDIM with what the network
        said where the move begins, the midpoint rule with what it says halfway, for the whole of the pair.
        """
        for t, middle, s in zip(times[:-1:2], times[1::2], times[2::2], strict=True):
            halfway = self.ddim_step(x, self.teacher_prediction(x, t, labels), t, middle)
            seen = self.teacher_prediction(halfway, middle, labels)
            x = self.ddim_step(x, seen, t, s) if self.midpoint else self.ddim_step(halfway, seen, middle, s)
        return x

    def teacher_prediction(self, x: Tensor, t: Tensor, labels: Sequence[Tensor]) -> Prediction:
        """What the teacher says of x at times t (batch,)."""
        output = self.answer(self.teacher, x, t, labels)
        return prediction_of(self.target, output, x, *self.schedule.coefficients(t, x))

    def ddim_step(self, x: Tensor, seen: Prediction, t: Tensor, s: Tensor) -> Tensor:
        """x at times t (batch,) after a move to times s along these x0 and eps."""
        signal_t, noise_t = self.schedule.coefficients(t, x)
        signal_s, noise_s = self.schedule.coefficients(s, x)
        return x + (signal_s - signal_t) * seen.x0 + (noise_s - noise_t) * seen.eps

    @staticmethod
    def answer(network: nn.Module, x: Tensor, t: Tensor, labels: Sequence[Tensor]) -> Tensor:
        """The network's output at times t (batch,), float32."""
        output: Tensor = network(x, (t - 1).to(x), *labels).float()  # t - 1 is diffusers' index
        return output


def invert_ddim_step(schedule: NoiseSchedule, x_t: Tensor, x_s: Tensor, t: Tensor, s: Tensor) -> Prediction:
    """The x0 and eps with which one DDIM move from x_t, at times t, ends in x_s, at times s < t (batch,).

    The move is x_s = signal(s) x0 + noise(s) eps, where x_t = signal(t) x0 + noise(t) eps: two equations for the two
    (Salimans & Ho 2022, algorithm 2).
    """
    signal_t, noise_t = schedule.coefficients(t, x_t)
    signal_s, noise_s = schedule.coefficients(s, x_t)
    x0 = (noise_t * x_s - noise_s * x_t) / (signal_s * noise_t - noise_s * signal_t)
    return Prediction(x0, (x_t - signal_t * x0) / noise_t)
