"""A diffusion model as the training loop sees it: its configuration, and what one step is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm.denoiser import TARGETS, NetworkDenoiser, Target, target_of
from ddpm.noise import Draws
from ddpm.schedule import SCHEDULES, NoiseSchedule
from ddpm.unet import UNet, UNetConfig


@dataclass(frozen=True)
class DiffusionConfig:
    """A UNet, the schedule it denoises, what it is trained to say, and which times count how much.

    Attributes:
        unet: the network's shape.
        schedule: name of the noise schedule.
        T: its length.
        target: what the network is trained to say.
        weighting: of the squared error: that of L_simple (Ho et al. 2020, eq. 14) or of the variational bound (eq. 12).
        times: how training draws integers 1..T: "uniform", or "lognormal", so that log (noise / signal) is normal
            (Karras et al. 2022, table 1) with mean `log_sigma_mean` and standard deviation `log_sigma_std`.
        uniform_share: share of the times that "lognormal" draws uniformly all the same. Without it the noisiest, where
            sampling begins, would hardly ever be drawn.
    """

    kind: ClassVar[str] = "diffusion"

    unet: UNetConfig = field(default_factory=UNetConfig)
    schedule: str = "linear"
    T: int = 1000
    target: Target = "eps"
    weighting: Literal["simple", "bound"] = "simple"
    times: Literal["uniform", "lognormal"] = "uniform"
    log_sigma_mean: float = -0.9
    log_sigma_std: float = 1.2
    uniform_share: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.unet, dict):
            object.__setattr__(self, "unet", UNetConfig(**self.unet))  # JSON gives a dict
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule is {self.schedule!r}; legal are {', '.join(SCHEDULES)}")
        if self.target not in TARGETS:
            raise ValueError(f"target is {self.target!r}; legal are {', '.join(TARGETS)}")
        if self.weighting not in ("simple", "bound"):
            raise ValueError(f"weighting is {self.weighting!r}; legal are simple, bound")
        if self.times not in ("uniform", "lognormal"):
            raise ValueError(f"times is {self.times!r}; legal are uniform, lognormal")
        if self.weighting == "bound" and self.times != "uniform":
            raise ValueError(f"times is {self.times!r}; the bound is a mean over uniform times")
        if not self.log_sigma_std > 0:
            raise ValueError(f"log_sigma_std is {self.log_sigma_std}; it must be above 0")
        if not 0 <= self.uniform_share <= 1:
            raise ValueError(f"uniform_share is {self.uniform_share}; it must be in [0, 1]")
        self.noise_schedule()

    def noise_schedule(self) -> NoiseSchedule:
        """The schedule of this name and length."""
        return SCHEDULES[self.schedule](self.T)

    def network(self, image_size: tuple[int, int] | None = None) -> UNet:
        """A UNet with random weights, in the memory layout that convolutions are fastest in."""
        return UNet(self.unet, image_size).to(memory_format=torch.channels_last)

    def denoiser(self, precision: Literal["auto", "float32"], image_shape: tuple[int, int, int]) -> NetworkDenoiser:
        """An untrained denoiser of this configuration."""
        return NetworkDenoiser(
            self.network(image_shape[1:]), self.noise_schedule(), self.target, precision, image_shape
        )

    def task(self) -> "Diffusion":
        """What the training loop steps."""
        return Diffusion(self)


class Diffusion:
    """Denoising diffusion, Ho et al. (2020), algorithm 1: one time, one noise and one network call an image."""

    def __init__(self, config: DiffusionConfig) -> None:
        self.schedule = config.noise_schedule()
        self.target = config.target
        self.weights = bound_weights(self.schedule, self.target) if config.weighting == "bound" else None
        self.below = time_probabilities(config).cumsum(0)[:-1]  # the probability of times up to 1, 2, ...
        self.config = config.unet
        self.parts: dict[str, nn.Module] = {"unet": config.network()}

    def check_images(self, shape: Sequence[int]) -> None:
        """Raise `ValueError` unless the network takes images of this shape (channels, height, width)."""
        self.config.check_image(*shape[1:])
        if shape[0] != self.config.channels:
            raise ValueError(f"channels is {self.config.channels}; the images have {shape[0]}")

    def losses(self, images: Tensor, draws: Draws) -> Iterator[tuple[str, Tensor]]:
        """The mean squared error of the target, weighted by time, of images (batch, channels, height, width)."""
        t = 1 + torch.searchsorted(self.below, draws.stratified(), right=True)  # integers 1..T
        eps = draws.normal(*images.shape[1:]).to(images.device)
        signal, noise = (c.to(images.device) for c in (self.schedule.signal(t), self.schedule.noise(t)))
        output = self.parts["unet"](signal * images + noise * eps, (t - 1).to(images.device))
        wanted = target_of(self.target, images, eps, signal, noise)
        if self.weights is None:
            yield "unet", F.mse_loss(output.float(), wanted)
        else:
            errors = (output.float() - wanted).square().flatten(1).mean(1)
            yield "unet", (self.weights[t].to(errors) * errors).mean()


def bound_weights(schedule: NoiseSchedule, target: Target) -> Tensor:
    """(T + 1,) weights of the target's squared error at times 0 to T, float64; that at 0 is unused.

    With them the mean over uniform times 1..T is the variational bound in nats a dimension, up to what no network
    changes: T (SNR(t - 1) - SNR(t)) / 2 times the squared error of x0, and T / (2 noise(1)^2) at t = 1, where the
    decoder is N(x0_hat, noise(1)^2).
    """
    bar = schedule.alpha_bar
    snr = bar / (1 - bar)
    of_x0 = torch.cat([bar[:1] * 0, 1 / (1 - bar[1:2]), snr[1:-1] - snr[2:]]) * schedule.T / 2
    return of_x0 * {"x0": torch.ones_like(bar), "eps": (1 - bar) / bar, "v": 1 - bar}[target]


def time_probabilities(config: DiffusionConfig) -> Tensor:
    """(T,) probabilities with which training draws the times 1 to T, float64."""
    schedule = config.noise_schedule()
    uniform = torch.full((schedule.T,), 1 / schedule.T, dtype=torch.float64)
    if config.times == "uniform":
        return uniform
    log_sigma = torch.tensor([schedule.sigma(t) for t in range(1, schedule.T + 1)], dtype=torch.float64).log()
    middles = (log_sigma[1:] + log_sigma[:-1]) / 2  # a time has the mass from halfway to its neighbours
    below = torch.special.ndtr((middles - config.log_sigma_mean) / config.log_sigma_std)
    return torch.lerp(torch.cat([below.new_zeros(1), below, below.new_ones(1)]).diff(), uniform, config.uniform_share)
