"""What the commands draw and count, on images made by hand."""

import io
from types import SimpleNamespace

import pytest
import torch
from PIL import Image, ImageSequence
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from ddpm.cli.picture import picture_of
from ddpm.cli.round_trip import FRESH, Trip, _lines_of_pictures, _strip, _table, _trip
from ddpm.cli.sample import MOST, _encoded, _frames, _labels
from ddpm.data import CLASSES, denormalise, load, normalise
from ddpm.metrics.features import classify
from ddpm.metrics.fidelity import fidelity
from ddpm.noise import PerSampleNoise
from ddpm.oracles import Gaussian
from ddpm.round_trip import ends, inverted_round_trip
from ddpm.schedule import cosine


def states(moves, *chunks):
    """A state for each move of each chunk of so many images: an image's values say its number and the move's."""
    first, made = 0, []
    for size in chunks:
        images = torch.arange(first, first + size, dtype=torch.float32).reshape(size, 1, 1, 1).expand(size, 1, 2, 2)
        made += [images + 1000 * (move + 1) for move in range(moves)]
        first += size
    return made


@pytest.mark.parametrize(
    ("moves", "shown"),
    [
        (1, [1]),
        (3, [1, 2, 3]),
        (100, list(range(1, 101))),
        (101, list(range(1, 102, 2))),
        (250, list(range(1, 251, 3))),
    ],
)
def test_a_film_shows_at_most_a_hundred_moments_the_last_among_them(moves, shown):
    noise, *frames = _frames(states(moves, 3, 3), n=4, seed=7)  # the second chunk is filled up to three
    assert torch.equal(noise, denormalise(PerSampleNoise(7)(torch.empty(4, 1, 2, 2))))
    assert [int(frame[0, 0, 0, 0]) // 1000 for frame in frames] == shown
    assert all((frame[:, 0, 0, 0] % 1000).tolist() == [0, 1, 2, 3, 4, 5] for frame in frames)


def test_a_films_last_frame_stays_for_two_seconds_and_it_begins_again():
    for count, pause in ((4, 1330), (101, 80)):  # milliseconds, which a GIF counts in tens
        frames = [Image.new("L", (8, 8), 2 * i) for i in range(count)]
        film = Image.open(io.BytesIO(_encoded(frames, "GIF")))
        assert [frame.info["duration"] for frame in ImageSequence.Iterator(film)] == [pause] * (count - 1) + [2000]
    assert film.info["loop"] == 0
    single = Image.open(io.BytesIO(_encoded(frames[:1], "PNG")))
    assert (single.format, single.size) == ("PNG", (8, 8))


def test_a_grid_is_as_high_as_wide_and_holds_n_images_in_order():
    images = torch.arange(8, dtype=torch.uint8).mul(20).reshape(8, 1, 1, 1).expand(8, 1, 4, 4)
    picture = picture_of(images[:7], 3)
    assert picture.size == (3 * 6 + 2, 3 * 6 + 2)
    shown = [picture.getpixel((4 + 6 * (i % 3), 4 + 6 * (i // 3)))[0] for i in range(9)]
    assert shown == [0, 20, 40, 60, 80, 100, 120, 0, 0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("n", "columns", "padding"), [(1, 1, 2), (2, 5, 4), (7, 3, 2), (64, 8, 2)])
def test_a_picture_is_laid_out_as_torchvisions(channels, n, columns, padding):
    images = torch.randint(256, (n, channels, 5, 4), generator=torch.Generator().manual_seed(n)).to(torch.uint8)
    theirs = to_pil_image(make_grid(images, columns, padding))
    ours = picture_of(images, columns, padding)
    assert (ours.mode, ours.size, ours.tobytes()) == (theirs.mode, theirs.size, theirs.tobytes())


def test_a_strip_has_the_five_images_of_a_trip_in_order():
    values = {"originals": -1.0, "noised": 3.0, "one_shot": 0.0, "back": -0.5}
    trip = Trip(**{name: torch.full((2, 1, 3, 3), value) for name, value in values.items()})
    strip = Image.open(io.BytesIO(_strip(trip))).convert("L")
    assert strip.size == (5 * 16 + 4, 2 * 16 + 4)
    for row in (10, 26):
        greys = [strip.getpixel((10 + 16 * column, row)) for column in range(5)]
        assert greys == [0, 255, 128, 64, 191]  # the difference is back less the original, +0.5


SCHEDULE = cosine(100)
GRID = SCHEDULE.timesteps(5, "trailing", start=60)


def oracle():
    denoise = Gaussian(torch.full((4,), 0.1), 0.3, SCHEDULE)
    denoise.image_shape = (1, 2, 2)
    return denoise


def walked(sampler, invert=False, n=18, **options):
    images = torch.linspace(-1, 1, n * 4).reshape(n, 4)
    return images, _trip(oracle(), images, GRID, sampler, invert, 5, options)


def test_no_picture_is_noised_with_what_ddpm_sample_drew_one_from():
    """With that noise a drawing would come back from noise alone, and seem to have survived it."""
    assert FRESH >= MOST
    drawn_from = PerSampleNoise(5)(torch.empty(3, 4))
    images, trip = torch.zeros(3, 4), _trip(oracle(), torch.zeros(3, 4), GRID, "ddim", False, 5, {})
    assert not torch.allclose(trip.noised, SCHEDULE.add_noise(images, 60, drawn_from), atol=0.1)


def test_every_picture_has_noise_of_its_own_the_seventeenth_too():
    images, trip = walked("ddim")
    assert torch.equal(trip.originals, images)
    noise = PerSampleNoise(5, FRESH)(torch.empty(18, 4))
    assert torch.allclose(trip.noised, SCHEDULE.add_noise(images, 60, noise), atol=1e-6)
    assert torch.allclose(trip.one_shot, oracle()(trip.noised, 60).x0, atol=1e-6)


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("heun", 2)])
def test_an_inverted_trip_is_of_the_samplers_order(sampler, order):
    images, trip = walked(sampler, invert=True, n=3)
    expected = ends(inverted_round_trip(oracle(), images, GRID, order=order))
    for name, one, other in zip(Trip._fields[1:], trip[1:], expected, strict=True):
        assert torch.equal(one, other), name


def test_the_options_of_the_sampler_reach_it():
    deterministic, random = (walked("ddim", n=3, **options)[1] for options in ({}, {"eta": 1.0}))
    assert torch.equal(deterministic.noised, random.noised)
    assert not torch.allclose(deterministic.back, random.back, atol=1e-2)


@pytest.fixture(scope="module")
def garments():
    """A trip of three test images of which the second comes back as another garment."""
    test = load("fashion-mnist-embedded", "test", quiet=True)
    x = normalise(torch.stack([test.images[test.labels == label][0] for label in (1, 7, 9)]))
    back = x.clone()
    back[1] = x[0]
    return Trip(x, x, x, back)


def test_a_line_says_what_a_picture_kept_and_looked_like(garments):
    before, after = ([CLASSES[i] for i in classify(images)] for images in (garments.originals, garments.back))
    kept = fidelity(garments.back, garments.originals)
    assert before[1] != after[1] == before[0]
    assert list(_lines_of_pictures(["a", "b", "c"], ["1 x 1", "2 x 2", "3 x 3"], garments)) == [
        f"{name} ({word}): PSNR {kept.psnr[i]:.1f} dB, SSIM {kept.ssim[i]:.2f}; "
        f"looked like {before[i]}, looks like {after[i]}"
        for i, (name, word) in enumerate((("a", "1 x 1"), ("b", "2 x 2"), ("c", "3 x 3")))
    ]


def test_a_line_about_another_picture_names_no_garment():
    x = torch.linspace(-1, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)
    (first, _) = _lines_of_pictures(["a", "b"], ["", ""], Trip(x, x, x, x))
    assert first == "a (): PSNR inf dB, SSIM 1.00"


def test_a_table_has_a_row_for_each_measure(garments):
    head, *rows = _table(garments)
    assert head.split("  ")[0] == "mean of 3"
    assert head.split()[3:] == ["back", "one-shot", "mean", "random", "pair"]
    named = {row[:26].strip(): [float(value) for value in row[26:].split()] for row in rows}
    error = (garments.back - garments.originals).square().mean().item()
    assert named["squared error"][:2] == [round(error, 3), 0.0]
    assert named["own original the nearest"][:2] == [0.667, 1.0]
    assert named["same class"][:2] == [0.667, 1.0]


def test_classes_with_commas_between_them_are_refused_with_the_way_to_name_several():
    with pytest.raises(ValueError, match="^class is 'circle,square'; give --class once for each$"):
        _labels("mine", SimpleNamespace(classes=("circle", "square")), ["circle,square"])
