"""Generative adversarial networks (Goodfellow et al. 2014): a generator, a discriminator, and what each minimises."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm.autoencoder import Decoder, Encoder, check_sizes, shape_of
from ddpm.data import check_range
from ddpm.noise import Draws

Game = Literal["non-saturating", "minimax"]


@dataclass(frozen=True)
class GANConfig:
    """Two players and their game.

    Attributes:
        image_shape: (channels, height, width); points of the plane, for a loop of one's own, are (2, 1, 1).
        architecture: "convolutional" (the UNet's blocks) or "mlp" (matrices alone, as in Goodfellow et al. 2014).
        base_channels: width of the first level; with convolutions a multiple of 4.
        channel_multipliers: width of each level, or of each hidden layer of an mlp, over `base_channels`.
        latent_dim: numbers in the generator's noise.
        game: "minimax" (eq. 1) or "non-saturating" (the last paragraph of section 3).
        r1: weight of the squared gradient of the discriminator at real images (Mescheder et al. 2018, eq. 9).
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
        check_sizes(self.image_shape, self.latent_dim)
        for name in ("image_shape", "channel_multipliers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON gives lists
        if self.architecture not in ("convolutional", "mlp"):
            raise ValueError(f"architecture is {self.architecture!r}; legal are convolutional, mlp")
        if self.game not in ("non-saturating", "minimax"):
            raise ValueError(f"game is {self.game!r}; legal are non-saturating, minimax")
        if not self.r1 >= 0:
            raise ValueError(f"r1 is {self.r1}; it must be at least 0")
        if self.architecture == "mlp" and min(self.base_channels, *self.channel_multipliers) < 1:
            raise ValueError(f"base_channels is {self.base_channels}; with its multipliers it must be at least 1")
        if self.architecture == "convolutional":
            shape_of(self.image_shape, self.base_channels, self.channel_multipliers)

    def network(self) -> "GAN":
        """Both, with random weights, in the memory layout that convolutions are fastest in."""
        return GAN(self).to(memory_format=torch.channels_last)

    def task(self) -> "AdversarialTraining":
        """What the training loop steps."""
        return AdversarialTraining(self)


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Matrices with a leaky ReLU after all but the last."""
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
    return nn.Sequential(*layers[:-1])


class Generator(nn.Module):
    """Noise (batch, latent_dim) -> image `(batch, *image_shape)` in [-1, 1]."""

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.image_shape = config.image_shape
        if config.architecture == "mlp":
            hidden = [config.base_channels * m for m in config.channel_multipliers]
            self.body: nn.Module = mlp([config.latent_dim, *hidden, math.prod(config.image_shape)])
        else:
            shape = shape_of(config.image_shape, config.base_channels, config.channel_multipliers)
            self.body = Decoder(shape, config.image_shape, config.latent_dim)

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z).float().reshape(-1, *self.image_shape).tanh()


class Discriminator(nn.Module):
    """Image `(batch, *image_shape)` -> logit (batch,): above 0 where it looks real."""

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        if config.architecture == "mlp":
            hidden = [config.base_channels * m for m in reversed(config.channel_multipliers)]
            self.body: nn.Module = nn.Sequential(nn.Flatten(), mlp([math.prod(config.image_shape), *hidden, 1]))
        else:
            shape = shape_of(config.image_shape, config.base_channels, config.channel_multipliers)
            self.body = Encoder(shape, config.image_shape, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).float()[:, 0]


class GAN(nn.Module):
    """A generator, which is what `decode` and sampling use, and the discriminator it was trained against; once loaded,
    both with averaged weights."""

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.config, self.image_shape, self.latent_dim = config, config.image_shape, config.latent_dim
        self.generator, self.discriminator = Generator(config), Discriminator(config)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.generator.parameters()).device

    def decode(self, z: Tensor) -> Tensor:
        """The image `(batch, *image_shape)` of a noise (batch, latent_dim)."""
        return self.generator(z)


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))) of logits (batch,): what the discriminator minimises (Goodfellow et al., eq. 1).

    Two binary cross-entropies; 2 log 2 where it cannot tell.
    """
    return (F.softplus(-real) + F.softplus(fake)).mean()


def generator_loss(fake: Tensor, game: Game) -> Tensor:
    """log(1 - D(G(z))), whose gradient vanishes where D is sure, or -log D(G(z)), of logits (batch,)."""
    return -F.softplus(fake).mean() if game == "minimax" else F.softplus(-fake).mean()


class AdversarialTraining:
    """A step of each player in turn."""

    def __init__(self, config: GANConfig) -> None:
        self.config = config
        players = config.network()
        self.parts: dict[str, nn.Module] = {"discriminator": players.discriminator, "generator": players.generator}

    def check_images(self, shape: Sequence[int]) -> None:
        """Raise `ValueError` unless the players take images of this shape (channels, height, width)."""
        if tuple(shape) != self.config.image_shape:
            raise ValueError(f"image_shape is {self.config.image_shape}; the images are {tuple(shape)}")

    def losses(self, images: Tensor, draws: Draws) -> Iterator[tuple[str, Tensor]]:
        """The discriminator's loss of images `(batch, *image_shape)`; when it has been stepped, the generator's."""
        check_range(images)
        discriminate, generate = self.parts["discriminator"], self.parts["generator"]
        with torch.no_grad():
            fakes = generate(draws.normal(self.config.latent_dim).to(images.device))
        real = images.detach().requires_grad_()
        logits = discriminate(real)
        loss = discriminator_loss(logits, discriminate(fakes))
        if self.config.r1 > 0:
            loss = loss + self.config.r1 / 2 * gradient_penalty(logits, real)
        yield "discriminator", loss
        fakes = generate(draws.normal(self.config.latent_dim).to(images.device))
        yield "generator", generator_loss(discriminate(fakes), self.config.game)


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Mean squared norm of the gradient of logits (batch,) at the images they are of."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.float().square().flatten(1).sum(1).mean()
