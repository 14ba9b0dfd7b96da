"""A diffusion model as the training loop sees it: its configuration, and what one step is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm.denoiser import TARGETS, NetworkDenoiser, Target, target_of
from ddpm.noise import Draws
from ddpm.schedule import SCHEDULES, NoiseSchedule
from ddpm.unet import UNet, UNetConfig


@dataclass(frozen=True)
class DiffusionConfig:
    """A UNet, the schedule it denoises and what it is trained to say."""

    unet: UNetConfig = field(default_factory=UNetConfig)
    schedule: str = "linear"
    T: int = 1000
    target: Target = "eps"

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule is {self.schedule!r}; legal are {', '.join(SCHEDULES)}")
        if self.target not in TARGETS:
            raise ValueError(f"target is {self.target!r}; legal are {', '.join(TARGETS)}")
        self.noise_schedule()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DiffusionConfig":
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**values, "unet": UNetConfig(**values["unet"])})

    def noise_schedule(self) -> NoiseSchedule:
        """The schedule of this name and length."""
        return SCHEDULES[self.schedule](self.T)

    def network(self) -> UNet:
        """A UNet with random weights, in the memory layout that convolutions are fastest in."""
        return UNet(self.unet).to(memory_format=torch.channels_last)

    def denoiser(self, precision: Literal["auto", "float32"], image_shape: tuple[int, int, int]) -> NetworkDenoiser:
        """An untrained denoiser of this configuration."""
        return NetworkDenoiser(self.network(), self.noise_schedule(), self.target, precision, image_shape)

    def task(self) -> "Diffusion":
        """What the training loop steps."""
        return Diffusion(self)


class Diffusion:
    """Denoising diffusion, Ho et al. (2020), algorithm 1: one time, one noise and one network call an image."""

    def __init__(self, config: DiffusionConfig) -> None:
        self.schedule = config.noise_schedule()
        self.target = config.target
        self.config = config.unet
        self.parts: dict[str, nn.Module] = {"unet": config.network()}

    def check_images(self, shape: Sequence[int]) -> None:
        """Raise `ValueError` unless the network takes images of this shape (channels, height, width)."""
        self.config.check_image(*shape[1:])
        if shape[0] != self.config.channels:
            raise ValueError(f"channels is {self.config.channels}; the images have {shape[0]}")

    def losses(self, images: Tensor, draws: Draws) -> Iterator[tuple[str, Tensor]]:
        """The mean squared error of the target, L_simple (eq. 14), of images (batch, channels, height, width)."""
        t = 1 + (draws.stratified() * self.schedule.T).long()  # integers 1..T
        eps = draws.normal(*images.shape[1:]).to(images.device)
        signal, noise = (c.to(images.device) for c in (self.schedule.signal(t), self.schedule.noise(t)))
        output = self.parts["unet"](signal * images + noise * eps, (t - 1).to(images.device))
        yield "unet", F.mse_loss(output.float(), target_of(self.target, images, eps, signal, noise))
