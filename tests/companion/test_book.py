import json
import re
import subprocess
import sys
from dataclasses import asdict, replace

import nbformat
import pytest

from ddpm.companion import book
from ddpm.companion.book import build, staged
from ddpm.companion.checks import MIME, read_record
from ddpm.companion.notebook import read_notebook
from tests.cells import cells_of
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


def texts(root):
    """The Markdown of every page and chapter, by its name."""
    found = {path.stem: path.read_text(encoding="utf-8") for path in (root / "book").glob("*.md")}
    for path in (root / "notebooks").glob("*.ipynb"):
        found[path.stem] = "\n\n".join(cell["source"] for cell in cells_of(path, "markdown"))
    return found


def test_without_solutions_no_page_for_students_promises_them(tmp_path):
    promise = re.compile(r"\bsolutions\b[^.]*\bpage\b[^.]*\.", re.IGNORECASE)
    before, after = texts(ROOT), texts(staged(None, tmp_path / "stage", solutions=False))
    chapters = {name for name in before if name[0].isdigit()}
    promised = {name for name, text in before.items() if promise.search(text)} - {"instructors", "make_it_yours"}
    assert promised == {*chapters, "start", "index"}
    assert {name for name in after if after[name] != before[name]} == promised
    assert [name for name in promised if promise.search(after[name])] == []
    for name in chapters:
        assert " stand at the end, with hints. `ddpm chapters --hand-in" in after[name]
        assert not re.search(r"\bsolutions\b", after[name], re.IGNORECASE)  # the plural is of exercises alone
    assert "one zip of what you made of them.\nFor [instructors]" in after["index"]
    assert "has the words and the symbols.\n\n## How to hand in" in after["start"]


def test_a_staged_chapter_without_promises_is_otherwise_the_same(tmp_path):
    stage = staged(None, tmp_path / "stage", solutions=False)
    for chapter in (ROOT / "notebooks").glob("*.ipynb"):
        (before, after) = (read_notebook(root / "notebooks" / chapter.name)["cells"] for root in (ROOT, stage))
        others = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
        assert 1 <= len(others) <= 2
        for one, other in others:
            assert one["cell_type"] == "markdown"
            assert {**one, "source": ""} == {**other, "source": ""}
            assert 0 < len(one["source"]) - len(other["source"]) < 80


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
    stage = tmp_path / "stage"
    assert build(stage) == stage / "_build" / "html" / "index.html"
    assert capfd.readouterr().out.splitlines()[-1].startswith(f"build {stage} --path-output {stage} -n -W --keep-going")


def put_book_with_solutions(tmp_path, monkeypatch, code):
    """A root with a book that was built there with solutions, and a jupyter-book whose books have one page."""
    monkeypatch.setattr(book, "ROOT", tmp_path)
    for old in ("book/solutions.html", "_sources/book/solutions.ipynb", "searchindex.js"):
        path = tmp_path / "_build" / "html" / old
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("the solutions")
    put_jupyter_book(tmp_path / "bin", code)
    page = f'#!/bin/sh\nmkdir -p "$4/_build/html"\necho "$2" > "$4/_build/html/index.html"\nexit {code}\n'
    (tmp_path / "bin" / "jupyter-book").write_text(page)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    return tmp_path / "_build"


def test_a_book_without_solutions_takes_the_place_of_one_with_them(tmp_path, monkeypatch, capsys):
    built = put_book_with_solutions(tmp_path, monkeypatch, code=0)
    book.main(solutions=False)
    assert capsys.readouterr().out.startswith("the book: _build/html/index.html, built in ")
    assert [path.read_text() for path in (built / "html").rglob("*")] == [f"{built / 'stage'}\n"]
    assert not (built / "stage" / "book" / "solutions.ipynb").exists()


def test_a_book_without_solutions_that_fails_leaves_none_with_them(tmp_path, monkeypatch):
    built = put_book_with_solutions(tmp_path, monkeypatch, code=1)
    with pytest.raises(ValueError, match="the book was not built"):
        book.main(solutions=False)
    assert [path.name for path in (built / "html").rglob("*")] == ["index.html"]


def test_a_book_of_executed_chapters_stands_beside_the_committed_one(tmp_path, monkeypatch, capsys):
    built = put_book_with_solutions(tmp_path, monkeypatch, code=0)
    monkeypatch.setattr(book, "staged", lambda executed, stage, solutions: stage)
    book.main(tmp_path)
    assert capsys.readouterr().out.startswith("the book: _build/stage/_build/html/index.html, built in ")
    assert (built / "html" / "book" / "solutions.html").exists()


@pytest.mark.long
def test_a_word_too_many_is_no_order_to_write():
    done = subprocess.run(
        [sys.executable, "-m", "ddpm.companion.ledger", "--chekc"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "No such option" in done.stderr
