"""Outputs of executed chapters on their way back into the notebooks, and the command that brings them."""

import nbformat
import pytest
import typer
from typer.testing import CliRunner

from ddpm.companion import outputs
from ddpm.companion.execution import executed
from ddpm.companion.notebook import read_notebook
from ddpm.companion.outputs import executed_copy, main, with_outputs
from ddpm.files import write_json
from tests.companion.chapters import write

APP = typer.Typer()
APP.command()(main)
MADE = {"parameters": {"preset": "cpu", "seed": 0}, "commit": "0123abc"}
SOURCES = ('print("a")\nprint("b", flush=True)\nprint("c")', "1 + 1", "# nothing is shown")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of a chapter as it is written, and one of its executed copy."""
    notebooks, out = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("executed")
    path = write(notebooks, 4, *SOURCES)
    executed(path, out / path.name, {"preset": "cpu"})
    write_json(out / "04_chapter.json", MADE)
    return notebooks, out


@pytest.fixture
def both(folders):
    return [read_notebook(folder / "04_chapter.ipynb") for folder in folders]


def test_outputs_stand_where_they_were_made_and_nothing_else_changes(folders):
    notebooks, out = folders
    before = read_notebook(notebooks / "04_chapter.ipynb")
    done = CliRunner().invoke(APP, ["4", "--executed", str(out), "--notebooks", str(notebooks)])
    assert (done.exit_code, done.output) == (0, f"{notebooks / '04_chapter.ipynb'}\n")
    after = read_notebook(notebooks / "04_chapter.ipynb")
    assert after["metadata"] == before["metadata"]
    assert [(cell["id"], cell["source"], cell["metadata"]) for cell in after["cells"]] == [
        (cell["id"], cell["source"], cell["metadata"]) for cell in before["cells"]
    ]
    assert [cell["execution_count"] for cell in after["cells"]] == [1, 2, 3, 4]
    parameters, printed, sum_, nothing = (cell["outputs"] for cell in after["cells"])
    assert parameters == nothing == []
    assert [(each["name"], each["text"]) for each in printed] == [("stdout", "a\nb\nc\n")]
    assert [(each["execution_count"], each["data"]["text/plain"]) for each in sum_] == [(3, "2")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cell: cell.update(source="2 + 2"), "is another one where it was executed"),
        (lambda cell: cell.update(id="other"), "is another one where it was executed"),
        (lambda cell: cell.update(cell_type="markdown"), "is another one where it was executed"),
        (lambda cell: cell.update(execution_count=None), "has not run"),
        (lambda cell: cell.outputs.append(nbformat.v4.new_output("stream", name="stderr", text="!")), r"warns \(!\)"),
        (lambda cell: cell.outputs.append(nbformat.v4.new_output("error", evalue="why")), r"has failed or warns \(why"),
    ],
)
def test_what_was_not_made_by_this_chapter_is_refused(change, message, both):
    notebook, copy = both
    change(next(cell for cell in copy["cells"] if cell["source"] == "1 + 1"))
    with pytest.raises(ValueError, match=message):
        with_outputs(notebook, copy)


def test_a_copy_with_one_cell_more_is_refused(both):
    notebook, copy = both
    del notebook["cells"][-1]
    with pytest.raises(ValueError, match="is another one where it was executed"):
        with_outputs(notebook, copy)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, "holds no 04_chapter.ipynb that has run to its end"),
        (
            MADE | {"parameters": {"preset": "cpu", "seed": 1}},
            "executed with .*'seed': 1.*; its own parameters are .*: 0",
        ),
        (MADE | {"commit": "0123abc-dirty"}, "before its sources were committed"),
    ],
)
def test_a_copy_that_was_made_otherwise_is_refused(made, message, tmp_path):
    chapter = write(tmp_path / "notebooks", 4, *SOURCES)
    if made:
        write_json(tmp_path / "04_chapter.json", made)
    with pytest.raises(ValueError, match=message):
        executed_copy(chapter, tmp_path)


def test_the_page_of_solutions_is_executed_and_keeps_all_but_its_outputs(tmp_path, monkeypatch):
    (tmp_path / "book").mkdir()
    page = write(tmp_path / "book", 4, *SOURCES).rename(tmp_path / "book" / "solutions.ipynb")
    before = read_notebook(page)
    monkeypatch.setattr(outputs, "ROOT", tmp_path)
    assert CliRunner().invoke(APP, ["--solutions"]).output == f"{page}\n"
    after = read_notebook(page)
    assert [cell["execution_count"] for cell in after["cells"]] == [1, 2, 3, 4]
    assert after["cells"][2]["outputs"][0]["data"]["text/plain"] == "2"
    for cell in (*before["cells"], *after["cells"]):
        cell.update(outputs=[], execution_count=None)
    assert after == before

    write(tmp_path / "book", 4, "1 / 0").rename(page)
    written = page.read_bytes()
    done = CliRunner().invoke(APP, ["--solutions"])
    assert str(done.exception).startswith("solutions.ipynb failed in cell 1:")
    assert page.read_bytes() == written
