import pytest
import torch

from ddpm.denoiser import Clipped, Denoiser, Guided
from ddpm.network_calls import network_calls
from ddpm.oracles import Gaussian
from ddpm.samplers import ancestral, final
from ddpm.schedule import linear
from ddpm.walks import SAMPLERS

SCHEDULE = linear()


class Network(Denoiser):
    """A Gaussian that counts its calls, and is no wrapper, as no network is."""

    schedule = SCHEDULE

    def __init__(self):
        self.calls = 0

    def __call__(self, x, t):
        self.calls += 1
        return Gaussian(0.0, 0.5, SCHEDULE)(x, t)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("interval", [None, (0.5, 3)])
def test_the_network_calls_of_a_walk_are_those_that_it_makes(sampler, interval):
    networks = [Network() for _ in range(3)]
    one, two, three = networks
    state, grid = torch.zeros(2, 3), SCHEDULE.timesteps(10)
    for denoise in (one, Clipped(one), Guided(Guided(one, Clipped(two), 2, interval), three, 1.5)):
        before = sum(network.calls for network in networks)
        calls = network_calls(denoise, sampler, grid)
        assert sum(network.calls for network in networks) == before  # no network was asked
        final(SAMPLERS[sampler](denoise, state, grid))
        assert sum(network.calls for network in networks) - before == calls
    assert three.calls > two.calls if interval else three.calls == two.calls


def test_network_calls_by_hand():
    denoise, grid = Network(), SCHEDULE.timesteps(20)
    guided = Guided(denoise, denoise, 2)
    assert [network_calls(denoise, sampler, grid) for sampler in ("ddim", "heun")] == [20, 39]
    assert [network_calls(guided, sampler, grid) for sampler in ("ddim", ancestral, "heun")] == [40, 40, 78]
    assert network_calls(denoise, "ddim", grid, eta=0.5) == 20
