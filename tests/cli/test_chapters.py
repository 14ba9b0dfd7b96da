import json
import zipfile
from pathlib import Path

import pytest

from ddpm.cli.chapters import chapters
from ddpm.companion.sandbox import Limits
from tests.cli.commands import alone, refusal, run
from tests.companion.chapters import write


@pytest.fixture
def notebooks(tmp_path):
    """A folder of two small chapters."""
    for number in (1, 2, 3):
        write(tmp_path / "bücher-衣服 {1}", number, "print(preset, seed)")
    return tmp_path / "bücher-衣服 {1}"


@pytest.mark.long
def test_a_chapter_runs_with_its_parameters(notebooks, tmp_path):
    command = ["chapters", "--notebooks", notebooks, "--preset", "smoke", "--only", 2, "-p", "seed=3"]
    alone(*command, "--only", 1, "--out", tmp_path / "out")
    folder = tmp_path / "out" / "smoke"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"0{n}_chapter.{e}" for n in (1, 2) for e in ("ipynb", "json")
    ]
    assert json.loads((folder / "02_chapter.json").read_text())["parameters"] == {"preset": "smoke", "seed": 3}
    assert "done" in alone(*command, "--out", tmp_path / "out", "--force").stdout


@pytest.mark.long
def test_chapters_are_copied_and_packed(notebooks, tmp_path):
    mine = tmp_path / "mine"
    said = alone("chapters", "--notebooks", notebooks, "--hand-in", mine, "--only", 1, "--only", 2, "--only", 3).stdout
    assert said == "".join(f"{mine / f'0{number}_chapter.ipynb'}\n" for number in (1, 2, 3))
    pack = ["chapters", "--pack", mine, "--preset", "smoke"]
    assert f"hand in: {tmp_path / 'mine.zip'}" in alone(*pack, "--only", 1, "--only", 3).stdout
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        assert sorted(archive.namelist()) == ["01_chapter.ipynb", "03_chapter.ipynb", "provenance.json"]


@pytest.mark.long
@pytest.mark.parametrize("option", ["--notebooks", "--pack"])
def test_a_chapter_that_fails_is_exit_code_1(option, tmp_path):
    folder = write(tmp_path / "notebooks", 1, "import os; os._exit(1)").parent
    where = [] if option == "--pack" else ["--out", tmp_path / "out"]
    process = run("chapters", "--preset", "smoke", option, folder, *where)
    assert process.returncode == 1
    assert "01_chapter failed: the kernel died in cell 2, 'import os; os._exit(1)'" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    "given",
    [{}, {"force": True}, {"unsandboxed": True}, {"only": [2, 5]}, {"seconds": 90}, {"weight": ["scores=3", "a=.5"]}],
)
def test_what_is_said_of_a_marking_reaches_it(given, monkeypatch):
    marked = []
    monkeypatch.setattr("ddpm.companion.marking.mark_hand_ins", lambda *a, **k: marked.append((a, k)) or [])
    chapters([Path("ada.zip")], mark=True, notebooks=Path("some"), out=Path("table.csv"), **given)
    said = {"force": False, "unsandboxed": False, "only": None, "seconds": Limits().seconds} | given
    limits = Limits(seconds=said.pop("seconds"))
    said["weights"] = {"scores": 3, "a": 0.5} if said.pop("weight", None) else {}
    arguments = ([Path("ada.zip")], Path("table.csv"), Path("some"), said.pop("only"), limits)
    assert marked == [(arguments, said)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "huge"], "preset is 'huge'; legal are cpu, gpu, smoke"),
        (["--only", 9], "only is 9; legal are"),
        (["--only", 1, "--only", 9], "only is 9; legal are"),
        (["-p", "sede=1"], "parameter is 'sede'; legal in"),
        (["-p", "seed"], "parameter is 'seed'; it must be NAME=VALUE"),
        (["--notebooks", "nowhere"], "'nowhere'; it must be a folder of chapters; run this in the book's folder, or"),
        (["--hand-in", "RUN", "--pack", "RUN"], "--pack is given; it does not go with --hand-in"),
        (["--hand-in", "RUN", "--preset", "gpu"], "--preset is given; it does not go with --hand-in"),
        (["--hand-in", "RUN", "--threads", 2], "--threads is given; it does not go with --hand-in"),
        (["--hand-in", "RUN", "--force"], "--force is given; it does not go with --hand-in"),
        (["--pack", "RUN", "-p", "seed=1"], "--parameter is given; it does not go with --pack"),
        (["--pack", "RUN", "--out", "RUN"], "--out is given; it does not go with --pack"),
        (["--pack", "RUN", "--notebooks", "RUN"], "--notebooks is given; it does not go with --pack"),
        (["--mark", "--preset", "smoke"], "--preset is given; it does not go with --mark"),
        (["--mark"], "there is no hand-in to mark; name the zips"),
        (["03"], "03 is given; zips need --mark, and a chapter is named with --only"),
        (["--student", "ada"], "--student is given; it needs --hand-in"),
        (["--pack", "RUN", "--student", "ada"], "--student is given; it does not go with --pack"),
        (["--hand-in", "RUN", "--student", "../ada"], "student is '../ada'; legal are up to 64 letters"),
        (["--pack", "RUN", "mine.zip"], "mine.zip is given; it does not go with --pack"),
        (["--seconds", 90], "--seconds is given; it needs --mark"),
        (["--pack", "RUN", "--seconds", 90], "--seconds is given; it does not go with --pack"),
        (["--weight", "empty_page=5"], "--weight is given; it needs --mark"),
        (["--mark", "mine.zip", "--weight", "empty_page"], "weight is 'empty_page'; it must be NAME=NUMBER"),
        (["--mark", "mine.zip", "--weight", "empty_page=much"], "weight is 'empty_page=much'; it must be NAME=NUMBER"),
        (["--mark", "mine.zip", "--seconds", 0], "seconds is 0; it must be an integer from 1 up"),
        (["--hand-in", "RUN", "--unsandboxed"], "--unsandboxed is given; it does not go with --hand-in"),
        (["-p", "seed=[1"], "parameter is 'seed=[1'; VALUE must be a number, a text"),
        (["-p", "seed=-1"], "seed is -1; it must be an integer from 0 up"),
        (["-p", "device=gpu9"], "device is 'gpu9', which torch does not find here"),
        (["--out", "README.md"], "out is 'README.md/cpu/"),
        (["--hand-in", "README.md"], "hand-in is 'README.md/"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(arguments, message, tmp_path):
    assert message in refusal(["chapters", *arguments], tmp_path)
