"""Guards of the fast paths that time nothing: what is dispatched, converted, waited for and allocated."""

import copy
import itertools
import pickle
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import ddpm
from ddpm import data, fast
from ddpm.denoiser import NetworkDenoiser
from ddpm.diffusion import DiffusionConfig
from ddpm.likelihood import variational_bound
from ddpm.metrics.fidelity import psnr
from ddpm.noise import PerSampleNoise, StepRandomness
from ddpm.oracles import Gaussian
from ddpm.samplers import ancestral, ddim, dpm_solver_pp, final, heun
from ddpm.schedule import linear
from ddpm.unet import UNet
from ddpm.unet.blocks import Float32Conv2d, GroupNorm, SelfAttention
from tests.networks import SMALL_UNET, stirred

has_bfloat16 = fast.has_fast_bfloat16(torch.device("cpu"))
needs_bfloat16 = pytest.mark.skipif(not has_bfloat16, reason="this CPU multiplies bfloat16 no faster than float32")


class Watch(TorchDispatchMode):
    """Counts operations by name, conversions of watched weights, and the bytes of new tensors."""

    def __init__(self, weights=()):
        super().__init__()
        self.weights = {weight.data_ptr() for weight in weights}
        self.calls, self.converted, self.bytes = Counter(), 0, 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        name = operation.overloadpacket.__name__
        self.calls[name] += 1
        given = {x.data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        self.converted += name == "_to_copy" and bool(given & self.weights)
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor) and x.data_ptr() not in given:
                self.bytes += x.numel() * x.element_size()
        return out

    @property
    def waits(self):
        """Values the program read back, each of which a GPU would be waited for."""
        return self.calls["_local_scalar_dense"]


def count(network, *kinds):
    return sum(isinstance(module, kinds) for module in network.modules())


def plain_weights(network):
    layers = [module for module in network.modules() if type(module) in (nn.Conv2d, nn.Linear)]
    return [weight for layer in layers for weight in layer.parameters(recurse=False)]


X, T = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([3.0, 500.0])


def answer_in_bfloat16(network):
    with torch.autocast("cpu", torch.bfloat16):
        return network(X, T)


def test_a_walk_has_converted_weights_and_the_network_keeps_its_own():
    network = stirred(UNet(SMALL_UNET)).requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with Watch(plain_weights(network)) as watch:
        converting = answer_in_bfloat16(network)
    assert watch.converted == len(plain_weights(network))
    with fast.prepared(network, True):
        form = fast.in_walk(network, True)
        assert form.down[0].blocks[0].conv2.weight.dtype == torch.bfloat16
        assert {m.weight.dtype for m in (form.conv_in, form.down[0].blocks[0].conv1)} == {torch.float32}
        with Watch(plain_weights(network)) as watch:
            assert torch.equal(answer_in_bfloat16(fast.in_walk(network, True)), converting)
        assert watch.converted == 0
        with fast.prepared(network, True):  # a walk within a walk
            assert fast.in_walk(network, True) is form
        assert fast.in_walk(network, True) is form
        assert torch.equal(answer_in_bfloat16(network), converting)  # a call that knows of no walk
    assert fast.in_walk(network, True) is network
    with pytest.raises(RuntimeError, match="in a walk"), fast.prepared(network, True):
        raise RuntimeError("in a walk")
    assert fast.in_walk(network, True) is network
    for name, value in network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name]), name


def test_a_walk_copies_the_weights_that_it_converts_and_nothing_else():
    network = stirred(UNet(SMALL_UNET))
    network.register_buffer("table", torch.zeros(1000))
    with Watch() as watch, fast.prepared(network, True):
        form = fast.in_walk(network, True)
    assert watch.bytes == 2 * sum(weight.numel() for weight in plain_weights(network))
    converted = {id(weight) for weight in plain_weights(form)}
    ours = {id(weight) for weight in network.parameters()} - {id(weight) for weight in plain_weights(network)}
    assert {id(weight) for weight in form.parameters()} == ours | converted
    assert form.table is network.table


def test_walks_that_end_out_of_order_leave_the_network_as_it_was():
    """As two generators in one thread do, of which the first to begin is the first to end."""
    network = stirred(UNet(SMALL_UNET))
    first, second = fast.prepared(network, True), fast.prepared(network, True)
    first.__enter__()
    second.__enter__()
    form = fast.in_walk(network, True)
    first.__exit__(None, None, None)
    assert fast.in_walk(network, True) is form is not network
    second.__exit__(None, None, None)
    assert fast.in_walk(network, True) is network


@pytest.mark.parametrize("change", ["in place", "another tensor", "other data", "another state"])
def test_a_walk_sees_weights_that_are_changed_in_between(change):
    network = stirred(UNet(SMALL_UNET)).requires_grad_(False)
    with fast.prepared(network, True):
        before = answer_in_bfloat16(fast.in_walk(network, True))
        conv = network.down[0].blocks[0].conv2
        if change == "in place":
            conv.weight.mul_(2)
        elif change == "another tensor":
            conv.weight = nn.Parameter(2 * conv.weight, requires_grad=False)
        elif change == "other data":
            conv.weight.data = 2 * conv.weight
        else:
            network.load_state_dict({name: 2 * value for name, value in network.state_dict().items()})
        after = answer_in_bfloat16(fast.in_walk(network, True))
        assert not torch.equal(after, before)
        assert torch.equal(after, answer_in_bfloat16(network))


def test_a_walks_gradients_reach_the_networks_own_weights():
    network = stirred(UNet(SMALL_UNET))
    slopes = []
    for walk in (nullcontext(), fast.prepared(network, True)):
        network.zero_grad()
        with torch.no_grad(), walk, torch.enable_grad():
            for _ in range(2):
                answer_in_bfloat16(fast.in_walk(network, True)).float().square().mean().backward()
        slopes.append([weight.grad.clone() for weight in network.parameters()])
    for alone, in_walk in zip(*slopes, strict=True):
        assert torch.allclose(alone, in_walk, rtol=1e-2, atol=1e-2 * alone.abs().max().item())


def test_hooks_are_called_with_the_modules_they_were_registered_on():
    network, seen = stirred(UNet(SMALL_UNET)), []
    network.down[0].register_forward_hook(lambda module, given, answer: seen.append(module))
    with fast.prepared(network, True):
        answer_in_bfloat16(fast.in_walk(network, True))
    assert len(seen) == 1
    assert seen[0] is network.down[0]


def test_a_compiled_network_is_left_alone():
    network = stirred(UNet(SMALL_UNET)).requires_grad_(False)
    whole, part = torch.compile(network, backend="eager"), stirred(UNet(SMALL_UNET))
    part.middle_in.compile(backend="eager")
    for compiled in (whole, part):
        with fast.prepared(compiled, True):
            assert fast.in_walk(compiled, True) is compiled


def test_parts_that_are_shared_stay_shared():
    layer = nn.Linear(3, 3)
    network = nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(3, 3, bias=False))
    network[3].weight = layer.weight
    with fast.prepared(network, True):
        form = fast.in_walk(network, True)
        assert form[0] is form[2] is not layer
        assert form[3].weight is form[0].weight is not layer.weight
        assert form[3].bias is None


def test_a_network_in_another_type_is_not_converted():
    network = nn.Sequential(nn.Linear(3, 3)).double()
    with fast.prepared(network, True):
        assert fast.in_walk(network, True)[0].weight.dtype == torch.float64


def drawn_by_threads(*denoisers):
    """What each draws, all at once, each in a thread of its own; a barrier holds each step until all come to it."""
    barrier = threading.Barrier(len(denoisers), timeout=60)

    def draw(denoise):
        return ddpm.sample(denoise, 2, steps=6, progress=False, watch=lambda step: barrier.wait())

    with ThreadPoolExecutor(len(denoisers)) as pool:
        return list(pool.map(draw, denoisers))


@pytest.mark.parametrize("precisions", [("auto", "auto"), ("float32", "float32"), ("auto", "float32", "auto")])
def test_threads_draw_from_one_network_what_each_draws_alone(precisions, monkeypatch):
    """In bfloat16 also where that is slow: the conversion is what threads could take from each other."""
    monkeypatch.setattr(fast, "has_fast_bfloat16", lambda device: True)
    network = stirred(UNet(SMALL_UNET)).requires_grad_(False)
    denoisers = [NetworkDenoiser(network, linear(), "v", precision, (1, 8, 8)) for precision in precisions]
    alone = [ddpm.sample(denoise, 2, steps=6, progress=False) for denoise in denoisers]
    for _ in range(5):
        for image, expected in zip(drawn_by_threads(*denoisers), alone, strict=True):
            assert torch.equal(image, expected)
    assert fast.in_walk(network, True) is network


def test_threads_share_one_model_and_one_conversion(monkeypatch):
    monkeypatch.setattr(fast, "has_fast_bfloat16", lambda device: True)
    denoise = NetworkDenoiser(stirred(UNet(SMALL_UNET)).requires_grad_(False), linear(), "v", "auto", (1, 8, 8))
    alone, forms = ddpm.sample(denoise, 2, steps=6, progress=False), set()
    barrier = threading.Barrier(3, timeout=60)

    def draw(_):
        def watch(step):
            barrier.wait()
            forms.add(fast.in_walk(denoise.network, True))

        return ddpm.sample(denoise, 2, steps=6, progress=False, watch=watch)

    with ThreadPoolExecutor(3) as pool:
        assert all(torch.equal(images, alone) for images in pool.map(draw, range(3)))
    assert len(forms) == 1


def test_a_model_can_be_copied_and_pickled_in_a_walk(monkeypatch):
    monkeypatch.setattr(fast, "has_fast_bfloat16", lambda device: True)
    denoise = NetworkDenoiser(stirred(UNet(SMALL_UNET)).requires_grad_(False), linear(), "v", "auto", (1, 8, 8))
    with denoise.many_calls(), torch.no_grad():
        for other in (copy.deepcopy(denoise), pickle.loads(pickle.dumps(denoise))):
            assert torch.equal(other(X, 5).x0, denoise(X, 5).x0)


def test_a_bound_converts_the_weights_once_and_is_what_it_is_call_by_call(monkeypatch):
    monkeypatch.setattr(fast, "has_fast_bfloat16", lambda device: True)
    denoise = NetworkDenoiser(stirred(UNet(SMALL_UNET)).requires_grad_(False), linear(), "v", "auto", (1, 8, 8))
    weights = plain_weights(denoise.network)

    def bound():
        return variational_bound(denoise, X, linear().timesteps(5), randn_like=PerSampleNoise(0))

    with Watch(weights) as watch:
        together = bound()
    monkeypatch.setattr(NetworkDenoiser, "many_calls", lambda self: nullcontext())
    with Watch(weights) as one_by_one:
        alone = bound()
    assert watch.converted == len(weights)
    assert one_by_one.converted == 5 * len(weights)
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))


@needs_bfloat16
def test_sampling_converts_the_weights_once_and_not_in_every_call():
    denoise = NetworkDenoiser(stirred(UNet(SMALL_UNET)), linear(), precision="auto", image_shape=(1, 8, 8))
    weights = plain_weights(denoise.network)
    with Watch(weights) as watch:
        ddpm.sample(denoise, 2, steps=7, chunk=2, progress=False)
    assert watch.converted == len(weights)


class Played:
    """In place of a recording, which needs a GPU: it answers what the network does, and counts."""

    made, played = 0, 0

    def __init__(self, network, *inputs):
        network(*inputs)
        self.network = network
        type(self).made += 1

    def __call__(self, *inputs):
        type(self).played += 1
        return self.network(*inputs)


class Seen(nn.Module):
    """Counts its calls."""

    def __init__(self):
        super().__init__()
        self.weight, self.calls = nn.Parameter(torch.ones(1)), 0

    def forward(self, x, t):
        self.calls += 1
        return x * self.weight + t[:, None]


@pytest.fixture
def played(monkeypatch):
    monkeypatch.setattr(fast, "Recording", Played)
    Played.made = Played.played = 0


def test_a_shape_is_recorded_after_its_first_calls(played):
    network = Seen()
    recorded = fast.Recorded(network)
    with torch.no_grad():
        for calls, n in itertools.product(range(1, 6), (2, 3)):
            x, t = torch.randn(n, 4), torch.arange(n)
            assert torch.equal(recorded(x, t), x + t[:, None])
            assert Played.made == (0 if calls <= fast.Recorded.FIRST_CALLS else n - 1 if calls == 3 else 2)
    assert Played.played == 2 * 3


def test_a_call_with_labels_is_recorded_apart_and_every_replay_gets_its_own(played):
    class Told(Seen):
        def forward(self, x, t, labels=None):
            return super().forward(x, t) + (0 if labels is None else labels[:, None])

    recorded, x, t = fast.Recorded(Told()), torch.randn(2, 4), torch.zeros(2)
    with torch.no_grad():
        for call in range(1, 6):
            labels = torch.tensor([call, -call])
            assert torch.equal(recorded(x, t), x)
            assert torch.equal(recorded(x, t, labels), x + labels[:, None])
    assert Played.made == 2


def test_gradients_are_the_networks_own(played):
    network = Seen()
    recorded = fast.Recorded(network)
    for _ in range(5):
        recorded(torch.ones(2, 4), torch.zeros(2)).sum().backward()
    assert network.weight.grad.item() == 5 * 8
    assert Played.made == 0


def test_a_network_that_cannot_be_recorded_is_called_as_it_is(monkeypatch):
    class Refused(Played):
        made = 0

        def __init__(self, network, *inputs):
            type(self).made += 1
            raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(fast, "Recording", Refused)
    network = Seen()
    recorded, x = fast.Recorded(network), torch.randn(2, 4)
    with torch.no_grad():
        for _ in range(6):
            assert torch.equal(recorded(x, torch.zeros(2)), x)
    assert (Refused.made, network.calls) == (1, 6)


def test_no_other_test_sees_a_gpu():
    assert not torch.cuda.is_available()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_recorded_on_a_gpu_a_walk_draws_the_same_images(precision):
    network = stirred(UNet(SMALL_UNET)).requires_grad_(False).cuda()
    denoise, times = NetworkDenoiser(network, linear(), "v", precision, (1, 8, 8)), range(20, 0, -1)
    xs = torch.randn(len(times), 3, 1, 8, 8, device="cuda")
    with torch.no_grad():
        alone = [denoise(x, t).x0 for x, t in zip(xs, times, strict=True)]
        with denoise.many_calls():
            in_walk = [denoise(x, t).x0 for x, t in zip(xs, times, strict=True)]
            form = fast.in_walk(network, precision == "auto")
            assert [type(made) for made in form._recordings.values()] == [fast.Recording]
            with torch.inference_mode():
                assert all(torch.equal(denoise(x, t).x0, a) for x, t, a in zip(xs, times, alone, strict=True))
            network.conv_out.weight.mul_(2)
            network.norm_out.weight = nn.Parameter(3 * network.norm_out.weight, requires_grad=False)
            changed = [denoise(xs[0], 20).x0 for _ in range(4)]
        assert all(torch.equal(a, b) for a, b in zip(alone, in_walk, strict=True))
        assert all(torch.equal(x0, denoise(xs[0], 20).x0) for x0 in changed)
        assert not torch.equal(changed[0], alone[0])


@pytest.mark.gpu
def test_on_a_gpu_a_network_that_looks_at_a_value_is_not_recorded():
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x, t):
            return x * self.weight if t.max().item() >= 0 else x

    recorded, x = fast.Recorded(Looks().cuda()), torch.randn(2, 4, device="cuda")
    with torch.no_grad():
        assert all(torch.equal(recorded(x, torch.zeros(2, device="cuda")), x) for _ in range(6))
    assert list(recorded._recordings.values()) == [None]
    assert torch.randn(1000, device="cuda").std() > 0.5  # the generator has not stayed in the recording


@pytest.mark.gpu
def test_threads_share_a_recording_on_a_gpu():
    denoise = NetworkDenoiser(
        stirred(UNet(SMALL_UNET)).requires_grad_(False).cuda(), linear(), "v", "float32", (1, 8, 8)
    )  # fmt: skip
    alone = ddpm.sample(denoise, 2, steps=6, progress=False)
    for images in drawn_by_threads(denoise, denoise, denoise):
        assert torch.equal(images, alone)


def test_bfloat16_is_taken_where_the_device_multiplies_it(monkeypatch):
    for cuda, amx, avx in itertools.product((True, False), repeat=3):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, cuda=cuda: cuda)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx=avx: avx)
        fast_on = {name: fast.has_fast_bfloat16(torch.device(name)) for name in ("cuda", "cpu", "meta")}
        assert fast_on == {"cuda": cuda, "cpu": amx or avx, "meta": False}
        assert fast.computes_in_bfloat16("auto", torch.device("cpu")) == (amx or avx)
        assert not fast.computes_in_bfloat16("float32", torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not fast.has_fast_bfloat16(torch.device("cuda"))  # emulated bfloat16 is slow


def test_a_forward_pass_dispatches_each_layer_once():
    """A bound on small operations, too: at batch 1 they are what a call costs."""
    network = DiffusionConfig(SMALL_UNET).network().requires_grad_(False)
    with Watch() as watch:
        network(torch.randn(1, 1, 8, 8), torch.tensor([3.0]))
    convolutions, linears = count(network, nn.Conv2d), count(network, nn.Linear)
    assert watch.calls["convolution"] == convolutions
    assert watch.calls["addmm"] == linears
    assert watch.calls["native_group_norm"] == count(network, GroupNorm)
    assert watch.calls["_scaled_dot_product_flash_attention_for_cpu"] == count(network, SelfAttention)
    blocks = len([m for m in network.modules() if type(m).__name__ == "ResidualBlock"])
    assert watch.calls["silu"] == 2 * blocks + 3  # two a block, two of the time embedding, one before the last layer
    assert watch.calls["_to_copy"] == watch.waits == 0
    assert sum(watch.calls.values()) < 5 * (convolutions + linears)


def test_training_takes_the_plain_attention_and_waits_for_nothing():
    task = DiffusionConfig(SMALL_UNET).task()
    network = task.parts["unet"]
    images = torch.randn(2, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16), Watch() as watch:
        loss = task.loss("unet", images, StepRandomness(0, 0, 2))
    assert watch.calls["_softmax"] == count(network, SelfAttention)
    assert not any("scaled_dot_product" in name for name in watch.calls)
    converted = 2 * (count(network, nn.Conv2d, nn.Linear) - count(network, Float32Conv2d))  # weights and biases
    assert watch.calls["_to_copy"] <= converted + 3 * count(network, GroupNorm)
    assert watch.waits == 2  # the range of the times, which are drawn on the CPU; nothing of the images or the network
    with Watch() as watch:
        loss.backward()
    assert watch.waits == 0
    assert watch.calls["native_group_norm_backward"] == count(network, GroupNorm)


@pytest.mark.parametrize("sampler", [ddim, ancestral, heun, dpm_solver_pp])
def test_the_loop_around_the_network_is_a_handful_of_operations(sampler):
    """An exact Gaussian in place of the network: what is left is the sampler's own work."""
    schedule = linear()
    denoise, x = Gaussian(0.0, 0.5, schedule), torch.randn(64, 1, 32, 32)
    calls = 20 if sampler is not heun else 39
    with Watch() as oracle:
        denoise(x, 500)
    with Watch() as watch:
        final(sampler(denoise, x, schedule.timesteps(20)))
    own = sum(watch.calls.values()) - calls * sum(oracle.calls.values())
    assert own <= 19 * calls
    image = x.numel() * x.element_size()
    assert watch.bytes - calls * oracle.bytes <= 11 * calls * image
    assert watch.waits - calls * oracle.waits == calls + 1  # on a CPU each answer is looked at for NaN, and the last x


@needs_bfloat16
@pytest.mark.long
def test_bfloat16_draws_the_same_images():
    rough, exact = ddpm.load("fashion-mnist"), ddpm.load("fashion-mnist", "float32")
    pictures = [ddpm.sample(denoise, 16, steps=20, progress=False) for denoise in (rough, exact)]
    assert psnr(*pictures).median() >= 40
    x0 = data.normalise(data.load("fashion-mnist-embedded", "test", quiet=True).images[:16])
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    for t, bound in ((1, 0.05), (50, 0.01), (500, 0.01), (1000, 0.01)):
        x = exact.schedule.add_noise(x0, t, eps).to(exact.device)
        with torch.no_grad():
            a, b = rough(x, t).eps, exact(x, t).eps
        error = ((a - b).norm() / b.norm()).item()
        print(f"t = {t}: eps in bfloat16 is off by {error:.3%}")
        assert 0 < error <= bound


@pytest.mark.long
def test_kept_memory_is_used_again_without_asking_the_system():
    """Page faults of a large tensor made over and over, in a process of its own: the setting cannot be taken back."""
    program = (
        "import resource, sys, torch\n"
        "from ddpm.fast import keep_freed_memory\n"
        "kept = keep_freed_memory() if sys.argv[1] == 'keep' else True\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for i in range(20):\n"
        "    if i == 10: before = faults()\n"  # the first few grow the heap: how many, random addresses decide
        "    x = torch.ones(2**24); del x\n"  # 64 MiB
        "print(kept, faults() - before)\n"
    )
    done = {
        word: subprocess.run([sys.executable, "-c", program, word], capture_output=True, text=True, check=True)
        for word in ("keep", "leave")
    }
    kept, faults = done["keep"].stdout.split()
    if kept == "False":
        pytest.skip("no glibc")
    assert int(faults) < 0.01 * int(done["leave"].stdout.split()[1])
