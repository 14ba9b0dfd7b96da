"""Small networks, and random weights."""

import torch

from ddpm.unet import UNetConfig

#: Of a network that is trained, or asked, in milliseconds.
SMALL_UNET = UNetConfig(base_channels=8, head_channels=8, blocks_per_level=1)


def stirred(network, std=0.1):
    """The network with random weights in place of those that it begins with, of which some are zero.

    Torch is seeded first: these weights, and what a test draws next, are the same at every run.
    """
    torch.manual_seed(0)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=std)
    return network
