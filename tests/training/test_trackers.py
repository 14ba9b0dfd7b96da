import threading
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ddpm import files
from ddpm.training.trackers import Trackers
from tests.folders import contents
from tests.training.test_run import enter, full_disk

RECORD = {"kind": "small", "training": {"seed": 0}}


class Tracker:
    """Writes down what it is given."""

    def __init__(self, name):
        self.name, self.lines, self.images, self.finished = name, [], [], False

    def log(self, values, step):
        self.lines.append((values, step))

    def log_images(self, values, step, **ways):
        self.images.append((values, step, ways))

    def finish(self):
        self.finished = True


class Full(Tracker):
    """Has a full disk."""

    log = log_images = finish = full_disk


class Accelerator(SimpleNamespace):
    """accelerate's, as far as trackers know it."""

    def __init__(self, is_main_process=True, kind=Tracker):
        super().__init__(is_main_process=is_main_process, trackers=[], begun=[], kind=kind)

    def init_trackers(self, project, config, ways):
        self.begun.append((project, config, ways))
        self.trackers = [self.kind(name) for name in ways]


def of_run(folder, accelerator, names=()):
    return Trackers(accelerator, names, folder, RECORD)


def begun(folder, *names):
    """Trackers of these names, with all that they were given, and those of the run."""
    accelerator = Accelerator()
    accelerator.trackers = [Tracker(name) for name in names]
    return *accelerator.trackers, of_run(folder, accelerator, names)


def test_a_picture_goes_to_the_folder_and_to_the_trackers(tmp_path):
    board, wandb, trackers = begun(tmp_path, "tensorboard", "wandb")
    trackers.show(Image.new("L", (7, 5), 40), 6)
    assert Image.open(tmp_path / "samples" / "step-00000006.png").getpixel((0, 0)) == 40
    for tracker, ways in ((board, {"dataformats": "NHWC"}), (wandb, {})):
        ((values, step, given),) = tracker.images
        assert (step, given) == (6, ways)
        assert np.array_equal(values["samples"], np.full((1, 5, 7, 3), 40))


def test_samples_that_cannot_be_written_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "write_atomically", full_disk)
    with pytest.raises(OSError, match=r"the samples of step 6 could not be written \(No space left on device\)"):
        of_run(tmp_path, Accelerator()).show(Image.new("L", (4, 4)), 6)


def test_a_step_goes_to_the_trackers(tmp_path):
    board, wandb, trackers = begun(tmp_path, "tensorboard", "wandb")
    trackers.log({"step": 3, "rate": 0.1, "loss": 0.5})
    assert board.lines == wandb.lines == [({"rate": 0.1, "loss": 0.5}, 3)]


def test_trackers_are_begun_with_the_run_and_finished_after_it(tmp_path):
    accelerator = Accelerator()
    with of_run(tmp_path, accelerator, ["tensorboard"]).recording(0):
        assert not accelerator.trackers[0].finished
    assert accelerator.trackers[0].finished


def test_trackers_are_finished_after_an_error_too(tmp_path):
    accelerator = Accelerator()
    with pytest.raises(RuntimeError), of_run(tmp_path, accelerator, ["tensorboard"]).recording(0):
        raise RuntimeError
    assert accelerator.trackers[0].finished


def test_a_tracker_whose_disk_is_full_is_named(tmp_path, monkeypatch):
    accelerator = Accelerator(is_main_process=False, kind=Full)
    accelerator.trackers = [Full("tensorboard")]
    trackers = of_run(tmp_path, accelerator, ["tensorboard", "wandb"])
    why = r"could not be written \(No space left on device\); there is no checkpoint yet$"
    with pytest.raises(OSError, match=f"^tensorboard's log of step 3 {why}"):
        trackers.log({"step": 3})
    with pytest.raises(OSError, match=f"^tensorboard's samples of step 3 {why}"):
        trackers.show(Image.new("L", (4, 4)), 3)
    with pytest.raises(OSError, match=f"^tensorboard's log {why}"):
        enter(of_run(tmp_path, accelerator, ["tensorboard"]).recording(0))
    monkeypatch.setattr(Accelerator, "init_trackers", full_disk)
    with pytest.raises(OSError, match=f"^tensorboard and wandb's log {why}"):
        enter(trackers.recording(0))


@pytest.mark.parametrize("full_first", [True, False])
def test_a_tracker_that_cannot_be_finished_keeps_no_other_open(full_first, tmp_path):
    accelerator, wandb, board = Accelerator(), Tracker("wandb"), Full("tensorboard")
    recording = of_run(tmp_path, accelerator).recording(0)
    with pytest.raises(OSError, match="^tensorboard's log could not be written"), recording:
        accelerator.trackers = [board, wandb] if full_first else [wandb, board]
    assert wandb.finished


def test_a_tracker_that_cannot_be_finished_hides_no_error(tmp_path):
    trackers = of_run(tmp_path, Accelerator(kind=Full), ["tensorboard"])
    with pytest.raises(RuntimeError, match="the first"), trackers.recording(0):
        raise RuntimeError("the first")


def test_only_tensorboards_own_thread_is_kept_from_printing_that_it_cannot_write(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: said.append((failure.exc_type, failure.thread)))

    class Writer(threading.Thread):
        __module__ = "tensorboard.summary.writer.event_file_writer"

    def wrong():
        raise ValueError

    threads = [Writer(target=full_disk), Writer(target=wrong), threading.Thread(target=full_disk)]
    with of_run(tmp_path, Accelerator(), ["tensorboard"]).recording(0):
        for thread in threads:
            thread.start()
            thread.join()
    assert said == [(ValueError, threads[1]), (OSError, threads[2])]
    (after := Writer(target=full_disk)).start()
    after.join()
    assert said[2:] == [(OSError, after)]


def test_tensorboard_forgets_the_steps_that_are_repeated(tmp_path):
    accelerator = Accelerator()
    enter(of_run(tmp_path, accelerator, ["tensorboard"]).recording(6))
    assert accelerator.begun == [("ddpm", None, {"tensorboard": {"purge_step": 7}})]


def test_without_trackers_none_is_begun(tmp_path):
    accelerator = Accelerator()
    enter(of_run(tmp_path, accelerator).recording(0))
    assert accelerator.begun == []
    assert contents(tmp_path) == {}


def wandb_of(folder, step):
    """What wandb is told when a run goes on from a step."""
    accelerator = Accelerator()
    with of_run(folder, accelerator, ["wandb"]).recording(step):
        ((_, _, ways),) = accelerator.begun
    return ways["wandb"]


def test_a_run_that_goes_on_is_the_same_one_at_wandb(tmp_path):
    first, again, anew = wandb_of(tmp_path, 0), wandb_of(tmp_path, 6), wandb_of(tmp_path, 0)
    assert first == {
        "name": tmp_path.name, "id": first["id"], "resume": "allow", "dir": tmp_path, "config": RECORD
    }  # fmt: skip
    assert again["id"] == first["id"] != anew["id"]


def test_only_the_main_process_names_a_run_at_wandb(tmp_path):
    accelerator = Accelerator(is_main_process=False)
    enter(of_run(tmp_path, accelerator, ["wandb"]).recording(0))
    assert accelerator.begun == [("ddpm", None, {"wandb": {}})]
    assert contents(tmp_path) == {}
