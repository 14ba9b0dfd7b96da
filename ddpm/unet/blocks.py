"""The UNet's layers: convolutions, GroupNorm, the time embedding, residual blocks and self-attention.

`Level` in `ddpm.unet.network` puts blocks and attention together.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ddpm.unet.config import UNetConfig

__all__ = ["Float32Conv2d", "GroupNorm", "ResidualBlock", "SelfAttention", "TimeEmbedding", "attention", "sinusoids"]


class Float32Conv2d(nn.Conv2d):
    """A convolution that stays in float32 under autocast; a UNet uses it for its first two convolutions.

    At t = 1 the noise is a hundredth of the image that it is added to, and bfloat16 rounds numbers above 1 by up to
    1/256.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.is_meta:  # autocast does not know this device
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x)


Stem = Float32Conv2d  # its name in version 0.1.0


class GroupNorm(nn.GroupNorm):
    """GroupNorm in its weights' precision, which autocast leaves float32.

    In bfloat16 its backward pass is four times slower on a CPU, and less exact.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


def sinusoids(t: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding `[sin, cos]` of real times `t` (batch,) -> (batch, width), after Vaswani et al. (2017)."""
    half = width // 2
    exponent = -math.log(10_000) * torch.arange(half, dtype=torch.float32, device=t.device) / half
    angles = t.float()[:, None] * torch.exp(exponent)[None, :]
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)


class TimeEmbedding(nn.Module):
    """Real times (batch,) -> embedding (batch, 4 width): sinusoids, a two-layer perceptron, a SiLU for all blocks.

    An embedding of labels (batch, 4 width) is added before that SiLU.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear_1 = nn.Linear(width, 4 * width)
        self.linear_2 = nn.Linear(4 * width, 4 * width)

    def forward(self, t: Tensor, of_labels: Tensor | None = None) -> Tensor:
        hidden = self.linear_1(sinusoids(t, self.width).to(self.linear_1.weight.dtype))
        of_time = self.linear_2(F.silu(hidden))
        return F.silu(of_time if of_labels is None else of_time + of_labels)


class ResidualBlock(nn.Module):
    """GroupNorm-SiLU-convolution twice, conditioned on the time in between, plus a shortcut; keeps height and width.

    Args:
        config: the UNet's shape.
        channels_in: channels of the input.
        channels_out: channels of the output.
        convolution: class of the block's first convolution.
    """

    def __init__(
        self, config: UNetConfig, channels_in: int, channels_out: int, convolution: type[nn.Conv2d] = nn.Conv2d
    ) -> None:
        super().__init__()
        self.norm1 = GroupNorm(config.groups, channels_in)
        self.conv1 = convolution(channels_in, channels_out, 3, padding=1)
        self.scales = config.time_conditioning == "scale_shift"
        self.time: nn.Linear | None = None
        if config.time_conditioning != "none":
            self.time = nn.Linear(4 * config.base_channels, (1 + self.scales) * channels_out)
        self.norm2 = GroupNorm(config.groups, channels_out)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        if self.time is None:
            h = self.norm2(h)
        elif self.scales:
            scale, shift = self.time(embedding)[:, :, None, None].chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift  # Nichol & Dhariwal 2021, appendix A
        else:
            h = self.norm2(h + self.time(embedding)[:, :, None, None])
        h = self.conv2(self.dropout(F.silu(h)))
        out: Tensor = h + self.shortcut(x)
        return out


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Values mixed by softmax(q k / sqrt(d)), all (batch, heads, tokens, d) (Vaswani et al. 2017, eq. 1)."""
    if q.requires_grad and q.device.type == "cpu":
        # In bfloat16 on a CPU, the fused kernel's backward pass is ten times slower than the plain formula's.
        return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v)


class SelfAttention(nn.Module):
    """Multi-head self-attention over all pixels of a feature map; the result is added to the map."""

    def __init__(self, config: UNetConfig, channels: int) -> None:
        super().__init__()
        self.heads = channels // config.head_channels
        self.norm = GroupNorm(config.groups, channels)
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        tokens = rearrange(self.norm(x), "b c h w -> b (h w) c")
        projected = (project(tokens) for project in (self.query, self.key, self.value))
        q, k, v = (rearrange(p, "b n (heads d) -> b heads n d", heads=self.heads) for p in projected)
        joined: Tensor = self.out(rearrange(attention(q, k, v), "b heads n d -> b n (heads d)"))
        return x + rearrange(joined, "b (h w) c -> b c h w", h=x.shape[2])
