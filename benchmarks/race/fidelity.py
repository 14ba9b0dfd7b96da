"""What bfloat16 changes in what is computed, here and in diffusers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import ddpm
from ddpm.data import load, normalise
from ddpm.denoiser import NetworkDenoiser
from ddpm.interop import unet_to_diffusers
from ddpm.metrics.fidelity import psnr
from ddpm.targets import prediction_of
from race.networks import DEVICE, Settings, answer_of, tuned
from race.search import WIDTHS, best_of


def fidelity(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What bfloat16 changes with the shipped weights: in images from the same noise, and in eps at a few times.

    In eps also of diffusers: at its best settings in a forward pass, and with autocast or bfloat16 weights in their
    place.
    """
    fast, exact = ddpm.load("fashion-mnist"), ddpm.load("fashion-mnist", "float32")
    images = ddpm.sample(fast, 64, "ddim", chunk=64, progress=False).cpu()
    with without_tf32():
        exact_images = ddpm.sample(exact, 64, "ddim", chunk=64, progress=False).cpu()
    decibels = psnr(images, exact_images)
    best = best_of(found, "diffusers", "forward", WIDTHS[0])
    autocast = replace(best, bfloat16=True, bfloat16_weights=False, compiled=False)
    weights = replace(best, bfloat16=False, bfloat16_weights=True, compiled=False, float32_norm=False)
    return {
        "PSNR in dB": {"min": round(decibels.min().item(), 1), "median": round(decibels.median().item(), 1)},
        "relative error of eps": errors_of_eps(exact, lambda x, t: fast(x, t).eps),
        "relative error of eps by diffusers": {
            settings.how: errors_of_eps(exact, eps_by_diffusers(exact, settings))
            for settings in dict.fromkeys((replace(best, compiled=False), autocast, weights))
        },
    }


@contextmanager
def without_tf32() -> Iterator[None]:
    """A context in which convolutions in float32 are exact on a GPU, too, where cuDNN rounds their factors to TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def errors_of_eps(exact: NetworkDenoiser, eps_of: Callable[[Tensor, int], Tensor]) -> dict[str, float]:
    """By time, the norm of eps's error over that of eps by `exact`, on 64 test images with noise."""
    x0 = normalise(load("fashion-mnist-embedded", "test", quiet=True).images[:64]).to(DEVICE)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    errors = {}
    for t in (1, 10, 50, 200, 500, 1000):
        x = exact.schedule.add_noise(x0, t, noise)
        with torch.no_grad():
            a = eps_of(x, t)
            with without_tf32():
                b = exact(x, t).eps
        errors[str(t)] = round(((a - b).norm() / b.norm()).item(), 5)
    return errors


def eps_by_diffusers(exact: NetworkDenoiser, settings: Settings) -> Callable[[Tensor, int], Tensor]:
    """eps in x at a time, as diffusers sees it with these settings and the weights of `exact`."""
    network, schedule = tuned(unet_to_diffusers(exact.network, 32), settings), exact.schedule

    def eps_of(x: Tensor, t: int) -> Tensor:
        times = torch.full((len(x),), t - 1.0, device=DEVICE)
        output = answer_of(network, settings, x, times).float()
        return prediction_of(exact.target, output, x, schedule.signal(t), schedule.noise(t)).eps

    return eps_of
