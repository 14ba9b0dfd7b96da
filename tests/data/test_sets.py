import gzip
import hashlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from ddpm import data
from ddpm.data import pictures, sets


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


@pytest.mark.skipif(not data.DEBIAN_FOLDER.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_embedded_images_are_the_first_of_the_full_set(splits):
    full = data.load("fashion-mnist", "test", quiet=True)
    keep = np.sort(np.concatenate([np.flatnonzero(full.labels == c)[:200] for c in range(10)]))
    assert torch.equal(full.images[keep], splits["test"].images)


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


def test_a_photograph_is_cut_shrunk_and_made_grey(tmp_path):
    across = np.linspace(0, 255, 500, dtype=np.uint8)
    Image.fromarray(np.broadcast_to(across[None, :, None], (333, 500, 3)).copy()).save(tmp_path / "photo.png")
    grey, words = pictures.read_image(tmp_path / "photo.png", (1, 32, 32))
    assert words == "500 x 333, RGB; made grey; cut to 333 x 333; shrunk to 32 x 32"
    assert (grey.shape, grey.dtype) == ((1, 32, 32), torch.uint8)
    centres = (500 - 333) / 2 + (np.arange(32) + 0.5) * 333 / 32 - 0.5  # of the 32 columns, in the photograph
    assert np.abs(grey[0].numpy() - np.interp(centres, np.arange(500), across)).max() < 2
    colours, words = pictures.read_image(tmp_path / "photo.png", (3, 32, 32))
    assert words == "500 x 333, RGB; cut to 333 x 333; shrunk to 32 x 32"
    assert torch.equal(colours, grey.expand(3, 32, 32))


def test_a_picture_of_the_right_shape_is_left_as_it_is(tmp_path, splits):
    garment = splits["test"].images[3]
    Image.fromarray(garment[0].numpy()).save(tmp_path / "garment.png")
    read, words = pictures.read_image(tmp_path / "garment.png", (1, 32, 32))
    assert torch.equal(read, garment)
    assert words == "32 x 32, L"
    Image.fromarray(garment[0, 2:-2, 2:-2].numpy()).save(tmp_path / "small.png")  # as the data set has it
    read, words = pictures.read_image(tmp_path / "small.png", (1, 32, 32))
    assert torch.equal(read, garment)
    assert words == "28 x 28, L; framed to 32 x 32"


def test_pictures_of_every_kind_are_read(tmp_path):
    dark = np.zeros((40, 64), dtype=np.uint8)
    dark[:, 32:] = 255
    picture = Image.fromarray(dark)
    clear = Image.fromarray(np.stack([dark, dark, dark, 255 - dark], axis=-1))  # only what is black is there
    for name, image, options in (
        ("one-bit.png", picture.convert("1"), {}),
        ("palette.gif", picture.convert("P"), {}),
        ("deep.png", Image.fromarray(dark.astype(np.uint16) * 257), {}),
        ("cmyk.jpg", picture.convert("CMYK"), {"quality": 95}),
        ("clear.png", clear, {}),
        ("turned.jpg", ImageOps.mirror(picture), {"exif": mirrored(), "quality": 95}),
    ):
        image.save(tmp_path / name, **options)
        read, words = pictures.read_image(tmp_path / name, (1, 32, 32))
        left, right = read[0, :, :12].float(), read[0, :, -12:].float()
        assert left.max() < 8, (name, words)
        assert (right.max() == 0) if name == "clear.png" else (right.min() > 247), (name, words)
    for i in (1, 2):  # a long and a wide one, narrower than the frame: their middles
        Image.fromarray(np.repeat(np.arange(100, dtype=np.uint8)[:, None], 20, axis=1)).rotate(
            90 * (i - 1), expand=True
        ).save(tmp_path / "long.png")
        read, words = pictures.read_image(tmp_path / "long.png", (1, 32, 32))
        assert (
            words == f"{['20 x 100', '100 x 20'][i - 1]}, L; cut to {['20 x 32', '32 x 20'][i - 1]}; framed to 32 x 32"
        )
        assert sorted(set(read.flatten().tolist())) == [0, *range(34, 66)]
    film = [Image.new("L", (40, 40), level) for level in (10, 200)]
    film[0].save(tmp_path / "film.gif", save_all=True, append_images=film[1:])
    assert "the first of 2 frames" in pictures.read_image(tmp_path / "film.gif", (1, 32, 32))[1]
    for name, word in (("deep.png", "16 bits made 8"), ("clear.png", "laid on black")):
        assert word in pictures.read_image(tmp_path / name, (1, 32, 32))[1]


def mirrored():
    exif = Image.Exif()
    exif[0x0112] = 2  # a camera that saw it in a mirror
    return exif


def test_what_is_no_picture_gets_one_clear_line(tmp_path):
    Image.new("RGB", (300, 200), "red").save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    for name, content in (("cut.png", whole[:200]), ("text.jpg", b"not a picture"), ("empty.png", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} cannot be read as a picture"):
            pictures.read_image(tmp_path / name, (1, 32, 32))
    Image.new("F", (4, 4)).save(tmp_path / "real.tiff")
    Image.fromarray(np.full((4, 4), 70_000, dtype=np.int32)).save(tmp_path / "deeper.tiff")
    for name in ("real.tiff", "deeper.tiff"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as a picture .* not grey levels of 8 or 16 bits"):
            pictures.read_image(tmp_path / name, (1, 32, 32))
    Image.new("LAB", (40, 40)).save(tmp_path / "lab.tiff")
    with pytest.raises(ValueError, match="lab.tiff cannot be read as a picture"):
        pictures.read_image(tmp_path / "lab.tiff", (1, 32, 32))
    with pytest.raises(ValueError, match="is a folder; name the pictures in it"):
        pictures.read_image(tmp_path, (1, 32, 32))
    with pytest.raises(FileNotFoundError, match="there is no picture"):
        pictures.read_image(tmp_path / "nowhere.png", (1, 32, 32))
    with pytest.raises(ValueError, match="pictures have 1 or 3 channels"):
        pictures.read_image(tmp_path / "whole.png", (2, 32, 32))


@pytest.mark.parametrize("name", data.TOYS)
def test_toys_fill_the_square_and_repeat(name):
    points = data.toy(name, 4000)
    assert points.shape == (4000, 2)
    assert points.dtype == torch.float32
    assert torch.equal(points, data.toy(name, 4000))
    assert not torch.equal(points, data.toy(name, 4000, seed=1))
    assert points.abs().quantile(0.999) < 1.3
    assert points.std(0).min() > 0.2
