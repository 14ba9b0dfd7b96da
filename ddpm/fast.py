"""What is done for speed: everything that depends on the machine is decided here, or named here.

- **bfloat16** for convolutions and products, where the device multiplies it in hardware (`has_fast_bfloat16`). Weights,
  optimiser and averages stay float32.
- **float32 where bfloat16 hurts**: the first two convolutions, where little noise still lies on a large image
  (`unet.network.Float32Conv2d`), and GroupNorm, whose backward in bfloat16 is up to four times slower on a CPU
  (`unet.network.GroupNorm`).
- **Weights converted once a walk**, not in every call (`prepared`, through `NetworkDenoiser.many_calls`).
- **Channels-last memory**, which convolutions are written for (`network` of every configuration).
- **Attention** by the fused kernel, but by the plain formula in training on a CPU, where the fused kernel's backward is
  ten times slower in bfloat16 (`unet.network.SelfAttention`).
- **Freed memory is kept** in training on a CPU (`keep_freed_memory`).
- **No waiting in a loop**: coefficients are Python floats; a training step waits only for its loss, to check that it is
  finite.

What each is worth, on which machine: `benchmarks/speed.py`.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["chosen_device", "computes_in_bfloat16", "has_fast_bfloat16", "keep_freed_memory", "prepared"]


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether this device multiplies bfloat16 in hardware, faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # torch has no public ones
        return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return False


def computes_in_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether convolutions and matrix products of this precision, "auto" or "float32", are bfloat16 on this device."""
    return precision == "auto" and has_fast_bfloat16(device)


def chosen_device(device: str | torch.device) -> torch.device:
    """The device of this name; "auto" is a GPU where there is one."""
    if device != "auto":
        return torch.device(device)
    own = os.environ.get("LOCAL_RANK")  # a launcher's process has a GPU of its own
    return torch.device(("cuda" if own is None else f"cuda:{own}") if torch.cuda.is_available() else "cpu")


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for this process's next use; returns whether there is a glibc to ask."""
    m_mmap_max, m_trim_threshold, m_top_pad = -4, -1, -2  # malloc.h
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # macOS, Windows, musl
        return False
    return all(mallopt(*setting) for setting in ((m_mmap_max, 0), (m_trim_threshold, 2**31 - 1), (m_top_pad, 2**26)))


@contextmanager
def prepared(network: nn.Module) -> Iterator[None]:
    """A context in which the weights of convolutions and linear layers are bfloat16: autocast has none to convert.

    Afterwards the network holds its own weights again. Layers of a derived class, such as
    `unet.network.Float32Conv2d`, are left alone.
    """
    layers = [module for module in network.modules() if type(module) in (nn.Conv2d, nn.Linear)]
    weights = [weight for layer in layers for weight in layer.parameters(recurse=False)]
    kept = [(weight, weight.data) for weight in weights if weight.dtype == torch.float32]  # none in a walk in a walk
    try:
        for weight, values in kept:
            weight.data = values.to(torch.bfloat16, memory_format=torch.preserve_format)
        yield
    finally:
        for weight, values in kept:
            weight.data = values
