"""Our UNet against diffusers', both ways."""

import pytest
import torch

from ddpm.interop import unet_from_diffusers, unet_to_diffusers
from ddpm.unet import UNet, UNetConfig

CONFIGS = [
    UNetConfig(),
    UNetConfig(blocks_per_level=1),
    UNetConfig(
        channels=3, base_channels=16, channel_multipliers=(1, 2, 2, 4), attention_levels=(1, 2), head_channels=8
    ),
]


def randomised(config):
    torch.manual_seed(0)
    network = UNet(config).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_uniform_(parameter, a=5**0.5)
        else:
            torch.nn.init.normal_(parameter, 0.5, 0.2)
    return network


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_eps_agrees_both_ways(config):
    ours = randomised(config)
    theirs = unet_to_diffusers(ours, 32)
    x, t = torch.randn(3, config.channels, 32, 32), torch.tensor([0, 41, 999])
    expected = theirs(x, t).sample
    assert expected.std() > 0.01
    assert (ours(x, t) - expected).abs().max() < 1e-5 * max(1.0, expected.abs().max().item())
    back = unet_from_diffusers(theirs.state_dict(), config)
    assert torch.equal(back(x, t), ours(x, t))


def test_weights_of_another_shape_are_refused():
    theirs = unet_to_diffusers(UNet(CONFIGS[1]), 32).state_dict()
    with pytest.raises(ValueError, match="down_blocks"):
        unet_from_diffusers(theirs, CONFIGS[0])
    with pytest.raises(ValueError, match="size mismatch"):
        unet_from_diffusers(theirs, UNetConfig(blocks_per_level=1, base_channels=64))
