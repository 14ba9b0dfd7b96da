"""What the networks of several kinds of model are made of, and what a training of several processes shares."""

import pytest
import torch

from ddpm import autoencoder
from ddpm.autoencoder import AutoencoderConfig
from ddpm.denoiser import NetworkDenoiser
from ddpm.gan import gradient_penalty, mlp
from ddpm.schedule import linear
from ddpm.unet import CONVENTIONS, UNet, UNetConfig, feature_maps
from ddpm.unet.blocks import Float32Conv2d, GroupNorm, ResidualBlock, SelfAttention
from tests.networks import stirred


def test_a_block_drops_features_in_training_alone():
    torch.manual_seed(0)
    block = ResidualBlock(UNetConfig(base_channels=8, head_channels=8, dropout=0.5), 8, 8)
    x, embedding = torch.randn(1, 8, 4, 4), torch.randn(1, 32)
    assert not torch.equal(block(x, embedding), block(x, embedding))
    block.eval()
    assert torch.equal(block(x, embedding), block(x, embedding))
    assert block.dropout.p == 0.5


def test_an_mlp_leaks_a_fifth_after_all_layers_but_the_last():
    first, leak, last = mlp([1, 1, 1])
    assert leak(torch.tensor([-1.0, 2.0])).tolist() == pytest.approx([-0.2, 2.0])
    assert isinstance(first, torch.nn.Linear)
    assert isinstance(last, torch.nn.Linear)


def test_the_penalty_has_a_gradient_of_its_own():
    """Of the logit w x it is w^2, whose gradient in w is 2 w."""
    w, x = torch.tensor(3.0, requires_grad=True), torch.ones(5, 1, requires_grad=True)
    gradient_penalty((w * x).sum(1), x).backward()
    assert w.grad.item() == pytest.approx(6)


def test_processes_agree_on_one_sigma(monkeypatch):
    """Two processes of equal shares, the other with four times this one's errors: sigma^2 is 2.5 times this one's."""
    model = AutoencoderConfig((1, 8, 8), 8, (1, 2), latent_dim=5, variational=True).network()
    x, noise = torch.rand(4, 1, 8, 8), torch.zeros(4, 5)
    alone = (model.decode(model.encode(x)) - x).square().mean().log().item() / 2
    distributed = autoencoder.distributed
    for name, answer in (
        ("is_available", lambda: True),
        ("is_initialized", lambda: True),
        ("get_world_size", lambda: 2),
    ):
        monkeypatch.setattr(distributed, name, answer)
    monkeypatch.setattr(distributed, "all_reduce", lambda mean: mean.mul_(5))
    model.bound(x, noise)
    together = alone + torch.tensor(2.5).log().item() / 2
    assert model.log_sigma.item() == pytest.approx(0.02 * together, rel=1e-4)


def test_sigma_stays_where_nothing_is_trained_and_carries_no_gradient():
    model = AutoencoderConfig((1, 8, 8), 8, (1, 2), latent_dim=5, variational=True).network()
    x, noise = torch.rand(4, 1, 8, 8), torch.zeros(4, 5)
    for _ in range(2):  # a buffer that carried one would fail in the second step
        model.bound(x, noise)[0].mean().backward()
        assert not model.log_sigma.requires_grad
    model.eval()
    before = model.log_sigma.clone()
    model.bound(x, noise)
    assert torch.equal(model.log_sigma, before)


def test_a_denoiser_puts_its_network_into_evaluation():
    network = UNet(UNetConfig(base_channels=8, head_channels=8, dropout=0.5)).train()
    denoise = NetworkDenoiser(network, linear())
    assert not any(module.training for module in denoise.network.modules())


@pytest.mark.parametrize("training", [True, False])
def test_attention_by_hand(training):
    """Each head: softmax of q k / sqrt(d) over all pixels of a map that is no square, times v; added to the map."""
    attention = stirred(SelfAttention(UNetConfig(base_channels=8, head_channels=4), 8), 1)
    x = torch.randn(1, 8, 2, 3)
    tokens = attention.norm(x)[0].flatten(1).T  # (pixels, channels)
    q, k, v = (project(tokens) for project in (attention.query, attention.key, attention.value))
    heads = [
        torch.softmax(q[:, d : d + 4] @ k[:, d : d + 4].T / 2, dim=1) @ v[:, d : d + 4] for d in (0, 4)
    ]  # 2 is the root of 4 channels a head
    wanted = x + attention.out(torch.cat(heads, dim=1)).T.reshape(1, 8, 2, 3)
    with torch.set_grad_enabled(training):
        assert torch.allclose(attention(x), wanted, atol=1e-4)


def test_a_new_block_is_its_shortcut_until_it_learns():
    block = UNet(UNetConfig(base_channels=8, head_channels=8)).down[0].blocks[0]
    assert not block.conv2.weight.any()
    assert block.conv1.weight.any()


def test_what_stays_in_float32_under_bfloat16():
    """The first two convolutions, and every GroupNorm."""
    network = UNet(UNetConfig(base_channels=8, head_channels=8))
    exact = [name for name, module in network.named_modules() if isinstance(module, Float32Conv2d)]
    assert exact == ["conv_in", "down.0.blocks.0.conv1"]
    x = torch.randn(1, 8, 4, 4, dtype=torch.bfloat16)
    norm, convolution = GroupNorm(2, 8), Float32Conv2d(8, 8, 3)
    assert norm(x).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert convolution(x.float()).dtype == torch.float32


def test_a_level_that_doubles_first_is_read_after_its_blocks():
    config = UNetConfig(base_channels=8, head_channels=8, resample_last=True, up_width="finer")
    blocks, resampled = (feature_maps(config, 64, report) for report in ("block", "resampled"))
    assert [row for row in resampled if row.role == "up"] == [row for row in blocks if row.role == "up"]


def test_convention_c_has_attention_at_16_pixels_as_ho_et_al_do():
    config, size = CONVENTIONS["C"]["config"], CONVENTIONS["C"]["image_size"]
    assert [size >> level for level in config.attention_levels] == [16]
