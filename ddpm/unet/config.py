"""The shape of a UNet, checked where it is written down."""

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

from ddpm.settings import check, check_choices, flag, integers, positive_int, real

__all__ = ["UNetConfig"]


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a UNet.

    Attributes:
        channels: channels of the image, in and out.
        base_channels: width of the first level, a multiple of 4; every other width is a multiple of it.
        channel_multipliers: width of each level in multiples of `base_channels`; each level but the last halves the
            image.
        blocks_per_level: residual blocks in each level on the way down; the way up has one more.
        attention_levels: levels (0 is the finest) with self-attention after every residual block.
        head_channels: channels of one attention head, the same on every level (Dhariwal & Nichol 2021, section 3).
        dropout: probability of zeroing a feature before a block's second convolution.
        middle_attention: whether the middle has self-attention.
        time_conditioning: how a block sees the time: "add" adds the time's embedding, "scale_shift" scales and shifts
            the second norm's output by it (Nichol & Dhariwal 2021, appendix A), and "none" leaves the network blind to
            the time.
        resample_last: whether the last level halves the image, too. Every level on the way up then begins with a
            doubling; otherwise every level but the finest ends with one.
        up_width: width of a level on the way up: its own ("mirror") or the next finer level's ("finer").
        skips: whether the way up sees the feature maps of the way down.
        classes: number of classes that the network can be told, each by an embedding that is added to the time's; one
            more embedding says that none is told. None is a network without classes.
    """

    channels: int = 1
    base_channels: int = 32
    channel_multipliers: tuple[int, ...] = (1, 2, 4)
    blocks_per_level: int = 2
    attention_levels: tuple[int, ...] = (2,)
    head_channels: int = 32
    dropout: float = 0.0
    middle_attention: bool = True
    time_conditioning: Literal["add", "scale_shift", "none"] = "add"
    resample_last: bool = False
    up_width: Literal["mirror", "finer"] = "mirror"
    skips: bool = True
    classes: int | None = None

    def __post_init__(self) -> None:
        check(self, positive_int, "channels", "base_channels", "blocks_per_level", "head_channels")
        check(self, integers, "channel_multipliers", at_least=1)
        check(self, integers, "attention_levels", at_least=0, unordered=True)
        check(self, flag, "middle_attention", "resample_last", "skips")
        check(self, real, "dropout", at_least=0, below=1)
        check_choices(self)
        if self.classes is not None:
            check(self, positive_int, "classes")
            if self.time_conditioning == "none":
                raise ValueError(
                    f"classes is {self.classes}; a class is told with the time, and time_conditioning is 'none'"
                )
        if self.base_channels % 4:
            raise ValueError(f"base_channels is {self.base_channels}; it must be a multiple of 4")
        if not self.channel_multipliers:
            raise ValueError("channel_multipliers is (); it must hold at least one level")
        levels = range(len(self.channel_multipliers))
        if not set(self.attention_levels) <= set(levels):
            unless = " unless given" if self.attention_levels == type(self).attention_levels else ""
            raise ValueError(f"attention_levels is {self.attention_levels}{unless}; legal levels are 0 to {levels[-1]}")
        for place, width in self._widths_with_attention():
            if width % self.head_channels:
                raise ValueError(f"head_channels is {self.head_channels}; it must divide {width}, the width {place}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level on the way down, finest first."""
        return tuple(self.base_channels * m for m in self.channel_multipliers)

    @property
    def up_widths(self) -> tuple[int, ...]:
        """Channels of each level on the way up, finest first."""
        return self.widths if self.up_width == "mirror" else (self.widths[0], *self.widths[:-1])

    @property
    def groups(self) -> int:
        """Groups of every GroupNorm, at most 32. On the narrowest level a group has at least four channels."""
        return math.gcd(self.base_channels // 4, 32)

    @property
    def divisor(self) -> int:
        """Height and width of the image must be multiples of this."""
        halvings = len(self.channel_multipliers) - 1 + self.resample_last
        return 1 << halvings

    def height_and_width(self, image_size: int | tuple[int, int]) -> tuple[int, int]:
        """(height, width) of this image size, checked; a single number means a square."""
        pair = image_size if isinstance(image_size, list | tuple) else (image_size, image_size)
        if len(pair) != 2 or not all(isinstance(side, Integral) and not isinstance(side, bool) for side in pair):
            raise ValueError(f"image_size is {image_size!r}; it must be an integer or a pair of them")
        height, width = map(int, pair)
        self.check_image(height, width)
        return height, width

    def check_image(self, height: int, width: int) -> None:
        """Raise `ValueError` unless images of this size survive every halving, naming the nearest sizes that do."""
        for name, size in (("height", height), ("width", width)):
            if size < 1 or size % self.divisor:
                below = size // self.divisor * self.divisor
                nearest = f"{below} or {below + self.divisor}" if below > 0 else str(self.divisor)
                raise ValueError(f"image {name} is {size}; it must be a multiple of {self.divisor}, such as {nearest}")

    def _widths_with_attention(self) -> list[tuple[str, int]]:
        """Where there is attention, in words, and how wide the network is there."""
        places = [
            (f"of level {level}, which attention_levels names", width)
            for level in self.attention_levels
            for width in (self.widths[level], self.up_widths[level])
        ]
        if self.middle_attention:
            places.append(("of the middle, which has attention unless middle_attention is False", self.widths[-1]))
        return places
