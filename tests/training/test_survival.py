"""Trainings that are killed, stopped, starved of disk space and lied to, against ones that nothing happened to."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from filelock import FileLock

import ddpm
from ddpm.diffusion import DiffusionConfig
from ddpm.training import run, train
from ddpm.training.checkpoint import newest_checkpoint, save_checkpoint
from ddpm.training.config import TrainingConfig
from ddpm.training.signals import Stopped
from ddpm.unet import UNetConfig
from tests.folders import contents
from tests.forked import ended, fork, forked_module
from tests.several import wait_for

pytestmark = pytest.mark.long

UNET = UNetConfig(
    base_channels=8, head_channels=8, blocks_per_level=1, channel_multipliers=(1, 2), attention_levels=(1,)
)
MODEL = DiffusionConfig(UNET)
CONFIG = TrainingConfig(steps=60, batch_size=2, warmup=2, checkpoint_every=3, ema=(0.99, 0.9), optimiser="muon")
LAST = ("model.safetensors", "config.json", "ema-0.9/model.safetensors", "log.jsonl")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As many as a fork has: their number decides the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    assert ended(fork(lambda: train(MODEL, images, CONFIG, folder, progress=False))) == 0
    return folder


def assert_same_bits(folder, whole, *names):
    newest = max(whole.glob("checkpoints/*.safetensors")).name
    for name in (*LAST, f"checkpoints/{newest}", f"checkpoints/{newest.replace('.safetensors', '.json')}", *names):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


def kill_at_random(images, whole, folder, kills, seed=0):
    """Kill a run at so many seeded moments, resuming it after each, then let it end.

    Where the run would end before all kills are done, it begins anew after it has been compared.
    """
    chance, done, runs = random.Random(seed), 0, 0
    while done < kills:
        here = folder / str(runs)
        child = fork(lambda here=here: train(MODEL, images, CONFIG, here, progress=False))
        time.sleep(chance.uniform(0, 1.2))
        os.kill(child, signal.SIGKILL)
        if ended(child) == -signal.SIGKILL:
            done += 1
        else:  # it had ended
            assert_same_bits(here, whole)
            runs += 1
    assert ended(fork(lambda: train(MODEL, images, CONFIG, here, progress=False))) == 0
    assert_same_bits(here, whole)


def test_ten_kills_at_random_moments_change_no_bit(images, whole, tmp_path):
    kill_at_random(images, whole, tmp_path, 10)


@pytest.mark.slow
def test_two_hundred_kills_at_random_moments_change_no_bit(images, whole, tmp_path):
    kill_at_random(images, whole, tmp_path, 200, seed=1)


@contextmanager
def killed_at_operation(number):
    """Kill this process just before, or in the midst of, the `number`th time it touches the disk."""
    honest = {name: getattr(os, name) for name in ("fsync", "replace", "unlink")}
    count = 0

    def counted(name):
        def operation(*arguments, **options):
            nonlocal count
            count += 1
            if count == number:
                if name == "fsync" and os.readlink(f"/proc/self/fd/{arguments[0]}").endswith(".part"):  # half a file
                    os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return honest[name](*arguments, **options)

        return operation

    for name in honest:
        setattr(os, name, counted(name))
    try:
        yield
    finally:
        for name, operation in honest.items():
            setattr(os, name, operation)


def test_a_kill_at_any_moment_of_a_write_changes_no_bit(images, tmp_path):
    """Exhaustively: at every flush, renaming and deletion of three checkpoints, and in the midst of a file."""
    model = DiffusionConfig(replace(UNET, channel_multipliers=(1,), attention_levels=(), middle_attention=False))
    config = replace(CONFIG, steps=3, checkpoint_every=1, keep=1)
    calm = tmp_path / "calm"
    assert ended(fork(lambda: train(model, images, config, calm, progress=False))) == 0
    number = 0
    while True:
        number += 1
        folder = tmp_path / str(number)

        def dies(folder=folder, number=number):
            with killed_at_operation(number):
                train(model, images, config, folder, progress=False)

        if ended(fork(dies)) == 0:
            break
        (folder / "a download.part").touch()  # somebody else's
        if (folder / "config.json").exists():
            ddpm.load(folder, device="cpu")  # whole at every moment
        assert ended(fork(lambda f=folder: train(model, images, config, f, progress=False))) == 0
        assert_same_bits(folder, calm)
        (folder / "a download.part").unlink()
        there = [{path.relative_to(where) for path in where.rglob("*")} for where in (folder, calm)]
        assert there[0] == there[1], "a kill left files behind"
        shutil.rmtree(folder)
    assert number > 36  # six files a checkpoint, each flushed and renamed


COMMAND = [
    "ddpm", "train", "--data", "fashion-mnist-embedded", "--batch-size", "2", "--base-channels", "8", "--no-samples",
    "--track", "none", "--steps", "200", "--checkpoint-every", "190", "--out",
]  # fmt: skip


@pytest.fixture(scope="module")
def whole_command(tmp_path_factory):
    """An uninterrupted run of the command line."""
    folder = tmp_path_factory.mktemp("command") / "whole"
    forked_module(*COMMAND, folder)
    return folder


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_a_signal_saves_says_so_and_ends_well(number, name, whole_command, tmp_path):
    stopped = tmp_path / "stopped"
    process = subprocess.Popen(
        [sys.executable, "-m", *COMMAND, str(stopped)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background are deaf to Ctrl-C
    )  # fmt: skip
    log = stopped / "log.jsonl"
    wait_for(log, process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"stopped by {name} after step" in output
    assert "the same command goes on from there" in output
    steps = len(log.read_bytes().splitlines())
    assert 0 < steps < 190
    assert [path.stem for path in stopped.glob("checkpoints/*.json")] == [f"step-{steps:08d}"]
    assert f"resumed from step {steps}" in forked_module(*COMMAND, stopped)
    for file in ("model.safetensors", "log.jsonl", "config.json", "checkpoints/step-00000200.safetensors"):
        assert (stopped / file).read_bytes() == (whole_command / file).read_bytes(), file


def train_up_to(step, images, folder, config=CONFIG):
    """Train and have SIGTERM come at the end of the step before this one."""

    def stop(line):
        if line["step"] + 1 == step:
            signal.raise_signal(signal.SIGTERM)

    train(MODEL, images, config, folder, progress=False, on_step=stop)


def test_a_program_that_trains_hears_of_a_signal_and_may_go_on(images, whole, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match=r"stopped by SIGTERM after step 5 of 60, and saved in"):
        train_up_to(5, images, tmp_path)
    assert newest_checkpoint(tmp_path / "checkpoints").step == 5
    assert signal.getsignal(signal.SIGTERM) is before
    assert ended(fork(lambda: train(MODEL, images, CONFIG, tmp_path, progress=False))) == 0
    assert_same_bits(tmp_path, whole)


def test_a_full_disk_leaves_the_previous_checkpoint_whole(images, whole, tmp_path):
    """Files may grow as large as the averaged weights are, but not as a checkpoint is."""
    with pytest.raises(Stopped):
        train_up_to(6, images, tmp_path)
    before = contents(tmp_path / "checkpoints")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = 2 * (tmp_path / "model.safetensors").stat().st_size
    assert limit < (tmp_path / "checkpoints" / "step-00000006.safetensors").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match=r"the checkpoint of step 9 could not be written .*; the last checkpoint sta"):
            train(MODEL, images, CONFIG, tmp_path, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(tmp_path / "checkpoints") == before
    assert ended(fork(lambda: train(MODEL, images, CONFIG, tmp_path, progress=False))) == 0
    assert_same_bits(tmp_path, whole)


def test_a_checkpoint_of_another_run_is_refused_by_name(images, tmp_path):
    train(MODEL, images, replace(CONFIG, steps=3), tmp_path / "a", progress=False)
    train(MODEL, images, replace(CONFIG, steps=3, seed=1), tmp_path / "b", progress=False)
    for path in (tmp_path / "b" / "checkpoints").iterdir():
        shutil.copy(path, tmp_path / "a" / "checkpoints")
    with pytest.raises(ValueError, match=r"holds another run \(seed is 1 there and 0 here\)"):
        train(MODEL, images, replace(CONFIG, steps=3), tmp_path / "a", progress=False)


def test_a_damaged_checkpoint_does_not_outlive_a_new_one(images, tmp_path):
    """The newest is damaged; the run goes on from the one before and is stopped before it comes as far again."""
    config = replace(CONFIG, keep=1, checkpoint_every=5)
    with pytest.raises(Stopped):
        train_up_to(9, images, tmp_path, config)
    path = tmp_path / "checkpoints" / "step-00000009.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(Stopped, match="after step 7"):
        train_up_to(7, images, tmp_path, config)
    assert newest_checkpoint(tmp_path / "checkpoints").step == 7


def test_a_torn_log_is_mended(images, whole, tmp_path):
    with pytest.raises(Stopped):
        train_up_to(5, images, tmp_path)
    with open(tmp_path / "log.jsonl", "ab") as file:
        file.write(b'{"step": 6, "rate": 0.00\n\0\0\0')
    assert ended(fork(lambda: train(MODEL, images, CONFIG, tmp_path, progress=False))) == 0
    assert_same_bits(tmp_path, whole)


def test_two_trainings_do_not_share_a_folder(images, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "PATIENCE", 0.1)
    with FileLock(tmp_path / ".lock"), pytest.raises(ValueError, match="is being trained in by another process"):
        train(MODEL, images, CONFIG, tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_training_that_waited_does_not_undo_what_another_did_meanwhile(images, tmp_path, monkeypatch):
    honest = FileLock.acquire

    def acquire(self, *arguments, **options):
        save_checkpoint(tmp_path / "checkpoints", 7, {"w": torch.zeros(1)}, {})
        return honest(self, *arguments, **options)

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with pytest.raises(ValueError, match="another process has just trained in it; start again"):
        train(MODEL, images, CONFIG, tmp_path, progress=False)
    assert newest_checkpoint(tmp_path / "checkpoints").step == 7
