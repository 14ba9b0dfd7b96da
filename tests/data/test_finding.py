import os
import shutil
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from ddpm.data import finding
from ddpm.data.finding import find_pictures
from tests.data.users import as_a_user


@pytest.fixture
def place(tmp_path):
    """A folder `set` with pictures of dogs, and beside it a store with pictures of cats."""
    for folder in ("store/cats", "set/dogs"):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (4, 4), i).save(tmp_path / folder / f"{i}.png")
    return tmp_path


def names(found, folder):
    return [path.relative_to(folder).as_posix() for path in found.pictures]


DOGS = ["dogs/0.png", "dogs/1.png", "dogs/2.png"]
CATS = ["cats/0.png", "cats/1.png", "cats/2.png"]


def left_out(found, folder):
    """The kinds of what was left out, with the places."""
    return {kind: [path.relative_to(folder).as_posix() for path in paths] for kind, paths in found.left_out.items()}


def test_class_folders_that_are_links_are_found(place):
    (place / "set" / "cats").symlink_to(place / "store" / "cats")
    found = find_pictures(place / "set")
    assert names(found, place / "set") == CATS + DOGS
    assert found.left_out == {}


def test_a_chain_of_links_and_links_to_pictures_are_followed(place):
    (place / "again").symlink_to(place / "store" / "cats")
    (place / "set" / "cats").symlink_to(place / "again")
    (place / "set" / "one.png").symlink_to(place / "store" / "cats" / "0.png")
    assert names(find_pictures(place / "set"), place / "set") == [*CATS, *DOGS, "one.png"]


def test_a_folder_is_read_once_and_under_its_own_name(place):
    (place / "set" / "a link to dogs").symlink_to("dogs")
    for name in ("cats", "katzen"):
        (place / "set" / name).symlink_to(place / "store" / "cats")
    found = find_pictures(place / "set")
    assert names(found, place / "set") == CATS + DOGS
    assert left_out(found, place / "set") == {finding._TWICE: ["a link to dogs", "katzen"]}


def test_loops_of_links_end(place):
    (place / "set" / "dogs" / "up").symlink_to("..")
    (place / "set" / "all").symlink_to(place)  # holds the set and must not add the store to it
    (place / "set" / "itself").symlink_to("itself")
    (place / "set" / "there").symlink_to("back")
    (place / "set" / "back").symlink_to("there")
    (place / "store" / "cats" / "store").symlink_to(place / "store")
    (place / "set" / "cats").symlink_to(place / "store" / "cats")
    found = find_pictures(place / "set")
    assert names(found, place / "set") == CATS + DOGS
    assert left_out(found, place / "set") == {
        finding._NOWHERE: ["back", "itself", "there"],
        finding._BACK: ["all", "dogs/up", "cats/store"],
    }


def test_links_that_lead_nowhere_are_counted(place):
    (place / "set" / "cats").symlink_to(place / "store" / "lions")
    (place / "set" / "dogs" / "3.png").symlink_to(place / "gone.png")
    found = find_pictures(place / "set")
    assert names(found, place / "set") == DOGS
    assert found.words() == [f"left out: 2 links that lead nowhere, such as {place / 'set' / 'cats'}"]


def test_a_picture_is_known_by_its_ending_in_capitals_too(place):
    os.rename(place / "set" / "dogs" / "0.png", place / "set" / "dogs" / "0.PNG")
    (place / "set" / "NOTES.TXT").write_text("no picture")
    found = find_pictures(place / "set")
    assert names(found, place / "set") == ["dogs/0.PNG", *DOGS[1:]]
    assert found.others == {".txt": 1}


def test_hidden_names_and_what_is_neither_file_nor_folder_are_passed_over(place):
    (place / "set" / ".cats").symlink_to(place / "store" / "cats")
    shutil.copy(place / "set" / "dogs" / "0.png", place / "set" / ".0.png")
    os.mkfifo(place / "set" / "pipe.png")
    (place / "set" / "notes.txt").write_text("no picture")
    (place / "set" / "LICENSE").write_text("no picture")
    found = find_pictures(place / "set")
    assert names(found, place / "set") == DOGS
    assert found.others == {".txt": 1, "LICENSE": 1}
    assert found.left_out == {}


@pytest.fixture
def open_place(place):
    """The same, where a user without rights may look."""
    open_place = Path(tempfile.mkdtemp())
    shutil.copytree(place, open_place, dirs_exist_ok=True)
    os.chmod(open_place, 0o755)
    yield open_place
    for path in open_place.rglob("*"):
        path.chmod(0o755)
    shutil.rmtree(open_place)


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])  # may not be listed, may be listed alone, may be entered alone
def test_a_folder_that_may_not_be_opened_is_counted(open_place, mode):
    folder = open_place / "set"
    (folder / "cats").symlink_to(open_place / "store" / "cats")
    (folder / "lions").symlink_to(open_place / "store" / "cats" / "lions")
    (open_place / "store" / "cats" / "lions").mkdir()
    (open_place / "store" / "cats").chmod(mode)

    def program():
        found = find_pictures(folder)
        assert names(found, folder) == DOGS
        closed = ["cats"] if mode & 0o111 else ["lions", "cats"]
        assert left_out(found, folder) == {finding._CLOSED: closed}

    assert as_a_user(program) == 0


def test_a_file_that_may_not_be_opened_is_counted(open_place):
    (open_place / "set" / "dogs" / "1.png").chmod(0)

    def program():
        found = find_pictures(open_place / "set")
        assert names(found, open_place / "set") == ["dogs/0.png", "dogs/2.png"]
        assert left_out(found, open_place / "set") == {finding._CLOSED: ["dogs/1.png"]}

    assert as_a_user(program) == 0


def test_a_whole_folder_that_may_not_be_opened_is_empty_and_says_so(open_place):
    (open_place / "set").chmod(0o000)

    def program():
        found = find_pictures(open_place / "set")
        assert not found.pictures
        assert left_out(found, open_place) == {finding._CLOSED: ["set"]}

    assert as_a_user(program) == 0


def drawn(run):
    """A training's folder with what it drew."""
    for name in ("config.json", "log.jsonl", "model.safetensors"):
        run.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("")
    for name in ("samples/step-00000010.png", "wandb/run-1/files/media/images/samples_10.png"):
        (run / name).parent.mkdir(parents=True)
        Image.new("L", (4, 4)).save(run / name)
    return run


@pytest.mark.parametrize("where", ["run", "runs/mine", "dogs/run"])
def test_a_run_in_the_folder_of_its_data_is_left_out_with_all_that_lies_in_it(place, where):
    run = drawn(place / "set" / where)
    Image.new("L", (4, 4)).save(run / "garments.png")
    found = find_pictures(place / "set")
    assert names(found, place / "set") == DOGS
    assert left_out(found, place / "set") == {finding._RUN: [where]}


def test_a_run_without_its_model_or_its_log_is_one_still(place):
    drawn(place / "set" / "run")
    for name in ("log.jsonl", "model.safetensors"):
        (place / "set" / "run" / name).rename(place / "kept")
        assert names(find_pictures(place / "set"), place / "set") == DOGS
        (place / "kept").rename(place / "set" / "run" / name)


def test_a_run_in_the_very_folder_of_its_data_leaves_out_what_it_drew_alone(place):
    drawn(place / "set")
    found = find_pictures(place / "set")
    assert names(found, place / "set") == DOGS
    assert left_out(found, place / "set") == {finding._RUN: ["wandb", "samples"]}


def test_pictures_beside_settings_are_pictures(place):
    (place / "set" / "dogs" / "config.json").write_text("{}")
    (place / "set" / "samples").mkdir()
    Image.new("L", (4, 4)).save(place / "set" / "samples" / "0.png")
    assert names(find_pictures(place / "set"), place / "set") == [*DOGS, "samples/0.png"]


def test_what_a_run_drew_is_data_for_whoever_names_it(place):
    drawn(place / "run")
    assert names(find_pictures(place / "run" / "samples"), place / "run" / "samples") == ["step-00000010.png"]
