import shutil
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from torch import nn

import ddpm
from ddpm import distillation, pretrained, threads
from ddpm.data import normalise
from ddpm.diffusion import DiffusionConfig
from ddpm.distillation import Distillation, distill, invert_ddim_step, moves_of_students
from ddpm.fast import computes_in_bfloat16
from ddpm.files import read_json
from ddpm.noise import StepRandomness
from ddpm.oracles import Gaussian
from ddpm.samplers import ddim, final
from ddpm.schedule import cosine, exploding, linear, straight, zero_terminal_snr
from ddpm.targets import target_of
from ddpm.training import TrainingConfig, train
from ddpm.training.batches import batches
from tests.folders import log_of
from tests.networks import SMALL_UNET
from tests.training.garments import first_images

V = DiffusionConfig(SMALL_UNET, target="v")


class Answers(nn.Module):
    """A network that answers the target of what `denoise(x, t)` says."""

    def __init__(self, denoise, target):
        super().__init__()
        self.denoise, self.target = denoise, target

    def forward(self, x, index):
        t = index.double() + 1
        return target_of(self.target, *self.denoise(x, t), *self.denoise.schedule.coefficients(t, x))


# Which moves become one.


@pytest.mark.parametrize(
    "schedule", [linear(), cosine(), straight(), zero_terminal_snr(cosine()), exploding()], ids=repr
)
def test_invert_ddim_step_is_what_made_it(schedule):
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 5, 3, dtype=torch.float64, generator=generator)
    t = torch.tensor([1000.0, 1000.0, 500.0, 250.0, 1.0], dtype=torch.float64)
    s = torch.tensor([750.0, 0.0, 250.0, 0.0, 0.0], dtype=torch.float64)
    seen = invert_ddim_step(schedule, schedule.add_noise(x0, t, eps), schedule.add_noise(x0, s, eps), t, s)
    assert torch.allclose(seen.x0, x0, atol=1e-10)
    assert torch.allclose(seen.eps, eps, atol=1e-10)


def by_ddim(oracle, x, t, middle, s):
    """x at times t (batch,) after two of the oracle's moves of DDIM."""
    seen = oracle(x, t)
    halfway = oracle.schedule.add_noise(seen.x0, middle, seen.eps)
    seen = oracle(halfway, middle)
    return oracle.schedule.add_noise(seen.x0, s, seen.eps)


def by_midpoint(oracle, x, t, middle, s):
    """x at times t (batch,) after a move along what the oracle says halfway."""
    seen = oracle(x, t)
    seen = oracle(oracle.schedule.add_noise(seen.x0, middle, seen.eps), middle)
    signal_t, noise_t = oracle.schedule.coefficients(t, x)
    signal_s, noise_s = oracle.schedule.coefficients(s, x)
    return x + (signal_s - signal_t) * seen.x0 + (noise_s - noise_t) * seen.eps


class AtOnce(Gaussian):
    """A denoiser one of whose moves on a grid of `calls` moves is `pairs` pairs of moves of `Gaussian`."""

    def __init__(self, calls, pairs, pair, schedule):
        super().__init__(0.0, 0.5, schedule)
        self.grid = torch.tensor(schedule.timesteps(2 * pairs * calls), dtype=torch.float64)
        self.pairs, self.pair = pairs, pair

    def __call__(self, x, t):
        times = torch.as_tensor(t, dtype=torch.float64).expand(len(x))
        k = torch.tensor([self.grid.tolist().index(round(time)) for time in times.tolist()])
        x_s, oracle = x, Gaussian(0.0, 0.5, self.schedule)
        for first in range(0, 2 * self.pairs, 2):
            x_s = self.pair(oracle, x_s, *(self.grid[k + first + more] for more in range(3)))
        return invert_ddim_step(self.schedule, x, x_s, times, self.grid[k + 2 * self.pairs])


HOMES = [("linear", "v"), ("linear", "x0"), ("linear_zero_snr", "v"), ("straight", "flow")]


@pytest.mark.parametrize(("schedule", "target"), HOMES)
@pytest.mark.parametrize(("calls", "pairs"), [(1, 1), (2, 1), (3, 1), (4, 2), (1, 3)])
@pytest.mark.parametrize("pair", [by_ddim, by_midpoint])
def test_a_student_that_ends_where_its_teacher_does_has_no_loss(schedule, target, calls, pairs, pair):
    config = DiffusionConfig(SMALL_UNET, schedule, target=target, distilled_for=calls, distilled_from=2 * pairs * calls)
    oracle = Gaussian(0.0, 0.5, config.noise_schedule())
    task = Distillation(config, Answers(oracle, target), midpoint=pair is by_midpoint)
    images = torch.randn(8, 1, 2, 2, generator=torch.Generator().manual_seed(0)) / 2

    def loss(student):
        task.parts["unet"] = Answers(student, target)
        return task.loss("unet", images, StepRandomness(0, 0, 8))

    student = AtOnce(calls, pairs, pair, oracle.schedule)
    other = by_ddim if pair is by_midpoint else by_midpoint
    assert loss(student) < 1e-9
    assert (
        loss(oracle) > 1e-4
    )  # the rivals: a student that makes its teacher's moves, one that follows by the other rule
    assert loss(AtOnce(calls, pairs, other, oracle.schedule)) > 1e-6

    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if pair is by_ddim:
        walked = final(ddim(student, x, oracle.schedule.timesteps(calls)))
        teachers = final(ddim(oracle, x, oracle.schedule.timesteps(2 * pairs * calls)))
        assert torch.allclose(walked, teachers, atol=1e-10)


@pytest.mark.parametrize("schedule", [linear(), cosine(), straight(), zero_terminal_snr(cosine())], ids=repr)
def test_ddim_is_of_first_order_and_the_midpoint_rule_of_second(schedule):
    oracle = Gaussian(0.0, 0.5, schedule)
    x = torch.ones(1, 1, dtype=torch.float64)

    def end(pair, pairs):
        """x at 100, which was 1 at 800, after so many pairs of moves."""
        times = torch.linspace(800, 100, 2 * pairs + 1, dtype=torch.float64)
        moved = x
        for first in range(0, 2 * pairs, 2):
            moved = pair(oracle, moved, *times[first : first + 3].split(1))
        return moved.item()

    variance = [s**2 * 0.25 + n**2 for s, n in map(schedule.signal_and_noise, (800, 100))]
    exact = (variance[1] / variance[0]) ** 0.5  # the flow keeps x in units of its standard deviation

    def gain(pair):
        return (end(pair, 32) - exact) / (end(pair, 64) - exact)

    assert gain(by_ddim) == pytest.approx(2, rel=0.05)
    assert gain(by_midpoint) > 3.8  # on some paths a Gaussian's error of second order is nearly 0: then it is 8


def test_teacher_and_student_are_told_the_same_labels():
    told = []

    class Told(nn.Module):
        def forward(self, x, index, labels):
            told.append(labels)
            return x

    classes = replace(SMALL_UNET, classes=10)
    config = DiffusionConfig(classes, target="v", label_dropout=0.5, distilled_for=2, distilled_from=4)
    task = Distillation(config, Told())
    task.parts["unet"] = Told()
    task.loss("unet", torch.zeros(16, 1, 2, 2), StepRandomness(0, 0, 16), torch.arange(16) % 10)
    assert len(told) == 3
    assert torch.equal(told[0], told[1])
    assert torch.equal(told[0], told[2])
    assert 0 < (told[0] == 10).sum() < 16


@pytest.mark.parametrize(
    ("calls", "teacher_calls", "students"),
    [(4, None, [32, 16, 8, 4]), (8, 16, [8]), (1, None, [32, 16, 8, 4, 2, 1]), (3, None, [48, 24, 12, 6, 3]),
     (100, None, [100]), (300, None, [300])],
)  # fmt: skip
def test_students_halve_the_moves(calls, teacher_calls, students):
    assert moves_of_students(V, calls, teacher_calls) == students


@pytest.mark.parametrize(
    ("calls", "teacher_calls", "at_once", "students"),
    [(8, 32, 4, [8]), (4, None, 4, [16, 4]), (1, None, 8, [8, 1]), (2, 72, 6, [12, 2]), (100, None, 4, [100])],
)
def test_a_student_may_replace_more_than_two_calls(calls, teacher_calls, at_once, students):
    assert moves_of_students(V, calls, teacher_calls, at_once) == students


def test_a_student_that_teaches_begins_where_it_is_at_home():
    student = replace(V, distilled_for=8)
    assert moves_of_students(student, 2) == moves_of_students(student, 2, 8) == [4, 2]
    with pytest.raises(ValueError, match="teacher_calls is 16; the teacher was itself distilled for 8"):
        moves_of_students(student, 2, 16)
    with pytest.raises(ValueError, match="^calls is 8; the teacher was itself distilled for 8, which must be calls"):
        moves_of_students(student, 8)
    for calls, at_once in ((3, 2), (2, 8), (1, 6)):
        with pytest.raises(ValueError, match=f"^calls is {calls}; .* 8, which must be calls times {at_once} .at_once"):
            moves_of_students(student, calls, at_once=at_once)


def test_a_short_schedule_has_a_teacher_of_fewer_moves():
    assert moves_of_students(replace(V, T=50), 3) == [24, 12, 6, 3]


@pytest.mark.parametrize(
    ("calls", "teacher_calls", "at_once", "words"),
    [
        (4, 20, 2, "teacher_calls is 20; with calls 4 and at_once 2 legal are 8, 16, 32, 64, 128, 256, 512 .T is 1000"),
        (4, 32, 4, "teacher_calls is 32; with calls 4 and at_once 4 legal are 16, 64, 256 .T is 1000"),
        (4, 4, 2, "teacher_calls is 4; with calls 4 and at_once 2 legal are 8, 16"),
        (0, None, 2, "calls is 0; it must be an integer from 1 up"),
        (4, 0, 2, "teacher_calls is 0; it must be an integer from 1 up"),
        (600, None, 2, "calls is 600; with at_once 2 legal are 1 to 500 .T is 1000"),
        (4, None, 3, "at_once is 3; it must be an even number from 2 up"),
        (4, None, 1, "at_once is 1; it must be an even number from 2 up"),
        (4, None, 0, "at_once is 0; it must be an integer from 1 up"),
    ],
)
def test_what_no_students_lead_to_is_refused(calls, teacher_calls, at_once, words):
    with pytest.raises(ValueError, match=words):
        moves_of_students(V, calls, teacher_calls, at_once)


# Whole distillations.

TINY = TrainingConfig(steps=3, batch_size=4, checkpoint_every=2, learning_rate=1e-2, warmup=0, threads=1)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A run's folder. No test may write into it."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    train(V, first_images(16), TINY, folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def student(teacher, tmp_path_factory):
    """The folder of a student of two moves. No test may write into it."""
    folder = tmp_path_factory.mktemp("student") / "run"
    distill(teacher, first_images(16), TINY, folder, 2, 8, progress=False)
    return folder


def weights(folder):
    return pretrained.load(folder, "float32").network.state_dict()


def test_every_student_can_be_loaded_and_draws_in_its_own_calls(student):
    for folder, calls in ((student, 2), (student / "teachers" / "calls-4", 4)):
        denoise = ddpm.load(folder, "float32")
        states = []
        drawn = ddpm.sample(denoise, 2, progress=False, watch=states.append)
        assert denoise.distilled_for == len(states) == calls
        assert torch.equal(drawn, ddpm.sample(denoise, 2, steps=calls, progress=False))
    assert ddpm.load("fashion-mnist").distilled_for is None


def test_a_distillation_that_was_killed_ends_with_the_same_bits(teacher, student, tmp_path):
    seen = []

    def killed(line):
        seen.append(line)
        if len(seen) == 5:  # in the second student's training, after its step 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(teacher, first_images(16), TINY, tmp_path / "run", 2, 8, progress=False, on_step=killed)
    assert not (tmp_path / "run" / "checkpoints" / "step-00000003.json").exists()
    distill(teacher, first_images(16), TINY, tmp_path / "run", 2, 8, progress=False)
    for name, value in weights(student).items():
        assert torch.equal(weights(tmp_path / "run")[name], value), name


def test_every_student_teaches_the_next(teacher, student):
    first, last = student / "teachers" / "calls-4", student
    for one, next_one in ((teacher, first), (first, last)):
        sha256 = read_json(one / "config.json")["sha256"]
        assert read_json(next_one / "config.json")["init"] == sha256
    config = replace(V, distilled_for=2, distilled_from=4)
    task = Distillation(config, ddpm.load(first, "float32").network)  # by its own moves: it is a student
    task.parts["unet"].load_state_dict(weights(first))
    images = next(batches(first_images(16), 0, range(1), 4, slice(0, 4), torch.device("cpu"), 0))
    line = log_of(last)[0]
    in_bfloat16 = computes_in_bfloat16(TINY.precision, torch.device("cpu"))

    def loss():
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
            return task.loss("unet", normalise(images), StepRandomness(0, 0, 4)).item()

    assert loss() == pytest.approx(line["loss_unet"], rel=1e-5)
    task.teacher.load_state_dict(weights(teacher))  # the rival
    assert loss() != pytest.approx(line["loss_unet"], rel=1e-4)
    task.teacher.load_state_dict(weights(first))
    task.midpoint = True  # another
    assert loss() != pytest.approx(line["loss_unet"], rel=1e-4)


def test_the_first_teachers_path_is_followed_by_the_midpoint_rule(teacher, student):
    first = student / "teachers" / "calls-4"
    task = Distillation(replace(V, distilled_for=4, distilled_from=8), ddpm.load(teacher, "float32").network, True)
    task.parts["unet"].load_state_dict(weights(teacher))
    images = next(batches(first_images(16), 0, range(1), 4, slice(0, 4), torch.device("cpu"), 0))
    line = log_of(first)[0]
    with torch.autocast("cpu", torch.bfloat16, enabled=computes_in_bfloat16(TINY.precision, torch.device("cpu"))):
        by_the_rule = task.loss("unet", normalise(images), StepRandomness(0, 0, 4)).item()
        task.midpoint = False
        by_its_moves = task.loss("unet", normalise(images), StepRandomness(0, 0, 4)).item()
    assert by_the_rule == pytest.approx(line["loss_unet"], rel=1e-5)
    assert by_its_moves != pytest.approx(line["loss_unet"], rel=1e-4)


def test_what_is_no_student_of_this_teacher_is_refused_before_anything_is_trained(teacher, student, tmp_path):
    train(V, first_images(16), replace(TINY, seed=1), tmp_path / "other", progress=False)
    copied = tmp_path / "student"
    shutil.copytree(student, copied)
    before = sorted(copied.rglob("*"))
    for wrong, calls, of, out in (
        (tmp_path / "other", 2, 8, copied), (teacher, 2, 16, copied), (teacher, 1, 8, copied), (teacher, 2, 8, teacher),
    ):  # fmt: skip
        with pytest.raises(
            ValueError, match="holds another run than the student of . moves of this teacher in .* calls; name a new"
        ):
            distill(wrong, first_images(16), TINY, out, calls, of, progress=False)
    assert sorted(copied.rglob("*")) == before
    distill(teacher, first_images(16), TINY, copied, 2, 8, progress=False)


def test_a_run_that_replaced_another_number_of_calls_is_refused(teacher, tmp_path):
    distill(teacher, first_images(16), TINY, tmp_path / "run", 2, 8, at_once=4, progress=False)
    assert not (tmp_path / "run" / "teachers").exists()
    model = read_json(tmp_path / "run" / "config.json")["model"]
    assert (model["distilled_for"], model["distilled_from"]) == (2, 8)
    with pytest.raises(ValueError, match="another run than the student of 2 moves of this teacher in 4 calls"):
        distill(teacher, first_images(16), TINY, tmp_path / "run", 2, 4, progress=False)


def test_a_training_and_a_distillation_are_different_runs(teacher, student, tmp_path):
    init = student / "teachers" / "calls-4"
    with pytest.raises(ValueError, match=r"holds another run \(distilled_for is 2 there and None here\)"):
        train(V, first_images(16), TINY, student, init=init, progress=False)


def test_a_teacher_of_other_classes_is_refused(tmp_path):
    config = DiffusionConfig(replace(SMALL_UNET, classes=10), target="v")
    digits = replace(first_images(16), classes=tuple("0123456789"))
    train(config, digits, replace(TINY, steps=1), tmp_path / "teacher", progress=False)
    with pytest.raises(ValueError, match="teacher was told the classes .'0', .*; fashion-mnist-embedded has .'T-shirt"):
        distill(tmp_path / "teacher", first_images(16), TINY, tmp_path / "out", 1, 2, progress=False)
    assert not (tmp_path / "out").exists()


def test_a_teacher_of_other_images_is_refused(teacher, tmp_path):
    small = first_images(16)
    small = replace(small, images=small.images[:, :, :16, :16])
    with pytest.raises(ValueError, match=r"teacher draws images of \(1, 32, 32\); those of .* are \(1, 16, 16\)"):
        distill(teacher, small, TINY, tmp_path / "out", 1, 2, progress=False)
    assert not (tmp_path / "out").exists()


def test_later_students_compute_with_the_threads_of_the_first_though_cores_are_busy_now(teacher, tmp_path, monkeypatch):
    def killed(line):
        if (tmp_path / "run" / "teachers" / "calls-4" / "checkpoints" / "step-00000003.json").exists():
            raise KeyboardInterrupt  # in the second student's first step

    config, cores = replace(TINY, threads=None), iter([2, 1])
    monkeypatch.setattr(threads, "free_cores", lambda: next(cores))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        for on_step in (killed, None):
            torch.set_num_threads(2)
            monkeypatch.setattr(threads, "_choice", None)  # as in a new process
            with suppress(KeyboardInterrupt):
                distill(teacher, first_images(16), config, tmp_path / "run", 2, 8, progress=False, on_step=on_step)
    finally:
        torch.set_num_threads(before)
    for folder in (tmp_path / "run" / "teachers" / "calls-4", tmp_path / "run"):
        assert read_json(folder / "config.json")["training"]["threads"] == 2


def test_torchs_defaults_change_no_student(teacher, student, tmp_path):
    torch.set_default_dtype(torch.float64)
    try:
        distill(teacher, first_images(16), TINY, tmp_path / "run", 2, 8, progress=False)
    finally:
        torch.set_default_dtype(torch.float32)
    for name, value in weights(student).items():
        assert torch.equal(weights(tmp_path / "run")[name], value), name


def test_a_student_has_moved_from_its_teacher(teacher, student):
    assert any((weights(teacher)[name] != value).any() for name, value in weights(student).items())
    assert weights(student)["conv_out.weight"].isfinite().all()


def test_a_teacher_that_was_told_classes_teaches_them(tmp_path):
    config = DiffusionConfig(replace(SMALL_UNET, classes=10), target="v")
    train(config, first_images(16), TINY, tmp_path / "teacher", progress=False)
    distill(tmp_path / "teacher", first_images(16), TINY, tmp_path / "student", 1, 2, progress=False)
    student = ddpm.load(tmp_path / "student", "float32")
    assert student.distilled_for == 1
    assert student.classes == first_images(1).classes
    assert ddpm.sample(student.given("bag"), 1, progress=False).isfinite().all()


def test_only_what_says_something_at_T_can_be_distilled(tmp_path):
    with pytest.raises(ValueError, match="teacher is 'equal-vae', 'autoencoder'; only a diffusion model can be"):
        distillation.teacher_named("equal-vae")
    train(DiffusionConfig(SMALL_UNET), first_images(4), replace(TINY, steps=1), tmp_path / "eps", progress=False)
    with pytest.raises(
        ValueError, match="whose target is 'eps'; at T that says hardly anything .* legal are x0, v, flow"
    ):
        distill(tmp_path / "eps", first_images(4), TINY, tmp_path / "out", 2, 4, progress=False)
    assert not (tmp_path / "out").exists()


def test_without_a_teacher_no_student_is_trained(tmp_path):
    with pytest.raises(
        ValueError, match=r"distilled_for is 4; ddpm.distillation trains such a model, with its teacher"
    ):
        train(replace(V, distilled_for=4), first_images(4), TINY, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_the_first_move_is_drawn_as_often_as_the_last():
    task, seen = (
        Distillation(replace(V, distilled_for=4, distilled_from=8), Answers(Gaussian(0.0, 0.5, linear()), "v")),
        [],
    )

    class Seen(nn.Module):
        def forward(self, x, index):
            seen.append(index + 1)
            return x

    task.parts["unet"] = Seen()
    task.loss("unet", torch.zeros(64, 1, 2, 2), StepRandomness(0, 0, 64))
    times, counts = seen[0].unique(return_counts=True)
    assert times.tolist() == [250, 500, 750, 1000]
    assert counts.tolist() == [16] * 4
