import json

import pytest
import torch

from ddpm import files
from ddpm.training import checkpoint
from ddpm.training.optimisers import flatten_optimiser, restore_optimiser


def save(folder, step):
    checkpoint.save_checkpoint(folder, step, {"w": torch.full((3,), float(step))}, {"lr": 1})


def test_the_newest_two_are_kept_and_the_newest_is_loaded(tmp_path):
    assert checkpoint.newest_checkpoint(tmp_path) is None
    for step in (5, 10, 15):
        save(tmp_path, step)
    (tmp_path / "step-00000020.safetensors").write_bytes(b"what a kill left")
    checkpoint.prune(tmp_path, 15, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "step-00000010.json", "step-00000010.safetensors", "step-00000015.json", "step-00000015.safetensors",
    ]  # fmt: skip
    step, tensors, config = checkpoint.newest_checkpoint(tmp_path)
    assert (step, config) == (15, {"lr": 1})
    assert torch.equal(tensors["w"], torch.full((3,), 15.0))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("harm", [truncate, flip, lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_a_damaged_checkpoint_is_passed_over_and_all_damaged_is_an_error(tmp_path, harm, capsys):
    save(tmp_path, 5)
    save(tmp_path, 10)
    harm(tmp_path / "step-00000010.safetensors")
    assert checkpoint.newest_checkpoint(tmp_path)[0] == 5
    assert "step-00000010 is passed over" in capsys.readouterr().out
    harm(tmp_path / "step-00000005.safetensors")
    with pytest.raises(ValueError, match="no checkpoint in .* can be read"):
        checkpoint.newest_checkpoint(tmp_path)


def test_a_broken_manifest_is_passed_over(tmp_path):
    save(tmp_path, 5)
    save(tmp_path, 10)
    (tmp_path / "step-00000010.json").write_text("{")
    assert checkpoint.newest_checkpoint(tmp_path)[0] == 5


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "value.json"
    files.write_json(path, 1)

    def full_disk(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        files.write_json(path, 2)
    assert json.loads(path.read_text()) == 1


def test_foreign_weights_are_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"PK\x03\x04 something else entirely")
    with pytest.raises(ValueError, match="no whole safetensors file"):
        files.load_tensors(tmp_path / "model.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no weights file"):
        files.load_tensors(tmp_path / "none.safetensors")


def test_an_optimiser_goes_on_as_if_nothing_had_happened():
    def optimiser_and_weight():
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(4))
        return torch.optim.AdamW([weight], lr=0.1), weight

    def step(optimiser, weight):
        optimiser.zero_grad()
        weight.square().sum().backward()
        optimiser.step()

    one, w = optimiser_and_weight()
    step(one, w)
    stored = {label: value.clone() for label, value in flatten_optimiser("o", one).items()}
    two, v = optimiser_and_weight()
    v.data.copy_(w)
    restore_optimiser("o", two, stored)
    step(one, w)
    step(two, v)
    assert torch.equal(w, v)
