"""How much is left of an image after a round trip, measured image by image."""

from typing import NamedTuple

import torch
from torch import Tensor

from ddpm.arguments import check_finite, instance
from ddpm.data import denormalise
from ddpm.extras import needed
from ddpm.metrics.features import classify

with needed("torchmetrics"):
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

__all__ = ["Fidelity", "check_pairs", "fidelity", "psnr", "ssim", "table"]


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (n,), in dB, of each pair of images (n, c, h, w) in [-1, 1].

    Raises:
        ValueError: the shapes differ or are illegal, or a value is not finite.
        TypeError: a or b is not floating point.
    """
    check_pairs("a", a, "b", b)
    with a.device:  # whatever torch's default is
        return peak_signal_noise_ratio(a, b, data_range=2.0, reduction="none", dim=(1, 2, 3)).to(a.dtype)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (n,), by Wang et al. (2004), of each pair of images (n, c, h, w) in [-1, 1].

    Raises:
        ValueError: the shapes differ or are illegal, the images are below 6 x 6, or a value is not finite.
        TypeError: a or b is not floating point.
    """
    check_pairs("a", a, "b", b)
    if min(a.shape[2:]) < 6:
        raise ValueError(f"images are {a.shape[2]} x {a.shape[3]}; structural similarity needs 6 x 6 or larger")
    similarity = structural_similarity_index_measure(a, b, data_range=2.0, reduction="none")
    assert isinstance(similarity, Tensor)  # a tuple only if the contrast or the full image is asked for, too
    return similarity


def check_pairs(name: str, images: Tensor, other_name: str, originals: Tensor) -> None:
    """Raise `ValueError` or `TypeError` unless these are pairs of images, floating point and finite."""
    for each, values in ((name, images), (other_name, originals)):
        instance(each, values, Tensor)
    if images.shape != originals.shape or images.ndim != 4 or not len(images):
        raise ValueError(
            f"{name} have shape {tuple(images.shape)} and {other_name} {tuple(originals.shape)}; "
            "they must have the same, (n, channels, height, width), n at least 1"
        )
    for each, values in ((name, images), (other_name, originals)):
        if not values.is_floating_point():
            raise TypeError(f"{each} are {values.dtype}; they must be floating point, in about [-1, 1]")
        check_finite(each, values)


class Fidelity(NamedTuple):
    """What images kept of their originals; each tensor holds one value per image, (n,)."""

    #: Mean over an image's values.
    squared_error: Tensor
    #: Peak signal-to-noise ratio in dB.
    psnr: Tensor
    #: Structural similarity.
    ssim: Tensor
    #: Share of the values that have the same grey level, of 256.
    exact: Tensor
    #: Rank of an image's own original among all originals, by distance; 1 is the nearest.
    rank: Tensor
    #: Whether the frozen classifier of garments sees the same class; None unless images are (1, 32, 32).
    same_class: Tensor | None


def fidelity(images: Tensor, originals: Tensor) -> Fidelity:
    """Compare images (n, channels, height, width) in about [-1, 1] with their originals, of the same shape.

    Images are clipped to [-1, 1], as saved images would be.

    Raises:
        ValueError: the shapes differ or are illegal, the images are below 6 x 6, or a value is not finite.
        TypeError: images or originals are not floating point.
    """
    check_pairs("images", images, "originals", originals)
    dtype = torch.promote_types(images.dtype, torch.float32)
    images, originals = images.cpu().to(dtype).clamp(-1, 1), originals.cpu().to(dtype)
    exactly = "donot_use_mm_for_euclid_dist"  # the default is a matrix product, which rounds more
    distances = torch.cdist(images.flatten(1), originals.flatten(1), compute_mode=exactly)
    own = distances.diagonal()[:, None]
    return Fidelity(
        squared_error=(images - originals).square().flatten(1).mean(1),
        psnr=psnr(images, originals),
        ssim=ssim(images, originals),
        exact=(denormalise(images) == denormalise(originals)).flatten(1).double().mean(1),
        rank=1 + (distances < own).sum(1),
        same_class=classify(images) == classify(originals) if images.shape[1:] == (1, 32, 32) else None,
    )


def table(back: Tensor, one_shot: Tensor, originals: Tensor) -> dict[str, dict[str, float]]:
    """Mean fidelity after a round trip, with the context needed to read it, as the columns of a table.

    Args:
        back: the images that came back, (n, channels, height, width).
        one_shot: the denoiser's one-shot means, in the same shape.
        originals: the images that both are compared with.

    Returns:
        The means, by column and measure. The columns are "back", "one-shot mean" and, for n above 1, "random pair": the
        images that came back, each compared with another image's original, for what two unrelated images share.
    """
    check_pairs("back", back, "originals", originals)
    check_pairs("one_shot", one_shot, "originals", originals)
    columns = {"back": fidelity(back, originals), "one-shot mean": fidelity(one_shot, originals)}
    if len(originals) > 1:
        others = originals[_others(len(originals)).to(originals.device)]
        columns["random pair"] = fidelity(back, others)
    return {name: _means(column) for name, column in columns.items()}


def _others(n: int) -> Tensor:
    """For each of n images the number of another one, (n,): drawn at random, and the same in every call.

    The images stand in a circle in random order, and each is paired with the one before it.
    """
    circle = torch.randperm(n, generator=torch.Generator("cpu").manual_seed(0), device="cpu").tolist()
    before = {circle[i]: circle[i - 1] for i in range(n)}  # circle[-1] stands before circle[0]
    return torch.tensor([before[image] for image in range(n)], device="cpu")


def _means(values: Fidelity) -> dict[str, float]:
    """The mean of each measure over all images."""
    means = {
        "squared error": values.squared_error,
        "PSNR, dB": values.psnr,
        "SSIM": values.ssim,
        "same grey levels": values.exact,
        "own original the nearest": values.rank == 1,
    }
    if values.same_class is not None:
        means["same class"] = values.same_class
    return {name: value.double().mean().item() for name, value in means.items()}
