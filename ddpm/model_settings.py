"""The settings of every kind of model, checked where they are written down.

These classes hold the settings and import no torch, so that the command line can list them at once. The classes that
`ddpm.diffusion`, `ddpm.autoencoder` and `ddpm.gan` derive from them build the networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ddpm.settings import (
    ScheduleName,
    Target,
    check,
    check_choices,
    flag,
    integers,
    positive_int,
    real,
)
from ddpm.unet.config import UNetConfig

__all__ = ["AutoencoderSettings", "DiffusionSettings", "GANSettings", "Game", "levels_without_skips"]

Game = Literal["non-saturating", "minimax"]


@dataclass(frozen=True)
class DiffusionSettings:
    """A UNet, the noise schedule it denoises, its prediction target, and how its loss weighs the times.

    Attributes:
        unet: the network's shape.
        schedule: name of the noise schedule: linear, cosine, sigmoid, linear_zero_snr (no signal left at T) or straight
            (the path of flow matching).
        T: number of noise levels.
        target: what the network predicts: eps (the noise), x0 (the clean image), v (Salimans & Ho 2022) or, on the
            straight path, flow (eps - x0, the velocity; Liu et al. 2023). Only eps needs some signal at T.
        weighting: weight of the squared error: simple (L_simple, Ho et al. 2020, eq. 14), bound (eq. 12, the
            likelihood's; needs uniform times) or min_snr (min(SNR, snr_gamma) times the error of x0, Hang et al. 2023;
            needs some signal at T).
        snr_gamma: where min_snr cuts the weight of x0's error off.
        times: how training draws integer times 1..T: uniform, or lognormal, which makes log (noise / signal) normal
            (Karras et al. 2022, table 1); on the straight path that is a logit-normal t / T.
        log_sigma_mean: mean of log (noise / signal) under lognormal times.
        log_sigma_std: standard deviation of log (noise / signal) under lognormal times.
        uniform_share: share of lognormal times that is drawn uniformly all the same. Without it training would hardly
            ever see the noisiest times, where sampling begins.
        label_dropout: probability with which training does not tell an image's class, where the network has classes:
            so it also learns to do without (Ho & Salimans 2022, algorithm 1).
        distilled_for: how many network calls it was distilled for (see ddpm.distillation); None if it was not.
        distilled_from: how many of its teacher's calls those replace: distilled_for times 2, 4, 6, ...
    """

    kind: ClassVar[str] = "diffusion"

    unet: UNetConfig = field(default_factory=UNetConfig)
    schedule: ScheduleName = "linear"
    T: int = 1000
    target: Target = "eps"
    weighting: Literal["simple", "bound", "min_snr"] = "simple"
    snr_gamma: float = 5.0
    times: Literal["uniform", "lognormal"] = "uniform"
    log_sigma_mean: float = -0.9
    log_sigma_std: float = 1.2
    uniform_share: float = 0.0
    label_dropout: float = 0.1
    distilled_for: int | None = None
    distilled_from: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.unet, dict):  # as JSON gives it
            object.__setattr__(self, "unet", UNetConfig(**self.unet))
        if not isinstance(self.unet, UNetConfig):
            raise ValueError(f"unet is {self.unet!r}; it must be a UNetConfig")
        check_choices(self)
        check(self, positive_int, "T")
        self._check_distillation()
        check(self, real, "log_sigma_mean")
        check(self, real, "log_sigma_std", "snr_gamma", above=0)
        check(self, real, "uniform_share", "label_dropout", at_least=0, at_most=1)
        if self.weighting == "bound" and self.times != "uniform":
            raise ValueError(f"times is {self.times!r}; the bound is a mean over uniform times")

    def _check_distillation(self) -> None:
        """Raise `ValueError` where the numbers of calls of a student and its teacher are not legal."""
        if self.distilled_for is not None:
            check(self, positive_int, "distilled_for")
            if self.distilled_for > self.T:
                raise ValueError(f"distilled_for is {self.distilled_for}; it must be at most T = {self.T}")
        if self.distilled_from is None:
            return
        check(self, positive_int, "distilled_from")
        if self.distilled_for is None:
            raise ValueError(f"distilled_from is {self.distilled_from}; it needs a distilled_for")
        if self.distilled_from % (2 * self.distilled_for) or self.distilled_from > self.T:
            raise ValueError(
                f"distilled_from is {self.distilled_from}; with distilled_for {self.distilled_for} it must be that "
                f"times 2, 4, 6, ..., up to T = {self.T}"
            )

    def check_images(self, shape: Sequence[int]) -> None:
        """Raise `ValueError` unless the network takes images of this shape (channels, height, width)."""
        if len(shape) != 3:
            raise ValueError(f"image_shape is {shape!r}; it must be (channels, height, width)")
        channels, *size = integers("image_shape", shape, at_least=1)
        self.unet.check_image(*size)
        if channels != self.unet.channels:
            raise ValueError(f"channels is {self.unet.channels}; the images have {channels}")


@dataclass(frozen=True)
class AutoencoderSettings:
    """An autoencoder and its loss.

    Attributes:
        image_shape: (channels, height, width) of the images.
        base_channels: width of the first level, a multiple of 4.
        channel_multipliers: width of each level in multiples of `base_channels`; every level halves the image.
        latent_dim: dimension of the latent code.
        variational: whether the code is drawn from q(z | x), which a divergence holds near N(0, I).
        loss: reconstruction loss: mse (squared error), bce (binary cross-entropy of grey levels as probabilities) or
            logistic (minus the log likelihood of 256 grey levels; Salimans et al. 2017, eq. 2).
        beta: weight of the divergence of the variational kind (Higgins et al. 2017, eq. 4); at 1 its loss is the bound.
    """

    kind: ClassVar[str] = "autoencoder"

    image_shape: tuple[int, int, int] = (1, 32, 32)
    base_channels: int = 32
    channel_multipliers: tuple[int, ...] = (1, 2, 4)
    latent_dim: int = 32
    variational: bool = False
    loss: Literal["mse", "bce", "logistic"] = "mse"
    beta: float = 1.0

    def __post_init__(self) -> None:
        check(self, _image_shape, "image_shape")
        check(self, positive_int, "base_channels", "latent_dim")
        check(self, integers, "channel_multipliers", at_least=1)
        check(self, flag, "variational")
        check(self, real, "beta", at_least=0)
        if self.beta != 1 and not self.variational:
            raise ValueError(f"beta is {self.beta}; only a variational autoencoder has a divergence to weigh")
        check_choices(self)
        levels_without_skips(self.image_shape, self.base_channels, self.channel_multipliers)

    def check_images(self, shape: Sequence[int]) -> None:
        """Raise `ValueError` unless the network takes images of this shape (channels, height, width)."""
        _check_same(self.image_shape, shape)


@dataclass(frozen=True)
class GANSettings:
    """A generator, a discriminator and the game they play.

    Attributes:
        image_shape: (channels, height, width) of the images; points of the plane are (2, 1, 1).
        architecture: convolutional (the UNet's blocks) or mlp (linear layers alone, as in Goodfellow et al. 2014).
        base_channels: width of the first level; with convolutions a multiple of 4.
        channel_multipliers: width of each level, or of each hidden layer of an mlp, in multiples of `base_channels`.
        latent_dim: dimension of the latent code, which is the generator's noise.
        game: what the generator minimises: minimax (Goodfellow et al. 2014, eq. 1) or non-saturating (its section 3,
            last paragraph).
        r1: weight of the gradient penalty at real images (Mescheder et al. 2018, eq. 9).
    """

    kind: ClassVar[str] = "gan"

    image_shape: tuple[int, int, int] = (1, 32, 32)
    architecture: Literal["convolutional", "mlp"] = "convolutional"
    base_channels: int = 32
    channel_multipliers: tuple[int, ...] = (1, 2, 4)
    latent_dim: int = 32
    game: Game = "non-saturating"
    r1: float = 1.0

    def __post_init__(self) -> None:
        check(self, _image_shape, "image_shape")
        check(self, positive_int, "base_channels", "latent_dim")
        check(self, integers, "channel_multipliers", at_least=1)
        check_choices(self)
        check(self, real, "r1", at_least=0)
        if not self.channel_multipliers:
            raise ValueError("channel_multipliers is (); it must hold at least one level")
        if self.architecture == "convolutional":
            levels_without_skips(self.image_shape, self.base_channels, self.channel_multipliers)

    def check_images(self, shape: Sequence[int]) -> None:
        """Raise `ValueError` unless the players take images of this shape (channels, height, width)."""
        _check_same(self.image_shape, shape)


def _check_same(image_shape: Sequence[int], shape: Sequence[int]) -> None:
    if tuple(shape) != image_shape:
        raise ValueError(f"image_shape is {image_shape}; the images are {tuple(shape)}")


def _image_shape(name: str, value: Any) -> tuple[int, ...]:
    """`value` as a tuple; it must be three sizes from 1 up."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ValueError(f"{name} is {value!r}; it must be (channels, height, width)")
    try:
        return integers(name, value, at_least=1)
    except ValueError as error:
        raise ValueError(f"{name} is {value!r}; it must be (channels, height, width), integers from 1 up") from error


def levels_without_skips(
    image_shape: Sequence[int], base_channels: int, channel_multipliers: Sequence[int]
) -> UNetConfig:
    """The UNet's levels without time, skips and attention; every level halves the image.

    Raises:
        ValueError: the image cannot be halved that often, or a width is not legal.
    """
    config = UNetConfig(
        image_shape[0], base_channels, tuple(channel_multipliers), blocks_per_level=1, attention_levels=(),
        middle_attention=False, time_conditioning="none", resample_last=True, skips=False,
    )  # fmt: skip
    config.check_image(*image_shape[1:])
    return config
