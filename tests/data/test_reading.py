import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from ddpm import data
from ddpm.data.reading import read_image


def test_a_photograph_is_cut_shrunk_and_made_grey(tmp_path):
    across = np.linspace(0, 255, 500, dtype=np.uint8)
    Image.fromarray(np.broadcast_to(across[None, :, None], (333, 500, 3)).copy()).save(tmp_path / "photo.png")
    grey, words = read_image(tmp_path / "photo.png", (1, 32, 32))
    assert words == "500 x 333, RGB; made grey; cut to 333 x 333; shrunk to 32 x 32"
    assert (grey.shape, grey.dtype) == ((1, 32, 32), torch.uint8)
    centres = (500 - 333) / 2 + (np.arange(32) + 0.5) * 333 / 32 - 0.5  # of the 32 columns, in the photograph
    assert np.abs(grey[0].numpy() - np.interp(centres, np.arange(500), across)).max() < 2
    colours, words = read_image(tmp_path / "photo.png", (3, 32, 32))
    assert words == "500 x 333, RGB; cut to 333 x 333; shrunk to 32 x 32"
    assert torch.equal(colours, grey.expand(3, 32, 32))


def test_a_picture_shrinks_to_what_it_shows_from_afar(tmp_path):
    """A chessboard of single pixels, of which every other would be white alone, is grey."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    grey, _ = read_image(tmp_path / "board.png", (1, 32, 32))
    assert (grey.float() - 127.5).abs().max() < 16


def test_a_picture_of_the_right_shape_is_left_as_it_is(tmp_path):
    garment = data.load("fashion-mnist-embedded", "test", quiet=True).images[3]
    Image.fromarray(garment[0].numpy()).save(tmp_path / "garment.png")
    read, words = read_image(tmp_path / "garment.png", (1, 32, 32))
    assert torch.equal(read, garment)
    assert words == "32 x 32, L"
    Image.fromarray(garment[0, 2:-2, 2:-2].numpy()).save(tmp_path / "small.png")  # as the data set has it
    read, words = read_image(tmp_path / "small.png", (1, 32, 32))
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
        read, words = read_image(tmp_path / name, (1, 32, 32))
        left, right = read[0, :, :12].float(), read[0, :, -12:].float()
        assert left.max() < 8, (name, words)
        assert (right.max() == 0) if name == "clear.png" else (right.min() > 247), (name, words)
    for i in (1, 2):  # a long and a wide one, narrower than the frame: their middles
        Image.fromarray(np.repeat(np.arange(100, dtype=np.uint8)[:, None], 20, axis=1)).rotate(
            90 * (i - 1), expand=True
        ).save(tmp_path / "long.png")
        read, words = read_image(tmp_path / "long.png", (1, 32, 32))
        assert (
            words == f"{['20 x 100', '100 x 20'][i - 1]}, L; cut to {['20 x 32', '32 x 20'][i - 1]}; framed to 32 x 32"
        )
        assert sorted(set(read.flatten().tolist())) == [0, *range(34, 66)]
    film = [Image.new("L", (40, 40), level) for level in (10, 200)]
    film[0].save(tmp_path / "film.gif", save_all=True, append_images=film[1:])
    assert "the first of 2 frames" in read_image(tmp_path / "film.gif", (1, 32, 32))[1]
    for name, word in (("deep.png", "16 bits made 8"), ("clear.png", "laid on black")):
        assert word in read_image(tmp_path / name, (1, 32, 32))[1]


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
            read_image(tmp_path / name, (1, 32, 32))
    Image.new("F", (4, 4)).save(tmp_path / "real.tiff")
    Image.fromarray(np.full((4, 4), 70_000, dtype=np.int32)).save(tmp_path / "deeper.tiff")
    for name in ("real.tiff", "deeper.tiff"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as a picture .* not grey levels of 8 or 16 bits"):
            read_image(tmp_path / name, (1, 32, 32))
    Image.new("LAB", (40, 40)).save(tmp_path / "lab.tiff")
    with pytest.raises(ValueError, match="lab.tiff cannot be read as a picture"):
        read_image(tmp_path / "lab.tiff", (1, 32, 32))
    with pytest.raises(ValueError, match="is a folder; name the pictures in it"):
        read_image(tmp_path, (1, 32, 32))
    with pytest.raises(FileNotFoundError, match="there is no picture"):
        read_image(tmp_path / "nowhere.png", (1, 32, 32))
    with pytest.raises(ValueError, match="pictures have 1 or 3 channels"):
        read_image(tmp_path / "whole.png", (2, 32, 32))


# Grey levels of more than 8 bits.

RAMP = np.linspace(0, 1, 32 * 32).reshape(32, 32)


def tiff(levels, *, white_is_zero=False, bits=None, more=b""):
    """A TIFF file of these levels, with what Pillow does not write: signed ones, white as 0, 12 bits, odd fields."""
    kind, held = {"u": 1, "i": 2, "f": 3}[levels.dtype.kind], levels.dtype.itemsize * 8
    content = levels.tobytes() if bits is None else packed(levels, bits)
    fields = [
        (256, levels.shape[1]), (257, levels.shape[0]), (258, bits or held), (259, 1), (262, int(not white_is_zero)),
        (273, 8 + 2 + 12 * 10 + len(more) + 4), (277, 1), (278, levels.shape[0]), (279, len(content)), (339, kind),
    ]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields) + more
    return b"II*\0" + struct.pack("<IH", 8, len(directory) // 12) + directory + bytes(4) + content


def packed(levels, bits):
    written = "".join(f"{level:0{bits}b}" for level in levels.flatten())
    return int(written, 2).to_bytes(len(written) // 8, "big")


def deep_png(colours):
    """A PNG file of 16 bits a colour, (height, width, 3), which Pillow does not write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    header = struct.pack(">IIBBBBB", colours.shape[1], colours.shape[0], 16, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = [struct.pack(">I", len(c)) + name + c + struct.pack(">I", zlib.crc32(name + c)) for name, c in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("white", "dtype", "words"),
    [
        (255, np.int32, "8 bits in a deeper file kept"),
        (255, np.uint32, "8 bits in a deeper file kept"),
        (255, np.uint16, "8 bits in a deeper file kept"),
        (255, np.int16, "8 bits in a deeper file kept"),
        (4095, np.uint16, "12 bits made 8"),
        (4095, np.int32, "12 bits made 8"),
        (65535, np.uint16, "16 bits made 8"),
        (65535, np.uint32, "16 bits made 8"),
        (1, np.float32, "real levels up to 1 made 8 bits"),
        (255, np.float32, "8 bits in a deeper file kept"),
        (65535, np.float32, "16 bits made 8"),
    ],
)
def test_deep_levels_come_out_right_and_it_is_said_what_was_taken_for_white(tmp_path, white, dtype, words):
    levels = (white * RAMP).astype(dtype) if dtype == np.float32 else (white * RAMP).round().astype(dtype)
    (tmp_path / "deep.tiff").write_bytes(tiff(levels))
    read, said = read_image(tmp_path / "deep.tiff", (1, 32, 32))
    assert words in said.split("; ")
    assert np.abs(read[0].numpy() - 255 * RAMP).max() <= 1
    assert read.flatten()[[0, -1]].tolist() == [0, 255]
    assert torch.equal(read_image(tmp_path / "deep.tiff", (3, 32, 32))[0], read.expand(3, 32, 32))


def test_levels_of_8_bits_in_32_stay_as_they_are(tmp_path):
    levels = np.arange(256, dtype=np.int32).reshape(16, 16)
    (tmp_path / "deep.tiff").write_bytes(tiff(levels))
    assert read_image(tmp_path / "deep.tiff", (1, 16, 16))[0].flatten().tolist() == list(range(256))


def test_one_level_above_white_is_a_darker_picture_with_more_bits(tmp_path):
    (tmp_path / "deep.tiff").write_bytes(tiff((256 * RAMP).round().astype(np.uint16)))
    read, said = read_image(tmp_path / "deep.tiff", (1, 32, 32))
    assert "12 bits made 8" in said
    assert read.max() == round(256 / 4095 * 255)


def test_what_a_file_says_of_its_levels_counts_more_than_a_guess(tmp_path):
    dark = (100 * RAMP).round().astype(np.uint16)
    (tmp_path / "dark.tiff").write_bytes(tiff(dark, bits=12))
    read, said = read_image(tmp_path / "dark.tiff", (1, 32, 32))
    assert "12 bits made 8" in said
    assert read.max() == round(100 / 4095 * 255)
    (tmp_path / "negative.tiff").write_bytes(tiff((65535 * RAMP).round().astype(np.uint16), white_is_zero=True))
    read, _ = read_image(tmp_path / "negative.tiff", (1, 32, 32))
    assert np.abs(read[0].numpy() - 255 * (1 - RAMP)).max() <= 1


def test_real_levels_may_leave_their_range_a_little(tmp_path):
    for white in (1, 255):
        (tmp_path / "real.tiff").write_bytes(tiff((white * (1.01 * RAMP - 0.005)).astype(np.float32)))
        read, _ = read_image(tmp_path / "real.tiff", (1, 32, 32))
        assert read.flatten()[[0, -1]].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (-1024, 3071, np.int16),  # computed tomography
        (0, 2**20, np.int32),
        (0, 3.7, np.float32),  # too much for [0, 1], too little for [0, 255]
        (-1, 1, np.float32),
        (0, np.nan, np.float32),
        (0, 0, np.float32),
    ],
)
def test_levels_whose_white_nobody_knows_are_refused_and_not_made_black(tmp_path, low, high, dtype):
    (tmp_path / "deep.tiff").write_bytes(tiff((low + (high - low) * RAMP).astype(dtype)))
    with pytest.raises(ValueError, match=r"deep.tiff cannot be read as a picture \(its values lie in \["):
        read_image(tmp_path / "deep.tiff", (1, 32, 32))


def test_colours_of_16_bits_are_read_unless_pillow_would_make_them_black(tmp_path):
    colours = np.stack([RAMP, 1 - RAMP, RAMP**2], axis=-1)
    (tmp_path / "deep.png").write_bytes(deep_png((65535 * colours).round()))
    read, _ = read_image(tmp_path / "deep.png", (3, 32, 32))
    assert np.abs(read.permute(1, 2, 0).numpy() - 255 * colours).max() <= 1
    (tmp_path / "shallow.png").write_bytes(deep_png((4095 * colours).round()))
    with pytest.raises(ValueError, match=r"shallow.png cannot be read .* use 12 of their 16 bits at most"):
        read_image(tmp_path / "shallow.png", (3, 32, 32))


# What cameras note beside the pixels.

SCENE = np.arange(12 * 8, dtype=np.uint8).reshape(12, 8) * 2  # no turn and no mirror leaves it as it is


def noted(content, ending="png"):
    """A file with a block of EXIF that need not be one."""
    file = io.BytesIO()
    Image.fromarray(SCENE).save(file, ending, **({"exif": content} if content else {}))
    return file.getvalue()


def exif(orientation, kind=3, count=1, *, of=4):
    """A block of EXIF with the orientation as a value of some type, cut to the first part `of` 4."""
    directory = struct.pack("<HHHIII", 1, ExifTags.Base.Orientation, kind, count, orientation, 0)
    whole = b"Exif\0\0II*\0" + struct.pack("<I", 8) + directory
    return whole[: len(whole) * of // 4]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_pillow_turns_it(tmp_path, orientation):
    for ending in ("png", "webp"):
        options = {"lossless": True} if ending == "webp" else {}
        Image.fromarray(SCENE).save(tmp_path / f"scene.{ending}", exif=exif(orientation), **options)
        with Image.open(tmp_path / f"scene.{ending}") as file:
            upright = np.asarray(ImageOps.exif_transpose(file).convert("L"))
        read, words = read_image(tmp_path / f"scene.{ending}", (1, *upright.shape))
        assert np.array_equal(read[0].numpy(), upright)
        assert "turned" not in words


def test_an_orientation_in_xmp_counts(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>')
    Image.fromarray(SCENE).save(tmp_path / "scene.png", pnginfo=info)
    assert np.array_equal(read_image(tmp_path / "scene.png", (1, 8, 12))[0][0].numpy(), np.rot90(SCENE, -1))


ODD = {
    "garbage": b"no notes at all",
    "garbage after its mark": b"Exif\0\0no notes at all",
    "empty": b"Exif\0\0",
    "0": exif(0),
    "9": exif(9),
    "65535": exif(65535),
    "text": exif(int.from_bytes(b"6\0\0\0", "little"), kind=2, count=2),
    "a fraction": exif(8, kind=5),
    "two": exif(9, count=2),
    "too many": exif(6, count=2**31),
    "an unknown type": exif(6, kind=99),
    "cut in the header": exif(6, of=1),
    "cut in half": exif(6, of=2),
    "cut at the end": exif(6, of=3),
}


@pytest.mark.parametrize("ending", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_odd_notes_do_not_cost_the_picture(tmp_path, content, ending):
    for name, block in (("plain", None), ("odd", content)):
        (tmp_path / f"{name}.{ending}").write_bytes(noted(block, ending))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        odd, words = read_image(tmp_path / f"odd.{ending}", (1, 12, 8))
    assert torch.equal(odd, read_image(tmp_path / f"plain.{ending}", (1, 12, 8))[0])
    assert words.endswith("L") or words.endswith("not turned, as its orientation is illegible") or "made grey" in words
    assert warned == []


@pytest.mark.parametrize(
    ("kind", "count", "value"), [(2, 2, 54), (5, 1, 8), (3, 2, 9), (3, 1, 0), (99, 1, 6), (4, 2**31, 6)]
)
def test_odd_notes_in_a_tiff_do_not_cost_the_picture(tmp_path, kind, count, value):
    (tmp_path / "odd.tiff").write_bytes(tiff(SCENE, more=struct.pack("<HHII", 274, kind, count, value)))
    read, _ = read_image(tmp_path / "odd.tiff", (1, 12, 8))
    assert np.array_equal(read[0].numpy(), SCENE)


def test_it_is_said_when_an_orientation_is_illegible(tmp_path):
    for content in (exif(9), b"no notes at all"):
        (tmp_path / "odd.png").write_bytes(noted(content))
        assert (
            read_image(tmp_path / "odd.png", (1, 12, 8))[1] == "8 x 12, L; not turned, as its orientation is illegible"
        )


def test_a_film_whose_end_is_damaged_is_its_first_frame(tmp_path):
    film = [Image.new("L", (40, 40), level) for level in (10, 200, 90)]
    film[0].save(tmp_path / "film.gif", save_all=True, append_images=film[1:])
    whole = (tmp_path / "film.gif").read_bytes()
    for cut in range(len(whole) - 120, len(whole), 7):
        (tmp_path / "film.gif").write_bytes(whole[:cut])
        assert read_image(tmp_path / "film.gif", (1, 40, 40))[0].unique().tolist() == [10]


# What is no argument.


@pytest.mark.parametrize(
    "shape", [(1, 32), (3, 32, 32, 3), (1, 0, 32), (1, -1, 32), (1, 32.0, 32), 32, None, "1x8", ()]
)
def test_an_illegal_shape_is_refused_by_its_name(tmp_path, shape):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"^shape is "):
        read_image(tmp_path / "a.png", shape)


@pytest.mark.parametrize("path", [None, 5, ["a.png"], io.BytesIO()])
def test_what_is_no_name_is_refused(path):
    with pytest.raises(TypeError, match=r"^path is .*; it must be the name of a file$"):
        read_image(path, (1, 4, 4))


@pytest.mark.parametrize("path", ["a\0b.png", "x" * 5000 + ".png", "/dev/null"])
def test_a_name_that_no_file_can_have_is_one_line(path):
    with pytest.raises(ValueError, match=r"^[^\n]* cannot be read as a picture \([^\n]*\)$"):
        read_image(path, (1, 4, 4))


def test_a_picture_may_be_of_any_numpy_or_torch_shape(tmp_path):
    Image.new("L", (4, 4), 7).save(tmp_path / "a.png")
    for shape in (torch.Size([1, 4, 4]), [1, 4, 4], tuple(np.array([1, 4, 4]))):
        assert read_image(tmp_path / "a.png", shape)[0].shape == (1, 4, 4)
