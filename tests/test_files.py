import hashlib
import json
import os
import pickle
import random
from pathlib import Path

import pytest
import torch

from ddpm import files
from ddpm.files import load_tensors, save_tensors, serialised, write_atomically, write_json

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


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_alone(operation, tmp_path, monkeypatch):
    write_json(tmp_path / "value.json", 1)

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(files.os, operation, full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        write_json(tmp_path / "value.json", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["value.json"]
    assert json.loads((tmp_path / "value.json").read_text()) == 1


def test_json_is_readable_and_ends_with_a_line_end(tmp_path):
    write_json(tmp_path / "value.json", {"steps": 3, "ema": [0.9, 0.99]})
    text = (tmp_path / "value.json").read_text()
    assert json.loads(text) == {"steps": 3, "ema": [0.9, 0.99]}
    assert text.splitlines()[1] == '  "steps": 3,'
    assert text.endswith("}\n")


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
