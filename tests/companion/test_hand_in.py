import errno
import json
import os
import re
import shutil
import zipfile
from hashlib import sha256
from itertools import pairwise

import nbformat
import pytest
from markdown_it import MarkdownIt
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from ddpm.companion import hand_in
from ddpm.companion.answering import PRACTICALS
from ddpm.companion.book import staged
from ddpm.companion.chapters import find_chapters
from ddpm.companion.exercises import EXERCISES
from ddpm.companion.exercises.grading import own_numbers
from ddpm.companion.hand_in import code_of, edition_of, pack, seed_of, write_copies
from ddpm.files import write_atomically
from tests.checkout import ROOT

pytestmark = pytest.mark.long

EXERCISE = '''from ddpm.companion import grade


def scores(side, level):
    """How many scores one head of attention computes on a level."""
    ...  # write me


grade(scores)'''


@pytest.fixture
def chapters(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    cells = [
        new_code_cell('preset = "cpu"\ndevice = "auto"\nseed = 0', metadata={"tags": ["parameters"]}),
        new_code_cell("my_guess = 8, 8  # change me"),
        new_code_cell(EXERCISE, metadata={"tags": ["exercises"]}),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    language = {"language_info": {"name": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel | language), folder / "01_small.ipynb")
    return folder


def test_every_chapter_is_copied_without_outputs(tmp_path):
    copies = write_copies(ROOT / "notebooks", tmp_path / "mine")
    assert [copy.name for copy in copies] == [path.name for path in find_chapters(ROOT / "notebooks")]
    for copy in copies:
        notebook = nbformat.read(copy, as_version=4)
        original = nbformat.read(ROOT / "notebooks" / copy.name, as_version=4)
        assert not any(cell.get("outputs") for cell in notebook["cells"])
        cells = [cell for cell in notebook["cells"] if not cell["id"].endswith("-caption")]
        assert [cell["source"] for cell in cells] == [cell["source"] for cell in original["cells"]]
        assert notebook["metadata"]["ddpm"]["copy of"] == edition_of(code_of(notebook))


def test_a_copy_has_every_caption_below_its_figure_in_plain_markdown(tmp_path):
    for copy in write_copies(ROOT / "notebooks", tmp_path, student="ada"):
        notebook = nbformat.read(copy, as_version=4)
        nbformat.validate(notebook)
        cells = notebook["cells"]
        for cell, below in pairwise(cells):
            caption = cell["metadata"].get("mystnb", {}).get("figure", {}).get("caption")
            assert below["id"].endswith("-caption") == (caption is not None)
            if caption is not None:
                assert (below["cell_type"], below["source"]) == ("markdown", f"*{caption}*")
                assert re.fullmatch(r"<p><em>.*</em></p>\n", MarkdownIt().render(below["source"]))
                assert not re.search(r"\{[\w:]+\}`", caption)  # a role, which MyST alone reads
        assert any(cell["id"].endswith("-caption") for cell in cells)


def test_a_figure_in_a_notebook_whose_cells_have_no_names_has_its_caption(chapters, tmp_path):
    notebook = nbformat.read(chapters / "01_small.ipynb", as_version=4)
    notebook["nbformat_minor"] = 4
    for cell in notebook["cells"]:
        del cell["id"]
    notebook["cells"][1]["metadata"]["mystnb"] = {"figure": {"caption": "Where it goes."}}
    nbformat.write(notebook, chapters / "01_small.ipynb")
    (copy,) = write_copies(chapters, tmp_path / "mine")
    copied = nbformat.read(copy, as_version=4)
    nbformat.validate(copied)
    assert copied["cells"][2]["source"] == "*Where it goes.*"


def test_a_students_copies_have_its_own_numbers_and_no_answer(tmp_path):
    """Chapters differ from student to student, in the cells of exercises alone; a blank stays a blank."""
    ada, bob = (write_copies(ROOT / "notebooks", tmp_path / name, student=name) for name in ("ada", "bob"))
    for one, other in zip(ada, bob, strict=True):
        first, second = (nbformat.read(copy, as_version=4) for copy in (one, other))
        assert first["metadata"]["ddpm"]["student"] == "ada"
        differ = [a for a, b in zip(first["cells"], second["cells"], strict=True) if a["source"] != b["source"]]
        assert [cell["metadata"]["tags"] for cell in differ] == [["exercises"]]
        (cell,) = differ
        for grading, functions in PRACTICALS.items():
            given = f"{grading}({', '.join(functions)}, "
            assert cell["source"].count(given) == cell["source"].count(f"{given}seed={seed_of('ada')})")
        for name in re.findall(r"^grade\((\w+)", cell["source"], re.MULTILINE):
            own = own_numbers(EXERCISES[name], seed_of("ada"))
            graded = "".join(f", {argument}={argument}" for argument in own)
            assert f"grade({name}, seed={seed_of('ada')}{graded})" in cell["source"]
            (arguments,) = re.findall(rf"def {name}\((.*)\):\n    \"\"\".*\"\"\"\n    ...  # write me", cell["source"])
            assert arguments.split(", ") == [each for each in EXERCISES[name].arguments if each not in own]
            assert all(
                f"\n{argument} = {value:g}  # the copy of ada" in "\n" + cell["source"]
                for argument, value in own.items()
            )


def test_a_students_numbers_are_those_of_every_other_machine():
    """A copy that was made last term, by an older release, is marked by the same numbers."""
    assert seed_of("ada") == 16641603
    assert own_numbers(EXERCISES["divergence"], seed_of("ada")) == {"std": 0.63}


@pytest.mark.parametrize("student", ["a" * 64, "7", "ada.l-1_x", "衣服"])
def test_a_students_name_may_be(student):
    assert 0 <= seed_of(student) < 16**6


@pytest.mark.parametrize("student", ["a" * 65, "", ".ada", "-ada", "a b", "ada\n"])
def test_a_students_name_may_not_be(student):
    with pytest.raises(ValueError, match="^student is .*; legal are up to 64 letters, digits, dots, - and _"):
        seed_of(student)


def test_a_students_text_says_which_number_is_its_own(tmp_path):
    (copy,) = write_copies(ROOT / "notebooks", tmp_path, [1], "ada")
    text = "".join(cell["source"] for cell in nbformat.read(copy, as_version=4)["cells"])
    assert "`weight_of_noise(alpha_bar)` (the number `beta` is your own, and stands above the function)" in text


def test_chapters_are_copied_by_their_numbers(tmp_path):
    copies = write_copies(ROOT / "notebooks", tmp_path, [5, 3])
    assert [copy.name[:2] for copy in copies] == ["03", "05"]
    with pytest.raises(ValueError, match="^only is 9; legal are 0, 1, 2, 3, 4, 5, 6$"):
        write_copies(ROOT / "notebooks", tmp_path, [3, 9])


@pytest.mark.parametrize("number", [0, 3])
def test_one_chapter_is_copied_by_its_number(tmp_path, number):
    assert [int(copy.name[:2]) for copy in write_copies(ROOT / "notebooks", tmp_path, number)] == [number]


def test_no_number_of_a_chapter_is_not_all_chapters(tmp_path):
    with pytest.raises(ValueError, match=r"^only is \[\]; legal are 0, 1, 2, 3, 4, 5, 6$"):
        write_copies(ROOT / "notebooks", tmp_path, [])


def test_two_notebooks_of_one_chapter_are_not_packed(chapters, tmp_path):
    """JupyterLab's Duplicate makes such a second one."""
    (copy,) = write_copies(chapters, tmp_path / "mine")
    shutil.copy(copy, copy.with_name("01_small-Copy1.ipynb"))
    message = "^pack is .*mine'; 01_small-Copy1.ipynb and 01_small.ipynb have one number: move one of them elsewhere$"
    with pytest.raises(ValueError, match=message):
        pack(tmp_path / "mine")
    assert not (tmp_path / "mine" / "executed").exists()


@pytest.mark.parametrize("name", ["01_mine.ipynb", "02_small.ipynb", "small.ipynb"])
def test_a_copy_that_has_lost_its_chapters_name_is_not_packed(chapters, tmp_path, name):
    (copy,) = write_copies(chapters, tmp_path / "mine")
    shutil.copy(chapters / copy.name, tmp_path / "mine" / "03_a_notebook_that_is_no_copy.ipynb")
    (tmp_path / "mine" / "damaged.ipynb").write_text("<<<<<<< ours\n{}")
    copy.rename(copy.with_name(name))
    message = f"^pack is .*mine'; {name} is a copy of 01_small.ipynb: give it that name, or move it elsewhere$"
    with pytest.raises(ValueError, match=message):
        pack(tmp_path / "mine")
    assert not (tmp_path / "mine" / "executed").exists()


@pytest.mark.parametrize("noted", [None, [1], "mine", {"chapter": None}])
def test_a_chapter_with_other_notes_in_its_metadata_is_packed(chapters, tmp_path, noted):
    (copy,) = write_copies(chapters, tmp_path / "mine")
    notebook = nbformat.read(copy, as_version=4)
    notebook["metadata"]["ddpm"] = noted
    nbformat.write(notebook, copy)
    with zipfile.ZipFile(pack(tmp_path / "mine", 1, "smoke")) as archive:
        provenance = json.loads(archive.read("provenance.json"))["01_small"]
    assert (provenance["copy of"], provenance["prediction"]) == (None, "8, 8")


def test_work_is_not_overwritten(chapters, tmp_path):
    (copy,) = write_copies(chapters, tmp_path / "mine")
    copy.write_text(copy.read_text().replace("write me", "written"))
    with pytest.raises(ValueError, match=r"hand-in is .*; 01_small.ipynb is there already"):
        write_copies(chapters, tmp_path / "mine")
    assert "written" in copy.read_text()


@pytest.mark.parametrize("is_new", [True, False])
def test_a_full_disk_leaves_no_copy_and_no_new_folder(chapters, tmp_path, monkeypatch, is_new):
    def full_disk(path, content):
        if path.name == "02_second.ipynb":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_atomically(path, content)

    shutil.copy(chapters / "01_small.ipynb", chapters / "02_second.ipynb")
    (tmp_path / "mine").mkdir()
    if is_new:
        (tmp_path / "mine").rmdir()
    monkeypatch.setattr(hand_in, "write_atomically", full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        write_copies(chapters, tmp_path / "mine")
    assert list(tmp_path.rglob("mine/*")) == []
    assert (tmp_path / "mine").exists() is not is_new


def test_copies_are_all_written_or_none(chapters, tmp_path):
    (chapters / "02_merged.ipynb").write_text("<<<<<<< ours\n{}")
    with pytest.raises(ValueError, match="02_merged.ipynb cannot be read as a notebook"):
        write_copies(chapters, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_a_place_that_takes_no_copy_is_refused(chapters, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="hand-in is .*file/01_small.ipynb', where no file can be written: Not a dir"):
        write_copies(chapters, tmp_path / "file")


def test_a_zip_that_cannot_be_written_is_noticed_before_the_work_runs(chapters, tmp_path):
    (tmp_path / "notebooks.zip").mkdir()
    with pytest.raises(ValueError, match="pack is .*; there must be no folder notebooks.zip beside it"):
        pack(chapters)
    (chapters / "executed").write_text("a file where a folder must be")
    with pytest.raises(ValueError, match="pack is .*executed/cpu/.*, where no file can be written: Not a directory"):
        pack(chapters)


def test_what_is_handed_in_has_its_provenance(chapters, tmp_path, capsys):
    (copy,) = write_copies(chapters, tmp_path / "mine")
    copy.write_text(copy.read_text().replace("...  # write me", "return side**4"))
    target = pack(tmp_path / "mine")
    assert target == tmp_path / "mine.zip"
    with zipfile.ZipFile(target) as archive:
        assert sorted(archive.namelist()) == ["01_small.ipynb", "provenance.json"]
        provenance = json.loads(archive.read("provenance.json"))["01_small"]
        packed = archive.read("01_small.ipynb")
    notebook = nbformat.reads(packed.decode(), as_version=4)
    (said,) = provenance["marks"].items()
    assert said[0] == "scores"
    assert said[1].startswith("not yet. That is on level 0.")
    assert provenance["prediction"] == "8, 8, as published"
    assert provenance["parameters"] == {"preset": "cpu", "device": "auto", "seed": 0}
    assert provenance["versions"]["python"]
    published = nbformat.read(chapters / "01_small.ipynb", as_version=4)
    code = [cell["source"] for cell in published["cells"]]
    assert provenance["copy of"] == hand_in.edition_of(code) == sha256(json.dumps(code).encode()).hexdigest()
    assert provenance["sha256"] == sha256(packed).hexdigest()
    assert all(cell["execution_count"] for cell in notebook["cells"])

    finished = tmp_path / "mine" / "executed" / "cpu" / "01_small.ipynb"
    finished.write_text(finished.read_text().replace(said[1], "right"))
    for guess in ("8, 8, as published", "7, 3"):  # what is packed was run, not found
        with zipfile.ZipFile(pack(tmp_path / "mine")) as archive:
            again = json.loads(archive.read("provenance.json"))["01_small"]
        assert (again["prediction"], again["marks"]) == (guess, provenance["marks"])
        copy.write_text(copy.read_text().replace("guess = 8, 8", "guess = 7, 3"))

    copy.write_text(copy.read_text().replace("grade(scores)", "1 / 0"))
    target.unlink()
    assert pack(tmp_path / "mine") is None
    assert not target.exists()
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "guess"),
    [
        ("my_guess = 0.4  # a share", "0.4"),
        ("my_guess=0.4", "0.4"),
        ("# I think\nmy_guess = 0.4", "0.4"),
        ("my_guess: float = 0.4", "0.4"),
        ("my_guess: float | None = None", "None"),
        ("my_guess = {'a': 1, 'b': 2}", "{'a': 1, 'b': 2}"),
        ("print(my_guess == 0.4)\nmy_guesses = 3", "none"),
        ("my_guess == 0.4", "none"),
        ("my_guess = (\n    0.4\n)", "0.4"),
        ("my_guess = '#3'", "'#3'"),
        ("my_guess = None\nmy_guess = 0.4", "0.4"),
        ("a = my_guess = 0.4", "0.4"),
    ],
)
def test_a_guess_is_found_however_it_is_written(source, guess):
    cells = [new_markdown_cell("my_guess = 9"), new_code_cell("import math"), new_code_cell(source)]
    assert hand_in._guess(new_notebook(cells=cells)) == guess


def test_what_is_too_large_to_be_marked_is_not_packed(chapters, tmp_path, monkeypatch):
    monkeypatch.setattr(hand_in, "MOST_OF_A_NOTEBOOK", 100)
    copies = tmp_path / "ada"
    write_copies(chapters, copies, None, "ada")
    with pytest.raises(ValueError, match=r"with its outputs 01_.* MiB, and whoever marks it reads 0 at most"):
        pack(copies, preset="smoke")
    assert not (tmp_path / "ada.zip").exists()


def test_what_cannot_be_packed_is_named(tmp_path):
    with pytest.raises(ValueError, match="pack is .*; it must be a folder of chapters"):
        pack(tmp_path / "none")


@pytest.mark.slow
def test_a_copy_of_every_chapter_runs_with_its_blanks(tmp_path):
    copies = write_copies(ROOT / "notebooks", tmp_path / "mine")
    with zipfile.ZipFile(pack(tmp_path / "mine")) as archive:
        provenance = json.loads(archive.read("provenance.json"))
    assert [copy.stem for copy in copies] == list(provenance)
    for chapter in provenance.values():
        assert set(chapter["marks"].values()) == {"not written yet"}
        assert len(chapter["marks"]) >= 2


def test_a_book_without_solutions_has_none(tmp_path):
    stage = staged(None, tmp_path / "stage", solutions=False)
    assert not list(stage.glob("book/solutions.*"))
    assert "solutions" not in (stage / "_toc.yml").read_text(encoding="utf-8")
    assert "book/solutions" in (ROOT / "_toc.yml").read_text(encoding="utf-8")
