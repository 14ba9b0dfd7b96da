import math

import numpy as np
import pytest
import torch

from ddpm.data import load, normalise
from ddpm.metrics.fidelity import _others, fidelity, psnr, ssim, table

GARMENTS = normalise(load("fashion-mnist-embedded", "test", quiet=True).images[::40])


def noisy(images, std, seed=0):
    return images + std * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_and_ssim_by_hand():
    a = torch.zeros(2, 1, 32, 32)
    b = torch.stack([torch.full((1, 32, 32), 0.2), torch.full((1, 32, 32), 0.02)])
    assert torch.allclose(psnr(a, b), torch.tensor([20.0, 40.0]), atol=1e-4)  # 10 log10(2^2 / 0.2^2)
    c1 = (0.01 * 2) ** 2  # Wang et al., eq. 13, of values that span 2; flat images have no contrast or structure
    luminance = torch.tensor([c1 / (0.2**2 + c1), c1 / (0.02**2 + c1)])
    assert torch.allclose(ssim(a, b), luminance, atol=1e-5)


def test_an_image_is_its_own_perfect_copy():
    values = fidelity(GARMENTS, GARMENTS)
    assert (values.squared_error == 0).all()
    assert (values.exact == 1).all()
    assert (values.rank == 1).all()
    assert values.same_class.all()


def test_every_value_agrees_with_numpy():
    images = noisy(GARMENTS, 0.6)
    values = fidelity(images, GARMENTS)
    a, b = images.clamp(-1, 1).double().numpy().reshape(50, -1), GARMENTS.double().numpy().reshape(50, -1)
    pairs = ((a[:, None] - b) ** 2).mean(2)
    assert np.allclose(values.squared_error, np.diag(pairs), rtol=1e-5)
    assert np.allclose(values.psnr, 10 * np.log10(4 / np.diag(pairs)), rtol=1e-5)
    assert (values.rank.numpy() == 1 + (pairs.argsort(1).argsort(1)).diagonal()).all()
    grey = [np.rint((x.astype(np.float32) + 1) * 127.5) for x in (a, b)]
    assert np.allclose(values.exact, (grey[0] == grey[1]).mean(1))


def test_one_grey_level_counts_as_another():
    shifted = (GARMENTS + 1 / 127.5).clamp(max=1)
    assert math.isclose(fidelity(shifted, GARMENTS).exact.mean().item(), (GARMENTS == 1).float().mean(), rel_tol=1e-6)


def test_the_floor_pairs_every_image_with_another():
    columns = table(GARMENTS, noisy(GARMENTS, 0.1), GARMENTS)
    assert list(columns) == ["back", "one-shot mean", "random pair"]
    assert columns["back"]["own original the nearest"] == 1
    assert columns["random pair"]["own original the nearest"] == 0
    expected = 2 * GARMENTS.var(0).mean().item()  # of two unrelated images, n / (n - 1) included
    assert math.isclose(columns["random pair"]["squared error"], expected, rel_tol=0.15)
    assert list(table(GARMENTS[:1], GARMENTS[:1], GARMENTS[:1])) == ["back", "one-shot mean"]


@pytest.mark.parametrize("n", [2, 3, 50])
def test_random_pairs_are_a_circle_without_an_image_and_itself(n):
    others = _others(n).tolist()
    assert sorted(others) == list(range(n))
    visited = [0]
    while (following := others[visited[-1]]) != 0:
        visited.append(following)
    assert len(visited) == n
    assert torch.equal(_others(n), _others(n))


def test_random_pairs_stay_those_of_the_published_tables():
    assert _others(8).tolist() == [4, 5, 3, 7, 6, 2, 1, 0]


def test_the_class_is_asked_of_garments_alone():
    colours = torch.rand(2, 3, 32, 32)
    assert fidelity(colours, colours).same_class is None
    assert "same class" not in table(colours, colours, colours)["back"]


def test_images_that_are_not_finite_or_not_real_are_refused():
    broken = GARMENTS.clone()
    broken[3, 0, 5, 5] = float("nan")
    for pair, name in (((broken, GARMENTS), "images"), ((GARMENTS, broken), "originals")):
        with pytest.raises(ValueError, match=f"{name} hold NaN or infinity"):
            fidelity(*pair)
    with pytest.raises(TypeError, match="images are torch.uint8; they must be floating point"):
        fidelity(GARMENTS.to(torch.uint8), GARMENTS)


@pytest.mark.parametrize("shape", [(4, 1, 32, 32), (0, 1, 32, 32), (3, 32, 32)])
def test_images_without_originals_are_refused(shape):
    originals = torch.zeros(3, 1, 32, 32) if shape[0] == 4 else torch.zeros(shape)
    with pytest.raises(ValueError, match="originals"):
        fidelity(torch.zeros(shape), originals)


def test_the_rank_is_among_the_originals_of_all_by_hand():
    """The first image is nearer to both other originals than to its own."""

    def flat(*levels):
        return torch.tensor(levels)[:, None, None, None].expand(-1, 1, 16, 16)

    assert fidelity(flat(0.1, 0.05, 0.5), flat(-0.5, 0.0, 0.6)).rank.tolist() == [3, 1, 1]


def test_a_random_pair_is_what_came_back_and_anothers_original():
    pairs = table(torch.zeros_like(GARMENTS), GARMENTS, GARMENTS)["random pair"]
    assert pairs["squared error"] == pytest.approx(GARMENTS.square().mean().item(), rel=1e-6)


def test_each_column_is_of_its_own_images():
    columns = table(GARMENTS, torch.zeros_like(GARMENTS), GARMENTS)
    assert columns["back"]["squared error"] == 0
    assert columns["one-shot mean"]["squared error"] == pytest.approx(GARMENTS.square().mean().item(), rel=1e-6)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("measure", [psnr, ssim, fidelity, lambda a, b: table(a, b, b), lambda a, b: table(b, a, b)])
def test_one_value_that_is_not_finite_has_no_likeness(measure, wrong):
    broken = GARMENTS.clone()
    broken[7, 0, 31, 31] = wrong
    with pytest.raises(ValueError, match="^(a|images|back|one_shot) hold NaN or infinity; legal are finite values$"):
        measure(broken, GARMENTS)
    with pytest.raises(ValueError, match="^(b|originals|back) hold NaN or infinity; legal are finite values$"):
        measure(GARMENTS, broken)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_what_is_no_pair_of_images_is_named(measure):
    for a, b in ((GARMENTS[0], GARMENTS[0]), (GARMENTS[:0], GARMENTS[:0]), (GARMENTS, GARMENTS[:1])):
        with pytest.raises(
            ValueError, match=r"a have shape .* and b .*; they must have the same, \(n, channels, height"
        ):
            measure(a, b)
    with pytest.raises(TypeError, match="a are torch.int64; they must be floating point"):
        measure(GARMENTS.long(), GARMENTS.long())
    with pytest.raises(TypeError, match="b is NoneType; it must be a torch.Tensor"):
        measure(GARMENTS, None)


def test_structures_of_tiny_images_have_no_likeness():
    tiny = torch.zeros(2, 1, 5, 8)
    with pytest.raises(ValueError, match="images are 5 x 8; structural similarity needs 6 x 6"):
        ssim(tiny, tiny)
    assert torch.allclose(ssim(GARMENTS[:2, :, :6, :6], GARMENTS[:2, :, :6, :6]), torch.ones(2))


def test_images_of_sixteen_bits_are_compared_in_thirty_two():
    close, exact = fidelity(GARMENTS[:5].half(), GARMENTS[:5]), fidelity(GARMENTS[:5].half().float(), GARMENTS[:5])
    for ours, expected in zip(close, exact, strict=True):
        assert torch.equal(ours, expected)


def test_a_rank_is_that_of_an_images_own_original():
    """The second comes back nearer to the first's original than to its own; the first's own stays its nearest."""
    originals = torch.zeros(3, 1, 8, 8)
    originals[1], originals[2] = 0.5, -0.9
    images = originals.clone()
    images[1] = 0.1
    assert fidelity(images, originals).rank.tolist() == [1, 2, 1]


@pytest.mark.parametrize("types", [("float32", "float16"), ("float64", "float32"), ("float32", "float64")])
def test_images_and_originals_may_have_two_types(types):
    images, originals = (GARMENTS[:5].to(getattr(torch, kind)) for kind in types)
    found = fidelity(images, originals)
    assert found.squared_error.max() < 1e-6
    assert (found.rank == 1).all()
