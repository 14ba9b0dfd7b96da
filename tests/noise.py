"""Normal noise that is the same at every run."""

import torch


def seeded(seed):
    """In place of `torch.randn_like`: its draws come from a generator of their own, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype)
