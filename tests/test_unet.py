import pytest
import torch

from ddpm.unet import GroupNorm, UNet, UNetConfig, sinusoids

SMALL = UNetConfig(base_channels=8, head_channels=8)


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        UNetConfig(
            channels=3, base_channels=12, channel_multipliers=(1, 1, 2, 2), attention_levels=(1, 3), head_channels=12
        ),
        UNetConfig(base_channels=4, channel_multipliers=(3,), blocks_per_level=1, attention_levels=(), head_channels=4),
    ],
)
def test_shape_is_kept_at_every_legal_size(config):
    network = UNet(config)
    for size in (config.divisor, 3 * config.divisor):
        x = torch.randn(2, config.channels, size, 2 * size)
        assert network(x, torch.tensor([0.0, 999.5])).shape == x.shape


def test_size_of_the_shipped_and_of_the_measured_network():
    for blocks, parameters in ((1, 2_734_945), (2, 3_939_393)):
        assert sum(p.numel() for p in UNet(UNetConfig(blocks_per_level=blocks)).parameters()) == parameters


def test_a_new_network_answers_its_last_bias_and_every_weight_learns():
    torch.manual_seed(0)
    network = UNet(SMALL)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([3.0, 700.0])
    assert torch.equal(network(x, t), network.conv_out.bias.expand(2, 1, 8, 8))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):  # zeros open one layer a step
        optimiser.zero_grad()
        (network(x, t) - x.flip(3)).square().mean().backward()
        optimiser.step()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # A key's bias adds the same to all scores of a query, which softmax cancels.
    assert [name for name in silent if not name.endswith("key.bias")] == []


def test_time_and_far_pixels_matter():
    torch.manual_seed(0)
    network = UNet(SMALL)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x = torch.randn(1, 1, 32, 32, requires_grad=True)
    early, late = network(x, torch.tensor([1.0])), network(x, torch.tensor([900.0]))
    assert not torch.allclose(early, late)
    gradient = torch.autograd.grad(early[0, 0, 0, 0], x)[0]
    assert gradient[0, 0, -1, -1] != 0


@pytest.mark.parametrize(
    ("height", "width", "nearest"), [(28, 30, "28 or 32"), (2, 4, "such as 4"), (33, 32, "32 or 36")]
)
def test_an_illegal_size_is_refused_with_the_nearest_legal_ones(height, width, nearest):
    with pytest.raises(ValueError, match=nearest):
        SMALL.check_image(height, width)
    with pytest.raises(ValueError, match="multiple of 4"):
        UNet(SMALL)(torch.zeros(1, 1, height, width), torch.zeros(1))


@pytest.mark.parametrize(
    "options",
    [
        {"base_channels": 30},
        {"base_channels": 0},
        {"channel_multipliers": ()},
        {"channel_multipliers": (1, 0)},
        {"attention_levels": (3,)},
        {"head_channels": 48},
        {"dropout": 1.0},
        {"blocks_per_level": 0},
    ],
)
def test_an_illegal_option_is_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        UNetConfig(**options)


def test_groups_follow_the_narrowest_width():
    assert [UNetConfig(base_channels=c, head_channels=c).groups for c in (4, 12, 32, 64, 128)] == [1, 1, 8, 16, 32]
    assert all(m.num_groups == 2 for m in UNet(SMALL).modules() if isinstance(m, GroupNorm))


def test_sinusoids_take_real_times():
    embedding = sinusoids(torch.tensor([0.0, 0.5]), 8)
    assert torch.equal(embedding[0], torch.tensor([0.0, 0, 0, 0, 1, 1, 1, 1]))
    assert embedding[1, 0].item() == pytest.approx(torch.sin(torch.tensor(0.5)).item())


def test_both_forms_of_attention_agree():
    torch.manual_seed(0)
    network = UNet(SMALL)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([3.0, 700.0])
    with torch.no_grad():
        fused = network(x, t)
    assert torch.allclose(network(x, t), fused, atol=1e-5)
