"""Guards of the fast paths that time nothing: what is dispatched, converted, waited for and allocated."""

import subprocess
import sys
from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import ddpm
from ddpm import data, fast
from ddpm.denoiser import NetworkDenoiser
from ddpm.diffusion import DiffusionConfig
from ddpm.metrics.fidelity import psnr
from ddpm.noise import StepRandomness
from ddpm.oracles import Gaussian
from ddpm.samplers import ancestral, ddim, dpm_solver_pp, final, heun
from ddpm.schedule import linear
from ddpm.unet import UNet, UNetConfig
from ddpm.unet.network import Float32Conv2d, GroupNorm, SelfAttention

CONFIG = UNetConfig(base_channels=8, head_channels=8, blocks_per_level=1)
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


def stir(network):
    """Random weights where the network begins with zeros."""
    torch.manual_seed(0)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.1)
    return network


def test_prepared_weights_are_converted_once_and_come_back_to_the_bit():
    network = stir(UNet(CONFIG)).requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([3.0, 500.0])
    weights = [w for m in network.modules() if type(m) in (nn.Conv2d, nn.Linear) for w in m.parameters(recurse=False)]

    def answer():
        with torch.autocast("cpu", torch.bfloat16), Watch(weights) as watch:
            return network(x, t), watch.converted

    converting, n = answer()
    assert n == len(weights)
    with fast.prepared(network):
        assert network.down[0].blocks[0].conv2.weight.dtype == torch.bfloat16
        assert {m.weight.dtype for m in (network.conv_in, network.down[0].blocks[0].conv1)} == {torch.float32}
        prepared, n = answer()
        with fast.prepared(network):  # a walk within a walk
            pass
        assert network.down[0].blocks[0].conv2.weight.dtype == torch.bfloat16
    assert n == 0
    assert torch.equal(prepared, converting)
    assert network.down[0].blocks[0].conv2.weight.dtype == torch.float32
    with pytest.raises(RuntimeError), fast.prepared(network):
        raise RuntimeError
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


@needs_bfloat16
def test_sampling_converts_the_weights_once_and_not_in_every_call():
    denoise = NetworkDenoiser(stir(UNet(CONFIG)), linear(), precision="auto", image_shape=(1, 8, 8))
    layers = [m for m in denoise.network.modules() if type(m) in (nn.Conv2d, nn.Linear)]
    weights = [weight for layer in layers for weight in layer.parameters(recurse=False)]
    with Watch(weights) as watch:
        ddpm.sample(denoise, 2, steps=7, chunk=2, progress=False)
    assert watch.converted == len(weights)


def test_a_forward_pass_dispatches_each_layer_once():
    """A bound on small operations, too: at batch 1 they are what a call costs."""
    network = DiffusionConfig(CONFIG).network().requires_grad_(False)
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
    task = DiffusionConfig(CONFIG).task()
    network = task.parts["unet"]
    images = torch.randn(2, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16), Watch() as watch:
        loss = task.loss("unet", images, StepRandomness(0, 0, 2))
    assert watch.calls["_softmax"] == count(network, SelfAttention)
    assert not any("scaled_dot_product" in name for name in watch.calls)
    converted = 2 * (count(network, nn.Conv2d, nn.Linear) - count(network, Float32Conv2d))  # weights and biases
    assert watch.calls["_to_copy"] <= converted + 3 * count(network, GroupNorm)
    assert watch.waits == 4  # the range of the times, which are drawn on the CPU; nothing of the images or the network
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
def test_bfloat16_draws_the_same_images():
    rough, exact = ddpm.load("fashion-mnist"), ddpm.load("fashion-mnist", "float32")
    pictures = [ddpm.sample(denoise, 16, steps=20, progress=False) for denoise in (rough, exact)]
    assert psnr(*pictures).median() >= 40
    x0 = data.normalise(data.load("fashion-mnist-embedded", "test", quiet=True).images[:16])
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    for t, bound in ((1, 0.05), (50, 0.01), (500, 0.01), (1000, 0.01)):
        x = exact.schedule.add_noise(x0, t, eps)
        with torch.no_grad():
            a, b = rough(x, t).eps, exact(x, t).eps
        error = ((a - b).norm() / b.norm()).item()
        print(f"t = {t}: eps in bfloat16 is off by {error:.3%}")
        assert 0 < error <= bound


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
