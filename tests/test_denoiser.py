import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm.denoiser import TARGETS, Clipped, NetworkDenoiser, Prediction, prediction_of, target_of
from ddpm.oracles import Gaussian
from ddpm.schedule import linear
from ddpm.unet import UNet, UNetConfig


@given(st.sampled_from(TARGETS), st.floats(1, 1000), st.integers(0, 100))
def test_every_target_reads_back_as_the_same_x0_and_eps(target, t, seed):
    schedule = linear()
    x0, eps = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    signal, noise = schedule.signal(t), schedule.noise(t)
    output = target_of(target, x0, eps, signal, noise)
    read = prediction_of(target, output, schedule.add_noise(x0, t, eps), signal, noise)
    assert torch.allclose(read.x0, x0, atol=1e-10)
    assert torch.allclose(read.eps, eps, atol=1e-10)


def test_v_is_orthogonal_to_x():
    """Salimans & Ho, appendix D: x = cos x0 + sin eps and v = cos eps - sin x0 are a rotation."""
    signal, noise = linear().signal(300), linear().noise(300)
    rotation = torch.tensor([[signal, noise], [-noise, signal]], dtype=torch.float64)
    assert torch.allclose(rotation @ rotation.T, torch.eye(2, dtype=torch.float64), atol=1e-14)
    x0, eps = torch.tensor([0.3, -1.2], dtype=torch.float64)
    assert target_of("v", x0, eps, signal, noise).item() == pytest.approx((rotation @ torch.stack([x0, eps]))[1].item())


class Recorder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.times = None

    def forward(self, x, t):
        self.times = t
        return torch.zeros_like(x) + self.weight


def test_the_network_is_called_with_diffusers_index():
    network = Recorder()
    denoise = NetworkDenoiser(network, linear())
    denoise(torch.zeros(2, 1, 8, 8), 1)
    assert network.times.tolist() == [0, 0]
    denoise(torch.zeros(2, 1, 8, 8), torch.tensor([7.5, 1000]))
    assert network.times.tolist() == [6.5, 999]
    denoise(torch.zeros(2, 1, 8, 8), torch.tensor(500))
    assert network.times.tolist() == [499, 499]
    for t, message in ((0, "t is 0"), (torch.zeros(2), r"t is tensor\(\[0., 0.")):
        with pytest.raises(ValueError, match=message):
            denoise(torch.zeros(2, 1, 8, 8), t)
        with pytest.raises(ValueError, match=message):
            Clipped(denoise)(torch.zeros(2, 1, 8, 8), t)


def test_the_answer_keeps_the_states_dtype():
    denoise = NetworkDenoiser(UNet(UNetConfig(base_channels=8, head_channels=8)), linear(), "v")
    prediction = denoise(torch.randn(2, 1, 8, 8, dtype=torch.float64), 500)
    assert prediction.x0.dtype == prediction.eps.dtype == torch.float64


@pytest.mark.parametrize(("option", "value"), [("target", "epsilon"), ("precision", "half")])
def test_an_illegal_option_is_refused_at_construction(option, value):
    with pytest.raises(ValueError, match=f"{option} is '{value}'"):
        NetworkDenoiser(Recorder(), linear(), **{option: value})


def test_clipping_keeps_x0_and_eps_consistent():
    schedule = linear()
    denoise = Clipped(Gaussian(0.0, 2.0, schedule))
    x = torch.linspace(-4, 4, 9, dtype=torch.float64)[:, None]
    prediction = denoise(x, 200)
    assert prediction.x0.abs().max() == 1
    assert torch.allclose(schedule.add_noise(prediction.x0, 200, prediction.eps), x, atol=1e-12)
    assert isinstance(prediction, Prediction)
    assert torch.equal(copy.deepcopy(denoise)(x, 200).x0, prediction.x0)
