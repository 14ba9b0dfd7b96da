import errno
import hashlib
import json
import os
import pickle
import random
import tempfile
from pathlib import Path

import pytest
import torch

from ddpm import files
from ddpm.files import (
    check_place,
    check_weights,
    load_tensors,
    new_folder,
    read_json,
    save_tensors,
    serialised,
    write_atomically,
    write_json,
)

# Whole or absent.


def test_a_file_is_written_whole(tmp_path):
    write_atomically(tmp_path / "value", b"content")
    assert (tmp_path / "value").read_bytes() == b"content"


def test_folders_on_the_way_are_made(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "value", b"content")
    assert (tmp_path / "a" / "b" / "value").read_bytes() == b"content"


def test_a_new_file_takes_an_old_ones_place_and_leaves_nothing_beside_it(tmp_path):
    write_atomically(tmp_path / "value", b"old and longer")
    write_atomically(tmp_path / "value", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["value"]
    assert (tmp_path / "value").read_bytes() == b"new"


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    happened = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda file: (happened.append("flushed"), fsync(file)))
    monkeypatch.setattr(files.os, "replace", lambda *names: (happened.append("renamed"), replace(*names)))
    write_atomically(tmp_path / "value", b"content")
    assert happened == ["flushed", "renamed"]


@pytest.mark.parametrize("name", ["value", "new/folder/value", "n" * 200])
def test_a_place_for_a_file_is_found_without_a_trace(name, tmp_path):
    check_place("out", tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    write_atomically(tmp_path / name, b"content")
    check_place("out", tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"content"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file/value", "Not a directory"),
        ("n" * 300, "File name too long"),
        ("n" * 250, "File name too long"),  # while it is written it has a longer name
        ("new/" + "n" * 300 + "/value", "File name too long"),
        ("n/" * 3000 + "value", "File name too long"),
        ("nowhere/value", "No such file or directory"),
    ],
)
def test_a_place_where_no_file_can_be_is_refused_without_a_trace(name, reason, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match=f"^out is '.*', where no file can be written: {reason}$"):
        check_place("out", tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "nowhere"]


def test_a_place_is_tried_where_it_is(tmp_path, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(files, "write_atomically", read_only)
    with pytest.raises(ValueError, match="where no file can be written: Read-only file system"):
        check_place("out", tmp_path / "value")


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_alone(operation, tmp_path, monkeypatch):
    write_json(tmp_path / "value.json", 1)

    def full_disk(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, operation, full_disk)
    with pytest.raises(OSError, match=r"No space left on device: '.*value\.json'$"):
        write_json(tmp_path / "value.json", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["value.json"]
    assert json.loads((tmp_path / "value.json").read_text()) == 1


def test_json_is_readable_and_ends_with_a_line_end(tmp_path):
    write_json(tmp_path / "value.json", {"steps": 3, "ema": [0.9, 0.99]})
    text = (tmp_path / "value.json").read_text()
    assert json.loads(text) == {"steps": 3, "ema": [0.9, 0.99]}
    assert text.splitlines()[1] == '  "steps": 3,'
    assert text.endswith("}\n")


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_json(tmp_path / "value.json", 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_names_and_values_are_read(mark, tmp_path):
    (tmp_path / "value.json").write_bytes(mark + '{"name": "Maßstab"}'.encode())
    assert read_json(tmp_path / "value.json") == {"name": "Maßstab"}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"3", b"\xff{}"])
def test_what_holds_no_names_and_values_is_damaged(content, tmp_path):
    (tmp_path / "value.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"^\S+value.json is damaged: [^\n]+$"):
        read_json(tmp_path / "value.json")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "nothing.json")
    with pytest.raises(ValueError, match="is damaged: .*directory"):
        read_json(tmp_path)


# Whole folders.


def fill(folder):
    """What stands for a folder's content: a file, and one in a folder of its own."""
    (folder / "index.json").write_text("{}")
    (folder / "unet").mkdir()
    (folder / "unet" / "weights").write_bytes(b"weights")


def content(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


FILLED = {"index.json", "unet", str(Path("unet", "weights"))}


@pytest.mark.parametrize("name", ["new", "on/the/way", "empty", "link", "."])
def test_a_folder_is_written_into_an_empty_one_or_a_new_one(name, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    monkeypatch.chdir(tmp_path / "empty" if name == "." else tmp_path)
    with new_folder("directory", Path(name)) as folder:
        fill(folder)
        assert not FILLED & content(Path())
    assert content(Path(name)) == FILLED
    assert not list(tmp_path.rglob("*.part"))


def test_an_empty_folder_stays_the_same_one(tmp_path):
    """Somebody may be in it, and something mounted on it."""
    before = os.stat(tmp_path)
    with new_folder("directory", tmp_path) as folder:
        fill(folder)
    after = os.stat(tmp_path)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize("name", ["new", "on/the/way", "empty"])
@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
def test_a_folder_that_is_not_finished_leaves_nothing(name, error, tmp_path):
    (tmp_path / "empty").mkdir()

    def fail():
        with new_folder("directory", tmp_path / name) as folder:
            fill(folder)
            raise error

    with pytest.raises(error):
        fail()
    assert content(tmp_path) == {"empty"}


def test_an_interruption_while_files_move_into_place_leaves_nothing(tmp_path, monkeypatch):
    replace = os.replace

    def once(*names):
        replace(*names)
        monkeypatch.setattr(files.os, "replace", replace)
        raise KeyboardInterrupt

    def write():
        with new_folder("directory", tmp_path) as folder:
            fill(folder)
            monkeypatch.setattr(files.os, "replace", once)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert content(tmp_path) == set()


def test_a_folder_that_was_killed_is_no_obstacle(tmp_path):
    (tmp_path / f".new.{os.getpid()}.part" / "unet").mkdir(parents=True)
    with new_folder("directory", tmp_path / "new") as folder:
        fill(folder)
    assert content(tmp_path / "new") == FILLED
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_files_are_on_the_disk_before_the_folder_has_its_name(tmp_path, monkeypatch):
    flushed = []
    fsync = os.fsync
    monkeypatch.setattr(files.os, "fsync", lambda file: (flushed.append((tmp_path / "new").exists()), fsync(file)))
    with new_folder("directory", tmp_path / "new") as folder:
        fill(folder)
    assert flushed == [False, False]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("full", "which holds 'something'; it must be an empty folder or not there yet"),
        ("full/something", "which is no folder; it must be an empty folder or not there yet"),
        ("dangling", "which is no folder; it must be an empty folder or not there yet"),
        ("full/something/else", "where no files can be written: Not a directory"),
        ("a/" + 300 * "b" + "/c", "where no files can be written: File name too long"),
    ],
)
def test_a_place_that_is_taken_or_impossible_is_refused_before_any_work(name, message, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    before = content(tmp_path)
    with (
        pytest.raises(ValueError, match=f"^directory is .*{name}', {message}$"),
        new_folder("directory", tmp_path / name),
    ):
        pytest.fail("the work began")
    assert content(tmp_path) == before


@pytest.fixture
def locked():
    """A folder that one may neither read nor write; root takes another user's rights for it.

    It lies where that user can walk to, which pytest's own folders do not: the one beside it can be written to.
    """
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        locked, unlocked = Path(folder, "locked"), Path(folder, "unlocked")
        locked.mkdir(mode=0o000)
        unlocked.mkdir()
        unlocked.chmod(0o777)
        Path(folder).chmod(0o755)
        try:
            if user == 0:
                os.seteuid(65534)
            (unlocked / "file").touch()
            yield locked
        finally:
            os.seteuid(user)
            locked.chmod(0o755)


@pytest.mark.parametrize("name", [".", "new", "on/the/way"])
def test_a_place_where_one_may_not_write_is_refused_before_any_work(name, locked):
    message = "^directory is .*, where no files can be written: Permission denied$"
    with pytest.raises(ValueError, match=message), new_folder("directory", locked / name):
        pytest.fail("the work began")


# Tensors.


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return {
        "weight": torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last),
        "column": torch.randn(5, 2)[:, 0],
        "half": torch.randn(3).bfloat16(),
        "double": torch.randn(3).double(),
        "steps": torch.tensor(7),
        "nothing": torch.empty(0, 2),
        "trained": torch.nn.Parameter(torch.randn(2)),
    }


def test_tensors_come_back_to_the_bit(tmp_path, tensors):
    save_tensors(tmp_path / "model.safetensors", tensors)
    found = load_tensors(tmp_path / "model.safetensors")
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert torch.equal(found[name], value), name
        assert found[name].dtype == value.dtype, name


def test_tied_weights_come_back_under_each_name(tmp_path):
    weight = torch.randn(3, 2)
    save_tensors(tmp_path / "model.safetensors", {"first": weight, "second": weight})
    found = load_tensors(tmp_path / "model.safetensors")
    assert found.keys() == {"first", "second"}
    assert all(torch.equal(value, weight) for value in found.values())


def test_only_tied_weights_are_copied_to_be_saved(monkeypatch):
    """A checkpoint on a CPU would need the memory of all it holds once more."""
    given = {}
    monkeypatch.setattr(files, "tensors_to_bytes", lambda tensors: given.update(tensors) or b"")
    weight, other = torch.randn(3, 2), torch.randn(3, 2)
    serialised({"first": weight, "second": weight, "other": other})
    assert (given["first"].data_ptr(), given["other"].data_ptr()) == (weight.data_ptr(), other.data_ptr())
    assert given["second"].data_ptr() != weight.data_ptr()


def test_the_hash_is_that_of_the_file(tmp_path, tensors):
    content, sha256 = serialised(tensors)
    assert save_tensors(tmp_path / "model.safetensors", tensors) == sha256
    assert (tmp_path / "model.safetensors").read_bytes() == content
    assert hashlib.sha256(content).hexdigest() == sha256


def test_a_file_is_read_by_its_hash_or_by_one_of_several(tmp_path, tensors):
    sha256 = save_tensors(tmp_path / "model.safetensors", tensors)
    for hashes in ((sha256,), ("0" * 64, sha256)):
        assert torch.equal(load_tensors(tmp_path / "model.safetensors", *hashes)["steps"], torch.tensor(7))


def test_a_file_of_another_hash_is_refused(tmp_path, tensors):
    save_tensors(tmp_path / "model.safetensors", tensors)
    with pytest.raises(ValueError, match=r"model.safetensors is damaged or was replaced: its SHA-256 is not"):
        load_tensors(tmp_path / "model.safetensors", "0" * 64, "1" * 64)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no weights file .*model.safetensors"):
        load_tensors(tmp_path / "model.safetensors")


def test_a_file_cut_anywhere_is_refused(tmp_path, tensors):
    path, chance = tmp_path / "model.safetensors", random.Random(0)
    content, _ = serialised(tensors)
    for length in [0, len(content) - 1, *(chance.randrange(len(content)) for _ in range(50))]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="model.safetensors is an incomplete safetensors file"):
            load_tensors(path)


class Bomb:
    """What a pickle may do to those who open it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_refused_and_never_opened(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps({"weight": Bomb(tmp_path / "opened")}))
    with pytest.raises(ValueError, match="is an incomplete safetensors file"):
        load_tensors(tmp_path / "model.safetensors")
    assert not (tmp_path / "opened").exists()


def test_an_archive_of_torchs_own_format_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="is an incomplete safetensors file"):
        load_tensors(tmp_path / "model.safetensors")


# Weights of a network.

WANTED = {"weight": torch.zeros(2, 3), "steps": torch.tensor(0)}
GOOD = {"weight": torch.ones(2, 3), "steps": torch.tensor(5)}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_of_any_precision_fit(dtype):
    check_weights(Path("file"), GOOD | {"weight": GOOD["weight"].to(dtype)}, WANTED)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"weight": GOOD["weight"]}, "file does not fit the model: it lacks steps"),
        (GOOD | {"bias": torch.ones(2)}, "file does not fit the model, which has no bias"),
        (GOOD | {"weight": torch.ones(3, 2)}, r"weight is float32 \(3, 2\) there; it must be float32 \(2, 3\)"),
        (GOOD | {"weight": torch.ones(2, 3).int()}, r"weight is int32 \(2, 3\) there; it must be float32 \(2, 3\)"),
        (GOOD | {"steps": torch.tensor(5.0)}, r"steps is float32 \(\) there; it must be int64 \(\)"),
        (GOOD | {"weight": GOOD["weight"] / 0}, "file is damaged: weight holds numbers that are not finite"),
    ],
)
def test_weights_that_do_not_fit_are_named(weights, message):
    with pytest.raises(ValueError, match=message):
        check_weights(Path("file"), weights, WANTED)
