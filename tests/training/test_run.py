import errno
import fcntl
import json
import os
import re

import pytest
import torch
from filelock import FileLock

from ddpm import files
from ddpm.files import load_tensors
from ddpm.training import run
from ddpm.training.checkpoint import newest_checkpoint, save_checkpoint
from ddpm.training.run import Run
from tests.folders import contents

RECORD = {"kind": "small", "training": {"seed": 0, "ema": [0.9, 0.99]}}


def run_in(folder, record=RECORD, defaults=RECORD, keep=2):
    return Run(folder, record, defaults, keep)


def state(value):
    return {"weights.w": torch.full((3,), float(value))}


def averages(value):
    return {0.9: {"w": torch.full((3,), value + 0.5)}, 0.99: {"w": torch.full((3,), value + 0.25)}}


def full_disk(*_, **__):
    raise OSError("No space left on device")


# What it finds.


def test_a_new_folder_has_nothing_to_resume_from_and_is_not_made(tmp_path):
    assert run_in(tmp_path / "run").found is None
    assert not (tmp_path / "run").exists()


def test_the_newest_checkpoint_is_found(tmp_path):
    for step in (3, 6):
        save_checkpoint(tmp_path / "checkpoints", step, state(step), RECORD)
    assert run_in(tmp_path).found.step == 6
    assert torch.equal(run_in(tmp_path).found.tensors["weights.w"], torch.full((3,), 6.0))


def test_another_run_is_refused_by_the_setting_that_differs(tmp_path):
    save_checkpoint(tmp_path / "checkpoints", 3, state(3), {"kind": "small", "training": {"seed": 1, "ema": 0.9}})
    before = contents(tmp_path)
    message = r"holds another run \(seed is 1 there and 0 here\); name a new folder, or .*; --init .* weights, and"
    with pytest.raises(ValueError, match=message):
        run_in(tmp_path)
    assert contents(tmp_path) == before


def test_a_run_older_than_a_setting_has_its_default(tmp_path):
    save_checkpoint(tmp_path / "checkpoints", 3, state(3), {"kind": "small", "training": {"ema": [0.9, 0.99]}})
    assert run_in(tmp_path).found.step == 3
    with pytest.raises(ValueError, match="seed is 0 there and 1 here"):
        run_in(tmp_path, record={"kind": "small", "training": {"seed": 1, "ema": [0.9, 0.99]}})


def test_a_setting_that_is_left_open_is_the_runs_own(tmp_path):
    own, left_open = ({"kind": "small", "training": {"seed": 0, "threads": threads}} for threads in (3, None))
    save_checkpoint(tmp_path / "checkpoints", 3, state(3), own)
    assert run_in(tmp_path, left_open, left_open).record == own
    assert run_in(tmp_path, own, left_open).record == own
    with pytest.raises(ValueError, match="threads is 3 there and 2 here"):
        run_in(tmp_path, {"kind": "small", "training": {"seed": 0, "threads": 2}}, left_open)


def test_a_run_that_left_a_setting_open_goes_on_with_any(tmp_path):
    old = {"kind": "small", "training": {"seed": 0}}
    left_open, own = ({"kind": "small", "training": {"seed": 0, "threads": threads}} for threads in (None, 3))
    save_checkpoint(tmp_path / "checkpoints", 3, state(3), old)
    assert run_in(tmp_path, own, left_open).record == own
    assert run_in(tmp_path, left_open, left_open).record == left_open


def test_what_only_the_other_run_had_is_named(tmp_path):
    save_checkpoint(tmp_path / "checkpoints", 3, state(3), RECORD | {"init": "ab"})
    with pytest.raises(ValueError, match=r"holds another run \(init is ab there and None here\)"):
        run_in(tmp_path)


def test_a_model_without_a_checkpoint_is_not_overwritten(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"somebody's")
    with pytest.raises(ValueError, match="holds a trained model and no checkpoint to resume from; name a new folder"):
        run_in(tmp_path)


# The lock.


@pytest.mark.parametrize(
    ("name", "content"), [("config.json", '{"mine": 1}'), ("log.jsonl", "my log\n"), ("log.jsonl", '{"mine": 1}\n')]
)
def test_a_folder_of_another_program_is_left_alone(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match="holds another program's config.json or log.jsonl; name a new folder"):
        run_in(tmp_path)
    assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize("log", ["", '{"step": 1}\n{"st', '{"st'])
def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(log, tmp_path):
    (tmp_path / "log.jsonl").write_text(log)
    assert run_in(tmp_path).found is None


def test_the_lock_makes_the_folder(tmp_path):
    with run_in(tmp_path / "a" / "run").locked():
        assert (tmp_path / "a" / "run").is_dir()


def enter(context):
    """Enter a context and leave it at once."""
    with context:
        pass


def test_two_runs_do_not_share_a_folder(tmp_path, monkeypatch):
    """Nor may a lock that another machine holds be in the way without a word of what to do."""
    monkeypatch.setattr(run, "PATIENCE", 0.1)
    words = (
        f"{tmp_path} is being trained in by another process, which holds {tmp_path / '.lock'}; name a new folder, or "
        "delete that file where the process was killed on another machine"
    )
    with FileLock(tmp_path / ".lock"), pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        enter(run_in(tmp_path).locked())


def flock_answers(monkeypatch, number):
    """A file system on which flock fails; in truth a process under it, as tests cannot mount one."""

    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("name", ["ENOTSUP", "EOPNOTSUPP", "ENOLCK", "ENOSYS", "EINVAL"])
def test_a_file_system_without_locks_is_trained_on_with_a_warning(name, tmp_path, monkeypatch, capsys):
    number = getattr(errno, name)
    flock_answers(monkeypatch, number)
    with run_in(tmp_path).locked():
        (tmp_path / "trained").touch()
    assert capsys.readouterr().err == (
        f"{tmp_path / '.lock'} cannot be locked ({os.strerror(number)}): "
        "nothing keeps a second process from training in its folder\n"
    )
    enter(run_in(tmp_path).locked())  # nor is anything left that keeps one out


def test_a_lock_that_fails_for_another_reason_is_named(tmp_path, monkeypatch):
    flock_answers(monkeypatch, errno.EIO)
    with pytest.raises(ValueError, match=f"^out is '{tmp_path / '.lock'}', where nothing can be written: Input/output"):
        enter(run_in(tmp_path).locked())


def test_a_lock_that_is_a_folder_is_named(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(ValueError, match=f"^out is '{tmp_path / '.lock'}', where nothing can be written: Is a direct"):
        enter(run_in(tmp_path).locked())


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    for place, why in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "run", "Not a directory")):
        with pytest.raises(ValueError, match=f"^out is '{place}', where nothing can be written: {why}$"):
            enter(run_in(place).locked())


def test_the_lock_is_free_after_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "PATIENCE", 0.1)
    with pytest.raises(RuntimeError), run_in(tmp_path).locked():
        raise RuntimeError
    enter(run_in(tmp_path).locked())


def test_a_run_that_waited_does_not_undo_what_another_did_meanwhile(tmp_path):
    waiting = run_in(tmp_path)
    save_checkpoint(tmp_path / "checkpoints", 7, state(7), RECORD)
    with pytest.raises(ValueError, match="another process has just trained in it; start again to go on"):
        enter(waiting.locked())
    assert newest_checkpoint(tmp_path / "checkpoints").step == 7


HALF_WRITTEN = (
    "model.safetensors.123.part", "config.json.123.part", "log.jsonl.9.part", "wandb-id.1.part",
    "ema-0.99/model.safetensors.123.part", "checkpoints/step-00000003.safetensors.77.part",
    "checkpoints/step-00000003.json.77.part", "samples/step-00000003.png.77.part",
)  # fmt: skip
SOMEBODY_ELSES = ("a download.part", "model.safetensors.part", "notes.txt.123.part", "checkpoints/step-3.json.7.part")


@pytest.mark.parametrize("name", HALF_WRITTEN)
def test_what_a_kill_left_half_written_is_deleted(name, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with run_in(tmp_path).locked():
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", SOMEBODY_ELSES)
def test_somebody_elses_files_are_left_alone(name, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with run_in(tmp_path).locked():
        assert (tmp_path / name).exists()


# The log.


def logged(folder, steps):
    here = run_in(folder)
    for step in steps:
        here.log({"step": step, "rate": 0.1 * step})
    return here


def test_the_log_has_a_line_for_each_step(tmp_path):
    logged(tmp_path, (1, 2))
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1, "rate": 0.1}\n{"step": 2, "rate": 0.2}\n'


def test_what_was_logged_beyond_a_step_is_cut_off(tmp_path):
    kept = logged(tmp_path, (1, 2, 3)).shorten_log(2)
    assert kept == [{"step": 1, "rate": 0.1}, {"step": 2, "rate": 0.2}]
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1, "rate": 0.1}\n{"step": 2, "rate": 0.2}\n'


@pytest.mark.parametrize("torn", [b'{"step": 2, "ra', b"\0\0\0\0", b'{"step": 2\n\0', b"\xff\xfe"])
def test_a_torn_line_is_cut_off(torn, tmp_path):
    here = logged(tmp_path, (1,))
    with open(tmp_path / "log.jsonl", "ab") as file:
        file.write(torn)
    assert here.shorten_log(2) == [{"step": 1, "rate": 0.1}]
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1, "rate": 0.1}\n'


@pytest.mark.parametrize("damaged", ['{"loss": 5}', "[5]", "5", "null", '{"step": "x"}', '{"step": 1.5}'])
def test_a_whole_line_without_a_step_is_refused_by_its_number(damaged, tmp_path):
    here = logged(tmp_path, (1,))
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write(f'{damaged}\n{{"step": 3}}\n')
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"^{tmp_path / 'log.jsonl'} is damaged: line 2 has no step$"):
        here.shorten_log(3)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("illegible", ["###", '{"step": 2, "ra\n###', ""])
def test_a_line_that_cannot_be_read_before_others_is_refused_by_its_number(illegible, tmp_path):
    """A kill leaves no such log, and what stands behind that line must not be lost."""
    here = logged(tmp_path, (1,))
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write(f'{illegible}\n{{"step": 3}}\n')
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"^{tmp_path / 'log.jsonl'} is damaged: line 2 cannot be read$"):
        here.shorten_log(3)
    assert contents(tmp_path) == before
    assert here.shorten_log(2) == [{"step": 1, "rate": 0.1}]  # from whose checkpoint on it is written anew


def test_a_run_that_begins_has_an_empty_log(tmp_path):
    assert run_in(tmp_path).shorten_log(0) == []
    assert (tmp_path / "log.jsonl").read_bytes() == b""


# Checkpoints, and the averages that are published.


def saved(folder, *steps, keep=2):
    """A run that has saved itself after these steps, with a loss that falls."""
    here = run_in(folder, keep=keep)
    here.shorten_log(0)
    for step in steps:
        here.save(step, state(step), averages(step), 1 / step)
    return here


def test_a_saved_run_can_go_on(tmp_path):
    saved(tmp_path, 3)
    found = run_in(tmp_path).found
    assert (found.step, found.config) == (3, RECORD)
    assert torch.equal(found.tensors["weights.w"], torch.full((3,), 3.0))


def test_the_first_average_is_the_runs_model_and_the_others_have_folders(tmp_path):
    saved(tmp_path, 3)
    for folder, value in ((tmp_path, 3.5), (tmp_path / "ema-0.99", 3.25)):
        assert torch.equal(load_tensors(folder / "model.safetensors")["w"], torch.full((3,), value))


def test_a_published_model_says_what_it_is(tmp_path):
    saved(tmp_path, 3)
    for folder, decay in ((tmp_path, 0.9), (tmp_path / "ema-0.99", 0.99)):
        config = json.loads((folder / "config.json").read_text())
        sha256 = config.pop("sha256")
        load_tensors(folder / "model.safetensors", sha256)
        assert config == RECORD | {"step": 3, "best": "step-00000003", "average": decay}


def test_a_run_without_losses_has_no_best(tmp_path):
    here = run_in(tmp_path)
    here.shorten_log(0)
    here.save(3, state(3), averages(3), None)
    assert "best" not in json.loads((tmp_path / "config.json").read_text())


def test_as_many_checkpoints_are_kept_as_asked(tmp_path):
    saved(tmp_path, 3, 6, 9, 12, keep=3)
    assert sorted(path.stem for path in tmp_path.glob("checkpoints/*.json")) == [
        "step-00000006", "step-00000009", "step-00000012"
    ]  # fmt: skip


def hashes_that_load(folder):
    config = json.loads((folder / "config.json").read_text())
    return [config[name] for name in ("sha256", "replaced") if name in config]


def test_a_model_can_be_loaded_while_it_is_replaced(tmp_path, monkeypatch):
    """A kill between its two files: the config holds the hash of either."""
    here, write = saved(tmp_path, 3), files.write_atomically
    before = (tmp_path / "model.safetensors").read_bytes()

    def killed_at_the_weights(path, content):
        if path.name == "model.safetensors":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(files, "write_atomically", killed_at_the_weights)
    with pytest.raises(KeyboardInterrupt):
        here.publish(6, averages(6))
    assert (tmp_path / "model.safetensors").read_bytes() == before
    load_tensors(tmp_path / "model.safetensors", *hashes_that_load(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(files.serialised(averages(6)[0.9])[0])  # a kill right after it
    load_tensors(tmp_path / "model.safetensors", *hashes_that_load(tmp_path))


def test_a_model_is_not_replaced_when_its_new_hash_cannot_be_written_first(tmp_path, monkeypatch):
    here = saved(tmp_path, 3)
    monkeypatch.setattr(files, "write_json", full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        here.publish(6, averages(6))
    load_tensors(tmp_path / "model.safetensors", *hashes_that_load(tmp_path))


def test_resuming_publishes_what_a_kill_may_have_kept_back(tmp_path, capsys):
    here = saved(tmp_path, 3)
    (tmp_path / "model.safetensors").write_bytes(b"half")
    assert here.resume(3, 10, averages(3)) == []
    assert capsys.readouterr().out == f"resumed from step 3 of 10 in {tmp_path}\n"
    assert torch.equal(load_tensors(tmp_path / "model.safetensors")["w"], torch.full((3,), 3.5))


def test_a_run_that_begins_publishes_nothing(tmp_path, capsys):
    assert run_in(tmp_path).resume(0, 10, averages(0)) == []
    assert capsys.readouterr().out == ""
    assert contents(tmp_path) == {"log.jsonl": b""}


# A full disk.


def test_a_log_that_cannot_be_begun_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "write_atomically", full_disk)
    with pytest.raises(OSError, match=r"^the log could not be written \(No space left on device\)"):
        run_in(tmp_path).resume(0, 10, averages(0))


def test_a_log_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(OSError, match=r"the log of step 3 could not be written \(.*\); there is no checkpoint yet$"):
        run_in(tmp_path).log({"step": 3})


def test_a_checkpoint_that_cannot_be_written_is_named_and_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    here = saved(tmp_path, 3)
    before = contents(tmp_path)
    monkeypatch.setattr(run, "save_checkpoint", full_disk)
    message = r"^the checkpoint of step 6 could not be written \(No space left on device\); the last checkpoint stands$"
    with pytest.raises(OSError, match=message):
        here.save(6, state(6), averages(6), None)
    assert contents(tmp_path) == before


def test_averages_that_cannot_be_written_are_named(tmp_path, monkeypatch):
    here = saved(tmp_path, 3)
    monkeypatch.setattr(run.Run, "publish", full_disk)
    with pytest.raises(OSError, match=r"the averaged weights of step 6 could not be written \(No space left"):
        here.save(6, state(6), averages(6), None)
    assert run_in(tmp_path).found.step == 6


def test_a_model_can_be_loaded_after_two_kills_between_its_files(tmp_path, monkeypatch):
    saved(tmp_path, 3)
    write = files.write_atomically
    monkeypatch.setattr(
        files, "write_atomically", lambda path, c: full_disk() if path.suffix == ".safetensors" else write(path, c)
    )
    for step in (6, 9):
        with pytest.raises(OSError, match="No space left"):
            run_in(tmp_path).publish(step, averages(step))
        load_tensors(tmp_path / "model.safetensors", *hashes_that_load(tmp_path))


def test_averages_that_cannot_be_published_again_are_named(tmp_path, monkeypatch):
    saved(tmp_path, 3)
    monkeypatch.setattr(run.Run, "publish", full_disk)
    with pytest.raises(OSError, match=r"the averaged weights of step 3 could not be written \(No space left"):
        run_in(tmp_path).resume(3, 6, averages(3))
