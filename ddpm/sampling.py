"""Draw samples in one call: a sampler by its name, a seed, chunks that fit in memory, a progress bar."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from difflib import SequenceMatcher
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm.denoiser import Denoiser
from ddpm.langevin import annealed_langevin, flow_and_langevin, predictor_corrector
from ddpm.noise import PerSample
from ddpm.samplers import Step, ancestral, ddim, dpm_solver_pp, final, heun
from ddpm.schedule import Spacing, positive_int

#: The samplers by the names that `sample` takes.
SAMPLERS: dict[str, Callable[..., Iterator[Step]]] = {
    "ancestral": ancestral,
    "ddim": ddim,
    "heun": heun,
    "dpm_solver_pp": dpm_solver_pp,
    "annealed_langevin": annealed_langevin,
    "predictor_corrector": predictor_corrector,
    "flow_and_langevin": flow_and_langevin,
}


@runtime_checkable
class LatentModel(Protocol):
    """An image in one call, from a code that is drawn from N(0, I): a variational autoencoder, a GAN.

    A plain autoencoder is one by its form, but its codes have no such density.
    """

    latent_dim: int
    device: torch.device

    def decode(self, z: Tensor) -> Tensor:
        """Codes (batch, latent_dim) -> images (batch, channels, height, width)."""
        ...


ALSO_CALLED = {"ddpm": "ancestral", "euler": "ddim", "dpm++": "dpm_solver_pp", "dpmpp_2m": "dpm_solver_pp"}


def sampler_named(name: str) -> Callable[..., Iterator[Step]]:
    """The sampler of this name; a wrong one raises `ValueError` with the nearest right one."""
    if not isinstance(name, str):
        raise TypeError(f"sampler is {name!r}; it must be a name: {', '.join(SAMPLERS)}")
    if name not in SAMPLERS:

        def likeness(known: str) -> float:
            return SequenceMatcher(None, name.lower(), known).ratio()

        near = max([*SAMPLERS, *ALSO_CALLED], key=likeness)  # of equally near ones a sampler's own name
        hint = f"; did you mean {ALSO_CALLED.get(near, near)}?" if likeness(near) > 0.3 else ""
        raise ValueError(f"sampler is {name!r}; legal are {', '.join(SAMPLERS)}{hint}")
    return SAMPLERS[name]


@torch.no_grad()
def sample(
    denoise: Denoiser | LatentModel,
    n: int,
    sampler: str = "ddim",
    steps: int = 50,
    seed: int = 0,
    *,
    spacing: Spacing = "trailing",
    shape: Sequence[int] | None = None,
    chunk: int | None = None,
    progress: bool = True,
    watch: Callable[[Step], None] | None = None,
    distributed: bool = False,
    **options: Any,
) -> Tensor:
    """Draw `n` samples in one call.

    Args:
        denoise: what to sample from; a `LatentModel` takes no sampler, grid, shape or `watch`.
        n: how many.
        sampler: a name of `SAMPLERS`.
        steps: moves of the sampler, 1 to T.
        seed: sample i of a seed is the same, bit for bit, whatever `n` is, on the same machine and chunk.
        spacing: of the grid, see `NoiseSchedule.timesteps`.
        shape: of one sample; where it is not given, the image shape the denoiser was trained on.
        chunk: samples denoised together (the last chunk is filled up); by default 16 on a CPU and 256 on a GPU, of a
            `LatentModel` 500.
        progress: show a bar with an estimate of the time left.
        watch: called with every state of every chunk that this process draws.
        distributed: share the chunks among the processes of accelerate's launcher, all of which must make this call and
            get all samples; each is the one that a single process would have drawn.
        options: the sampler's own, such as `eta` for ddim.

    Returns:
        `(n, *shape)`, float32, on the denoiser's device; images lie in about [-1, 1] and are not clipped.
    """
    if isinstance(denoise, LatentModel):
        given = {"sampler": sampler, "steps": steps, "spacing": spacing, "shape": shape, "watch": watch, **options}
        defaults = {"sampler": "ddim", "steps": 50, "spacing": "trailing"}
        for name, value in given.items():
            if value != defaults.get(name):
                raise ValueError(f"{name} is {value!r}; this model draws an image in one call and takes none")
        chunk = positive_int("chunk", 500 if chunk is None else chunk)
        firsts, joined, _ = _shares(positive_int("n", n), chunk, distributed)
        codes = (PerSample(seed, first)(torch.empty(chunk, denoise.latent_dim)) for first in firsts)
        return joined([denoise.decode(z.to(denoise.device)) for z in codes])
    walk = sampler_named(sampler)
    n, steps = positive_int("n", n), positive_int("steps", steps)
    chunk = positive_int("chunk", chunk) if chunk is not None else None
    shape = shape or getattr(denoise, "image_shape", None)
    if shape is None:
        raise ValueError("shape is not given, and this denoiser does not know the shape of one sample")
    timesteps = denoise.schedule.timesteps(steps, spacing)
    device = torch.device(getattr(denoise, "device", "cpu"))
    chunk = chunk or (16 if device.type == "cpu" else 256)
    samples = []
    firsts, joined, main = _shares(n, chunk, distributed)
    bar = tqdm(
        total=len(firsts) * steps, unit="step", desc=f"{sampler}-{steps}", disable=not progress or not main, delay=1
    )
    with bar, getattr(denoise, "many_calls", nullcontext)():
        for first in firsts:
            noise = PerSample(seed, first)
            x = noise(torch.empty(chunk, *shape, device=device))
            states = walk(denoise, x, timesteps, noise=noise, **options)
            samples.append(final(watched(states, timesteps[0], bar, watch)))
    return joined(samples)


def _shares(n: int, chunk: int, distributed: bool) -> tuple[Sequence[int], Callable[[list[Tensor]], Tensor], bool]:
    """Where this process's chunks begin, what makes n samples of everyone's chunks, and whether it speaks for all."""
    if not distributed:
        return range(0, n, chunk), lambda chunks: torch.cat(chunks)[:n], True
    from accelerate import PartialState
    from accelerate.utils import gather

    state = PartialState(cpu=not torch.accelerator.is_available())
    rank, processes = state.process_index, state.num_processes
    each = -(-n // (chunk * processes))  # as many for all: what lies beyond n is cut off

    def joined(chunks: list[Tensor]) -> Tensor:
        return gather(torch.stack(chunks)).unflatten(0, (processes, each)).transpose(0, 1).flatten(0, 2)[:n]

    return [(i * processes + rank) * chunk for i in range(each)], joined, state.is_main_process


def watched(states: Iterator[Step], t: float, bar: tqdm, watch: Callable[[Step], None] | None = None) -> Iterator[Step]:
    """The states of a walk that begins at time t, as they come; the bar moves on when the time does."""
    for state in states:
        bar.update(state.t != t)  # annealed Langevin stays at a time for several states
        t = state.t
        if watch is not None:
            watch(state)
        yield state
