import io
import json
import pickle
import re
import shutil
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm import files
from ddpm.training import checkpoint
from ddpm.training.checkpoint import newest_checkpoint, save_checkpoint, sealed


def save(folder, step, loss=None):
    save_checkpoint(folder, step, {"w": torch.full((3,), float(step))}, {"lr": 1}, loss)


def steps_in(folder):
    return sorted(int(path.stem.removeprefix("step-")) for path in folder.glob("step-*.json"))


def test_a_checkpoint_comes_back_to_the_bit(tmp_path):
    tensors = {"w": torch.randn(3, 4), "n": torch.tensor(7), "half": torch.randn(2).bfloat16()}
    save_checkpoint(tmp_path, 5, tensors, {"lr": [1, None]})
    step, found, config = newest_checkpoint(tmp_path)
    assert (step, config) == (5, {"lr": [1, None]})
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in tensors.items())


def test_the_newest_two_are_kept_and_the_newest_is_loaded(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for step in (5, 10, 15):
        save(tmp_path, step)
    (tmp_path / "step-00000020.safetensors").write_bytes(b"what a kill left")
    checkpoint.prune(tmp_path, 15, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "step-00000010.json", "step-00000010.safetensors", "step-00000015.json", "step-00000015.safetensors",
    ]  # fmt: skip
    step, tensors, config = newest_checkpoint(tmp_path)
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
    assert newest_checkpoint(tmp_path)[0] == 5
    assert "step-00000010 is passed over" in capsys.readouterr().out
    harm(tmp_path / "step-00000005.safetensors")
    with pytest.raises(ValueError, match="no checkpoint in .* can be read"):
        newest_checkpoint(tmp_path)


def test_a_broken_manifest_is_passed_over(tmp_path):
    save(tmp_path, 5)
    save(tmp_path, 10)
    (tmp_path / "step-00000010.json").write_text("{")
    assert newest_checkpoint(tmp_path)[0] == 5


def test_the_best_checkpoint_has_the_least_loss(tmp_path):
    for step, loss in ((5, 0.3), (10, 0.1), (15, 0.2), (20, None)):
        save(tmp_path, step, loss)
    assert checkpoint.best_checkpoint(tmp_path) == tmp_path / "step-00000010.json"


def test_without_a_loss_no_checkpoint_is_the_best(tmp_path):
    save(tmp_path, 5)
    assert checkpoint.best_checkpoint(tmp_path) is None


def test_a_damaged_manifest_is_not_the_best(tmp_path):
    save(tmp_path, 5, 0.3)
    save(tmp_path, 10, 0.1)
    (tmp_path / "step-00000010.json").write_text("{")
    assert checkpoint.best_checkpoint(tmp_path) == tmp_path / "step-00000005.json"


def test_the_best_is_kept_beside_the_newest(tmp_path):
    for step, loss in ((5, 0.3), (10, 0.1), (15, 0.2), (20, 0.4), (25, 0.5)):
        save(tmp_path, step, loss)
    checkpoint.prune(tmp_path, 25, 2)
    assert steps_in(tmp_path) == [10, 20, 25]


def test_a_checkpoint_beyond_the_step_goes(tmp_path):
    for step in (5, 10, 15):
        save(tmp_path, step)
    checkpoint.prune(tmp_path, 10, 2)
    assert steps_in(tmp_path) == [5, 10]


def test_checkpoints_are_in_the_order_of_their_steps_beyond_eight_digits_too(tmp_path):
    for step in (99_999_998, 99_999_999, 100_000_000):
        save(tmp_path, step)
    assert newest_checkpoint(tmp_path).step == 100_000_000
    checkpoint.prune(tmp_path, 100_000_000, 2)
    assert steps_in(tmp_path) == [99_999_999, 100_000_000]


def test_a_checkpoint_of_a_later_version_is_not_passed_over(tmp_path):
    """The run would go on from an older one, and delete this."""
    for step in (5, 10):
        save(tmp_path, step)
    path = tmp_path / "step-00000010.json"
    manifest = {key: value for key, value in json.loads(path.read_text()).items() if key != "seal"}
    path.write_text(json.dumps(sealed(manifest | {"version": 3})))
    with pytest.raises(ValueError, match=r"step-00000010.json has version 3; this package reads 2"):
        newest_checkpoint(tmp_path)


def test_a_checkpoint_that_cannot_be_read_now_is_not_passed_over(tmp_path, monkeypatch):
    for step in (5, 10):
        save(tmp_path, step)

    def refused(*_):
        raise PermissionError("Permission denied")

    monkeypatch.setattr(checkpoint, "load_tensors", refused)
    with pytest.raises(PermissionError):
        newest_checkpoint(tmp_path)


@pytest.mark.parametrize("ema", [0.9, [0.9, 0.99]])
def test_the_first_average_is_the_runs_own(tmp_path, ema):
    tensors = {"average-0.9.w": torch.ones(1), "average-0.99.w": torch.zeros(1), "weights.w": torch.zeros(1)}
    save_checkpoint(tmp_path, 5, tensors, {"training": {"ema": ema}})
    assert newest_checkpoint(tmp_path).average() == {"w": torch.ones(1)}


def test_a_checkpoint_of_version_0_1_reads_with_todays_names(tmp_path):
    save_checkpoint(tmp_path, 5, {}, {"model": {"unet": {"time": "add", "skips": True}}})
    assert newest_checkpoint(tmp_path).config == {"model": {"unet": {"time_conditioning": "add", "skips": True}}}


def test_a_checkpoint_of_another_version_is_refused_by_name(tmp_path):
    save(tmp_path, 5)
    path = tmp_path / "step-00000005.json"
    manifest = {key: value for key, value in json.loads(path.read_text()).items() if key != "seal"}
    path.write_text(json.dumps(sealed(manifest | {"version": 3})))
    with pytest.raises(ValueError, match="has version 3; this package reads 2"):
        checkpoint.load_checkpoint(path)


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """A folder with two checkpoints, and what a test may swap in: a third, of another run."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    for step, where, kind in ((3, folder, "a"), (6, folder, "a"), (6, folder / "other", "b")):
        tensors = {"weights.w": torch.randn(40), "average-0.9.w": torch.randn(40)}
        save_checkpoint(where, step, tensors, {"kind": kind})
    return folder


def truncated(content, chance):
    whole = content.rstrip()  # JSON without its last newline is whole
    return whole[: chance.randrange(len(whole))]


def flipped(content, chance):
    changed = bytearray(content)
    changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def pickled(content, chance):
    return pickle.dumps({"weights.w": [chance.random()] * 40})


BYTES = {"truncated": truncated, "flipped": flipped, "pickled": pickled}


def do_harm(harm, path, two_checkpoints, chance):
    """Damage one file of a checkpoint, or swap it for another one's."""
    manifest = path.with_suffix(".json")
    if harm in BYTES:
        path.write_bytes(BYTES[harm](path.read_bytes(), chance))
    elif harm == "swapped":  # with the other step's, or another run's
        step = int(path.stem.removeprefix("step-"))
        others = two_checkpoints / "other" / path.name, two_checkpoints / f"step-{9 - step:08d}{path.suffix}"
        path.write_bytes(chance.choice(others if step == 6 else others[1:]).read_bytes())
    elif harm == "other config":
        manifest.write_text(manifest.read_text().replace('"kind": "a"', '"kind": "b"'))
    elif harm == "other version":
        rest = {key: value for key, value in json.loads(manifest.read_text()).items() if key != "seal"}
        manifest.write_text(json.dumps(sealed(rest | {"version": chance.choice([1, None])})))
    else:
        path.unlink()


@settings(max_examples=200, deadline=None)
@given(
    harm=st.sampled_from(["truncated", "flipped", "swapped", "pickled", "other config", "other version", "gone"]),
    which=st.sampled_from([".safetensors", ".json"]),
    both=st.booleans(),
    chance=st.randoms(use_true_random=False),
)
def test_no_corrupted_checkpoint_loads(two_checkpoints, harm, which, both, chance):
    """The newest, or both, come to harm: then the other one is loaded, or none, and a line says why."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in two_checkpoints.glob("step-*"):
            shutil.copy(path, folder)
        for step in (6, 3) if both else (6,):
            do_harm(harm, folder / f"step-{step:08d}{which}", two_checkpoints, chance)
        said = io.StringIO()
        found, problem = None, ""
        with redirect_stdout(said):
            try:
                found = newest_checkpoint(folder)
            except ValueError as error:
                problem = str(error)
        if problem:
            assert both
            assert re.search("no checkpoint in .* can be read", problem)
            assert "\n" not in problem
            return
        if both:
            assert harm == "gone"
            assert which == ".json"
            assert found is None
            return
        assert found.step == 3
        original = files.load_tensors(two_checkpoints / "step-00000003.safetensors")
        assert all(torch.equal(found.tensors[name], value) for name, value in original.items())
        if not (harm == "gone" and which == ".json"):
            assert "checkpoint step-00000006 is passed over" in said.getvalue()
