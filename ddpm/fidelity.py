"""How much of an image is left in what comes back: image against image, beside what two unrelated images share."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from ddpm.data import denormalise
from ddpm.features import classify


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each pair of images (n, c, h, w) in [-1, 1], (n,)."""
    pairs = zip(a, b, strict=True)
    return torch.stack([peak_signal_noise_ratio(x, y, data_range=2.0) for x, y in pairs])


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of each pair of images (n, c, h, w) in [-1, 1], (n,)."""
    similarity = structural_similarity_index_measure(a, b, data_range=2.0, reduction="none")
    assert isinstance(similarity, Tensor)  # a pair only where contrast or the full image is asked for
    return similarity


class Fidelity(NamedTuple):
    """What images kept of their originals, one value an image (n,)."""

    squared_error: Tensor  # mean over an image's values
    psnr: Tensor  # dB
    ssim: Tensor
    exact: Tensor  # share of the values that are the same grey level of 256
    rank: Tensor  # of the own original among all originals by squared distance; 1 is the nearest
    same_class: Tensor | None  # to the frozen classifier of garments, which takes (1, 32, 32) alone


def fidelity(images: Tensor, originals: Tensor) -> Fidelity:
    """Compare images (n, channels, height, width) in about [-1, 1] with their originals, of the same shape.

    Images are clipped to [-1, 1], as saved ones would be.
    """
    if images.shape != originals.shape or images.ndim != 4 or not len(images):
        raise ValueError(
            f"images have shape {tuple(images.shape)} and originals {tuple(originals.shape)}; "
            "they must be the same, (n, channels, height, width), n at least 1"
        )
    for name, values in (("images", images), ("originals", originals)):
        if not values.is_floating_point():
            raise TypeError(f"{name} are {values.dtype}; they must be floating point, in about [-1, 1]")
        if not values.isfinite().all():
            raise ValueError(f"{name} hold NaN or infinity; legal are finite values in about [-1, 1]")
    images, originals = images.clamp(-1, 1).cpu(), originals.to(images.dtype).cpu()
    exactly = "donot_use_mm_for_euclid_dist"
    distance = torch.cdist(images.flatten(1), originals.flatten(1), compute_mode=exactly)
    return Fidelity(
        (images - originals).square().flatten(1).mean(1),
        psnr(images, originals),
        ssim(images, originals),
        (denormalise(images) == denormalise(originals)).flatten(1).double().mean(1),
        1 + (distance < distance.diagonal()[:, None]).sum(1),
        classify(images) == classify(originals) if images.shape[1:] == (1, 32, 32) else None,
    )


def table(back: Tensor, one_shot: Tensor, originals: Tensor) -> dict[str, dict[str, float]]:
    """Means of what came back, and what they mean nothing without, as columns of a table.

    "back" and "one-shot mean" are compared with their originals; "random pair" is what came back against another
    original at random, the level that it has by chance, which one image alone does not have.
    """
    columns = {"back": fidelity(back, originals), "one-shot mean": fidelity(one_shot, originals)}
    if (n := len(originals)) > 1:
        order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
        other = torch.empty_like(order).scatter_(0, order, order.roll(1))  # the one before: never itself
        columns["random pair"] = fidelity(back, originals[other.to(originals.device)])
    return {name: _means(column) for name, column in columns.items()}


def _means(values: Fidelity) -> dict[str, float]:
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
