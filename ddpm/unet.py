"""The UNet of the book: residual blocks, time embedding, attention at the lowest level and in the middle.

The network of Ho et al. (2020), appendix B, in the layout of diffusers' `UNet2DModel`, onto which its weights map one
to one (`ddpm.interop`). It imports nothing else of the package and knows nothing of noise schedules.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a UNet.

    Attributes:
        channels: channels of the image, in and out.
        base_channels: width of the first level, a multiple of 4; every other width is a multiple of it.
        channel_multipliers: width of each level over `base_channels`; each level but the last halves the image.
        blocks_per_level: residual blocks a level on the way down; one more on the way up.
        attention_levels: levels (0 is the finest) with self-attention after every residual block.
        head_channels: channels of one attention head.
        dropout: probability of zeroing a feature in front of a block's second convolution.
    """

    channels: int = 1
    base_channels: int = 32
    channel_multipliers: tuple[int, ...] = (1, 2, 4)
    blocks_per_level: int = 2
    attention_levels: tuple[int, ...] = (2,)
    head_channels: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel_multipliers", tuple(self.channel_multipliers))  # JSON gives lists
        object.__setattr__(self, "attention_levels", tuple(self.attention_levels))
        levels = len(self.channel_multipliers)
        for name in ("channels", "base_channels", "blocks_per_level", "head_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.base_channels % 4:
            raise ValueError(f"base_channels is {self.base_channels}; it must be a multiple of 4")
        if not levels or min(self.channel_multipliers) < 1:
            raise ValueError(f"channel_multipliers is {self.channel_multipliers}; it must hold integers from 1 up")
        if not set(self.attention_levels) <= set(range(levels)):
            raise ValueError(f"attention_levels is {self.attention_levels}; legal levels are 0 to {levels - 1}")
        for level in {*self.attention_levels, levels - 1}:
            if self.widths[level] % self.head_channels:
                width = self.widths[level]
                raise ValueError(
                    f"head_channels is {self.head_channels}; it must divide {width}, level {level}'s width"
                )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be in [0, 1)")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.base_channels * m for m in self.channel_multipliers)

    @property
    def groups(self) -> int:
        """Groups of every GroupNorm: at most 32, and at least four channels a group on the narrowest level."""
        return math.gcd(self.base_channels // 4, 32)

    @property
    def divisor(self) -> int:
        """Height and width of the image must be multiples of this."""
        return 2 ** (len(self.channel_multipliers) - 1)

    def check_image(self, height: int, width: int) -> None:
        """Raise `ValueError` unless images of this size survive every halving, naming the nearest sizes that do."""
        for name, size in (("height", height), ("width", width)):
            if size < 1 or size % self.divisor:
                below = size // self.divisor * self.divisor
                nearest = f"{below} or {below + self.divisor}" if below > 0 else str(self.divisor)
                raise ValueError(f"image {name} is {size}; it must be a multiple of {self.divisor}, such as {nearest}")


class Stem(nn.Conv2d):
    """A convolution in float32 under autocast: bfloat16 would round the image itself."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x)


class GroupNorm(nn.GroupNorm):
    """GroupNorm computed in float32: in bfloat16 its backward is four times slower on a CPU, and less exact."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float() if x.dtype == torch.bfloat16 else x)


def sinusoids(t: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding `[sin, cos]` of real times `t` (batch,) -> (batch, width), after Vaswani et al. (2017)."""
    half = width // 2
    exponent = -math.log(10_000) * torch.arange(half, dtype=torch.float32, device=t.device) / half
    angles = t.float()[:, None] * torch.exp(exponent)[None, :]
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)


class TimeEmbedding(nn.Module):
    """Real times (batch,) -> embedding (batch, 4 width): sinusoids, a two-layer perceptron, and the blocks' SiLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear_1 = nn.Linear(width, 4 * width)
        self.linear_2 = nn.Linear(4 * width, 4 * width)

    def forward(self, t: Tensor) -> Tensor:
        hidden = self.linear_1(sinusoids(t, self.width).to(self.linear_1.weight.dtype))
        return F.silu(self.linear_2(F.silu(hidden)))


class ResidualBlock(nn.Module):
    """GroupNorm-SiLU-convolution twice around an added time embedding, plus a shortcut; keeps height and width."""

    def __init__(self, config: UNetConfig, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(config.groups, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.time = nn.Linear(4 * config.base_channels, channels_out)
        self.norm2 = GroupNorm(config.groups, channels_out)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time(embedding)[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return h + self.shortcut(x)


class SelfAttention(nn.Module):
    """Multi-head self-attention over all pixels of a feature map, added to it."""

    def __init__(self, config: UNetConfig, channels: int) -> None:
        super().__init__()
        self.heads = channels // config.head_channels
        self.norm = GroupNorm(config.groups, channels)
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        tokens = rearrange(self.norm(x), "b c h w -> b (h w) c")
        projected = (project(tokens) for project in (self.query, self.key, self.value))
        q, k, v = (rearrange(p, "b n (heads d) -> b heads n d", heads=self.heads) for p in projected)
        if q.requires_grad and x.device.type == "cpu":
            # The backward of the fused kernel is ten times slower than the plain formula's in bfloat16 on a CPU.
            attended = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1).to(v.dtype) @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v)
        joined = self.out(rearrange(attended, "b heads n d -> b n (heads d)"))
        return x + rearrange(joined, "b (h w) c -> b c h w", h=x.shape[2])


class Level(nn.Module):
    """The blocks of one resolution on one side of the UNet, each followed by attention where the level has it."""

    def __init__(self, config: UNetConfig, level: int, channels_in: list[int], resample: nn.Module | None) -> None:
        super().__init__()
        width = config.widths[level]
        self.blocks = nn.ModuleList(ResidualBlock(config, c, width) for c in channels_in)
        attends = level in config.attention_levels
        self.attentions = nn.ModuleList(SelfAttention(config, width) if attends else nn.Identity() for _ in channels_in)
        self.resample = resample


class DownLevel(Level):
    """Blocks, then a halving; every feature map on the way is kept for the way up."""

    def forward(self, h: Tensor, embedding: Tensor) -> list[Tensor]:
        maps = []
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            h = attention(block(h, embedding))
            maps.append(h)
        return maps if self.resample is None else [*maps, self.resample(h)]


class UpLevel(Level):
    """Blocks, each on its input joined with the latest feature map left over from the way down; then a doubling."""

    def forward(self, h: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            h = attention(block(torch.cat([h, skips.pop()], dim=1), embedding))
        return h if self.resample is None else self.resample(h)


class UNet(nn.Module):
    """Image (batch, channels, height, width) and real time (batch,) -> an image of the same shape.

    Height and width must be multiples of `config.divisor`. The time is what training fed it: `NetworkDenoiser` calls it
    with t - 1, diffusers' index.
    """

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or UNetConfig()
        widths, blocks = config.widths, config.blocks_per_level
        last = len(widths) - 1
        self.conv_in = Stem(config.channels, widths[0], 3, padding=1)
        self.time = TimeEmbedding(config.base_channels)
        skips = [widths[0]]  # channels of every feature map the way up will concatenate
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            channels_in = [skips[-1]] + [width] * (blocks - 1)
            halve = nn.Conv2d(width, width, 3, stride=2, padding=1) if level < last else None
            self.down.append(DownLevel(config, level, channels_in, halve))
            skips += [width] * (blocks + (level < last))

        self.middle_in = ResidualBlock(config, widths[-1], widths[-1])
        self.middle_attention = SelfAttention(config, widths[-1])
        self.middle_out = ResidualBlock(config, widths[-1], widths[-1])

        self.up = nn.ModuleList()  # coarsest first
        below = widths[-1]
        for level, width in reversed(list(enumerate(widths))):
            channels_in = [h + skips.pop() for h in [below] + [width] * blocks]
            double = nn.Sequential(nn.Upsample(scale_factor=2.0), nn.Conv2d(width, width, 3, padding=1))
            self.up.append(UpLevel(config, level, channels_in, double if level > 0 else None))
            below = width

        self.norm_out = GroupNorm(config.groups, widths[0])
        self.conv_out = nn.Conv2d(widths[0], config.channels, 3, padding=1)
        for module in self.modules():  # each residual branch and the network begin silent, as in Ho et al.'s code
            if isinstance(module, ResidualBlock):
                nn.init.zeros_(module.conv2.weight)
            elif isinstance(module, SelfAttention):
                nn.init.zeros_(module.out.weight)
        nn.init.zeros_(self.conv_out.weight)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.config.check_image(*x.shape[2:])
        embedding = self.time(t)
        skips = [self.conv_in(x)]
        for level in self.down:
            skips += level(skips[-1], embedding)
        h = self.middle_in(skips[-1], embedding)
        h = self.middle_out(self.middle_attention(h), embedding)
        for level in self.up:
            h = level(h, embedding, skips)
        return self.conv_out(F.silu(self.norm_out(h)))
