"""Autoencoders, plain and variational (Kingma & Welling 2014), built from the UNet's blocks without its skips."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from ddpm.arguments import check_samples, instance
from ddpm.data.scaling import check_range
from ddpm.model_settings import AutoencoderSettings, levels_without_skips
from ddpm.noise import StepRandomness
from ddpm.settings import one_of
from ddpm.unet import UNetConfig
from ddpm.unet.blocks import Float32Conv2d, GroupNorm
from ddpm.unet.network import DownLevel, UpLevel

__all__ = [
    "Autoencoder", "AutoencoderConfig", "Autoencoding", "Decoder", "Encoder", "VariationalAutoencoder", "divergence",
    "logistic_log_likelihood",
]  # fmt: skip


class Encoder(nn.Module):
    """Image (batch, channels, height, width) -> (batch, outputs): the UNet's way down, then a matrix."""

    def __init__(self, shape: UNetConfig, image_shape: Sequence[int], outputs: int) -> None:
        super().__init__()
        widths = shape.widths
        self.image_shape = tuple(image_shape)
        self.conv_in = Float32Conv2d(shape.channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            DownLevel(shape, width, [before], False, nn.Conv2d(width, width, 3, stride=2, padding=1))
            for before, width in zip(widths[:1] + widths[:-1], widths, strict=True)
        )
        self.norm_out = GroupNorm(shape.groups, widths[-1])
        self.linear_out = nn.Linear(widths[-1] * math.prod(image_shape[1:]) // shape.divisor**2, outputs)

    def forward(self, x: Tensor) -> Tensor:
        check_samples("x", x, self.image_shape)
        h = self.conv_in(x.to(self.conv_in.weight.dtype))
        for level in self.down:
            h = level(h, None)[-1]
        out: Tensor = self.linear_out(F.silu(self.norm_out(h)).flatten(1))
        return out


class Decoder(nn.Module):
    """Code (batch, inputs) -> (batch, channels, height, width): a matrix, then the UNet's way up.

    The channels are the image's, or twice as many where each of its values has a mean and a scale.
    """

    def __init__(self, shape: UNetConfig, image_shape: Sequence[int], inputs: int, channels: int | None = None) -> None:
        super().__init__()
        widths = shape.widths
        self.smallest = (widths[-1], *(side // shape.divisor for side in image_shape[1:]))
        self.linear_in = nn.Linear(inputs, math.prod(self.smallest))
        self.up = nn.ModuleList()  # coarsest first
        for coarser, width in reversed(list(zip(widths[1:] + widths[-1:], widths, strict=True))):
            double = nn.Sequential(nn.Upsample(scale_factor=2.0), nn.Conv2d(coarser, width, 3, padding=1))
            self.up.append(UpLevel(shape, width, [width], False, double, [0]))
        self.norm_out = GroupNorm(shape.groups, widths[0])
        self.conv_out = nn.Conv2d(widths[0], channels or shape.channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        check_samples("z", z, (self.linear_in.in_features,))
        h = self.linear_in(z.to(self.linear_in.weight.dtype)).unflatten(1, self.smallest)
        h = h.contiguous(memory_format=torch.channels_last)
        for level in self.up:
            h = level(h, None, [])
        out: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return out.float()


@dataclass(frozen=True)
class AutoencoderConfig(AutoencoderSettings):
    """The settings of an autoencoder, and what is built from them."""

    def network(self) -> "Autoencoder":
        """With random weights, in the memory layout that convolutions are fastest in."""
        kind = VariationalAutoencoder if self.variational else Autoencoder
        return kind(self).to(memory_format=torch.channels_last)

    def task(self) -> "Autoencoding":
        """What the training loop steps."""
        return Autoencoding(self)


class Autoencoder(nn.Module):
    """An encoder to a code, and a decoder from it. Its codes have no density, so it does not generate.

    Images are `(batch, *image_shape)` in [-1, 1], codes (batch, latent_dim).
    """

    outputs_per_latent = 1
    codes_are_normal = False
    classes: tuple[str, ...] = ()

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        if config.variational != isinstance(self, VariationalAutoencoder):
            raise ValueError(f"variational is {config.variational}; {type(self).__name__} is the other kind")
        self.config, self.image_shape, self.latent_dim = config, config.image_shape, config.latent_dim
        shape = levels_without_skips(config.image_shape, config.base_channels, config.channel_multipliers)
        self.encoder = Encoder(shape, config.image_shape, self.outputs_per_latent * config.latent_dim)
        values = 2 if config.loss == "logistic" else 1  # a pixel: a mean and the log of a scale, or the answer alone
        self.decoder = Decoder(shape, config.image_shape, config.latent_dim, values * config.image_shape[0])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.linear_out.weight.device

    def encode(self, x: Tensor) -> Tensor:
        """The code of an image."""
        code: Tensor = self.encoder(x)
        return code

    def decode(self, z: Tensor) -> Tensor:
        """The image of a code."""
        output: Tensor = self.decoder(z)
        if self.config.loss == "logistic":
            return output.chunk(2, dim=1)[0]
        return 2 * output.sigmoid() - 1 if self.config.loss == "bce" else output

    def errors(self, x: Tensor, z: Tensor) -> Tensor:
        """(batch,) squared errors of decoding z, or cross-entropies or -log p(x | z) in nats, summed over the image."""
        check_samples("x", x, self.image_shape)
        check_samples("z", z, (self.latent_dim,), len(x))
        output: Tensor = self.decoder(z)
        if self.config.loss == "mse":
            return (output - x).square().flatten(1).sum(1)
        if self.config.loss == "logistic":
            return -logistic_log_likelihood(x, *output.chunk(2, dim=1)).flatten(1).sum(1)
        return F.binary_cross_entropy_with_logits(output, (x + 1) / 2, reduction="none").flatten(1).sum(1)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """The loss of each image (batch,), which stands here because processes share gradients only through `forward`.

        Only the variational kind uses the noise (batch, latent_dim).
        """
        return self.errors(x, self.encode(x))


class VariationalAutoencoder(Autoencoder):
    """An autoencoder whose decoder is a likelihood and whose code has a density: decoding z ~ N(0, I) generates.

    With "mse" the decoder is N(decode(z), sigma^2) with the optimal sigma, one for all pixels: in training the batch's
    root mean squared error, afterwards its running average (the "optimal sigma-VAE" of Rybkin et al. 2021). With "bce"
    the cross-entropy takes the place of a log likelihood, which it is not for grey levels (Loaiza-Ganem & Cunningham
    2019). With "logistic" the decoder is a probability of 256 grey levels, with a mean and a scale for each pixel.
    """

    log_sigma: Tensor

    outputs_per_latent = 2  # mean and log variance
    codes_are_normal = True

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__(config)
        self.register_buffer("log_sigma", torch.zeros(()))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x), each (batch, latent_dim)."""
        mean, log_variance = self.encoder(x).float().chunk(2, dim=1)
        return mean, log_variance

    def encode(self, x: Tensor) -> Tensor:
        """The mean of q(z | x)."""
        return self.posterior(x)[0]

    def reconstruction(self, x: Tensor, z: Tensor) -> Tensor:
        """-log p(x | z), (batch,) in nats; with "bce" the cross-entropy in its place."""
        errors = self.errors(x, z)
        if self.config.loss != "mse":
            return errors
        pixels, log_sigma = math.prod(x.shape[1:]), self.log_sigma
        if self.training and len(x):
            mean = errors.detach().mean()
            if distributed.is_available() and distributed.is_initialized():  # each process has an equal share
                distributed.all_reduce(mean)
                mean /= distributed.get_world_size()
            log_sigma = (mean / pixels).log() / 2
            self.log_sigma.lerp_(log_sigma, 0.02)
        return errors / (2 * torch.exp(2 * log_sigma)) + pixels * (log_sigma + math.log(2 * math.pi) / 2)

    def bound(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of -log p(x) <= reconstruction + divergence, (batch,) in nats each.

        One draw of the code, mean + std noise, estimates the first; the second is exact (Kingma & Welling 2014,
        eq. 10 and appendix B).
        """
        mean, log_variance = self.posterior(x)
        check_samples("noise", noise, (self.latent_dim,), len(x))
        z = mean + torch.exp(log_variance / 2) * noise
        return self.reconstruction(x, z), divergence(mean, log_variance)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """The loss of each image (batch,), in nats: the bound, or with its divergence beta times."""
        reconstruction, kl = self.bound(x, noise)
        return reconstruction + self.config.beta * kl


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)) of each row, in nats."""
    check_samples("mean", mean, instance("log_variance", log_variance, Tensor).shape[1:], len(log_variance))
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2


def logistic_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log p of each value's grey level, one of 256 in [-1, 1], in nats (Salimans et al. 2017, eq. 2).

    A logistic density's mass on the level; the first and the last take the tails. A scale is at least exp(-7).
    """
    half, scale = 1 / 255, log_scale.clamp(min=-7).exp()
    above = torch.where(x > 1 - half, math.inf, (x + half - mean) / scale)
    below = torch.where(x < half - 1, -math.inf, (x - half - mean) / scale)
    # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), which near values do not round to 0
    return F.logsigmoid(above) + F.logsigmoid(-below) + torch.log(-torch.expm1(below - above))


class Autoencoding:
    """The training task of an autoencoder, plain or variational."""

    def __init__(self, config: AutoencoderConfig) -> None:
        self.config, self.classes = config, None
        self.parts: dict[str, nn.Module] = {"autoencoder": config.network()}

    def loss(self, part: str, images: Tensor, randomness: StepRandomness) -> Tensor:
        """The loss of images `(batch, *image_shape)` for each of their values, a scalar.

        A squared error, a cross-entropy or -log p; of the variational kind the bound (Kingma & Welling 2014, eq. 10).
        """
        check_samples("images", images, self.config.image_shape, randomness.count)
        check_range(images)
        noise = randomness.normal(self.config.latent_dim).to(images.device)
        losses: Tensor = self.parts[one_of("part", part, list(self.parts))](images, noise)  # (batch,)
        return losses.mean() / math.prod(images.shape[1:])
