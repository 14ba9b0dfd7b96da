import json
import subprocess
import sys
from dataclasses import asdict, replace

import nbformat
import pytest

from ddpm.companion import book
from ddpm.companion.book import build, staged
from ddpm.companion.checks import MIME, read_record
from ddpm.companion.notebook import read_notebook
from tests.checkout import ROOT


def test_an_executed_chapter_takes_the_place_of_the_committed_one(tmp_path):
    first, second, *_ = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    (tmp_path / "executed").mkdir()
    (tmp_path / "executed" / first).write_text(json.dumps(read_notebook(ROOT / "notebooks" / first)))
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "old").write_text("")
    stage = staged(tmp_path / "executed", tmp_path / "stage")
    assert (stage / "notebooks" / first).read_bytes() == (tmp_path / "executed" / first).read_bytes()
    assert (stage / "notebooks" / second).read_bytes() == (ROOT / "notebooks" / second).read_bytes()
    assert sorted(path.name for path in stage.iterdir()) == sorted(book.PAGES)


def test_the_ledger_has_the_numbers_of_the_executed_chapters(tmp_path):
    committed = (ROOT / "book" / "ledger.md").read_text(encoding="utf-8")
    (chapter,) = (ROOT / "notebooks").glob("04_*.ipynb")
    notebook = read_notebook(chapter)
    measured = next(each for each in read_record(notebook).values() if f"{each.name}: **{each}** " in committed)
    other = replace(measured, measured=measured.measured + 17)
    (outputs,) = [
        output for cell in notebook["cells"] for output in cell.get("outputs", []) if MIME in output.get("data", {})
    ]
    record = read_record(notebook) | {measured.name: other}
    outputs["data"][MIME] = [asdict(each) for each in record.values()]
    (tmp_path / "executed").mkdir()
    nbformat.write(notebook, tmp_path / "executed" / chapter.name)
    ledger = staged(tmp_path / "executed", tmp_path / "stage") / "book" / "ledger.md"
    assert f"{other.name}: **{other}** " in ledger.read_text(encoding="utf-8")
    assert staged(None, tmp_path / "stage").joinpath("book", "ledger.md").read_text(encoding="utf-8") == committed


@pytest.mark.parametrize("name", ["none", "empty"])
def test_a_folder_without_executed_chapters_is_refused(name, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="executed is .*; it must be a folder of executed chapters"):
        staged(tmp_path / name, tmp_path / "stage")
    assert not (tmp_path / "stage").exists()


def put_jupyter_book(folder, code):
    """An executable that stands for jupyter-book and ends with this code."""
    folder.mkdir()
    (folder / "jupyter-book").write_text(f'#!/bin/sh\necho "$@"\nexit {code}\n')
    (folder / "jupyter-book").chmod(0o755)


def test_the_book_is_built_by_the_jupyter_book_of_this_interpreter_or_another(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match=r"jupyter-book is not installed; .* pip install 'ddpm\[book\]'"):
        build(tmp_path)
    put_jupyter_book(tmp_path / "elsewhere", 3)
    with pytest.raises(ValueError, match="the book was not built: jupyter-book ended with exit code 3"):
        build(tmp_path)
    put_jupyter_book(tmp_path / "bin", 0)
    assert build(tmp_path / "stage") == tmp_path / "stage" / "_build" / "html" / "index.html"
    assert capfd.readouterr().out.splitlines()[-1].startswith(f"build {tmp_path / 'stage'} -n -W --keep-going")


@pytest.mark.long
def test_a_word_too_many_is_no_order_to_write():
    done = subprocess.run(
        [sys.executable, "-m", "ddpm.companion.ledger", "--chekc"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "No such option" in done.stderr
