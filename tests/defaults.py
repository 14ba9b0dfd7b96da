"""Torch's other defaults."""

from contextlib import contextmanager

import torch


@contextmanager
def default(kind):
    """A block under another default type, or another default device, of torch's."""
    if kind == "meta":
        with torch.device("meta"):
            yield
        return
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
