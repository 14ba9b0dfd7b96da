"""Networks with random weights."""

import torch


def stirred(network, std=0.1):
    """The network with random weights in place of those that it begins with, of which some are zero.

    Torch is seeded first: these weights, and what a test draws next, are the same at every run.
    """
    torch.manual_seed(0)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=std)
    return network
