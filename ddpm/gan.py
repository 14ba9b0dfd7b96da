"""Generative adversarial networks (Goodfellow et al. 2014): a generator, a discriminator, and the loss of each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm.arguments import check_samples
from ddpm.autoencoder import Decoder, Encoder
from ddpm.data.scaling import check_range
from ddpm.model_settings import Game, GANSettings, levels_without_skips
from ddpm.noise import StepRandomness
from ddpm.settings import one_of

__all__ = [
    "GAN", "AdversarialTraining", "Discriminator", "GANConfig", "Game", "Generator", "discriminator_loss",
    "generator_loss", "gradient_penalty",
]  # fmt: skip


@dataclass(frozen=True)
class GANConfig(GANSettings):
    """The settings of a generator and a discriminator, and what is built from them."""

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
        self.image_shape, self.latent_dim = config.image_shape, config.latent_dim
        if config.architecture == "mlp":
            hidden = [config.base_channels * m for m in config.channel_multipliers]
            self.body: nn.Module = mlp([config.latent_dim, *hidden, math.prod(config.image_shape)])
        else:
            shape = levels_without_skips(config.image_shape, config.base_channels, config.channel_multipliers)
            self.body = Decoder(shape, config.image_shape, config.latent_dim)

    def forward(self, z: Tensor) -> Tensor:
        check_samples("z", z, (self.latent_dim,))
        out: Tensor = self.body(z.to(next(self.parameters()).dtype))
        return out.float().reshape(-1, *self.image_shape).tanh()


class Discriminator(nn.Module):
    """Image `(batch, *image_shape)` -> logit (batch,): above 0 where it looks real."""

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.image_shape = config.image_shape
        if config.architecture == "mlp":
            hidden = [config.base_channels * m for m in reversed(config.channel_multipliers)]
            self.body: nn.Module = nn.Sequential(nn.Flatten(), mlp([math.prod(config.image_shape), *hidden, 1]))
        else:
            shape = levels_without_skips(config.image_shape, config.base_channels, config.channel_multipliers)
            self.body = Encoder(shape, config.image_shape, 1)

    def forward(self, x: Tensor) -> Tensor:
        check_samples("x", x, self.image_shape)
        logits: Tensor = self.body(x.to(next(self.parameters()).dtype))
        return logits.float()[:, 0]


class GAN(nn.Module):
    """A generator, which `decode` and sampling use, and the discriminator that it was trained against.

    Once loaded, both have averaged weights.
    """

    classes: tuple[str, ...] = ()

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
        image: Tensor = self.generator(z)
        return image


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss -log D(x) - log(1 - D(G(z))) of logits (batch,) (Goodfellow et al., eq. 1).

    Two binary cross-entropies; 2 log 2 where it cannot tell.
    """
    return (F.softplus(-real) + F.softplus(fake)).mean()


def generator_loss(fake: Tensor, game: Game) -> Tensor:
    """The generator's loss of logits (batch,): -log D(G(z)), or log(1 - D(G(z))), whose gradient may vanish."""
    one_of("game", game, get_args(Game))
    return -F.softplus(fake).mean() if game == "minimax" else F.softplus(-fake).mean()


class AdversarialTraining:
    """The training task of a GAN: a step of the discriminator, then one of the generator."""

    def __init__(self, config: GANConfig) -> None:
        self.config, self.classes = config, None
        players = config.network()
        self.parts: dict[str, nn.Module] = {"discriminator": players.discriminator, "generator": players.generator}

    def loss(self, part: str, images: Tensor, randomness: StepRandomness) -> Tensor:
        """The discriminator's loss of images `(batch, *image_shape)`, or the generator's, a scalar."""
        check_samples("images", images, self.config.image_shape, randomness.count)
        if one_of("part", part, list(self.parts)) == "discriminator":
            return self._discriminator_loss(images, randomness)
        return self._generator_loss(images, randomness)

    def _discriminator_loss(self, images: Tensor, randomness: StepRandomness) -> Tensor:
        check_range(images)
        discriminate, generate = self.parts["discriminator"], self.parts["generator"]
        with torch.no_grad():
            fakes = generate(randomness.normal(self.config.latent_dim).to(images.device))
        real = images.detach().requires_grad_()
        logits = discriminate(real)
        loss = discriminator_loss(logits, discriminate(fakes))  # Goodfellow et al. 2014, eq. 1
        if self.config.r1 > 0:
            loss = loss + self.config.r1 / 2 * gradient_penalty(logits, real)  # Mescheder et al. 2018, eq. 9
        return loss

    def _generator_loss(self, images: Tensor, randomness: StepRandomness) -> Tensor:
        discriminate, generate = self.parts["discriminator"], self.parts["generator"]
        fakes = generate(randomness.normal(self.config.latent_dim).to(images.device))
        return generator_loss(discriminate(fakes), self.config.game)  # Goodfellow et al. 2014, section 3


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Mean squared norm of the gradient of the logits (batch,) with respect to their images."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.float().square().flatten(1).sum(1).mean()
