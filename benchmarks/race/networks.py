"""The libraries' networks in all their settings, and what each does once: a training step, or a forward pass."""

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ddpm.diffusion import DiffusionConfig
from ddpm.fast import has_fast_bfloat16, in_walk, prepared
from ddpm.interop import unet_to_diffusers
from ddpm.unet import UNetConfig

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ON_GPU = DEVICE.type == "cuda"
PEERS = ("diffusers", "denoising-diffusion-pytorch")
SHIPPED = "as shipped"


@dataclass(frozen=True)
class Settings:
    """A library and how it is run; as shipped, every option is False."""

    library: str
    channels_last: bool = False
    bfloat16: bool = False  # autocast
    other_attention: bool = False  # diffusers: the plain formula, not the fused kernel; other peer: the reverse
    float32_norm: bool = False  # GroupNorm in float32
    compiled: bool = False
    bfloat16_weights: bool = False  # the whole network and its input, as by .to(torch.bfloat16)

    @property
    def how(self) -> str:
        """The options in words."""
        return " + ".join(name.replace("_", " ") for name, value in asdict(self).items() if value is True) or SHIPPED

    def __str__(self) -> str:
        return f"{self.library}, {self.how}"


OURS = Settings("ddpm", channels_last=True, bfloat16=has_fast_bfloat16(DEVICE))


def choices(library: str, mode: str) -> list[Settings]:
    """Every way to run a peer; on a GPU also compiled, but in bfloat16 and channels last only: compiling takes long.

    Weights in bfloat16 are for sampling alone: an optimiser's small steps would be lost in their rounding. Norms in
    float32 are for autocast, which converts what they answer.
    """
    names = ["channels_last", "bfloat16", "other_attention"]
    names += ["float32_norm"] if library == "diffusers" else []
    names += ["bfloat16_weights"] if mode == "forward" else []
    space = itertools.product((False, True), repeat=len(names))
    found = [Settings(library, **dict(zip(names, values, strict=True))) for values in space]
    if ON_GPU:
        found.append(Settings(library, channels_last=True, bfloat16=True, compiled=True))
        if mode == "forward":
            found.append(Settings(library, channels_last=True, bfloat16_weights=True, compiled=True))
    return [s for s in found if s.bfloat16 or not s.float32_norm]


class Float32Norm(nn.GroupNorm):
    """GroupNorm on float32 input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


def tuned(network: nn.Module, settings: Settings) -> nn.Module:
    """Put a network on the device, with the memory layout, weights, attention and norms of its settings."""
    from diffusers.models.attention_processor import Attention, AttnProcessor

    if settings.bfloat16_weights:
        network.to(torch.bfloat16)
    for module in network.modules():
        if isinstance(module, Attention) and settings.other_attention:
            module.set_processor(AttnProcessor())
        if type(module) is nn.GroupNorm and settings.float32_norm:
            module.float().__class__ = Float32Norm
    return network.to(DEVICE, memory_format=torch.channels_last if settings.channels_last else torch.contiguous_format)


def network_of(settings: Settings, unet: UNetConfig, image_size: int = 32) -> nn.Module:
    """A network of one library, called with (x, t)."""
    torch.manual_seed(0)
    config = DiffusionConfig(unet)
    network: nn.Module
    if settings.library == "denoising-diffusion-pytorch":
        from denoising_diffusion_pytorch import Unet

        levels = len(unet.channel_multipliers)
        network = Unet(
            unet.base_channels, dim_mults=unet.channel_multipliers, channels=unet.channels,
            full_attn=tuple(level in unet.attention_levels for level in range(levels)),
            flash_attn=settings.other_attention,
        )  # fmt: skip
    else:
        network = config.network()
        for parameter in network.parameters():  # so that no branch is silent
            if not parameter.any():
                nn.init.normal_(parameter, std=0.02)
        if settings.library == "diffusers":
            network = unet_to_diffusers(network, image_size).train()
    return tuned(network, settings)


def compiled(network: nn.Module) -> nn.Module:
    """A network that is compiled in its first call, with its kernels recorded in CUDA graphs."""
    network.compile(mode="reduce-overhead")
    return network


def wait() -> None:
    """Wait until the device has done its work."""
    if ON_GPU:
        torch.cuda.synchronize()


def answer_of(network: Any, settings: Settings, x: Tensor, t: Tensor) -> Tensor:
    """What a network with these settings says of x (batch, channels, height, width) at its times t (batch,)."""
    x = x.to(torch.bfloat16) if settings.bfloat16_weights else x
    with torch.autocast(DEVICE.type, torch.bfloat16, enabled=settings.bfloat16):
        output = network(x, t)
    return output.sample if settings.library == "diffusers" else output


def work_of(settings: Settings, mode: str, unet: UNetConfig, batch: int, size: int = 32) -> Callable[[], None]:
    """One training step or one forward pass in sampling, as a function without arguments."""
    network = network_of(settings, unet, size)
    if mode == "forward":
        network.eval().requires_grad_(False)
    run: Any = compiled(network) if settings.compiled else network
    if settings.library == "ddpm" and mode == "forward" and not settings.compiled:
        with prepared(network, settings.bfloat16):  # as in a walk
            run = in_walk(network, settings.bfloat16)
    x = torch.randn(batch, unet.channels, size, size, device=DEVICE)

    def answer(t: Tensor) -> Tensor:
        return answer_of(run, settings, x, t)

    if mode == "forward":
        one_time = torch.full((batch,), 500.0, device=DEVICE)

        def forward() -> None:
            with torch.no_grad():
                answer(one_time)
            wait()

        return forward
    times = torch.arange(batch, device=DEVICE) % 1000
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        F.mse_loss(answer(times).float(), x).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        wait()

    return step


def flops(settings: Settings, unet: UNetConfig, size: int = 32) -> float:
    """FLOPs of one image's forward pass, as torch counts them (convolutions and products)."""
    x, t = torch.randn(1, unet.channels, size, size, device=DEVICE), torch.zeros(1, device=DEVICE)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        answer_of(network_of(settings, unet, size), settings, x, t)
    return counter.get_total_flops()


def unet_of(base_channels: int, blocks_per_level: int = 2) -> UNetConfig:
    """The UNet of the comparison: multipliers 1, 2, 4, attention at the lowest level and in the middle."""
    return UNetConfig(base_channels=base_channels, blocks_per_level=blocks_per_level)
