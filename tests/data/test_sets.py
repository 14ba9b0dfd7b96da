import gzip
import hashlib
import os
import re

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ddpm import data
from ddpm.data import sets
from tests.data.users import as_a_user


@pytest.fixture(scope="module")
def splits():
    return {split: data.load("fashion-mnist-embedded", split, quiet=True) for split in ("train", "test")}


def test_the_embedded_images_are_balanced_padded_and_whole(splits):
    for split, n in (("train", 10_000), ("test", 2_000)):
        images, labels = splits[split].images, splits[split].labels
        assert images.shape == (n, 1, 32, 32)
        assert images.dtype == torch.uint8
        assert labels.bincount().tolist() == [n // 10] * 10
        border = torch.ones(32, 32, dtype=torch.bool)
        border[2:-2, 2:-2] = False
        assert not images[:, 0, border].any()
        assert images.float().mean() > 10
        digest = hashlib.sha256(images[:, 0, 2:-2, 2:-2].contiguous().numpy().tobytes()).hexdigest()
        assert digest == sets._SHA256["fashion-mnist-embedded", split]


def write_idx(folder, images, labels, prefix="train", compress=True):
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
        content = header + array.astype(np.uint8).tobytes()
        name = f"{prefix}-{kind}-ubyte" + (".gz" if compress else "")
        (folder / name).write_bytes(gzip.compress(content) if compress else content)


def test_a_data_set_is_one_of_torchs(splits):
    images, labels = next(iter(DataLoader(splits["train"], batch_size=3)))
    assert torch.equal(images, splits["train"].images[:3])
    assert torch.equal(labels, splits["train"].labels[:3])
    assert splits["train"] == splits["train"] != splits["test"]


@pytest.mark.parametrize("compress", [True, False])
def test_a_folder_of_idx_files_is_read(tmp_path, monkeypatch, compress, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)
    write_idx(tmp_path, pixels, np.arange(7), compress=compress)
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    monkeypatch.setitem(sets._SHA256, ("fashion-mnist", "train"), digest)
    read = data.load("fashion-mnist", "train", tmp_path)
    assert np.array_equal(read.images[:, 0, 2:-2, 2:-2].numpy(), pixels)
    assert read.labels.tolist() == list(range(7))
    assert f"fashion-mnist train: 7 images, {tmp_path}" in capsys.readouterr().out


def test_other_images_are_refused(tmp_path):
    write_idx(tmp_path, np.zeros((7, 28, 28)), np.arange(7))
    with pytest.raises(ValueError, match="not those of fashion-mnist"):
        data.load("fashion-mnist", "train", tmp_path)
    with pytest.raises(FileNotFoundError, match="holds neither"):
        data.load("fashion-mnist", "test", tmp_path)


IDX = bytes([0, 0, 8, 3, 0, 0, 0, 7, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(7 * 28 * 28)


@pytest.mark.parametrize(
    ("content", "damage"),
    [
        (b"", "it does not begin with the header of an IDX file of bytes"),
        (IDX[:3], "it does not begin with the header of an IDX file of bytes"),
        (IDX[:10], "it does not begin with the header of an IDX file of bytes"),
        (b"<!DOCTYPE html>" * 50, "it does not begin with the header of an IDX file of bytes"),
        (IDX[:1016], "it holds 1,016 bytes where its header promises 5,504"),
        (IDX + b"\0", "it holds 5,505 bytes where its header promises 5,504"),
    ],
)
def test_an_idx_file_that_is_cut_or_none_says_so(tmp_path, content, damage):
    for name, written in (("train-images-idx3-ubyte", content), ("train-images-idx3-ubyte.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(written)
        with pytest.raises(ValueError, match=rf"/{name} is damaged: {damage}$"):
            data.load("fashion-mnist", "train", tmp_path)
        (tmp_path / name).unlink()


@pytest.mark.skipif(not data.DEBIAN_FOLDER.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_embedded_images_are_the_first_of_the_full_set(splits):
    full = data.load("fashion-mnist", "test", quiet=True)
    keep = np.sort(np.concatenate([np.flatnonzero(full.labels == c)[:200] for c in range(10)]))
    assert torch.equal(full.images[keep], splits["test"].images)


def test_a_folder_is_no_name():
    with pytest.raises(
        ValueError, match=r"^data set is 'folder:mine'; .* loaded by ddpm\.data\.pictures\.load_folder$"
    ):
        data.load("folder:mine", "train")


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="data set is 'minst'; legal are fashion-mnist"):
        data.load("minst")
    with pytest.raises(ValueError, match="split is 'valid'"):
        data.load("fashion-mnist-embedded", "valid")
    with pytest.raises(ValueError, match="toy is 'rings'"):
        data.toy("rings", 5)


def test_normalise_and_denormalise_are_inverse():
    grey = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    x = data.normalise(grey)
    assert (x.min(), x.max()) == (-1, 1)
    assert torch.equal(data.denormalise(x), grey)
    assert data.denormalise(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
    with pytest.raises(TypeError, match="float32"):
        data.normalise(x)
    with pytest.raises(TypeError, match="uint8"):
        data.denormalise(grey)


def written(folder, pixels, labels, monkeypatch):
    """A folder of IDX files whose images are taken for Fashion-MNIST's."""
    write_idx(folder, pixels, labels)
    monkeypatch.setitem(sets._SHA256, ("fashion-mnist", "train"), hashlib.sha256(pixels.tobytes()).hexdigest())
    return folder


@pytest.mark.parametrize("labels", [np.arange(6), np.arange(8), np.arange(7) + 5, np.arange(0)])
def test_labels_that_do_not_fit_are_refused(tmp_path, monkeypatch, labels):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)
    with pytest.raises(
        ValueError, match="labels in .* are not those of fashion-mnist: they must be as many, from 0 to 9"
    ):
        data.load("fashion-mnist", "train", written(tmp_path, pixels, labels, monkeypatch))


@pytest.mark.parametrize("name", [None, 5, ["mnist"], ("mnist",), b"mnist", ""])
def test_a_name_of_another_type_is_refused(name):
    with pytest.raises(ValueError, match=r"^data set is .*; legal are fashion-mnist"):
        data.load(name)
    with pytest.raises(ValueError, match=r"^split is .*; legal are train, test$"):
        data.load("fashion-mnist-embedded", name)


@pytest.mark.parametrize("folder", [5, ["here"], b"here"])
def test_a_folder_of_another_type_is_refused(folder):
    for name in data.NAMES:
        with pytest.raises(TypeError, match=r"^folder is .*; it must be the name of a folder$"):
            data.load(name, "train", folder)


def test_the_embedded_set_has_no_folder():
    with pytest.raises(ValueError, match="folder is '/nowhere'; fashion-mnist-embedded is in the package and has none"):
        data.load("fashion-mnist-embedded", folder="/nowhere")


def test_a_folder_may_be_in_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "mine"))):
        data.load("fashion-mnist", folder="~/mine")


def test_labels_of_classes_are_integers():
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(TypeError, match="labels are torch.float32; they must be integers"):
        data.Dataset("made", "train", images, torch.tensor([0.7, 1.2]), "here", classes=("a", "b"))
    with pytest.raises(TypeError, match="^classes is 'ab'; it must be a sequence of names$"):
        data.Dataset("made", "train", images, torch.tensor([0, 1]), "here", classes="ab")


@pytest.mark.parametrize("name", ["fashion-mnist", *data.TORCHVISION])
def test_folders_without_the_files_are_refused_in_one_line(tmp_path, name):
    (tmp_path / "a file").write_text("")
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "a file", "x" * 5000, ""):
        with pytest.raises(FileNotFoundError) as error:
            data.load(name, "train", folder)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x03", b"\0\0\x08\x03" + bytes(12), b"nonsense" * 9])
@pytest.mark.parametrize("name", ["mnist", "kmnist"])
def test_damaged_files_of_torchvisions_sets_are_refused_in_one_line(tmp_path, name, content):
    raw = tmp_path / data.TORCHVISION[name] / "raw"
    raw.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{prefix}-{kind}-ubyte").write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=f"{data.TORCHVISION[name]} in") as error:
        data.load(name, "train", tmp_path)
    assert "\n" not in str(error.value)


IMAGES, LABELS = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("images", "labels", "error", "words"),
    [
        (IMAGES.numpy(), LABELS, TypeError, "images are ndarray; they must be a tensor"),
        (IMAGES, [0] * 4, TypeError, "labels are list; they must be a tensor"),
        (IMAGES.double(), LABELS, TypeError, "images are torch.float64; they must be torch.uint8 .*, or torch.float32"),
        (IMAGES.int(), LABELS, TypeError, "images are torch.int32; they must be torch.uint8"),
        (IMAGES.float(), LABELS, ValueError, "images are floats from 0 to 0; .* must lie around 0"),
        (
            torch.randn(IMAGES.shape, requires_grad=True),
            LABELS,
            ValueError,
            r"carry a gradient, .*; give images.detach\(\)",
        ),
        (IMAGES + torch.linspace(0, 1, 8), LABELS, ValueError, r"from 0 to 1; .* bring grey levels to \[-1, 1\]"),
        (IMAGES - torch.inf, LABELS, ValueError, "images hold NaN or infinity"),
        (
            IMAGES[:0],
            LABELS[:0],
            ValueError,
            r"images have shape \(0, 1, 8, 8\); it must be \(n, channels, height, width\)",
        ),
        (IMAGES[0], LABELS, ValueError, r"images have shape \(1, 8, 8\); it must be"),
        (IMAGES, LABELS[:3], ValueError, r"labels have shape \(3,\); it must be \(4,\), one for each image"),
        (IMAGES, LABELS[:, None], ValueError, r"labels have shape \(4, 1\)"),
    ],
)
def test_a_data_set_has_images_and_a_label_for_each(images, labels, error, words):
    with pytest.raises(error, match=words):
        data.Dataset("mine", "train", images, labels, "made here")


def test_floats_around_0_are_images():
    latents = torch.randn(4, 24, 1, 1)
    assert torch.equal(data.Dataset("mine", "train", latents, LABELS, "made here")[2][0], latents[2])
    assert data.Dataset("mine", "train", IMAGES - 1.0, LABELS, "made here").shape == (1, 8, 8)


# Where things are kept.


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home, with the variables as they are on a person's machine."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_the_cache_is_the_users(home, tmp_path, monkeypatch):
    assert data.cache_folder() == home / ".cache" / "ddpm"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data.cache_folder() == tmp_path / "cache" / "ddpm"


@pytest.mark.parametrize("void", ["", "relative", "./here", "~/cache"])
def test_a_cache_that_is_no_absolute_path_is_void(home, monkeypatch, void):
    """As the XDG Base Directory Specification says."""
    monkeypatch.setenv("XDG_CACHE_HOME", void)
    assert data.cache_folder() == home / ".cache" / "ddpm"


def test_without_a_home_the_cache_is_temporary(home, tmp_path, monkeypatch):
    expected = tmp_path / "tmp" / f"ddpm-{os.getuid()}"
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    assert data.cache_folder() == expected
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it answers where no passwd knows the user
    assert data.cache_folder() == expected


def test_a_cache_that_may_not_be_written_is_temporary_unless_it_is_there(home, tmp_path):
    os.chmod(tmp_path, 0o755)
    os.chmod(home, 0o555)
    (tmp_path / "tmp").mkdir()

    def program():
        assert data.cache_folder() == tmp_path / "tmp" / f"ddpm-{os.getuid()}"

    assert as_a_user(program) == 0
    (home / ".cache" / "ddpm").mkdir(parents=True)
    assert data.cache_folder() == home / ".cache" / "ddpm"


@pytest.mark.parametrize("name", data.TOYS)
def test_toys_fill_the_square_and_repeat(name):
    points = data.toy(name, 4000)
    assert points.shape == (4000, 2)
    assert points.dtype == torch.float32
    assert torch.equal(points, data.toy(name, 4000))
    assert not torch.equal(points, data.toy(name, 4000, seed=1))
    assert points.abs().quantile(0.999) < 1.3
    assert points.std(0).min() > 0.2


@pytest.mark.parametrize("arguments", [("ring", -1), ("ring", 2.5), ("ring", None), ("ring", 5, -1), ("ring", 5, 0.5)])
def test_a_toy_has_a_number_of_points_and_a_seed(arguments):
    with pytest.raises(ValueError, match=r"^(n|seed) is .*; it must be an integer from 0 up$"):
        data.toy(*arguments)


@pytest.mark.parametrize("value", [None, 5, [0.5], np.zeros((1, 2, 2), dtype=np.uint8)])
def test_only_tensors_are_scaled(value):
    with pytest.raises(TypeError, match=r"^images are .*; normalise takes a tensor of torch.uint8$"):
        data.normalise(value)
    with pytest.raises(TypeError, match=r"^x is .*; denormalise takes a tensor"):
        data.denormalise(value)


def test_no_images_lie_in_any_range():
    data.check_range(torch.zeros(0, 1, 8, 8))


def test_an_error_without_words_is_told_by_its_name(tmp_path, monkeypatch):
    def without_words(*_, **__):
        raise OSError

    monkeypatch.setattr("torchvision.datasets.CIFAR10", without_words)
    with pytest.raises(FileNotFoundError, match=r"or could not be downloaded \(OSError\); "):
        data.load("cifar10", "train", tmp_path, quiet=True)


def test_both_splits_of_a_torchvision_set_are_read_and_framed(tmp_path):
    """MNIST's own files: the splits are two, and digits of 28 x 28 lie in the middle of 32 x 32."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, n in (("train", 5), ("t10k", 3)):
        pixels = np.full((n, 28, 28), n, dtype=np.uint8)
        write_idx(raw, pixels, np.arange(n), prefix, compress=False)
    for split, n in (("train", 5), ("test", 3)):
        found = data.load("mnist", split, tmp_path, quiet=True)
        assert (found.split, found.labels.tolist()) == (split, list(range(n)))
        framed = torch.zeros(n, 1, 32, 32, dtype=torch.uint8)
        framed[:, :, 2:30, 2:30] = n
        assert torch.equal(found.images, framed)
        assert found.classes == tuple("0123456789")  # torchvision calls them "0 - zero" and so on


def test_colour_images_keep_their_height_and_width(tmp_path, monkeypatch):
    class Colours:
        """torchvision's CIFAR10 without its files: one image whose rows brighten downward, red alone."""

        def __init__(self, root, train, download):
            self.root, self.targets, self.classes = root, [1], ["airplane", "automobile"]
            self.data = np.zeros((1, 32, 32, 3), dtype=np.uint8)
            self.data[0, :, :, 0] = np.arange(32)[:, None]

    monkeypatch.setattr("torchvision.datasets.CIFAR10", Colours)
    found = data.load("cifar10", "train", tmp_path, quiet=True)
    (image,) = found.images
    assert found.classes == ("airplane", "automobile")
    assert torch.equal(image[0], torch.arange(32, dtype=torch.uint8)[:, None].expand(32, 32))
    assert not image[1:].any()


@pytest.mark.parametrize("levels", [[-1.5, 0.0], [0.0, 1.5], [-2.0, 2.0], [0.0, float("nan")]])
def test_images_beyond_the_range_on_either_side_are_refused(levels):
    with pytest.raises(ValueError, match=r"images lie in .*; legal is \[-1, 1\]"):
        data.check_range(torch.tensor(levels))
    data.check_range(torch.tensor([-1.0, 1.0]))


def test_toys_are_where_their_names_say():
    squares = ((data.toy("checkerboard", 4000) + 1) * 2).floor()
    assert (squares.sum(1) % 2 == 0).all()
    assert len(squares.unique(dim=0)) == 8
    ring = data.toy("ring", 4000)
    corners = 0.8 * torch.tensor([[np.cos(a), np.sin(a)] for a in 2 * np.pi * np.arange(8) / 8], dtype=torch.float32)
    nearest = torch.cdist(ring, corners).min(1)
    assert nearest.indices.bincount().min() > 400
    assert nearest.values.square().mean().sqrt().item() == pytest.approx(0.04 * 2**0.5, rel=0.05)
    radius = data.toy("spiral", 4000).norm(dim=1)
    assert radius.median().item() == pytest.approx((1 + 2 * 0.5**0.5) / 3, abs=0.02)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_is_an_index_into_the_names_of_the_classes(label):
    images, labels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, label])
    with pytest.raises(ValueError, match=r"labels are from .* to .*; legal are 0 to 2, one for each class"):
        data.Dataset("made here", "train", images, labels, "made here", classes=("a", "b", "c"))


@pytest.mark.parametrize("classes", [iter("abc"), {"a": 0, "b": 1, "c": 2}.keys(), ["a", "b", "c"]])
def test_classes_are_a_tuple_whatever_they_were(classes):
    images, labels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 2])
    assert data.Dataset("made here", "train", images, labels, "made here", classes=classes).classes == ("a", "b", "c")
