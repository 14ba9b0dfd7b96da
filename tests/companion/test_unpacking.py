"""Chapters are found in whatever students hand in, and what is not clear is not guessed."""

import zipfile

import nbformat
import pytest

from ddpm.companion import unpacking
from ddpm.companion.unpacking import Unreadable, files_of_chapters, read_chapter

CHAPTERS = ["03_round_trip.ipynb", "05_guidance.ipynb"]


def copy_of(chapter):
    return nbformat.writes(nbformat.v4.new_notebook(metadata={"ddpm": {"chapter": chapter}}))


def zipped(folder, files):
    path = folder / "ada.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.writestr(file, files[file] if isinstance(files, dict) else copy_of(CHAPTERS[0]))
    return path


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["03_round_trip.ipynb"], ["03_round_trip.ipynb"]),
        (["a/b/03_round_trip.ipynb", "provenance.json"], ["a/b/03_round_trip.ipynb"]),
        (["a\\03_round_trip.ipynb"], ["a\\03_round_trip.ipynb"]),
        (["a/03_round_trip.ipynb", "__MACOSX/a/03_round_trip.ipynb"], ["a/03_round_trip.ipynb"]),
        (["a/03_round_trip.ipynb", "a/.ipynb_checkpoints/03_round_trip.ipynb"], ["a/03_round_trip.ipynb"]),
        (["a/03_round_trip.ipynb", "a/executed/cpu/03_round_trip.ipynb"], ["a/03_round_trip.ipynb"]),
        (["executed/cpu/03_round_trip.ipynb"], ["executed/cpu/03_round_trip.ipynb"]),
        (["a/notes.ipynb", "a/executed/cpu/03_round_trip.ipynb"], ["a/executed/cpu/03_round_trip.ipynb"]),
        (["a/03_round_trip.ipynb", "a/03_round_trip-Copy1.ipynb"], ["a/03_round_trip.ipynb"]),
        (["a/03_round_trip (1).ipynb"], ["a/03_round_trip (1).ipynb"]),
        (["a/03_round_trip.ipynb", "b/03_round_trip.ipynb"], ["a/03_round_trip.ipynb", "b/03_round_trip.ipynb"]),
        (["03 (1).ipynb", "03 (2).ipynb"], ["03 (1).ipynb", "03 (2).ipynb"]),
        (["03_round_trip.ipynb.txt", "my_03_round_trip.ipynb/readme"], []),
    ],
)
def test_a_chapter_is_found_by_its_name_and_else_by_its_metadata(tmp_path, files, found):
    by_chapter, _ = files_of_chapters(zipped(tmp_path, files), CHAPTERS)
    assert by_chapter == {CHAPTERS[0]: found, CHAPTERS[1]: []}


@pytest.mark.parametrize(
    "content", ["no notebook", "[1]", "{}", copy_of("07_none.ipynb"), copy_of(["03"]), copy_of(None)]
)
def test_what_says_of_no_chapter_that_it_is_one_is_not_read(tmp_path, content):
    path = zipped(tmp_path, {"a/\x1b[31m.ipynb": content, "essay.txt": ""})
    assert files_of_chapters(path, CHAPTERS) == (
        {chapter: [] for chapter in CHAPTERS},
        ["not read, as no chapter has this name: a/ [31m.ipynb"],
    )


def test_of_very_many_notebooks_few_are_opened(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(unpacking, "_content_of", lambda path, file: opened.append(file) or b"{}")
    _, notes = files_of_chapters(zipped(tmp_path, [f"{i}.ipynb" for i in range(1000)]), CHAPTERS)
    assert len(opened) == unpacking.MOST_OTHERS
    assert len(notes[0]) <= 300


def test_two_files_of_one_name_are_not_read(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = zipped(tmp_path, [CHAPTERS[0], CHAPTERS[0]])
    found, _ = files_of_chapters(path, CHAPTERS)
    with pytest.raises(Unreadable, match=f"^is there more than once, and not read: {CHAPTERS[0]}, {CHAPTERS[0]}$"):
        read_chapter(path, found[CHAPTERS[0]])
