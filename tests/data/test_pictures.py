import hashlib
import io
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm import cli
from ddpm.data import Dataset, pictures
from ddpm.data.pictures import Pictures, load_folder, read_image
from ddpm.data.reading import read_picture
from ddpm.diffusion import DiffusionConfig
from ddpm.training import batches, checkpoint, train
from ddpm.training.checkpoint import newest_checkpoint
from ddpm.training.config import TrainingConfig
from tests.cli.commands import forked
from tests.forked import ended, fork
from tests.networks import SMALL_UNET
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
    for i in (0, 1, len(held) - 1):
        assert all(torch.equal(one, other) for one, other in zip(held[i], streamed[i], strict=True))
    calls = []
    monkeypatch.setattr(pictures, "map_ahead", lambda *_, **__: calls.append(1))
    assert len(load_folder(folder, (1, 32, 32), memory=1000)) == 297
    assert not calls
    assert str(folder / "7.png") in capsys.readouterr().out
    monkeypatch.undo()
    model = DiffusionConfig(SMALL_UNET)
    config = TrainingConfig(steps=3, batch_size=4, checkpoint_every=3, warmup=1)
    for name, dataset, workers in (("held", held, 0), ("streamed", streamed, 2), ("unaided", streamed, 0)):
        train(model, dataset, config, tmp_path / name, progress=False, workers=workers)
    first = newest_checkpoint(tmp_path / "held" / "checkpoints").tensors
    for name in ("streamed", "unaided"):
        other = newest_checkpoint(tmp_path / name / "checkpoints").tensors
        assert all(torch.equal(other[key], value) for key, value in first.items()), name


@pytest.mark.parametrize("memory", [2**30, 0], ids=["held", "read as wanted"])
def test_subfolders_that_hold_all_pictures_are_their_classes(tmp_path, memory):
    colours = {"red": (255, 0, 0), "blue": (0, 0, 255), "green/deep": (0, 255, 0)}
    for name, colour in colours.items():
        (tmp_path / name).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (8, 8), colour).save(tmp_path / name / f"{i}.png")
    found = load_folder(tmp_path, (3, 8, 8), memory=memory, quiet=True)
    assert found.classes == ("blue", "green", "red")
    assert [found[i][1].item() for i in range(len(found))] == found.labels.tolist()
    shown = [found[i][0].flatten(1).max(1).values.argmax().item() for i in range(len(found))]
    assert shown == [{"blue": 2, "green": 1, "red": 0}[found.classes[label]] for label in found.labels.tolist()]

    Image.new("RGB", (8, 8)).save(tmp_path / "odd.png")
    found = load_folder(tmp_path, (3, 8, 8), memory=memory, quiet=True)
    assert (found.classes, found.labels.tolist()) == ((), [0] * 7)


def test_labels_of_pictures_are_one_for_each_and_of_a_class(few):
    paths = sorted(few.iterdir())
    for labels, words in (
        (torch.zeros(1, dtype=torch.int64), "labels have shape"),
        (torch.full((len(paths),), 2), "legal are 0"),
    ):
        with pytest.raises(ValueError, match=words):
            Pictures("some", paths, (1, 8, 8), (), labels, ("a", "b"))


@pytest.mark.filterwarnings("error")
def test_pictures_may_be_read_from_a_file_that_stays_on_the_disk(tmp_path):
    pixels = np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 1, 2, 2)
    np.save(tmp_path / "pixels.npy", pixels)

    class Mapped(Pictures):
        def read(self, rows):
            return np.load(tmp_path / "pixels.npy", mmap_mode="r")[rows[0] : rows[-1] + 1]

    image, label = Mapped("mapped", [tmp_path] * 3, (1, 2, 2))[1]
    assert (image.tolist(), image.dtype, label.item()) == (pixels[1].tolist(), torch.uint8, 0)


def test_a_changed_folder_is_another_data_set(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / folder.name)
    before = load_folder(folder, (1, 32, 32)).name
    assert load_folder(copy, (1, 32, 32)).name == before
    (copy / "0.png").unlink()
    assert load_folder(copy, (1, 32, 32)).name != before


@pytest.fixture
def few(tmp_path, monkeypatch):
    """A folder of 20 pictures, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "few").mkdir()
    for i in range(20):
        Image.new("L", (40, 30), 10 * i).save(tmp_path / "few" / f"{i:02d}.bmp")
    return tmp_path / "few"


def test_twenty_pictures_that_cannot_be_read_are_named_and_the_others_counted(few, capsys):
    for i in range(23):
        (few / f"broken {i:02d}.png").write_bytes(b"no picture")
    load_folder(few, (1, 8, 8), unreadable=0.9)
    said = capsys.readouterr().out
    assert [f"broken {i:02d}.png" in said for i in range(23)] == [True] * 20 + [False] * 3
    (cache,) = re.findall(r"\.\.\. and 3 more, named in (.*)", said)
    assert "broken 22.png" in Path(cache).read_text()


@pytest.mark.parametrize("memory", [0, 2**30])
def test_a_picture_that_is_edited_and_keeps_its_length_makes_another_data_set(few, memory):
    before = load_folder(few, (1, 8, 8), memory=memory)
    status = (few / "07.bmp").stat()
    Image.new("L", (40, 30), 3).save(few / "07.bmp")
    os.utime(few / "07.bmp", ns=(status.st_atime_ns, status.st_mtime_ns))  # as a program that keeps the date
    assert (few / "07.bmp").stat().st_size == status.st_size
    after = load_folder(few, (1, 8, 8), memory=memory)
    assert after.name != before.name
    Image.new("L", (40, 30), 70).save(few / "07.bmp")
    assert load_folder(few, (1, 8, 8), memory=memory).name == before.name


def test_dates_alone_make_no_other_data_set(few):
    before = load_folder(few, (1, 8, 8), memory=0).name
    for path in few.iterdir():
        os.utime(path, (1, 1))
    assert load_folder(few, (1, 8, 8), memory=0).name == before


def test_the_same_folder_is_the_same_data_by_every_word(few, monkeypatch):
    monkeypatch.chdir(few.parent)
    os.symlink("few", "link")
    monkeypatch.setenv("HOME", str(few.parent))
    expected = load_folder(few, (1, 8, 8)).name
    assert expected.startswith("folder:few@")
    words = ("few", "./few/", "few/.", "link", "link/../few", few.parent / "link", "~/few", f"{few}//")
    assert {load_folder(word, (1, 8, 8)).name for word in words} == {expected}
    monkeypatch.chdir(few)
    assert {load_folder(word, (1, 8, 8), memory=0).name for word in (".", "../few")} == {expected}


def test_what_is_guessed_or_left_out_is_said_with_a_count(few, capsys):
    for i in (3, 5):
        Image.fromarray(np.full((30, 40), 4000, dtype=np.uint16)).save(few / f"{i:02d}.tiff")
    (few / "lions").symlink_to(few / "nowhere")
    (few / "up").symlink_to("..")
    load_folder(few, (1, 8, 8), memory=0)
    for _ in range(2):  # the second time from the cache
        said = capsys.readouterr().out.splitlines()
        assert "2 pictures: 12 bits made 8" in said
        assert f"left out: 1 links that lead nowhere, such as {few / 'lions'}" in said
        assert f"left out: 1 links that lead back to a folder around them, such as {few / 'up'}" in said
        load_folder(few, (1, 8, 8), memory=0)


def test_a_folder_of_links_to_nowhere_says_why_nothing_is_in_it(tmp_path):
    (tmp_path / "cats").symlink_to(tmp_path / "store")
    with pytest.raises(
        ValueError, match=r"there is no picture in it, .*; left out: 1 links that lead nowhere, such as "
    ):
        load_folder(tmp_path, (1, 8, 8))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"content": 1, "problems": 2, "more": 3}', "\0"])
def test_a_damaged_memory_of_a_folder_is_as_none(few, content):
    before = load_folder(few, (1, 8, 8), memory=0)
    (cache,) = few.parent.joinpath("cache").rglob("*.json")
    cache.write_text(content)
    assert load_folder(few, (1, 8, 8), memory=0).name == before.name


def test_a_picture_that_could_not_be_read_is_tried_again_at_the_next_start(few, monkeypatch):
    """It may have been a disk that was away: what the cache remembers is no verdict for ever."""

    def trouble(path, shape):
        if path.name == "07.bmp":
            raise OSError("the disk is away")
        return read_picture(path, shape)

    with monkeypatch.context() as away:
        away.setattr(pictures, "read_picture", trouble)
        for _ in range(2):  # the second time from the cache
            assert len(load_folder(few, (1, 8, 8), memory=0)) == 19
    (cache,) = few.parent.joinpath("cache").rglob("*.json")
    assert "07.bmp" in cache.read_text()
    found = load_folder(few, (1, 8, 8), memory=0)
    assert [path.name for path in found.paths] == [f"{i:02d}.bmp" for i in range(20)]
    assert "07.bmp" in cache.read_text()  # so it was this folder's record that was read


def test_a_folder_is_read_where_nothing_can_be_remembered(few, monkeypatch):
    (few.parent / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(few.parent / "file"))
    monkeypatch.setenv("HOME", str(few.parent / "file"))
    monkeypatch.setenv("TMPDIR", str(few.parent / "file"))
    assert len(load_folder(few, (1, 8, 8), memory=0)) == 20


NAMES = ["ünï.png", "\N{GRINNING FACE}.png", os.fsdecode(b"caf\xe9.png"), "two\nlines.png", "\u202e.png"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("name", NAMES)
def test_names_that_a_console_cannot_print_are_read_and_told(few, monkeypatch, encoding, name):
    folder = few.rename(few.parent / name.removesuffix(".png"))
    Image.new("L", (4, 4)).save(few.parent / "whole.png")
    (few.parent / "whole.png").rename(folder / name)
    (folder / f"no picture {name}").write_bytes(b"")
    console = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", console)
    found = load_folder(folder, (1, 8, 8), memory=0)
    console.flush()
    assert len(found) == 21
    assert b"no picture " in console.buffer.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_training_on_names_that_a_console_cannot_print_ends_well(few, tmp_path, monkeypatch, encoding):
    folder = few.rename(few.parent / NAMES[2])
    (folder / "00.bmp").rename(folder / NAMES[1])
    (folder / NAMES[0]).write_bytes(b"")
    out = tmp_path / os.fsdecode(b"\xff\xfe \xf0\x9f\x98\x80")
    command = small_training(folder, out)

    def program():
        sys.stdout.reconfigure(encoding=encoding, errors="strict")
        cli.main()

    monkeypatch.setattr(sys, "argv", ["ddpm", *command])
    for _ in range(2):
        code = ended(fork(program, tmp_path / "out.txt", tmp_path / "err.txt"))
        assert code == 0, (tmp_path / "err.txt").read_text()
    said = (tmp_path / "out.txt").read_text(encoding, errors="replace")
    assert "resumed from step 2 of 2" in said
    assert "done: " in said
    assert "cannot be read as a picture" in said


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((None, (1, 8, 8)), TypeError, r"^folder is None; it must be the name of a folder$"),
        ((5, (1, 8, 8)), TypeError, r"^folder is 5; "),
        (("", (1, 8, 8)), ValueError, r"^data is 'folder:'; there is no such folder$"),
        (("a\0b", (1, 8, 8)), ValueError, "there is no such folder"),
        (("x" * 5000, (1, 8, 8)), ValueError, "there is no such folder"),
        (("~nobody-of-that-name/x", (1, 8, 8)), ValueError, "there is no such folder"),
        ((".", (1, 8)), ValueError, r"^shape is \(1, 8\); it must be \(channels, height, width\)$"),
        ((".", (1, 8, 0)), ValueError, r"^shape is "),
        ((".", 8), ValueError, r"^shape is 8; "),
        ((".", (2, 8, 8)), ValueError, r"channels is 2; pictures have 1 or 3 channels$"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(few, monkeypatch, arguments, error, words):
    monkeypatch.chdir(few)
    with pytest.raises(error, match=words) as raised:
        load_folder(*arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "option", [{"workers": -1}, {"workers": 1.5}, {"memory": -1}, {"unreadable": 2}, {"unreadable": "5%"}]
)
def test_wrong_options_are_refused_by_name(few, option):
    with pytest.raises(ValueError, match=f"^{next(iter(option))} is "):
        load_folder(few, (1, 8, 8), **option)


def test_a_folder_of_which_nothing_can_be_read_is_refused_whatever_share_is_legal(few, capsys):
    for path in few.iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"^none of the 20 pictures in .* can be read; the first: "):
        load_folder(few, (1, 8, 8), unreadable=1)
    assert "memorises" not in capsys.readouterr().out


def test_one_picture_is_a_single_one(tmp_path, capsys):
    Image.new("L", (8, 8)).save(tmp_path / "0.png")
    load_folder(tmp_path, (1, 8, 8))
    assert capsys.readouterr().out.endswith("a model soon memorises a single picture\n")


def test_pictures_are_some_files_of_a_legal_shape(few):
    with pytest.raises(ValueError, match="paths is empty"):
        Pictures("none", [], (1, 8, 8))
    with pytest.raises(ValueError, match="shape is"):
        Pictures("some", list(few.iterdir()), (1, 8))
    with pytest.raises(TypeError, match="^classes is 'ab'; it must be a sequence of names$"):
        Pictures("some", list(few.iterdir()), (1, 8, 8), classes="ab")


def small_training(data, out):
    """The arguments of a command that trains on a folder."""
    return [
        "train", "--data", f"folder:{data}", "--image-size", "8", "--channels", "1", "--steps", "2",
        "--batch-size", "2", "--base-channels", "8", "--track", "none", "--workers", "0", "--out", str(out),
    ]  # fmt: skip


def test_a_run_in_its_own_data_goes_on_and_never_learns_from_what_it_drew(few, tmp_path, monkeypatch):
    monkeypatch.chdir(few)
    for words in (".", few, "../few"):
        process = forked(*small_training(words, "run"))
        assert process.returncode == 0, process.stderr
        said = process.stdout + process.stderr
        assert "20 pictures" in said
        assert ("resumed from step 2 of 2" in said) == (words != ".")
    assert [path.name for path in (few / "run" / "samples").iterdir()] == ["step-00000002.png"]
    process = forked(*small_training(".", "another"))
    assert process.returncode == 0, process.stderr
    assert "left out: 1 folders of trainings, with what they drew, such as run" in process.stdout + process.stderr
    records = [json.loads((few / name / "config.json").read_text()) for name in ("run", "another")]
    assert records[0]["data"] == records[1]["data"]
    assert records[0]["data"]["images"] == 20


@pytest.mark.parametrize(("words", "name"), [(".", ""), ("../few", "few"), ("../link", "link")])
def test_a_run_of_version_0_1_0_goes_on_by_the_words_that_it_began_with(few, tmp_path, monkeypatch, words, name):
    """Which called the data by the word for its folder, and by the names and sizes of the files."""
    monkeypatch.chdir(few)
    os.symlink("few", "../link")
    sizes = [[path.name, path.stat().st_size] for path in sorted(few.glob("*.bmp"))]
    digest = hashlib.sha256(json.dumps(sizes).encode()).hexdigest()[:12]
    command = small_training(words, tmp_path / "run")
    assert forked(*command).returncode == 0
    manifest = tmp_path / "run" / "checkpoints" / "step-00000002.json"
    old = json.loads(manifest.read_text())
    old["config"]["data"]["name"] = f"folder:{name}@{digest}"
    del old["seal"]
    manifest.write_text(json.dumps(checkpoint.sealed(old)))
    process = forked(*command)
    assert process.returncode == 0, process.stderr
    assert "resumed from step 2 of 2" in process.stdout + process.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["name"].startswith("folder:few@")
    Image.new("L", (45, 30)).save(few / "07.bmp")
    process = forked(*command)
    assert process.returncode == 2
    assert "holds another run (" in process.stderr


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

    monkeypatch.setattr(pictures, "read_picture", killed)
    process = forked("train", "--data", f"folder:{folder}", "--out", tmp_path / "run")
    assert process.returncode == 1
    said = process.stderr
    assert said.startswith("ddpm: a process that reads was killed by SIGKILL, often for want of memory; --workers 0 ")
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


def test_a_twentieth_of_the_files_may_be_unreadable_by_default(tmp_path):
    for i in range(19):
        Image.new("L", (8, 8), i).save(tmp_path / f"{i:02}.png")
    (tmp_path / "19.png").write_bytes(b"no picture")
    assert len(load_folder(tmp_path, (1, 8, 8), quiet=True)) == 19
    (tmp_path / "18.png").write_bytes(b"no picture either")
    with pytest.raises(ValueError, match=r"2 of 20 pictures .* cannot be read, more than the legal 5%"):
        load_folder(tmp_path, (1, 8, 8), quiet=True)


def test_of_a_folder_whose_pictures_can_all_be_read_nothing_else_is_said(tmp_path, capsys):
    for i in range(3):
        Image.new("L", (8, 8), i).save(tmp_path / f"{i}.png")
    load_folder(tmp_path, (1, 8, 8))
    assert f"{tmp_path}: 3 pictures\n" in capsys.readouterr().out
