import json
import os
import shutil
import signal
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm import cli
from ddpm.data import Dataset, pictures
from ddpm.data.pictures import Pictures, load_folder, read_image
from ddpm.diffusion import DiffusionConfig
from ddpm.training import batches, train
from ddpm.training.checkpoint import newest_checkpoint
from ddpm.training.config import TrainingConfig
from ddpm.unet import UNetConfig
from tests.forked import ended, fork
from tests.several import launched, started

CORRUPT = ("7.png", "deep/81.jpg", "deep/152.webp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """300 pictures of many sizes and modes, three of them corrupt, among files that are none."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    (folder / "deep").mkdir()
    (folder / ".hidden").mkdir()
    (folder / "notes.txt").write_text("no picture")
    for i in range(300):
        height, width = rng.integers(20, 200, 2)
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        mode = ("RGB", "L", "CMYK", "P")[i % 4] if i % 3 == 1 else ("RGB", "L", "RGBA", "P")[i % 4]
        mode = "RGB" if mode == "P" and i % 3 else mode
        image.convert(mode).save(folder / ("deep" if i > 80 else "") / f"{i}.{('png', 'jpg', 'webp')[i % 3]}")
    shutil.copy(folder / "0.png", folder / ".hidden" / "0.png")
    (folder / "7.png").write_bytes((folder / "0.png").read_bytes()[:500])
    (folder / "deep" / "81.jpg").write_bytes(b"")
    (folder / "deep" / "152.webp").write_bytes(b"not a picture at all")
    for name in ("7.jpg", "deep/81.png"):
        (folder / name).unlink()
    return folder


def test_a_folder_is_read_whole_and_names_what_it_cannot_read(folder, capsys):
    found = load_folder(folder, (3, 32, 32), workers=2)
    said = capsys.readouterr().out
    assert isinstance(found, Dataset)
    assert found.shape == (3, 32, 32)
    assert len(found) == 297
    assert all(str(folder / name) in said for name in CORRUPT)
    assert "297 pictures; 3 more cannot be read" in said
    assert "1 files are not pictures, by their endings: 1 .txt" in said
    assert "memorises as few as 297 pictures" in said
    paths = sorted(p for p in folder.rglob("*.*") if p.suffix != ".txt" and ".hidden" not in p.parts)
    good = [p for p in paths if p.relative_to(folder).as_posix() not in CORRUPT]
    for i in (0, 100, 296):
        assert torch.equal(found.images[i], read_image(good[i], (3, 32, 32))[0])


def test_too_many_unreadable_files_and_no_pictures_are_refused(folder, tmp_path):
    with pytest.raises(
        ValueError, match=r"3 of 300 pictures in .* cannot be read, more than the legal 0%; the first: /"
    ):
        load_folder(folder, (1, 32, 32), unreadable=0.001)
    with pytest.raises(ValueError, match="there is no picture in it"):
        load_folder(tmp_path, (1, 32, 32))
    with pytest.raises(ValueError, match="there is no such folder"):
        load_folder(tmp_path / "nowhere", (1, 32, 32))
    with pytest.raises(ValueError, match="channels is 4; pictures have 1 or 3"):
        load_folder(folder, (4, 32, 32))


def test_pictures_that_do_not_fit_into_memory_are_read_as_they_are_wanted(folder, tmp_path, monkeypatch, capsys):
    """The same batches, the same weights; which files cannot be read is found out once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    held = load_folder(folder, (1, 32, 32))
    streamed = load_folder(folder, (1, 32, 32), workers=2, memory=1000)
    assert isinstance(streamed, Pictures)
    assert (len(streamed), streamed.name) == (len(held), held.name)
    calls = []
    monkeypatch.setattr(pictures, "map_ahead", lambda *_, **__: calls.append(1))
    assert len(load_folder(folder, (1, 32, 32), memory=1000)) == 297
    assert not calls
    assert str(folder / "7.png") in capsys.readouterr().out
    monkeypatch.undo()
    model = DiffusionConfig(UNetConfig(base_channels=8, head_channels=8, blocks_per_level=1))
    config = TrainingConfig(steps=3, batch_size=4, checkpoint_every=3, warmup=1)
    for name, dataset, workers in (("held", held, 0), ("streamed", streamed, 2), ("unaided", streamed, 0)):
        train(model, dataset, config, tmp_path / name, progress=False, workers=workers)
    first = newest_checkpoint(tmp_path / "held" / "checkpoints").tensors
    for name in ("streamed", "unaided"):
        other = newest_checkpoint(tmp_path / name / "checkpoints").tensors
        assert all(torch.equal(other[key], value) for key, value in first.items()), name


def test_a_changed_folder_is_another_data_set(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / folder.name)
    before = load_folder(folder, (1, 32, 32)).name
    assert load_folder(copy, (1, 32, 32)).name == before
    (copy / "0.png").unlink()
    assert load_folder(copy, (1, 32, 32)).name != before


def test_batches_begin_anywhere_and_split_among_processes(folder):
    device = torch.device("cpu")
    for dataset in (load_folder(folder, (1, 32, 32)), load_folder(folder, (1, 32, 32), memory=1000)):
        whole = list(batches.batches(dataset, 0, range(5), 8, slice(0, 8), device, 0))
        later = list(batches.batches(dataset, 0, range(3, 5), 8, slice(4, 8), device, 0))
        assert torch.equal(torch.stack(later), torch.stack([batch[4:] for batch in whole[3:]]))


def test_a_reader_that_the_system_kills_ends_the_command_in_one_line(folder, tmp_path, monkeypatch):
    program = os.getpid()

    def killed(path, shape):
        assert os.getpid() != program
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(pictures, "read_image", killed)
    monkeypatch.setattr(sys, "argv", ["ddpm", "train", "--data", f"folder:{folder}", "--out", str(tmp_path / "run")])
    assert ended(fork(cli.main, tmp_path / "out", tmp_path / "err")) == 1
    said = (tmp_path / "err").read_text()
    assert said.startswith("ddpm: a process that reads ended by SIGKILL, often for want of memory; --workers 0 ")
    assert "--shm-size" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_folder_trains_from_the_command_line(folder, tmp_path):
    """Colours, 16 pixels, a model of the run's own size; its settings repeat it."""
    settings = (
        "steps = 2", "batch-size = 4", "base-channels = 8", "channel_multipliers = [1, 2]", "attention_levels = [1]",
        "head_channels = 8", "ema = [0.9, 0.5]", 'track = "none"', "workers = 1",
    )  # fmt: skip
    (tmp_path / "small.toml").write_text("\n".join(settings))
    options = ["--data", f"folder:{folder}", "--image-size", 16, "--config", tmp_path / "small.toml"]
    done = launched(1, "ddpm", "train", *options, "--out", tmp_path / "run", "--steps", 3)
    assert "3 more cannot be read" in done
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["training"]["steps"] == 3  # the command line comes first
    assert record["training"]["ema"] == [0.9, 0.5]
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert record["model"]["unet"]["channel_multipliers"] == [1, 2]
    assert record["data"]["image_shape"] == [3, 16, 16]
    again = [*options[:4], "--config", tmp_path / "run" / "config.json"]
    launched(1, "ddpm", "train", *again, "--out", tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (tmp_path / "run/model.safetensors").read_bytes()
    grid = Image.open(tmp_path / "run" / "samples" / "step-00000003.png")
    assert (grid.mode, grid.size) == ("RGB", (4 * 18 + 2, 4 * 18 + 2))
    process = started(1, "ddpm", "evaluate", "--model", tmp_path / "run", "--n", 5000)
    assert "which draws (3, 16, 16); distances are to garments, (1, 32, 32)" in process.communicate()[1]
    launched(1, "ddpm", "sample", "--model", tmp_path / "run", "--n", 4, "--steps", 2, "--out", tmp_path / "s.png")
    assert Image.open(tmp_path / "s.png").size == (2 * 18 + 2, 2 * 18 + 2)
