import json
from pathlib import Path

import nbformat
import pytest

from ddpm.companion import runner

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


def write(folder, number, *sources, tagged=True):
    folder.mkdir(exist_ok=True)
    cells = [nbformat.v4.new_code_cell('preset = "cpu"\nseed = 0', metadata={"tags": ["parameters"]} if tagged else {})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook.metadata["language_info"] = {"name": "python"}
    path = folder / f"{number:02}_chapter.ipynb"
    nbformat.write(notebook, path)
    return path


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


def test_a_failing_cell_is_shown_and_the_other_chapters_still_run(folder, capsys):
    notebooks, out = folder / "notebooks", folder / "out"
    write(notebooks, 2, "a = 1", "1 / (a - 1)")
    write(notebooks, 3, "print('third')")
    assert not runner.run_chapters(notebooks, out, "smoke")
    output = capsys.readouterr()
    assert "ZeroDivisionError" in output.err
    assert "02_chapter failed in cell" in output.err
    assert "FAILED" in output.out
    assert (out / "smoke" / "03_chapter.ipynb").is_file()
    assert not (out / "smoke" / "02_chapter.ipynb").exists()
    capsys.readouterr()
    assert not runner.run_chapters(notebooks, out, "smoke")
    assert capsys.readouterr().out.count("unchanged, skipped") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "huge"}, "preset is 'huge'"),
        ({"preset": "gpu"}, "no GPU is found"),
        ({"only": 7}, "only is 7; legal are 1"),
        ({"parameters": {"sede": 1}}, "parameter is 'sede'; legal in 01_chapter.ipynb are preset, seed"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(folder, arguments, message, monkeypatch):
    monkeypatch.setattr(runner.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        runner.run_chapters(folder / "notebooks", folder / "out", **arguments)
    assert not (folder / "out").exists()


def test_a_notebook_without_a_parameters_cell_is_refused(folder):
    write(folder / "notebooks", 2, "a = 1", tagged=False)
    with pytest.raises(ValueError, match="02_chapter.ipynb has 0 cells tagged parameters"):
        runner.run_chapters(folder / "notebooks", folder / "out", "smoke")


def test_parameters_are_read_as_yaml():
    assert runner.parse_parameters(["seed=3", "device=cpu", "x=0.5"]) == {"seed": 3, "device": "cpu", "x": 0.5}
    with pytest.raises(ValueError, match="NAME=VALUE"):
        runner.parse_parameters(["seed"])


def test_the_books_own_chapters_run_in_the_smoke_tier(tmp_path):
    assert runner.run_chapters(ROOT / "notebooks", tmp_path, "smoke")
    results = [json.loads(path.read_text()) for path in tmp_path.glob("smoke/*.json")]
    assert len(results) == len(list((ROOT / "notebooks").glob("*.ipynb")))
    assert all(result["measured"] for result in results)
