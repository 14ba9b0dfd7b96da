"""Two processes under the launcher against one that does the same work."""

import os
import signal
from functools import partial

import pytest
import torch
from PIL import Image

from ddpm.files import load_tensors
from ddpm.training.checkpoint import newest_checkpoint
from tests.folders import log_of
from tests.forked import forked_module
from tests.several import launched, started, wait_for

pytestmark = pytest.mark.long


def test_two_processes_train_as_one_does_to_the_last_digits(tmp_path):
    forked_module("tests.several", "train", tmp_path / "1")
    launched(2, "tests.several", "train", tmp_path / "2")
    one, two = (load_tensors(tmp_path / f"{n}" / "checkpoints" / "step-00000050.safetensors") for n in (1, 2))
    weights = [name for name in one if name.startswith("weights.")]
    assert all(one[name].dtype == torch.float64 for name in weights)
    apart = max(((one[name] - two[name]).norm() / one[name].norm()).item() for name in weights)
    assert apart < 1e-8
    assert len(log_of(tmp_path / "2")) == 50  # or each had trained on its own


@pytest.mark.parametrize("kind", ["diffusion", "autoencoder", "vae", "gan"])
def test_two_processes_train_every_kind_as_one_does(tmp_path, kind):
    """By plain gradient descent: where a gradient is nearly none, Adam and Muon make as much of its rounding."""
    command = [
        "ddpm", "train", "--model", kind, "--data", "fashion-mnist-embedded", "--steps", "6", "--batch-size", "4",
        "--base-channels", "8", "--precision", "float32", "--checkpoint-every", "2", "--warmup", "1",
        "--optimiser", "sgd", "--learning-rate", "0.01", "--track", "none", "--out",
    ]  # fmt: skip
    forked_module(*command, tmp_path / "one", "--no-samples")
    pieces = () if kind == "vae" else ("--micro-batch-size", "1")  # of two images; a VAE's sigma is of what it sees
    launched(2, *command, tmp_path / "two", *pieces)
    one, two = (load_tensors(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert len(log_of(tmp_path / "two")) == 6
    start = load_tensors(tmp_path / "one" / "checkpoints" / "step-00000004.safetensors")
    moved, apart = (
        sum((value - other[prefix + name]).double().square().sum().item() for name, value in one.items()) ** 0.5
        for other, prefix in ((start, "average-0.999."), (two, ""))
    )
    assert apart < 1e-3 * moved
    losses = [log_of(tmp_path / name)[-1] for name in ("one", "two")]
    for key, value in losses[0].items():
        assert losses[1][key] == pytest.approx(value, rel=1e-3), key


def test_two_processes_distill_as_one_does(tmp_path):
    """The first student by the midpoint rule, the second from the first one's own moves."""
    command = [
        "--data", "fashion-mnist-embedded", "--batch-size", "4", "--precision", "float32", "--warmup", "1",
        "--optimiser", "sgd", "--learning-rate", "0.01", "--out",
    ]  # fmt: skip
    of_the_teacher = ["--steps", "2", "--base-channels", "8", "--track", "none", "--no-samples"]
    forked_module("ddpm", "train", *of_the_teacher, *command, tmp_path / "teacher")
    students = ["ddpm", "distill", tmp_path / "teacher", "--calls", "2", "--teacher-calls", "8", "--steps", "4"]
    for processes, run in ((1, forked_module), (2, partial(launched, 2))):
        said = run(*students, *command, tmp_path / str(processes))
        assert said.count("student 2 of 2: 4 calls become 2") == 1
    start = load_tensors(tmp_path / "teacher" / "model.safetensors")
    for folder in ("teachers/calls-4", "."):
        one, two = (load_tensors(tmp_path / f"{n}" / folder / "model.safetensors") for n in (1, 2))
        moved, apart = (
            sum((value - other[name]).double().square().sum().item() for name, value in one.items()) ** 0.5
            for other in (start, two)
        )
        assert apart < 1e-3 * moved
        assert len(log_of(tmp_path / "2" / folder)) == 4
        start = one


def test_processes_that_do_not_see_one_folder_do_not_train_apart(tmp_path):
    forked_module("tests.several", "train", tmp_path / "0")
    process = started(2, "tests.several", "apart", tmp_path)
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "the processes find steps [50, 0] there: all must see one folder" in said
    assert not (tmp_path / "1").exists()


def test_a_signal_to_the_whole_group_saves_although_workers_hear_it_too(tmp_path):
    """As schedulers send it: to the training and to the processes that read pictures for it."""
    (tmp_path / "pictures").mkdir()
    for i in range(20):
        Image.new("L", (40, 30), 10 * i).save(tmp_path / "pictures" / f"{i}.png")
    process, log = started(1, "tests.several", "stream", tmp_path), tmp_path / "run" / "log.jsonl"
    wait_for(log, process)
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    steps = len(log.read_bytes().splitlines())
    assert f"stopped by SIGTERM after step {steps} of" in said
    assert newest_checkpoint(tmp_path / "run" / "checkpoints").step == steps


def test_two_processes_that_are_told_to_stop_leave_after_the_same_step(tmp_path):
    """The launcher passes SIGTERM on; both must have left, or the other would wait for ever."""
    command = [
        "ddpm", "train", "--data", "fashion-mnist-embedded", "--steps", "5000", "--batch-size", "4", "--base-channels",
        "8", "--track", "none", "--no-samples", "--checkpoint-every", "1000", "--out", tmp_path / "run",
    ]  # fmt: skip
    process, log = started(2, *command), tmp_path / "run" / "log.jsonl"
    wait_for(log, process)
    process.terminate()
    output, _ = process.communicate(timeout=60)
    steps = len(log.read_bytes().splitlines())
    assert f"stopped by SIGTERM after step {steps} of 5000" in output
    assert newest_checkpoint(tmp_path / "run" / "checkpoints").step == steps


def test_shared_sampling_draws_the_bits_of_one_process(tmp_path):
    forked_module("tests.several", "sample", tmp_path / "1")
    launched(2, "tests.several", "sample", tmp_path / "2")
    alone, *both = (load_tensors(tmp_path / name) for name in ("1/0.safetensors", "2/0.safetensors", "2/1.safetensors"))
    for name, shape in (("images", (40, 1, 32, 32)), ("fakes", (70, 1, 32, 32))):
        assert alone[name].shape == shape
        assert all(torch.equal(alone[name], one[name]) for one in both), name


def test_the_command_line_shares_sampling_and_speaks_once(tmp_path):
    runs = {1: forked_module, 2: partial(launched, 2)}
    for processes, run in runs.items():
        done = run("ddpm", "sample", "-n", 33, "--steps", 2, "--out", tmp_path / f"{processes}.png")
        assert done.count("33 images") == 1
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    said = [run("ddpm", "evaluate", "-n", 65, "--steps", 1) for run in runs.values()]
    assert said[0] == said[1]
    assert said[0].count("Frechet distance") == 1
