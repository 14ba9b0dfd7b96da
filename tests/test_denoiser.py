import contextlib
import copy
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm import fast, langevin, likelihood
from ddpm.denoiser import Clipped, Denoiser, Guided, NetworkDenoiser, Wrapper
from ddpm.oracles import EmpiricalData, Gaussian, GaussianMixture
from ddpm.samplers import ddim, final
from ddpm.sampling import sample
from ddpm.schedule import (
    NoiseSchedule,
    cosine,
    exploding,
    from_betas,
    linear,
    linear_zero_snr,
    straight,
    zero_terminal_snr,
)  # fmt: skip
from ddpm.targets import TARGETS, Prediction, prediction_of, target_of
from ddpm.unet import UNet, UNetConfig
from tests.networks import SMALL_UNET, stirred


def home(target):
    """The schedule that a target is at home on."""
    return straight() if target == "flow" else linear()


@given(st.sampled_from(TARGETS), st.floats(1, 1000), st.integers(0, 100))
def test_every_target_reads_back_as_the_same_x0_and_eps(target, t, seed):
    schedule = home(target)
    x0, eps = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    signal, noise = schedule.signal(t), schedule.noise(t)
    output = target_of(target, x0, eps, signal, noise)
    read = prediction_of(target, output, schedule.add_noise(x0, t, eps), signal, noise)
    assert torch.allclose(read.x0, x0, atol=1e-12 / signal if target == "eps" else 1e-12)
    assert torch.allclose(read.eps, eps, atol=1e-12)


@given(st.floats(1, 1000), st.integers(0, 100))
def test_the_preconditioning_of_karras_is_v_where_the_data_has_the_variance_1(t, seed):
    """Karras et al. (2022), eq. 7 and table 1 with sigma_data = 1: what is left for their network F to answer is -v."""
    x0, eps = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    signal, noise = linear().signal_and_noise(t)
    sigma = noise / signal
    c_skip, c_out, c_in = 1 / (sigma**2 + 1), sigma / (sigma**2 + 1) ** 0.5, 1 / (sigma**2 + 1) ** 0.5
    theirs = x0 + sigma * eps
    assert torch.allclose(c_in * theirs, linear().add_noise(x0, t, eps), atol=1e-12)  # what the network sees
    F = (x0 - c_skip * theirs) / c_out  # what it is to answer, eq. 8
    assert torch.allclose(-F, target_of("v", x0, eps, signal, noise), atol=1e-10)
    assert torch.allclose(c_skip * theirs + c_out * F, prediction_of("v", -F, c_in * theirs, signal, noise).x0)


@pytest.mark.parametrize("times", [300, torch.tensor([0.0, 300.0, 1000.0])], ids=["number", "tensor"])
@pytest.mark.parametrize(
    ("target", "schedule", "words"),
    [
        ("v", straight(), r"target is 'v', for which signal\^2 \+ noise\^2 must be 1; it is off by 0.42"),
        ("flow", linear(), r"target is 'flow', for which signal \+ noise must be 1; it is off by 0.41"),
    ],
)
def test_a_target_that_a_schedule_cannot_have_is_refused(target, schedule, words, times):
    x = torch.zeros(3, 1)
    with pytest.raises(ValueError, match=words):
        prediction_of(target, x, x, *schedule.coefficients(times, x))


@pytest.mark.parametrize(
    ("schedule", "legal"),
    [
        (linear(), "eps, x0, v"),
        (zero_terminal_snr(linear()), "x0, v"),
        (straight(), "x0, flow"),
        (exploding(), "eps, x0"),
    ],
)
def test_the_targets_of_a_schedule_are_named_where_another_is_asked_for(schedule, legal):
    for target in TARGETS:
        if target in legal.split(", "):
            assert NetworkDenoiser(Recorder(), schedule, target).target == target
        else:
            words = rf"target is '{target}'; on the schedule {re.escape(repr(schedule))} legal are {legal}$"
            with pytest.raises(ValueError, match=words):
                NetworkDenoiser(Recorder(), schedule, target)


def test_flow_is_the_velocity_of_the_straight_path():
    schedule, (x0, eps) = straight(100), torch.randn(2, 4, 3, dtype=torch.float64)
    apart = schedule.add_noise(x0, 50.0, eps) - schedule.add_noise(x0, 30.0, eps)
    assert torch.allclose(target_of("flow", x0, eps, 0.5, 0.5), 100 * apart / 20, atol=1e-13)


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


class Knows(torch.nn.Module):
    """A network without weights that answers what an oracle sees, at the times of a training and no others."""

    def __init__(self, oracle, target):
        super().__init__()
        self.oracle, self.target = oracle, target

    def forward(self, x, index):
        assert (index >= 0).all()
        t = index.double() + 1
        coefficients = self.oracle.schedule.coefficients(t, x.double())
        return target_of(self.target, *self.oracle(x.double(), t), *coefficients).to(x)


def mixture(schedule):
    return GaussianMixture([1, 2, 3], [[-1.0, 0.0], [0.5, 1.0], [1.0, -1.0]], [0.2, 0.3, 0.15], schedule)


MIXTURE = mixture(linear())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("t", [0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_below_time_1_the_networks_score_at_1_is_taken(target, t):
    """Of a mixture whose bumps are 15 times as wide as the noise at time 1: right to (1 / 15)^2."""
    schedule = home(target)
    oracle = mixture(schedule)
    x0 = oracle.sample(500, torch.Generator().manual_seed(0))
    x = schedule.add_noise(x0, t, torch.randn(500, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    denoise = NetworkDenoiser(Knows(oracle, target), schedule, target)
    seen, exact = denoise(x, t), oracle(x, t)
    assert (seen.eps - exact.eps).abs().max() < exact.eps.abs().max() / 15**2 * 1.5
    assert (seen.x0 - exact.x0).abs().max() < schedule.noise(t) * exact.eps.abs().max() / 15**2 * 1.5
    assert torch.allclose(schedule.add_noise(seen.x0, t, seen.eps), x, atol=1e-12)


@pytest.mark.parametrize("target", TARGETS)
def test_below_time_1_an_image_is_brought_to_the_contrast_of_time_1(target):
    """On a schedule that loses a tenth of the variance in its first step, far from the origin."""
    schedule = straight(3) if target == "flow" else NoiseSchedule([1.0, 0.9, 0.1])
    oracle = Gaussian(50.0, 5.0, schedule)
    x = schedule.add_noise(torch.tensor([[45.0], [55.0]], dtype=torch.float64), 0.3, torch.zeros(2, 1))
    seen, exact = NetworkDenoiser(Knows(oracle, target), schedule, target)(x, 0.3), oracle(x, 0.3)
    assert torch.allclose(seen.eps, exact.eps, rtol=0.01)
    assert torch.allclose(seen.x0, exact.x0, rtol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_every_image_of_a_batch_has_the_answer_of_its_own_time(target):
    """From 1 up, bit for bit that of the time as a number, below as near as float32 rounds."""
    times = [0.01, 0.5, 1.0, 1.5, 200.0, 1000.0]
    denoise = NetworkDenoiser(Knows(mixture(home(target)), target), home(target), target)
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    together = denoise(x, torch.tensor(times))
    for row, t in enumerate(times):
        for alone, seen in zip(denoise(x[row : row + 1], t), together, strict=True):
            assert torch.allclose(alone[0], seen[row], rtol=0 if t >= 1 else 1e-5, atol=0 if t >= 1 else 1e-6)


def test_below_time_1_gradients_are_finite():
    """Also where a schedule has no signal left at T, and the ratio of two signals there is 0 / 0."""
    schedule = zero_terminal_snr(linear())
    oracle = GaussianMixture([1, 2], [[-1.0, 0.0], [1.0, 1.0]], 0.3, schedule)
    x = torch.randn(3, 2, requires_grad=True)
    denoise = NetworkDenoiser(Knows(oracle, "x0"), schedule, "x0")
    sum(part.sum() for part in denoise(x, torch.tensor([0.3, 1.0, 1000.0]))).backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_a_network_that_was_cast_computes_in_that_type(dtype, precision):
    networks = [stirred(UNet(SMALL_UNET)).requires_grad_(False) for _ in range(2)]
    exact, cast = (NetworkDenoiser(network, linear(), "v", precision, (1, 8, 8)) for network in networks)
    cast.network.to(dtype)
    images, expected = (sample(each, 3, steps=5, progress=False) for each in (cast, exact))
    assert images.dtype == torch.float32
    error = (images - expected).square().mean().sqrt() / expected.std()
    assert error < 0.05
    if dtype == torch.float64 and precision == "float32":
        assert error < 1e-6


@pytest.mark.parametrize("shape", [(2,), (4, 1), (5,), (1, 4), (0,)])
@pytest.mark.parametrize(
    "answer",
    [
        "network", "clipped", "guided", "gaussian", "mixture", "data", "score", "log_density", "score of data",
        "log_density of a gaussian", "add_noise",
    ],
)  # fmt: skip
def test_times_that_are_not_one_for_each_image_are_refused(shape, answer):
    oracle = EmpiricalData(torch.randn(5, 2), linear())
    calls = {
        "network": NetworkDenoiser(Recorder(), linear()),
        "clipped": Clipped(oracle),
        "guided": Guided(oracle, oracle, 2),
        "gaussian": Gaussian(0.0, 1.0, linear()),
        "mixture": MIXTURE,
        "data": oracle,
        "score": MIXTURE.score,
        "log_density": MIXTURE.log_density,
        "score of data": oracle.score,
        "log_density of a gaussian": Gaussian(0.0, 1.0, linear()).log_density,
        "add_noise": lambda x, t: linear().add_noise(x, t, x),
    }
    with pytest.raises(ValueError, match=r"t has shape \(.*\); it must be a number, or a time for each image, \(4,\)$"):
        calls[answer](torch.zeros(4, 2), torch.full(shape, 5.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.complex64])
def test_states_of_sixteen_bits_or_of_integers_are_refused_everywhere(dtype):
    """Twenty steps from one would be off by 0.18 in every pixel."""
    x = torch.zeros(3, 2, dtype=dtype)
    oracles = (Gaussian(0.0, 1.0, linear()), MIXTURE, EmpiricalData(torch.randn(5, 2), linear()))
    calls = [NetworkDenoiser(Recorder(), linear()), *oracles, *(oracle.score for oracle in oracles)]
    calls += [Clipped(oracles[0]), Guided(oracles[0], oracles[0], 2), *(oracle.log_density for oracle in oracles)]
    calls += [lambda x, t: linear().add_noise(x, t, x), lambda x, t: likelihood.flow_nll(oracles[0], x, t)]
    calls += [lambda x, t: likelihood.variational_bound(oracles[0], x, [t, 0])]
    calls += [lambda x, t: next(langevin.langevin(torch.neg, x, step_size=0.1, steps=1))]
    calls += [lambda x, t: next(langevin.metropolis_langevin(torch.sum, torch.neg, x, step_size=0.1, steps=1))]
    for call in calls:
        with pytest.raises(TypeError, match=f"x0? is {dtype}; it must be float32 or float64"):
            call(x, 5)


def test_the_answer_keeps_the_states_dtype():
    denoise = NetworkDenoiser(UNet(UNetConfig(base_channels=8, head_channels=8)), linear(), "v")
    prediction = denoise(torch.randn(2, 1, 8, 8, dtype=torch.float64), 500)
    assert prediction.x0.dtype == prediction.eps.dtype == torch.float64


@pytest.mark.parametrize(
    ("option", "value"), [("target", "epsilon"), ("precision", "half"), ("image_shape", 32), ("image_shape", (1, 0, 8))]
)
def test_an_illegal_option_is_refused_at_construction(option, value):
    with pytest.raises(ValueError, match=f"{option} is {re.escape(repr(value))}"):
        NetworkDenoiser(Recorder(), linear(), **{option: value})


def test_what_is_no_network_no_schedule_no_denoiser_or_no_number_is_refused_at_construction():
    gaussian = Gaussian(0.0, 1.0, linear())
    for make, message in (
        (lambda: NetworkDenoiser(torch.tanh, linear()), "network is builtin_function_or_method; it must be a torch.nn"),
        (
            lambda: NetworkDenoiser(Recorder(), "linear"),
            "schedule is str; it must be a ddpm.schedule.table.NoiseSchedule",
        ),
        (lambda: Clipped(torch.tanh), "denoise is builtin.*; it must be a ddpm.denoiser.interface.Denoiser"),
        (lambda: Guided(gaussian, None, 2), "guide is NoneType; it must be a ddpm.denoiser.interface.Denoiser"),
        (lambda: Guided(gaussian, gaussian, "2"), "weight is '2'; it must be a number"),
        (lambda: Clipped(gaussian, None, 1), "low is None; it must be a number"),
        (lambda: gaussian(torch.zeros(2, 1), "5"), "t is '5'; it must be a number"),
        (lambda: gaussian([0.0], 5), "x is list; it must be a tensor of float32 or float64"),
    ):
        with pytest.raises(TypeError, match=message):
            make()


@pytest.mark.parametrize(("low", "high"), [(1, -1), (0, 0), (float("nan"), 1), (-1, float("nan"))])
def test_limits_that_leave_nothing_between_them_are_refused(low, high):
    with pytest.raises(ValueError, match=f"low is {low} and high is {high}; low must be below high"):
        Clipped(Gaussian(0.0, 1.0, linear()), low, high)


def test_a_network_that_answers_something_else_is_named():
    class Wrong(Recorder):
        def __init__(self, answer):
            super().__init__()
            self.answer = answer

        def forward(self, x, t):
            return self.answer(x)

    x = torch.zeros(2, 1, 8, 8)
    with pytest.raises(ValueError, match=r"network answers \(2, 8, 8\) at x of shape \(2, 1, 8, 8\)"):
        NetworkDenoiser(Wrong(lambda x: x[:, 0]), linear())(x, 5)
    with pytest.raises(TypeError, match="network answers tuple; it must be a tensor like x"):
        NetworkDenoiser(Wrong(lambda x: (x,)), linear())(x, 5)


@pytest.mark.parametrize("convert", [target_of, prediction_of])
def test_a_target_of_another_name_is_not_taken_for_v(convert):
    arguments = ["epsilon", torch.zeros(1), torch.zeros(1), 0.6, 0.8]
    with pytest.raises(ValueError, match="target is 'epsilon'; legal are eps, x0, v"):
        convert(*arguments)


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "wrap", [lambda inner: inner, Clipped, Wrapper, lambda inner: Guided(network("float32"), inner, 2),
             lambda inner: Guided(inner, network("float32"), 2)],
)  # fmt: skip
def test_nor_with_weights_of_sixteen_bits(wrap, dtype):
    inner = network("float32")
    wrapped = wrap(inner)
    assert not wrapped.sixteen_bits
    inner.network.to(dtype)
    assert wrapped.sixteen_bits
    with pytest.raises(ValueError, match="denoise has weights of sixteen bits; the density needs"):
        likelihood.flow_nll(wrapped, torch.zeros(1, 1, 8, 8))


def test_a_wrapper_names_a_denoiser_without_a_schedule_or_with_another_answer():
    class Mine(Denoiser):
        def __call__(self, x, t):
            return x

    gaussian = Gaussian(0.0, 1.0, linear())
    for wrapped in (Clipped, Wrapper, lambda mine: Guided(gaussian, mine, 2)):
        with pytest.raises(TypeError, match=r"Mine\.schedule is NoneType; a denoiser must have a NoiseSchedule"):
            wrapped(Mine())
    Mine.schedule = linear()
    for wrapped in (Clipped(Mine()), Guided(Mine(), gaussian, 2), Guided(gaussian, Mine(), 2)):
        with pytest.raises(TypeError, match="^Mine answered Tensor; a denoiser must answer with a ddpm"):
            wrapped(torch.zeros(1, 2), 5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_walk_makes_ready_the_form_that_its_calls_ask_for(dtype, monkeypatch):
    """A network that was cast to another type computes in that, in a walk, too."""
    monkeypatch.setattr(fast, "has_fast_bfloat16", lambda device: True)
    denoise, asked = network("auto"), []
    denoise.network.to(dtype)

    def ask(network, in_bfloat16):
        asked.append(in_bfloat16)
        return network

    monkeypatch.setattr("ddpm.denoiser.network.prepared", lambda *which: contextlib.nullcontext(ask(*which)))
    monkeypatch.setattr("ddpm.denoiser.network.in_walk", ask)
    with denoise.many_calls():
        denoise(torch.zeros(1, 1, 8, 8), 500)
    assert set(asked) == {False}


def test_a_density_is_integrated_with_a_network_of_float64_whatever_its_precision(monkeypatch):
    monkeypatch.setattr(fast, "has_fast_bfloat16", lambda device: True)
    denoise = network("auto")
    denoise.network.double()
    nll = likelihood.flow_nll(denoise, torch.zeros(1, 1, 8, 8), t=999.0, tolerance=0.5)
    assert torch.isfinite(nll).all()


def test_a_model_is_guided_by_one_whose_schedule_was_read_back_from_its_betas():
    schedule = linear_zero_snr()
    again = from_betas(1 - schedule.alpha_bar[1:] / schedule.alpha_bar[:-1])
    assert again != schedule
    pushed = Guided(Gaussian(0.0, 0.5, schedule), Gaussian(0.0, 0.7, again), 2)
    assert torch.isfinite(pushed(torch.ones(1, 1), 500).x0).all()


def test_a_networks_denoiser_says_what_it_draws():
    shown = repr(NetworkDenoiser(torch.nn.Linear(1, 1), linear(21), "v", image_shape=(1, 4, 4), classes=("a", "b")))
    assert shown == "<NetworkDenoiser: Linear, images (1, 4, 4), target v, T = 21, classes a, b>"
