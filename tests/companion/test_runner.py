import errno
import json
import os
import re
from pathlib import Path

import nbformat
import pytest
import torch

from ddpm import threads
from ddpm.companion import chapter_record, chapters, runner
from ddpm.companion.execution import Unfinished
from tests.checkout import ROOT
from tests.companion.chapters import write

pytestmark = pytest.mark.long


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "notebooks", 1, 'print(f"{preset} {seed}")')
    return tmp_path


def test_chapters_run_with_their_parameters_and_are_skipped_until_something_changes(folder, capsys):
    notebooks, out = folder / "notebooks", folder / "out"
    source = (notebooks / "01_chapter.ipynb").read_bytes()
    assert runner.run_chapters(notebooks, out, "smoke", parameters={"seed": 3})
    executed = nbformat.read(out / "smoke" / "01_chapter.ipynb", as_version=4)
    assert executed.cells[2].outputs[0]["text"] == "smoke 3\n"
    result = json.loads((out / "smoke" / "01_chapter.json").read_text())
    assert result["parameters"] == {"preset": "smoke", "seed": 3}
    assert {"device", "date", "commit", "versions", "seconds", "measured"} <= set(result)
    assert (notebooks / "01_chapter.ipynb").read_bytes() == source

    capsys.readouterr()
    assert runner.run_chapters(notebooks, out, "smoke", parameters={"seed": 3})
    assert "unchanged, skipped" in capsys.readouterr().out
    write(notebooks, 1, 'print("changed")')
    assert runner.run_chapters(notebooks, out, "smoke", parameters={"seed": 3})
    assert "done" in capsys.readouterr().out


def test_a_chapter_runs_again_where_a_file_of_the_package_or_of_the_books_data_says_something_else(
    folder, capsys, monkeypatch
):
    monkeypatch.setattr(chapter_record, "PACKAGE", folder / "ddpm")
    files = [folder / name for name in ("ddpm/training/loop.py", "book/claims.yml", "book/results/samplers.json")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1")
    assert runner.run_chapters(folder / "notebooks", folder / "out", "smoke")
    for file in files:
        assert runner.run_chapters(folder / "notebooks", folder / "out", "smoke")
        assert "unchanged, skipped" in capsys.readouterr().out
        file.write_text("2")
        assert runner.run_chapters(folder / "notebooks", folder / "out", "smoke")
        assert "done" in capsys.readouterr().out


def test_chapters_compute_with_the_threads_that_are_asked_for_and_say_so(folder, capsys, monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "_choice", None)
    asked = "from ddpm.companion import Parameters; Parameters(preset, 'cpu', seed); import torch"
    write(folder / "notebooks", 1, f"{asked}; print(torch.get_num_threads())")
    try:
        assert runner.run_chapters(folder / "notebooks", folder / "out", "smoke", threads=before + 1)
    finally:
        torch.set_num_threads(before)
    executed = nbformat.read(folder / "out" / "smoke" / "01_chapter.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0]["text"] == f"{before + 1}\n"
    record = json.loads((folder / "out" / "smoke" / "01_chapter.json").read_text())
    assert record["device"].endswith(f", {before + 1} threads")
    assert capsys.readouterr().out.startswith(f"1 chapter, preset smoke, {before + 1} threads each\n")


def test_chapters_run_side_by_side_and_share_the_threads(folder, capsys, monkeypatch):
    """Each of the two waits until the other runs, too; each works in the notebooks' folder, this process in its own."""
    monkeypatch.setattr(runner.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(threads, "_choice", None)
    before = torch.get_num_threads()
    for number, other in ((1, 2), (2, 1)):
        meeting = f"import os, pathlib, time\npathlib.Path('{number}').touch()\nend = time.time() + 60"
        meeting += f"\nwhile not pathlib.Path('{other}').exists():\n    assert time.time() < end\n    time.sleep(0.1)"
        write(folder / "notebooks", number, meeting, "print(os.environ['OMP_NUM_THREADS'], os.getcwd())")
    write(folder / "notebooks", 3, "print('third')")
    monkeypatch.chdir(folder)
    try:
        assert runner.run_chapters(Path("notebooks"), Path("out"), "smoke", threads=4)
    finally:
        torch.set_num_threads(before)
    assert Path.cwd() == folder
    for number in (1, 2):
        executed = nbformat.read(folder / "out" / "smoke" / f"0{number}_chapter.ipynb", as_version=4)
        assert executed.cells[-1].outputs[0]["text"] == f"2 {folder / 'notebooks'}\n"
    said = capsys.readouterr()
    assert said.out.startswith("3 chapters, 2 at a time, preset smoke, 2 threads each\n")
    assert [line[:10] for line in said.out.splitlines()[-3:]] == ["01_chapter", "02_chapter", "03_chapter"]
    assert "11/11" in said.err


def test_one_chapter_at_a_time_where_it_is_asked_for(folder, capsys):
    write(folder / "notebooks", 2, "1")
    assert runner.run_chapters(folder / "notebooks", folder / "out", "smoke", jobs=1)
    assert capsys.readouterr().out.startswith("2 chapters, preset smoke, ")


def test_a_failing_cell_is_shown_and_the_other_chapters_still_run(folder, capsys):
    notebooks, out = folder / "notebooks", folder / "out"
    write(notebooks, 2, "a = 1", "1 / (a - 1)")
    write(notebooks, 3, "print('third')")
    assert not runner.run_chapters(notebooks, out, "smoke")
    output = capsys.readouterr()
    assert "ZeroDivisionError" in output.err
    assert "02_chapter failed in cell" in output.err
    assert f"FAILED, see {out / 'smoke' / '02_chapter.partial.ipynb'}\n" in output.out
    assert (out / "smoke" / "03_chapter.ipynb").is_file()
    assert not (out / "smoke" / "02_chapter.ipynb").exists()
    capsys.readouterr()
    assert not runner.run_chapters(notebooks, out, "smoke")
    assert capsys.readouterr().out.count("unchanged, skipped") == 2


@pytest.mark.parametrize("wrapped", [True, False], ids=["by papermill", "at the end"])
@pytest.mark.parametrize("written", [b"", b'{"cells": ['])
def test_a_chapter_that_the_disk_has_no_room_for_points_at_no_file(folder, capsys, monkeypatch, written, wrapped):
    def full_disk(_, target, *__):
        target.write_bytes(written)
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise Unfinished(f": {error}") if wrapped else error

    monkeypatch.setattr(runner, "executed", full_disk)
    assert not runner.run_chapters(folder / "notebooks", folder / "out", "smoke")
    output = capsys.readouterr()
    assert "01_chapter failed: [Errno 28] No space left on device\n" in output.err
    assert output.out.endswith("FAILED, and its outputs could not be written\n")
    assert list((folder / "out" / "smoke").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "huge"}, "preset is 'huge'"),
        ({"preset": "gpu"}, "no GPU is found"),
        ({"preset": "gpu", "jobs": 2}, "jobs is 2; legal with preset gpu is 1"),
        ({"jobs": 0}, "jobs is 0"),
        ({"only": [7]}, "only is 7; legal are 1"),
        ({"only": 0}, "only is 0; legal are 1"),
        ({"parameters": {"sede": 1}}, "parameter is 'sede'; legal in 01_chapter.ipynb are preset, seed"),
        ({"parameters": {"preset": "smoke"}}, "parameter is 'preset'; give it with --preset"),
        ({"parameters": {"seed": -1}}, "seed is -1; it must be an integer from 0 up"),
        ({"parameters": {"seed": "1e3"}}, "seed is '1e3'; it must be an integer from 0 up"),
        ({"parameters": {"device": "gpu9"}}, "device is 'gpu9', which torch does not find here"),
        ({"parameters": {"device": 3}}, "device is '3', which torch does not find here"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(folder, arguments, message, monkeypatch):
    monkeypatch.setattr(runner.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        runner.run_chapters(folder / "notebooks", folder / "out", **arguments)
    assert not (folder / "out").exists()


def test_the_gpu_tier_may_be_tried_on_a_cpu_that_is_asked_for(folder, monkeypatch):
    monkeypatch.setattr(runner.torch.cuda, "is_available", lambda: False)
    chapter = write(folder / "notebooks", 1, "print(preset, device)")
    chapter.write_text(chapter.read_text().replace("seed = 0", r"seed = 0\ndevice = \"auto\""))
    runner.run_chapters(folder / "notebooks", folder / "out", preset="gpu", parameters={"device": "cpu"})
    executed = nbformat.read(folder / "out" / "gpu" / "01_chapter.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0]["text"] == "gpu cpu\n"


@pytest.mark.parametrize("content", ["<<<<<<< ours\n{}", "", "[]", '{"cells": ['])
def test_a_chapter_that_is_no_notebook_is_refused_before_anything_runs(folder, content):
    (folder / "notebooks" / "02_merged.ipynb").write_text(content)
    with pytest.raises(ValueError, match="02_merged.ipynb cannot be read as a notebook: .") as error:
        runner.run_chapters(folder / "notebooks", folder / "out", "smoke")
    assert "\n" not in str(error.value)
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("file", "where no file can be written: Not a directory"),
        ("n" * 300, "where no file can be written: File name too long"),
        (os.fsdecode(b"b\xfccher"), "the path must be text in UTF-8"),
    ],
)
def test_a_place_that_takes_no_chapters_is_refused_before_anything_runs(folder, out, message):
    (folder / "file").write_text("")
    before = sorted(folder.iterdir())
    with pytest.raises(ValueError, match=f"out is .*{message}"):
        runner.run_chapters(folder / "notebooks", folder / out, "smoke")
    assert sorted(folder.iterdir()) == before


def test_executed_chapters_do_not_replace_their_sources(folder):
    (folder / "notebooks").rename(folder / "smoke")
    with pytest.raises(ValueError, match="out is .*; the executed chapters may not replace their sources"):
        runner.run_chapters(folder / "smoke", folder, "smoke")


@pytest.mark.parametrize("record", ["[]", "nonsense", "{}", '{"fingerprint": "another"}', b"\xff"])
def test_a_chapter_whose_record_is_damaged_runs_again(folder, record, capsys):
    (folder / "out" / "smoke").mkdir(parents=True)
    (folder / "out" / "smoke" / "01_chapter.ipynb").write_text("{}")
    content = record if isinstance(record, bytes) else record.encode()
    (folder / "out" / "smoke" / "01_chapter.json").write_bytes(content)
    assert runner.run_chapters(folder / "notebooks", folder / "out", "smoke")
    assert "done" in capsys.readouterr().out


def test_a_notebook_that_does_not_name_its_language_runs(folder):
    path = folder / "notebooks" / "01_chapter.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = {}
    nbformat.write(notebook, path)
    assert runner.run_chapters(folder / "notebooks", folder / "out", "smoke")


def test_a_default_is_recorded_by_its_value_or_as_it_is_written(folder):
    path = folder / "notebooks" / "01_chapter.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source += "\nnone = None\nrate = 1e-3\nsize = 2 * 3\nname = '%s: x'\n"
    nbformat.write(notebook, path)
    assert runner.run_chapters(folder / "notebooks", folder / "out", "smoke")
    recorded = json.loads((folder / "out" / "smoke" / "01_chapter.json").read_text())["parameters"]
    assert recorded == {
        "preset": "smoke", "seed": 0, "none": None, "rate": 0.001, "size": "2 * 3", "name": "%s: x",
    }  # fmt: skip


@pytest.mark.parametrize("tagged", [0, 2])
def test_a_notebook_without_one_cell_of_parameters_is_refused(folder, tagged):
    write(folder / "notebooks", 2, "a = 1")
    path = folder / "notebooks" / "02_chapter.ipynb"
    notebook = nbformat.read(path, as_version=4)
    parameters = notebook.cells[0]
    assert parameters.metadata.tags == ["parameters"]
    notebook.cells = [*[parameters] * tagged, *notebook.cells[1:]]
    nbformat.write(notebook, path)
    with pytest.raises(ValueError, match=f"02_chapter.ipynb has {tagged} cells tagged parameters"):
        runner.run_chapters(folder / "notebooks", folder / "out", "smoke")


def test_parameters_are_read_as_yaml():
    assert chapters.parse_parameters(["seed=3", "device=cpu", "x=0.5"]) == {"seed": 3, "device": "cpu", "x": 0.5}
    assert chapters.parse_parameters(["x=", "y=a=b", "z=[1, true]"]) == {"x": None, "y": "a=b", "z": [1, True]}


@pytest.mark.parametrize(
    ("pair", "legal"),
    [
        ("seed", "it must be NAME=VALUE"),
        ("=1", "it must be NAME=VALUE"),
        ("seed=[1", "VALUE must be a number"),
        ("seed=2024-01-01", "VALUE must be a number"),
        ("seed=2024-13-01", "VALUE must be a number"),
        ("seed=!!python/object:x", "VALUE must be a number"),
        ("seed=\x01", "VALUE must be a number"),
    ],
)
def test_a_parameter_that_cannot_be_read_is_named_in_one_line(pair, legal):
    with pytest.raises(ValueError, match=re.escape(f"parameter is {pair!r}; {legal}")) as error:
        chapters.parse_parameters([pair])
    assert "\n" not in str(error.value)


def test_the_books_own_chapters_run_in_the_smoke_tier(tmp_path):
    assert runner.run_chapters(ROOT / "notebooks", tmp_path, "smoke")
    results = [json.loads(path.read_text()) for path in tmp_path.glob("smoke/*.json")]
    assert len(results) == len(list((ROOT / "notebooks").glob("*.ipynb")))
    assert all(result["measured"] for result in results)
