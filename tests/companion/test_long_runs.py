"""Files of results: rows that are kept, conditions that are compared, and what a run says of itself."""

import json
import sys
from pathlib import Path

import pytest
import torch
import typer

from ddpm.companion.long_runs import chosen, command_line, kept_rows, measured_with, processor, run_folder


def written(path, **provenance):
    rows = [{"model": "a", "seed": 0, "value": "1.0"}, {"model": "a", "seed": 1, "value": "2.0"}]
    path.write_text(json.dumps({"rows": rows, "terms": {"n": [1, 2]}, "provenance": provenance}), encoding="utf-8")
    return rows


def test_rows_are_kept_by_their_columns_whatever_machine_and_versions_they_have(tmp_path):
    path = tmp_path / "table.json"
    assert kept_rows(path, {"weights": "abc"}, by=("model", "seed")) == {}
    rows = written(path, weights="abc", device="96 threads of a CPU", versions={"torch": "1.0", "python": "3.0"})
    kept = kept_rows(path, {"weights": "abc", "guide": "new"}, by=("model", "seed"))  # the file names no guide
    assert kept == {("a", 0): rows[0], ("a", 1): rows[1]}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"n": 10, "weights": "def"}, "weights 'abc'; asked for is 'def'"),
        ({"students": {"1": "x", "2": "z"}}, "students.2 'y'; asked for is 'z'"),
        ({"students": {"1": "x"}}, "students.2 'y'; asked for is None"),
        ({"terms": {"n": [1, 3]}}, "terms.n.1 2; asked for is 3"),
    ],
)
def test_rows_of_other_conditions_are_refused_and_left_alone(tmp_path, asked, said):
    path = tmp_path / "table.json"
    written(path, weights="abc", n=10, students={"1": "x", "2": "y"})
    before = path.read_bytes()
    with pytest.raises(typer.BadParameter) as refused:
        kept_rows(path, asked, by=("model", "seed"))
    assert str(refused.value) == f"out is 'table.json', whose rows have {said}: name another file by --out"
    assert path.read_bytes() == before


def test_a_run_names_its_processor_and_its_command_and_no_folder_of_the_machine(monkeypatch, tmp_path):
    script = str(tmp_path / "benchmarks" / "samplers.py")
    monkeypatch.setattr(
        sys, "argv", [script, "--calls", "50", f"--out={tmp_path / 'new.json'}", str(tmp_path / "a run"), "runs/eight"]
    )
    assert command_line() == "python benchmarks/samplers.py --calls 50 --out=new.json 'a run' runs/eight"
    made = measured_with(1.6, [0])
    assert made["command"] == command_line()
    assert (made["seconds"], made["processor"]) == (2, processor())
    model, capability, bfloat16 = processor().rsplit(", ", 2)
    assert model
    assert capability == torch.backends.cpu.get_cpu_capability()
    assert bfloat16 in ("fast bfloat16", "no fast bfloat16")


def test_names_are_chosen_of_those_that_are_legal():
    legal = {"a": 1, "b": 2}
    assert chosen("row", None, legal) == ["a", "b"]
    assert chosen("row", ["b"], legal) == ["b"]
    with pytest.raises(typer.BadParameter, match=r"^row is 'c'; legal are a, b$"):
        chosen("row", ["a", "c"], legal)


def test_runs_of_other_steps_or_data_have_folders_of_their_own():
    runs = Path("runs")
    assert run_folder(runs, "straight path, its times", "folder:my/own", 500, 0) == (
        runs / "straight-path-its-times-folder-my-own-500-0"
    )
    assert len({run_folder(runs, "a", data, steps, 0) for data in ("b", "c") for steps in (1, 2)}) == 4
