import contextlib
import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm import fast, likelihood
from ddpm.denoiser import (
    TARGETS,
    Clipped,
    Denoiser,
    Guided,
    NetworkDenoiser,
    Prediction,
    Wrapper,
    prediction_of,
    target_of,
)
from ddpm.oracles import Gaussian
from ddpm.samplers import ddim, final
from ddpm.schedule import cosine, linear
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


def test_guidance_divides_the_densities_of_two_gaussians():
    """The scores' w s1 - (w - 1) s2 is that of p1^w / p2^(w - 1): another Gaussian, at every time."""
    schedule, x, t, weight = linear(), torch.linspace(-4, 4, 9, dtype=torch.float64)[:, None], 300, 1.7
    narrow, wide = Gaussian(0.5, 0.8, schedule), Gaussian(0.2, 1.5, schedule)
    guided = Guided(narrow, wide, weight)(x, t)
    score = -guided.eps / schedule.noise(t)
    assert torch.allclose(score, weight * narrow.score(x, t) - (weight - 1) * wide.score(x, t), atol=1e-12)
    assert torch.allclose(schedule.add_noise(guided.x0, t, guided.eps), x, atol=1e-12)


def test_guidance_of_weight_1_or_by_itself_changes_nothing():
    schedule = linear()
    better, worse = Gaussian(0.5, 0.8, schedule), Gaussian(0.2, 1.5, schedule)
    x, grid = torch.randn(5, 1, dtype=torch.float64), schedule.timesteps(10)
    alone = final(ddim(better, x, grid))
    assert torch.equal(final(ddim(Guided(better, worse, 1), x, grid)), alone)
    assert torch.equal(final(ddim(Guided(better, better, 3), x, grid)), alone)
    assert not torch.allclose(final(ddim(Guided(better, worse, 3), x, grid)), alone, atol=0.1)


def test_both_networks_are_made_ready_for_a_walk():
    better, worse = (NetworkDenoiser(UNet(UNetConfig(base_channels=8, head_channels=8)), linear(), "v") for _ in "ab")
    entered = []
    for each in (better, worse):
        each.many_calls = lambda each=each: entered.append(each) or contextlib.nullcontext()
    guided = Guided(better, worse, 1.5)
    with guided.many_calls():
        assert entered == [better, worse]
    assert guided.device == better.device
    with Guided(Gaussian(0.0, 1.0, linear()), Gaussian(0.0, 2.0, linear()), 1.5).many_calls():
        pass


def test_an_illegal_guide_is_refused():
    denoise = Gaussian(0.0, 1.0, linear())
    for weight in (0.9, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"weight is {weight}; it must be finite and at least 1"):
            Guided(denoise, denoise, weight)
    with pytest.raises(ValueError, match="guide has the schedule"):
        Guided(denoise, Gaussian(0.0, 1.0, cosine()), 2)
    small, large = (NetworkDenoiser(Recorder(), linear(), image_shape=(1, size, size)) for size in (16, 32))
    with pytest.raises(ValueError, match=r"guide draws images of shape \(1, 16, 16\); .* denoiser's, \(1, 32, 32\)"):
        Guided(large, small, 2)


class Halving(Denoiser):
    """The least that a denoiser must say."""

    schedule = linear()

    def __call__(self, x, t):
        return Prediction(x / 2, x)


def test_a_denoiser_needs_a_schedule_and_a_call_and_has_defaults_for_the_rest():
    denoise = Halving()
    assert (denoise.device, denoise.image_shape, denoise.precision) == (torch.device("cpu"), None, "float32")
    with denoise.many_calls():
        assert torch.equal(denoise(torch.ones(2), 5).x0, torch.full((2,), 0.5))
    with pytest.raises(TypeError, match="abstract"):
        Denoiser()


def network(precision):
    unet = UNet(UNetConfig(base_channels=8, head_channels=8))
    return NetworkDenoiser(unet, linear(), precision=precision, image_shape=(1, 8, 8))


@pytest.mark.parametrize("wrap", [Wrapper, Clipped, lambda inner: Guided(inner, network("float32"), 2)])
def test_a_wrapper_passes_on_what_the_denoiser_inside_declares(wrap):
    inner = network("auto")
    wrapper = wrap(inner)
    assert (wrapper.schedule, wrapper.image_shape, wrapper.precision) == (inner.schedule, (1, 8, 8), "auto")
    inner.network.to("meta")
    assert wrapper.device.type == "meta"


def test_a_walk_with_a_wrapper_prepares_the_network_inside():
    inner, entered = network("auto"), []
    inner.many_calls = lambda: entered.append(inner) or contextlib.nullcontext()
    with Wrapper(Clipped(inner)).many_calls():
        assert entered == [inner]


def test_a_guide_in_bfloat16_makes_the_whole_bfloat16():
    assert Guided(network("float32"), network("float32"), 2).precision == "float32"
    assert Guided(network("float32"), network("auto"), 2).precision == "auto"


@pytest.mark.parametrize("wrap", [Clipped, lambda inner: Guided(network("float32"), inner, 2)])
def test_a_density_is_not_integrated_in_bfloat16_however_the_network_is_wrapped(wrap, monkeypatch):
    monkeypatch.setattr(fast, "has_fast_bfloat16", lambda device: True)
    with pytest.raises(ValueError, match="precision is 'auto', bfloat16 on this device"):
        likelihood.flow_nll(wrap(network("auto")), torch.zeros(1, 1, 8, 8))
