"""The UNet: levels of residual blocks, down and up again, with attention at the lowest level and in the middle.

It is the network of Ho et al. (2020), appendix B, in the layout of diffusers' `UNet2DModel`. For the options that both
have, its weights map one to one onto that model's (`ddpm.interop`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm.arguments import check_labels, check_real, instance
from ddpm.unet.blocks import Float32Conv2d, GroupNorm, ResidualBlock, SelfAttention, TimeEmbedding
from ddpm.unet.blocks import Stem as Stem  # the names that stood here in version 0.1.0
from ddpm.unet.blocks import sinusoids as sinusoids
from ddpm.unet.config import UNetConfig

__all__ = ["DownLevel", "Level", "UNet", "UpLevel"]


class Level(nn.Module):
    """The blocks of one resolution on one side of the UNet, each followed by attention where the level has it.

    Args:
        config: the UNet's shape.
        width: channels of every block's output.
        channels_in: channels of each block's input.
        attends: whether the level has attention.
        resample: the halving or doubling of height and width, if there is one.
        first_convolution: class of the first block's first convolution.
    """

    def __init__(
        self,
        config: UNetConfig,
        width: int,
        channels_in: list[int],
        attends: bool,
        resample: nn.Module | None,
        first_convolution: type[nn.Conv2d] = nn.Conv2d,
    ) -> None:
        super().__init__()
        convolutions = [first_convolution] + [nn.Conv2d] * (len(channels_in) - 1)
        self.blocks = nn.ModuleList(
            ResidualBlock(config, channels, width, convolution)
            for channels, convolution in zip(channels_in, convolutions, strict=True)
        )
        self.attentions = nn.ModuleList(SelfAttention(config, width) if attends else nn.Identity() for _ in channels_in)
        self.resample = resample


class DownLevel(Level):
    """A level of the way down: blocks, then a halving. It returns every feature map, for the way up to use."""

    def forward(self, h: Tensor, embedding: Tensor | None) -> list[Tensor]:
        maps = []
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            h = attention(block(h, embedding))
            maps.append(h)
        return maps if self.resample is None else [*maps, self.resample(h)]


class UpLevel(Level):
    """A level of the way up: blocks, and a doubling. Each block also gets the latest unused map of the way down."""

    def __init__(
        self,
        config: UNetConfig,
        width: int,
        channels_in: list[int],
        attends: bool,
        resample: nn.Module | None,
        skip_channels: list[int],
    ) -> None:
        super().__init__(config, width, channels_in, attends, resample)
        self.skip_channels = skip_channels  # of the map that is joined to each block's input; 0 for none
        self.doubles_first = config.resample_last

    def forward(self, h: Tensor, embedding: Tensor | None, skips: list[Tensor]) -> Tensor:
        if self.doubles_first and self.resample is not None:
            h = self.resample(h)
        for block, attention, across in zip(self.blocks, self.attentions, self.skip_channels, strict=True):
            joined = torch.cat([h, skips.pop()], dim=1) if across else h
            h = attention(block(joined, embedding))
        return h if self.resample is None or self.doubles_first else self.resample(h)


class UNet(nn.Module):
    """Image (batch, channels, height, width) and real time (batch,) -> an image of the same shape.

    Height and width must be multiples of `config.divisor`. The network takes the time as training fed it:
    `NetworkDenoiser` passes t - 1, diffusers' index. A network with classes also takes labels (batch,) from 0 up;
    `config.classes` itself is the null label, which tells no class, and stands for all labels that are not given.

    Args:
        config: the network's shape; `UNetConfig()` if none is given.
        image_size: height and width of the images, or the one number that is both. If it is given, an illegal size is
            refused at once and not in the first call.

    Raises:
        ValueError: images of `image_size` do not fit the network.
    """

    def __init__(self, config: UNetConfig | None = None, image_size: int | tuple[int, int] | None = None) -> None:
        super().__init__()
        self.config = config = instance("config", config, UNetConfig) if config is not None else UNetConfig()
        if image_size is not None:
            config.height_and_width(image_size)
        widths, blocks = config.widths, config.blocks_per_level
        last = len(widths) - 1
        self.conv_in = Float32Conv2d(config.channels, widths[0], 3, padding=1)
        self.time = TimeEmbedding(config.base_channels) if config.time_conditioning != "none" else None
        skips = [widths[0]]  # channels of every feature map that the way up will concatenate
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            channels_in = [skips[-1]] + [width] * (blocks - 1)
            halves = level < last or config.resample_last
            halve = nn.Conv2d(width, width, 3, stride=2, padding=1) if halves else None
            first_convolution = Float32Conv2d if level == 0 else nn.Conv2d
            self.down.append(
                DownLevel(config, width, channels_in, level in config.attention_levels, halve, first_convolution)
            )
            skips += [width] * (blocks + (level < last))

        self.middle_in = ResidualBlock(config, widths[-1], widths[-1])
        self.middle_attention = SelfAttention(config, widths[-1]) if config.middle_attention else nn.Identity()
        self.middle_out = ResidualBlock(config, widths[-1], widths[-1])

        self.up = nn.ModuleList()  # coarsest first
        coarser = widths[-1]
        for level, width in reversed(list(enumerate(config.up_widths))):
            across = [skips.pop() if config.skips else 0 for _ in range(blocks + 1)]
            before_doubling, before_blocks = (coarser, width) if config.resample_last else (width, coarser)
            channels_in = [h + skip for h, skip in zip([before_blocks] + [width] * blocks, across, strict=True)]
            double = nn.Sequential(nn.Upsample(scale_factor=2.0), nn.Conv2d(before_doubling, width, 3, padding=1))
            resample = double if level > 0 or config.resample_last else None
            self.up.append(UpLevel(config, width, channels_in, level in config.attention_levels, resample, across))
            coarser = width

        self.norm_out = GroupNorm(config.groups, widths[0])
        self.conv_out = nn.Conv2d(widths[0], config.channels, 3, padding=1)
        # The last weights of each residual branch and of the network begin at zero, as in Ho et al.'s code.
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                nn.init.zeros_(module.conv2.weight)
            elif isinstance(module, SelfAttention):
                nn.init.zeros_(module.out.weight)
        nn.init.zeros_(self.conv_out.weight)
        self.labels: nn.Embedding | None = None  # made last: all other weights begin as they do without classes
        if config.classes is not None:
            # The null label adds nothing: untold, the network begins as the one without classes.
            self.labels = nn.Embedding(config.classes + 1, 4 * config.base_channels)  # N(0, 1), as in diffusers
            nn.init.zeros_(self.labels.weight[-1])

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        self._check(x, t, labels)
        of_labels = None
        if self.labels is not None:
            if labels is None:
                labels = torch.full((1,), self.config.classes, dtype=torch.int64, device=x.device)  # type: ignore[arg-type]
            of_labels = self.labels(labels)
        embedding = self.time(t, of_labels) if self.time is not None else None
        skips = [self.conv_in(x)]
        for level in self.down:
            skips += level(skips[-1], embedding)
        h = skips.pop() if self.config.resample_last else skips[-1]
        h = self.middle_in(h, embedding)
        h = self.middle_out(self.middle_attention(h), embedding)
        for level in self.up:
            h = level(h, embedding, skips)
        out: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return out

    def _check(self, x: Tensor, t: Tensor, labels: Tensor | None) -> None:
        """Raise `TypeError` or `ValueError` unless x are images, and t times and labels that this network takes."""
        dtype = self.conv_in.weight.dtype
        if instance("x", x, Tensor).dtype != dtype:
            raise TypeError(f"x is {x.dtype}; it must be {dtype}, as the weights are")
        if x.ndim != 4 or x.shape[1] != self.config.channels:
            raise ValueError(f"x has shape {tuple(x.shape)}; it must be (batch, {self.config.channels}, height, width)")
        check_real(instance("t", t, Tensor))
        if t.ndim != 1 or len(t) not in (1, len(x)):
            raise ValueError(f"t has shape {tuple(t.shape)}; it must be a time for each image, ({len(x)},)")
        self.config.check_image(*x.shape[2:])
        if labels is not None:
            if self.config.classes is None:
                raise ValueError("labels are given; this network has no classes and takes none")
            check_labels(labels, len(x), self.config.classes)
